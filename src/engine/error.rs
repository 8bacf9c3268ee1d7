//! Why an engine could not be built, or stopped.

use crate::error::ExitCode;
use graph::ConfigFault;
use graph::plan::PlanError;
use kernels::KernelError;
use std::fmt::Display;

/// A fault of building or running an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The configuration describes no model that is known.
    #[error("{}", lines(.0))]
    Architecture(Vec<ConfigFault>),
    /// The deployment is not possible.
    #[error("{}", lines(.0))]
    Plan(Vec<PlanError>),
    /// A weight or program was refused by the kernels.
    #[error("{}", lines(.0))]
    Kernels(Vec<KernelError>),
    /// Steps of a job that do not fit together.
    #[error("{}", .0.join("\n"))]
    Steps(Vec<String>),
    /// Models that do not fit one machine together.
    #[error(
        "{} are needed by {} in all, and {} are there: give fewer or smaller models, or a lower kv-cache-memory-bytes",
        bytes(*.needs), .models.join(", "), bytes(*.has)
    )]
    Fleet {
        /// Their names.
        models: Vec<String>,
        /// Bytes they need.
        needs: u64,
        /// Bytes there are.
        has: u64,
    },
    /// An edge that the model does not have.
    #[error("no edge of this model is called {asked}; the nearest: {}; * stands for any text", .nearest.join(", "))]
    Edge {
        /// What was asked for.
        asked: String,
        /// Names that are near.
        nearest: Vec<String>,
    },
    /// Devices that this machine or build does not have.
    #[error("--devices {}: no such device; this machine has {has}", .devices.join(", "))]
    Device {
        /// What was asked for in vain.
        devices: Vec<String>,
        /// What there is.
        has: String,
    },
    /// No GPU where one was asked for.
    #[error("--device cuda: {why}; --device cpu computes on the cores, --device auto on what there is")]
    NoGpu {
        /// Why there is none.
        why: String,
    },
    /// Fewer threads than devices.
    #[error("--threads {threads} for {devices} devices; every device needs a thread")]
    Threads {
        /// Threads given.
        threads: usize,
        /// Devices of the plan.
        devices: usize,
    },
    /// The system would not start a thread.
    #[error("a thread could not be started: {}{}", .0, crate::supervise::address_space())]
    Thread(#[from] std::io::Error),
    /// The engine has ended.
    #[error("the engine has ended{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Ended(Option<String>),
}

impl EngineError {
    /// What a command exits with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            EngineError::Architecture(_)
            | EngineError::Plan(_)
            | EngineError::Steps(_)
            | EngineError::Fleet { .. }
            | EngineError::Edge { .. }
            | EngineError::Device { .. }
            | EngineError::NoGpu { .. }
            | EngineError::Thread(_)
            | EngineError::Threads { .. } => ExitCode::Config,
            EngineError::Kernels(_) | EngineError::Ended(_) => ExitCode::Bug,
        }
    }
}

fn lines<T: Display>(faults: &[T]) -> String {
    faults.iter().map(T::to_string).collect::<Vec<_>>().join("\n")
}

fn bytes(count: u64) -> String {
    format!("{:.2} GiB", count as f64 / (1u64 << 30) as f64)
}
