//! A pool: where workers of one kind are started, what they find there, and how many may be there at once. Operators write
//! pools in files that the scheduler reads at its start; nothing else can, for a pool says what is mounted where.

pub mod docker;
pub mod fit;
pub mod http;
pub mod kubernetes;
pub mod openfaas;
pub mod secret;

use crate::driver::DriverVersion;
use crate::duration::Span;
use crate::function::{Architecture, CPU_MILLIS, GPU_MEMORY, GPU_MODEL_LEN_MAX, GPUS_MAX, MEMORY, WORKERS_MAX};
use crate::ids::Name;
use crate::job::Fault;
use crate::price::Market;
use crate::size::Size;
use docker::DockerPool;
use http::HttpPool;
use kubernetes::KubernetesPool;
use openfaas::OpenfaasPool;
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
    /// What else a machine of it has; what is absent is not known, and nothing is refused for it.
    #[serde(default, skip_serializing_if = "PoolMachine::is_unknown")]
    pub machine: PoolMachine,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// What the largest machine of a pool has for one worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolMachine {
    /// Processors, in thousandths: `8000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
}

impl PoolMachine {
    fn is_unknown(&self) -> bool {
        *self == PoolMachine::default()
    }
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
    /// Functions of a foreign gateway of `OpenFaaS`, woken by a call each.
    Openfaas(OpenfaasPool),
    /// Woken by an HTTP request each, behind any gateway.
    Http(HttpPool),
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
            // After the time of its request it can't come any more.
            ProviderSpec::Openfaas(OpenfaasPool { longest_run, .. })
            | ProviderSpec::Http(HttpPool { longest_run, .. }) => longest_run.0.min(http::STARTS_WITHIN),
        }
    }

    /// Longest a worker may run, and so the longest frame; `None`: any.
    pub fn longest_run(&self) -> Option<Span> {
        match self {
            ProviderSpec::Local {} | ProviderSpec::Docker(_) | ProviderSpec::Kubernetes(_) => None,
            ProviderSpec::Openfaas(openfaas) => Some(openfaas.longest_run),
            ProviderSpec::Http(http) => Some(http.longest_run),
        }
    }

    /// Whether workers are made of the function's image.
    pub fn needs_image(&self) -> bool {
        !matches!(self, ProviderSpec::Local {} | ProviderSpec::Http(_))
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
            if !GPU_MEMORY.contains(&gpu.memory) {
                let reason = format!("must be {} to {}", GPU_MEMORY.start(), GPU_MEMORY.end());
                faults.push(Fault::new("/gpu/memory", reason));
            }
            if gpu.count == 0 || gpu.count > GPUS_MAX {
                faults.push(Fault::new("/gpu/count", format!("must be 1 to {GPUS_MAX}")));
            }
        }
        if self.machine.cpu_millis.is_some_and(|millis| !CPU_MILLIS.contains(&millis)) {
            let reason = format!("must be {} to {}", CPU_MILLIS.start(), CPU_MILLIS.end());
            faults.push(Fault::new("/machine/cpu_millis", reason));
        }
        if self.machine.memory.is_some_and(|memory| !MEMORY.contains(&memory)) {
            faults.push(Fault::new("/machine/memory", format!("must be {} to {}", MEMORY.start(), MEMORY.end())));
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
                if let Some(gpu) = self.gpu.as_ref().filter(|gpu| gpu.count as usize > docker.gpus.len()) {
                    let (count, named) = (gpu.count, docker.gpus.len());
                    let reason = format!("a worker can have {count}, and `provider.gpus` names {named}");
                    faults.push(Fault::new("/gpu/count", reason));
                }
            }
            ProviderSpec::Kubernetes(kubernetes) => kubernetes.faults("/provider", &mut faults),
            ProviderSpec::Openfaas(openfaas) => {
                openfaas.faults("/provider", &mut faults);
                if self.gpu.is_some() {
                    let reason = "its API drops GPUs: name a pool of Kubernetes for the same machines";
                    faults.push(Fault::new("/gpu", reason));
                }
            }
            ProviderSpec::Http(http) => http.faults("/provider", &mut faults),
        }
        faults
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

    #[test]
    fn bounds_of_a_pool_are_kept() {
        let good = pool(serde_json::json!({ "model": "NVIDIA L4", "memory": "24GiB" }));
        assert_eq!(good.faults(), Vec::new());
        let named = |pool: PoolSpec| pool.faults().into_iter().map(|fault| fault.field).collect::<Vec<_>>();
        assert_eq!(named(PoolSpec { max: 0, starts_a_minute: 0, ..good.clone() }), ["/max", "/starts_a_minute"]);
        assert_eq!(named(PoolSpec { max: WORKERS_MAX + 1, ..good.clone() }), ["/max"]);
        let gpu = PoolGpu { model: " ".to_owned(), memory: Size(0), count: GPUS_MAX + 1, driver: None };
        assert_eq!(named(PoolSpec { gpu: Some(gpu), ..good.clone() }), ["/gpu/model", "/gpu/memory", "/gpu/count"]);
        let memory = |size| PoolGpu { model: "L4".to_owned(), memory: size, count: 1, driver: None };
        let sized = |size| named(PoolSpec { gpu: Some(memory(size)), ..good.clone() });
        assert_eq!(sized(*GPU_MEMORY.end()), Vec::<String>::new());
        assert_eq!(sized(Size(GPU_MEMORY.end().0 + 1)), ["/gpu/memory"]);
        let machine = PoolMachine { cpu_millis: Some(9), memory: Some(Size(17 << 40)), architecture: None };
        assert_eq!(named(PoolSpec { machine, ..good.clone() }), ["/machine/cpu_millis", "/machine/memory"]);
    }

    #[test]
    fn a_gateway_of_openfaas_has_no_gpus() {
        let pool: PoolSpec = serde_json::from_value(serde_json::json!({
            "name": "faas", "max": 8, "gpu": { "model": "L4", "memory": "24GiB" },
            "provider": {
                "kind": "openfaas", "gateway": "http://gw:8080", "longest_run": "5m", "password": { "env": "PW" },
            },
        }))
        .expect("a pool");
        let faults = pool.faults();
        assert_eq!(faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(), ["/gpu"]);
    }
}
