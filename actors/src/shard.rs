//! A layer shard: the stage that computes a segment of the model for one rank.

use crate::stage::{Firing, Refusal, Stage};
use crate::tensor::Tensor;
use fail::fail_point;
use graph::plan::{Place, RowSet};
use kernels::Execute;
use kernels::executor::PORTS_FEW;
use smallvec::SmallVec;

/// Runs a program once a step.
pub struct LayerShard {
    executor: Box<dyn Execute>,
    /// Which rows each output has.
    outputs: Vec<RowSet>,
    weight_bytes: u64,
}

impl LayerShard {
    /// A stage over `executor`, whose program has `outputs` outputs.
    pub fn new(executor: Box<dyn Execute>, outputs: usize) -> Self {
        let rows = |port| executor.program().rows_at(Place::Output(port as u16)).unwrap_or(RowSet::All);
        let (outputs, weight_bytes) = ((0..outputs).map(rows).collect(), executor.weight_bytes());
        Self { executor, outputs, weight_bytes }
    }
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
        let inputs: SmallVec<[_; PORTS_FEW]> = firing.inputs.iter().map(|input| &input.memory).collect();
        let mut outputs: SmallVec<[_; PORTS_FEW]> = firing.outputs.iter_mut().map(|slot| &mut slot.memory).collect();
        let done = self.executor.run(step, &inputs, &mut outputs);
        fail_point!("layer_shard_done");
        Ok(done?)
    }

    fn bytes(&self, _rows: u32) -> u64 {
        self.weight_bytes
    }
}
