//! Limits of memory that a process lives under, and whether the system has killed for want of it.

use signal_hook::consts::{SIGABRT, SIGKILL};
use std::fmt;
use std::path::{Path, PathBuf};

/// The tightest limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MemoryLimit {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Whose, in words.
    pub(crate) of: String,
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the limit of {} is {:.2} GiB", self.of, self.bytes as f64 / f64::from(1 << 30))
    }
}

/// Who sent a SIGKILL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Killer {
    /// The system, because memory ran out.
    Memory(Option<MemoryLimit>),
    /// Somebody; the system does not say that it was memory.
    Unknown(Option<MemoryLimit>),
    /// The process itself, which lives in a narrow address space.
    Narrow(MemoryLimit),
}

impl Killer {
    /// Whether memory ran out.
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self, Killer::Memory(_))
    }
}

impl fmt::Display for Killer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, limit) = match self {
            Killer::Memory(limit) => ("out of memory", limit),
            Killer::Unknown(limit) => ("sent from outside, or for want of memory", limit),
            Killer::Narrow(limit) => return write!(f, "{limit}"),
        };
        f.write_str(why)?;
        limit.as_ref().map_or(Ok(()), |limit| write!(f, ": {limit}"))
    }
}

/// Where the system says what it knows.
#[derive(Clone, Debug)]
pub(crate) struct System {
    root: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl System {
    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    /// Folders of the memory cgroup of this process and of those above it, with the names of the files that have limit and kills.
    fn groups(&self) -> Vec<(PathBuf, String, &'static str, &'static str)> {
        let own = self.text("proc/self/cgroup").unwrap_or_default();
        let mut groups = vec![];
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let (mount, limit, kills) = match controllers {
                "" => ("sys/fs/cgroup", "memory.max", "memory.events"),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control")
                }
                _ => continue,
            };
            // A container may see its own group as the root of the mount, so that a path of the host is not there.
            for at in Path::new(path).ancestors() {
                let below = at.strip_prefix("/").unwrap_or(at);
                groups.push((Path::new(mount).join(below), at.display().to_string(), limit, kills));
            }
        }
        groups
    }

    /// The tightest limit there is.
    pub(crate) fn limit(&self) -> Option<MemoryLimit> {
        let mut limits = vec![];
        for (folder, name, limit, _) in self.groups() {
            let bytes = self.text(folder.join(limit)).and_then(|text| text.trim().parse().ok());
            limits.extend(bytes.map(|bytes| MemoryLimit { bytes, of: format!("the memory cgroup {name}") }));
        }
        limits.extend(self.address_space());
        let memory = self.text("proc/meminfo").unwrap_or_default();
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = total.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
        limits.extend(kib.map(|kib| MemoryLimit { bytes: kib.saturating_mul(1024), of: "the machine".into() }));
        limits.into_iter().min_by_key(|limit| limit.bytes)
    }

    /// The limit of the address space, where there is one.
    pub(crate) fn address_space(&self) -> Option<MemoryLimit> {
        let text = self.text("proc/self/limits")?;
        let space = text.lines().find_map(|line| line.strip_prefix("Max address space"))?;
        let bytes = space.split_whitespace().next()?.parse().ok()?;
        Some(MemoryLimit { bytes, of: "the address space (ulimit -v)".into() })
    }

    /// How often the system has killed for want of memory, as far as this process can see.
    pub(crate) fn kills(&self) -> u64 {
        let count = |text: String| {
            let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            line.and_then(|count| count.trim().parse::<u64>().ok())
        };
        let own = self.groups().into_iter().find_map(|(folder, _, _, kills)| count(self.text(folder.join(kills))?));
        own.or_else(|| count(self.text("proc/vmstat")?)).unwrap_or_default()
    }

    /// What memory has to do with a signal that ended a process, where there had been `before` kills for want of memory.
    pub(crate) fn killer(&self, signal: i32, before: u64) -> Option<Killer> {
        match signal {
            SIGKILL if self.kills() > before => Some(Killer::Memory(self.limit())),
            SIGKILL => Some(Killer::Unknown(self.limit())),
            // What Rust does when memory cannot be had.
            SIGABRT => self.address_space().map(Killer::Narrow),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths and what they hold.
    type Files<'a> = &'a [(&'a str, &'a str)];

    /// A system that says these things.
    fn system(name: &str, files: &[(&str, &str)]) -> System {
        let root = std::env::temp_dir().join(format!("millstream-memory-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&root));
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("room for a folder");
            std::fs::write(path, text).expect("room for a file");
        }
        System { root }
    }

    #[test]
    fn the_tightest_limit_is_named() {
        let meminfo = ("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n");
        let free =
            "Max cpu time unlimited\nMax address space         unlimited            unlimited            bytes\n";
        let tight = "Max address space         300000000            unlimited            bytes\n";
        let own = ("proc/self/cgroup", "0::/jobs/one\n");
        let old = ("proc/self/cgroup", "5:cpu:/\n4:memory,hugetlb:/old\n");
        let cases: [(&str, Files<'_>, &str); 4] = [
            ("machine", &[meminfo, ("proc/self/limits", free)], "the limit of the machine is 16.00 GiB"),
            (
                "rlimit",
                &[meminfo, ("proc/self/limits", tight)],
                "the limit of the address space (ulimit -v) is 0.28 GiB",
            ),
            (
                "v2",
                &[
                    meminfo,
                    own,
                    ("sys/fs/cgroup/jobs/one/memory.max", "max\n"),
                    ("sys/fs/cgroup/jobs/memory.max", "2147483648\n"),
                ],
                "the limit of the memory cgroup /jobs is 2.00 GiB",
            ),
            (
                "v1",
                &[meminfo, old, ("sys/fs/cgroup/memory/old/memory.limit_in_bytes", "1073741824\n")],
                "the limit of the memory cgroup /old is 1.00 GiB",
            ),
        ];
        for (name, files, expect) in cases {
            assert_eq!(system(name, files).limit().map(|limit| limit.to_string()).as_deref(), Some(expect));
        }
        assert_eq!(system("nothing", &[]).limit(), None);
    }

    #[test]
    fn kills_for_want_of_memory_are_seen() {
        let own = ("proc/self/cgroup", "0::/jobs\n");
        let events = ("sys/fs/cgroup/jobs/memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 0\n");
        let machine = ("proc/vmstat", "nr_free_pages 1\noom_kill 9\n");
        assert_eq!(system("kills", &[own, events, machine]).kills(), 3);
        assert_eq!(system("machine-kills", &[own, machine]).kills(), 9);
        let system = system("killer", &[own, events]);
        assert_eq!(system.killer(SIGKILL, 3), Some(Killer::Unknown(None)));
        assert_eq!(system.killer(SIGKILL, 2), Some(Killer::Memory(None)));
        assert_eq!((system.killer(SIGABRT, 2), system.killer(15, 2)), (None, None));
    }
}
