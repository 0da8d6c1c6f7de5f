//! `framewake functions new`: a folder with all that a function of one's own begins with.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use anyhow::Context as _;
use framewake_proto::ids::Name;
use std::fs;
use std::path::PathBuf;

/// Where the render watchdog is copied from, of the same version as this program.
const WORKER_IMAGE: &str = concat!("framewake/worker:", env!("CARGO_PKG_VERSION"));
const WORKER_ARGUMENT: &str = "ARG WORKER=framewake/worker:0.1.0";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name of the function, and of the folder that is made
    name: Name,
    /// What it begins with
    #[arg(long, value_enum, default_value = "command")]
    template: Template,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Template {
    /// Blender 5.0, and a sample scene
    Blender,
    /// Any program that renders a frame: here a shell script, as an input of the job
    Command,
}

/// Files of a template, with `NAME` where the function's name goes.
fn files(template: Template) -> Vec<(&'static str, String)> {
    let text = |text: &str| text.to_owned();
    match template {
        Template::Command => vec![
            ("Dockerfile", text(include_str!("templates/command.Dockerfile"))),
            ("function.yaml", text(include_str!("templates/command.function.yaml"))),
            ("job.yaml", text(include_str!("templates/command.job.yaml"))),
            ("render.sh", text(include_str!("templates/render.sh"))),
        ],
        Template::Blender => vec![
            ("Dockerfile", blender_dockerfile()),
            ("requirements.txt", text(include_str!("../../../../../samples/requirements.txt"))),
            ("function.yaml", text(include_str!("templates/blender.function.yaml"))),
            ("job.yaml", text(include_str!("templates/blender.job.yaml"))),
            ("make_scene.py", text(include_str!("templates/make_scene.py"))),
        ],
    }
}

/// The one of the repository, for a folder of its own.
fn blender_dockerfile() -> String {
    let text = include_str!("../../../../../dockerfiles/blender.Dockerfile");
    let text = text.replace("COPY samples/requirements.txt", "COPY requirements.txt");
    let from = text.find("ARG WORKER").unwrap_or(0);
    format!(
        "# Blender 5.0 as a Python module, with the render watchdog: framewake functions build NAME\n{}",
        &text[from..]
    )
}

pub(crate) fn run(context: &Context, args: &Args) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let folder = PathBuf::from(args.name.as_str());
    if folder.exists() {
        let hint = "take another name, or move it away: nothing is overwritten";
        return Err(BadInput::new(format!("there is a `{}` here already", folder.display())).hint(hint).into());
    }
    fs::create_dir(&folder).with_context(|| format!("can't make the folder `{}`", folder.display()))?;
    let mut names = Vec::new();
    for (name, text) in files(args.template) {
        let text = text.replace("NAME", args.name.as_str());
        let text = text.replace(WORKER_ARGUMENT, &format!("ARG WORKER={WORKER_IMAGE}"));
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("can't write `{}`", file.display()))?;
        names.push(file.display().to_string());
    }
    if printer.is_json() {
        printer.json(&serde_json::json!({ "function": args.name, "files": names }))?;
        return Ok(Outcome::Done);
    }
    printer.line(format_args!("made {}", names.join(", ")))?;
    let shown = folder.display();
    printer.note(format_args!(
        "next: framewake functions build {shown}     (its image; a farm of this machine needs none)"
    ));
    if args.template == Template::Blender {
        printer.note(format_args!(
            "      python3 {shown}/make_scene.py {shown}/scene.blend     (where `import bpy` works)"
        ));
    }
    printer
        .note(format_args!("      framewake functions add {shown}/function.yaml && framewake submit {shown}/job.yaml"));
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::function::FunctionSpec;
    use framewake_proto::job::JobSpec;
    use framewake_proto::yaml;

    #[test]
    fn what_is_made_is_good_and_named_after_the_function() {
        for template in [Template::Blender, Template::Command] {
            let files: std::collections::BTreeMap<_, _> =
                files(template).into_iter().map(|(name, text)| (name, text.replace("NAME", "mine"))).collect();
            let function: FunctionSpec = yaml::read(&files["function.yaml"]).expect("a function");
            assert_eq!((function.name.as_str(), function.faults()), ("mine", vec![]), "{template:?}");
            let job: JobSpec = yaml::read(&files["job.yaml"]).expect("a job");
            assert_eq!((job.steps.len(), job.steps[0].function.as_str()), (1, "mine"));
            let dockerfile = &files["Dockerfile"];
            assert!(dockerfile.contains(WORKER_ARGUMENT), "the version is set there: {dockerfile}");
            assert!(!dockerfile.contains("samples/") && !dockerfile.contains("# syntax="), "{dockerfile}");
        }
    }
}
