//! KEDA's side of the service, by a client of its own, against a real engine.

use super::messages::external_scaler_client::ExternalScalerClient;
use super::messages::{GetMetricsRequest, ScaledObjectRef};
use super::{listen, serve};
use crate::engine::{Engine, Handle, Health, Submission};
use crate::function_table::Accepted;
use crate::metrics::Metrics;
use crate::store::Store;
use framewake_core::values::Settings;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::JobId;
use framewake_proto::job::JobSpec;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

struct Farm {
    handle: Handle,
    client: ExternalScalerClient<Channel>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

/// A scheduler that can start nobody.
async fn farm() -> Farm {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path()).await.expect("a new store");
    let (_, health) = watch::channel(Health::default());
    let (engine, handle, _commands) =
        Engine::load(store, Settings::default(), health, Arc::new(Metrics::default())).await.expect("an empty farm");
    tokio::spawn(engine.run());
    handle.add_function(paint(json!({}))).await.expect("a good function");
    let address = "127.0.0.1:0".parse().expect("an address");
    let listener = listen(Some(address)).await.expect("a free port").expect("an address was given");
    let url = format!("http://{}", listener.local_addr().expect("it listens"));
    let stop = CancellationToken::new();
    tokio::spawn(serve(Some(listener), handle.clone(), stop.clone()));
    let channel = Channel::from_shared(url).expect("an address").connect().await.expect("it answers");
    let client = ExternalScalerClient::new(channel);
    Farm { handle, client, stop, _folder: folder }
}

fn paint(resources: Value) -> FunctionSpec {
    serde_json::from_value(json!({
        "name": "paint", "image": "registry.example/paint:1", "resources": resources, "scaling": { "max": 5 },
        "driver": { "kind": "command", "command": ["paint", "{output}"] },
    }))
    .expect("a function")
}

fn asked(function: &str) -> ScaledObjectRef {
    ScaledObjectRef {
        name: "paint".to_owned(),
        namespace: "render".to_owned(),
        scaler_metadata: [("function".to_owned(), function.to_owned())].into(),
    }
}

async fn submit(handle: &Handle, frames: &str) -> JobId {
    let spec: JobSpec = serde_json::from_value(json!({
        "name": "walls",
        "steps": [{ "name": "paint", "function": "paint", "frames": frames, "output": "{frame}.png" }],
    }))
    .expect("a job");
    let job = spec.check(&Accepted(&handle.functions())).expect("a good job");
    let id = JobId(ulid::Ulid::generate());
    handle.submit(Submission { id, spec, job, idempotency: None, parent: None }).await.expect("taken");
    id
}

async fn value(client: &mut ExternalScalerClient<Channel>) -> (i64, f64) {
    let request =
        GetMetricsRequest { scaled_object_ref: Some(asked("paint")), metric_name: "framewake-paint-1".to_owned() };
    let values = client.get_metrics(request).await.expect("answered").into_inner().metric_values;
    assert_eq!(values.len(), 1);
    assert_eq!(values[0].metric_name, "framewake-paint-1");
    (values[0].metric_value, values[0].metric_value_float)
}

async fn next(stream: &mut Streaming<super::messages::IsActiveResponse>) -> Option<bool> {
    let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("it is pushed");
    next.expect("a message").map(|message| message.result)
}

#[tokio::test]
async fn keda_is_told_how_many_are_needed_and_when_that_begins_and_ends() {
    let mut farm = farm().await;
    let specs = farm.client.get_metric_spec(asked("paint@1")).await.expect("answered").into_inner().metric_specs;
    assert_eq!(
        (specs[0].metric_name.as_str(), specs[0].target_size, specs[0].target_size_float),
        ("framewake-paint-1", 1, 1.0)
    );
    assert_eq!(value(&mut farm.client).await, (0, 0.0));
    assert!(!farm.client.is_active(asked("paint")).await.expect("answered").into_inner().result);
    let mut pushed = farm.client.stream_is_active(asked("paint")).await.expect("answered").into_inner();
    assert_eq!(next(&mut pushed).await, Some(false), "how it is, at once");

    let few = submit(&farm.handle, "1-3").await;
    assert_eq!(next(&mut pushed).await, Some(true));
    assert_eq!(
        value(&mut farm.client).await,
        (3, 3.0),
        "exactly as many as there is work for, though none can be started here"
    );
    let many = submit(&farm.handle, "1-100").await;
    assert_eq!(value(&mut farm.client).await, (5, 5.0), "and at most as many as the function may have");
    for id in [few, many] {
        farm.handle.change_job(id, crate::engine::JobCommand::Cancel).await.expect("canceled");
    }
    assert_eq!(next(&mut pushed).await, Some(false));
    assert_eq!(value(&mut farm.client).await, (0, 0.0));
    farm.stop.cancel();
    assert_eq!(next(&mut pushed).await, None, "a scheduler that stops ends its streams");
}

#[tokio::test]
async fn what_can_not_be_answered_is_refused_and_never_0() {
    let mut farm = farm().await;
    for (function, code, said) in
        [("pain", Code::NotFound, "`paint`"), ("paint@7", Code::NotFound, "paint@7"), ("", Code::NotFound, "")]
    {
        let request = GetMetricsRequest { scaled_object_ref: Some(asked(function)), metric_name: String::new() };
        let refused = farm.client.get_metrics(request).await.expect_err("refused");
        assert_eq!(refused.code(), code);
        assert!(refused.message().contains(said), "{}", refused.message());
        assert_eq!(farm.client.is_active(asked(function)).await.expect_err("refused").code(), code);
    }
    let nameless = ScaledObjectRef::default();
    assert_eq!(farm.client.stream_is_active(nameless).await.expect_err("refused").code(), Code::InvalidArgument);
}
