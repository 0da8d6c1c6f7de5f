//! Where the tests run: on a cluster of their own, or on the one that the kubeconfig leads to.

use framewake_functions::kubernetes::{Access, Kubernetes};
use framewake_functions::{End, Instance, InstanceState, Provider, Start, Surroundings};
use framewake_proto::ids::WorkerId;
use framewake_proto::pool::{PoolSpec, ProviderSpec};
use framewake_tests::kubernetes::{Cluster, kubeconfig_elsewhere, nodes_are_played};
use framewake_tests::wait::until;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// On a real cluster an image has to be pulled.
const SOON: Duration = Duration::from_mins(1);

pub(crate) struct Ground {
    /// One whose failures are planned.
    pub(crate) own: Option<Cluster>,
    pub(crate) access: Access,
    image: String,
    pool: String,
    client: kube::Client,
    _folder: TempDir,
}

impl Ground {
    /// With nodes of so many GPUs, where they are played.
    pub(crate) async fn new(nodes: &[u64]) -> Ground {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let (own, kubeconfig) = if let Some(path) = kubeconfig_elsewhere().filter(|_| !nodes_are_played()) {
            (None, path)
        } else {
            let cluster = Cluster::start(nodes).await;
            let kubeconfig = cluster.kubeconfig(folder.path());
            (Some(cluster), kubeconfig)
        };
        let access = Access::new(&[kubeconfig]).await.expect("a good kubeconfig");
        // It runs as nobody until it is told to end.
        let image = std::env::var_os("FRAMEWAKE_TEST_IMAGE").and_then(|image| image.into_string().ok());
        let image = image.unwrap_or_else(|| "registry.k8s.io/pause:3.9".to_owned());
        let client = access.client();
        let pool = format!("test-{:08x}", fastrand::u32(..));
        Ground { own, access, image, pool, client, _folder: folder }
    }

    /// For what a real cluster does not do on demand.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        if self.own.is_none() {
            eprintln!("SKIPPED: it needs a cluster whose nodes are played");
        }
        self.own.as_ref()
    }

    pub(crate) fn provider(&self) -> Kubernetes {
        self.provider_with(&json!({}))
    }

    pub(crate) fn provider_with(&self, provider: &Value) -> Kubernetes {
        let mut provider = provider.clone();
        provider["kind"] = json!("kubernetes");
        provider["ephemeral_storage"] = json!("64MiB");
        if let Some(cluster) = &self.own {
            provider["node_selector"] = cluster.node_selector();
        }
        let pool = json!({ "name": self.pool, "max": 8, "provider": provider });
        let pool: PoolSpec = serde_json::from_value(pool).expect("a pool");
        assert_eq!(pool.faults(), []);
        let ProviderSpec::Kubernetes(kubernetes) = &pool.provider else { unreachable!("of this kind") };
        let surroundings = Surroundings {
            nats: "nats://nats:4222".to_owned(),
            farm: "tests".to_owned(),
            store: "file:///store".to_owned(),
            environment: BTreeMap::new(),
        };
        Kubernetes::open(&self.access, &pool, kubernetes, &surroundings).expect("a good pool")
    }

    /// It may be ended, though it runs.
    pub(crate) fn never_spoke(&self, worker: &WorkerId) {
        if let Some(cluster) = &self.own {
            cluster.never_spoke(worker.as_str());
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.access.namespace)
    }

    /// As somebody with `kubectl` does it, or a node that is drained.
    pub(crate) async fn delete_job(&self, worker: &WorkerId) {
        if let Some(cluster) = &self.own {
            cluster.delete_job(worker.as_str());
            return;
        }
        self.api::<Job>().delete(worker.as_str(), &DeleteParams::background()).await.expect("it is there");
    }

    /// Its process is told to leave, and does.
    pub(crate) async fn delete_pod_gently(&self, worker: &WorkerId) {
        if let Some(cluster) = &self.own {
            cluster.exit(worker.as_str(), &json!({ "exitCode": 0 }));
            return;
        }
        let of_worker = format!("framewake/worker={worker}");
        let pods = self.api::<Pod>();
        for pod in pods.list(&ListParams::default().labels(&of_worker)).await.expect("it answers") {
            pods.delete(&pod.metadata.name.expect("a name"), &DeleteParams::default()).await.expect("it is there");
        }
    }
}

