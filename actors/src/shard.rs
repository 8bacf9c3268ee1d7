//! A layer shard: the stage that computes a segment of the model for one rank.

use crate::stage::{Firing, Refusal, Stage};
use crate::tensor::Tensor;
use fail::fail_point;
use graph::plan::{Program, RowSet};
use kernels::Executor;
use kernels::executor::PORTS_MAX;
use smallvec::SmallVec;

/// Runs a program once a step.
pub struct LayerShard {
    executor: Executor,
    /// Which rows each output has.
    outputs: Vec<RowSet>,
    weight_bytes: u64,
}

impl LayerShard {
    /// A stage over `executor`, whose program has `outputs` outputs.
    pub fn new(executor: Executor, outputs: usize) -> Self {
        let rows = |port| output_rows(executor.program(), port as u16);
        let (outputs, weight_bytes) = ((0..outputs).map(rows).collect(), executor.weight_bytes());
        Self { executor, outputs, weight_bytes }
    }
}

/// Which rows an output has: those of the operands that lie in it.
fn output_rows(program: &Program, port: u16) -> RowSet {
    use graph::plan::{Call, Place};
    let in_port = |o: &graph::plan::Operand| o.place == Place::Output(port);
    let written = program.calls.iter().find_map(|call| match call {
        Call::Contract { parts, .. } => parts.iter().map(|part| part.1).find(in_port),
        Call::AddRmsNorm { sum, y, .. } => [*sum, *y].into_iter().find(in_port),
        Call::Gather { y, .. }
        | Call::RmsNorm { y, .. }
        | Call::Attend { y, .. }
        | Call::Gated { y, .. }
        | Call::Unary { y, .. }
        | Call::Binary { y, .. }
        | Call::SampledRows { y, .. } => Some(*y).filter(in_port),
        Call::Bias { x, .. } | Call::Rope { x, .. } => Some(*x).filter(in_port),
    });
    written.map_or(RowSet::All, |o| o.rows)
}

impl Stage<Tensor> for LayerShard {
    fn act(&mut self, firing: Firing<'_, Tensor>) -> Result<(), Refusal> {
        let step = &firing.ticket.step;
        fail_point!("layer_shard");
        for (slot, rows) in firing.outputs.iter_mut().zip(&self.outputs) {
            slot.step = step.id;
            slot.rows = match rows {
                RowSet::All => step.rows,
                RowSet::Sampled => step.sampled.len() as u32,
            };
        }
        let inputs: SmallVec<[_; PORTS_MAX]> = firing.inputs.iter().map(|input| &input.memory).collect();
        let mut outputs: SmallVec<[_; PORTS_MAX]> = firing.outputs.iter_mut().map(|slot| &mut slot.memory).collect();
        let done = self.executor.run(step, &inputs, &mut outputs);
        fail_point!("layer_shard_done");
        Ok(done?)
    }

    fn bytes(&self, _rows: u32) -> u64 {
        self.weight_bytes
    }
}
