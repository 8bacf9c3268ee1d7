//! What can be wrong with a program, a weight or a step. Every message says what, where, wanted and got.

use crate::cuda::DriverFault;

/// Why a kernel, a weight or a step was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KernelError {
    /// No kernel exists for this op and element type.
    #[error("{op}: no kernel for {dtype} on {device}")]
    Missing {
        /// The op.
        op: &'static str,
        /// The element type of its weight or cache.
        dtype: &'static str,
        /// The device kind.
        device: &'static str,
    },
    /// A weight's specification contradicts itself or its use.
    #[error("weight {name}: {what}: wanted {wanted}, got {got}")]
    Weight {
        /// The weight's name in the checkpoint.
        name: String,
        /// What is wrong.
        what: &'static str,
        /// What was wanted.
        wanted: u64,
        /// What there is.
        got: u64,
    },
    /// A call names a weight that the program does not have.
    #[error("call {call} ({op}): weight {weight} of a program with {weights}")]
    NoWeight {
        /// Number of the call.
        call: usize,
        /// Its op.
        op: &'static str,
        /// The weight it names.
        weight: u32,
        /// Weights there are.
        weights: usize,
    },
    /// A call uses a weight that is laid out for another use.
    #[error("call {call} ({op}): weight {name} is not laid out for this op")]
    WrongUse {
        /// Number of the call.
        call: usize,
        /// Its op.
        op: &'static str,
        /// The weight's name.
        name: String,
    },
    /// A shape of a call does not fit.
    #[error("call {call} ({op}): {what}: wanted {wanted}, got {got}")]
    Shape {
        /// Number of the call.
        call: usize,
        /// Its op.
        op: &'static str,
        /// What does not fit.
        what: &'static str,
        /// What was wanted.
        wanted: u64,
        /// What there is.
        got: u64,
    },
    /// Two operands of a call overlap where the call does not allow it, or a call writes an input.
    #[error("call {call} ({op}): {what}")]
    Alias {
        /// Number of the call.
        call: usize,
        /// Its op.
        op: &'static str,
        /// Which operands.
        what: &'static str,
    },
    /// A step does not fit the limits an executor was built for.
    #[error("step {step}: {what}: at most {limit}, got {got}")]
    Step {
        /// Number of the step.
        step: u64,
        /// What does not fit.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// What the step has.
        got: u64,
    },
    /// The driver of a GPU failed.
    #[error("{}{fault}", at(.call))]
    Device {
        /// Number and op of the call that it failed at, where it is one's.
        call: Option<(u32, &'static str)>,
        /// What it said.
        fault: DriverFault,
    },
    /// A parameter of a launch breaks what its kernel was promised.
    #[error("call {call} ({op}): {kernel} was compiled for {param} a multiple of 16, got {value}")]
    Unaligned {
        /// Number of the call.
        call: usize,
        /// Its op.
        op: &'static str,
        /// The compiled kernel.
        kernel: &'static str,
        /// The parameter.
        param: &'static str,
        /// Its value.
        value: u64,
    },
    /// A buffer handed to a step is too small or missing.
    #[error("step {step}: {what} {index}: wanted {wanted} bytes, got {got}")]
    Buffer {
        /// Number of the step.
        step: u64,
        /// Input or output.
        what: &'static str,
        /// Which one.
        index: usize,
        /// Bytes wanted.
        wanted: u64,
        /// Bytes there are.
        got: u64,
    },
}

impl From<DriverFault> for KernelError {
    fn from(fault: DriverFault) -> Self {
        Self::Device { call: None, fault }
    }
}

/// Where in a program, as messages begin.
fn at(call: &Option<(u32, &'static str)>) -> String {
    call.map_or_else(String::new, |(number, op)| format!("call {number} ({op}): "))
}
