//! The keeper over a place whose lists fail, lag and lie.

use super::*;
use async_trait::async_trait;
use framewake_proto::function::FunctionSpec;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

/// What a scripted place holds and does.
#[derive(Debug, Default)]
struct Scene {
    there: BTreeMap<WorkerId, Instance>,
    /// Started, and not listed before `lag` looks more.
    lag: u32,
    /// Lists fail with this.
    list_fails: Option<&'static str>,
    /// Answers of the next starts, from the end; then they succeed.
    starts: Vec<StartError>,
    /// A start that comes to nothing is done all the same.
    started_all_the_same: bool,
    asked: Vec<String>,
    looks: u32,
}

#[derive(Debug, Clone, Default)]
struct Scripted {
    scene: Arc<Mutex<Scene>>,
    changed: Arc<Notify>,
}

impl Scripted {
    fn set(&self, change: impl FnOnce(&mut Scene)) {
        change(&mut self.scene.lock().expect("no panic"));
        self.changed.notify_one();
    }

    fn has(&self, worker: &str, state: InstanceState) {
        self.set(|scene| {
            scene.there.insert(id(worker), instance(worker, state));
        });
    }

    fn asked(&self) -> Vec<String> {
        self.scene.lock().expect("no panic").asked.clone()
    }

    /// Waits until it was looked at once more, at least.
    async fn looked_at_again(&self) {
        let before = self.scene.lock().expect("no panic").looks;
        self.changed.notify_one();
        // The second look begins after the first has been taken in.
        while self.scene.lock().expect("no panic").looks < before + 2 {
            self.changed.notify_one();
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Provider for Scripted {
    async fn start(&mut self, start: &Start) -> Result<(), StartError> {
        let mut scene = self.scene.lock().expect("no panic");
        scene.asked.push(format!("start {}", start.worker));
        let answer = scene.starts.pop();
        if answer.is_none() || scene.started_all_the_same {
            let instance = instance(start.worker.as_str(), InstanceState::Running);
            scene.there.insert(start.worker.clone(), instance);
        }
        answer.map_or(Ok(()), Err)
    }

    async fn stop(&mut self, worker: &WorkerId) -> Result<(), Error> {
        let mut scene = self.scene.lock().expect("no panic");
        scene.asked.push(format!("stop {worker}"));
        if scene.list_fails.is_some() {
            return Err(away());
        }
        scene.there.remove(worker);
        Ok(())
    }

    async fn observe(&mut self) -> Result<Vec<Instance>, Error> {
        let mut scene = self.scene.lock().expect("no panic");
        scene.looks += 1;
        if let Some(what) = scene.list_fails {
            return Err(Error { what: what.to_owned(), cause: None });
        }
        if scene.lag > 0 {
            scene.lag -= 1;
            return Ok(Vec::new());
        }
        Ok(scene.there.values().cloned().collect())
    }

    async fn changed(&mut self) {
        self.changed.notified().await;
    }

    async fn forget(&mut self, worker: &WorkerId) -> Result<(), Error> {
        let mut scene = self.scene.lock().expect("no panic");
        scene.asked.push(format!("forget {worker}"));
        scene.there.remove(worker);
        Ok(())
    }
}

struct Running {
    place: Scripted,
    news: mpsc::Receiver<(Name, News)>,
    commands: mpsc::UnboundedSender<Command>,
    task: JoinHandle<()>,
}

impl Running {
    fn over(place: &Scripted) -> Running {
        let pace = Pace {
            look_every: Duration::from_millis(200),
            look_apart: Duration::from_millis(1),
            again: Duration::from_millis(20),
            again_max: Duration::from_millis(80),
            appears_within: Duration::from_millis(300),
            call_max: Duration::from_secs(5),
        };
        let (news_in, news) = mpsc::channel(100);
        let (commands, commands_out) = mpsc::unbounded_channel();
        let keeper = Keeper::new("spot".parse().expect("a good name"), Box::new(place.clone()), pace, news_in);
        let task = tokio::spawn(keeper.run(commands_out, false, CancellationToken::new()));
        Running { place: place.clone(), news, commands, task }
    }

    /// Over a place that was looked at and is empty.
    async fn over_nothing() -> Running {
        let mut running = Running::over(&Scripted::default());
        running.hears(&[News::Looked]).await;
        running
    }

    fn tell(&self, command: Command) {
        self.commands.send(command).expect("the keeper runs");
    }

    fn start(&self, worker: &str) {
        let spec = serde_json::json!({ "name": "any", "driver": { "kind": "command", "command": ["true"] } });
        let spec: FunctionSpec = serde_json::from_value(spec).expect("a good function");
        self.tell(Command::Start(Start {
            worker: id(worker),
            function: any(),
            spec: Arc::new(spec),
            gpus: Vec::new(),
            linger: Duration::ZERO,
            join_token: None,
            invitation: None,
        }));
    }

    async fn hears(&mut self, expected: &[News]) {
        for news in expected {
            let heard = tokio::time::timeout(SOON, self.news.recv()).await;
            let heard = heard.unwrap_or_else(|_| panic!("waited in vain for {news:?}"));
            assert_eq!(heard.map(|(_, heard)| heard).as_ref(), Some(news));
        }
    }

    async fn hears_nothing_more(&mut self) {
        self.place.looked_at_again().await;
        assert_eq!(self.news.try_recv(), Err(mpsc::error::TryRecvError::Empty));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn id(worker: &str) -> WorkerId {
    worker.parse().expect("a good id")
}

fn any() -> FunctionKey {
    "any@3".parse().expect("a good key")
}

fn instance(worker: &str, state: InstanceState) -> Instance {
    Instance { worker: id(worker), function: any(), gpus: Vec::new(), state, steps: BTreeMap::new() }
}

fn away() -> Error {
    Error { what: "the place is away".to_owned(), cause: None }
}

fn found(worker: &str) -> News {
    News::Found { worker: id(worker), function: any(), gpus: Vec::new() }
}

fn ended(worker: &str, end: End) -> News {
    News::Ended { worker: id(worker), end }
}

fn failed(worker: &str, reason: &str) -> News {
    ended(worker, End::Failed { reason: reason.to_owned() })
}

fn taken(worker: &str) -> News {
    News::Taken { worker: id(worker) }
}

fn waits(worker: &str, reason: &str) -> News {
    News::Waits { worker: id(worker), reason: reason.to_owned() }
}

fn trouble(reason: &str) -> News {
    News::Trouble { reason: reason.to_owned() }
}

#[tokio::test]
async fn a_worker_is_asked_for_once_however_often_it_is_wanted() {
    let mut running = Running::over_nothing().await;
    for _ in 0..3 {
        running.start("w1");
    }
    running.hears(&[taken("w1")]).await;
    running.place.looked_at_again().await;
    running.start("w1");
    running.hears_nothing_more().await;
    assert_eq!(running.place.asked(), ["start w1"]);
}

#[tokio::test]
async fn nobody_is_started_before_it_is_known_who_is_there_and_then_the_farm_counts_again() {
    let place = Scripted::default();
    place.set(|scene| scene.list_fails = Some("connection refused"));
    place.has("w1", InstanceState::Running);
    let mut running = Running::over(&place);
    running.hears(&[trouble("connection refused")]).await;
    running.start("w2");
    running.hears(&[waits("w2", "connection refused")]).await;
    place.looked_at_again().await;
    assert!(place.asked().is_empty(), "it may be one too many");
    place.set(|scene| scene.list_fails = None);
    running.hears(&[trouble(""), found("w1"), ended("w2", End::Left), News::Looked]).await;
    running.hears_nothing_more().await;
    assert!(place.asked().is_empty());
}

#[tokio::test]
async fn a_wish_that_met_an_empty_place_that_was_away_is_granted() {
    let place = Scripted::default();
    place.set(|scene| scene.list_fails = Some("connection refused"));
    let mut running = Running::over(&place);
    running.hears(&[trouble("connection refused")]).await;
    running.start("w2");
    running.hears(&[waits("w2", "connection refused")]).await;
    place.set(|scene| scene.list_fails = None);
    running.hears(&[trouble(""), News::Looked, taken("w2"), waits("w2", "")]).await;
    assert_eq!(place.asked(), ["start w2"]);
}

#[tokio::test]
async fn a_list_that_fails_changes_nothing() {
    let mut running = Running::over_nothing().await;
    running.start("w1");
    running.hears(&[taken("w1")]).await;
    running.place.looked_at_again().await;
    running.place.set(|scene| scene.list_fails = Some("timeout"));
    running.hears(&[trouble("timeout")]).await;
    running.place.looked_at_again().await;
    running.place.set(|scene| scene.list_fails = None);
    running.hears(&[trouble("")]).await;
    running.hears_nothing_more().await;
    assert_eq!(running.place.asked(), ["start w1"]);
}

#[tokio::test]
async fn a_worker_whose_start_was_not_answered_is_looked_for_before_it_is_asked_for_again() {
    // It was started all the same.
    let mut running = Running::over_nothing().await;
    running.place.set(|scene| {
        scene.starts = vec![StartError::Away(away())];
        scene.started_all_the_same = true;
    });
    running.start("w1");
    running
        .hears(&[waits("w1", "the place is away"), trouble("the place is away"), trouble(""), waits("w1", "")])
        .await;
    running.hears_nothing_more().await;
    assert_eq!(running.place.asked(), ["start w1"]);
    // It was not.
    let mut running = Running::over_nothing().await;
    running.place.set(|scene| scene.starts = vec![StartError::Away(away())]);
    running.start("w1");
    running.hears(&[waits("w1", "the place is away"), trouble("the place is away"), trouble("")]).await;
    running.hears(&[taken("w1"), waits("w1", "")]).await;
    assert_eq!(running.place.asked(), ["start w1", "start w1"]);
}

#[tokio::test]
async fn a_full_place_is_asked_again_and_the_reason_told_once() {
    let mut running = Running::over_nothing().await;
    running.place.set(|scene| {
        scene.starts = (0..4).map(|_| StartError::Full("quota exceeded".to_owned())).collect();
    });
    running.start("w1");
    running.hears(&[waits("w1", "quota exceeded"), taken("w1"), waits("w1", "")]).await;
    assert_eq!(running.place.asked().len(), 5);
}

#[tokio::test]
async fn a_refused_start_is_an_end_with_its_reason() {
    let mut running = Running::over_nothing().await;
    running.place.set(|scene| scene.starts = vec![StartError::Refused("no such image".to_owned())]);
    running.start("w1");
    running.hears(&[failed("w1", "no such image")]).await;
    running.hears_nothing_more().await;
    assert_eq!(running.place.asked(), ["start w1"]);
}

#[tokio::test]
async fn a_list_that_lags_behind_a_start_neither_ends_nor_repeats_it() {
    let mut running = Running::over_nothing().await;
    running.place.set(|scene| scene.lag = 3);
    running.start("w1");
    running.hears(&[taken("w1")]).await;
    running.hears_nothing_more().await;
    running.place.looked_at_again().await;
    running.hears_nothing_more().await;
    assert_eq!(running.place.asked(), ["start w1"]);
    // It is known by now: what ends is told.
    running.place.has("w1", InstanceState::Ended(End::Left));
    running.hears(&[ended("w1", End::Left)]).await;
}

#[tokio::test]
async fn a_worker_that_never_appears_has_ended() {
    let mut running = Running::over_nothing().await;
    running.place.set(|scene| scene.lag = u32::MAX);
    running.start("w1");
    running.hears(&[taken("w1"), failed("w1", "pool spot took it, and has not listed it within 0 s")]).await;
    assert_eq!(running.place.asked(), ["start w1"]);
}

#[tokio::test]
async fn an_end_between_two_looks_is_told_once_and_forgotten_when_the_farm_knows() {
    let mut running = Running::over_nothing().await;
    running.start("w1");
    running.place.looked_at_again().await;
    let reason = "out of memory".to_owned();
    running.place.has("w1", InstanceState::Ended(End::Failed { reason }));
    running.hears(&[taken("w1"), failed("w1", "out of memory")]).await;
    running.hears_nothing_more().await;
    assert_eq!(running.place.asked(), ["start w1"], "what it left is kept until the farm knows");
    running.tell(Command::Forget(id("w1")));
    running.hears_nothing_more().await;
    assert_eq!(running.place.asked(), ["start w1", "forget w1"]);
}

#[tokio::test]
async fn what_is_gone_from_a_full_list_has_ended_and_counts_again_if_it_was_not() {
    let mut running = Running::over_nothing().await;
    running.start("w1");
    running.place.looked_at_again().await;
    running.place.set(|scene| {
        scene.there.remove(&id("w1"));
    });
    running.hears(&[taken("w1"), failed("w1", "it is gone from pool spot, and nobody knows why")]).await;
    running.place.has("w1", InstanceState::Running);
    running.hears(&[found("w1")]).await;
}

#[tokio::test]
async fn ends_from_before_wait_until_every_report_is_counted() {
    let place = Scripted::default();
    place.has("w1", InstanceState::Ended(End::Left));
    place.has("w2", InstanceState::Running);
    let mut running = Running::over(&place);
    running.hears(&[found("w2"), News::Looked]).await;
    running.hears_nothing_more().await;
    running.tell(Command::Drained);
    running.hears(&[ended("w1", End::Left)]).await;
}

#[tokio::test]
async fn how_far_a_start_has_come_and_why_it_waits_is_told_once_each() {
    let mut running = Running::over_nothing().await;
    let step = |step, at| (step, Timestamp(at));
    let mut w1 = instance("w1", InstanceState::Waiting { reason: "pulling image: 43 %".to_owned() });
    w1.steps = BTreeMap::from([step(StartStep::Created, 1)]);
    running.place.set(|scene| {
        scene.there.insert(id("w1"), w1.clone());
    });
    let stepped = |step, at| News::Stepped { worker: id("w1"), step, at: Timestamp(at) };
    running.hears(&[found("w1"), stepped(StartStep::Created, 1), waits("w1", "pulling image: 43 %")]).await;
    running.hears_nothing_more().await;
    w1.state = InstanceState::Running;
    w1.steps.extend([step(StartStep::ImageReady, 5), step(StartStep::ProcessStarted, 6)]);
    running.place.set(|scene| {
        scene.there.insert(id("w1"), w1.clone());
    });
    let steps = [stepped(StartStep::ImageReady, 5), stepped(StartStep::ProcessStarted, 6), waits("w1", "")];
    running.hears(&steps).await;
    running.hears_nothing_more().await;
}

#[tokio::test]
async fn a_stop_that_is_not_taken_is_tried_again_and_one_that_was_never_asked_for_is_dropped() {
    let mut running = Running::over_nothing().await;
    running.start("w1");
    running.hears(&[taken("w1")]).await;
    running.place.looked_at_again().await;
    running.place.set(|scene| scene.list_fails = Some("timeout"));
    running.hears(&[trouble("timeout")]).await;
    running.tell(Command::Stop(id("w1")));
    running.start("w2");
    running.tell(Command::Stop(id("w2")));
    running.hears(&[waits("w2", "timeout"), failed("w2", "it was not started in time: timeout")]).await;
    running.place.set(|scene| scene.list_fails = None);
    running.hears(&[trouble(""), failed("w1", "it is gone from pool spot, and nobody knows why")]).await;
    assert_eq!(running.place.asked(), ["start w1", "stop w1", "stop w1"]);
}
