//! The checked logical graph, and the draft it is made from.
//!
//! Invariant: a [`Model`] holds every law listed in [`crate::verify`]; only [`Model::check`] makes one.

use crate::axis::{Axis, AxisDef, Extent, ParamId, ValueId};
use crate::error::GraphError;
use crate::op::Op;
use crate::stored::{Stored, Strides, dims, strides};
use std::collections::BTreeSet;

/// Which part of the network a node belongs to; partitions cut between sections, never inside one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Section {
    /// Before the first layer.
    Embed,
    /// A layer, counted from 0.
    Layer(u32),
    /// Behind the last layer.
    Head,
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Section::Embed => f.write_str("embed"),
            Section::Layer(layer) => write!(f, "layer {layer}"),
            Section::Head => f.write_str("head"),
        }
    }
}

/// One op and the axes of its one result.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Axes of the result.
    pub axes: Vec<Axis>,
    /// Where it belongs.
    pub section: Section,
}

/// A weight: a tensor of the checkpoint, or a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParamDef {
    /// The tensor's name in the checkpoint.
    pub name: String,
    /// Its axes, in the order in which ops read them.
    pub axes: Vec<Axis>,
    /// The dimensions of the tensor, in the order in which the checkpoint has them.
    pub stored: Vec<Stored>,
}

impl ParamDef {
    /// A weight that is stored as it is read.
    pub fn new(name: impl Into<String>, axes: &[Axis]) -> Self {
        Self { name: name.into(), axes: axes.to_vec(), stored: Stored::plain(axes) }
    }

    /// Whether it is stored as it is read: all of its tensor, axis by axis.
    pub fn is_plain(&self) -> bool {
        let plain = |(dim, axis): (&Stored, &Axis)| *dim == Stored::Axis(*axis);
        self.stored.len() == self.axes.len() && self.stored.iter().zip(&self.axes).all(plain)
    }
}

/// Where the number of an entry stands in the name of a weight that is stored as one tensor for each entry of its first axis.
const ENTRY: &str = "{}";

/// The name of the tensor that holds entry `number` of the weight of this name; `None` where one tensor holds all entries.
pub fn entry_name(name: &str, number: u32) -> Option<String> {
    name.contains(ENTRY).then(|| name.replacen(ENTRY, &number.to_string(), 1))
}

impl ParamDef {
    /// Whether it is stored as one tensor for each entry of its first axis.
    pub fn is_stacked(&self) -> bool {
        self.name.contains(ENTRY)
    }
}

/// A graph that nobody has checked yet.
#[derive(Clone, PartialEq, Debug)]
pub struct Draft {
    /// Axes; number 0 is `rows`.
    pub axes: Vec<AxisDef>,
    /// Weights.
    pub params: Vec<ParamDef>,
    /// Nodes, each behind those it reads.
    pub nodes: Vec<Node>,
    /// The logits.
    pub output: ValueId,
}

/// A checked logical graph. It knows no device, rank, batch or cache.
#[derive(Clone, PartialEq, Debug)]
pub struct Model(Draft);

impl Model {
    /// Checks every law of [`crate::verify`].
    ///
    /// # Errors
    /// All faults at once.
    pub fn check(draft: Draft) -> Result<Self, Vec<GraphError>> {
        let faults = crate::verify::verify(&draft);
        if faults.is_empty() { Ok(Self(draft)) } else { Err(faults) }
    }

    /// Axes; number 0 is `rows`.
    pub fn axes(&self) -> &[AxisDef] {
        &self.0.axes
    }

    /// Weights.
    pub fn params(&self) -> &[ParamDef] {
        &self.0.params
    }

