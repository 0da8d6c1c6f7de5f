//! A pool: where workers of one kind are started, what they find there, and how many may be there at once. Operators write
//! pools in files that the scheduler reads at its start; nothing else can, for a pool says what is mounted where.

pub mod docker;
pub mod kubernetes;

use crate::driver::DriverVersion;
use crate::duration::Span;
use crate::function::{FunctionSpec, GPU_MODEL_LEN_MAX, GPUS_MAX, WORKERS_MAX};
use crate::ids::Name;
use crate::job::Fault;
use crate::price::Market;
use crate::size::Size;
use docker::DockerPool;
use kubernetes::KubernetesPool;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most pools of a farm.
pub const POOLS_MAX: usize = 64;
/// Most workers that may be asked for in a minute.
pub const STARTS_A_MINUTE_MAX: u32 = 6000;

/// A pool as written in its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    pub name: Name,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// Most workers at once; where a function takes several slots, most slots.
    pub max: u32,
    /// The GPUs of a machine of it; absent: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<PoolGpu>,
    /// Whether machines may be taken away; cheaper where they may.
    #[serde(default = "on_demand")]
    pub market: Market,
    /// Pools with a lower number are tried first; of equal ones, the cheaper.
    #[serde(default)]
    pub order: u32,
    /// How long a worker may take from being asked for until it speaks: where machines come from nothing, many minutes.
    /// Default: by the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within: Option<Span>,
    /// Most workers that are asked for in a minute.
    #[serde(default = "starts_a_minute")]
    pub starts_a_minute: u32,
    pub provider: ProviderSpec,
}

/// The GPUs of a machine of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolGpu {
    /// As its driver names it: `NVIDIA L4`.
    pub model: String,
    /// Memory of each.
    pub memory: Size,
    /// How many one worker can have at most: those of one machine.
    #[serde(default = "one")]
    pub count: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<DriverVersion>,
}

/// Where the workers of a pool are started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[allow(clippy::large_enum_variant)] // There are a few, read once.
pub enum ProviderSpec {
    /// Processes of the scheduler's machine.
    Local {},
    /// Containers of a Docker engine.
    Docker(DockerPool),
    /// Jobs of Kubernetes.
    Kubernetes(Box<KubernetesPool>),
}

impl ProviderSpec {
    /// How long a worker may take to speak, where the pool does not say.
    pub fn start_within(&self) -> Duration {
        match self {
            ProviderSpec::Local {} => Duration::from_mins(1),
            // An image of some GiB has to be fetched first.
            ProviderSpec::Docker(_) => Duration::from_mins(15),
            // And before that a machine may have to be made.
            ProviderSpec::Kubernetes(_) => Duration::from_mins(30),
        }
    }

    /// Whether workers are made of the function's image.
    pub fn needs_image(&self) -> bool {
        !matches!(self, ProviderSpec::Local {})
    }
}

impl PoolSpec {
    /// Everything that is wrong with this pool, each with the field it is about.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.max == 0 || self.max > WORKERS_MAX {
            faults.push(Fault::new("/max", format!("must be 1 to {WORKERS_MAX}")));
        }
        if self.starts_a_minute == 0 || self.starts_a_minute > STARTS_A_MINUTE_MAX {
            faults.push(Fault::new("/starts_a_minute", format!("must be 1 to {STARTS_A_MINUTE_MAX}")));
        }
        if let Some(gpu) = &self.gpu {
            if gpu.model.trim().is_empty() || gpu.model.len() > GPU_MODEL_LEN_MAX {
                faults.push(Fault::new("/gpu/model", format!("must have 1 to {GPU_MODEL_LEN_MAX} bytes")));
            }
            if gpu.memory.0 == 0 {
                faults.push(Fault::new("/gpu/memory", "must be more than 0"));
            }
            if gpu.count == 0 || gpu.count > GPUS_MAX {
                faults.push(Fault::new("/gpu/count", format!("must be 1 to {GPUS_MAX}")));
            }
        }
        match &self.provider {
            ProviderSpec::Local {} => {}
            ProviderSpec::Docker(docker) => {
                docker.faults("/provider", &mut faults);
                if self.gpu.is_some() == docker.gpus.is_empty() {
                    // An engine gives the first GPU to all who ask for one.
                    let reason = "a pool with GPUs says what they are (`gpu`) and which (`gpus`)";
                    faults.push(Fault::new("/provider/gpus", reason));
                }
            }
            ProviderSpec::Kubernetes(kubernetes) => kubernetes.faults("/provider", &mut faults),
        }
        faults
    }

    /// Why workers of this function can't run here; `None`: they can.
    pub fn unfit(&self, function: &FunctionSpec) -> Option<String> {
        let needs = &function.resources;
        if self.provider.needs_image() && function.image.is_none() {
            return Some("it starts workers from images, and the function names none".to_owned());
        }
        if needs.gpus == 0 {
            return None;
        }
        let Some(gpu) = &self.gpu else {
            // The local provider looks for itself.
            return (!matches!(self.provider, ProviderSpec::Local {})).then(|| "it has no GPUs".to_owned());
        };
        if needs.gpus > gpu.count {
            return Some(format!("a worker needs {} GPUs, and a machine has {}", needs.gpus, gpu.count));
        }
        if let Some(memory) = needs.gpu_memory.filter(|memory| *memory > gpu.memory) {
            return Some(format!("a worker needs GPUs of {memory}, and these have {}", gpu.memory));
        }
        let suits = |part: &String| gpu.model.to_lowercase().contains(&part.to_lowercase());
        if !needs.gpu_models.is_empty() && !needs.gpu_models.iter().any(suits) {
            return Some(format!(
                "its GPUs are {}, and the function wants {}",
                gpu.model,
                needs.gpu_models.join(" or ")
            ));
        }
        if let (Some(needed), Some(driver)) = (&needs.driver_min, &gpu.driver)
            && driver < needed
        {
            return Some(format!("its driver is {driver}, and the function needs {needed}"));
        }
        None
    }
}

