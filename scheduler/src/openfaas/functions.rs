//! Functions: listed, deployed, scaled and removed; and what is said of the farm itself.

use super::shapes::{DeleteFunctionRequest, FunctionDeployment, FunctionStatus, ScaleServiceRequest};
use super::{Gateway, bad_request, deploy, not_found, not_offered};
use crate::deployment_table::Deployment;
use crate::engine::Deploy;
use crate::rest::{self, Answer, Code, Query, Refusal};
use crate::store::read::StoredFunction;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use framewake_proto::api::ScalingView;
use framewake_proto::ids::{FunctionKey, Name};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Largest body of a deployment.
const BODY_MAX: usize = 256 * 1024;

type Scaling = BTreeMap<FunctionKey, ScalingView>;

pub(super) async fn list(State(gateway): State<Arc<Gateway>>, query: Query) -> Answer<Json<Vec<FunctionStatus>>> {
    gateway.check_namespace(query.one("namespace")?.unwrap_or_default())?;
    let scaling = gateway.scaling().await?;
    let (deployed, functions) = (gateway.app.handle.deployed(), gateway.app.handle.functions());
    let mut all = Vec::new();
    for name in functions.functions.keys() {
        match deployed.get(name) {
            Some(deployment) => all.push(gateway.status(deployment, &scaling)?),
            None if deployed.was_deployed(name) => {}
            None => all.extend(gateway.status_of_others(name, &scaling).await?),
        }
    }
    Ok(Json(all))
}

pub(super) async fn show(
    State(gateway): State<Arc<Gateway>>,
    Path(text): Path<String>,
    query: Query,
) -> Answer<Json<FunctionStatus>> {
    gateway.check_namespace(query.one("namespace")?.unwrap_or_default())?;
    let name = gateway.name(&text)?;
    let scaling = gateway.scaling().await?;
    let deployed = gateway.app.handle.deployed();
    let status = match deployed.get(&name) {
        Some(deployment) => Some(gateway.status(deployment, &scaling)?),
        None if deployed.was_deployed(&name) => None,
        None => gateway.status_of_others(&name, &scaling).await?,
    };
    status.map(Json).ok_or_else(|| not_found(&text))
}

pub(super) async fn deploy(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, body: Body) -> Answer<StatusCode> {
    gateway.put(&headers, body, Deploy::New).await?;
    Ok(StatusCode::ACCEPTED)
}

/// 200 tells `faas-cli` that it was there before.
pub(super) async fn update(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, body: Body) -> Answer<StatusCode> {
    gateway.put(&headers, body, Deploy::Update).await?;
    Ok(StatusCode::OK)
}

pub(super) async fn remove(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, body: Body) -> Answer<StatusCode> {
    let asked: DeleteFunctionRequest = read(&headers, body).await?;
    if asked.function_name.is_empty() {
        return Err(bad_request("`functionName` is empty"));
    }
    gateway.check_namespace(&asked.namespace)?;
    let name = gateway.name(&asked.function_name)?;
    gateway.app.handle.undeploy(name).await.map_err(|error| rest::refused(&error, None))?;
    Ok(StatusCode::ACCEPTED)
}