    /// Nodes in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.0.nodes
    }

    /// The value of the logits.
    pub fn output(&self) -> ValueId {
        self.0.output
    }

    /// The graph as plain data, to be changed and checked again.
    pub fn into_draft(self) -> Draft {
        self.0
    }

    /// The graph as plain data.
    pub fn draft(&self) -> &Draft {
        &self.0
    }

    /// Length of a fixed axis; `None` for the rows.
    pub fn length(&self, axis: Axis) -> Option<u32> {
        self.0.length(axis)
    }

    /// Product of the fixed lengths: elements of a weight, or of one row of a value.
    pub fn elements(&self, axes: &[Axis]) -> u64 {
        self.0.elements(axes)
    }

    /// The tensors that the weights are read from, each once: name and lengths of its dimensions, of which neighbours may be one in
    /// the checkpoint. A weight whose name counts entries is one tensor for each entry of its first axis.
    pub fn tensors(&self) -> Vec<(String, Vec<u32>)> {
        let mut seen = BTreeSet::new();
        let tensors = |param: &ParamDef| {
            let length = |len: u64| u32::try_from(len).unwrap_or(u32::MAX);
            let dims: Vec<u32> = dims(&self.0, &param.stored).into_iter().map(length).collect();
            match entry_name(&param.name, 0) {
                None => vec![(param.name.clone(), dims)],
                Some(_) => {
                    let entry = |number| Some((entry_name(&param.name, number)?, dims[1..].to_vec()));
                    (0..dims[0]).filter_map(entry).collect()
                }
            }
        };
        self.params().iter().filter(|param| seen.insert(&param.name)).flat_map(tensors).collect()
    }

    /// Where the elements of a weight are in its tensor; `None` where they are all of it, in order.
    pub fn strides(&self, id: ParamId) -> Option<Strides> {
        let param = self.param(id);
        (!param.is_plain()).then(|| strides(&self.0, &param.axes, &param.stored))
    }

    /// Elements of all weights.
    pub fn parameters(&self) -> u64 {
        self.params().iter().map(|p| self.elements(&p.axes)).sum()
    }

    /// How many layers the sections count.
    pub fn layers(&self) -> u32 {
        let number = |n: &Node| match n.section {
            Section::Layer(layer) => layer + 1,
            Section::Embed | Section::Head => 0,
        };
        self.nodes().iter().map(number).max().unwrap_or(0)
    }

    /// Entries of a row of logits: the tokens of a language model, the labels of a classifier.
    pub fn logits(&self) -> u32 {
        self.nodes()[self.output().index()].axes.last().and_then(|&a| self.length(a)).unwrap_or(0)
    }

    /// Tokens that it reads: rows of the table that their ids choose from.
    pub fn vocabulary(&self) -> u32 {
        let table = |node: &Node| if let Op::Gather { table, .. } = node.op { Some(table) } else { None };
        let table = self.nodes().iter().find_map(table);
        table.and_then(|table| self.length(*self.param(table).axes.first()?)).unwrap_or(0)
    }

    /// A weight.
    pub fn param(&self, id: ParamId) -> &ParamDef {
        &self.0.params[id.index()]
    }

    /// What people call a value: `logits`, or the path of the weight that made it, else its op and number.
    pub fn edge(&self, value: ValueId) -> String {
        if value == self.output() {
            return "logits".into();
        }
        let node = &self.nodes()[value.index()];
        match node.op.param() {
            Some(p) => {
                let name = &self.param(p).name;
                name.strip_suffix(".weight").unwrap_or(name).to_string()
            }
            None => format!("{} %{} {}", node.section, value.0, node.op.name()),
        }
    }
}

impl Draft {
    /// Length of a fixed axis; `None` for the rows and for axes that do not exist.
    pub fn length(&self, axis: Axis) -> Option<u32> {
        match self.axes.get(axis.index())?.extent {
            Extent::Fixed(n) => Some(n),
            Extent::Rows => None,
        }
    }

    /// Product of the fixed lengths; at most what a u64 holds.
    pub fn elements(&self, axes: &[Axis]) -> u64 {
        let lengths = axes.iter().filter_map(|&a| self.length(a)).map(u64::from);
        lengths.fold(1, u64::saturating_mul)
    }

    /// Names of axes, joined by commas.
    pub fn names(&self, axes: &[Axis]) -> String {
        let name = |a: &Axis| self.axes.get(a.index()).map_or_else(|| format!("#{}", a.0), |d| d.name.clone());
        axes.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}
