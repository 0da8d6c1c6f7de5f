//! `framewake functions build` and `push`: a function's image, by the Docker or Podman of this machine. What is built is
//! written into the function's file, under a name that no later build takes.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::job_file;
use anyhow::{Context as _, bail};
use framewake_proto::function::FunctionSpec;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tried in this order.
const ENGINES: [&str; 2] = ["docker", "podman"];
/// Digits of an image's id that become its tag: enough that two images never meet.
const TAG_DIGITS: usize = 16;

#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    /// Folder with `Dockerfile` and `function.yaml`
    #[arg(default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    /// Name of the image, without a tag [default: that in the function's file, else the function's name]
    #[arg(long)]
    image: Option<String>,
    /// A variable of the Dockerfile, as NAME=VALUE
    #[arg(long)]
    build_arg: Vec<String>,
    /// For machines of another kind, as linux/arm64
    #[arg(long)]
    platform: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// Folder with `function.yaml`, whose image was built
    #[arg(default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    /// Name of the image with its registry, without a tag: registry.example/team/NAME [default: that in the function's file]
    #[arg(long)]
    to: Option<String>,
}

#[derive(Debug, clap::Args)]
struct EngineArgs {
    /// The program that builds and pushes [default: `docker`, else `podman`]
    #[arg(long, env = "FRAMEWAKE_ENGINE")]
    engine: Option<PathBuf>,
}

pub(crate) fn build(context: &Context, args: &BuildArgs) -> anyhow::Result<Outcome> {
    let mut file = FunctionFile::read(&args.folder)?;
    let dockerfile = args.folder.join("Dockerfile");
    if !dockerfile.is_file() {
        let hint = "`framewake functions new NAME` writes one to begin with";
        return Err(BadInput::new(format!("there is no `{}`", dockerfile.display())).hint(hint).into());
    }
    let engine = Engine::find(&args.engine)?;
    let known = file.spec.image.as_deref().map(repository);
    let name = args.image.as_deref().map(repository).or(known).unwrap_or(file.spec.name.as_str()).to_owned();
    let latest = format!("{name}:latest");
    let mut words: Vec<OsString> =
        vec!["build".into(), "--tag".into(), (&latest).into(), "--file".into(), dockerfile.into()];
    words.extend(args.build_arg.iter().flat_map(|variable| ["--build-arg".into(), variable.into()]));
    words.extend(args.platform.iter().flat_map(|platform| ["--platform".into(), platform.into()]));
    words.push((&args.folder).into());
    engine.show(words).map_err(|error| engine.no_builder().map_or(error, Into::into))?;
    let id = engine.ask(["image", "inspect", "--format", "{{.Id}}", &latest])?;
    let digits = id.trim().trim_start_matches("sha256:");
    if digits.len() < TAG_DIGITS || !digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
        bail!("`{}` names the image it built `{}`, which is no id", engine.shown(), id.trim());
    }
    let image = format!("{name}:{}", &digits[..TAG_DIGITS]);
    engine.ask(["tag", &latest, &image])?;
    file.set_image(&image)?;
    tell(context, &file, &image)
}

pub(crate) fn push(context: &Context, args: &PushArgs) -> anyhow::Result<Outcome> {
    let mut file = FunctionFile::read(&args.folder)?;
    let Some(built) = file.spec.image.clone() else {
        let hint = format!("framewake functions build {}", args.folder.display());
        return Err(BadInput::new(format!("`{}` names no image yet", file.path.display())).hint(hint).into());
    };
    if built.contains('@') {
        let hint = "build again after a change, and push that";
        return Err(BadInput::new(format!("`{built}` was pushed already: it has its digest")).hint(hint).into());
    }
    let engine = Engine::find(&args.engine)?;
    let name = repository(args.to.as_deref().unwrap_or(&built)).to_owned();
    let tag = built.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let target = format!("{name}:{tag}");
    if target != built {
        engine.ask(["tag", &built, &target])?;
    }
    engine.show(vec!["push".into(), (&target).into()])?;
    let digests = engine.ask(["image", "inspect", "--format", "{{json .RepoDigests}}", &target])?;
    let digests: Vec<String> = serde_json::from_str(digests.trim()).unwrap_or_default();
    let Some(image) = digests.into_iter().find(|digest| full_name(digest) == full_name(&name)) else {
        bail!("`{}` pushed {target}, but knows no digest of it there", engine.shown());
    };
    file.set_image(&image)?;
    tell(context, &file, &image)
}

fn tell(context: &Context, file: &FunctionFile, image: &str) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(&serde_json::json!({ "function": file.spec.name, "image": image, "file": file.path }))?;
    } else {
        printer.line(format_args!("image {image}"))?;
        printer.note(format_args!("it is in `{0}`; next: framewake functions add {0}", file.path.display()));
    }
    Ok(Outcome::Done)
}

/// The name of an image without tag and digest: `host:5000/team/name`.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    let tag = name.rfind(':').filter(|at| !name[*at..].contains('/'));
    tag.map_or(name, |at| &name[..at])
}

/// The same with the registry that is meant where none is named: engines leave it out, or write it where it was left out.
/// A first part is a registry's address with a dot, a port, or as `localhost`
/// ([reference](https://github.com/distribution/reference/blob/main/normalize.go)).
fn full_name(image: &str) -> String {
    let name = repository(image);
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path),
        _ => ("docker.io", name),
    };
    let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
    let library = if registry == "docker.io" && !path.contains('/') { "library/" } else { "" };
    format!("{registry}/{library}{path}")
}

/// A function's file, whose comments and order stay as they are.
struct FunctionFile {
    path: PathBuf,
    text: String,
    spec: FunctionSpec,
}

