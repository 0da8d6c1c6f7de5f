//! nats-server, the S3 server, and where the tests find programs.

use crate::wait::until_sync;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}

/// A program of this workspace, built by `make test` beside the tests.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.ancestors().find(|folder| folder.join(name).is_file());
    folder.map_or_else(|| panic!("{name} is not built: run `make build` first"), |folder| folder.join(name))
}

/// A program from `.venv`, or from PATH.
pub fn tool(name: &str) -> PathBuf {
    let venv = root().join(".venv/bin").join(name);
    if venv.exists() {
        return venv;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: run `make setup`"))
}

/// PATH with `.venv` in front, for the renderers that workers start.
pub fn path() -> std::ffi::OsString {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(root().join(".venv/bin")).chain(std::env::split_paths(&rest));
    std::env::join_paths(folders).expect("PATH has no odd names")
}

/// Else a server has room for as many farms as fit into three quarters of what is free on the disk, which is another number on
/// each machine.
const ROOM: &str = "jetstream { max_file_store: 64GiB }\n";

/// Ports for tests: below the range from which the system takes ports for connections, so that no
/// connection takes one away; each has a companion 10000 above, which SeaweedFS uses for gRPC.
const PORTS: std::ops::Range<u16> = 11_000..22_000;
const COMPANION: u16 = 10_000;

/// A port that no other test has, in this process or another, until this process ends.
pub fn free_port() -> u16 {
    static MINE: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("framewake-test-ports");
    std::fs::create_dir_all(&folder).expect("the folder for temporary files is writable");
    // Processes begin at places of their own, so that they seldom meet.
    let count = u32::from(PORTS.end - PORTS.start);
    let begin = std::process::id().wrapping_mul(97) % count;
    for offset in 0..count {
        let port = PORTS.start + u16::try_from((begin + offset) % count).expect("below the count of ports");
        let Ok(file) = File::create(folder.join(port.to_string())) else { continue };
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if file.try_lock().is_ok() && free(port) && free(port + COMPANION) {
            MINE.lock().expect("nobody panics with it").push(file);
            return port;
        }
    }
    panic!("no port is free between {} and {}", PORTS.start, PORTS.end);
}

/// A child process that ends with its owner.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Running {
    /// Starts `command`; what it says goes to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Running {
        let file =
            std::fs::OpenOptions::new().create(true).append(true).open(log).expect("the test's folder is writable");
        let errors = file.try_clone().expect("a file can be shared");
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Running { child, name: name.to_owned(), log: log.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits for its end; its exit code.
    pub fn wait(&mut self, limit: Duration) -> i32 {
        let name = self.name.clone();
        let status = until_sync(limit, &format!("{name} ends"), || self.child.try_wait().expect("our child"));
        status.code().unwrap_or(-1)
    }

    /// The same, where a test must not fail by it.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let begin = std::time::Instant::now();
        while !self.ended() {
            if begin.elapsed() > limit {
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        true
    }

    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn assert_alive(&mut self) {
        if let Some(status) = self.child.try_wait().expect("our child") {
            panic!("{} ended early, {status}:\n{}", self.name, self.log());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A nats-server with `JetStream`.
#[derive(Debug)]
pub struct Nats {
    running: Option<Running>,
    folder: PathBuf,
    pub port: u16,
    /// By which it is reached: the name in its certificate.
    pub host: String,
    /// What its configuration says beside where it listens and keeps its streams.
    config: String,
}

impl Nats {
    pub fn start(folder: &Path) -> Nats {
        let mut nats = Nats {
            running: None,
            folder: folder.join("nats"),
            port: free_port(),
            host: "127.0.0.1".to_owned(),
            config: String::new(),
        };
        nats.restart();
        nats
    }

    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.host, self.port)
    }

    /// From now on it lets in only whom a scheduler with this seed signs for.
    pub fn guard(&mut self) -> PathBuf {
        let (seed, trusted) = (self.folder.with_extension("seed"), self.folder.with_extension("trusted"));
        let mut command = Command::new(built("framewake-scheduler"));
        let output = command.arg("nats-keys").arg("--seed").arg(&seed).arg("--config").arg(&trusted).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.configure(&format!("include ./{}\n", trusted.file_name().expect("named above").display()));
        seed
    }

    /// Has this in its configuration, and is started again.
    pub fn configure(&mut self, text: &str) {
        self.config.push_str(text);
        self.restart();
    }

    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Deletes everything that `JetStream` holds. The server must be down.
    pub fn wipe(&self) {
        assert!(self.running.is_none(), "a running server would not notice");
        std::fs::remove_dir_all(&self.folder).expect("its folder is there");
    }

    /// Starts it, again on the same folder and port.
    pub fn restart(&mut self) {
        self.spawn();
        self.answers();
    }

    /// The same without a wait for its first answer.
    pub fn spawn(&mut self) {
        self.running = None;
        std::fs::create_dir_all(&self.folder).expect("the test's folder is writable");
        let mut command = Command::new(tool("nats-server"));
        command.args(["-js", "-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"]).arg(&self.folder);
        let file = self.folder.with_extension("conf");
        std::fs::write(&file, format!("{ROOM}{}", self.config)).expect("the test's folder is writable");
        command.arg("-c").arg(file);
        let log = self.folder.with_extension("log");
        self.running = Some(Running::start("nats-server", &mut command, &log));
    }

    /// Waits until it answers.
    pub fn answers(&mut self) {
        let port = self.port;
        let running = self.running.as_mut().expect("started");
        until_sync(Duration::from_secs(20), "nats-server answers", || {
            running.assert_alive();
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            let mut hello = [0; 5];
            stream.read_exact(&mut hello).ok()?;
            (&hello == b"INFO ").then_some(())
        });
    }

    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }
}

/// A `SeaweedFS` S3 server, without buckets.
#[derive(Debug)]
pub struct S3 {
    running: Option<Running>,
    folder: PathBuf,
    pub port: u16,
    /// Of its other parts.
    ports: [u16; 4],
}

pub const S3_KEY: &str = "framewake-test";
pub const S3_SECRET: &str = "framewake-test-secret";

impl S3 {
    pub fn start(folder: &Path) -> S3 {
        let ports = std::array::from_fn(|_| free_port());
        let mut s3 = S3 { running: None, folder: folder.join("s3"), port: free_port(), ports };
        s3.restart();
        s3
    }

    /// Starts it, again on the same folder and ports.
    pub fn restart(&mut self) {
        self.spawn();
        self.answers();
    }

    /// The same without a wait for its first answer.
    pub fn spawn(&mut self) {
        self.running = None;
        std::fs::create_dir_all(&self.folder).expect("the test's folder is writable");
        let mut command = Command::new(tool("weed"));
        command.arg("mini").arg(format!("-dir={}", self.folder.display()));
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]);
        // Its other doors have fixed numbers, on which two servers would meet.
        command.args(["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.arg(format!("-s3.port={}", self.port));
        for (part, port) in ["master", "volume", "filer", "admin"].iter().zip(self.ports) {
            command.arg(format!("-{part}.port={port}"));
        }
        command.env("AWS_ACCESS_KEY_ID", S3_KEY).env("AWS_SECRET_ACCESS_KEY", S3_SECRET);
        self.running = Some(Running::start("weed", &mut command, &self.folder.with_extension("log")));
    }

    /// Waits until it answers.
    pub fn answers(&mut self) {
        let running = self.running.as_mut().expect("started");
        let port = self.port;
        until_sync(Duration::from_mins(1), "the S3 server answers", || {
            running.assert_alive();
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            stream.write_all(b"GET /any HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            // Without a signature it must refuse, and that is an answer.
            answer.contains("403").then_some(())
        });
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What scheduler and workers need to reach it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", S3_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", S3_SECRET.to_owned()),
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    pub fn kill(&mut self) {
        self.running = None;
    }

    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }
}

/// All files below.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found
}
