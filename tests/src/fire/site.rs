//! The farm under fire: real parts, a proxy on each way between them, little room on its disks.

use super::faults::Fault;
use super::picture;
use crate::farm::{Routes, Store, TestFarm, signal};
use crate::parts::{S3, built};
use crate::proxy::{self, Proxy, s3, s3::S3Proxy};
use crate::tight::Tight;
use fastrand::Rng;
use framewake_proto::client::Client;
use rustix::process::Signal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Room for the scheduler's data, of which uploads leave a part free, and for the workers' scratch and logs.
const DATA_SIZE: &str = "2g";
const WORKERS_SIZE: &str = "1g";
/// Longest wait until all parts are well after a heal.
const HEALED_MAX: Duration = Duration::from_mins(2);

/// One lies in the other, and goes first.
#[derive(Debug)]
struct TightDisks {
    workers: Tight,
    data: Tight,
}

#[derive(Debug)]
pub struct Site {
    /// Unmounted before the farm's folder is removed. None where the machine allows no mounts.
    tight: Option<TightDisks>,
    pub farm: TestFarm,
    scheduler_nats: Proxy,
    workers_nats: Proxy,
    scheduler_s3: S3Proxy,
    workers_s3: S3Proxy,
    people: Proxy,
    /// How people submit: over a way that breaks too.
    pub client: Client,
}

impl Site {
    pub async fn start(slots: u32, say: &impl Fn(&str)) -> Site {
        let mut made = None;
        let farm = TestFarm::start_routed(slots, async |farm, server| {
            let ways = Ways::start(farm, server).await;
            let routes = ways.routes(farm);
            let workers = farm.data().join("workers");
            let tight = Tight::mount(&farm.data(), DATA_SIZE)
                .and_then(|data| Some(TightDisks { workers: Tight::mount(&workers, WORKERS_SIZE)?, data }));
            made = Some((ways, tight));
            routes
        })
        .await;
        let (ways, tight) = made.expect("made above");
        if tight.is_none() {
            say("LEFT OUT: this machine allows no mount, so no disk can be filled");
        }
        let client = Client::new(&format!("http://127.0.0.1:{}", ways.people.port)).expect("a good address");
        farm.client.add_function(&picture::function(&built("fire"))).await.expect("a good function");
        let Ways { scheduler_nats, workers_nats, scheduler_s3, workers_s3, people } = ways;
        Site { tight, farm, scheduler_nats, workers_nats, scheduler_s3, workers_s3, people, client }
    }

    pub fn has_tight(&self) -> bool {
        self.tight.is_some()
    }

    pub fn requests_broken(&self) -> u64 {
        self.scheduler_s3.struck() + self.workers_s3.struck()
    }

    /// Leaves the farm's folder behind, as evidence.
    pub fn keep(&mut self) -> PathBuf {
        let kept = std::env::temp_dir().join(format!("framewake-fire-{}", std::process::id()));
        let copy = |from: PathBuf, to: &str| {
            let _ = std::fs::create_dir_all(&kept);
            let _ = std::fs::copy(from, kept.join(to));
        };
        for log in ["scheduler.log", "nats.log", "s3.log"] {
            copy(self.farm.folder().join(log), log);
        }
        for file in ["framewake.db", "framewake.db-wal"] {
            copy(self.farm.data().join(file), file);
        }
        kept
    }

    fn s3(&mut self) -> &mut S3 {
        match &mut self.farm.store {
            Store::S3(s3) => s3,
            Store::Folder => unreachable!("the site is made with an S3 server"),
        }
    }

    /// Does it. Undone by [`Site::heal`].
    pub fn begin(&mut self, fault: Fault, rng: &mut Rng) {
        match fault {
            Fault::KillScheduler | Fault::SchedulerAway => self.farm.kill_scheduler(),
            Fault::StopScheduler => self.farm.scheduler().signal(Signal::STOP),
            Fault::KillWorkers => signal_half(self.farm.worker_pids(), Signal::KILL, rng),
            Fault::StopWorkers => signal_half(self.farm.worker_pids(), Signal::STOP, rng),
            Fault::KillRenderers => signal_half(self.farm.renderer_pids(), Signal::KILL, rng),
            Fault::StopRenderers => signal_half(self.farm.renderer_pids(), Signal::STOP, rng),
            Fault::KillNats => self.farm.nats.kill(),
            Fault::WipeJetStream => {
                self.farm.nats.kill();
                self.farm.nats.wipe();
            }
            Fault::StopNats => self.farm.nats.running().iter().for_each(|nats| nats.signal(Signal::STOP)),
            Fault::KillS3 => self.s3().kill(),
            Fault::StopS3 => self.s3().running().iter().for_each(|s3| s3.signal(Signal::STOP)),
            Fault::SlowS3 => self.break_s3(s3::Mode::Delay(Duration::from_millis(rng.u64(200..2000)))),
            Fault::S3Answers500 => self.break_s3(s3::Mode::Answer { status: 500, percent: rng.u64(20..100) }),
            Fault::S3Answers503 => self.break_s3(s3::Mode::Answer { status: 503, percent: rng.u64(20..100) }),
            Fault::CutUploads => self.break_s3(s3::Mode::CutUploads { percent: rng.u64(20..100) }),
            Fault::CutAnswers => self.break_s3(s3::Mode::CutAnswers { percent: rng.u64(20..100) }),
            Fault::LoseAnswers => self.break_s3(s3::Mode::LoseAnswers { percent: rng.u64(20..100) }),
            Fault::PartSchedulerNats => self.scheduler_nats.set(proxy::Mode::Hang),
            Fault::PartWorkersNats => self.workers_nats.set_for(proxy::Mode::Hang, rng.u64(30..100)),
            Fault::PartSchedulerS3 => self.scheduler_s3.set(s3::Mode::Hang),
            Fault::PartWorkersS3 => self.workers_s3.set(s3::Mode::Hang),
            Fault::RefuseNats => {
                self.scheduler_nats.set(proxy::Mode::Refuse);
                self.workers_nats.set(proxy::Mode::Refuse);
            }
            Fault::SlowNats => {
                self.scheduler_nats.set(proxy::Mode::Slow { bytes_per_s: 20_000 });
                self.workers_nats.set(proxy::Mode::Slow { bytes_per_s: 20_000 });
            }
            Fault::CutNats => {
                self.scheduler_nats.set(proxy::Mode::Cut { after: rng.u64(1..4000) });
                self.workers_nats.set_for(proxy::Mode::Cut { after: rng.u64(1..4000) }, 50);
            }
            Fault::CutPeople => self.people.set(proxy::Mode::Cut { after: rng.u64(100..3000) }),
            Fault::FillData => self.tight.iter().for_each(|tight| tight.data.fill()),
            Fault::FillScratch => self.tight.iter().for_each(|tight| tight.workers.fill()),
            Fault::KillEverything => self.farm.kill_everything(),
        }
    }

