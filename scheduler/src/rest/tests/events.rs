//! Streams of events.

use super::*;
use framewake_proto::api::{EventView, Happening, JobState};
use futures::StreamExt;

/// What a stream of events says, line by line.
struct Lines {
    body: axum::body::BodyDataStream,
    rest: String,
}

async fn open(farm: &Farm, path: &str, after: Option<u64>) -> Lines {
    let mut request = Request::get(path).header("accept", "text/event-stream");
    if let Some(after) = after {
        request = request.header("last-event-id", after.to_string());
    }
    let response =
        farm.router.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Lines { body: response.into_body().into_data_stream(), rest: String::new() }
}

impl Lines {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let line = line.to_owned();
                self.rest = rest.to_owned();
                return Some(line);
            }
            let piece = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("in time")?;
            self.rest.push_str(std::str::from_utf8(&piece.expect("a piece")).expect("text"));
        }
    }

    async fn event(&mut self) -> Option<EventView> {
        loop {
            if let Some(data) = self.next().await?.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).expect("an event"));
            }
        }
    }

    async fn all(mut self) -> Vec<EventView> {
        let mut events = Vec::new();
        let reading = async {
            while let Some(event) = self.event().await {
                events.push(event);
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the stream ends in time");
        events
    }
}

async fn act(farm: &Farm, id: JobId, action: &str) {
    let request = Request::post(format!("/v1/jobs/{id}/{action}")).body(Body::empty()).expect("a request");
    assert_eq!(farm.send(request).await.status, StatusCode::OK);
}

fn numbers(events: &[EventView]) -> Vec<u64> {
    events.iter().filter_map(|event| event.seq).collect()
}

#[tokio::test]
async fn a_stream_goes_from_what_was_kept_to_what_comes_and_ends_with_the_job() {
    let farm = Farm::start().await;
    let id = farm.submit(&job("shot", 10)).await;
    let path = format!("/v1/jobs/{id}/events");
    let mut live = open(&farm, &path, None).await;
    let first = live.event().await.expect("an event");
    assert_eq!(first.what, Happening::JobState { state: JobState::Queued });
    act(&farm, id, "pause").await;
    act(&farm, id, "resume").await;
    act(&farm, id, "cancel").await;
    let mut seen = vec![first];
    seen.extend(live.all().await);
    let last = seen.iter().rev().find_map(|event| match event.what {
        Happening::JobState { state } => Some(state),
        _ => None,
    });
    assert_eq!(last, Some(JobState::Canceled));
    // Whoever comes later sees the same, from wherever they left off.
    let stored = open(&farm, &path, None).await.all().await;
    assert_eq!(seen, stored);
    for (at, event) in stored.iter().enumerate() {
        let rest = open(&farm, &path, event.seq).await.all().await;
        assert_eq!(numbers(&rest), numbers(&stored[at + 1..]));
    }
    assert!(numbers(&stored).is_sorted_by(|a, b| a < b));
}

#[tokio::test]
async fn readers_that_come_and_go_at_any_moment_miss_and_repeat_nothing() {
    let farm = Farm::start().await;
    let id = farm.submit(&job("shot", 10)).await;
    let path = format!("/v1/jobs/{id}/events");
    let changes = async {
        for _ in 0..150 {
            act(&farm, id, "pause").await;
            act(&farm, id, "resume").await;
        }
        act(&farm, id, "cancel").await;
    };
    let reader = async |patience: usize| {
        let mut seen: Vec<EventView> = Vec::new();
        loop {
            let mut stream = open(&farm, &path, seen.last().and_then(|event| event.seq)).await;
            for _ in 0..patience {
                match stream.event().await {
                    Some(event) => seen.push(event),
                    None => return seen,
                }
            }
        }
    };
    let ((), brief, patient) = tokio::join!(changes, reader(7), reader(usize::MAX));
    let stored = open(&farm, &path, None).await.all().await;
    assert!(stored.len() > 300, "{}", stored.len());
    assert_eq!(brief, stored);
    assert_eq!(patient, stored);
}

#[tokio::test]
async fn a_reader_that_fell_behind_reads_the_rest_from_the_store() {
    let farm = Farm::start().await;
    let id = farm.submit(&job("shot", 10)).await;
    let path = format!("/v1/jobs/{id}/events");
    let mut slow = open(&farm, &path, None).await;
    let progress = |permille| {
        let (step, attempt) = ("render".parse().expect("a name"), "1.1".to_owned());
        let what = Happening::Progress { step, attempt, frame: 1, permille, note: String::new() };
        let view = EventView { seq: None, job: id, at: framewake_proto::time::Timestamp(0), what };
        farm.handle.events.send(Arc::new(view)).expect("the reader listens");
    };
    // It is past what is stored once it hears what never is.
    progress(1);
    let mut seen = Vec::new();
    loop {
        match slow.event().await.expect("an event") {
            EventView { seq: None, .. } => break,
            event => seen.push(event),
        }
    }
    // It is asleep during this, and the channel it listens to is overrun.
    act(&farm, id, "pause").await;
    act(&farm, id, "cancel").await;
    (0..2 * crate::engine::handle::EVENTS_BEHIND_MAX).for_each(|_| progress(2));
    seen.extend(slow.all().await.into_iter().filter(|event| event.seq.is_some()));
    assert_eq!(seen, open(&farm, &path, None).await.all().await);
}

#[tokio::test]
async fn the_stream_of_all_jobs_begins_now_or_where_it_is_told() {
    let farm = Farm::start().await;
    let before = farm.submit(&job("before", 1)).await;
    let mut live = open(&farm, "/v1/events", None).await;
    let after = farm.submit(&job("after", 1)).await;
    assert_eq!(live.event().await.expect("an event").job, after);
    let mut all = open(&farm, "/v1/events?after=0", None).await;
    assert_eq!(all.event().await.expect("an event").job, before);
    // A number of another life of the farm.
    let mut other = open(&farm, "/v1/events", Some(1_000_000)).await;
    assert!(other.next().await.expect("a line").starts_with(": there is no event 1000000 yet"));
    act(&farm, after, "cancel").await;
    assert_eq!(other.event().await.expect("an event").job, after);
}

#[tokio::test]
async fn a_stream_of_nonsense_is_refused() {
    let farm = Farm::start().await;
    let ask = |path: &'static str, name: &'static str, value: &'static str| {
        farm.send(Request::get(path).header(name, value).body(Body::empty()).expect("a request"))
    };
    ask("/v1/events", "last-event-id", "x").await.problem(400, "invalid-query");
    ask("/v1/events", "accept", "application/json").await.problem(406, "not-acceptable");
    ask("/v1/jobs/01M7YBHVZ6VMB2M2E9ZN8GY9D6/events", "accept", "*/*").await.problem(404, "not-found");
}

