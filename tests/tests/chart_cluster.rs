//! The Helm chart before a real API server, where `FRAMEWAKE_TEST_KUBECONFIG` leads to one: it takes every object of every preset,
//! as far as it knows the kind. Nothing is made there but the namespaces.

use framewake_functions::kubernetes::Access;
use framewake_tests::chart::{cases, render};
use framewake_tests::kubernetes::kubeconfig_elsewhere;
use hyper::{Method, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An API server as its administrator sees it.
struct Server {
    client: kube::Client,
    /// Plurals by group, version and kind.
    kinds: BTreeMap<(String, String), String>,
}

impl Server {
    async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value, kube::Error> {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.client.request(request.body(body).expect("a good path")).await
    }

    /// What it calls the objects of this kind; `None`: it does not know them.
    async fn plural(&mut self, version: &str, kind: &str) -> Option<String> {
        let base = base(version);
        if !self.kinds.keys().any(|(known, _)| known == version) {
            let found = self.ask(Method::GET, &base, &Value::Null).await.ok()?;
            for resource in found["resources"].as_array().into_iter().flatten() {
                let name = resource["name"].as_str().unwrap_or_default();
                let kind = resource["kind"].as_str().unwrap_or_default();
                if !name.contains('/') {
                    self.kinds.insert((version.to_owned(), kind.to_owned()), name.to_owned());
                }
            }
        }
        self.kinds.get(&(version.to_owned(), kind.to_owned())).cloned()
    }
}

/// Where a group's version lies: `/api/v1`, `/apis/batch/v1`.
fn base(version: &str) -> String {
    if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") }
}

#[tokio::test]
async fn every_object_of_every_preset_is_taken_by_an_api_server() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Some(kubeconfig) = kubeconfig_elsewhere() else {
        eprintln!("SKIPPED: FRAMEWAKE_TEST_KUBECONFIG names no API server");
        return;
    };
    let client = Access::new(&[kubeconfig]).await.expect("a good kubeconfig").client();
    let mut server = Server { client, kinds: BTreeMap::new() };
    // Whether a pod would be let in is asked too: by the restricted standard, which the namespaces enforce.
    for name in ["render", "gpus"] {
        let labels = json!({ "pod-security.kubernetes.io/warn": "restricted" });
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        let _ = server.ask(Method::POST, "/api/v1/namespaces", &namespace).await;
    }
    let (mut taken, mut unknown, mut refused) = (0, BTreeMap::new(), Vec::new());
    for rendered in render(&cases()) {
        for object in &rendered.objects {
            let (version, kind) =
                (object["apiVersion"].as_str().expect("text"), object["kind"].as_str().expect("text"));
            let Some(plural) = server.plural(version, kind).await else {
                *unknown.entry(format!("{version} {kind}")).or_insert(0) += 1;
                continue;
            };
            let namespace = object["metadata"]["namespace"].as_str().expect("text");
            let path = format!("{}/namespaces/{namespace}/{plural}?dryRun=All&fieldValidation=Strict", base(version));
            match server.ask(Method::POST, &path, object).await {
                Ok(_) => taken += 1,
                Err(error) => {
                    refused.push(format!("{}: {kind} {}: {error}", rendered.name, object["metadata"]["name"]));
                }
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert!(taken > 100, "only {taken} objects");
    eprintln!("{taken} objects are taken; not known there: {unknown:?}");
}
