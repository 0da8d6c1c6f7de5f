//! What a deployment means here: the function that it makes, how many workers of it stay, and how it is called.

use super::shapes::{FunctionDeployment, FunctionResources};
use framewake_proto::duration::Span;
use framewake_proto::function::{FunctionSpec, placeholders};
use framewake_proto::ids::nearest;
use framewake_proto::job::ATTEMPTS_MAX;
use framewake_proto::size::Size;
use framewake_proto::template::OutputTemplate;
use serde_json::{Value, json};

/// Name under which a call finds its body, in the folder `{inputs}`.
pub(super) const BODY: &str = "body";
/// Name of the answer where the deployment does not say: bytes of any kind.
const OUTPUT: &str = "answer.bin";
/// Most workers at once, where the deployment does not say; as `OpenFaaS` has it.
const WORKERS_MAX_DEFAULT: u32 = 20;
/// How a program that knows nothing of files is run: the body on its standard input, the answer from its standard output.
const SHELL: [&str; 6] = [
    "/bin/sh",
    "-c",
    "body=$1 answer=$2; shift 2; exec \"$@\" <\"$body\" >\"$answer\"",
    "call",
    "{inputs}/body",
    "{output}",
];
/// Labels that mean something here; others are kept and shown.
const LABELS: [&str; 9] = [
    "framewake.gpus",
    "framewake.gpu-memory",
    "framewake.gpu-models",
    "framewake.driver-min",
    "framewake.pools",
    "com.openfaas.scale.min",
    "com.openfaas.scale.max",
    "com.openfaas.scale.zero",
    "com.openfaas.scale.zero-duration",
];
/// Constraints that mean something here. Others are refused: who asks for a place must not be given another.
const CONSTRAINTS: [&str; 3] = ["nvidia.com/gpu.product", "framewake.gpus", "framewake.gpu-memory"];

/// What a deployment comes to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Deployed {
    pub(super) spec: FunctionSpec,
    /// Workers that stay, with work or without.
    pub(super) kept: u32,
    pub(super) how: HowCalled,
}

/// How its calls are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HowCalled {
    pub(super) output: String,
    pub(super) attempts: u32,
    /// Longest time of a call, where it is not that of any task.
    pub(super) within: Option<Span>,
}

/// Reads a deployment, or says everything that is wrong with it.
pub(super) fn read(deployment: &FunctionDeployment) -> Result<Deployed, String> {
    let mut faults = Vec::new();
    let spec = spec_of(deployment, &mut faults);
    let how = how_called(deployment, &mut faults);
    let kept = kept(deployment, &mut faults);
    if deployment.image.is_empty() {
        faults.push("`image` is empty: it names the image of the function".to_owned());
    }
    if !deployment.secrets.is_empty() {
        faults.push(
            "`secrets`: workers of this farm get none; give what a renderer needs as inputs, or to its pool".to_owned(),
        );
    }
    let spec = serde_json::from_value::<FunctionSpec>(spec).map_err(|error| faults.push(error.to_string()));
    let Ok(spec) = spec else { return Err(faults.join("; ")) };
    faults.extend(spec.faults().into_iter().map(|fault| format!("{}: {}", fault.field, fault.reason)));
    if kept > spec.scaling.max {
        faults.push("`com.openfaas.scale.min` is more than `com.openfaas.scale.max`".to_owned());
    }
    if faults.is_empty() { Ok(Deployed { spec, kept, how }) } else { Err(faults.join("; ")) }
}

