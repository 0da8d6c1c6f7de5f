//! The log of an attempt: from the store once the attempt is over, before that from NATS, as it is written.

use super::App;
use super::border::store_away;
use super::events::{StreamPermit, stream_permit};
use super::jobs;
use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::query::{Query, clip};
use super::shares::Peer;
use crate::queue::Live;
use crate::store::read::JobKey;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use framewake_proto::api::{AttemptOutcome, AttemptView};
use framewake_proto::ids::{AttemptId, JobId};
use framewake_proto::objects::log_key;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::GetResult;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// How often a follower looks whether the attempt goes on.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for a log that is on its way from NATS to the store.
const MOVE_MAX: Duration = Duration::from_secs(10);
/// Longest wait for a piece that NATS said it has.
const PIECE_MAX: Duration = Duration::from_secs(5);

/// Get the log of an attempt
///
/// Plain text, as the renderer wrote it. With `follow`, what comes is sent until the attempt ends.
#[utoipa::path(get, path = "/v1/jobs/{id}/attempts/{attempt}/log", tag = "attempts",
    params(
        ("id" = JobId, Path),
        ("attempt" = String, Path, description = "`17.2`"),
        ("follow" = Option<bool>, Query, description = "Go on until the attempt ends"),
    ),
    responses((status = 200, description = "The log", body = String, content_type = "text/plain"), Problems))]
pub(super) async fn log(
    State(app): State<Arc<App>>,
    Path((id, attempt)): Path<(String, String)>,
    peer: Peer,
    query: Query,
) -> Answer<Response> {
    let query = query.only(&["follow"])?;
    let follow = query.parsed("follow", "`true` or `false`")?.unwrap_or(false);
    let job = jobs::key(&app, &id).await?;
    let none = || Refusal::not_found(format!("job {} has no attempt `{}`", job.id, clip(&attempt)));
    let number: AttemptId = attempt.parse().map_err(|_| none())?;
    app.reader.attempt(&job, number).await?.ok_or_else(none)?;
    let permit = stream_permit(&app, peer)?;
    let Some(log) = AttemptLog::open(&app, &job, number, follow).await? else { return Ok(text(Body::empty())) };
    Ok(text(Body::from_stream(log.0.map(move |piece| held(&permit, piece)))))
}

/// What an attempt has said, and if it is followed, what it will say until it ends.
pub(crate) struct AttemptLog(BoxStream<'static, Piece>);

impl AttemptLog {
    /// `None`: it said nothing.
    pub(crate) async fn open(
        app: &Arc<App>,
        job: &JobKey,
        number: AttemptId,
        follow: bool,
    ) -> Answer<Option<AttemptLog>> {
        let Some(view) = app.reader.attempt(job, number).await? else { return Ok(None) };
        if let Some(stored) = stored(app, job, number, &view).await? {
            return Ok(Some(AttemptLog(stored.into_stream())));
        }
        // Nobody counted what a worker had said that was lost, or whose attempt was taken back with its job.
        let may_be_live =
            matches!(view.outcome, AttemptOutcome::Running | AttemptOutcome::Lost | AttemptOutcome::Canceled);
        if !may_be_live && !view.has_log {
            return Ok(None);
        }
        // Of one that is over all is there.
        let follow = follow && view.outcome == AttemptOutcome::Running;
        let away = "the log is not in the store yet, and NATS, which has it, does not answer";
        let Some(queue) = &app.logs else { return Err(Refusal::not_found("the log is not in the store")) };
        let live = queue.live_log(&view.worker, job.id, number, follow).await;
        let live = live.map_err(|error| Refusal::unavailable(away, &error))?;
        if follow {
            let mut look = tokio::time::interval(LOOK_EVERY);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (app, job) = (app.clone(), job.clone());
            let follower = Follower { app, job, number, live, sent_bytes: 0, look, ended: None };
            let pieces = futures::stream::unfold(Some(follower), async |follower| follower?.next().await);
            return Ok(Some(AttemptLog(pieces.boxed())));
        }
        let pieces = futures::stream::unfold(live, async |mut live| {
            let piece = tokio::time::timeout(PIECE_MAX, live.next()).await.ok()??;
            Some((Ok(piece), live))
        });
        Ok(Some(AttemptLog(pieces.boxed())))
    }

    /// Its text, piece by piece, up to where it could not be read.
    pub(crate) fn pieces(self) -> BoxStream<'static, Bytes> {
        self.0.take_while(|piece| std::future::ready(piece.is_ok())).filter_map(async |piece| piece.ok()).boxed()
    }
}

/// The log out of the store. One that is about to arrive there is waited for: on its way it is nowhere whole.
async fn stored(app: &App, job: &JobKey, number: AttemptId, view: &AttemptView) -> Answer<Option<GetResult>> {
    let expected = view.outcome != AttemptOutcome::Running && view.has_log;
    let give_up = Instant::now() + MOVE_MAX;
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let found = app.objects.get(&log_key(job.id, number), None).await.map_err(|error| store_away(&error))?;
        if found.is_some() || !expected || Instant::now() > give_up {
            return Ok(found);
        }
    }
}

fn text(body: Body) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

/// Keeps the permit until the last piece is sent.
fn held<T>(_: &StreamPermit, piece: T) -> T {
    piece
}

struct Follower {
    app: Arc<App>,
    job: JobKey,
    number: AttemptId,
    live: Live,
    sent_bytes: u64,
    look: Interval,
    /// When the attempt was first seen to be over.
    ended: Option<Instant>,
}

type Piece = Result<Bytes, object_store::Error>;

impl Follower {
    async fn next(mut self) -> Option<(Piece, Option<Follower>)> {
        let closing = self.app.closing.clone();
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => return None,
                Some(piece) = self.live.next() => {
                    self.sent_bytes += piece.len() as u64;
                    return Some((Ok(piece), Some(self)));
                }
                _ = self.look.tick() => {}
            }
            let attempt = self.app.reader.attempt(&self.job, self.number).await.ok().flatten()?;
            if attempt.outcome == AttemptOutcome::Running {
                continue;
            }
            let ended = *self.ended.get_or_insert_with(Instant::now);
            if !attempt.has_log {
                return None;
            }
            // The stored log is whole; what NATS had not delivered yet is its rest.
            if let Ok(Some(size)) = self.app.objects.size(&log_key(self.job.id, self.number)).await {
                return self.rest(size).await;
            }
            if ended.elapsed() > MOVE_MAX {
                return None;
            }
        }
    }

    async fn rest(self, size_bytes: u64) -> Option<(Piece, Option<Follower>)> {
        if size_bytes <= self.sent_bytes {
            return None;
        }
        let rest = self.app.objects.get(&log_key(self.job.id, self.number), Some(self.sent_bytes..size_bytes)).await;
        Some((rest.ok()??.bytes().await, None))
    }
}