impl FunctionFile {
    fn read(folder: &Path) -> anyhow::Result<FunctionFile> {
        let path = folder.join("function.yaml");
        let text = job_file::read_text(&path)?;
        let spec = job_file::parse(&text, &job_file::shown(&path))?;
        Ok(FunctionFile { path, text, spec })
    }

    /// Writes another image into the file.
    fn set_image(&mut self, image: &str) -> anyhow::Result<()> {
        let text = with_image(&self.text, image);
        // Read again, so that a file in a form that was not thought of is not spoiled.
        let spec: Result<FunctionSpec, _> = job_file::parse(&text, &job_file::shown(&self.path));
        if spec.as_ref().ok().and_then(|spec| spec.image.as_deref()) != Some(image) {
            bail!("can't write the image into `{}`: put this line into it: image: {image}", self.path.display());
        }
        // As a whole or not at all.
        let half = self.path.with_extension("yaml.new");
        let written = std::fs::write(&half, &text).and_then(|()| std::fs::rename(&half, &self.path));
        written.with_context(|| format!("can't write `{}`", self.path.display()))?;
        self.text = text;
        Ok(())
    }
}

fn with_image(text: &str, image: &str) -> String {
    let line = format!("image: {image}\n");
    let is = |of: &str, key: &str| of.starts_with(key);
    let has_one = text.lines().any(|of| is(of, "image:"));
    let mut new = String::new();
    for of in text.split_inclusive('\n') {
        if is(of, "image:") {
            new.push_str(&line);
            continue;
        }
        new.push_str(of);
        if is(of, "name:") && !has_one {
            if !new.ends_with('\n') {
                new.push('\n');
            }
            new.push_str(&line);
        }
    }
    new
}

struct Engine(PathBuf);

impl Engine {
    fn find(args: &EngineArgs) -> anyhow::Result<Engine> {
        if let Some(engine) = &args.engine {
            return Ok(Engine(engine.clone()));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let found = ENGINES.iter().find(|name| folders.iter().any(|folder| folder.join(name).is_file()));
        let Some(name) = found else {
            let hint = "install one of them, or name a program that does as they do with --engine";
            return Err(BadInput::new("neither docker nor podman is on PATH").hint(hint).into());
        };
        Ok(Engine(name.into()))
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.0.display()
    }

    /// Runs it before the user's eyes; what it says goes where our notes go, so that standard output stays ours.
    fn show(&self, words: Vec<OsString>) -> anyhow::Result<()> {
        let what = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let mut command = Command::new(&self.0);
        command.args(&words).stdin(Stdio::null()).stdout(std::io::stderr());
        let status = command.status().with_context(|| format!("can't run `{}`", self.shown()))?;
        if !status.success() {
            bail!("`{} {what}` failed ({status}): what it says stands above", self.shown());
        }
        Ok(())
    }

    /// Why a build may have failed that is no fault of its Dockerfile: nobody is there who builds, or without buildx, Docker builds with what it had before,
    /// which knows no `RUN --mount`, or not at all. What it says of that is far from what to do.
    fn no_builder(&self) -> Option<BadInput> {
        if let Err(error) = self.ask(["version"]) {
            let error = BadInput::new(format!("`{}` does not reach what builds: {error}", self.shown()));
            return Some(error.hint(
                "start its daemon, as by `systemctl start docker`, or say with DOCKER_HOST where it is\n\
                 or build with Podman, which needs none: --engine podman",
            ));
        }
        self.ask(["buildx", "version"]).is_err().then(|| {
            let message =
                format!("`{} build` failed, and this docker has no buildx, which most Dockerfiles need", self.shown());
            BadInput::new(message).hint(
                "install it: the package docker-buildx, or docker-buildx-plugin where Docker's own packages are used\n\
                 or build with Podman, which needs none: --engine podman",
            )
        })
    }

    /// Its answer on standard output.
    fn ask<const N: usize>(&self, words: [&str; N]) -> anyhow::Result<String> {
        let output = Command::new(&self.0).args(words).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("can't run `{}`", self.shown()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{} {}` failed: {}", self.shown(), words[0], said.lines().next_back().unwrap_or_default());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_image_ends_before_its_tag_and_its_digest() {
        for (image, name) in [
            ("blender", "blender"),
            ("blender:5.0", "blender"),
            ("host:5000/team/blender", "host:5000/team/blender"),
            ("host:5000/team/blender:5.0@sha256:ab", "host:5000/team/blender"),
        ] {
            assert_eq!(repository(image), name);
        }
    }

    #[test]
    fn an_image_is_known_by_the_name_that_an_engine_gives_it() {
        for (asked, told) in [
            ("docker.io/team/toon", "team/toon@sha256:ab"),
            ("team/toon", "docker.io/team/toon@sha256:ab"),
            ("toon", "docker.io/library/toon@sha256:ab"),
            ("localhost/toon", "localhost/toon@sha256:ab"),
            ("host:5000/team/toon", "host:5000/team/toon@sha256:ab"),
        ] {
            assert_eq!(full_name(asked), full_name(told), "{asked}");
        }
        assert_ne!(full_name("registry.example/toon"), full_name("toon"));
        assert_ne!(full_name("team/toon"), full_name("host:5000/team/toon"));
    }

    #[test]
    fn an_image_is_written_into_a_file_and_all_else_stays() {
        let check = |text: &str, expected: &str| assert_eq!(with_image(text, "a:1"), expected);
        check("# mine\nname: x\ndriver: {}\n", "# mine\nname: x\nimage: a:1\ndriver: {}\n");
        check("image: b:2 # old\nname: x\n", "image: a:1\nname: x\n");
        check("name: x", "name: x\nimage: a:1\n");
        check("driver:\n  name: y\nname: x\n", "driver:\n  name: y\nname: x\nimage: a:1\n");
    }
}
