//! A Docker engine of a test's own, and images made of programs of this machine: no registry is needed.

use crate::parts::Running;
use crate::wait::until_sync;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Longest wait for the engine to come up or to end.
const ENGINE_MAX: Duration = Duration::from_secs(40);

#[derive(Debug)]
pub struct Engine {
    running: Option<Running>,
    folder: PathBuf,
    live_restore: bool,
}

impl Engine {
    /// An engine in this folder; `None`, with a line that can't be overlooked, where none can run.
    pub fn start(folder: &Path, live_restore: bool) -> Option<Engine> {
        if !rustix::process::geteuid().is_root() || program("dockerd").is_none() || program("docker").is_none() {
            eprintln!(
                "\n*** NOT TESTED: no Docker engine can be started here. It takes root, and `make setup` installs it. ***\n"
            );
            return None;
        }
        let mut engine = Engine { running: None, folder: folder.join("engine"), live_restore };
        fs::create_dir_all(&engine.folder).expect("the test's folder is writable");
        engine.restart();
        Some(engine)
    }

    /// Address of it.
    pub fn host(&self) -> String {
        format!("unix://{}/socket", self.folder.display())
    }

    /// Starts it, again on the same folder.
    pub fn restart(&mut self) {
        self.spawn();
        let host = self.host();
        let running = self.running.as_mut().expect("started");
        until_sync(ENGINE_MAX, "the Docker engine answers", || {
            running.assert_alive();
            let mut ask = Command::new("docker");
            ask.args(["-H", &host, "version"]).stdout(Stdio::null()).stderr(Stdio::null());
            ask.status().expect("docker runs").success().then_some(())
        });
    }

    /// The same without a wait for its first answer.
    pub fn spawn(&mut self) {
        let mut command = Command::new(program("dockerd").expect("looked for at the start"));
        for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(option).arg(self.folder.join(name));
        }
        // No network of its own: it must not touch that of the machine. Containers use the machine's.
        command.args(["-H", &self.host(), "--bridge=none", "--iptables=false", "--ip6tables=false"]);
        if self.live_restore {
            command.arg("--live-restore");
        }
        self.running = Some(Running::start("dockerd", &mut command, &self.folder.join("log")));
    }

    /// Ends it as a service manager does: unless `live_restore`, its containers end with it.
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.signal(Signal::TERM);
            running.wait(ENGINE_MAX);
        }
    }

    /// What the client says; it must succeed.
    pub fn docker(&self, words: &[&str]) -> String {
        let output = Command::new("docker").args(["-H", &self.host()]).args(words).output().expect("docker runs");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(output.status.success(), "docker {words:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// Ids of all containers of farms, or of those that run.
    pub fn containers(&self, all: bool) -> Vec<String> {
        let mut words = vec!["ps", "-q", "--no-trunc", "--filter", "label=framewake.worker"];
        if all {
            words.push("-a");
        }
        self.docker(&words).lines().map(str::to_owned).collect()
    }

    /// An image that holds these programs, each with the libraries that it needs, at `/usr/bin`. `settings` are
    /// lines of a Dockerfile, as `ENTRYPOINT ["/usr/bin/x"]`.
    pub fn make_image(&self, name: &str, programs: &[PathBuf], settings: &[&str]) {
        let root = self.folder.join("root");
        let _ = fs::remove_dir_all(&root);
        for folder in ["usr/bin", "tmp", "scratch", "etc"] {
            fs::create_dir_all(root.join(folder)).expect("the test's folder is writable");
        }
        for source in programs {
            let file = root.join("usr/bin").join(source.file_name().expect("a program has a name"));
            fs::copy(source, &file).expect("it can be copied");
            // Symbols of a debug build take seconds to import.
            let _ = Command::new("strip").arg("--strip-debug").arg(&file).status();
            for library in libraries(source) {
                let to = root.join(library.strip_prefix("/").expect("a whole path"));
                fs::create_dir_all(to.parent().expect("it has one")).expect("the test's folder is writable");
                fs::copy(&library, to).expect("it can be copied");
            }
        }
        // The worker wants to know whom to trust.
        let trusted = Path::new("/etc/ssl/certs/ca-certificates.crt");
        if trusted.is_file() {
            fs::create_dir_all(root.join("etc/ssl/certs")).expect("the test's folder is writable");
            fs::copy(trusted, root.join("etc/ssl/certs/ca-certificates.crt")).expect("it can be copied");
        }
        let mut tar =
            Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).stdout(Stdio::piped()).spawn().expect("tar");
        let mut import = Command::new("docker");
        import.args(["-H", &self.host(), "import"]);
        for setting in settings {
            import.args(["-c", setting]);
        }
        let status = import.args(["-", name]).stdin(tar.stdout.take().expect("piped")).stdout(Stdio::null()).status();
        assert!(status.expect("docker runs").success() && tar.wait().expect("tar").success(), "image {name} is made");
        let _ = fs::remove_dir_all(&root);
    }

    /// An image of this name that says to be made for another architecture.
    pub fn make_foreign_image(&self, name: &str) {
        let folder = self.folder.join("foreign");
        fs::create_dir_all(&folder).expect("the test's folder is writable");
        let sh = |script: &str| {
            let status = Command::new("sh").args(["-ec", script]).current_dir(&folder).status().expect("sh runs");
            assert!(status.success(), "{script}");
        };
        // As `docker save` writes it: one empty layer.
        sh("mkdir -p empty && tar -C empty -cf layer.tar .");
        sh(&format!(
            r#"digest=$(sha256sum layer.tar | cut -d' ' -f1)
            echo '{{"architecture":"arm64","os":"linux","config":{{"Entrypoint":["/usr/bin/framewake-worker"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:'$digest'"]}}}}' >config.json
            echo '[{{"Config":"config.json","RepoTags":["{name}:latest"],"Layers":["layer.tar"]}}]' >manifest.json
            tar -cf image.tar manifest.json config.json layer.tar"#
        ));
        self.docker(&["load", "-q", "-i", folder.join("image.tar").to_str().expect("plain")]);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.running.is_none() {
            return;
        }
        // Containers would outlive an engine with `live_restore`, and keep its folders mounted.
        let _ = Command::new("sh")
            .args(["-c", "docker -H \"$0\" ps -aq | xargs -r docker -H \"$0\" rm -f", &self.host()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Some(mut running) = self.running.take() {
            running.signal(Signal::TERM);
            if !running.ends_within(ENGINE_MAX) {
                running.kill();
            }
        }
        self.unmount_rest();
    }
}

impl Engine {
    /// An engine leaves the network namespace of containers that used the machine's network (`netns/default`) mounted by
    /// design, and one that had to be killed leaves everything: folders that can't be removed.
    fn unmount_rest(&self) {
        // The last first: mounts lie in mounts.
        for point in mounted_below(&self.folder).iter().rev() {
            let _ = unmount(point, UnmountFlags::DETACH);
        }
        let left = mounted_below(&self.folder);
        assert!(std::thread::panicking() || left.is_empty(), "still mounted: {left:?}");
    }
}

/// What is mounted in a folder, in the order in which it was.
pub fn mounted_below(folder: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("Linux has it");
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    points.filter(|point| point.starts_with(folder)).collect()
}

/// A program, also where only root looks.
fn program(name: &str) -> Option<PathBuf> {
    let path = crate::parts::path();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The libraries that a program is linked against, the loader among them.
fn libraries(program: &Path) -> BTreeSet<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = said.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(|word| PathBuf::from(word.trim_end_matches(':'))).filter(|file| file.is_file()).collect()
}
