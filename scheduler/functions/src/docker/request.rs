//! What a container is asked for: as little as a worker needs.

use crate::{INVITATION, JOIN_TOKEN, Start, Surroundings};
use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, HostConfigLogConfig, Mount, MountTmpfsOptions, MountType,
};
use framewake_proto::ids::Name;
use framewake_proto::pool::docker::{DockerPool, Scratch};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;

pub(super) const LABEL_FARM: &str = "framewake.farm";
pub(super) const LABEL_POOL: &str = "framewake.pool";
pub(super) const LABEL_WORKER: &str = "framewake.worker";
pub(super) const LABEL_FUNCTION: &str = "framewake.function";
pub(super) const LABEL_GPUS: &str = "framewake.gpus";

const SCRATCH: &str = "/scratch";
const CACHE: &str = "/cache";
/// Most processes and threads of a container: renderers have some for each processor of a big machine, a fork bomb more.
const PIDS_MAX: i64 = 4096;
/// Most of a container's log that the engine keeps, in two files; the worker's logs of attempts go their own way.
const LOG_SIZE: &str = "1m";
const LOG_FILES: &str = "2";
/// How long a worker has to leave when its container is stopped, in seconds; then the engine kills it. The engine's own 10 s
/// are less than most frames take.
const STOP_WITHIN_S: i64 = 60;
/// World-writable and sticky, as /tmp: workers run as whom their image says.
const OPEN_TO_ALL: i64 = 0o1777;

/// Whether workers of this pool can reach what they need; else why not, and what to do.
pub(super) fn reachable(spec: &DockerPool, surroundings: &Surroundings) -> Result<(), String> {
    if spec.network == "host" {
        return Ok(());
    }
    let endpoint = surroundings.environment.iter().filter(|(name, _)| name.starts_with("AWS_ENDPOINT_URL"));
    let addresses = [("nats", "nats", surroundings.nats.as_str())].into_iter();
    let addresses = addresses.chain(endpoint.map(|(name, url)| (name.as_str(), "environment", url.as_str())));
    for (what, field, address) in addresses {
        if ["://127.", "://localhost", "://[::1]", "@127.", "@localhost", "@[::1]"]
            .iter()
            .any(|own| address.contains(own))
        {
            return Err(format!(
                "workers in containers can't reach the {what} address of this machine's loopback: give an address that \
                 they can reach in `{field}`, or `network: host`"
            ));
        }
    }
    Ok(())
}

pub(super) fn container(
    pool: &Name,
    spec: &DockerPool,
    surroundings: &Surroundings,
    machine: &str,
    start: &Start,
    image: &str,
    gpus: &[String],
) -> ContainerCreateBody {
    let labels = [
        (LABEL_FARM, surroundings.farm.clone()),
        (LABEL_POOL, pool.to_string()),
        (LABEL_WORKER, start.worker.to_string()),
        (LABEL_FUNCTION, start.function.to_string()),
        (LABEL_GPUS, gpus.join(",")),
    ];
    ContainerCreateBody {
        image: Some(image.to_owned()),
        user: user(spec, surroundings),
        stop_timeout: Some(STOP_WITHIN_S),
        env: Some(environment(spec, surroundings, machine, start, gpus)),
        labels: Some(labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        host_config: Some(HostConfig {
            nano_cpus: start.spec.resources.cpu_millis.map(|millis| i64::from(millis) * 1_000_000),
            memory: memory(start),
            // The same as the memory: a renderer that swaps is as good as lost.
            memory_swap: memory(start),
            pids_limit: Some(PIDS_MAX),
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            network_mode: Some(spec.network.clone()),
            extra_hosts: extra_hosts(surroundings),
            mounts: Some(mounts(spec, surroundings)),
            device_requests: device_requests(gpus),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), LOG_SIZE.to_owned()),
                    ("max-file".to_owned(), LOG_FILES.to_owned()),
                ])),
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// A store in a folder is written by whom it belongs to, which is rarely whom an image names.
fn user(spec: &DockerPool, surroundings: &Surroundings) -> Option<String> {
    let owner = || {
        let folder = std::fs::metadata(surroundings.store.strip_prefix("file://")?).ok()?;
        Some(format!("{}:{}", folder.uid(), folder.gid()))
    };
    spec.user.clone().or_else(owner)
}

fn memory(start: &Start) -> Option<i64> {
    start.spec.resources.memory.map(|memory| i64::try_from(memory.0).unwrap_or(i64::MAX))
}

