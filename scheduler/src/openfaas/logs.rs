//! Logs of a function: those of the calls of these clients, and of nobody else's jobs, oldest first, and with `follow` what is said from now on, without an end. One
//! JSON object a line.

use super::shapes::Message;
use super::{Gateway, bad_request, not_found};
use crate::rest::{self, Answer, AttemptLog, Peer, Query, StreamPermit};
use crate::store::read::{JobFilter, JobKey};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use framewake_proto::api::{AttemptOutcome, AttemptView, EventView, Happening};
use framewake_proto::ids::{AttemptId, JobId, Name};
use framewake_proto::time::Timestamp;
use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt as _};
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior};

/// Jobs that are looked through for logs that were written before.
const JOBS_MAX: u32 = 100;
/// Lines of them that are sent, where fewer are not asked for.
const LINES_MAX: usize = 10_000;
/// Logs that one client follows at once; of the others it hears nothing.
const FOLLOWED_MAX: usize = 64;
/// Attempts that a follower remembers to have heard of.
const SEEN_MAX: usize = 100_000;
/// Past this a line is cut in two.
const LINE_MAX: usize = 16 * 1024;
/// An empty line this often, so that a connection that is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What is asked for.
struct Wanted {
    function: Name,
    instance: String,
    since: Option<Timestamp>,
    lines: usize,
    follow: bool,
}

pub(super) async fn read(State(gateway): State<Arc<Gateway>>, peer: Peer, query: Query) -> Answer<Response> {
    gateway.check_namespace(query.one("namespace")?.unwrap_or_default())?;
    let name = query.one("name")?.unwrap_or_default();
    let function = gateway.name(name)?;
    let deployed = gateway.app.handle.deployed();
    let gone = deployed.get(&function).is_none() && deployed.was_deployed(&function);
    if gone || gateway.app.handle.functions().newest(&function).is_none() {
        return Err(not_found(name));
    }
    let tail: Option<i64> = query.parsed("tail", "a whole number")?;
    let since = query.one("since")?.filter(|text| !text.is_empty());
    let since = since.map(|text| {
        let read = text.parse::<jiff::Timestamp>().map(|at| Timestamp(at.as_millisecond()));
        read.map_err(|_| bad_request("`since` must be a time, as 2026-01-02T03:04:05Z"))
    });
    let wanted = Wanted {
        function,
        instance: query.one("instance")?.unwrap_or_default().to_owned(),
        since: since.transpose()?,
        lines: tail
            .and_then(|tail| usize::try_from(tail).ok())
            .filter(|tail| *tail > 0)
            .map_or(LINES_MAX, |tail| tail.min(LINES_MAX)),
        follow: matches!(query.one("follow")?, Some("true" | "1" | "t")),
    };
    let permit = rest::stream_permit(&gateway.app, peer)?;
    let body = Body::from_stream(lines(gateway, wanted, permit).await?.map(Ok::<_, Infallible>));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn lines(
    gateway: Arc<Gateway>,
    wanted: Wanted,
    permit: StreamPermit,
) -> Answer<impl Stream<Item = Bytes> + Send + 'static> {
    // From before the first look, so that no attempt falls between the two.
    let events = gateway.app.handle.events();
    let mut seen = HashSet::new();
    let mut before: Vec<Bytes> = Vec::new();
    let mut followed: SelectAll<BoxStream<'static, Bytes>> = SelectAll::new();
    for (job, attempt) in attempts(&gateway, &wanted).await? {
        let Ok(number) = attempt.attempt.parse::<AttemptId>() else { continue };
        seen.insert((job.id, number));
        let running = attempt.outcome == AttemptOutcome::Running;
        let Some(log) = AttemptLog::open(&gateway.app, &job, number, wanted.follow && running).await? else { continue };
        let said = messages(&gateway, &wanted, &attempt, log);
        if wanted.follow && running {
            followed.push(said);
        } else {
            before.extend(said.collect::<Vec<_>>().await);
            // The last ones are wanted.
            before.drain(..before.len().saturating_sub(wanted.lines));
        }
    }
    let before = futures::stream::iter(before);
    if !wanted.follow {
        return Ok(before.boxed());
    }
    let mut keep_alive = tokio::time::interval(KEEP_ALIVE);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let follower = Follower { gateway, wanted, events, seen, followed, keep_alive, _permit: permit };
    Ok(before.chain(futures::stream::unfold(follower, async |follower| follower.next().await)).boxed())
}

/// The attempts of the function, those of the last jobs, oldest first.
async fn attempts(gateway: &Gateway, wanted: &Wanted) -> Answer<Vec<(JobKey, AttemptView)>> {
    let reader = &gateway.app.reader;
    let mut filter = JobFilter { project: Some(gateway.namespace.to_string()), ..JobFilter::default() };
    if gateway.app.handle.deployed().get(&wanted.function).is_some() {
        filter.labels = vec![("openfaas-function".to_owned(), wanted.function.to_string())];
    }
    let mut found = Vec::new();
    for job in reader.jobs(&filter, None, JOBS_MAX).await?.items.into_iter().rev() {
        let steps = job.steps.iter().enumerate().filter(|(_, step)| is_of(&step.function, &wanted.function));
        let steps: Vec<usize> = steps.map(|(at, _)| at).collect();
        if steps.is_empty() {
            continue;
        }
        let Some(key) = reader.job_key(job.id).await? else { continue };
        for at in steps {
            let page = reader.attempts(&key, Some(at), false, None, JOBS_MAX).await?;
            let wanted = page.items.into_iter().filter(|attempt| wanted.takes(attempt));
            found.extend(wanted.map(|attempt| (key.clone(), attempt)));
        }
    }
    Ok(found)
}