/// A worker that nobody asked for before.
pub(crate) fn start(ground: &Ground, gpus: u32) -> Start {
    let function = json!({
        "name": "blender", "image": ground.image, "resources": { "gpus": gpus },
        "driver": { "kind": "command", "command": ["blender"] },
    });
    Start {
        worker: format!("w{:012x}-1", fastrand::u64(..1 << 48)).parse().expect("a good id"),
        function: "blender@3".parse().expect("a good key"),
        spec: Arc::new(serde_json::from_value(function).expect("a function")),
        gpus: Vec::new(),
        linger: Duration::from_secs(1),
        join_token: None,
        invitation: None,
    }
}

/// Waits until the worker is so.
pub(crate) async fn until_state(
    provider: &mut Kubernetes,
    worker: &WorkerId,
    wanted: impl Fn(&InstanceState) -> bool,
) -> Instance {
    let begin = tokio::time::Instant::now();
    let mut last = None;
    loop {
        if let Ok(seen) = provider.observe().await {
            last = seen.into_iter().find(|instance| instance.worker == *worker);
            if let Some(instance) = last.as_ref().filter(|instance| wanted(&instance.state)) {
                return instance.clone();
            }
        }
        assert!(begin.elapsed() < SOON, "waited in vain for {worker}, which is {last:?}");
        // What has changed is told without being asked; a failure is asked about again.
        let _ = tokio::time::timeout(Duration::from_millis(500), provider.changed()).await;
    }
}

/// Waits until the workers are known.
pub(crate) async fn until_known(provider: &mut Kubernetes) -> Vec<Instance> {
    let begin = tokio::time::Instant::now();
    loop {
        match provider.observe().await {
            Ok(known) => return known,
            Err(error) => assert!(begin.elapsed() < SOON, "waited in vain for the workers: {error}"),
        }
        let _ = tokio::time::timeout(Duration::from_millis(500), provider.changed()).await;
    }
}

/// Waits until they are not.
pub(crate) async fn until_trouble(provider: &mut Kubernetes) -> framewake_functions::Error {
    let begin = tokio::time::Instant::now();
    loop {
        match provider.observe().await {
            Ok(known) => assert!(begin.elapsed() < SOON, "waited in vain for trouble: {known:?}"),
            Err(error) => return error,
        }
        let _ = tokio::time::timeout(Duration::from_millis(500), provider.changed()).await;
    }
}

/// Waits until it says that it waits for this.
pub(crate) async fn waits_for(provider: &mut Kubernetes, worker: &WorkerId, words: &[&str]) {
    let told = |state: &InstanceState| matches!(state, InstanceState::Waiting { reason } if words.iter().all(|word| reason.contains(word)));
    until_state(provider, worker, told).await;
}

/// Waits until it was taken away, for this reason.
pub(crate) async fn taken_away(provider: &mut Kubernetes, worker: &WorkerId, words: &str) {
    let told = |state: &InstanceState| matches!(state, InstanceState::Ended(End::TakenAway { reason }) if reason.contains(words));
    until_state(provider, worker, told).await;
}

/// Waits until Job and pod of the worker are gone.
pub(crate) async fn gone(ground: &Ground, worker: &WorkerId) {
    let of_worker = ListParams::default().labels(&format!("framewake/worker={worker}"));
    until(SOON, "the Job and its pod are gone", || async {
        let jobs = ground.api::<Job>().list(&of_worker).await.ok()?;
        let pods = ground.api::<Pod>().list(&of_worker).await.ok()?;
        (jobs.items.is_empty() && pods.items.is_empty()).then_some(())
    })
    .await;
}