fn on_demand() -> Market {
    Market::OnDemand
}

fn one() -> u32 {
    1
}

/// What an engine and an API server take without noticing.
fn starts_a_minute() -> u32 {
    120
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(gpu: serde_json::Value) -> PoolSpec {
        serde_json::from_value(serde_json::json!({
            "name": "l4", "max": 8, "gpu": gpu, "provider": { "kind": "kubernetes" },
        }))
        .expect("a pool")
    }

    fn function(resources: serde_json::Value) -> FunctionSpec {
        serde_json::from_value(serde_json::json!({
            "name": "blender", "image": "registry.example/blender:5.0", "resources": resources,
            "driver": { "kind": "command", "command": ["render"] },
        }))
        .expect("a function")
    }

    #[test]
    fn a_function_that_does_not_fit_is_told_why() {
        let l4 = pool(serde_json::json!({ "model": "NVIDIA L4", "memory": "24GiB", "driver": "550.54" }));
        let unfit = |resources| l4.unfit(&function(resources));
        assert_eq!(unfit(serde_json::json!({ "gpus": 1, "gpu_memory": "24GiB", "gpu_models": ["l4"] })), None);
        assert_eq!(unfit(serde_json::json!({})), None, "work without a GPU may be done beside one");
        for (resources, reason) in [
            (serde_json::json!({ "gpus": 9 }), "a worker needs 9 GPUs, and a machine has 1"),
            (
                serde_json::json!({ "gpus": 1, "gpu_memory": "500GiB" }),
                "a worker needs GPUs of 500GiB, and these have 24GiB",
            ),
            (
                serde_json::json!({ "gpus": 1, "gpu_models": ["H100", "A100"] }),
                "its GPUs are NVIDIA L4, and the function wants H100 or A100",
            ),
            (
                serde_json::json!({ "gpus": 1, "driver_min": "560.1" }),
                "its driver is 550.54, and the function needs 560.1",
            ),
        ] {
            assert_eq!(unfit(resources).as_deref(), Some(reason));
        }
        assert_eq!(
            pool(serde_json::Value::Null).unfit(&function(serde_json::json!({ "gpus": 1 }))).as_deref(),
            Some("it has no GPUs")
        );
        let without_image = FunctionSpec { image: None, ..function(serde_json::json!({})) };
        assert_eq!(
            l4.unfit(&without_image).as_deref(),
            Some("it starts workers from images, and the function names none")
        );
    }

    #[test]
    fn bounds_of_a_pool_are_kept() {
        let good = pool(serde_json::json!({ "model": "NVIDIA L4", "memory": "24GiB" }));
        assert_eq!(good.faults(), Vec::new());
        let named = |pool: PoolSpec| pool.faults().into_iter().map(|fault| fault.field).collect::<Vec<_>>();
        assert_eq!(named(PoolSpec { max: 0, starts_a_minute: 0, ..good.clone() }), ["/max", "/starts_a_minute"]);
        assert_eq!(named(PoolSpec { max: WORKERS_MAX + 1, ..good.clone() }), ["/max"]);
        let gpu = PoolGpu { model: " ".to_owned(), memory: Size(0), count: GPUS_MAX + 1, driver: None };
        assert_eq!(named(PoolSpec { gpu: Some(gpu), ..good }), ["/gpu/model", "/gpu/memory", "/gpu/count"]);
    }
}
