//! The devices of this process: cores and memory, divided over the devices of a plan.

use super::EngineError;
use graph::plan::DeviceSpec;
use kernels::{Team, TeamSpec};
use std::sync::Arc;

/// How many cores this process may use.
pub(crate) fn cores() -> usize {
    own_cores().len()
}

/// The cores that the calling thread may run on, as many as a quota leaves it; a part of the machine where somebody has cut it.
fn own_cores() -> Vec<usize> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let allowed: Vec<usize> = list.split(',').filter_map(core_range).flatten().take(count).collect();
    if allowed.len() == count { allowed } else { (0..count).collect() }
}

/// `3` or `4-7`.
fn core_range(text: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (first, last) = text.trim().split_once('-').unwrap_or((text.trim(), text.trim()));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// Bytes of memory that could be had now; 4 GiB where the system does not say.
pub(crate) fn available_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.map_or(4 << 30, |kib| kib * 1024)
}

/// The devices named, or as many CPU devices as there are ranks, with equal shares of `memory` or of what is available.
pub(crate) fn specs(names: Option<&[String]>, ranks: u32, memory: Option<u64>) -> Result<Vec<DeviceSpec>, EngineError> {
    let default = || (0..ranks).map(|k| format!("cpu:{k}")).collect();
    let names: Vec<String> = names.map_or_else(default, <[String]>::to_vec);
    let memory_bytes = memory.unwrap_or_else(available_bytes) / names.len().max(1) as u64;
    let exists = |name: &String| matches!(name.strip_prefix("cpu:").map(str::parse::<u16>), Some(Ok(_)));
    let (there, missing): (Vec<String>, Vec<String>) = names.into_iter().partition(exists);
    if !missing.is_empty() {
        return Err(EngineError::Device { devices: missing, has: format!("cpu:K for any K, over {} cores", cores()) });
    }
    Ok(there.into_iter().map(|name| DeviceSpec { name, memory_bytes }).collect())
}

/// Threads of each device, of `threads` in all or one a core.
pub(crate) fn threads_each(devices: usize, threads: Option<usize>) -> Result<usize, EngineError> {
    match threads {
        Some(threads) if threads < devices => Err(EngineError::Threads { threads, devices }),
        Some(threads) => Ok((threads / devices).max(1)),
        None => Ok((cores() / devices).max(1)),
    }
}

/// The threads and cores of all of `devices` devices together, as [`teams`] deals them out.
pub(crate) fn all_threads(devices: usize, threads: Option<usize>, pin: bool) -> TeamSpec {
    let cores = own_cores();
    let all = (threads.unwrap_or(cores.len()) / devices).max(1) * devices;
    let fits = all <= cores.len();
    TeamSpec { threads: all, cores: (pin && fits).then(|| cores[..all].to_vec()), spin: fits }
}

/// A team for each of `devices` devices: `threads` in all, or one a core. Says too whether waiting threads may spin.
pub(crate) fn teams(devices: usize, threads: Option<usize>, pin: bool) -> Result<(Vec<Arc<Team>>, bool), EngineError> {
    let (cores, each) = (own_cores(), threads_each(devices, threads)?);
    let fits = each * devices <= cores.len();
    let team = |device: usize| {
        let own = (pin && fits).then(|| cores[device * each..(device + 1) * each].to_vec());
        Arc::new(Team::new(TeamSpec { threads: each, cores: own, spin: fits }))
    };
    Ok(((0..devices).map(team).collect(), fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_on_one_core_has_that_core() {
        assert_eq!(core_range("4-7"), Some(4..=7));
        assert_eq!(core_range(" 3"), Some(3..=3));
        assert_eq!(core_range("x"), None);
        let all = own_cores();
        let last = *all.last().expect("a process has a core");
        let found = std::thread::spawn(move || {
            Team::new(TeamSpec { threads: 1, cores: Some(vec![last]), spin: false }).pin_caller().expect("it is ours");
            own_cores()
        });
        assert_eq!(found.join().expect("no panic"), [last]);
    }
}
