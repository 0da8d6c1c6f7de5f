//! Events as they happen, over one connection (server-sent events): first what the store kept, then live, without gap
//! or repeat.

use super::App;
use super::door;
use super::jobs;
use super::openapi::Problems;
use super::problem::{Answer, Code, Refusal};
use super::query::{Query, invalid};
use super::shares::{Class, Pass, Peer};
use crate::access::Caller;
use crate::store::read::JobKey;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use framewake_proto::api::{EventView, Happening};
use framewake_proto::ids::{JobId, Name};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tracing::warn;

/// Most kept events that one may begin with.
const LAST_MAX: u64 = 1000;
/// A sign of life this often: clients take a minute of silence for a lost connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Follow the events of a job
///
/// Server-sent events; `id` is the event's number. Ends when the job is over and all of its events are sent.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "events",
    params(
        ("id" = JobId, Path),
        ("last-event-id" = Option<u64>, Header, description = "Go on after this event; without it, from the first"),
        ("after" = Option<u64>, Query, description = "The same, for clients that can't set the header"),
    ),
    responses((status = 200, description = "Events; `data` is one of these", content_type = "text/event-stream", body = EventView), Problems))]
pub(super) async fn of_job(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    peer: Peer,
    headers: HeaderMap,
    query: Query,
) -> Answer<Response> {
    let query = query.only(&["after"])?;
    let job = jobs::key(&app, &id).await?;
    let after = last_seen(&headers, &query)?;
    check_accept(&headers)?;
    // The door has seen that the job is the caller's.
    follow(app, Some(job), None, peer, after.map_or(Beginning::Now, Beginning::After)).await
}

/// Follow the events of all jobs
///
/// As for one job, but from now on when nothing else is asked for, and without end.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(
        ("last-event-id" = Option<u64>, Header, description = "Go on after this event; without it, from now on"),
        ("after" = Option<u64>, Query, description = "The same, for clients that can't set the header"),
        ("last" = Option<u64>, Query, description = "Begin with so many that were kept, 1 to 1000, where no event is named"),
    ),
    responses((status = 200, description = "Events; `data` is one of these", content_type = "text/event-stream", body = EventView), Problems))]
pub(super) async fn of_all(
    State(app): State<Arc<App>>,
    caller: Caller,
    peer: Peer,
    headers: HeaderMap,
    query: Query,
) -> Answer<Response> {
    let query = query.only(&["after", "last"])?;
    let from = match (last_seen(&headers, &query)?, query.parsed("last", "a whole number")?) {
        (Some(after), _) => Beginning::After(after),
        (None, None) => Beginning::Now,
        (None, Some(last)) if (1..=LAST_MAX).contains(&last) => Beginning::Last(last),
        (None, Some(last)) => return Err(invalid(format!("`last` must be 1 to {LAST_MAX}, not {last}"))),
    };
    check_accept(&headers)?;
    follow(app, None, caller.project, peer, from).await
}

fn last_seen(headers: &HeaderMap, query: &Query) -> Answer<Option<u64>> {
    let Some(value) = headers.get("last-event-id") else { return query.parsed("after", "the number of an event") };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.map(Some).ok_or_else(|| invalid("`Last-Event-ID` must be the number of an event"))
}

fn check_accept(headers: &HeaderMap) -> Answer<()> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    if ["*/*", "text/*", "text/event-stream"].iter().any(|kind| accept.contains(kind)) {
        return Ok(());
    }
    Err(Refusal::new(Code::NotAcceptable, "events come as `text/event-stream` only"))
}

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// With a job's first event; of all jobs, from now on.
    Now,
    After(u64),
    /// So many before now.
    Last(u64),
}

