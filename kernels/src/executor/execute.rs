//! What every kind of device does with a program.

use crate::draws::{Drawn, TokenDraw};
use crate::error::KernelError;
use crate::memory::Memory;
use crate::step::Step;
use graph::plan::{PAGE_ROWS, Place, Plan, Program, RowSet};

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

impl Limits {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> Self {
        let settings = &plan.data().settings;
        Self {
            rows_max: settings.max_num_batched_tokens,
            sampled_max: settings.sampled_rows_max,
            pages: plan.pages(),
            window_pages: plan.windows().pages,
            slots: plan.slots(),
            spans_max: settings.max_num_seqs,
            span_pages_max: settings.max_model_len.div_ceil(PAGE_ROWS),
        }
    }
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

    /// The output of whose rows it draws tokens itself, if it does.
    fn draws_from(&self) -> Option<usize> {
        None
    }

    /// As [`run`](Self::run), and draws what `draws` says of the sampled rows of the output it draws from. That output is written only where
    /// `needs_logits`. One that does not draw leaves `drawn` empty.
    ///
    /// # Errors
    /// As `run`.
    fn run_and_draw(
        &mut self,
        step: &Step,
        (inputs, outputs): (&[&Memory], &mut [&mut Memory]),
        (_draws, _needs_logits): (&[TokenDraw], bool),
        drawn: &mut Drawn,
    ) -> Result<(), KernelError> {
        drawn.clear();
        self.run(step, inputs, outputs)
    }
}

/// An input or output of a program.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Port {
    /// Bytes of one of all rows, and of one of the sampled rows; of a port one of both is 0.
    row_bytes: [u64; 2],
}

impl Port {
    /// Bytes in a step of so many rows, of which so many are sampled.
    pub(crate) fn bytes(&self, rows: u32, sampled: u32) -> u64 {
        (u64::from(rows) * self.row_bytes[0]).max(u64::from(sampled) * self.row_bytes[1])
    }
}

/// The inputs and the outputs of a program.
pub(crate) fn ports(program: &Program) -> (Vec<Port>, Vec<Port>) {
    let (mut inputs, mut outputs) = (vec![], vec![]);
    for call in &program.calls {
        call.visit(&mut |_, operand| {
            let (ports, number): (&mut Vec<Port>, u16) = match operand.place {
                Place::Input(number) => (&mut inputs, number),
                Place::Output(number) => (&mut outputs, number),
                Place::Scratch(_) => return,
            };
            if ports.len() <= number as usize {
                ports.resize(number as usize + 1, Port::default());
            }
            let set = match operand.rows {
                RowSet::All => 0,
                RowSet::Sampled => 1,
            };
            let bytes = &mut ports[number as usize].row_bytes[set];
            *bytes = (*bytes).max(u64::from(operand.width) * 4);
        });
    }
    (inputs, outputs)
}