/// Whether `blender@3` is a version of this function.
fn is_of(key: &str, name: &Name) -> bool {
    key.split_once('@').is_some_and(|(function, _)| function == name.as_str())
}

impl Gateway {
    /// Whether a client of ours asked for the job: other projects render by the same functions.
    async fn is_of_clients(&self, job: JobId) -> bool {
        let project = self.app.reader.project_of(job).await;
        matches!(project, Ok(Some(project)) if project == self.namespace)
    }
}

impl Wanted {
    fn takes(&self, attempt: &AttemptView) -> bool {
        let late_enough = |since| attempt.ended_at.is_none_or(|ended| ended >= since);
        (self.instance.is_empty() || attempt.worker.as_str() == self.instance) && self.since.is_none_or(late_enough)
    }
}

/// A log as messages. When a line was written is told only of those that are followed; of others, when their attempt began.
fn messages(gateway: &Gateway, wanted: &Wanted, attempt: &AttemptView, log: AttemptLog) -> BoxStream<'static, Bytes> {
    let (name, namespace) = (wanted.function.to_string(), gateway.namespace.to_string());
    let (instance, clock) = (attempt.worker.to_string(), gateway.clock);
    let began = (attempt.outcome != AttemptOutcome::Running).then_some(attempt.started_at);
    let mut lines = Lines::default();
    let write = move |line: &str| {
        let timestamp = began.unwrap_or_else(|| clock.now());
        let message = Message { name: &name, namespace: &namespace, instance: &instance, timestamp, text: line };
        let mut text = serde_json::to_vec(&message).expect("text and a time");
        text.push(b'\n');
        Bytes::from(text)
    };
    let pieces = log.pieces().map(Some).chain(futures::stream::iter([None]));
    let texts = pieces.map(move |piece| match piece {
        Some(piece) => lines.take(&piece).iter().map(|line| write(line)).collect::<Vec<_>>(),
        None => lines.rest().iter().map(|line| write(line)).collect(),
    });
    texts.flat_map(futures::stream::iter).boxed()
}

/// Cuts text into lines, however it comes.
#[derive(Debug, Default)]
struct Lines(BytesMut);

impl Lines {
    fn take(&mut self, piece: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(piece);
        let mut lines = Vec::new();
        while let Some(end) =
            self.0.iter().position(|byte| *byte == b'\n').or((self.0.len() > LINE_MAX).then_some(LINE_MAX))
        {
            let line = self.0.split_to(end + 1);
            lines.push(text(&line));
        }
        lines
    }

    fn rest(&mut self) -> Option<String> {
        (!self.0.is_empty()).then(|| text(&self.0.split()))
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end_matches(['\n', '\r']).to_owned()
}

struct Follower {
    gateway: Arc<Gateway>,
    wanted: Wanted,
    events: broadcast::Receiver<Arc<EventView>>,
    seen: HashSet<(JobId, AttemptId)>,
    followed: SelectAll<BoxStream<'static, Bytes>>,
    keep_alive: Interval,
    _permit: StreamPermit,
}

impl Follower {
    async fn next(mut self) -> Option<(Bytes, Follower)> {
        let closing = self.gateway.app.closing().clone();
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => return None,
                Some(line) = self.followed.next() => return Some((line, self)),
                event = self.events.recv() => match event {
                    Ok(event) => self.hear(&event).await,
                    // What it missed began in that moment: it is in the store.
                    Err(RecvError::Lagged(_)) => self.look().await,
                    Err(RecvError::Closed) => return None,
                },
                _ = self.keep_alive.tick() => return Some((Bytes::from_static(b"\n"), self)),
            }
        }
    }

    async fn hear(&mut self, event: &EventView) {
        let Happening::AttemptStarted { step, attempt, .. } = &event.what else { return };
        let Ok(number) = attempt.parse::<AttemptId>() else { return };
        let Ok(Some(job)) = self.gateway.app.reader.job_key(event.job).await else { return };
        let is_ours =
            job.outline.steps.iter().any(|known| known.name == *step && is_of(&known.function, &self.wanted.function));
        if !is_ours || !self.gateway.is_of_clients(event.job).await {
            return;
        }
        let Ok(Some(view)) = self.gateway.app.reader.attempt(&job, number).await else { return };
        self.follow(job, number, view).await;
    }

    async fn look(&mut self) {
        for (job, attempt) in attempts(&self.gateway, &self.wanted).await.unwrap_or_default() {
            if let Ok(number) = attempt.attempt.parse() {
                self.follow(job, number, attempt).await;
            }
        }
    }

    async fn follow(&mut self, job: JobKey, number: AttemptId, attempt: AttemptView) {
        if self.seen.len() >= SEEN_MAX {
            self.seen.clear();
        }
        let room = self.followed.len() < FOLLOWED_MAX;
        if !room || !self.wanted.takes(&attempt) || !self.seen.insert((job.id, number)) {
            return;
        }
        if let Ok(Some(log)) = AttemptLog::open(&self.gateway.app, &job, number, true).await {
            self.followed.push(messages(&self.gateway, &self.wanted, &attempt, log));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come_and_long_ones_are_cut() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"one\ntw"), ["one"]);
        assert_eq!(lines.take(b"o\r\n\nthree"), ["two", ""]);
        assert_eq!(lines.rest().as_deref(), Some("three"));
        assert_eq!(lines.rest(), None);
        let long = "x".repeat(LINE_MAX + 10);
        assert_eq!(lines.take(long.as_bytes()).len(), 1);
        assert_eq!(lines.rest().map(|rest| rest.len()), Some(9));
    }
}
