//! Pass 1: where the pieces of every value live. A rule names logical axes, never weights or layers.

use super::PlanError;
use crate::axis::{Axis, ParamId, ValueId};
use crate::model::Model;
use crate::op::Op;

/// How a value that can be read is laid out over the ranks of the tensor axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// All of it on every rank.
    Whole,
    /// A slice along one axis.
    Split(Axis),
}

/// What a rank holds of a value. A `Partial` has no layout, so nothing can read it by mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dist {
    /// Readable.
    Held(Layout),
    /// A term; the sum over all ranks is the value.
    Partial,
}

/// The axes that are cut over the tensor ranks, by name.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Names of axes.
    pub tensor: Vec<String>,
}

impl Default for Rules {
    /// Heads of attention and of scans, the inner axes of dense, expert and shared MLPs, and the vocabulary.
    fn default() -> Self {
        let tensor = ["kv_heads", "scan_heads", "ffn", "expert_ffn", "shared_ffn", "vocab"];
        Self { tensor: tensor.map(String::from).to_vec() }
    }
}

/// A model with a place for every piece.
#[derive(Clone, Debug)]
pub struct Sharded {
    /// The model.
    pub model: Model,
    /// Ranks of the tensor axis.
    pub ranks: u32,
    /// What each value is held as.
    pub held: Vec<Dist>,
    /// What each node asks of each operand, in order.
    pub asks: Vec<Vec<Layout>>,
    /// The dimension along which each weight is cut.
    pub cuts: Vec<Option<usize>>,
}

/// Places every value and weight of `model` on `ranks` ranks.
///
/// # Errors
/// Every cut axis that the number of ranks does not divide.
pub fn shard(model: &Model, ranks: u32, rules: &Rules) -> Result<Sharded, Vec<PlanError>> {
    let named = |axis: &Axis| rules.tensor.contains(&model.axes()[axis.index()].name);
    let used = |axis: &Axis| model.params().iter().any(|p| p.axes.contains(axis));
    let all: Vec<Axis> = (1..model.axes().len() as u32).map(Axis).filter(|a| named(a) && used(a)).collect();
    let cut: Vec<Axis> = if ranks > 1 { all.clone() } else { vec![] };
    let faults = indivisible(model, ranks, &cut);
    if !faults.is_empty() {
        return Err(faults);
    }
    let cut_of = |axes: &[Axis]| axes.iter().position(|a| cut.contains(a));
    let cuts: Vec<Option<usize>> = model.params().iter().map(|p| cut_of(&p.axes)).collect();
    let mut out = Sharded { model: model.clone(), ranks, held: vec![], asks: vec![], cuts };
    for node in model.nodes() {
        let (asks, held) = out.rule(&node.op);
        out.asks.push(asks);
        out.held.push(held);
    }
    Ok(out)
}

fn indivisible(model: &Model, ranks: u32, cut: &[Axis]) -> Vec<PlanError> {
    let length = |a: &Axis| model.length(*a).unwrap_or(1);
    let legal: Vec<u32> = (1..=64).filter(|n| cut.iter().all(|a| length(a).is_multiple_of(*n))).collect();
    let bad = cut.iter().filter(|a| !length(a).is_multiple_of(ranks));
    let fault = |a: &Axis| PlanError::Degree {
        asked: ranks,
        axis: model.axes()[a.index()].name.clone(),
        length: length(a),
        legal: legal.clone(),
    };
    bad.map(fault).collect()
}

impl Sharded {
    /// The axis along which a weight is cut.
    fn cut_axis(&self, param: ParamId) -> Option<Axis> {
        self.cuts[param.index()].map(|dim| self.model.param(param).axes[dim])
    }

    /// The layout in which `value` can be read without losing its split; a partial sum must be made whole.
    fn readable(&self, value: ValueId) -> Layout {
        match self.held[value.index()] {
            Dist::Held(layout) => layout,
            Dist::Partial => Layout::Whole,
        }
    }