fn spec_of(deployment: &FunctionDeployment, faults: &mut Vec<String>) -> Value {
    let label = |name| deployment.label(name);
    let mut resources = resources(deployment, faults);
    for constraint in &deployment.constraints {
        constrain(constraint, &mut resources, faults);
    }
    // Who names a model or an amount of memory wants a GPU.
    let about_gpus = ["gpu_memory", "gpu_models", "driver_min"].iter().any(|field| resources.get(*field).is_some());
    if about_gpus && resources.get("gpus").is_none() {
        resources["gpus"] = json!(1);
    }
    for name in deployment.labels.iter().flat_map(|labels| labels.keys()) {
        let known = LABELS.contains(&name.as_str()) || !name.starts_with("framewake.");
        if !known {
            let near = nearest(name, LABELS).unwrap_or(LABELS[0]);
            faults.push(format!("label `{name}` means nothing here; did you mean `{near}`?"));
        }
    }
    let mut scaling =
        json!({ "max": number(deployment, "com.openfaas.scale.max", faults).unwrap_or(WORKERS_MAX_DEFAULT) });
    if let Some(linger) = label("com.openfaas.scale.zero-duration") {
        scaling["linger"] = json!(linger);
    }
    if let Some(pools) = label("framewake.pools") {
        scaling["pools"] = json!(list(pools));
    }
    json!({
        "name": deployment.service,
        "image": deployment.image,
        "driver": { "kind": "command", "command": command(&deployment.env_process, faults) },
        "rules": deployment.annotation("framewake.rules").unwrap_or("generic"),
        "resources": resources,
        "scaling": scaling,
        "environment": deployment.env_vars,
    })
}

/// The words of the process. Those that name `{output}` read and write files; to others the body comes on their standard
/// input, and what they write on their standard output is the answer.
fn command(process: &str, faults: &mut Vec<String>) -> Vec<String> {
    let words: Vec<String> = if process.trim_start().starts_with('[') {
        serde_json::from_str(process).unwrap_or_else(|error| {
            faults.push(format!("`envProcess` begins as a JSON list of words and is none: {error}"));
            Vec::new()
        })
    } else {
        process.split_whitespace().map(str::to_owned).collect()
    };
    if words.is_empty() {
        faults.push(
            "`envProcess` is empty: name the renderer's command, with `fprocess` in the stack file or --fprocess"
                .to_owned(),
        );
    }
    if words.iter().any(|word| placeholders(word).any(|name| name == "output")) {
        return words;
    }
    let plain = |word: String| word.replace('{', "{{").replace('}', "}}");
    SHELL.into_iter().map(str::to_owned).chain(words.into_iter().map(plain)).collect()
}

fn resources(deployment: &FunctionDeployment, faults: &mut Vec<String>) -> Value {
    let mut resources = json!({});
    for (label, field) in [("framewake.gpu-memory", "gpu_memory"), ("framewake.driver-min", "driver_min")] {
        if let Some(value) = deployment.label(label) {
            resources[field] = json!(value);
        }
    }
    if let Some(models) = deployment.label("framewake.gpu-models") {
        resources["gpu_models"] = json!(list(models));
    }
    if let Some(gpus) = number(deployment, "framewake.gpus", faults) {
        resources["gpus"] = json!(gpus);
    }
    // What a worker may take at most is what it is given; a request alone is taken for both.
    for asked in [&deployment.requests, &deployment.limits].into_iter().flatten() {
        let FunctionResources { memory, cpu, nvidia_gpu, amd_gpu, intel_gpu } = asked;
        if !memory.is_empty() {
            match memory_of(memory) {
                Some(size) => resources["memory"] = json!(size.to_string()),
                None => faults.push(format!("`memory` is `{}`: write it as `512Mi` or `16Gi`", clip(memory))),
            }
        }
        if !cpu.is_empty() {
            match millis_of(cpu) {
                Some(millis) => resources["cpu_millis"] = json!(millis),
                None => faults.push(format!("`cpu` is `{}`: write it as `2` or `500m`", clip(cpu))),
            }
        }
        if let Some(gpus) = [nvidia_gpu, amd_gpu, intel_gpu].into_iter().find(|gpus| !gpus.is_empty()) {
            match gpus.parse::<u32>() {
                Ok(gpus) => resources["gpus"] = json!(gpus),
                Err(_) => faults.push(format!("`{}` is not a number of GPUs", clip(gpus))),
            }
        }
    }
    resources
}

