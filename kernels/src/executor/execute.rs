//! What every kind of device does with a program.

use crate::error::KernelError;
use crate::memory::Memory;
use crate::step::Step;
use graph::plan::{Operand, Place, Program};

/// The largest step an executor takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Rows of a step.
    pub rows_max: u32,
    /// Sampled rows of a step.
    pub sampled_max: u32,
    /// Pages of the cache.
    pub pages: u32,
    /// Pages of layers with a window; none where they use the others.
    pub window_pages: u32,
    /// Slots of recurrent state; none where no op recurs.
    pub slots: u32,
    /// Sequences of a step.
    pub spans_max: u32,
    /// Pages of a sequence.
    pub span_pages_max: u32,
}

/// What runs a program step after step, on some kind of device.
pub trait Execute: Send {
    /// The program.
    fn program(&self) -> &Program;

    /// Bytes of weights that a step reads once, whatever its rows.
    fn weight_bytes(&self) -> u64;

    /// Runs every call over one step.
    ///
    /// # Errors
    /// A step beyond the limits, or a buffer too small for it: then nothing has been computed. What a device says.
    fn run(&mut self, step: &Step, inputs: &[&Memory], outputs: &mut [&mut Memory]) -> Result<(), KernelError>;
}

/// Bytes of each input and each output in the largest step, by what an operand takes of them.
pub(crate) fn most_ports(program: &Program, bytes: impl Fn(&Operand) -> u64) -> (Vec<u64>, Vec<u64>) {
    let (mut inputs, mut outputs) = (vec![], vec![]);
    for call in &program.calls {
        call.visit(&mut |_, operand| {
            let (ports, port): (&mut Vec<u64>, u16) = match operand.place {
                Place::Input(port) => (&mut inputs, port),
                Place::Output(port) => (&mut outputs, port),
                Place::Scratch(_) => return,
            };
            if ports.len() <= port as usize {
                ports.resize(port as usize + 1, 0);
            }
            ports[port as usize] = ports[port as usize].max(bytes(operand));
        });
    }
    (inputs, outputs)
}
