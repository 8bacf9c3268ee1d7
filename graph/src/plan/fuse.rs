//! Pass 3: ops that one kernel does together.
//!
//! - contractions of one operand in one section become one, which packs and reads the operand once; those by experts as well;
//! - `f(gate) · up` becomes one pointwise kernel;
//! - a residual sum and the norm of it become one. The bits are those of the two apart, so that [`super::partition`] may
//!   part them again where a pipeline is cut between them.

use super::bridge::{Bridged, Link, Move, Work, with_operands};
use super::shard::Dist;
use crate::axis::{ParamId, ValueId};
use crate::model::{Model, Section};
use crate::op::{Binary, Norm, Op, Unary};

/// What one kernel or communicator does.
#[derive(Clone, PartialEq, Debug)]
pub enum Fusion {
    /// One op; its result is the first.
    Op(Op),
    /// `x` by several weights; a result each.
    Contract {
        /// Activations.
        x: ValueId,
        /// Weights.
        weights: Vec<ParamId>,
    },
    /// `x` by several weights of the experts that `gates` chose; a result each.
    Experts {
        /// Activations.
        x: ValueId,
        /// Which experts.
        gates: ValueId,
        /// Weights.
        weights: Vec<ParamId>,
    },
    /// f(gate) · up.
    Gated {
        /// Through the function.
        gate: ValueId,
        /// Multiplied.
        up: ValueId,
        /// The function.
        f: Unary,
    },
    /// The sum of two, and its norm: two results.
    AddNorm {
        /// First term.
        a: ValueId,
        /// Second term.
        b: ValueId,
        /// Scale.
        w: ParamId,
        /// Which norm.
        norm: Norm,
        /// The section of the norm; the sum's is the node's.
        normed: Section,
    },
    /// A move between ranks.
    Move(Move, ValueId),
}

impl Fusion {
    /// The values read, in order.
    pub fn operands(&self) -> Vec<ValueId> {
        match *self {
            Fusion::Op(ref op) => op.operands(),
            Fusion::Contract { x, .. } | Fusion::Move(_, x) => vec![x],
            Fusion::Experts { x, gates, .. } => vec![x, gates],
            Fusion::Gated { gate, up, .. } => vec![gate, up],
            Fusion::AddNorm { a, b, .. } => vec![a, b],
        }
    }
}

/// One fused node.
#[derive(Clone, PartialEq, Debug)]
pub struct FusedNode {
    /// What it does.
    pub work: Fusion,
    /// Its results.
    pub results: Vec<ValueId>,
    /// Where it belongs.
    pub section: Section,
}

/// The fused graph; ids are those of the bridged graph.
#[derive(Clone, Debug)]
pub struct Fused {
    /// The model.
    pub model: Model,
    /// Ranks of the tensor axis.
    pub ranks: u32,
    /// The dimension along which each weight is cut.
    pub cuts: Vec<Option<usize>>,
    /// Which model value each value is, and how it is held.
    pub values: Vec<(ValueId, Dist)>,
    /// Nodes in topological order.
    pub nodes: Vec<FusedNode>,
    /// The logits, whole.
    pub output: ValueId,
    /// Values that the sampler reads beside them, whole.
    pub captured: Vec<ValueId>,
}

/// Fuses what the rules above name.
pub fn fuse(bridged: Bridged) -> Fused {
    let Bridged { model, ranks, cuts, links, output, captured } = bridged;
    let read = captured.iter().copied().chain([output]);
    let mut fuser = Fuser { links: &links, readers: readers(&links, read), taken: vec![false; links.len()] };
    let nodes = (0..links.len()).filter_map(|n| fuser.node(&model, n)).collect();
    let values = links.iter().map(|l| (l.value, l.held)).collect();
    Fused { model, ranks, cuts, values, nodes, output, captured }
}

/// Which nodes read each link; a reader behind the last for each value that the sampler reads.
fn readers(links: &[Link], sampled: impl Iterator<Item = ValueId>) -> Vec<Vec<usize>> {
    let mut readers = vec![vec![]; links.len()];
    for (number, link) in links.iter().enumerate() {
        let operands = match &link.work {
            Work::Op(op) => op.operands(),
            Work::Move(_, x) => vec![*x],
        };
        operands.iter().for_each(|v| readers[v.index()].push(number));
    }
    sampled.for_each(|value| readers[value.index()].push(links.len()));
    readers
}

struct Fuser<'a> {
    links: &'a [Link],
    readers: Vec<Vec<usize>>,
    /// Links that an earlier node has computed.
    taken: Vec<bool>,
}