    fn break_s3(&self, mode: s3::Mode) {
        self.scheduler_s3.set(mode);
        self.workers_s3.set(mode);
    }

    /// Undoes every fault, and starts what is not there. Gives how often a scheduler had ended by itself.
    pub async fn heal(&mut self) -> u32 {
        for way in [&self.scheduler_nats, &self.workers_nats, &self.people] {
            way.set(proxy::Mode::Pass);
        }
        self.break_s3(s3::Mode::Pass);
        if let Some(tight) = &self.tight {
            tight.data.free();
            tight.workers.free();
        }
        let servers = [self.farm.nats.running(), self.farm.scheduler_running()].into_iter().flatten();
        let pids: Vec<u32> = servers.map(crate::parts::Running::pid).collect();
        let s3 = self.s3().running().map(crate::parts::Running::pid);
        let all = pids.into_iter().chain(s3).chain(self.farm.worker_pids()).chain(self.farm.renderer_pids());
        for pid in all {
            signal(pid, Signal::CONT);
        }
        if self.farm.nats.running().is_none() {
            self.farm.nats.restart();
        }
        if self.s3().running().is_none() {
            self.s3().restart();
        }
        let begin = Instant::now();
        let mut ended = 0;
        let mut look = tokio::time::interval(Duration::from_millis(50));
        loop {
            look.tick().await;
            match self.farm.scheduler_state() {
                crate::farm::SchedulerState::Runs => {}
                crate::farm::SchedulerState::Killed => self.farm.spawn_scheduler(),
                crate::farm::SchedulerState::Ended => {
                    ended += 1;
                    self.farm.spawn_scheduler();
                }
            }
            let readiness = tokio::time::timeout(Duration::from_secs(5), self.farm.client.readiness()).await;
            if readiness.is_ok_and(|answer| answer.is_ok_and(|readiness| readiness.ready)) {
                return ended;
            }
            assert!(begin.elapsed() < HEALED_MAX, "the farm is not ready after {} s", HEALED_MAX.as_secs());
        }
    }
}

/// To each with even odds.
fn signal_half(pids: Vec<u32>, to_send: Signal, rng: &mut Rng) {
    for pid in pids.into_iter().filter(|_| rng.bool()) {
        signal(pid, to_send);
    }
}

/// The proxies.
#[derive(Debug)]
struct Ways {
    scheduler_nats: Proxy,
    workers_nats: Proxy,
    scheduler_s3: S3Proxy,
    workers_s3: S3Proxy,
    people: Proxy,
}

impl Ways {
    async fn start(farm: &TestFarm, server: &S3) -> Ways {
        Ways {
            scheduler_nats: Proxy::start(farm.nats.port).await,
            workers_nats: Proxy::start(farm.nats.port).await,
            scheduler_s3: S3Proxy::start(server.port).await,
            workers_s3: S3Proxy::start(server.port).await,
            people: Proxy::start(farm.port()).await,
        }
    }

    /// Workers are told the scheduler's addresses; a wrapper around the program leads them over their own.
    fn routes(&self, farm: &TestFarm) -> Routes {
        use std::os::unix::fs::PermissionsExt;
        let wrapper = farm.folder().join("worker.sh");
        let text = format!(
            "#!/bin/sh\nexport FRAMEWAKE_NATS_URL=nats://127.0.0.1:{} AWS_ENDPOINT_URL={}\nexec {} \"$@\"\n",
            self.workers_nats.port,
            self.workers_s3.endpoint(),
            built("framewake-worker").display(),
        );
        std::fs::write(&wrapper, text).expect("the test's folder is writable");
        std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).expect("our own file");
        Routes {
            nats: format!("nats://127.0.0.1:{}", self.scheduler_nats.port),
            s3: self.scheduler_s3.endpoint(),
            worker: wrapper,
        }
    }
}
