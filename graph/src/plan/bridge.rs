//! Pass 2: the moves between what a producer leaves and what a consumer asks for.

use super::shard::{Dist, Layout, Sharded};
use crate::axis::{Axis, ValueId};
use crate::model::{Model, Section};
use crate::op::Op;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a value gets from the layout it is held in to the layout it is read in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    /// It is there already.
    Nothing,
    /// Each rank keeps its slice.
    Slice(Axis),
    /// Every rank gets the slices of all.
    AllGather(Axis),
    /// Slices along one axis become slices along another.
    AllToAll {
        /// Held along this.
        from: Axis,
        /// Read along that.
        to: Axis,
    },
    /// Every rank gets the sum.
    AllReduce,
    /// Every rank gets its slice of the sum.
    ReduceScatter(Axis),
}

/// The move that turns what is held into what is read. Total: each pair has one answer.
pub fn bridge(held: Dist, read: Layout) -> Move {
    match (held, read) {
        (Dist::Held(Layout::Whole), Layout::Whole) => Move::Nothing,
        (Dist::Held(Layout::Whole), Layout::Split(axis)) => Move::Slice(axis),
        (Dist::Held(Layout::Split(axis)), Layout::Whole) => Move::AllGather(axis),
        (Dist::Held(Layout::Split(from)), Layout::Split(to)) if from == to => Move::Nothing,
        (Dist::Held(Layout::Split(from)), Layout::Split(to)) => Move::AllToAll { from, to },
        (Dist::Partial, Layout::Whole) => Move::AllReduce,
        (Dist::Partial, Layout::Split(axis)) => Move::ReduceScatter(axis),
    }
}

/// A node of the bridged graph.
#[derive(Clone, PartialEq, Debug)]
pub enum Work {
    /// An op of the model, over bridged values.
    Op(Op),
    /// A move of a value.
    Move(Move, ValueId),
}

/// A value of the bridged graph: which model value it is, and how it is held.
#[derive(Clone, PartialEq, Debug)]
pub struct Link {
    /// What makes it.
    pub work: Work,
    /// The value of the model that it is.
    pub value: ValueId,
    /// How it is held.
    pub held: Dist,
    /// Where it belongs.
    pub section: Section,
}

/// The model with its moves; ids count [`Bridged::links`].
#[derive(Clone, Debug)]
pub struct Bridged {
    /// The model.
    pub model: Model,
    /// Ranks of the tensor axis.
    pub ranks: u32,
    /// The dimension along which each weight is cut.
    pub cuts: Vec<Option<usize>>,
    /// Values in topological order.
    pub links: Vec<Link>,
    /// The logits, whole.
    pub output: ValueId,
    /// Values that the sampler reads beside them, whole.
    pub captured: Vec<ValueId>,
}

/// Puts a move on every edge that needs one; a move that two readers need is made once. `captured` are values of the model that are read
/// whole, whoever else reads them.
pub fn bridges(sharded: Sharded, captured: &[ValueId]) -> Bridged {
    let Sharded { model, ranks, held, asks, cuts, dealt: _, tree: _, notes: _ } = sharded;
    let mut maker = Maker { model: &model, held, links: vec![], at: vec![], moved: BTreeMap::new() };
    for (number, node) in model.nodes().iter().enumerate() {
        let operands = node.op.operands();
        let read: Vec<ValueId> = operands.iter().zip(&asks[number]).map(|(&v, &ask)| maker.read(v, ask)).collect();
        let work = Work::Op(with_operands(&node.op, &read));
        let value = ValueId(number as u32);
        let held = maker.held[number];
        let id = maker.push(Link { work, value, held, section: node.section });
        maker.at.push(id);
    }
    let output = maker.read(model.output(), Layout::Whole);
    let captured = captured.iter().map(|&value| maker.read(value, Layout::Whole)).collect();
    let links = maker.links;
    Bridged { model, ranks, cuts, links, output, captured }
}

