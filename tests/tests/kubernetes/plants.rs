//! That a cluster sees what must never happen: faults are planted between the keeper of a pool and its provider, under a farm of
//! a few lines that always wants more workers than there may be.

use crate::ground::{Ground, start};
use async_trait::async_trait;
use framewake_functions::keeper::{Command, Keeper, News, Pace};
use framewake_functions::kubernetes::Kubernetes;
use framewake_functions::{Error, Instance, InstanceState, Provider, Start, StartError};
use framewake_proto::ids::{Name, WorkerId};
use framewake_tests::kubernetes::{Cluster, Harm, Refusal};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Most workers of the pool, which the farm always wants.
const MAX: usize = 8;
const SOON: Duration = Duration::from_secs(30);
const PACE: Pace = Pace {
    look_every: Duration::from_millis(200),
    look_apart: Duration::from_millis(20),
    again: Duration::from_millis(50),
    again_max: Duration::from_millis(200),
    appears_within: Duration::from_secs(10),
    call_max: Duration::from_secs(10),
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// A worker that is asked for comes twice, under two names.
    Doubles,
    /// With what an ended worker left goes the Job of one that renders.
    DeletesAnother,
    /// A list that fails is an empty one.
    FailureIsNothing,
    /// What an earlier scheduler started is not looked for.
    AdoptsNobody,
}

/// A provider with a fault.
#[derive(Debug)]
struct Planted {
    inner: Kubernetes,
    fault: Fault,
    mine: BTreeSet<WorkerId>,
    running: Vec<WorkerId>,
    looks: Arc<Looks>,
}

#[derive(Debug, Default)]
struct Looks {
    all: AtomicUsize,
    failed: AtomicUsize,
}

#[async_trait]
impl Provider for Planted {
    async fn start(&mut self, start: &Start) -> Result<(), StartError> {
        self.mine.insert(start.worker.clone());
        if self.fault == Fault::Doubles {
            let worker = start.worker.as_str().replace("-1", "-2").parse().expect("a good id");
            self.inner.start(&Start { worker, ..start.clone() }).await?;
        }
        self.inner.start(start).await
    }

    async fn stop(&mut self, worker: &WorkerId) -> Result<(), Error> {
        self.inner.stop(worker).await
    }

    async fn observe(&mut self) -> Result<Vec<Instance>, Error> {
        let listed = self.inner.observe().await;
        self.looks.failed.fetch_add(usize::from(listed.is_err()), Ordering::SeqCst);
        self.looks.all.fetch_add(1, Ordering::SeqCst);
        let mut listed = match listed {
            Err(_) if self.fault == Fault::FailureIsNothing => Vec::new(),
            listed => listed?,
        };
        if self.fault == Fault::AdoptsNobody {
            listed.retain(|instance| self.mine.contains(&instance.worker));
        }
        let running = listed.iter().filter(|instance| instance.state == InstanceState::Running);
        self.running = running.map(|instance| instance.worker.clone()).collect();
        Ok(listed)
    }

    async fn changed(&mut self) {
        self.inner.changed().await;
    }

    async fn forget(&mut self, worker: &WorkerId) -> Result<(), Error> {
        if self.fault == Fault::DeletesAnother
            && let Some(other) = self.running.first()
        {
            self.inner.stop(other).await?;
        }
        self.inner.forget(worker).await
    }
}

/// It believes what it is told, and asks for what is missing.
struct Farm<'a> {
    ground: &'a Ground,
    believed: BTreeSet<WorkerId>,
    /// Of these it was told that they are there.
    seen: BTreeSet<WorkerId>,
    looks: Arc<Looks>,
    commands: mpsc::UnboundedSender<Command>,
    news: mpsc::Receiver<(Name, News)>,
    stop: CancellationToken,
}