#[tokio::test]
async fn streams_end_when_the_scheduler_stops() {
    let farm = Farm::start().await;
    let id = farm.submit(&job("shot", 10)).await;
    let stream = open(&farm, &format!("/v1/jobs/{id}/events"), None).await;
    farm.app.closing.cancel();
    stream.all().await;
    assert_eq!(farm.app.metrics.parts.event_streams.get(), 0);
}

#[tokio::test]
async fn many_who_follow_one_job_read_the_store_together() {
    const READERS: usize = 200;
    let farm = Farm::start().await;
    let id = farm.submit(&job("followed", 1)).await;
    // More than one page of events.
    for turn in 0..200 {
        let action = if turn % 2 == 0 { "pause" } else { "resume" };
        assert_eq!(farm.post(&format!("/v1/jobs/{id}/{action}"), &json!({})).await.status, StatusCode::OK);
    }
    let path = format!("/v1/jobs/{id}/events");
    let mut streams = Vec::new();
    for _ in 0..READERS {
        // One after the other: opening many at once is more than one client may.
        streams.push(open(&farm, &path, None).await);
    }
    let cancel = async {
        farm.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    };
    let (heard, ()) = tokio::join!(futures::future::join_all(streams.into_iter().map(Lines::all)), cancel);
    assert!(heard[0].len() > 200, "{}", heard[0].len());
    assert!(heard.iter().all(|events| events == &heard[0]), "all hear the same");
    let reads = farm.app.feeds.reads.load(std::sync::atomic::Ordering::Relaxed);
    assert!(reads < READERS as u64 / 2, "{reads} reads for {READERS} readers of {} events", heard[0].len());
    assert!(farm.app.feeds.kept() <= 1, "no page is kept that nobody waits for, but full ones");
}

#[tokio::test]
async fn a_stream_of_all_jobs_can_begin_with_what_happened_last() {
    let farm = Farm::start().await;
    let ids = [farm.submit(&job("a", 1)).await, farm.submit(&job("b", 1)).await, farm.submit(&job("c", 1)).await];
    assert!(farm.handle.durable().await);
    let newest = farm.app.reader.event_span().await.expect("readable").1;
    let mut all = open(&farm, &format!("/v1/events?last={newest}"), None).await;
    assert_eq!(all.event().await.expect("an event").seq, Some(1));
    let mut last = open(&farm, "/v1/events?last=1", None).await;
    let event = last.event().await.expect("an event");
    assert_eq!((event.seq, event.job), (Some(newest), ids[2]));
    // Somebody who was there goes on from there.
    let mut on = open(&farm, "/v1/events?last=1", Some(newest - 1)).await;
    assert_eq!(on.event().await.expect("an event").seq, Some(newest));
    for wrong in ["0", "1001", "some"] {
        farm.get(&format!("/v1/events?last={wrong}")).await.problem(400, "invalid-query");
    }
}