async fn follow(
    app: Arc<App>,
    job: Option<JobKey>,
    only: Option<Name>,
    peer: Peer,
    from: Beginning,
) -> Answer<Response> {
    let permit = stream_permit(&app, peer)?;
    // Before the first look at the store, so that no event falls between the two.
    let live = app.handle.events();
    let (oldest, newest) = app.reader.event_span().await?;
    let mut ready = VecDeque::new();
    let after = match from {
        // A client of a farm that was made anew: its number means nothing here.
        Beginning::After(after) if after > newest => {
            ready.push_back(Event::default().comment(format!("there is no event {after} yet: going on from {newest}")));
            newest
        }
        Beginning::After(after) => after,
        Beginning::Last(count) => newest.saturating_sub(count),
        Beginning::Now if job.is_some() => 0,
        Beginning::Now => newest,
    };
    if matches!(from, Beginning::After(1..)) && after + 1 < oldest {
        ready.push_back(Event::default().comment(format!("events before {oldest} are not kept any more")));
    }
    let follower = Follower { app, job, only, after, live, ready, phase: Phase::Stored, _permit: permit };
    let events = futures::stream::unfold(follower, async |mut follower| {
        follower.next().await.map(|event| (Ok::<_, Infallible>(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// The right to one more stream, counted while it is held.
#[derive(Debug)]
pub(crate) struct StreamPermit {
    _pass: Pass,
    open: prometheus::IntGauge,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.open.dec();
    }
}

pub(crate) fn stream_permit(app: &App, peer: Peer) -> Answer<StreamPermit> {
    let pass = app.shares.enter(Class::Stream, peer)?;
    let open = app.metrics.parts.event_streams.clone();
    open.inc();
    Ok(StreamPermit { _pass: pass, open })
}

struct Follower {
    app: Arc<App>,
    job: Option<JobKey>,
    /// Events of this project alone.
    only: Option<Name>,
    /// The last event that was sent or passed over.
    after: u64,
    live: broadcast::Receiver<Arc<EventView>>,
    ready: VecDeque<Event>,
    phase: Phase,
    _permit: StreamPermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Reading what the store kept.
    Stored,
    Live,
    Over,
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.phase {
                Phase::Stored => self.read_stored().await,
                Phase::Live => self.hear().await,
                Phase::Over => return None,
            }
        }
    }

    async fn read_stored(&mut self) {
        match self.app.feeds.page(&self.app, self.job.as_ref(), self.after).await {
            Ok(page) if page.events.is_empty() && page.over => self.end("the job is over"),
            Ok(page) if page.events.is_empty() => self.phase = Phase::Live,
            Ok(page) => {
                for event in page.events.iter() {
                    self.after = event.seq;
                    self.send(&event.view).await;
                }
            }
            Err(error) => {
                warn!("a stream of events ends: {}", framewake_proto::chain::Chain(&error));
                self.end("the store can't be read: connect again");
            }
        }
    }

    async fn hear(&mut self) {
        let closing = self.app.closing.clone();
        let heard = tokio::select! {
            heard = self.live.recv() => heard,
            () = closing.cancelled() => return self.end("the scheduler stops: connect again"),
        };
        match heard {
            Ok(event) => {
                let wanted = self.job.as_ref().is_none_or(|job| job.id == event.job);
                let new = event.seq.is_none_or(|seq| seq > self.after);
                if !new {
                    return;
                }
                self.after = event.seq.unwrap_or(self.after);
                if wanted {
                    self.send(&event).await;
                    let over = matches!(event.what, Happening::JobState { state } if state.is_over());
                    if over && self.job.is_some() {
                        // What else happened in that moment is in the store.
                        self.phase = Phase::Stored;
                    }
                }
            }
            // A slow reader costs nobody anything: what it missed is in the store.
            Err(RecvError::Lagged(_)) => self.phase = Phase::Stored,
            Err(RecvError::Closed) => self.end("the scheduler stops: connect again"),
        }
    }

    async fn send(&mut self, view: &EventView) {
        // What can't be looked up is not shown.
        if let Some(only) = &self.only
            && !door::is_of(&self.app, view.job, only).await.unwrap_or(false)
        {
            return;
        }
        let event = Event::default().event(name_of(&view.what));
        let event = match view.seq {
            Some(seq) => event.id(seq.to_string()),
            None => event,
        };
        let data = serde_json::to_string(view).expect("an event is JSON");
        self.ready.push_back(event.data(data));
    }

    fn end(&mut self, why: &str) {
        self.ready.push_back(Event::default().comment(why));
        self.phase = Phase::Over;
    }
}

fn name_of(what: &Happening) -> &'static str {
    match what {
        Happening::JobState { .. } => "job_state",
        Happening::StepState { .. } => "step_state",
        Happening::AttemptStarted { .. } => "attempt_started",
        Happening::TasksDone { .. } => "tasks_done",
        Happening::TaskFailed { .. } => "task_failed",
        Happening::AttemptEnded { .. } => "attempt_ended",
        Happening::RunLate { .. } => "run_late",
        Happening::Progress { .. } => "progress",
    }
}
