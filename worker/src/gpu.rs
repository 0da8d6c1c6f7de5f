//! The GPUs that this worker was given, as their driver tells of them.
//!
//! A driver may hang for minutes inside a call. So it is asked on a thread of its own, and who wants to know takes what
//! that thread found last; what is too old counts as not known.

mod meter;
mod program;
mod scripted;

pub use meter::{GpuUse, Meter};

use framewake_gpu::Look;
use framewake_proto::wire::{GPUS_MAX, GpuFault, GpuSample};
use framewake_proto::xid::{self, Blame};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// First argument of the worker's program that makes it say which GPUs there are.
pub const LIST_GPUS_ARGUMENT: &str = "list-gpus";
/// How long a worker that was not told its GPUs waits for the first look at its start: a driver that no program holds
/// needs two seconds for it.
const FIRST_LOOK_WAIT: Duration = Duration::from_secs(5);
/// How long a failed task waits for one more look, which may tell that the GPU is to blame.
const NEXT_LOOK_WAIT: Duration = Duration::from_secs(2);
/// Looks older than this tell nothing of now: the driver hangs.
const STALE: Duration = Duration::from_secs(10);
/// A GPU is gone when this many looks in a row did not find it: one may fall into the reload of a driver.
const MISSED_MAX: u32 = 2;
/// Who asks for a list looks once.
const LIST_AGAIN: Duration = Duration::from_mins(1);
/// Most Xids remembered. A GPU that breaks may tell thousands.
const XIDS_MAX: usize = 64;

/// How GPUs are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// NVIDIA's library, if it can be loaded: by this program, or where that is static, by `framewake-gpu`.
    Nvml,
    /// The same by this program, a `framewake-gpu`.
    Program(PathBuf),
    Nothing,
    /// A file that says what they do, for tests.
    Script(PathBuf),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no way to read GPUs: write `nvml`, `none`, `program:FILE` or `script:FILE`")]
pub struct ProbeError(String);

impl FromStr for Probe {
    type Err = ProbeError;

    fn from_str(text: &str) -> Result<Probe, ProbeError> {
        match text.split_once(':') {
            None if text == "nvml" => Ok(Probe::Nvml),
            None if text == "none" => Ok(Probe::Nothing),
            Some(("program", path)) if !path.is_empty() => Ok(Probe::Program(path.into())),
            Some(("script", path)) if !path.is_empty() => Ok(Probe::Script(path.into())),
            _ => Err(ProbeError(text.chars().take(64).collect())),
        }
    }
}

/// Why no GPU can be read, or not now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Nvml(#[from] framewake_gpu::Error),
    #[error("`{}`, which reads GPUs for a worker, can't be started; hint: it lies beside framewake-worker in its image", program.display())]
    NoProgram {
        program: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("`{}` reads no GPUs: {said}", program.display())]
    Program { program: PathBuf, said: String },
    #[error("the script of GPUs `{}` can't be read", path.display())]
    Script {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("the script of GPUs `{}` makes no sense", path.display())]
    Words {
        path: PathBuf,
        #[source]
        error: serde_json::Error,
    },
    #[error("the script of GPUs says: {0}")]
    Told(String),
    #[error("reading GPUs is switched off")]
    Off,
}

/// Who is asked.
enum Reader {
    Nvml(framewake_gpu::Reader),
    Program(program::Reader),
    Script(scripted::Reader),
}

impl Reader {
    fn open(probe: &Probe, given: &[String], every: Duration) -> Result<Reader, Error> {
        match probe {
            // A static program can't load a library.
            Probe::Nvml if cfg!(target_feature = "crt-static") => {
                program::Reader::open(&program::beside(), given, every).map(Reader::Program)
            }
            Probe::Nvml => Ok(Reader::Nvml(framewake_gpu::Reader::open(given)?)),
            Probe::Program(program) => program::Reader::open(program, given, every).map(Reader::Program),
            Probe::Script(path) => scripted::Reader::open(path, given).map(Reader::Script),
            Probe::Nothing => Err(Error::Off),
        }
    }