fn environment(
    spec: &DockerPool,
    surroundings: &Surroundings,
    machine: &str,
    start: &Start,
    gpus: &[String],
) -> Vec<String> {
    let mut told = vec![
        ("FRAMEWAKE_NATS_URL", surroundings.nats.clone()),
        ("FRAMEWAKE_FARM", surroundings.farm.clone()),
        ("FRAMEWAKE_STORE", surroundings.store.clone()),
        ("FRAMEWAKE_WORKER", start.worker.to_string()),
        ("FRAMEWAKE_FUNCTION", start.function.to_string()),
        ("FRAMEWAKE_LINGER_MS", start.linger.as_millis().to_string()),
        ("FRAMEWAKE_SCRATCH", SCRATCH.to_owned()),
        // The container's own name would be another machine each time.
        ("FRAMEWAKE_HOST", machine.to_owned()),
        ("FRAMEWAKE_GRACE", format!("{STOP_WITHIN_S}s")),
    ];
    if spec.cache.is_some() {
        told.push(("FRAMEWAKE_CACHE", CACHE.to_owned()));
    }
    if gpus.iter().any(|gpu| gpu.starts_with("GPU-") || gpu.starts_with("MIG-")) {
        told.push(("FRAMEWAKE_GPUS", gpus.join(",")));
    }
    if let Some(token) = &start.join_token {
        told.push((JOIN_TOKEN, token.reveal().to_owned()));
    }
    if let Some(invitation) = &start.invitation {
        told.push((INVITATION, invitation.reveal().to_owned()));
    }
    let ours = told.into_iter().map(|(name, value)| format!("{name}={value}"));
    ours.chain(surroundings.environment.iter().map(|(name, value)| format!("{name}={value}"))).collect()
}

/// The engine's machine, by the name that engines with a desktop give it by themselves.
fn extra_hosts(surroundings: &Surroundings) -> Option<Vec<String>> {
    const HOST: &str = "host.docker.internal";
    let named = surroundings.nats.contains(HOST) || surroundings.environment.values().any(|value| value.contains(HOST));
    named.then(|| vec![format!("{HOST}:host-gateway")])
}

fn mounts(spec: &DockerPool, surroundings: &Surroundings) -> Vec<Mount> {
    let in_memory = |at: &str, size: Option<u64>| Mount {
        target: Some(at.to_owned()),
        typ: Some(MountType::TMPFS),
        tmpfs_options: Some(MountTmpfsOptions {
            mode: Some(OPEN_TO_ALL),
            size_bytes: size.map(|size| i64::try_from(size).unwrap_or(i64::MAX)),
            ..MountTmpfsOptions::default()
        }),
        ..Mount::default()
    };
    let folder = |from: &str, at: &str| Mount {
        source: Some(from.to_owned()),
        target: Some(at.to_owned()),
        typ: Some(MountType::BIND),
        ..Mount::default()
    };
    let mut mounts = vec![in_memory("/tmp", None)];
    mounts.push(match spec.scratch {
        Scratch::Memory => in_memory(SCRATCH, spec.scratch_size.map(|size| size.0)),
        // Goes with its container.
        Scratch::Disk => Mount { target: Some(SCRATCH.to_owned()), typ: Some(MountType::VOLUME), ..Mount::default() },
    });
    if let Some(cache) = &spec.cache {
        mounts.push(folder(cache, CACHE));
    }
    if let Some(store) = surroundings.store.strip_prefix("file://") {
        mounts.push(folder(store, store));
    }
    mounts
}

