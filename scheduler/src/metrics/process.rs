//! What the process takes of the machine, under the names that every Prometheus client library uses.

use super::text::{head, sample};
use std::fs;

pub(super) fn write(out: &mut String) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in brackets, which may have spaces (proc(5)): utime, stime and rss are fields 14, 15 and 24.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    let seconds = (field(14) + field(15)) / rustix::param::clock_ticks_per_second() as f64;
    let bytes = field(24) * rustix::param::page_size() as f64;
    let files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let files_max = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0);
    head(out, "process_cpu_seconds_total", "counter", "Seconds of CPU, user and system.");
    sample(out, "process_cpu_seconds_total", &[], seconds);
    head(out, "process_resident_memory_bytes", "gauge", "Memory in use.");
    sample(out, "process_resident_memory_bytes", &[], bytes);
    head(out, "process_open_fds", "gauge", "Open files and connections.");
    sample(out, "process_open_fds", &[], files);
    head(out, "process_max_fds", "gauge", "Most open files and connections.");
    sample(out, "process_max_fds", &[], files_max);
}