    fn look(&mut self) -> Result<Look, Error> {
        let mut look = match self {
            Reader::Nvml(reader) => reader.look()?,
            Reader::Program(reader) => reader.look()?,
            Reader::Script(reader) => reader.look()?,
        };
        look.samples.truncate(GPUS_MAX);
        for sample in &mut look.samples {
            clean(sample);
        }
        Ok(look)
    }

    /// Waits for so long, or until something happened on a GPU.
    fn wait(&mut self, long: Duration) {
        match self {
            Reader::Nvml(reader) => reader.wait(long),
            Reader::Program(reader) => reader.wait(long),
            Reader::Script(_) => std::thread::park_timeout(long),
        }
    }
}

/// Every GPU of this machine, for who hands them out. Waits as long as the driver does.
pub fn list(probe: &Probe) -> Result<Vec<GpuSample>, Error> {
    Ok(Reader::open(probe, &[], LIST_AGAIN)?.look()?.samples)
}

/// The GPUs of this worker. Handles are the same GPUs.
#[derive(Debug, Clone)]
pub struct Gpus {
    /// The worker was told that these are its own; empty: all that are there.
    given: Arc<[String]>,
    /// Absent for a worker without GPUs.
    watched: Option<Watched>,
}

#[derive(Debug, Clone)]
struct Watched {
    found: watch::Receiver<Found>,
    meters: Meters,
}

/// Those who measure now.
type Meters = Arc<Mutex<Vec<Weak<Mutex<meter::Tally>>>>>;

/// What is known by the last look.
#[derive(Debug, Default)]
struct Found {
    looks: u64,
    at: Option<Instant>,
    samples: Vec<GpuSample>,
    /// Least memory that was ever in use on each.
    idle: BTreeMap<String, u64>,
    faults: Vec<GpuFault>,
    /// The last of them, oldest first.
    xids: Vec<(Instant, u32)>,
    /// There will be no look.
    ended: bool,
}

impl Gpus {
    pub fn none() -> Gpus {
        Gpus { given: Arc::new([]), watched: None }
    }

    /// Begins to look at them, as often as `every`.
    pub fn watch(probe: Probe, given: Vec<String>, every: Duration) -> Gpus {
        let (tell, found) = watch::channel(Found::default());
        let meters = Meters::default();
        let watcher =
            Watcher { given: given.clone(), every, tell, meters: meters.clone(), seen: BTreeMap::new(), is_well: true };
        // Of its own, because it may never come back; the worker ends without it.
        let started = std::thread::Builder::new().name("gpus".to_owned()).spawn(move || watcher.run(&probe));
        if let Err(error) = started {
            tracing::warn!(%error, "no thread can be had to look at the GPUs: nothing is known of them");
        }
        Gpus { given: given.into(), watched: Some(Watched { found, meters }) }
    }

    /// Waits until it is known which GPUs there are, but not for ever.
    pub async fn known(&self) {
        let Some(watched) = self.watched.as_ref().filter(|_| self.given.is_empty()) else { return };
        let mut found = watched.found.clone();
        let looked = found.wait_for(|found| found.looks > 0 || found.ended);
        if tokio::time::timeout(FIRST_LOOK_WAIT, looked).await.is_err() {
            let wait = FIRST_LOOK_WAIT.as_secs();
            tracing::warn!("the GPU driver has not answered for {wait} s: the worker begins without knowing its GPUs");
        }
    }

    /// By name, as the driver calls them.
    pub fn uuids(&self) -> Vec<String> {
        match &self.watched {
            Some(watched) if self.given.is_empty() => {
                watched.found.borrow().samples.iter().map(|sample| sample.uuid.clone()).collect()
            }
            _ => self.given.to_vec(),
        }
    }

    /// How they are now; nothing while the driver hangs.
    pub fn samples(&self) -> Vec<GpuSample> {
        let Some(watched) = &self.watched else { return Vec::new() };
        let found = watched.found.borrow();
        let fresh = found.at.is_some_and(|at| at.elapsed() < STALE);
        if fresh { found.samples.clone() } else { Vec::new() }
    }

