//! Describes an architecture: axes, weights by their checkpoint names, and ops as methods on values.
//!
//! ```
//! use graph::{Builder, Section};
//! let b = Builder::new();
//! let (vocab, hidden) = (b.axis("vocab", 8), b.axis("hidden", 4));
//! let embed = b.param("embed.weight", &[vocab, hidden]);
//! let x = b.tokens().gather(embed);
//! b.section(Section::Head);
//! let logits = x.rms_norm(b.param("norm.weight", &[hidden]), 1e-6).sampled_rows().contract(embed);
//! let model = b.finish(logits).expect("all laws hold");
//! assert_eq!(model.vocabulary(), 8);
//! ```

use crate::axis::{Axis, AxisDef, Extent, ParamId, ValueId};
use crate::error::GraphError;
use crate::infer::infer;
use crate::model::{Draft, Model, Node, ParamDef, Section};
use crate::op::{Attention, Binary, Norm, Op, Recurrence, Unary};
use crate::rope::Rope;
use crate::routing::Routing;
use crate::stored::Stored;
use std::cell::RefCell;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::ops::{Add, Mul};

/// Builds a [`Model`]. Faults are collected and returned by [`Builder::finish`], so that a model file reads as the maths.
#[derive(Debug)]
pub struct Builder {
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    draft: Draft,
    /// Weights by name: a model of many experts has tens of thousands.
    known: HashMap<String, Vec<u32>>,
    section: Section,
    faults: Vec<GraphError>,
}

/// A value under construction.
#[derive(Clone, Copy, Debug)]
pub struct Value<'b> {
    id: ValueId,
    builder: &'b Builder,
}

/// A weight under construction.
#[derive(Clone, Copy, Debug)]
pub struct Param<'b> {
    id: ParamId,
    builder: PhantomData<&'b Builder>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An empty graph with its rows axis.
    pub fn new() -> Self {
        let rows = AxisDef { name: "rows".into(), extent: Extent::Rows };
        let draft = Draft { axes: vec![rows], params: vec![], nodes: vec![], output: ValueId(0) };
        let (known, section, faults) = (HashMap::new(), Section::Embed, vec![]);
        Self { inner: RefCell::new(Inner { draft, known, section, faults }) }
    }

    /// Declares an axis of `length` elements.
    pub fn axis(&self, name: &str, length: u32) -> Axis {
        let axes = &mut self.inner.borrow_mut().draft.axes;
        axes.push(AxisDef { name: name.into(), extent: Extent::Fixed(length) });
        Axis(axes.len() as u32 - 1)
    }

    /// Declares a weight by its checkpoint name; a name asked for twice is one weight (tied). A name with `{}` is one tensor for each
    /// entry of the first axis, with the entry's number in place of the `{}`.
    pub fn param(&self, name: impl Into<String>, axes: &[Axis]) -> Param<'_> {
        self.declare(ParamDef::new(name, axes))
    }

    /// Declares a weight with the axes it is read by and the dimensions of the tensor it is stored in: in another order, or as one
    /// part of several side by side.
    pub fn part(&self, name: impl Into<String>, axes: &[Axis], stored: Vec<Stored>) -> Param<'_> {
        self.declare(ParamDef { name: name.into(), axes: axes.to_vec(), stored })
    }

    fn declare(&self, param: ParamDef) -> Param<'_> {
        let inner = &mut *self.inner.borrow_mut();
        let params = &mut inner.draft.params;
        let same = inner.known.entry(param.name.clone()).or_default();
        let known = same.iter().copied().find(|&id| params[id as usize] == param);
        let id = known.unwrap_or_else(|| {
            let id = params.len() as u32;
            params.push(param);
            same.push(id);
            id
        });
        Param { id: ParamId(id), builder: PhantomData }
    }

    /// What follows belongs to this section.
    pub fn section(&self, section: Section) {
        self.inner.borrow_mut().section = section;
    }

    /// The step's token ids, one a row.
    pub fn tokens(&self) -> Value<'_> {
        self.push(Op::Tokens, None)
    }

    /// The entry of `table` for each row's position in its sequence.
    pub fn positions<'b>(&'b self, table: Param<'b>) -> Value<'b> {
        self.push(Op::Positions { table: table.id }, None)
    }

    /// Closes the graph.
    ///
    /// # Errors
    /// Every op that did not fit when it was added, or every broken law of [`crate::verify`].
    pub fn finish(&self, output: Value<'_>) -> Result<Model, Vec<GraphError>> {
        let inner = self.inner.borrow();
        if !inner.faults.is_empty() {
            return Err(inner.faults.clone());
        }
        Model::check(Draft { output: output.id, ..inner.draft.clone() })
    }

    /// Adds a node. A fault is noted and the node gets `like`'s axes, so that later faults are found as well.
    fn push(&self, op: Op, like: Option<ValueId>) -> Value<'_> {
        let inner = &mut *self.inner.borrow_mut();
        let number = inner.draft.nodes.len();
        let axes = infer(&inner.draft, number, &op).unwrap_or_else(|fault| {
            inner.faults.push(fault);
            like.map(|v| inner.draft.nodes[v.index()].axes.clone()).unwrap_or_default()
        });
        inner.draft.nodes.push(Node { op, axes, section: inner.section });
        Value { id: ValueId(number as u32), builder: self }
    }
}