impl Farm<'_> {
    fn begin(ground: &Ground, fault: Fault) -> Farm<'_> {
        let looks = Arc::new(Looks::default());
        let (mine, running, counted) = (BTreeSet::new(), Vec::new(), Arc::clone(&looks));
        let planted = Planted { inner: ground.provider(), fault, mine, running, looks: counted };
        let ((commands, received), (told, news)) = (mpsc::unbounded_channel(), mpsc::channel(100));
        let stop = CancellationToken::new();
        let keeper = Keeper::new("gpus".parse().expect("a good name"), Box::new(planted), PACE, told);
        tokio::spawn(keeper.run(received, false, stop.clone()));
        commands.send(Command::Drained).expect("it was just begun");
        Farm { ground, believed: BTreeSet::new(), seen: BTreeSet::new(), looks, commands, news, stop }
    }

    fn looks(&self) -> usize {
        self.looks.all.load(Ordering::SeqCst)
    }

    /// Goes on until this is so.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Farm) -> bool) {
        let begin = tokio::time::Instant::now();
        while !is_so(self) {
            assert!(begin.elapsed() < SOON, "waited in vain until {what}");
            let told = tokio::time::timeout(PACE.look_apart, self.news.recv()).await;
            match told.ok().flatten().map(|(_, news)| news) {
                Some(News::Found { worker, .. }) => drop(self.believed.insert(worker)),
                Some(News::Ended { worker, .. }) => {
                    self.believed.remove(&worker);
                    let _ = self.commands.send(Command::Forget(worker));
                }
                Some(News::Stepped { worker, .. }) => drop(self.seen.insert(worker)),
                Some(News::Taken { .. } | News::Waits { .. } | News::Looked | News::Trouble { .. }) | None => {}
            }
            // Not before it was looked at once, as the real one.
            while self.looks() > 1 && self.believed.len() < MAX {
                let start = start(self.ground, 1);
                self.believed.insert(start.worker.clone());
                let _ = self.commands.send(Command::Start(start));
            }
        }
    }

    async fn look_twice(&mut self) {
        let looks = self.looks();
        self.until("it was looked at twice", |farm| farm.looks() >= looks + 3).await;
    }
}

impl Drop for Farm<'_> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn running(cluster: &Cluster) -> Vec<String> {
    let pods = cluster.pods();
    let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
    running.filter_map(|pod| Some(pod["metadata"]["labels"]["framewake/worker"].as_str()?.to_owned())).collect()
}

/// A start, a failure of all lists, a worker that leaves, another scheduler: what the cluster has to say of it.
async fn faults_of(fault: Fault) -> Option<Vec<String>> {
    let ground = Ground::new(&[3 * MAX as u64]).await;
    let cluster = ground.cluster()?;
    cluster.allow(MAX);
    let mut farm = Farm::begin(&ground, fault);
    let all_run = |farm: &Farm| farm.seen.len() >= MAX && running(cluster).len() >= MAX;
    farm.until("all that may be run, and are seen to", all_run).await;

    for verb in ["list", "watch"] {
        cluster.harm(verb, "*", 1000, Harm::Refused(Refusal::new(503, "ServiceUnavailable", "no leader"), None));
    }
    cluster.cut_watches();
    // A watch that is cut is noticed a moment later, and looks may be quicker.
    let failed = |farm: &Farm| farm.looks.failed.load(Ordering::SeqCst) > 0;
    farm.until("a look failed", failed).await;
    farm.look_twice().await;
    cluster.heal();
    farm.look_twice().await;

    let left = running(cluster)[0].clone();
    cluster.exit(&left, &serde_json::json!({ "exitCode": 0 }));
    let is_gone = |_: &Farm| !cluster.jobs().iter().any(|job| job["metadata"]["name"] == *left);
    farm.until("the one that left is forgotten", is_gone).await;
    farm.look_twice().await;

    drop(farm);
    let mut farm = Farm::begin(&ground, fault);
    farm.look_twice().await;
    Some(cluster.take_faults())
}

#[tokio::test]
async fn a_provider_without_a_fault_gives_no_cause_for_complaint() {
    assert_eq!(faults_of(Fault::None).await.unwrap_or_default(), Vec::<String>::new());
}

#[tokio::test]
async fn each_planted_fault_is_seen() {
    for (fault, words) in [
        (Fault::Doubles, "and 8 are allowed"),
        (Fault::DeletesAnother, "was deleted while it rendered"),
        (Fault::FailureIsNothing, "and 8 are allowed"),
        (Fault::AdoptsNobody, "and 8 are allowed"),
    ] {
        let Some(faults) = faults_of(fault).await else { return };
        assert!(faults.iter().any(|fault| fault.contains(words)), "{fault:?} is not seen: {faults:?}");
    }
}