    /// What an op asks of its operands, and what it then leaves.
    fn rule(&self, op: &Op) -> (Vec<Layout>, Dist) {
        let keep = |layout: Layout, operands: usize| (vec![layout; operands], Dist::Held(layout));
        match *op {
            Op::Tokens => keep(Layout::Whole, 0),
            Op::Gather { table, .. } => {
                let entries = self.cut_axis(table).filter(|a| self.model.param(table).axes[0] == *a);
                (vec![Layout::Whole], if entries.is_some() { Dist::Partial } else { Dist::Held(Layout::Whole) })
            }
            Op::Contract { x, w } => match self.cut_axis(w) {
                Some(a) if self.axes(x).contains(&a) => (vec![Layout::Split(a)], Dist::Partial),
                Some(a) => (vec![Layout::Whole], Dist::Held(Layout::Split(a))),
                None => keep(Layout::Whole, 1),
            },
            Op::Bias { x, w } => match self.cut_axis(w) {
                Some(a) => keep(Layout::Split(a), 1),
                None => keep(self.readable(x), 1),
            },
            Op::Norm { x, w, .. } => {
                let layout = self.readable(x);
                let inside = |a: &Axis| layout == Layout::Split(*a);
                keep(if self.model.param(w).axes.iter().any(inside) { Layout::Whole } else { layout }, 1)
            }
            Op::Rope { x, .. } => {
                let last = self.axes(x).last().copied();
                let layout = self.readable(x);
                keep(if layout == last.map_or(Layout::Whole, Layout::Split) { Layout::Whole } else { layout }, 1)
            }
            Op::Attend { q, .. } => {
                let heads = self.axes(q)[1];
                let split = self.readable(q) == Layout::Split(heads);
                keep(if split { Layout::Split(heads) } else { Layout::Whole }, 3)
            }
            Op::ShortConv { w, .. } => keep(self.cut_axis(w).map_or(Layout::Whole, Layout::Split), 1),
            Op::Scan { a_log, .. } => {
                let cut = self.cut_axis(a_log);
                // Queries and keys have no group axis.
                let ask = |value: &ValueId| {
                    cut.filter(|a| self.axes(*value).contains(a)).map_or(Layout::Whole, Layout::Split)
                };
                let held = cut.map_or(Layout::Whole, Layout::Split);
                (op.operands().iter().map(ask).collect(), Dist::Held(held))
            }
            Op::Route { .. } => keep(Layout::Whole, 1),
            Op::Experts { x, w, .. } => match self.cut_axis(w) {
                Some(a) if self.axes(x).contains(&a) => (vec![Layout::Split(a), Layout::Whole], Dist::Partial),
                Some(a) => (vec![Layout::Whole; 2], Dist::Held(Layout::Split(a))),
                None => keep(Layout::Whole, 2),
            },
            Op::ExpertBias { x, w, .. } => match self.cut_axis(w) {
                Some(a) if self.axes(x).contains(&a) => {
                    (vec![Layout::Split(a), Layout::Whole], Dist::Held(Layout::Split(a)))
                }
                Some(_) | None => keep(Layout::Whole, 2),
            },
            Op::Combine { x, w, .. } => match self.cut_axis(w) {
                Some(a) if self.axes(x).contains(&a) => (vec![Layout::Split(a), Layout::Whole], Dist::Partial),
                Some(a) => (vec![Layout::Whole; 2], Dist::Held(Layout::Split(a))),
                None => keep(Layout::Whole, 2),
            },
            Op::Unary(_, x) | Op::SampledRows(x) => keep(self.readable(x), 1),
            Op::Binary(_, a, b) => {
                let (a, b) = (self.readable(a), self.readable(b));
                keep(if a == b { a } else { Layout::Whole }, 2)
            }
        }
    }

    fn axes(&self, value: ValueId) -> &[Axis] {
        &self.model.nodes()[value.index()].axes
    }
}
