//! Where the objects of a cluster are: here, or at an API server elsewhere, with controllers and a scheduler of its own.

use super::GPU;
use super::objects::{Key, Objects, Refusal};
use crate::wait::until;
use framewake_functions::kubernetes::{Access, rights};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request, Response, Uri};
use kube::client::Body;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Who calls of the programs under test are made as: somebody with the Role of the chart, and no other right.
const USER: &str = "framewake-tests";
/// Of nodes that are played: their label, whose value is the test's, so that pods of one test find the nodes of that test.
const LABEL: &str = "framewake-tests";
/// How long an API server may take to be made ready.
const READY_MAX: Duration = Duration::from_mins(1);

pub(crate) enum World {
    Own {
        objects: Mutex<Objects>,
        changed: watch::Sender<u64>,
    },
    Elsewhere {
        /// As an administrator; of the thread that this is the way to.
        admin: kube::Client,
        thread: Handle,
        /// Calls of the programs under test go through this one.
        passing: kube::Client,
        /// Value of [`LABEL`].
        nodes: String,
    },
}

impl World {
    pub(super) fn own() -> World {
        World::Own { objects: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// The API server that this kubeconfig leads to, with nodes of so many GPUs each that nobody else uses.
    pub(super) async fn elsewhere(kubeconfig: &Path, namespace: &str, nodes: &[u64]) -> World {
        let client = async || {
            let access = Access::new(&[kubeconfig.to_owned()]).await;
            access.expect("FRAMEWAKE_TEST_KUBECONFIG names a kubeconfig").client()
        };
        let name = format!("n{:08x}", fastrand::u32(..));
        let world = World::Elsewhere {
            admin: client().await,
            thread: Handle::current(),
            passing: client().await,
            nodes: name.clone(),
        };
        world.clear(namespace).await;
        world.furnish(namespace).await;
        for (at, gpus) in nodes.iter().enumerate() {
            world.make_node(&format!("{name}-{at}"), &name, *gpus).await;
        }
        world
    }

    /// What pods of this cluster must ask for in a node.
    pub(super) fn node_selector(&self) -> Value {
        match self {
            World::Own { .. } => json!({}),
            World::Elsewhere { nodes, .. } => json!({ LABEL: nodes }),
        }
    }

    /// Whether the kubelet of this node is ours to play.
    pub(super) fn is_played(&self, node: &str) -> bool {
        match self {
            World::Own { .. } => true,
            World::Elsewhere { nodes, .. } => node.starts_with(nodes),
        }
    }

    /// Counts the changes of objects that are here.
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        match self {
            World::Own { changed, .. } => changed.subscribe(),
            World::Elsewhere { .. } => watch::channel(0).1,
        }
    }

    /// Acts on objects that are here.
    pub(super) fn change<T>(&self, act: impl FnOnce(&mut Objects) -> T) -> Option<T> {
        let World::Own { objects, changed } = self else { return None };
        let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
        let before = objects.version();
        let result = act(&mut objects);
        let after = objects.version();
        drop(objects);
        if before != after {
            changed.send_replace(after);
        }
        Some(result)
    }

    /// Those with these labels; in any namespace, if none is named.
    pub(super) async fn list(&self, resource: &str, namespace: &str, labels: &str) -> Vec<Value> {
        if let Some(listed) = self.change(|objects| objects.list(resource, namespace, labels, "")) {
            return listed;
        }
        let path = format!("{}?labelSelector={}", path(resource, namespace), labels.replace('=', "%3D"));
        let answer = self.ask(Method::GET, &path, None).await;
        let answer = answer.unwrap_or_else(|refusal| panic!("no list of {resource}: {}", refusal.message));
        answer["items"].as_array().cloned().unwrap_or_default()
    }

    pub(super) async fn create(&self, resource: &str, namespace: &str, object: Value) -> Result<Value, Refusal> {
        if matches!(self, World::Elsewhere { .. }) {
            return self.ask(Method::POST, &path(resource, namespace), Some(object)).await;
        }
        self.change(|objects| objects.create(resource, namespace, object)).expect("they are here")
    }

    /// Changes an object as it is now, whatever others do to it meanwhile; whether it is there.
    pub(super) async fn modify(&self, key: &Key, change: impl Fn(&mut Value)) -> bool {
        if let Some(there) = self.change(|objects| objects.modify(key, &change)) {
            return there;
        }
        let path = format!("{}/{}", path(&key.0, &key.1), key.2);
        let changed = async || {
            let Ok(old) = self.ask(Method::GET, &path, None).await else { return Some(false) };
            let mut new = old.clone();
            change(&mut new);
            // What it is and how it is are changed by different calls.
            let status = old["status"] != new["status"];
            let at = if status { format!("{path}/status") } else { path.clone() };
            match self.ask(Method::PUT, &at, Some(new)).await {
                Ok(_) => Some(true),
                // Somebody was faster: once more, from what it is now.
                Err(refusal) if refusal.code == 409 => None,
                Err(refusal) if refusal.code == 404 => Some(false),
                Err(refusal) => panic!("{} is not changed: {}", key.2, refusal.message),
            }
        };
        until(READY_MAX, &format!("{} is changed", key.2), changed).await
    }

    /// At once, without the grace of a pod.
    pub(super) async fn delete(&self, key: &Key) -> Result<Value, Refusal> {
        if let Some(deleted) = self.change(|objects| objects.delete(key)) {
            return deleted;
        }
        let options = json!({ "gracePeriodSeconds": 0, "propagationPolicy": "Background" });
        self.ask(Method::DELETE, &format!("{}/{}", path(&key.0, &key.1), key.2), Some(options)).await
    }

    /// A call of a program under test, to the API server elsewhere.
    pub(super) async fn pass_on(
        &self,
        (method, uri, headers): (Method, Uri, HeaderMap),
        body: Bytes,
    ) -> Option<Result<Response<Body>, kube::Error>> {
        let World::Elsewhere { passing, .. } = self else { return None };
        let to = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let mut request = Request::builder().method(method).uri(to).header("impersonate-user", USER);
        for name in ["accept", "content-type"] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value);
            }
        }
        Some(passing.send(request.body(Body::from(body.to_vec())).expect("as it came")).await)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Refusal> {
        let World::Elsewhere { admin, thread, .. } = self else { unreachable!("asked of one elsewhere") };
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let (admin, request) = (admin.clone(), request.body(body).expect("a good path"));
        // Connections belong to the thread that made them, and a test's own may be waiting for this very answer.
        let answer = thread.spawn(async move { admin.request::<Value>(request).await });
        match answer.await.expect("nobody stops it") {
            Ok(answer) => Ok(answer),
            Err(kube::Error::Api(status)) => {
                Err(Refusal { code: status.code, reason: "Refused", message: status.message })
            }
            Err(error) => Err(Refusal::new(503, "ServiceUnavailable", error.to_string())),
        }
    }

    /// What an earlier test left goes.
    async fn clear(&self, namespace: &str) {
        for (resource, namespace, labels) in [
            ("nodes", "", LABEL),
            ("jobs.batch", namespace, ""),
            ("pods", namespace, ""),
            ("resourcequotas", namespace, ""),
            ("leases.coordination.k8s.io", namespace, ""),
        ] {
            until(READY_MAX, &format!("{resource} of earlier tests are gone"), || async {
                let left = self.list(resource, namespace, labels).await;
                for object in &left {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                    let _ = self.delete(&(resource.to_owned(), namespace.to_owned(), name)).await;
                }
                left.is_empty().then_some(())
            })
            .await;
        }
    }

    /// A namespace, the rights of the chart for [`USER`], and a rule that refuses pods of the image `denied`.
    async fn furnish(&self, namespace: &str) {
        let rules = rights::WORKERS
            .iter()
            .chain(rights::LEASE)
            .map(|right| json!({ "apiGroups": [right.group], "resources": [right.resource], "verbs": right.verbs }));
        let role = json!({ "metadata": { "name": USER }, "rules": rules.collect::<Vec<_>>() });
        let binding = json!({
            "metadata": { "name": USER },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": USER },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER }],
        });
        let rule = json!({
            "metadata": { "name": USER },
            "spec": {
                "matchConstraints": { "resourceRules": [
                    { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] },
                ] },
                "validations": [{ "expression": "object.spec.containers.all(c, c.image != 'denied')", "message": "not this image" }],
            },
        });
        let bound =
            json!({ "metadata": { "name": USER }, "spec": { "policyName": USER, "validationActions": ["Deny"] } });
        for (resource, at, object) in [
            ("namespaces", "", json!({ "metadata": { "name": namespace } })),
            ("roles.rbac.authorization.k8s.io", namespace, role),
            ("rolebindings.rbac.authorization.k8s.io", namespace, binding),
            ("validatingadmissionpolicies.admissionregistration.k8s.io", "", rule),
            ("validatingadmissionpolicybindings.admissionregistration.k8s.io", "", bound),
        ] {
            match self.create(resource, at, object).await {
                Err(refusal) if refusal.code != 409 => panic!("{resource} are not made: {}", refusal.message),
                _ => {}
            }
        }
        until(READY_MAX, "the namespace has a service account, and the Role counts", || async {
            let account = format!("{}/default", path("serviceaccounts", namespace));
            self.ask(Method::GET, &account, None).await.ok()?;
            let jobs: Uri = path("jobs.batch", namespace).parse().expect("a good path");
            let listed = self.pass_on((Method::GET, jobs, HeaderMap::new()), Bytes::new()).await?;
            listed.ok().filter(|answer| answer.status().is_success()).map(drop)
        })
        .await;
    }

    async fn make_node(&self, name: &str, label: &str, gpus: u64) {
        let node = json!({ "metadata": { "name": name, "labels": { LABEL: label } } });
        self.create("nodes", "", node).await.unwrap_or_else(|refusal| panic!("no node: {}", refusal.message));
        let key = ("nodes".to_owned(), String::new(), name.to_owned());
        let room =
            json!({ "cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "250", GPU: gpus.to_string() });
        let ready = json!([{ "type": "Ready", "status": "True", "reason": "Played", "message": "by a test" }]);
        self.modify(&key, |node| {
            node["status"] = json!({ "capacity": room, "allocatable": room, "conditions": ready });
        })
        .await;
        // New nodes are kept free until somebody finds them ready.
        self.modify(&key, |node| node["spec"]["taints"] = json!([])).await;
    }
}

/// `/apis/batch/v1/namespaces/render/jobs` of `jobs.batch`.
fn path(resource: &str, namespace: &str) -> String {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let base = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
    if namespace.is_empty() { format!("{base}/{plural}") } else { format!("{base}/namespaces/{namespace}/{plural}") }
}
