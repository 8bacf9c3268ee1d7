//! A layer shard: the stage that computes a segment of the model for one rank.

use crate::sampler::key;
use crate::stage::{Firing, Refusal, Stage};
use crate::tensor::Tensor;
use crate::ticket::{Draw, Ticket};
use fail::fail_point;
use graph::plan::{Place, RowSet};
use kernels::draws::Wanted;
use kernels::executor::PORTS_FEW;
use kernels::{Drawn, Execute, TokenDraw};
use smallvec::SmallVec;

/// Runs a program once a step.
pub struct LayerShard {
    executor: Box<dyn Execute>,
    /// Which rows each output has.
    outputs: Vec<RowSet>,
    weight_bytes: u64,
    /// What is asked of the sampled rows, and what was found, where the executor draws; filled again every step.
    draws: Vec<TokenDraw>,
    drawn: Drawn,
}

impl LayerShard {
    /// A stage over `executor`, whose program has `outputs` outputs.
    pub fn new(executor: Box<dyn Execute>, outputs: usize) -> Self {
        let rows = |port| executor.program().rows_at(Place::Output(port as u16)).unwrap_or(RowSet::All);
        let (outputs, weight_bytes) = ((0..outputs).map(rows).collect(), executor.weight_bytes());
        Self { executor, outputs, weight_bytes, draws: vec![], drawn: Drawn::default() }
    }

    /// What a ticket asks of its sampled rows; whether the sampler needs the logits of any.
    fn ask(&mut self, ticket: &Ticket) -> bool {
        self.draws.clear();
        self.draws.extend(ticket.draws.iter().map(asked));
        ticket.draws.iter().any(Draw::needs_logits)
    }
}

/// A draw as a device does it; of one that the sampler makes it is asked nothing.
fn asked(draw: &Draw) -> TokenDraw {
    if draw.needs_logits() {
        return TokenDraw { wanted: Wanted::Nothing, logprobs: None };
    }
    let wanted = match (draw.sampling, draw.next) {
        (Some(sampling), _) => Wanted::Drawn {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            key: key(&sampling),
            position: draw.position,
        },
        (None, Some(next)) => Wanted::Known(next),
        (None, None) => Wanted::Nothing,
    };
    TokenDraw { wanted, logprobs: draw.logprobs }
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
        let draws_from = self.executor.draws_from();
        let needs_logits = draws_from.is_some() && self.ask(firing.ticket);
        let inputs: SmallVec<[_; PORTS_FEW]> = firing.inputs.iter().map(|input| &input.memory).collect();
        let mut outputs: SmallVec<[_; PORTS_FEW]> = firing.outputs.iter_mut().map(|slot| &mut slot.memory).collect();
        let done = match draws_from {
            None => self.executor.run(step, &inputs, &mut outputs),
            Some(_) => {
                let asked = (self.draws.as_slice(), needs_logits);
                self.executor.run_and_draw(step, (&inputs, &mut outputs), asked, &mut self.drawn)
            }
        };
        drop(outputs);
        if let Some(port) = draws_from {
            std::mem::swap(&mut firing.outputs[port].drawn, &mut self.drawn);
        }
        fail_point!("layer_shard_done");
        Ok(done?)
    }

    fn bytes(&self, _rows: u32) -> u64 {
        self.weight_bytes
    }
}