    /// Those that broke since the worker began.
    pub fn faults(&self) -> Vec<GpuFault> {
        self.watched.as_ref().map_or_else(Vec::new, |watched| watched.found.borrow().faults.clone())
    }

    /// Comes back when one of them has broken.
    pub async fn broken(&self) {
        if let Some(watched) = &self.watched {
            let mut found = watched.found.clone();
            if found.wait_for(|found| !found.faults.is_empty()).await.is_ok() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Waits for one more look, but not for long: what made a task fail may be told only now.
    pub async fn look_again(&self) {
        let Some(watched) = &self.watched else { return };
        let mut found = watched.found.clone();
        let before = found.borrow().looks;
        // The first may have begun before.
        let again = found.wait_for(|found| found.looks > before + 1 || found.ended || !found.faults.is_empty());
        let _hangs = tokio::time::timeout(NEXT_LOOK_WAIT, again).await;
    }

    /// The last Xid since then.
    pub fn xid_since(&self, since: Instant) -> Option<u32> {
        let found = self.watched.as_ref()?.found.borrow();
        found.xids.iter().rev().find(|(at, _)| *at >= since).map(|(_, xid)| *xid)
    }

    /// Begins to measure what they do.
    pub fn meter(&self) -> Meter {
        let Some(watched) = &self.watched else { return Meter::default() };
        let found = watched.found.borrow();
        let meter = Meter::begin(&found.samples, &found.idle);
        drop(found);
        let mut meters = watched.meters.lock().expect("no code panics while it holds the lock");
        meters.retain(|meter| meter.strong_count() > 0);
        meters.extend(meter.tally());
        meter
    }
}

/// What the thread knows.
struct Watcher {
    given: Vec<String>,
    every: Duration,
    tell: watch::Sender<Found>,
    meters: Meters,
    seen: BTreeMap<String, Seen>,
    /// The last look succeeded.
    is_well: bool,
}

/// What is remembered of one GPU.
#[derive(Debug, Default)]
struct Seen {
    /// Looks in a row that did not find it.
    missed: u32,
    /// At the first look.
    ecc_uncorrected: Option<u64>,
    last_xid: Option<u32>,
}

impl Watcher {
    fn run(mut self, probe: &Probe) {
        let mut reader = match Reader::open(probe, &self.given, self.every) {
            Ok(reader) => reader,
            Err(error) => {
                let why = framewake_proto::chain::Chain(&error).to_string();
                tracing::warn!("no GPU can be read, what renderers say of it must do: {why}");
                self.tell.send_modify(|found| found.ended = true);
                return;
            }
        };
        self.seen.extend(self.given.iter().map(|uuid| (uuid.clone(), Seen::default())));
        while !self.tell.is_closed() {
            match reader.look() {
                Ok(look) => self.take(look),
                Err(error) if self.is_well => {
                    self.is_well = false;
                    let why = framewake_proto::chain::Chain(&error).to_string();
                    tracing::warn!("the GPUs can't be read for the moment: {why}");
                }
                Err(_) => {}
            }
            reader.wait(self.every);
        }
    }

    fn take(&mut self, mut look: Look) {
        self.is_well = true;
        let faults = self.judge(&mut look);
        for fault in &faults {
            tracing::error!(gpu = fault.uuid, "GPU {} is broken: {}", fault.uuid, fault.reason);
        }
        let now = Instant::now();
        let meters = self.meters.lock().expect("no code panics while it holds the lock").clone();
        for tally in meters.iter().filter_map(Weak::upgrade) {
            tally.lock().expect("no code panics while it holds the lock").add(&look.samples);
        }
        self.tell.send_modify(|found| {
            found.looks += 1;
            found.at = Some(now);
            for sample in &look.samples {
                if let Some(used) = sample.memory_used_bytes {
                    let least = found.idle.entry(sample.uuid.clone()).or_insert(used);
                    *least = used.min(*least);
                }
            }
            found.samples = look.samples;
            for fault in faults {
                if !found.faults.iter().any(|known| known.uuid == fault.uuid) {
                    found.faults.push(fault);
                }
            }
            found.xids.extend(look.xids.iter().map(|(_, xid)| (now, *xid)));
            let old = found.xids.len().saturating_sub(XIDS_MAX);
            found.xids.drain(..old);
        });
    }

    /// Which GPUs this look shows to be broken.
    fn judge(&mut self, look: &mut Look) -> Vec<GpuFault> {
        let mut faults = Vec::new();
        let mut fault = |uuid: &str, reason: String| faults.push(GpuFault { uuid: uuid.to_owned(), reason });
        for (uuid, xid) in &look.xids {
            tracing::warn!(gpu = uuid, xid, "GPU {uuid}: the driver tells of {}", xid::describe(*xid));
            self.seen.entry(uuid.clone()).or_default().last_xid = Some(*xid);
            if xid::blame(*xid) == Blame::Hardware {
                fault(uuid, format!("its driver tells of {}", xid::describe(*xid)));
            }
        }
        for sample in &mut look.samples {
            let seen = self.seen.entry(sample.uuid.clone()).or_default();
            seen.missed = 0;
            sample.xid = seen.last_xid.or(sample.xid);
            match (seen.ecc_uncorrected, sample.ecc_uncorrected) {
                (Some(before), Some(now)) if now > before => {
                    let count = now - before;
                    fault(&sample.uuid, format!("{count} uncorrectable memory errors since the worker began"));
                }
                (None, Some(now)) => seen.ecc_uncorrected = Some(now),
                _ => {}
            }
        }
        for uuid in &look.lost {
            fault(uuid, "its driver has lost it".to_owned());
        }
        for (uuid, seen) in &mut self.seen {
            if look.samples.iter().any(|sample| sample.uuid == *uuid) {
                continue;
            }
            seen.missed += 1;
            if seen.missed == MISSED_MAX {
                fault(uuid, "its driver does not find it".to_owned());
            }
        }
        faults
    }
}

/// Takes out what can't be: drivers answer with the largest numbers where they have nothing to say.
fn clean(sample: &mut GpuSample) {
    fn within<T: PartialOrd + Copy>(value: &mut Option<T>, most: T) {
        *value = value.filter(|value| *value <= most);
    }
    // Ten times what any of them has today.
    const MEMORY_MAX: u64 = 4 << 40;
    const POWER_MAX: u32 = 20_000_000;
    const CLOCK_MAX: u32 = 50_000;
    const CELSIUS_MAX: u32 = 250;
    // DCGM's "not supported" and its like lie just below the largest signed number.
    const COUNT_MAX: u64 = (1 << 62) - 1;
    within(&mut sample.memory_total_bytes, MEMORY_MAX);
    sample.memory_total_bytes = sample.memory_total_bytes.filter(|total| *total > 0);
    within(&mut sample.memory_used_bytes, sample.memory_total_bytes.unwrap_or(MEMORY_MAX));
    let shares = [
        &mut sample.busy_percent,
        &mut sample.memory_busy_percent,
        &mut sample.encoder_percent,
        &mut sample.decoder_percent,
    ];
    for share in shares {
        within(share, 100);
    }
    within(&mut sample.power_milliwatts, POWER_MAX);
    within(&mut sample.energy_millijoules, COUNT_MAX);
    within(&mut sample.temperature_celsius, CELSIUS_MAX);
    within(&mut sample.sm_clock_mhz, CLOCK_MAX);
    within(&mut sample.memory_clock_mhz, CLOCK_MAX);
    within(&mut sample.ecc_corrected, COUNT_MAX);
    within(&mut sample.ecc_uncorrected, COUNT_MAX);
    for text in [&mut sample.uuid, &mut sample.model, &mut sample.driver_version] {
        text.retain(|letter| !letter.is_control());
    }
}

#[cfg(test)]
mod tests;