/// `nvidia.com/gpu.product=NVIDIA-L4`: a label of nodes, where a dash stands for each space of the model's name.
fn constrain(constraint: &str, resources: &mut Value, faults: &mut Vec<String>) {
    let said = constraint.split_once("==").or_else(|| constraint.split_once('='));
    let known = || {
        format!(
            "constraint `{}` means nothing here, and a worker may not be put elsewhere; there are: {}",
            clip(constraint),
            CONSTRAINTS.map(|name| format!("{name}=…")).join(", ")
        )
    };
    match said.map(|(name, value)| (name.trim(), value.trim())) {
        Some(("nvidia.com/gpu.product", model)) if !model.is_empty() => {
            let model = model.replace('-', " ");
            if resources.get("gpu_models").is_none() {
                resources["gpu_models"] = json!([]);
            }
            resources["gpu_models"].as_array_mut().expect("made above").push(json!(model));
        }
        Some(("framewake.gpus", gpus)) => match gpus.parse::<u32>() {
            Ok(gpus) => resources["gpus"] = json!(gpus),
            Err(_) => faults.push(format!("constraint `{}`: not a number of GPUs", clip(constraint))),
        },
        Some(("framewake.gpu-memory", memory)) => resources["gpu_memory"] = json!(memory),
        _ => faults.push(known()),
    }
}

fn how_called(deployment: &FunctionDeployment, faults: &mut Vec<String>) -> HowCalled {
    let output = deployment.annotation("framewake.output").unwrap_or(OUTPUT).to_owned();
    if let Err(error) = OutputTemplate::parse(&output, 1) {
        faults.push(format!("annotation `framewake.output`: {error}"));
    }
    let attempts = deployment.annotation("com.openfaas.retry.attempts").map(str::parse::<u32>);
    let attempts = match attempts {
        // As there: a call that fails is told so, and tried again by whoever wants that.
        None => 1,
        Some(Ok(attempts)) if (1..=ATTEMPTS_MAX).contains(&attempts) => attempts,
        Some(_) => {
            faults.push(format!("annotation `com.openfaas.retry.attempts` must be 1 to {ATTEMPTS_MAX}"));
            1
        }
    };
    let within = deployment.env_vars.get("exec_timeout").map(|text| text.parse::<Span>());
    let within = within.transpose().unwrap_or_else(|error| {
        faults.push(format!("`exec_timeout`: {error}"));
        None
    });
    HowCalled { output, attempts, within: within.filter(|within| !within.0.is_zero()) }
}

/// Without the label none: this farm starts from zero. Where scaling to zero is asked for, the least is what there is
/// with work.
fn kept(deployment: &FunctionDeployment, faults: &mut Vec<String>) -> u32 {
    let min = number(deployment, "com.openfaas.scale.min", faults).unwrap_or(0);
    if deployment.label("com.openfaas.scale.zero") == Some("true") { 0 } else { min }
}

fn number(deployment: &FunctionDeployment, label: &str, faults: &mut Vec<String>) -> Option<u32> {
    let text = deployment.label(label)?;
    let number = text.parse().ok();
    if number.is_none() {
        faults.push(format!("label `{label}` is `{}`, and must be a whole number", clip(text)));
    }
    number
}

fn list(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect()
}

/// As Kubernetes writes it: `512Mi`, `16Gi`, `2G`, or bytes.
fn memory_of(text: &str) -> Option<Size> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let units = [
        ("", 1),
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000u64),
    ];
    let (_, bytes) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*bytes).map(Size)
}

/// `2`, `0.5` or `500m`.
fn millis_of(text: &str) -> Option<u32> {
    if let Some(millis) = text.strip_suffix('m') {
        return millis.parse().ok();
    }
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let part: u32 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(part)
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}
