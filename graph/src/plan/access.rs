//! What a call reads and writes: the one place that knows, beside the calls themselves.

use super::call::{Call, Operand, Place, Program, RowSet};
use crate::op::{Norm, NormKind};

/// What a call does with an operand. What it changes in place it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes it.
    Write,
}

impl Call {
    /// The name of the call's op, as messages and traces have it.
    pub fn name(&self) -> &'static str {
        match self {
            Call::Gather { .. } => "gather",
            Call::Positions { .. } => "positions",
            Call::Contract { .. } => "contract",
            Call::Bias { .. } => "bias",
            Call::Norm { norm: Norm { kind: NormKind::Rms, .. }, .. } => "rms_norm",
            Call::Norm { norm: Norm { kind: NormKind::Layer, .. }, .. } => "layer_norm",
            Call::AddNorm { norm: Norm { kind: NormKind::Rms, .. }, .. } => "add_rms_norm",
            Call::AddNorm { norm: Norm { kind: NormKind::Layer, .. }, .. } => "add_layer_norm",
            Call::Rope { .. } => "rope",
            Call::Attend { .. } => "attend",
            Call::ShortConv { .. } => "short_conv",
            Call::Scan { .. } => "scan",
            Call::Route { .. } => "route",
            Call::Experts { .. } => "experts",
            Call::ExpertBias { .. } => "expert_bias",
            Call::Combine { .. } => "combine",
            Call::Weigh { .. } => "weigh",
            Call::ContractEach { .. } => "contract_each",
            Call::Concat { .. } => "concat",
            Call::Gated { .. } => "gated",
            Call::Unary { .. } => "unary",
            Call::Binary { .. } => "binary",
            Call::Slice { .. } => "slice",
            Call::SampledRows { .. } => "sampled_rows",
        }
    }

    /// Shows `f` every operand, those that are read first. Allocates nothing.
    pub fn visit(&self, f: &mut dyn FnMut(Access, &Operand)) {
        use Access::{Read, Write};
        match self {
            Call::Positions { y, .. } => f(Write, y),
            Call::Gather { ids, y, .. } => [(Read, ids), (Write, y)].into_iter().for_each(|(a, o)| f(a, o)),
            Call::Contract { x, parts } => {
                f(Read, x);
                parts.iter().for_each(|(_, y)| f(Write, y));
            }
            Call::Bias { x, y, .. }
            | Call::Rope { x, y, .. }
            | Call::Norm { x, y, .. }
            | Call::Unary { x, y, .. }
            | Call::ShortConv { x, y, .. }
            | Call::Slice { x, y, .. }
            | Call::SampledRows { x, y } => {
                f(Read, x);
                f(Write, y);
            }
            Call::AddNorm { a, b, sum, y, .. } => {
                [a, b].into_iter().for_each(|o| f(Read, o));
                [sum, y].into_iter().for_each(|o| f(Write, o));
            }
            Call::Attend { q, k, v, y, .. } => {
                [q, k, v].into_iter().for_each(|o| f(Read, o));
                f(Write, y);
            }
            Call::Scan { q, k, v, dt, beta, y, .. } => {
                [q, k, v, dt].into_iter().chain(beta).for_each(|o| f(Read, o));
                f(Write, y);
            }
            Call::Concat { a, b, y, .. } => {
                [a, b].into_iter().for_each(|o| f(Read, o));
                f(Write, y);
            }
            Call::Route { x, y, .. } | Call::ContractEach { x, y, .. } => {
                f(Read, x);
                f(Write, y);
            }
            Call::Experts { x, gates, parts, .. } => {
                f(Read, x);
                f(Read, gates);
                parts.iter().for_each(|(_, y)| f(Write, y));
            }
            Call::ExpertBias { x, gates, y, .. }
            | Call::Combine { x, gates, y, .. }
            | Call::Weigh { x, gates, y, .. } => {
                f(Read, x);
                f(Read, gates);
                f(Write, y);
            }
            Call::Gated { gate: a, up: b, y, .. } | Call::Binary { a, b, y, .. } => {
                [a, b].into_iter().for_each(|o| f(Read, o));
                f(Write, y);
            }
        }
    }

    /// Which of the stage's states it has, if it is recurrent.
    pub fn state(&self) -> Option<u32> {
        match self {
            Call::ShortConv { state, .. } | Call::Scan { state, .. } => Some(*state),
            Call::Gather { .. }
            | Call::Positions { .. }
            | Call::Contract { .. }
            | Call::Bias { .. }
            | Call::Norm { .. }
            | Call::AddNorm { .. }
            | Call::Rope { .. }
            | Call::Route { .. }
            | Call::Experts { .. }
            | Call::ExpertBias { .. }
            | Call::Combine { .. }
            | Call::Weigh { .. }
            | Call::ContractEach { .. }
            | Call::Concat { .. }
            | Call::Attend { .. }
            | Call::Gated { .. }
            | Call::Unary { .. }
            | Call::Binary { .. }
            | Call::Slice { .. }
            | Call::SampledRows { .. } => None,
        }
    }

    /// Whether it computes a generated row in another form than a prompt row, on a GPU or on the cores, so that their bits differ: scans do, and
    /// on a GPU attention does, whose generated rows have their past in splits.
    pub fn has_two_forms(&self, on_gpu: bool) -> bool {
        match self {
            Call::Scan { .. } => true,
            Call::Attend { .. } => on_gpu,
            Call::ShortConv { .. }
            | Call::Gather { .. }
            | Call::Positions { .. }
            | Call::Contract { .. }
            | Call::Bias { .. }
            | Call::Norm { .. }
            | Call::AddNorm { .. }
            | Call::Rope { .. }
            | Call::Route { .. }
            | Call::Experts { .. }
            | Call::ExpertBias { .. }
            | Call::Combine { .. }
            | Call::Weigh { .. }
            | Call::ContractEach { .. }
            | Call::Concat { .. }
            | Call::Gated { .. }
            | Call::Unary { .. }
            | Call::Binary { .. }
            | Call::Slice { .. }
            | Call::SampledRows { .. } => false,
        }
    }

    /// Whether a result may lie exactly where an operand does: the call reads each element before it writes it.
    pub fn may_share(&self) -> bool {
        match self {
            Call::Bias { .. }
            | Call::ExpertBias { .. }
            | Call::Rope { .. }
            | Call::Norm { .. }
            | Call::Unary { .. }
            | Call::AddNorm { .. }
            | Call::Gated { .. }
            | Call::Binary { .. } => true,
            Call::Gather { .. }
            | Call::Positions { .. }
            | Call::Contract { .. }
            | Call::Attend { .. }
            | Call::ShortConv { .. }
            | Call::Scan { .. }
            | Call::Slice { .. }
            | Call::Route { .. }
            | Call::Experts { .. }
            | Call::Combine { .. }
            | Call::Weigh { .. }
            | Call::ContractEach { .. }
            | Call::Concat { .. }
            | Call::SampledRows { .. } => false,
        }
    }
}

impl Program {
    /// The window of each cache layer: how many positions a query reads of it; `None` reads all.
    pub fn windows(&self) -> Vec<Option<u32>> {
        let mut windows = vec![None; self.caches.len()];
        for call in &self.calls {
            if let Call::Attend { cache, how, .. } = call
                && let Some(window) = windows.get_mut(*cache as usize)
            {
                *window = how.window;
            }
        }
        windows
    }

    /// Which rows lie in a port: those of the first operand there. `None` where no call uses it.
    pub fn rows_at(&self, place: Place) -> Option<RowSet> {
        let mut found = None;
        for call in &self.calls {
            call.visit(&mut |_, operand| {
                if operand.place == place {
                    found.get_or_insert(operand.rows);
                }
            });
        }
        found
    }
}
