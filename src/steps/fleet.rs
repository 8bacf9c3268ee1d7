//! Several models that share the memory and the cores of one process, planned together before any is loaded.
//!
//! Shared are the budget of memory and the number of threads, and nothing else: every model has its own lanes, pages and queues, so what
//! one does never changes a bit of what another does. Each gets what its weights and buffers need; what is left is cut into equal parts
//! for their caches. Threads are dealt out as evenly as they go, at least one each; with more models than cores they share cores.

use crate::engine::{Engine, EngineBuilder, EngineError, devices};
use crate::error::Error;
use graph::plan::Plan;

/// Models that are to share a process.
#[derive(Clone, Default)]
pub struct FleetPlan {
    models: Vec<(String, EngineBuilder)>,
    memory_bytes: Option<u64>,
    threads: Option<usize>,
}

impl std::fmt::Debug for FleetPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.models.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("FleetPlan").field("models", &names).finish_non_exhaustive()
    }
}

/// A model with its share.
struct Member {
    name: String,
    builder: EngineBuilder,
    plan: Plan,
}

impl FleetPlan {
    /// One more model, under a name of its own.
    pub fn model(mut self, name: impl Into<String>, builder: EngineBuilder) -> Self {
        self.models.push((name.into(), builder));
        self
    }

    /// Bytes of memory for all of them; what the system has available unless given.
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }

    /// Threads of all of them; one a core unless given.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Plans all of them with their shares.
    fn members(&self) -> Result<Vec<Member>, Error> {
        let has = self.memory_bytes.unwrap_or_else(devices::available_bytes);
        let (mut faults, mut needs) = (vec![], vec![]);
        for (name, builder) in &self.models {
            if self.models.iter().filter(|(other, _)| other == name).count() > 1 {
                faults.push(EngineError::Steps(vec![format!("model {name:?}: two models have this name")]).into());
            }
            // What it needs at least does not depend on what it may have.
            match builder.clone().memory_bytes(has).plan() {
                Ok((_, plan)) => needs.push(plan.data().devices.iter().map(|d| d.weight_bytes + d.buffer_bytes).sum()),
                Err(error) => faults.push(error),
            }
        }
        Error::all(faults)?;
        let fixed: u64 = needs.iter().sum();
        let names = || self.models.iter().map(|(name, _)| name.clone()).collect();
        let Some(left) = has.checked_sub(fixed) else {
            return Err(EngineError::Fleet { models: names(), needs: fixed, has }.into());
        };
        let count = self.models.len().max(1);
        let threads = self.threads.unwrap_or_else(devices::cores);
        let (mut members, mut faults) = (vec![], vec![]);
        for (place, ((name, builder), fixed)) in self.models.iter().zip(needs).enumerate() {
            // The first ones get what does not divide.
            let share = threads / count + usize::from(place < threads % count);
            let devices = builder.threads.is_none().then_some(share);
            let builder = builder.clone().memory_bytes(fixed + left / count as u64);
            let builder = devices.map_or(builder.clone(), |share| builder.at_least_a_thread_each(share));
            match builder.plan() {
                Ok((_, plan)) => members.push(Member { name: name.clone(), builder, plan }),
                Err(error) => faults.push(error),
            }
        }
        Error::all(faults)?;
        Ok(members)
    }

    /// What each model gets, one a line, without loading a weight.
    ///
    /// # Errors
    /// All faults of all models, or that they do not fit together.
    pub fn explain(&self) -> Result<String, Error> {
        let line = |member: &Member| {
            let sum =
                |of: fn(&graph::plan::DevicePlan) -> u64| -> u64 { member.plan.data().devices.iter().map(of).sum() };
            let (weights, cache) = (sum(|device| device.weight_bytes), sum(|device| device.cache_bytes));
            let (buffers, share) = (sum(|device| device.buffer_bytes), sum(|device| device.memory_bytes));
            let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / (1u64 << 20) as f64);
            format!(
                "{}: {} of {} (weights {}, key/value cache {}, buffers {}), {} threads",
                member.name,
                mib(weights + cache + buffers),
                mib(share),
                mib(weights),
                mib(cache),
                mib(buffers),
                member.builder.all_threads().threads
            )
        };
        Ok(self.members()?.iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    /// Loads and starts all of them.
    ///
    /// # Errors
    /// All faults of all models before a weight is read, or whatever reading the weights fails with.
    pub fn build(self) -> Result<Fleet, Error> {
        let built = self.members()?.into_iter().map(|member| Ok((member.name, member.builder.build()?)));
        Ok(Fleet { engines: built.collect::<Result<_, Error>>()? })
    }
}

/// Models that run side by side.
#[derive(Clone, Debug)]
pub struct Fleet {
    engines: Vec<(String, Engine)>,
}

impl Fleet {
    /// No models yet.
    pub fn plan() -> FleetPlan {
        FleetPlan::default()
    }

    /// The model of this name.
    pub fn engine(&self, name: &str) -> Option<&Engine> {
        self.engines.iter().find(|(own, _)| own == name).map(|(_, engine)| engine)
    }

    /// All of them, in the order in which they were named.
    pub fn engines(&self) -> impl Iterator<Item = (&str, &Engine)> {
        self.engines.iter().map(|(name, engine)| (name.as_str(), engine))
    }
}
