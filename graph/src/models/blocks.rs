//! What decoders have in common: grouped-query attention with rotary embedding, and the gated MLP.

use crate::axis::Axis;
use crate::builder::{Builder, Param, Value};
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::{Model, Section};
use crate::op::{Attention, Unary};
use crate::rope::Rope;

/// The axes and constants of a dense decoder whose configuration has the fields of Llama's.
pub(crate) struct Decoder {
    pub(crate) hidden: Axis,
    pub(crate) kv_heads: Axis,
    pub(crate) group: Axis,
    pub(crate) head_dim: Axis,
    pub(crate) ffn: Axis,
    pub(crate) vocab: Axis,
    pub(crate) layers: u32,
    pub(crate) eps: f32,
    pub(crate) scale: f32,
    pub(crate) rope: Rope,
    pub(crate) activation: Unary,
    tied: bool,
}

impl Decoder {
    /// Declares the axes that `c` gives the lengths of.
    pub(crate) fn read(b: &Builder, c: &ConfigReader<'_>, tied_by_default: bool) -> Self {
        let (heads, kv_heads, head_dim) = c.heads();
        Self {
            hidden: b.axis("hidden", c.count("hidden_size")),
            kv_heads: b.axis("kv_heads", kv_heads),
            group: b.axis("queries_per_kv", (heads / kv_heads).max(1)),
            head_dim: b.axis("head_dim", head_dim),
            ffn: b.axis("ffn", c.count("intermediate_size")),
            vocab: b.axis("vocab", c.count("vocab_size")),
            layers: c.count("num_hidden_layers"),
            eps: c.eps("rms_norm_eps"),
            scale: 1.0 / (head_dim as f32).sqrt(),
            rope: c.rope(head_dim),
            activation: c.activation("hidden_act"),
            tied: c.flag_or("tie_word_embeddings", tied_by_default),
        }
    }

    /// Token ids to logits: embedding, the layers that `layer` describes, norm, head.
    pub(crate) fn model<'b>(
        &self,
        b: &'b Builder,
        layer: impl Fn(&dyn Fn(&str, &[Axis]) -> Param<'b>, Value<'b>) -> Value<'b>,
    ) -> Result<Model, Vec<GraphError>> {
        self.numbered(b, |_, w, x| layer(w, x))
    }

    /// The same for layers that differ by their number.
    pub(crate) fn numbered<'b>(
        &self,
        b: &'b Builder,
        layer: impl Fn(u32, &dyn Fn(&str, &[Axis]) -> Param<'b>, Value<'b>) -> Value<'b>,
    ) -> Result<Model, Vec<GraphError>> {
        let embed = b.param("model.embed_tokens.weight", &[self.vocab, self.hidden]);
        let mut x = b.tokens().gather(embed);
        for i in 0..self.layers {
            b.section(Section::Layer(i));
            x = layer(i, &|name, axes| b.param(format!("model.layers.{i}.{name}"), axes), x);
        }
        b.section(Section::Head);
        let x = x.rms_norm(b.param("model.norm.weight", &[self.hidden]), self.eps).sampled_rows();
        let head = if self.tied { embed } else { b.param("lm_head.weight", &[self.vocab, self.hidden]) };
        b.finish(x.contract(head))
    }

    /// A projection `x · wᵀ`, with its bias where `bias` says so.
    pub(crate) fn project<'b>(
        &self,
        w: &dyn Fn(&str, &[Axis]) -> Param<'b>,
        (name, bias): (&str, bool),
        (new, summed): (&[Axis], &[Axis]),
        x: Value<'b>,
    ) -> Value<'b> {
        let y = x.contract(w(&format!("{name}.weight"), &[new, summed].concat()));
        if bias { y.bias(w(&format!("{name}.bias"), new)) } else { y }
    }

    /// Rotated queries over rotated keys. `prepare` is what happens to each head before the rotation.
    pub(crate) fn attend<'b>(
        &self,
        [q, k, v]: [Value<'b>; 3],
        prepare: impl Fn(&str, Value<'b>) -> Value<'b>,
    ) -> Value<'b> {
        let (q, k) = (prepare("q", q).rope(&self.rope), prepare("k", k).rope(&self.rope));
        q.attend(k, v, None, Attention::scaled(self.scale))
    }

    /// down(f(gate(x)) · up(x)) (Shazeer 2020, arXiv:2002.05202, eq. 6).
    pub(crate) fn gated_mlp<'b>(&self, w: &dyn Fn(&str, &[Axis]) -> Param<'b>, bias: bool, x: Value<'b>) -> Value<'b> {
        let to_ffn = |name| self.project(w, (name, bias), (&[self.ffn], &[self.hidden]), x);
        let y = to_ffn("mlp.gate_proj").map(self.activation) * to_ffn("mlp.up_proj");
        self.project(w, ("mlp.down_proj", bias), (&[self.hidden], &[self.ffn]), y)
    }
}
