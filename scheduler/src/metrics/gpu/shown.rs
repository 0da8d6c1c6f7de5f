//! GPUs one by one, as text: what each does at this moment. Values carry only the GPU's id, and `framewake_gpu_info` the
//! rest, because a page of thousands of GPUs is mostly labels.

use super::super::text::{head, sample};
use super::Gpu;

const MIB: u64 = 1024 * 1024;

pub(super) fn write_counts(gpus: usize, hidden: usize, out: &mut String) {
    head(out, "framewake_gpus", "gauge", "GPUs that workers speak of.");
    sample(out, "framewake_gpus", &[], gpus);
    head(out, "framewake_gpus_hidden", "gauge", "Those of them that are not shown one by one: there are too many.");
    sample(out, "framewake_gpus_hidden", &[], hidden);
}

pub(super) fn write_each(gpus: &[(&str, &Gpu)], out: &mut String) {
    head(out, "framewake_gpu_info", "gauge", "What a GPU is, where, and for which function.");
    for (id, gpu) in gpus {
        let index = gpu.sample.index.map_or_else(String::new, |index| index.to_string());
        let labels = [
            ("uuid", *id),
            ("gpu", gpu.kind.model.as_ref()),
            ("host", gpu.host.as_ref()),
            ("index", &index),
            ("driver", gpu.sample.driver_version.as_str()),
            ("function", gpu.kind.function.as_ref()),
        ];
        sample(out, "framewake_gpu_info", &labels, 1);
    }
    let mut each = |name: &str, help: &str, of: &dyn Fn(&Gpu) -> Option<f64>| {
        head(out, name, "gauge", help);
        for (id, gpu) in gpus {
            if let Some(value) = of(gpu) {
                sample(out, name, &[("uuid", *id)], value);
            }
        }
    };
    each("framewake_gpu_working", "1 while its worker holds a chunk.", &|gpu| Some(f64::from(gpu.attempt.0 != 0)));
    each("framewake_gpu_busy_ratio", "Part of the time in which kernels run.", &|gpu| {
        gpu.sample.busy_percent.map(|percent| f64::from(percent.min(100)) / 100.0)
    });
    each("framewake_gpu_memory_used_bytes", "Memory in use.", &|gpu| {
        gpu.sample.memory_used_bytes.map(|bytes| bytes as f64)
    });
    each("framewake_gpu_memory_total_bytes", "Memory there is.", &|gpu| {
        gpu.sample.memory_total_bytes.map(|bytes| bytes as f64)
    });
    each("framewake_gpu_power_watts", "Power.", &|gpu| gpu.sample.power_milliwatts.map(|mw| f64::from(mw) / 1000.0));
    each("framewake_gpu_temperature_celsius", "Temperature.", &|gpu| gpu.sample.temperature_celsius.map(f64::from));
    each("framewake_gpu_sm_clock_hertz", "Clock of its processors.", &|gpu| {
        gpu.sample.sm_clock_mhz.map(|mhz| f64::from(mhz) * 1e6)
    });
}

/// Under the names, labels and units of dcgm-exporter.
pub(super) fn write_dcgm(gpus: &[(&str, &Gpu)], out: &mut String) {
    let mut each = |name: &str, kind: &str, help: &str, of: &dyn Fn(&Gpu) -> Option<u64>| {
        head(out, name, kind, help);
        for (id, gpu) in gpus {
            let Some(value) = of(gpu) else { continue };
            let index = gpu.sample.index.map_or_else(String::new, |index| index.to_string());
            let device = format!("nvidia{index}");
            let labels = [
                ("gpu", index.as_str()),
                ("UUID", *id),
                ("device", device.as_str()),
                ("modelName", gpu.sample.model.as_str()),
                ("Hostname", gpu.host.as_ref()),
            ];
            sample(out, name, &labels, value);
        }
    };
    each("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", &|gpu| gpu.sample.busy_percent.map(u64::from));
    each("DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB).", &|gpu| {
        gpu.sample.memory_used_bytes.map(|bytes| bytes / MIB)
    });
    each("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", &|gpu| {
        gpu.sample.power_milliwatts.map(|mw| u64::from(mw) / 1000)
    });
    each("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "Energy since boot (in mJ).", &|gpu| {
        gpu.sample.energy_millijoules
    });
    each("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C).", &|gpu| {
        gpu.sample.temperature_celsius.map(u64::from)
    });
    each("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz).", &|gpu| {
        gpu.sample.sm_clock_mhz.map(u64::from)
    });
    each("DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock frequency (in MHz).", &|gpu| {
        gpu.sample.memory_clock_mhz.map(u64::from)
    });
    each("DCGM_FI_DEV_XID_ERRORS", "gauge", "Value of the last XID error encountered.", &|gpu| {
        Some(gpu.sample.xid.unwrap_or(0).into())
    });
}
