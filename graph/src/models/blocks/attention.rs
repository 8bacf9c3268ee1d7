//! Grouped-query attention: projections however they are stored, norms of heads, rotation, and the attention of each layer.

use super::decoder::{Decoder, Layer};
use crate::axis::Axis;
use crate::builder::Value;
use crate::config::ConfigReader;
use crate::op::{Attention, Unary};
use crate::rope::Rope;
use crate::stored::Stored;

/// How queries, keys and values are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Projections {
    /// As `q_proj`, `k_proj` and `v_proj`.
    Apart,
    /// As one module of this name: all queries, all keys, all values.
    Joined(&'static str),
    /// As one module of this name: of each head its query, its key and its value.
    PerHead(&'static str),
}

/// What is normalised before the rotation, by `q_norm` and `k_norm`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadNorms {
    /// Nothing.
    None,
    /// Every head of queries and keys.
    PerHead,
    /// All queries, and all keys, of a row.
    Whole,
}

/// What attention has in each layer of a model.
pub struct AttentionBlock {
    pub projections: Projections,
    /// Whether `q_proj` gives a gate behind each query, by whose logistic function the result of attention is multiplied. The projections
    /// are apart then.
    pub gated: bool,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// The name of the projection out of the heads, and whether it has a bias.
    pub out: (&'static str, bool),
    pub norms: HeadNorms,
    /// Whether every head has a sink.
    pub sinks: bool,
    /// The rotation of each layer.
    pub ropes: Vec<Option<Rope>>,
    /// Scale, window and cap of each layer.
    pub how: Vec<Attention>,
}

impl AttentionBlock {
    /// As Llama has it.
    pub(super) fn read(c: &ConfigReader<'_>, layers: u32, head_dim: u32) -> Self {
        let bias = c.flag_or("attention_bias", false);
        Self {
            projections: Projections::Apart,
            gated: false,
            qkv_bias: bias,
            out: ("o_proj", bias),
            norms: HeadNorms::None,
            sinks: false,
            ropes: vec![Some(c.rope(head_dim)); layers as usize],
            how: vec![Attention::scaled(1.0 / (head_dim as f32).sqrt()); layers as usize],
        }
    }

    /// Another scale for every layer.
    pub fn scaled(&mut self, scale: f32) {
        self.how.iter_mut().for_each(|how| how.scale = scale);
    }

    /// The window of each layer.
    pub fn windowed(&mut self, windows: &[Option<u32>]) {
        self.how.iter_mut().zip(windows).for_each(|(how, window)| how.window = *window);
    }
}

impl<'b> Layer<'_, 'b> {
    /// Attention over `x` by the module of this name.
    pub fn attention(&self, module: &str, x: Value<'b>) -> Value<'b> {
        let Decoder { hidden, attention: block, .. } = self.d;
        let [q, k, v] = self.heads(module, x);
        let rope = block.ropes[self.number as usize].as_ref();
        let turn = |x: Value<'b>| rope.map_or(x, |rope| x.rope(rope));
        let q = turn(self.head_norm(module, "q_norm", &self.queries(), q));
        let k = turn(self.head_norm(module, "k_norm", &self.keys(), k));
        let sinks = block.sinks.then(|| self.weight(&format!("{module}.sinks"), &[self.d.kv_heads, self.d.group]));
        let y = q.attend(k, v, sinks, block.how[self.number as usize]);
        let y = if block.gated { self.query_or_gate(module, 1, x).map(Unary::Sigmoid) * y } else { y };
        let (out, bias) = block.out;
        self.project((&format!("{module}.{out}"), bias), (&[*hidden], &self.queries()), y)
    }

    /// Axes of all queries of a row.
    pub fn queries(&self) -> [Axis; 3] {
        [self.d.kv_heads, self.d.group, self.d.head_dim]
    }

    /// Axes of all keys, or all values, of a row.
    pub fn keys(&self) -> [Axis; 2] {
        [self.d.kv_heads, self.d.head_dim]
    }

    /// Queries, keys and values.
    fn heads(&self, module: &str, x: Value<'b>) -> [Value<'b>; 3] {
        let (queries, keys, block) = (self.queries(), self.keys(), &self.d.attention);
        let (bias, hidden) = (block.qkv_bias, &[self.d.hidden]);
        let part =
            |name: &str, new: &[Stored]| self.project_part((&format!("{module}.{name}"), bias), (new, hidden), x);
        match block.projections {
            Projections::Apart if block.gated => {
                let [k, v] = ["k_proj", "v_proj"]
                    .map(|name| self.project((&format!("{module}.{name}"), bias), (&keys, hidden), x));
                [self.query_or_gate(module, 0, x), k, v]
            }
            Projections::Apart => [("q_proj", &queries[..]), ("k_proj", &keys), ("v_proj", &keys)]
                .map(|(name, new)| self.project((&format!("{module}.{name}"), bias), (new, hidden), x)),
            Projections::Joined(name) => {
                [0, 1, 2].map(|which| part(name, &[Stored::part(&[&queries, &keys, &keys], which)]))
            }
            Projections::PerHead(name) => {
                let of_head = [&queries[1..], &keys[1..], &keys[1..]];
                [0, 1, 2].map(|which| part(name, &[Stored::Axis(queries[0]), Stored::part(&of_head, which)]))
            }
        }
    }

    /// The queries (0) or the gates (1) of `q_proj`, which has them head by head.
    fn query_or_gate(&self, module: &str, which: usize, x: Value<'b>) -> Value<'b> {
        let ([kv_heads, group, dim], d) = (self.queries(), self.d);
        let new = [Stored::Axis(kv_heads), Stored::Axis(group), Stored::part(&[&[dim], &[dim]], which)];
        self.project_part((&format!("{module}.q_proj"), d.attention.qkv_bias), (&new, &[d.hidden]), x)
    }

    fn head_norm(&self, module: &str, norm: &str, all: &[Axis], x: Value<'b>) -> Value<'b> {
        let name = self.name(&format!("{module}.{norm}"));
        match self.d.attention.norms {
            HeadNorms::None => x,
            HeadNorms::PerHead => self.d.norm_over(&name, &[self.d.head_dim], x),
            HeadNorms::Whole => self.d.norm_over(&name, all, x),
        }
    }
}
