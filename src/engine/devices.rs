//! The devices of this process: cores and memory, divided over the devices of a plan.

use super::EngineError;
use graph::plan::DeviceSpec;
use kernels::{Team, TeamSpec};
use std::sync::Arc;

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes of memory that could be had now; 4 GiB where the system does not say.
fn available_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.map_or(4 << 30, |kib| kib * 1024)
}

/// The devices named, or as many CPU devices as there are ranks.
pub(crate) fn specs(names: Option<&[String]>, ranks: u32) -> Result<Vec<DeviceSpec>, EngineError> {
    let default = || (0..ranks).map(|k| format!("cpu:{k}")).collect();
    let names: Vec<String> = names.map_or_else(default, <[String]>::to_vec);
    let memory_bytes = available_bytes() / names.len().max(1) as u64;
    let spec = |name: String| match name.strip_prefix("cpu:").map(str::parse::<u16>) {
        Some(Ok(_)) => Ok(DeviceSpec { name, memory_bytes }),
        Some(Err(_)) | None => Err(EngineError::Device { device: name, has: format!("cpu:K, over {} cores", cores()) }),
    };
    names.into_iter().map(spec).collect()
}

/// The threads and cores of all of `devices` devices together, as [`teams`] deals them out.
pub(crate) fn all_threads(devices: usize, threads: Option<usize>, pin: bool) -> TeamSpec {
    let cores = cores();
    let all = (threads.unwrap_or(cores) / devices).max(1) * devices;
    let fits = all <= cores;
    TeamSpec { threads: all, cores: (pin && fits).then(|| (0..all).collect()), spin: fits }
}

/// A team for each of `devices` devices: `threads` in all, or one a core. Says too whether waiting threads may spin.
pub(crate) fn teams(devices: usize, threads: Option<usize>, pin: bool) -> Result<(Vec<Arc<Team>>, bool), EngineError> {
    let cores = cores();
    if let Some(threads) = threads.filter(|&threads| threads < devices) {
        return Err(EngineError::Threads { threads, devices });
    }
    let each = (threads.unwrap_or(cores) / devices).max(1);
    let fits = each * devices <= cores;
    let team = |device: usize| {
        let own = (pin && fits).then(|| (device * each..(device + 1) * each).collect());
        Arc::new(Team::new(TeamSpec { threads: each, cores: own, spin: fits }))
    };
    Ok(((0..devices).map(team).collect(), fits))
}