struct Maker<'a> {
    model: &'a Model,
    held: Vec<Dist>,
    links: Vec<Link>,
    /// Where each model value stands.
    at: Vec<ValueId>,
    moved: BTreeMap<(ValueId, Move), ValueId>,
}

impl Maker<'_> {
    fn push(&mut self, link: Link) -> ValueId {
        self.links.push(link);
        ValueId(self.links.len() as u32 - 1)
    }

    /// The link that holds `value` as `layout`.
    fn read(&mut self, value: ValueId, layout: Layout) -> ValueId {
        let (from, held) = (self.at[value.index()], self.held[value.index()]);
        let how = bridge(held, layout);
        if how == Move::Nothing {
            return from;
        }
        if let Some(&id) = self.moved.get(&(value, how)) {
            return id;
        }
        let section = self.model.nodes()[value.index()].section;
        let id = self.push(Link { work: Work::Move(how, from), value, held: Dist::Held(layout), section });
        self.moved.insert((value, how), id);
        id
    }
}

/// The op with its operands replaced, in the order of [`Op::operands`].
pub(crate) fn with_operands(op: &Op, to: &[ValueId]) -> Op {
    match op.clone() {
        Op::Tokens => Op::Tokens,
        Op::Gather { table, .. } => Op::Gather { table, ids: to[0] },
        Op::Positions { table } => Op::Positions { table },
        Op::Contract { w, .. } => Op::Contract { x: to[0], w },
        Op::Bias { w, .. } => Op::Bias { x: to[0], w },
        Op::Norm { w, norm, .. } => Op::Norm { x: to[0], w, norm },
        Op::Rope { rope, .. } => Op::Rope { x: to[0], rope },
        Op::Attend { sinks, how, .. } => Op::Attend { q: to[0], k: to[1], v: to[2], sinks, how },
        Op::ShortConv { w, .. } => Op::ShortConv { x: to[0], w },
        Op::Scan { beta, a_log, skip, how, .. } => {
            let beta = beta.map(|_| to[4]);
            Op::Scan { q: to[0], k: to[1], v: to[2], dt: to[3], beta, a_log, skip, how }
        }
        Op::Route { bias, choices, routing, .. } => Op::Route { x: to[0], bias, choices, routing },
        Op::Experts { w, .. } => Op::Experts { x: to[0], gates: to[1], w },
        Op::ExpertBias { w, .. } => Op::ExpertBias { x: to[0], gates: to[1], w },
        Op::Combine { w, .. } => Op::Combine { x: to[0], gates: to[1], w },
        Op::Weigh { .. } => Op::Weigh { x: to[0], gates: to[1] },
        Op::ContractEach { w, .. } => Op::ContractEach { x: to[0], w },
        Op::Concat { axis, .. } => Op::Concat { a: to[0], b: to[1], axis },
        Op::Prefix { axis, .. } => Op::Prefix { x: to[0], axis },
        Op::Unary(f, _) => Op::Unary(f, to[0]),
        Op::Binary(f, ..) => Op::Binary(f, to[0], to[1]),
        Op::SampledRows(_) => Op::SampledRows(to[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_its_move() {
        let (a, b) = (Axis(1), Axis(2));
        let split = |axis| Dist::Held(Layout::Split(axis));
        assert_eq!(bridge(Dist::Held(Layout::Whole), Layout::Whole), Move::Nothing);
        assert_eq!(bridge(Dist::Held(Layout::Whole), Layout::Split(a)), Move::Slice(a));
        assert_eq!(bridge(split(a), Layout::Whole), Move::AllGather(a));
        assert_eq!(bridge(split(a), Layout::Split(a)), Move::Nothing);
        assert_eq!(bridge(split(a), Layout::Split(b)), Move::AllToAll { from: a, to: b });
        assert_eq!(bridge(Dist::Partial, Layout::Whole), Move::AllReduce);
        assert_eq!(bridge(Dist::Partial, Layout::Split(b)), Move::ReduceScatter(b));
    }
}