impl<'b> Value<'b> {
    /// Its number.
    pub fn id(self) -> ValueId {
        self.id
    }

    fn then(self, op: Op) -> Self {
        self.builder.push(op, Some(self.id))
    }

    /// Rows of `table` by these ids.
    pub fn gather(self, table: Param<'b>) -> Self {
        self.then(Op::Gather { table: table.id, ids: self.id })
    }

    /// Sums over the axes that `self` and `w` share; the others stay, those of `w` last.
    pub fn contract(self, w: Param<'b>) -> Self {
        self.then(Op::Contract { x: self.id, w: w.id })
    }

    /// Adds a weight over the trailing axes.
    pub fn bias(self, w: Param<'b>) -> Self {
        self.then(Op::Bias { x: self.id, w: w.id })
    }

    /// Normalisation over the axes of `w`.
    pub fn norm(self, w: Param<'b>, norm: Norm) -> Self {
        self.then(Op::Norm { x: self.id, w: w.id, norm })
    }

    /// RMS normalisation over the axes of `w`.
    pub fn rms_norm(self, w: Param<'b>, eps: f32) -> Self {
        self.norm(w, Norm::rms(eps))
    }

    /// Rotary embedding of the last axis.
    pub fn rope(self, rope: &Rope) -> Self {
        self.then(Op::Rope { x: self.id, rope: rope.clone() })
    }

    /// Attention of these queries over `k` and `v`, with sinks where there are some.
    pub fn attend(self, k: Self, v: Self, sinks: Option<Param<'b>>, how: Attention) -> Self {
        self.then(Op::Attend { q: self.id, k: k.id, v: v.id, sinks: sinks.map(|w| w.id), how })
    }

    /// Times a constant; nothing at all where it is 1.
    pub fn scale(self, by: f32) -> Self {
        if by == 1.0 { self } else { self.map(Unary::Scale(by)) }
    }

    /// Each channel over its last rows.
    pub fn short_conv(self, w: Param<'b>) -> Self {
        self.then(Op::ShortConv { x: self.id, w: w.id })
    }

    /// A selective state space of these values: read by `q` and written by `k`, with time steps `dt` (before their softplus) held within
    /// `limits`, decay rates and the share of the values that is added.
    pub fn selective_scan(
        self,
        [q, k, dt]: [Self; 3],
        [a_log, skip]: [Param<'b>; 2],
        (low, high): (f32, Option<f32>),
    ) -> Self {
        let how = Recurrence::Selective { low, high };
        let (a_log, skip) = (a_log.id, Some(skip.id));
        self.then(Op::Scan { q: q.id, k: k.id, v: self.id, dt: dt.id, beta: None, a_log, skip, how })
    }

    /// The gated delta rule over these values: `dt` before its softplus, `beta` before the logistic function.
    pub fn delta_scan(self, [q, k, dt, beta]: [Self; 4], a_log: Param<'b>) -> Self {
        let (beta, how) = (Some(beta.id), Recurrence::Delta);
        self.then(Op::Scan { q: q.id, k: k.id, v: self.id, dt: dt.id, beta, a_log: a_log.id, skip: None, how })
    }

    /// Gates of the experts that these logits choose, with an optional bias of the choice.
    pub fn route(self, bias: Option<Param<'b>>, choices: Axis, routing: Routing) -> Self {
        self.then(Op::Route { x: self.id, bias: bias.map(|p| p.id), choices, routing })
    }

    /// A contraction by the expert of each choice.
    pub fn experts(self, gates: Self, w: Param<'b>) -> Self {
        self.then(Op::Experts { x: self.id, gates: gates.id, w: w.id })
    }

    /// Adds the entry of a weight that belongs to the expert of each choice.
    pub fn expert_bias(self, gates: Self, w: Param<'b>) -> Self {
        self.then(Op::ExpertBias { x: self.id, gates: gates.id, w: w.id })
    }

    /// The sum over a row's choices, weighed by the gates, of a contraction by the expert of each.
    pub fn combine(self, gates: Self, w: Param<'b>) -> Self {
        self.then(Op::Combine { x: self.id, gates: gates.id, w: w.id })
    }

    /// The sum over a row's choices, each by its gate.
    pub fn weigh(self, gates: Self) -> Self {
        self.then(Op::Weigh { x: self.id, gates: gates.id })
    }

    /// A contraction by the entry of `w` for each index of its first axis.
    pub fn contract_each(self, w: Param<'b>) -> Self {
        self.then(Op::ContractEach { x: self.id, w: w.id })
    }

    /// `other` behind it along the last axis, which becomes `axis`.
    pub fn concat(self, other: Self, axis: Axis) -> Self {
        self.then(Op::Concat { a: self.id, b: other.id, axis })
    }

    /// The first elements of the last axis, which becomes `axis`.
    pub fn prefix(self, axis: Axis) -> Self {
        self.then(Op::Prefix { x: self.id, axis })
    }

    /// A pointwise function.
    pub fn map(self, f: Unary) -> Self {
        self.then(Op::Unary(f, self.id))
    }

    /// The rows that will be sampled.
    pub fn sampled_rows(self) -> Self {
        self.then(Op::SampledRows(self.id))
    }
}

impl Add for Value<'_> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.then(Op::Binary(Binary::Add, self.id, other.id))
    }
}

impl Mul for Value<'_> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        self.then(Op::Binary(Binary::Mul, self.id, other.id))
    }
}
