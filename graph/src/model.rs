//! The checked logical graph, and the draft it is made from.
//!
//! Invariant: a [`Model`] holds every law listed in [`crate::verify`]; only [`Model::check`] makes one.

use crate::axis::{Axis, AxisDef, Extent, ParamId, ValueId};
use crate::error::GraphError;
use crate::op::Op;

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

/// A weight of the checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParamDef {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its axes, in the order in which the checkpoint stores them.
    pub axes: Vec<Axis>,
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
        axes.iter().filter_map(|&a| self.length(a)).map(u64::from).product()
    }

    /// Elements of all weights.
    pub fn parameters(&self) -> u64 {
        self.params().iter().map(|p| self.elements(&p.axes)).sum()
    }

    /// The tensors of the checkpoint that make up the weights, with the lengths of their axes.
    pub fn tensors(&self) -> Vec<(String, Vec<u32>)> {
        let tensors = |param: &ParamDef| {
            let dims: Vec<u32> = param.axes.iter().map(|&a| self.length(a).unwrap_or(1)).collect();
            match entry_name(&param.name, 0) {
                None => vec![(param.name.clone(), dims)],
                Some(_) => {
                    let entry = |number| Some((entry_name(&param.name, number)?, dims[1..].to_vec()));
                    (0..dims[0]).filter_map(entry).collect()
                }
            }
        };
        self.params().iter().flat_map(tensors).collect()
    }

    /// How many layers the sections count.
    pub fn layers(&self) -> u32 {
        let number = |n: &Node| match n.section {
            Section::Layer(layer) => layer + 1,
            Section::Embed | Section::Head => 0,
        };
        self.nodes().iter().map(number).max().unwrap_or(0)
    }

    /// Entries of a row of logits.
    pub fn vocabulary(&self) -> u32 {
        self.nodes()[self.output().index()].axes.last().and_then(|&a| self.length(a)).unwrap_or(0)
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

    /// Names of axes, joined by commas.
    pub fn names(&self, axes: &[Axis]) -> String {
        let name = |a: &Axis| self.axes.get(a.index()).map_or_else(|| format!("#{}", a.0), |d| d.name.clone());
        axes.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}
