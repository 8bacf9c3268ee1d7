//! Pass 1: where the pieces of every value live. A rule names logical axes, never weights or layers.

use super::{PlanError, tree};
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

/// What is cut over the tensor ranks.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Each rule on its own.
    pub tensor: Vec<Rule>,
    /// Name of the axis of experts, where whole ones are dealt out: cut in what is computed by expert, and there alone, since a router
    /// sees all of them.
    pub expert: Option<&'static str>,
    /// Whether sums are made in a tree that no degree changes: then a degree has to be a branch of it.
    pub tree: bool,
}

/// One thing to be cut, along the first of several axes that the number of ranks divides.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Names of axes, the best first. An axis that the model lacks is passed over.
    pub axes: Vec<&'static str>,
    /// What a person reads where the first axis cannot be cut: `Some` where every rank may do all of it, `None` where the degree is then
    /// refused.
    pub whole: Option<&'static str>,
}

/// Name of the axis of the vocabulary.
const VOCABULARY: &str = "vocab";

impl Default for Rules {
    /// Heads of attention and of scans, the inner axes of dense, expert and shared MLPs, and the vocabulary. Key/value heads that do not
    /// divide are held by every rank, which has a part of the queries of each; a vocabulary that does not divide is computed by every rank.
    fn default() -> Self {
        let must = |axis| Rule { axes: vec![axis], whole: None };
        let heads = Rule { axes: vec!["kv_heads", "queries_per_kv"], whole: Some("attention") };
        let vocab = Rule { axes: vec![VOCABULARY], whole: Some("the embedding and the head") };
        let scans = Rule { axes: vec!["scan_heads", "values_per_head"], whole: None };
        let inner = ["ffn", "expert_ffn", "shared_ffn"].map(must);
        Self { tensor: [heads, scans].into_iter().chain(inner).chain([vocab]).collect(), expert: None, tree: false }
    }
}

impl Rules {
    /// The same, but whole experts are dealt out.
    pub fn by_expert() -> Self {
        let mut rules = Self::default();
        rules.tensor.retain(|rule| rule.axes[0] != "expert_ffn");
        Self { expert: Some("experts"), ..rules }
    }

    /// The axes that are cut and then summed over: the first of each rule, but for the vocabulary, of which a sum has one entry.
    pub fn summed(&self) -> impl Iterator<Item = &'static str> {
        self.tensor.iter().map(|rule| rule.axes[0]).filter(|axis| *axis != VOCABULARY)
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
    /// The axis of the experts, where they are dealt out to the ranks.
    pub dealt: Option<Axis>,
    /// Whether sums are made in a tree.
    pub tree: bool,
    /// What could not be cut as it should be, in words.
    pub notes: Vec<String>,
}

