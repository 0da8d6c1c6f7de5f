//! Why a pool can't run a function, or a step of a job: asked when functions are added and jobs are submitted, so that
//! nothing waits for what can never come.

use super::{PoolSpec, ProviderSpec};
use crate::function::{Architecture, FunctionSpec, Resources};
use crate::ids::Name;
use crate::job::{Fault, Step};
use crate::size::Size;

/// What the user can do about it, whatever it is.
const WAY_OUT: &str = "hint: ask for less, or give the scheduler a pool that has it (--pools)";

/// Every field of this step of a job that no pool can serve, with what each pool says; empty: one can, there are no
/// pools yet, or the function needs none. `at` is where the step is in its job.
pub fn step_faults(pools: &[PoolSpec], function: &FunctionSpec, step: &Step, at: &str) -> Vec<Fault> {
    if function.scaling.external {
        return Vec::new();
    }
    let mut said: Vec<(&'static str, Vec<String>)> = Vec::new();
    for pool in pools {
        let Some((field, reason)) = pool.unfit_step(function, step) else { return Vec::new() };
        let reason = format!("pool {}: {reason}", pool.name);
        match said.iter_mut().find(|(known, _)| *known == field) {
            Some((_, reasons)) => reasons.push(reason),
            None => said.push((field, vec![reason])),
        }
    }
    let fault = |(field, reasons): (&str, Vec<String>)| {
        Fault::new(format!("{at}{field}"), format!("no pool can run this step: {}; {WAY_OUT}", reasons.join("; ")))
    };
    said.into_iter().map(fault).collect()
}

/// The same of a function.
pub fn function_faults(pools: &[PoolSpec], function: &FunctionSpec) -> Vec<Fault> {
    if function.scaling.external {
        return Vec::new();
    }
    let reasons: Option<Vec<String>> =
        pools.iter().map(|pool| pool.unfit(function).map(|reason| format!("pool {}: {reason}", pool.name))).collect();
    let reasons = reasons.filter(|reasons| !reasons.is_empty());
    let reason = reasons.map(|reasons| {
        Fault::new("/resources", format!("no pool can run `{}`: {}; {WAY_OUT}", function.name, reasons.join("; ")))
    });
    reason.into_iter().collect()
}

impl PoolSpec {
    /// Why workers of this function can't run here; `None`: they can.
    pub fn unfit(&self, function: &FunctionSpec) -> Option<String> {
        if function.scaling.external {
            return Some("its workers are started by others (scaling.external)".to_owned());
        }
        self.unfit_itself(function)
    }

    /// Why workers of this function would not run here, whoever started them.
    pub fn unfit_itself(&self, function: &FunctionSpec) -> Option<String> {
        let named = &function.scaling.pools;
        if !named.is_empty() && !named.contains(&self.name) {
            let named: Vec<&str> = named.iter().map(Name::as_str).collect();
            return Some(format!("the function names others: {}", named.join(", ")));
        }
        if self.provider.needs_image() && function.image.is_none() {
            return Some("it starts workers from images, and the function names none".to_owned());
        }
        self.unfit_machine(&function.resources).or_else(|| self.unfit_gpus(&function.resources))
    }

    fn unfit_machine(&self, needs: &Resources) -> Option<String> {
        if let (Some(needed), Some(has)) = (needs.cpu_millis, self.machine.cpu_millis)
            && needed > has
        {
            return Some(format!("a worker needs {needed} thousandths of a processor, and a machine has {has}"));
        }
        if let (Some(needed), Some(has)) = (needs.memory, self.machine.memory)
            && needed > has
        {
            return Some(format!("a worker needs {needed} of memory, and a machine has {has}"));
        }
        let needed = needs.architecture?;
        match self.architecture() {
            Some(has) if has == needed => None,
            Some(has) => {
                Some(format!("its machines are {}, and the function's image is for {}", has.as_str(), needed.as_str()))
            }
            None => Some(format!(
                "it does not say what its machines are (`machine.architecture`), and the function's image is for {}",
                needed.as_str()
            )),
        }
    }

    fn architecture(&self) -> Option<Architecture> {
        self.machine.architecture.or_else(|| match self.provider {
            ProviderSpec::Local {} => Architecture::here(),
            ProviderSpec::Docker(_)
            | ProviderSpec::Kubernetes(_)
            | ProviderSpec::Openfaas(_)
            | ProviderSpec::Http(_) => None,
        })
    }

    fn unfit_gpus(&self, needs: &Resources) -> Option<String> {
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
        if let Some(reason) = needs.gpu_memory.and_then(|needed| self.short_of_gpu_memory(needed)) {
            return Some(reason);
        }
        let suits = |part: &String| gpu.model.to_lowercase().contains(&part.to_lowercase());
        if !needs.gpu_models.is_empty() && !needs.gpu_models.iter().any(suits) {
            let wanted = needs.gpu_models.join(" or ");
            return Some(format!("its GPUs are {}, and the function wants {wanted}", gpu.model));
        }
        if let (Some(needed), Some(driver)) = (&needs.driver_min, &gpu.driver)
            && driver < needed
        {
            return Some(format!("its driver is {driver}, and the function needs {needed}"));
        }
        None
    }

    fn short_of_gpu_memory(&self, needed: Size) -> Option<String> {
        let gpu = self.gpu.as_ref().filter(|gpu| needed > gpu.memory)?;
        Some(format!("a worker needs GPUs of {needed}, and these have {}", gpu.memory))
    }

    /// Why this step can't run here, and the field of it that asks for too much.
    fn unfit_step(&self, function: &FunctionSpec, step: &Step) -> Option<(&'static str, String)> {
        if let Some(reason) = self.unfit(function) {
            return Some(("/function", reason));
        }
        let needed = Size(step.gpu_memory_bytes);
        if let Some(reason) = self.short_of_gpu_memory(needed).filter(|_| function.resources.gpus > 0) {
            return Some(("/gpu_memory", reason));
        }
        if let (Some(frame), Some(longest)) = (step.timeouts.frame_said(), self.provider.longest_run())
            && frame > longest
        {
            let reason = format!("its workers may run for {longest}, and a frame for {frame}");
            return Some(("/timeouts/frame", reason));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::FunctionRef;
    use crate::job::{JobSpec, Known};
    use serde_json::{Value, json};

    fn pool(more: Value) -> PoolSpec {
        let mut pool = json!({ "name": "l4", "max": 8, "provider": { "kind": "kubernetes" } });
        pool.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        serde_json::from_value(pool).expect("a pool")
    }

    fn l4() -> Value {
        json!({ "model": "NVIDIA L4", "memory": "24GiB", "driver": "550.54" })
    }

    fn function(resources: Value) -> FunctionSpec {
        serde_json::from_value(json!({
            "name": "blender", "image": "registry.example/blender:5.0", "resources": resources,
            "driver": { "kind": "command", "command": ["render"] },
        }))
        .expect("a function")
    }

    #[test]
    fn a_function_that_does_not_fit_is_told_why() {
        let l4 = pool(json!({
            "gpu": l4(), "machine": { "cpu_millis": 8000, "memory": "32GiB", "architecture": "amd64" },
        }));
        let unfit = |resources| l4.unfit(&function(resources));
        assert_eq!(unfit(json!({ "gpus": 1, "gpu_memory": "24GiB", "gpu_models": ["l4"] })), None);
        assert_eq!(unfit(json!({ "cpu_millis": 8000, "memory": "32GiB", "architecture": "amd64" })), None);
        assert_eq!(unfit(json!({})), None, "work without a GPU may be done beside one");
        for (resources, reason) in [
            (json!({ "gpus": 9 }), "a worker needs 9 GPUs, and a machine has 1"),
            (json!({ "gpus": 1, "gpu_memory": "500GiB" }), "a worker needs GPUs of 500GiB, and these have 24GiB"),
            (
                json!({ "gpus": 1, "gpu_models": ["H100", "A100"] }),
                "its GPUs are NVIDIA L4, and the function wants H100 or A100",
            ),
            (json!({ "gpus": 1, "driver_min": "560.1" }), "its driver is 550.54, and the function needs 560.1"),
            (json!({ "cpu_millis": 8001 }), "a worker needs 8001 thousandths of a processor, and a machine has 8000"),
            (json!({ "memory": "33GiB" }), "a worker needs 33GiB of memory, and a machine has 32GiB"),
            (json!({ "architecture": "arm64" }), "its machines are amd64, and the function's image is for arm64"),
        ] {
            assert_eq!(unfit(resources).as_deref(), Some(reason));
        }
        let plain = pool(json!({}));
        assert_eq!(plain.unfit(&function(json!({ "gpus": 1 }))).as_deref(), Some("it has no GPUs"));
        assert_eq!(plain.unfit(&function(json!({ "memory": "1TiB" }))), None, "it does not say what it has");
        let reason = plain.unfit(&function(json!({ "architecture": "arm64" }))).expect("nobody knows");
        assert!(reason.contains("machine.architecture"), "{reason}");
        let without_image = FunctionSpec { image: None, ..function(json!({})) };
        assert_eq!(
            l4.unfit(&without_image).as_deref(),
            Some("it starts workers from images, and the function names none")
        );
        let mut elsewhere = function(json!({}));
        elsewhere.scaling.pools = vec!["spot".parse().expect("a name")];
        assert_eq!(l4.unfit(&elsewhere).as_deref(), Some("the function names others: spot"));
        let this = json!({ "architecture": Architecture::here() });
        assert_eq!(pool(json!({ "provider": { "kind": "local" } })).unfit(&function(this)), None);
    }

    #[test]
    fn no_pool_is_asked_to_have_room_for_workers_that_others_start() {
        let plain = pool(json!({}));
        let mut external = function(json!({ "gpus": 9 }));
        let impossible = function_faults(std::slice::from_ref(&plain), &external);
        assert_eq!(impossible.len(), 1, "{impossible:?}");
        external.scaling.external = true;
        assert_eq!(plain.unfit(&external).as_deref(), Some("its workers are started by others (scaling.external)"));
        assert_eq!(plain.unfit_itself(&external).as_deref(), Some("it has no GPUs"), "whoever starts them");
        assert_eq!(function_faults(std::slice::from_ref(&plain), &external), []);
        let fitting = FunctionSpec { resources: Resources::default(), ..external };
        assert!(plain.unfit(&fitting).is_some(), "also where there would be room");
        assert_eq!(plain.unfit_itself(&fitting), None);
    }

    struct One(FunctionSpec);

    impl Known for One {
        fn function(&self, _: &FunctionRef) -> Option<(u32, &FunctionSpec)> {
            Some((1, &self.0))
        }

        fn function_names(&self) -> Vec<&str> {
            vec!["blender"]
        }

        fn url_allowed(&self, _: &str) -> Result<(), String> {
            Ok(())
        }

        fn may_notify(&self, _: &Name, _: &Name) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_step_is_refused_by_the_field_that_no_pool_can_serve() {
        let gateway = json!({ "kind": "http", "url": "http://gw/", "longest_run": "9m" });
        let http = pool(json!({ "name": "gateway", "gpu": l4(), "provider": gateway }));
        let kubernetes = pool(json!({ "gpu": l4() }));
        let check = |pools: &[PoolSpec], resources: Value, more: Value, expected: &[(&str, &str)]| {
            let one = One(function(resources));
            let mut step = json!({ "name": "a", "function": "blender" });
            step.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let job: JobSpec = serde_json::from_value(json!({ "name": "j", "steps": [step] })).expect("a job");
            let job = job.check(&one).expect("a good job");
            let faults = step_faults(pools, &one.0, &job.steps[0], "/steps/0");
            assert_eq!(faults.len(), expected.len(), "{faults:?}");
            for (fault, (field, reason)) in faults.iter().zip(expected) {
                assert_eq!(fault.field, *field);
                assert!(fault.reason.contains(reason) && fault.reason.contains("--pools"), "{}", fault.reason);
            }
        };
        let gpu = || json!({ "gpus": 1 });
        let long = || json!({ "timeouts": { "frame": "20m" } });
        check(&[], json!({ "gpus": 16 }), long(), &[]);
        check(std::slice::from_ref(&http), gpu(), json!({}), &[]);
        check(std::slice::from_ref(&http), gpu(), json!({ "timeouts": { "frame": "9m" } }), &[]);
        let said = "pool gateway: its workers may run for 9m, and a frame for 20m";
        check(std::slice::from_ref(&http), gpu(), long(), &[("/steps/0/timeouts/frame", said)]);
        let both = [http, kubernetes];
        check(&both, gpu(), long(), &[]);
        check(&both, json!({}), json!({ "gpu_memory": "1GiB" }), &[]);
        let said = "pool gateway: a worker needs GPUs of 40GiB, and these have 24GiB; pool l4: a worker needs";
        check(&both, gpu(), json!({ "gpu_memory": "40GiB" }), &[("/steps/0/gpu_memory", said)]);
        let said = "pool gateway: a worker needs 9 GPUs, and a machine has 1; pool l4: ";
        check(&both, json!({ "gpus": 9 }), json!({}), &[("/steps/0/function", said)]);
        let mut external = One(function(json!({ "gpus": 9 })));
        external.0.scaling.external = true;
        let job: JobSpec = serde_json::from_value(json!({
            "name": "j", "steps": [{ "name": "a", "function": "blender", "timeouts": { "frame": "20m" } }],
        }))
        .expect("a job");
        let job = job.check(&external).expect("a good job");
        assert_eq!(step_faults(&both, &external.0, &job.steps[0], "/steps/0"), []);
    }
}
