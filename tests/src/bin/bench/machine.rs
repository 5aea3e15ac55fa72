//! The machine that is measured on.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// The part of all processors that is busy, of one second in which we sleep.
pub(crate) fn busy() -> Result<f64, String> {
    let (busy_before, all_before) = ticks()?;
    thread::sleep(Duration::from_secs(1));
    let (busy, all) = ticks()?;
    Ok((busy - busy_before) as f64 / (all - all_before).max(1) as f64)
}

/// Busy ticks and all ticks since the start (`proc_stat(5)`).
fn ticks() -> Result<(u64, u64), String> {
    const IDLE: [usize; 2] = [3, 4]; // and waiting for a disk

    let stat = read("/proc/stat")?;
    let cpu = stat.lines().next().unwrap_or_default();
    // Guests' ticks, after the eighth column, are in the first two already.
    let ticks = cpu.split_ascii_whitespace().skip(1).take(8);
    let ticks: Vec<u64> = ticks.map_while(|ticks| ticks.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = IDLE.iter().filter_map(|column| ticks.get(*column)).sum();
    Ok((all - idle, all))
}

/// What to know of it beside the figures.
pub(crate) fn describe() -> Result<Value, String> {
    let processors = read("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']));
    Ok(json!({
        "processor": model,
        "processors": thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease")?.trim(),
        "load": read("/proc/loadavg")?.trim(),
        "date": jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
    }))
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}
