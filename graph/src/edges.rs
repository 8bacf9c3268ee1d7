//! Values that people read while a model runs: what each module of the checkpoint gives, by the module's path, and each layer.
//!
//! A module is a tensor's name without its last part: `model.layers.3.self_attn.o_proj`. Its value is what its weight makes, with its bias
//! where it has one. Of a tensor that is several weights in one the values are put together as the tensor is stored, so that they are
//! what the module gives where the checkpoint comes from. Experts, scans and sinks have no module of their own and are not among them.

use crate::axis::{Axis, ValueId};
use crate::model::{Model, Node, Section};
use crate::op::Op;
use crate::stored::{Stored, Strides, strides};
use std::collections::BTreeSet;

/// A value under a name that the checkpoint gives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    /// The module's path; `logits` for the model's result.
    pub name: String,
    /// Elements of a row.
    pub width: u32,
    /// The values of the graph that it is made of.
    pub parts: Vec<EdgePart>,
}

/// A value of the graph, and where its elements are in a row of an edge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EdgePart {
    /// The value.
    pub value: ValueId,
    /// Lengths of its axes behind the rows.
    pub dims: Vec<u32>,
    /// Where they are in the row.
    pub places: Strides,
}

impl EdgePart {
    /// Elements of a row of the value.
    pub fn width(&self) -> usize {
        self.dims.iter().map(|&dim| dim as usize).product()
    }

    /// Puts a row of the value where it belongs in a row of the edge.
    ///
    /// # Panics
    /// When `from` is no row of the value, or `to` no row of the edge.
    pub fn place(&self, from: &[f32], to: &mut [f32]) {
        assert_eq!(from.len(), self.width(), "a row of the value");
        for (number, &element) in from.iter().enumerate() {
            let (mut rest, mut at) = (number as u64, self.places.offset);
            for (&dim, stride) in self.dims.iter().zip(&self.places.strides).rev() {
                at += rest % u64::from(dim) * stride;
                rest /= u64::from(dim);
            }
            to[at as usize] = element;
        }
    }
}

impl Model {
    /// All edges, in the order in which they are computed.
    pub fn edges(&self) -> Vec<Edge> {
        let mut modules: Vec<Edge> = vec![];
        for (number, node) in self.nodes().iter().enumerate() {
            self.extend_module(&mut modules, ValueId(number as u32), node);
        }
        let is_whole = |edge: &Edge| edge.parts.iter().map(EdgePart::width).sum::<usize>() == edge.width as usize;
        modules.retain(is_whole);
        modules.extend((0..self.layers()).filter_map(|layer| self.layer(layer)));
        let mut seen = BTreeSet::from(["logits".to_owned()]);
        modules.retain(|edge| seen.insert(edge.name.clone()));
        modules.extend(self.whole("logits".into(), self.output()));
        modules.sort_by_key(|edge| edge.parts.iter().map(|part| part.value).max());
        modules
    }

    /// Takes what a node makes of a weight into the module that the weight belongs to.
    fn extend_module(&self, modules: &mut Vec<Edge>, value: ValueId, node: &Node) {
        let Some(param) = node.op.param().map(|id| self.param(id)) else { return };
        let Some((path, kind)) = param.name.rsplit_once('.') else { return };
        if let (Op::Bias { x, .. }, "bias") = (&node.op, kind) {
            let parts = modules.iter_mut().filter(|edge| edge.name == path).flat_map(|edge| &mut edge.parts);
            parts.filter(|part| part.value == *x).for_each(|part| part.value = value);
            return;
        }
        let by_weight = matches!(
            node.op,
            Op::Gather { .. } | Op::Positions { .. } | Op::Contract { .. } | Op::Norm { .. } | Op::ShortConv { .. }
        );
        if !by_weight || kind != "weight" || param.is_stacked() {
            return;
        }
        // A table that is also the head is two modules.
        let looks_up = |edge: &Edge| matches!(self.nodes()[edge.parts[0].value.index()].op, Op::Gather { .. });
        let tied = matches!(node.op, Op::Contract { .. }) && modules.iter().any(|e| e.name == path && looks_up(e));
        let name = if tied { "lm_head" } else { path };
        let Some((width, part)) = self.part(value, node, &param.stored) else { return };
        match modules.iter_mut().find(|edge| edge.name == name) {
            Some(edge) => edge.parts.push(part),
            None => modules.push(Edge { name: name.into(), width, parts: vec![part] }),
        }
    }

    /// A value and its places among what its module gives: those of the tensor's dimensions that the result still has, or its own order
    /// where they do not tell.
    fn part(&self, value: ValueId, node: &Node, stored: &[Stored]) -> Option<(u32, EdgePart)> {
        let axes = &node.axes[1..];
        let kept: Vec<Stored> =
            stored.iter().filter(|dim| dim.axes().iter().all(|a| axes.contains(a))).cloned().collect();
        let told: usize = kept.iter().map(|dim| dim.axes().len()).sum();
        let kept = if told == axes.len() { kept } else { Stored::plain(axes) };
        let places = strides(self.draft(), axes, &kept);
        let width = u32::try_from(places.elements).ok()?;
        Some((width, EdgePart { value, dims: self.dims_of(axes), places }))
    }

    fn dims_of(&self, axes: &[Axis]) -> Vec<u32> {
        axes.iter().map(|&axis| self.length(axis).unwrap_or(1)).collect()
    }

    /// A value as an edge of its own.
    fn whole(&self, name: String, value: ValueId) -> Option<Edge> {
        let (width, part) = self.part(value, &self.nodes()[value.index()], &[])?;
        Some(Edge { name, width, parts: vec![part] })
    }

    /// What a layer gives: its last value, under what the names of all its weights begin with.
    fn layer(&self, layer: u32) -> Option<Edge> {
        let own = |node: &&Node| node.section == Section::Layer(layer);
        let params = self.nodes().iter().filter(own).flat_map(|node| node.op.params());
        let path = params.map(|id| self.param(id).name.as_str()).fold(None, |path: Option<Vec<&str>>, name| {
            let words = name.split('.');
            Some(match path {
                None => words.collect(),
                Some(path) => path.into_iter().zip(words).take_while(|(a, b)| a == b).map(|(a, _)| a).collect(),
            })
        })?;
        let last = self.nodes().iter().rposition(|node| own(&node))?;
        if path.is_empty() { None } else { self.whole(path.join("."), ValueId(last as u32)) }
    }
}
