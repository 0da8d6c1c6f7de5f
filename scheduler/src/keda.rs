//! Tells KEDA how many workers a function needs, for those who have KEDA start them: its external scaler, over gRPC.
//!
//! KEDA is told the number itself, not the length of a queue: one task may take an hour, and a hundred a second. A
//! question that can't be answered is refused, never answered with 0, which would end the start of workers, and never with
//! much, which would start too many.

#[cfg(test)]
pub(crate) mod tests;

use crate::engine::{Handle, Refused};
use crate::rest::{self, App, Speech};
use anyhow::Context as _;
use framewake_proto::ids::{FunctionKey, FunctionRef, nearest};
use futures::stream::BoxStream;
use messages::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use messages::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tracing::info;

/// KEDA's messages.
#[allow(clippy::pedantic, unreachable_pub, missing_debug_implementations)] // Generated.
pub(crate) mod messages {
    tonic::include_proto!("externalscaler");
}

/// Longest time for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Streams in all: as many as there may sensibly be functions scaled by KEDA.
const STREAMS_MAX: usize = 256;
/// How soon KEDA is told that a function has work, or has none any more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Key of a trigger's `metadata`: `blender`, or `blender@3`.
const FUNCTION: &str = "function";

/// The address for KEDA, where there is one.
pub(crate) async fn listen(address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    listener.map(Some).with_context(|| format!("cannot listen on {address}: choose another address with --keda-listen"))
}

/// Answers KEDA, if it is to be answered, until `stop`.
pub(crate) async fn serve(listener: Option<TcpListener>, app: Arc<App>, stop: CancellationToken) -> io::Result<()> {
    let Some(listener) = listener else {
        stop.cancelled().await;
        return Ok(());
    };
    info!("KEDA is answered on {}://{}", app.scheme(), listener.local_addr()?);
    let handle = app.handle.clone();
    let scaler = Scaler { handle, streams: Arc::new(Semaphore::new(STREAMS_MAX)), stop: stop.clone() };
    let router = Routes::new(ExternalScalerServer::new(scaler)).prepare().into_axum_router();
    rest::serve_router(listener, app, router, Speech::Grpc, stop).await
}

#[derive(Debug)]
struct Scaler {
    handle: Handle,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = BoxStream<'static, Result<IsActiveResponse, Status>>;

    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let key = function(&self.handle, &request.into_inner())?;
        let result = needed(&self.handle, &key).await? > 0;
        Ok(Response::new(IsActiveResponse { result }))
    }

    /// At once how it is, and then whenever it changes.
    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let asked = request.into_inner();
        function(&self.handle, &asked)?;
        let room = self.streams.clone().try_acquire_owned();
        let permit = room.map_err(|_| Status::resource_exhausted(format!("{STREAMS_MAX} streams are open already")))?;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watch =
            Watch { handle: self.handle.clone(), asked, stop: self.stop.clone(), look, last: None, _permit: permit };
        let changes = futures::stream::unfold(Some(watch), async |watch| watch?.next().await);
        Ok(Response::new(Box::pin(changes)))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let key = function(&self.handle, &request.into_inner())?;
        // One worker for each one that is needed.
        let spec = MetricSpec { metric_name: metric(&key), target_size: 1, target_size_float: 1.0 };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let asked = request.into_inner().scaled_object_ref.unwrap_or_default();
        let key = function(&self.handle, &asked)?;
        let needed = needed(&self.handle, &key).await?;
        let metric_name = metric(&key);
        let value = MetricValue { metric_name, metric_value: needed.into(), metric_value_float: f64::from(needed) };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }
}

/// A function that is watched.
struct Watch {
    handle: Handle,
    asked: ScaledObjectRef,
    stop: CancellationToken,
    look: tokio::time::Interval,
    last: Option<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    async fn next(mut self) -> Option<(Result<IsActiveResponse, Status>, Option<Watch>)> {
        loop {
            tokio::select! {
                _ = self.look.tick() => {}
                () = self.stop.cancelled() => return None,
            }
            // Without a version it is the newest of now.
            let active = async { Ok(needed(&self.handle, &function(&self.handle, &self.asked)?).await? > 0) };
            match active.await {
                Err(status) => return Some((Err(status), None)),
                Ok(active) if self.last == Some(active) => {}
                Ok(active) => {
                    self.last = Some(active);
                    return Some((Ok(IsActiveResponse { result: active }), Some(self)));
                }
            }
        }
    }
}

/// The version that a trigger means.
fn function(handle: &Handle, asked: &ScaledObjectRef) -> Result<FunctionKey, Status> {
    let Some(text) = asked.scaler_metadata.get(FUNCTION) else {
        return Err(Status::invalid_argument(format!(
            "the trigger's metadata has no `{FUNCTION}`: name one, as `blender`"
        )));
    };
    let shown: String = text.chars().take(64).collect();
    let functions = handle.functions();
    let found = text.parse::<FunctionRef>().ok().and_then(|wanted| {
        let (version, _) = functions.find(&wanted)?;
        Some(FunctionKey { name: wanted.name, version })
    });
    found.ok_or_else(|| {
        let known = functions.functions.keys().map(framewake_proto::ids::Name::as_str);
        let hint = nearest(&shown, known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Status::not_found(format!("there is no function `{shown}`{hint}"))
    })
}

async fn needed(handle: &Handle, key: &FunctionKey) -> Result<u32, Status> {
    let scaling = tokio::time::timeout(ANSWER_MAX, handle.scaling()).await;
    let scaling = scaling.map_err(|_| Status::deadline_exceeded("the scheduler did not get to it in time"))?;
    let scaling = scaling.map_err(|error: Refused| Status::unavailable(error.to_string()))?;
    let found = scaling.into_iter().find(|(other, _)| other == key);
    found.map(|(_, view)| view.needed).ok_or_else(|| Status::not_found(format!("there is no function `{key}`")))
}

/// Letters, digits and dashes, as names of metrics must be.
fn metric(key: &FunctionKey) -> String {
    format!("framewake-{}-{}", key.name, key.version)
}