impl Fuser<'_> {
    fn node(&mut self, model: &Model, number: usize) -> Option<FusedNode> {
        if self.taken[number] {
            return None;
        }
        let link = &self.links[number];
        let me = ValueId(number as u32);
        let one = |work| Some(FusedNode { work, results: vec![me], section: link.section });
        let op = match &link.work {
            Work::Move(how, x) => return one(Fusion::Move(*how, *x)),
            Work::Op(op) => op,
        };
        match *op {
            Op::Contract { x, .. } => Some(self.contract(x, link.section)),
            Op::Experts { x, gates, .. } => Some(self.experts(x, gates, link.section)),
            Op::Unary(..) if self.gate_of(number).is_some() => None,
            Op::Binary(Binary::Mul, a, b) => match (self.gate(a, number), self.gate(b, number)) {
                (Some((f, gate)), _) => one(Fusion::Gated { gate, up: b, f }),
                (None, Some((f, gate))) => one(Fusion::Gated { gate, up: a, f }),
                (None, None) => one(Fusion::Op(op.clone())),
            },
            Op::Binary(Binary::Add, a, b) => Some(self.add(model, me, a, b)),
            Op::Tokens
            | Op::Gather { .. }
            | Op::Positions { .. }
            | Op::Bias { .. }
            | Op::Norm { .. }
            | Op::Rope { .. }
            | Op::Attend { .. }
            | Op::ShortConv { .. }
            | Op::Scan { .. }
            | Op::Route { .. }
            | Op::ContractEach { .. }
            | Op::Concat { .. }
            | Op::Prefix { .. }
            | Op::ExpertBias { .. }
            | Op::Combine { .. }
            | Op::Weigh { .. }
            | Op::Unary(..)
            | Op::SampledRows(_) => one(Fusion::Op(with_operands(op, &op.operands()))),
        }
    }

    /// All contractions of `x` in `section`, at the place of the first.
    fn contract(&mut self, x: ValueId, section: Section) -> FusedNode {
        let (mut weights, mut results) = (vec![], vec![]);
        for &reader in &self.readers[x.index()] {
            let Some(link) = self.links.get(reader).filter(|l| l.section == section) else { continue };
            if let Work::Op(Op::Contract { w, .. }) = link.work {
                weights.push(w);
                results.push(ValueId(reader as u32));
                self.taken[reader] = true;
            }
        }
        FusedNode { work: Fusion::Contract { x, weights }, results, section }
    }

    /// All contractions of `x` in `section` by the experts of the same gates, at the place of the first.
    fn experts(&mut self, x: ValueId, gates: ValueId, section: Section) -> FusedNode {
        let (mut weights, mut results) = (vec![], vec![]);
        for &reader in &self.readers[x.index()] {
            let Some(link) = self.links.get(reader).filter(|l| l.section == section) else { continue };
            match link.work {
                Work::Op(Op::Experts { w, gates: other, .. }) if other == gates => {
                    weights.push(w);
                    results.push(ValueId(reader as u32));
                    self.taken[reader] = true;
                }
                Work::Op(_) | Work::Move(..) => {}
            }
        }
        FusedNode { work: Fusion::Experts { x, gates, weights }, results, section }
    }

    /// The product that a unary node disappears into.
    fn gate_of(&self, unary: usize) -> Option<usize> {
        let &[reader] = self.readers[unary].as_slice() else { return None };
        match self.links.get(reader)?.work {
            Work::Op(Op::Binary(Binary::Mul, a, b)) if a != b && !self.is_other_gate(unary, a, b) => Some(reader),
            Work::Op(_) | Work::Move(..) => None,
        }
    }

    /// Of two gates of one product the first is fused.
    fn is_other_gate(&self, unary: usize, a: ValueId, b: ValueId) -> bool {
        let is_unary = |v: ValueId| matches!(self.links[v.index()].work, Work::Op(Op::Unary(..)));
        b.index() == unary && is_unary(a) && self.readers[a.index()].len() == 1
    }

    fn gate(&self, value: ValueId, product: usize) -> Option<(Unary, ValueId)> {
        match self.links[value.index()].work {
            Work::Op(Op::Unary(f, x)) if self.gate_of(value.index()) == Some(product) => Some((f, x)),
            Work::Op(_) | Work::Move(..) => None,
        }
    }

    /// A sum, with the first norm over whole rows that reads it.
    fn add(&mut self, model: &Model, me: ValueId, a: ValueId, b: ValueId) -> FusedNode {
        let section = self.links[me.index()].section;
        let rows_only = model.nodes()[self.links[me.index()].value.index()].axes.len() == 2;
        let found = self.readers[me.index()].iter().copied().find_map(|reader| {
            let link = self.links.get(reader).filter(|_| rows_only)?;
            match link.work {
                Work::Op(Op::Norm { w, norm, .. }) => Some((reader, w, norm, link.section)),
                Work::Op(_) | Work::Move(..) => None,
            }
        });
        let Some((reader, w, norm, normed)) = found else {
            return FusedNode { work: Fusion::Op(Op::Binary(Binary::Add, a, b)), results: vec![me], section };
        };
        self.taken[reader] = true;
        let results = vec![me, ValueId(reader as u32)];
        FusedNode { work: Fusion::AddNorm { a, b, w, norm, normed }, results, section }
    }
}
