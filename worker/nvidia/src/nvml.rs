//! GPUs as NVIDIA's management library (NVML) tells of them. The library is loaded at run time; a call that this driver or
//! this GPU does not know leaves its field out.

use crate::{Error, Look};
use framewake_proto::wire::{GPUS_MAX, GpuSample};
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, EventSet, Nvml};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Most events taken after one wait: a GPU that breaks may tell thousands.
const EVENTS_MAX: usize = 64;

/// An open library.
#[derive(Debug)]
pub struct Reader {
    /// Events borrow from it, and it is needed until the program ends.
    nvml: &'static Nvml,
    driver_version: String,
    given: Vec<String>,
    events: Option<EventSet<'static>>,
    /// GPUs that events are waited for, and those that can't tell any.
    listened: BTreeSet<String>,
    deaf: BTreeSet<String>,
    xids: Vec<(String, u32)>,
}

impl Reader {
    /// For these GPUs; for all that there are, if none is given.
    pub fn open(given: &[String]) -> Result<Reader, Error> {
        let nvml: &'static Nvml = Box::leak(Box::new(Nvml::init().map_err(Error)?));
        let driver_version = nvml.sys_driver_version().unwrap_or_default();
        tracing::info!(driver = driver_version, "GPUs are read through NVIDIA's library");
        Ok(Reader {
            nvml,
            driver_version,
            given: given.to_vec(),
            events: None,
            listened: BTreeSet::new(),
            deaf: BTreeSet::new(),
            xids: Vec::new(),
        })
    }

    /// How they are, and what happened since the last look.
    pub fn look(&mut self) -> Result<Look, Error> {
        let mut look = Look { xids: std::mem::take(&mut self.xids), ..Look::default() };
        let devices = if self.given.is_empty() { self.all()? } else { self.own(&mut look.lost) };
        for (uuid, device) in &devices {
            match read(uuid, device) {
                Ok(sample) => look.samples.push(GpuSample { driver_version: self.driver_version.clone(), ..sample }),
                Err(Lost) => look.lost.push(uuid.clone()),
            }
        }
        self.listen(&devices);
        Ok(look)
    }

    fn own(&self, lost: &mut Vec<String>) -> Vec<(String, Device<'static>)> {
        let mut own = Vec::new();
        for uuid in &self.given {
            match self.nvml.device_by_uuid(uuid.as_str()) {
                Ok(device) => own.push((uuid.clone(), device)),
                Err(NvmlError::GpuLost) => lost.push(uuid.clone()),
                Err(_) => {}
            }
        }
        own
    }

    /// Whole GPUs, and the parts of those that are divided. One that can't be asked for its name is not there.
    fn all(&self) -> Result<Vec<(String, Device<'static>)>, Error> {
        let count = self.nvml.device_count().map_err(Error)?;
        let mut all = Vec::new();
        for device in (0..count).filter_map(|index| self.nvml.device_by_index(index).ok()) {
            let parts = parts(&device);
            let found = if parts.is_empty() { vec![device] } else { parts };
            all.extend(found.into_iter().filter_map(|device| Some((device.uuid().ok()?, device))));
        }
        all.truncate(GPUS_MAX);
        Ok(all)
    }

    /// Asks to be told what goes wrong on them.
    fn listen(&mut self, devices: &[(String, Device<'static>)]) {
        let wanted: BTreeSet<String> =
            devices.iter().map(|(uuid, _)| uuid.clone()).filter(|uuid| !self.deaf.contains(uuid)).collect();
        if wanted == self.listened {
            return;
        }
        // A refusal may cost the whole set, so it is begun anew without the one that refused.
        'anew: loop {
            self.events = None;
            self.listened.clear();
            let Ok(mut events) = self.nvml.create_event_set() else { return };
            for (uuid, device) in devices.iter().filter(|(uuid, _)| !self.deaf.contains(uuid)) {
                match device.register_events(EventTypes::CRITICAL_XID_ERROR, events) {
                    Ok(registered) => events = registered,
                    Err(error) => {
                        tracing::info!(gpu = uuid, %error, "GPU {uuid} tells no Xid");
                        self.deaf.insert(uuid.clone());
                        continue 'anew;
                    }
                }
                self.listened.insert(uuid.clone());
            }
            self.events = (!self.listened.is_empty()).then_some(events);
            return;
        }
    }

    /// Waits for so long, or until something happened on a GPU.
    pub fn wait(&mut self, long: Duration) {
        let until = Instant::now() + long;
        while let Some(events) = &self.events {
            let left =
                if self.xids.is_empty() { until.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
            match events.wait(left_ms) {
                Ok(event) => {
                    let xid = match event.event_data {
                        Some(XidError::Value(xid)) => u32::try_from(xid).unwrap_or(u32::MAX),
                        Some(XidError::Unknown) | None => 0,
                    };
                    if let (Ok(uuid), true) = (event.device.uuid(), xid > 0 && self.xids.len() < EVENTS_MAX) {
                        self.xids.push((uuid, xid));
                        continue;
                    }
                    break;
                }
                // NVML also comes back early, when it was interrupted.
                Err(NvmlError::Timeout) if self.xids.is_empty() && Instant::now() < until => {}
                Err(NvmlError::Timeout) => return,
                // The next look tells what is wrong.
                Err(_) => self.events = None,
            }
        }
        if self.xids.is_empty() {
            std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// The parts of a GPU that is divided (MIG); none of one that is not.
fn parts(device: &Device<'static>) -> Vec<Device<'static>> {
    if !device.mig_mode().is_ok_and(|mode| mode.current == 1) {
        return Vec::new();
    }
    let most = device.mig_device_count().unwrap_or(0);
    (0..most).filter_map(|index| device.mig_device_by_index(index).ok()).collect()
}

/// The GPU does not answer any more.
struct Lost;

fn read(uuid: &str, device: &Device<'_>) -> Result<GpuSample, Lost> {
    let memory = match device.memory_info() {
        Err(NvmlError::GpuLost) => return Err(Lost),
        memory => memory.ok(),
    };
    let utilization = device.utilization_rates().ok();
    let ecc = |kind| device.total_ecc_errors(kind, EccCounter::Volatile).ok();
    Ok(GpuSample {
        uuid: uuid.to_owned(),
        model: device.name().unwrap_or_default(),
        driver_version: String::new(),
        index: device.index().ok(),
        memory_total_bytes: memory.as_ref().map(|memory| memory.total),
        memory_used_bytes: memory.as_ref().map(|memory| memory.used),
        busy_percent: utilization.as_ref().map(|utilization| utilization.gpu),
        memory_busy_percent: utilization.as_ref().map(|utilization| utilization.memory),
        encoder_percent: device.encoder_utilization().ok().map(|encoder| encoder.utilization),
        decoder_percent: device.decoder_utilization().ok().map(|decoder| decoder.utilization),
        power_milliwatts: device.power_usage().ok(),
        energy_millijoules: device.total_energy_consumption().ok(),
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        sm_clock_mhz: device.clock_info(Clock::SM).ok(),
        memory_clock_mhz: device.clock_info(Clock::Memory).ok(),
        throttle_reasons: device.current_throttle_reasons().ok().map(|reasons| reasons.bits()),
        ecc_corrected: ecc(MemoryError::Corrected),
        ecc_uncorrected: ecc(MemoryError::Uncorrected),
        processes: device.running_compute_processes_count().ok(),
        xid: None,
    })
}