/// So many workers stay; with 0 they come with calls alone.
pub(super) async fn scale(
    State(gateway): State<Arc<Gateway>>,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let asked: ScaleServiceRequest = read(&headers, body).await?;
    gateway.check_namespace(&asked.namespace)?;
    let name = gateway.name(&text)?;
    if !asked.service_name.is_empty() && gateway.name(&asked.service_name)? != name {
        return Err(bad_request(format!("`serviceName` is not `{name}`, which the address names")));
    }
    let deployed = gateway.app.handle.deployed();
    let gone = deployed.get(&name).is_none() && deployed.was_deployed(&name);
    let functions = gateway.app.handle.functions();
    let (_, spec) = functions.newest(&name).filter(|_| !gone).ok_or_else(|| not_found(&text))?;
    let max = spec.scaling.max;
    let workers = u32::try_from(asked.replicas).ok().filter(|workers| *workers <= max).ok_or_else(|| {
        bad_request(format!(
            "{} replicas are more than the {max} of `{name}`: its label `com.openfaas.scale.max` says how many there may be",
            asked.replicas
        ))
    })?;
    gateway.app.handle.keep_workers(name, workers).await.map_err(|error| rest::refused(&error, None))?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn info() -> Json<Value> {
    let version = json!({ "sha": "", "release": env!("CARGO_PKG_VERSION") });
    Json(json!({
        "provider": { "provider": "framewake", "version": version, "orchestration": "framewake" },
        "version": version,
        "arch": std::env::consts::ARCH,
    }))
}

pub(super) async fn namespaces(State(gateway): State<Arc<Gateway>>) -> Json<[String; 1]> {
    Json([gateway.namespace.to_string()])
}

pub(super) async fn namespace(
    State(gateway): State<Arc<Gateway>>,
    method: Method,
    Path(name): Path<String>,
) -> Answer<Response> {
    if method != Method::GET {
        return Ok(not_offered("this farm has one namespace: its operator names it with --openfaas-namespace"));
    }
    gateway.check_namespace(&name)?;
    Ok(Json(json!({ "name": gateway.namespace })).into_response())
}

/// There are none.
pub(super) async fn secrets() -> Json<[Value; 0]> {
    Json([])
}

pub(super) async fn no_secrets() -> Response {
    not_offered(
        "workers of this farm get no secrets from here, so none are kept: give what a renderer needs as inputs, or to \
         the pool that its workers run in",
    )
}

async fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Answer<T> {
    let bytes = rest::read_body(headers, body, BODY_MAX).await?;
    serde_json::from_slice(&bytes).map_err(|error| bad_request(format!("the body can't be read: {error}")))
}

impl Gateway {
    async fn scaling(&self) -> Answer<Scaling> {
        let scaling = self.app.handle.scaling().await.map_err(|error| rest::refused(&error, None))?;
        Ok(scaling.into_iter().collect())
    }

    async fn put(&self, headers: &HeaderMap, body: Body, how: Deploy) -> Answer<()> {
        let asked: FunctionDeployment = read(headers, body).await?;
        self.check_namespace(&asked.namespace)?;
        let name: Name = asked.service.parse().map_err(|error| bad_request(format!("`service`: {error}")))?;
        // Before what is wrong with it: clients try an update first, and go by the 404.
        let deployed = self.app.handle.deployed();
        if how == Deploy::Update
            && deployed.get(&name).is_none()
            && (deployed.was_deployed(&name) || self.app.handle.functions().newest(&name).is_none())
        {
            return Err(not_found(name.as_str()));
        }
        let meant = deploy::read(&asked).map_err(bad_request)?;
        let text = serde_json::to_string(&asked).expect("text and numbers");
        let put = self.app.handle.deploy(meant.spec, text, meant.kept, how).await;
        put.map(drop).map_err(|error| rest::refused(&error, None))
    }

    fn status(&self, deployment: &Deployment, scaling: &Scaling) -> Answer<FunctionStatus> {
        let asked = asked(deployment)?;
        let name = &deployment.function.name;
        let (replicas, available_replicas) = replicas(name, scaling);
        Ok(FunctionStatus {
            name: asked.service,
            image: asked.image,
            namespace: self.namespace.to_string(),
            env_process: asked.env_process,
            env_vars: asked.env_vars,
            constraints: asked.constraints,
            labels: asked.labels,
            annotations: asked.annotations,
            limits: asked.limits,
            requests: asked.requests,
            read_only_root_filesystem: asked.read_only_root_filesystem,
            invocation_count: self.calls(name),
            replicas,
            available_replicas,
            created_at: deployment.created_at,
        })
    }

    /// A function that was added as a file: shown, scaled, and not changed from here.
    async fn status_of_others(&self, name: &Name, scaling: &Scaling) -> Answer<Option<FunctionStatus>> {
        let found = self.app.reader.function(name.as_str(), None).await?;
        let status = |StoredFunction { spec, added_at: created_at, .. }| {
            let (replicas, available_replicas) = replicas(name, scaling);
            FunctionStatus {
                name: name.to_string(),
                image: spec.image.unwrap_or_default(),
                namespace: self.namespace.to_string(),
                env_process: String::new(),
                env_vars: BTreeMap::new(),
                constraints: Vec::new(),
                labels: None,
                annotations: None,
                limits: None,
                requests: None,
                read_only_root_filesystem: false,
                invocation_count: 0,
                replicas,
                available_replicas,
                created_at,
            }
        };
        Ok(found.map(status))
    }
}

/// What was sent, read again.
pub(super) fn asked(deployment: &Deployment) -> Answer<FunctionDeployment> {
    serde_json::from_str(&deployment.body).map_err(|error| Refusal::internal(&error))
}

/// Wanted and there, of all versions: older ones finish what they have.
fn replicas(name: &Name, scaling: &Scaling) -> (u64, u64) {
    let first = FunctionKey { name: name.clone(), version: 0 };
    let last = FunctionKey { name: name.clone(), version: u32::MAX };
    let versions = scaling.range(first..=last).map(|(_, view)| view);
    versions.fold((0, 0), |(wanted, there), view| (wanted + u64::from(view.wanted), there + u64::from(view.present)))
}

/// The deployment of this name, for calls.
pub(super) fn deployment(gateway: &Gateway, name: &Name) -> Answer<Arc<Deployment>> {
    let deployed = gateway.app.handle.deployed();
    if let Some(deployment) = deployed.get(name) {
        return Ok(deployment.clone());
    }
    if deployed.was_deployed(name) || gateway.app.handle.functions().newest(name).is_none() {
        return Err(not_found(name.as_str()));
    }
    let said = format!("function `{name}` was added as a function file, and takes jobs, not calls: `framewake submit`");
    Err(Refusal::new(Code::WrongState, said))
}
