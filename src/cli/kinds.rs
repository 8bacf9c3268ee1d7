//! Flags whose values are names.

use clap::ValueEnum;

/// Kinds of devices.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(super) enum DeviceKind {
    /// GPUs where there are any, else the cores.
    Auto,
    /// The cores.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
}

/// What the bits of a result may depend on.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(super) enum Numerics {
    /// On the request and the tensor and expert degrees alone.
    Invariant,
    /// On the request alone: sums that ranks may share are made in a tree.
    Tree,
}

impl DeviceKind {
    /// The same for the engine.
    pub(super) fn of_engine(self) -> crate::engine::DeviceKind {
        match self {
            Self::Auto => crate::engine::DeviceKind::Auto,
            Self::Cpu => crate::engine::DeviceKind::Cpu,
            Self::Cuda => crate::engine::DeviceKind::Cuda,
        }
    }
}

impl Numerics {
    /// The same for the plan.
    pub(super) fn of_plan(self) -> graph::plan::Numerics {
        match self {
            Self::Invariant => graph::plan::Numerics::Invariant,
            Self::Tree => graph::plan::Numerics::Tree,
        }
    }
}
