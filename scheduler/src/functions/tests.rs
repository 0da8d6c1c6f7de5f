//! Keepers between a pool that lists what it is told to, and an engine that is played by the test.

use super::*;
use crate::function_table::FunctionTable;
use async_trait::async_trait;
use framewake_functions::{Error, Instance, InstanceState, StartError};
use framewake_proto::ids::FunctionKey;
use std::sync::{Arc, Mutex};
use tokio::sync::{broadcast, oneshot};

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

/// Lists these; `None`: does not answer.
#[derive(Debug, Clone)]
struct Listing(Arc<Mutex<Option<Vec<Instance>>>>);

impl Listing {
    fn of(instances: Option<Vec<Instance>>) -> Listing {
        Listing(Arc::new(Mutex::new(instances)))
    }

    fn has(&self, worker: &WorkerId) -> bool {
        let listed = self.0.lock().expect("no panic");
        listed.iter().flatten().any(|instance| instance.worker == *worker)
    }
}

#[async_trait]
impl Provider for Listing {
    async fn start(&mut self, _: &Start) -> Result<(), StartError> {
        Ok(())
    }

    async fn stop(&mut self, _: &WorkerId) -> Result<(), Error> {
        Ok(())
    }

    async fn observe(&mut self) -> Result<Vec<Instance>, Error> {
        let away = || Error { what: "nobody there".to_owned(), cause: None };
        self.0.lock().expect("no panic").clone().ok_or_else(away)
    }

    async fn changed(&mut self) {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        look.tick().await;
        look.tick().await;
    }

    async fn forget(&mut self, worker: &WorkerId) -> Result<(), Error> {
        let mut listed = self.0.lock().expect("no panic");
        listed.iter_mut().for_each(|listed| listed.retain(|instance| instance.worker != *worker));
        Ok(())
    }
}

struct Running {
    inbox: mpsc::Receiver<Message>,
    health: watch::Sender<Health>,
    stop: CancellationToken,
    _commands: mpsc::UnboundedSender<ProviderCommand>,
}

impl Running {
    fn over(pools: &[(&str, &Listing)], remembered: &[&str]) -> Running {
        let (inbox_in, inbox) = mpsc::channel(100);
        let (_, functions) = watch::channel(Arc::new(FunctionTable::default()));
        let (health_in, health) = watch::channel(Health::default());
        let (events, _) = broadcast::channel(1);
        let (_, targets) = watch::channel(Arc::default());
        let (_, deployed) = watch::channel(Arc::default());
        let handle = Handle { inbox: inbox_in, functions, targets, deployed, events, health };
        let provider = |listing: &Listing| -> Box<dyn Provider> { Box::new(listing.clone()) };
        let providers = pools.iter().map(|(name, listing)| (name.parse().expect("a good name"), provider(listing)));
        let remembered = remembered.iter().map(|id| worker(id)).collect();
        let keepers = Keepers::begin(providers.collect(), handle, health_in.clone(), remembered, false);
        let (commands, asked) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        tokio::spawn(keepers.run(asked, stop.clone()));
        Running { inbox, health: health_in, stop, _commands: commands }
    }

    async fn next(&mut self) -> Message {
        tokio::time::timeout(SOON, self.inbox.recv()).await.expect("something is told").expect("they run")
    }

    async fn event(&mut self) -> Event {
        match self.next().await {
            Message::Happened(event) => event,
            other => panic!("not an event: {other:?}"),
        }
    }

    /// What waits to be durable.
    async fn asks_for_durable(&mut self) -> oneshot::Sender<()> {
        match self.next().await {
            Message::Durable(reply) => reply,
            other => panic!("no question whether it is durable: {other:?}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn worker(id: &str) -> WorkerId {
    id.parse().expect("a good id")
}

fn pool(name: &str) -> Name {
    name.parse().expect("a good name")
}

fn instance(id: &str, state: InstanceState) -> Instance {
    let function: FunctionKey = "any@1".parse().expect("a good key");
    Instance { worker: worker(id), function, gpus: Vec::new(), state, steps: BTreeMap::new() }
}

#[tokio::test]
async fn a_worker_that_the_farm_remembers_has_ended_once_all_pools_have_answered_without_it() {
    let here = Listing::of(Some(vec![instance("w1", InstanceState::Running)]));
    let away = Listing::of(None);
    let mut running = Running::over(&[("here", &here), ("away", &away)], &["w1", "w2"]);
    let mut told = vec![running.event().await, running.event().await, running.event().await];
    told.sort_by_key(|event| format!("{event:?}"));
    let function = "any@1".parse().expect("a good key");
    let expected = [
        Event::PoolAway { pool: pool("away"), reason: "nobody there".to_owned() },
        Event::PoolReached { pool: pool("here") },
        Event::WorkerFound { worker: worker("w1"), function, pool: pool("here"), gpus: Vec::new() },
    ];
    assert_eq!(told, expected);
    assert_eq!(running.health.borrow().pools, BTreeMap::from([(pool("away"), "nobody there".to_owned())]));
    running.health.send_modify(|health| health.drained = true);
    *away.0.lock().expect("no panic") = Some(Vec::new());
    assert_eq!(running.event().await, Event::PoolReached { pool: pool("away") });
    let end = WorkerEnd::Failed { reason: ENDED_BEFORE.to_owned() };
    assert_eq!(running.event().await, Event::WorkerExited { worker: worker("w2"), end });
    assert_eq!(running.health.borrow().pools, BTreeMap::from([(pool("away"), String::new())]));
}

#[tokio::test]
async fn what_an_ended_worker_left_goes_once_its_end_is_durable() {
    let here = Listing::of(Some(Vec::new()));
    let mut running = Running::over(&[("here", &here)], &[]);
    assert_eq!(running.event().await, Event::PoolReached { pool: pool("here") });
    *here.0.lock().expect("no panic") = Some(vec![instance("w1", InstanceState::Ended(End::Left))]);
    assert_eq!(running.event().await, Event::WorkerExited { worker: worker("w1"), end: WorkerEnd::Left });
    let reply = running.asks_for_durable().await;
    assert!(here.has(&worker("w1")));
    reply.send(()).expect("they wait");
    let looked = async {
        let mut look = tokio::time::interval(Duration::from_millis(5));
        while here.has(&worker("w1")) {
            look.tick().await;
        }
    };
    tokio::time::timeout(SOON, looked).await.expect("it is forgotten");
}
