//! The devices of this process: cores and memory, divided over the devices of a plan.

use super::EngineError;
use graph::plan::{DeviceSpec, gpu_number};
use kernels::cuda::{self, Probe, probe};
use kernels::{Team, TeamSpec};
use std::sync::{Arc, OnceLock};

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

/// Kinds of devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DeviceKind {
    /// GPUs where there are any, else the cores.
    #[default]
    Auto,
    /// The cores.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
}

/// The devices that somebody asked for.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) kind: DeviceKind,
    pub(crate) names: Option<&'a [String]>,
    pub(crate) memory: Option<u64>,
}

/// The maker's name of a GPU, by the name of a device; `None` for the cores.
pub(crate) fn gpu_model(name: &str) -> Option<String> {
    gpu_number(name)
        .map(|number| cuda::Device::open(number).map_or_else(|fault| fault.to_string(), |device| device.model()))
}

/// What there is of GPUs; looked for once a process.
pub(crate) fn gpus() -> &'static Probe {
    static FOUND: OnceLock<Probe> = OnceLock::new();
    FOUND.get_or_init(probe)
}

/// What `--device auto` comes to, in words, where that is not a GPU.
pub(crate) fn fallback(asked: Asked<'_>) -> Option<String> {
    match (asked.kind, asked.names, gpus()) {
        (DeviceKind::Auto, None, Probe::Absent(why)) => Some(format!("device: the cores ({why})")),
        (DeviceKind::Auto | DeviceKind::Cpu | DeviceKind::Cuda, _, _) => None,
    }
}

/// The devices named, or as many of a kind as there are ranks. CPU devices have equal shares of `memory` or of what is available, GPUs
/// what is free of theirs.
pub(crate) fn specs(asked: Asked<'_>, ranks: u32) -> Result<Vec<DeviceSpec>, EngineError> {
    let kind = match (asked.kind, gpus()) {
        (DeviceKind::Cuda, Probe::Absent(why)) if asked.names.is_none() => {
            return Err(EngineError::NoGpu { why: why.clone() });
        }
        (DeviceKind::Cuda, _) | (DeviceKind::Auto, Probe::Devices(_)) => "cuda",
        (DeviceKind::Cpu, _) | (DeviceKind::Auto, Probe::Absent(_)) => "cpu",
    };
    let default = || (0..ranks).map(|k| format!("{kind}:{k}")).collect();
    let names: Vec<String> = asked.names.map_or_else(default, <[String]>::to_vec);
    let there = match gpus() {
        Probe::Devices(count) => *count,
        Probe::Absent(_) => 0,
    };
    let exists = |name: &String| match gpu_number(name) {
        Some(number) => number < there,
        None => matches!(name.strip_prefix("cpu:").map(str::parse::<u16>), Some(Ok(_))),
    };
    let (found, missing): (Vec<String>, Vec<String>) = names.into_iter().partition(exists);
    if !missing.is_empty() {
        let gpus = match gpus() {
            Probe::Devices(count) => format!(", and cuda:0 to cuda:{}", count - 1),
            Probe::Absent(why) if missing.iter().any(|name| gpu_number(name).is_some()) => format!("; no GPU: {why}"),
            Probe::Absent(_) => String::new(),
        };
        let has = format!("cpu:K for any K, over {} cores{gpus}", cores());
        return Err(EngineError::Device { devices: missing, has });
    }
    let on_cores = found.iter().filter(|name| gpu_number(name).is_none()).count() as u64;
    let share = asked.memory.unwrap_or_else(available_bytes) / on_cores.max(1);
    let spec = |name: String| {
        let memory_bytes = match gpu_number(&name) {
            Some(number) => asked.memory.map_or_else(|| gpu_bytes(number), Ok)?,
            None => share,
        };
        Ok(DeviceSpec { name, memory_bytes })
    };
    found.into_iter().map(spec).collect()
}

/// Bytes of a GPU that are free, less a twentieth for what the driver takes for itself.
fn gpu_bytes(number: u32) -> Result<u64, EngineError> {
    let free = cuda::Device::open(number).and_then(|device| Ok(device.memory()?.0));
    free.map(|free| free / 20 * 19).map_err(|fault| EngineError::Kernels(vec![fault.into()]))
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
        Team::start(TeamSpec { threads: each, cores: own, spin: fits }).map(Arc::new).map_err(EngineError::Thread)
    };
    Ok(((0..devices).map(team).collect::<Result<_, _>>()?, fits))
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