/// Places every value and weight of `model` on `ranks` ranks.
///
/// # Errors
/// Every axis that must be cut and that the number of ranks does not divide.
pub fn shard(model: &Model, ranks: u32, rules: &Rules) -> Result<Sharded, Vec<PlanError>> {
    let (mut cut, mut notes, mut faults) = (vec![], vec![], vec![]);
    for rule in rules.tensor.iter().filter(|_| ranks > 1) {
        let axes: Vec<Axis> = rule.axes.iter().filter_map(|name| used(model, name)).collect();
        let Some(&wanted) = axes.first() else { continue };
        let (name, length) = (rule.axes[0], model.length(wanted).unwrap_or(1));
        // A tree has its branches along one axis.
        let parts = (rules.tree && name != VOCABULARY).then(|| tree::parts(model, wanted));
        let found = match parts {
            Some(parts) => Some(wanted).filter(|_| parts.is_multiple_of(ranks)),
            None => axes.iter().copied().find(|&a| model.length(a).unwrap_or(1).is_multiple_of(ranks)),
        };
        cut.extend(found);
        let said = || match parts {
            Some(parts) => {
                format!("tensor-parallel-size {ranks} is no branch of a tree of {parts} along {length} {name}")
            }
            None => format!("tensor-parallel-size {ranks} does not divide {length} {name}"),
        };
        match (found, rule.whole) {
            (Some(axis), _) if axis == wanted => {}
            (Some(axis), _) => {
                let axis = &model.axes()[axis.index()].name;
                notes.push(format!("{}: {axis} is cut instead, and every rank holds all {name}", said()));
            }
            (None, Some(what)) => notes.push(format!("{}: every rank computes all of {what}", said())),
            (None, None) => {
                let (setting, asked, axis, legal) = ("tensor-parallel-size", ranks, name.into(), legal(model, rules));
                faults.push(match parts {
                    Some(parts) => PlanError::Branch { asked, axis, parts, legal },
                    None => PlanError::Degree { setting, asked, axis, length, legal },
                });
            }
        }
    }
    let dealt = rules.expert.filter(|_| ranks > 1).and_then(|name| used(model, name));
    if let Some(length) = dealt.and_then(|axis| model.length(axis)).filter(|length| !length.is_multiple_of(ranks)) {
        let legal = (1..=64).filter(|n| length.is_multiple_of(*n)).collect();
        let (setting, axis) = ("expert-parallel-size", rules.expert.unwrap_or_default().into());
        faults.push(PlanError::Degree { setting, asked: ranks, axis, length, legal });
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut cuts: Vec<Option<usize>> = vec![None; model.params().len()];
    for node in model.nodes() {
        for param in node.op.params() {
            // A norm sums over all of its axes, or over all but the first.
            let allowed = |at: &usize| {
                let Op::Norm { norm, .. } = &node.op else { return true };
                norm.run.is_some() && *at == 0
            };
            let gathered = rules.tree && matches!(node.op, Op::Contract { .. });
            let by_expert = routed(model, &node.op) && !gathered;
            let is_cut = |a: &Axis| cut.contains(a) || (by_expert && dealt == Some(*a));
            cuts[param.index()] = model.param(param).axes.iter().position(is_cut).filter(allowed);
        }
    }
    let mut out =
        Sharded { model: model.clone(), ranks, held: vec![], asks: vec![], cuts, dealt, tree: rules.tree, notes };
    for node in model.nodes() {
        let (asks, held) = out.rule(&node.op);
        if let (Op::Weigh { x, .. }, Some(dealt)) = (&node.op, dealt) {
            // A rank has zeros for the choices of experts that it does not have: a term.
            let made = &mut out.held[x.index()];
            *made = if *made == Dist::Held(Layout::Split(dealt)) { Dist::Partial } else { *made };
        }
        out.asks.push(asks);
        out.held.push(held);
    }
    Ok(out)
}

/// Whether an op reads gates: then a rank needs the entries of its own experts only.
fn routed(model: &Model, op: &Op) -> bool {
    let gates = |v: &ValueId| matches!(model.nodes()[v.index()].op, Op::Route { .. });
    op.operands().iter().any(gates)
}

/// The axis of this name, if some weight has it.
fn used(model: &Model, name: &str) -> Option<Axis> {
    let axis = Axis(model.axes().iter().position(|axis| axis.name == name)? as u32);
    model.params().iter().any(|param| param.axes.contains(&axis)).then_some(axis)
}

/// Degrees that no rule refuses, up to 64.
fn legal(model: &Model, rules: &Rules) -> Vec<u32> {
    let lengths = |rule: &Rule| -> Vec<u32> {
        let axes = rule.axes.iter().filter_map(|name| used(model, name));
        if rules.tree {
            return axes.take(1).map(|axis| tree::parts(model, axis)).collect();
        }
        axes.map(|axis| model.length(axis).unwrap_or(1)).collect()
    };
    let must: Vec<Vec<u32>> = rules.tensor.iter().filter(|rule| rule.whole.is_none()).map(lengths).collect();
    let divides = |n: u32, axes: &[u32]| axes.is_empty() || axes.iter().any(|length| length.is_multiple_of(n));
    (1..=64).filter(|&n| must.iter().all(|axes| divides(n, axes))).collect()
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
            Op::Tokens | Op::Positions { .. } => keep(Layout::Whole, 0),
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
                if let Some(axis) = self.cut_axis(w) {
                    return keep(Layout::Split(axis), 1);
                }
                let layout = self.readable(x);
                let inside = |a: &Axis| layout == Layout::Split(*a);
                keep(if self.model.param(w).axes.iter().any(inside) { Layout::Whole } else { layout }, 1)
            }
            Op::Rope { x, .. } => {
                let last = self.axes(x).last().copied();
                let layout = self.readable(x);
                keep(if layout == last.map_or(Layout::Whole, Layout::Split) { Layout::Whole } else { layout }, 1)
            }
            Op::Attend { q, k, v, .. } => {
                let (heads, group) = (Layout::Split(self.axes(q)[1]), Layout::Split(self.axes(q)[2]));
                if [q, k, v].iter().any(|&x| self.readable(x) == heads) {
                    keep(heads, 3)
                } else if self.readable(q) == group {
                    (vec![group, Layout::Whole, Layout::Whole], Dist::Held(group))
                } else {
                    keep(Layout::Whole, 3)
                }
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
            Op::ContractEach { x, w } => match self.cut_axis(w) {
                Some(a) if self.axes(x).last() == Some(&a) => (vec![Layout::Split(a)], Dist::Partial),
                Some(a) => (
                    vec![if self.axes(x).contains(&a) { Layout::Split(a) } else { Layout::Whole }],
                    Dist::Held(Layout::Split(a)),
                ),
                None => keep(Layout::Whole, 1),
            },
            Op::Concat { a, b, .. } => {
                let last = |v: ValueId| self.axes(v).last().copied().map_or(Layout::Whole, Layout::Split);
                let held = self.readable(a);
                let same = held == self.readable(b) && held != last(a);
                keep(if same { held } else { Layout::Whole }, 2)
            }
            Op::Prefix { x, .. } => {
                let last = self.axes(x).last().copied().map_or(Layout::Whole, Layout::Split);
                let held = self.readable(x);
                keep(if held == last { Layout::Whole } else { held }, 1)
            }
            Op::Route { x, .. } => {
                let dealt = self.axes(x).iter().any(|axis| self.dealt == Some(*axis));
                (vec![Layout::Whole], Dist::Held(if dealt { self.gates() } else { Layout::Whole }))
            }
            Op::Weigh { .. } => keep(Layout::Whole, 2),
            Op::Experts { x, w, .. } => match self.cut_axis(w) {
                Some(a) if self.dealt == Some(a) => {
                    (vec![self.parts(x, a), self.gates()], Dist::Held(Layout::Split(a)))
                }
                Some(a) if self.axes(x).contains(&a) => (vec![Layout::Split(a), Layout::Whole], Dist::Partial),
                Some(a) => (vec![Layout::Whole; 2], Dist::Held(Layout::Split(a))),
                None => keep(Layout::Whole, 2),
            },
            Op::ExpertBias { x, w, .. } => match self.cut_axis(w) {
                Some(a) if self.dealt == Some(a) => {
                    (vec![Layout::Split(a), self.gates()], Dist::Held(Layout::Split(a)))
                }
                Some(a) if self.axes(x).contains(&a) => {
                    (vec![Layout::Split(a), Layout::Whole], Dist::Held(Layout::Split(a)))
                }
                Some(_) | None => keep(Layout::Whole, 2),
            },
            Op::Combine { x, w, .. } => match self.cut_axis(w) {
                Some(a) if self.dealt == Some(a) => (vec![Layout::Split(a); 2], Dist::Partial),
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

    /// How gates are held and read: a rank has those of its own experts, or where choices are weighed behind the sum over ranks, of all.
    fn gates(&self) -> Layout {
        self.dealt.filter(|_| !self.tree).map_or(Layout::Whole, Layout::Split)
    }

    /// How experts dealt out along `a` read `x`: what other experts made of their choices is held along the same axis.
    fn parts(&self, x: ValueId, a: Axis) -> Layout {
        if self.readable(x) == Layout::Split(a) { Layout::Split(a) } else { Layout::Whole }
    }

    fn axes(&self, value: ValueId) -> &[Axis] {
        &self.model.nodes()[value.index()].axes
    }
}