fn device_requests(gpus: &[String]) -> Option<Vec<DeviceRequest>> {
    let request = DeviceRequest {
        driver: Some("nvidia".to_owned()),
        device_ids: Some(gpus.to_vec()),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    };
    (!gpus.is_empty()).then(|| vec![request])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    fn surroundings() -> Surroundings {
        Surroundings {
            nats: "nats://10.0.0.1:4222".to_owned(),
            farm: "studio".to_owned(),
            store: "file:///srv/frames".to_owned(),
            environment: BTreeMap::from([("AWS_REGION".to_owned(), "eu".to_owned())]),
        }
    }

    fn asked(pool: serde_json::Value, resources: serde_json::Value, gpus: &[String]) -> serde_json::Value {
        let spec: DockerPool = serde_json::from_value(pool).expect("a good pool");
        let function =
            json!({ "name": "any", "resources": resources, "driver": { "kind": "command", "command": ["x"] } });
        let start = Start {
            worker: "w1-1".parse().expect("a good id"),
            function: "any@3".parse().expect("a good key"),
            spec: Arc::new(serde_json::from_value(function).expect("a good function")),
            gpus: Vec::new(),
            linger: Duration::from_secs(7),
            join_token: None,
            invitation: None,
        };
        let pool = "big".parse().expect("a good name");
        let body = container(&pool, &spec, &surroundings(), "node7", &start, "sha256:abc", gpus);
        serde_json::to_value(body).expect("it can be written")
    }

    #[test]
    fn a_container_gets_what_it_needs_and_no_more() {
        let body = asked(json!({ "network": "render" }), json!({ "cpu_millis": 1500, "memory": "2GiB" }), &[]);
        let host = &body["HostConfig"];
        assert_eq!(body["Image"], "sha256:abc");
        assert_eq!(body["User"], json!(null), "whom the image says");
        assert_eq!(host["NanoCpus"], 1_500_000_000);
        assert_eq!((&host["Memory"], &host["MemorySwap"]), (&json!(2u64 << 30), &json!(2u64 << 30)));
        assert_eq!(host["ReadonlyRootfs"], true);
        assert_eq!(host["CapDrop"], json!(["ALL"]));
        assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
        assert_eq!(host["PidsLimit"], PIDS_MAX);
        assert_eq!(host["NetworkMode"], "render");
        for absent in ["PortBindings", "Privileged", "Devices", "DeviceRequests", "Binds", "ExtraHosts", "CapAdd"] {
            assert!(host[absent].is_null(), "{absent} is {}", host[absent]);
        }
        let mounts = host["Mounts"].as_array().expect("a list");
        let targets: Vec<_> = mounts.iter().map(|mount| (&mount["Type"], &mount["Target"], &mount["Source"])).collect();
        let (tmpfs, bind, none) = (json!("tmpfs"), json!("bind"), json!(null));
        let store = json!("/srv/frames");
        assert_eq!(
            targets,
            [(&tmpfs, &json!("/tmp"), &none), (&tmpfs, &json!("/scratch"), &none), (&bind, &store, &store)]
        );
        assert_eq!(mounts[1]["TmpfsOptions"]["Mode"], 0o1777);
        let env = body["Env"].as_array().expect("a list");
        for told in [
            "FRAMEWAKE_WORKER=w1-1",
            "FRAMEWAKE_FUNCTION=any@3",
            "FRAMEWAKE_LINGER_MS=7000",
            "FRAMEWAKE_HOST=node7",
            "FRAMEWAKE_GRACE=60s",
            "FRAMEWAKE_STORE=file:///srv/frames",
            "AWS_REGION=eu",
        ] {
            assert!(env.contains(&json!(told)), "{told} is not in {env:?}");
        }
        assert_eq!(body["StopTimeout"], 60, "as long as it is told it has");
        let labels = json!({ "framewake.farm": "studio", "framewake.pool": "big", "framewake.worker": "w1-1",
            "framewake.function": "any@3", "framewake.gpus": "" });
        assert_eq!(body["Labels"], labels);
    }

    #[test]
    fn gpus_are_asked_for_by_name() {
        let gpus = ["GPU-5c9a".to_owned(), "GPU-77d0".to_owned()];
        let body = asked(json!({}), json!({ "gpus": 2 }), &gpus);
        let request = json!([{ "Driver": "nvidia", "DeviceIDs": gpus, "Capabilities": [["gpu"]] }]);
        assert_eq!(body["HostConfig"]["DeviceRequests"], request);
        assert_eq!(body["Labels"]["framewake.gpus"], "GPU-5c9a,GPU-77d0");
        assert!(body["Env"].as_array().expect("a list").contains(&json!("FRAMEWAKE_GPUS=GPU-5c9a,GPU-77d0")));
    }

    #[test]
    fn a_pool_may_keep_scratch_on_disk_share_a_cache_and_name_a_user() {
        let pool = json!({ "scratch": "disk", "cache": "/srv/cache", "user": "1000:1000" });
        let body = asked(pool, json!({}), &[]);
        assert_eq!(body["User"], "1000:1000");
        let mounts = &body["HostConfig"]["Mounts"];
        assert_eq!(mounts[1], json!({ "Target": "/scratch", "Type": "volume" }));
        assert_eq!(mounts[2], json!({ "Target": "/cache", "Source": "/srv/cache", "Type": "bind" }));
    }

    #[test]
    fn a_store_in_a_folder_is_written_by_whom_it_belongs_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |store: String| Surroundings { store, ..surroundings() };
        let own = at(format!("file://{}", folder.path().display()));
        let check = |pool: serde_json::Value, surroundings: &Surroundings, expected: Option<String>| {
            let spec: DockerPool = serde_json::from_value(pool).expect("a good pool");
            assert_eq!(user(&spec, surroundings), expected);
        };
        let owner = std::fs::metadata(folder.path()).expect("it is there");
        check(json!({}), &own, Some(format!("{}:{}", owner.uid(), owner.gid())));
        check(json!({ "user": "7:7" }), &own, Some("7:7".to_owned()));
        check(json!({}), &at("s3://frames".to_owned()), None);
        check(json!({}), &at("file:///nowhere/at/all".to_owned()), None);
    }

    #[test]
    fn an_address_that_only_this_machine_reaches_is_refused_with_the_way_out() {
        let check = |pool: serde_json::Value, nats: &str, expected: Result<(), &str>| {
            let spec: DockerPool = serde_json::from_value(pool).expect("a good pool");
            let surroundings = Surroundings { nats: nats.to_owned(), ..surroundings() };
            match (reachable(&spec, &surroundings), expected) {
                (Ok(()), Ok(())) => {}
                (Err(reason), Err(words)) => assert!(reason.contains(words), "{reason}"),
                (found, expected) => panic!("{found:?} for {nats}, not {expected:?}"),
            }
        };
        check(json!({}), "nats://10.0.0.1:4222", Ok(()));
        check(json!({}), "nats://127.0.0.1:4222", Err("or `network: host`"));
        check(json!({}), "nats://user:secret@localhost:4222", Err("in `nats`"));
        check(json!({ "network": "host" }), "nats://127.0.0.1:4222", Ok(()));
    }
}
