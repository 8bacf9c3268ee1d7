//! Qwen3-Next: layers of the gated delta rule, and among them some of gated attention; experts with a gated shared one. Norms are stored
//! less one. Source: arXiv:2412.06464 §3 (the rule); names as in the Hugging Face checkpoint.

use super::Family;
use super::blocks::{DeltaRule, Weights, plain};
use crate::axis::Axis;
use crate::builder::{Builder, Value};
use crate::config::ConfigReader;
use crate::error::{ConfigFault, GraphError};
use crate::model::{Model, Section};
use crate::op::{Attention, Norm, Unary};
use crate::rope::Rope;
use crate::routing::{Routing, Score};
use crate::stored::Stored;

/// The row of this family.
pub(super) const FAMILY: Family = Family {
    name: "qwen3_next",
    model_types: &["qwen3_next"],
    source: "arXiv:2412.06464",
    defaults: r#"{"full_attention_interval": 4, "linear_conv_kernel_dim": 4, "norm_topk_prob": true, "num_experts_per_tok": 10,
        "decoder_sparse_step": 1, "partial_rotary_factor": 0.25, "max_position_embeddings": 32768}"#,
    build,
};

/// What all layers share.
struct Frame {
    hidden: Axis,
    /// Heads of keys, queries of each, elements of a head.
    heads: [Axis; 3],
    delta: DeltaRule,
    /// Experts, those of a row, inner elements.
    experts: [Axis; 3],
    /// The shared expert as one of one.
    shared: [Axis; 3],
    routing: Routing,
    norms: Norm,
    rope: Rope,
    scale: f32,
}

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let (vocab, layers) = (b.axis("vocab", c.count("vocab_size")), c.count("num_hidden_layers"));
    let f = Frame::read(b, c);
    c.must_be_off("attention_bias");
    if c.count("decoder_sparse_step") != 1 || !c.layers("mlp_only_layers", layers).is_empty() {
        let (value, allowed) = ("other than 1, or mlp_only_layers".into(), "1: every layer has experts".into());
        c.fault(ConfigFault::Value { field: "decoder_sparse_step".into(), value, allowed });
    }
    let interval = c.count("full_attention_interval");
    let kinds = c.layer_types(layers);
    let is_full = |layer: u32| match &kinds {
        Some(kinds) => kinds.get(layer as usize).is_some_and(|kind| kind == "full_attention"),
        None => (layer + 1).is_multiple_of(interval),
    };
    let embed = b.param("model.embed_tokens.weight", &[vocab, f.hidden]);
    let mut x = b.tokens().gather(embed);
    for layer in 0..layers {
        b.section(Section::Layer(layer));
        let w: Weights<'_, '_> =
            &|name, axes, stored| b.part(format!("model.layers.{layer}.{name}.weight"), axes, stored);
        let y = f.norm(w, "input_layernorm", x);
        let bare = |name: &str, axes: &[Axis]| b.param(format!("model.layers.{layer}.linear_attn.{name}"), axes);
        x = x + if is_full(layer) { f.attention(w, y) } else { f.delta.layer(w, &bare, y) };
        x = x + f.experts(w, f.norm(w, "post_attention_layernorm", x));
    }
    b.section(Section::Head);
    let x = x.norm(b.param("model.norm.weight", &[f.hidden]), f.norms).sampled_rows();
    let untied = || b.param("lm_head.weight", &[vocab, f.hidden]);
    b.finish(x.contract(if c.flag_or("tie_word_embeddings", false) { embed } else { untied() }))
}

impl Frame {
    fn read(b: &Builder, c: &ConfigReader<'_>) -> Self {
        let (heads, kv_heads, head_dim) = c.heads();
        let hidden = b.axis("hidden", c.count("hidden_size"));
        let norms = Norm { offset: 1.0, ..Norm::rms(c.eps("rms_norm_eps")) };
        Self {
            hidden,
            heads: [
                b.axis("kv_heads", kv_heads),
                b.axis("queries_per_kv", (heads / kv_heads).max(1)),
                b.axis("head_dim", head_dim),
            ],
            delta: DeltaRule::read(b, c, hidden, norms.eps),
            experts: [
                b.axis("experts", c.count("num_experts")),
                b.axis("choices", c.count("num_experts_per_tok")),
                b.axis("expert_ffn", c.count("moe_intermediate_size")),
            ],
            shared: [
                b.axis("shared_experts", 1),
                b.axis("shared_choices", 1),
                b.axis("shared_ffn", c.count("shared_expert_intermediate_size")),
            ],
            routing: Routing { normalise: c.flag_or("norm_topk_prob", true), ..Routing::SOFTMAX },
            norms,
            rope: c.rope(head_dim),
            scale: 1.0 / (head_dim as f32).sqrt(),
        }
    }

    /// The norm of a hidden state.
    fn norm<'b>(&self, w: Weights<'_, 'b>, name: &str, x: Value<'b>) -> Value<'b> {
        x.norm(w(name, &[self.hidden], plain(&[self.hidden])), self.norms)
    }

    /// Attention whose result is gated; queries and gates are one tensor, head by head.
    fn attention<'b>(&self, w: Weights<'_, 'b>, x: Value<'b>) -> Value<'b> {
        let [kv_heads, group, dim] = self.heads;
        let into = |name: &str, axes: &[Axis]| {
            let axes = [axes, &[self.hidden]].concat();
            x.contract(w(&format!("self_attn.{name}"), &axes, plain(&axes)))
        };
        let query_or_gate = |which| {
            let stored =
                [plain(&[kv_heads, group]), vec![Stored::part(&[&[dim], &[dim]], which)], plain(&[self.hidden])];
            x.contract(w("self_attn.q_proj", &[kv_heads, group, dim, self.hidden], stored.concat()))
        };
        let turned = |which: &str, x: Value<'b>| {
            let norm = w(&format!("self_attn.{which}_norm"), &[dim], plain(&[dim]));
            x.norm(norm, self.norms).rope(&self.rope)
        };
        let (q, k) = (turned("q", query_or_gate(0)), turned("k", into("k_proj", &[kv_heads, dim])));
        let y = q.attend(k, into("v_proj", &[kv_heads, dim]), None, Attention::scaled(self.scale));
        let y = query_or_gate(1).map(Unary::Sigmoid) * y;
        let out = [self.hidden, kv_heads, group, dim];
        y.contract(w("self_attn.o_proj", &out, plain(&out)))
    }

    /// The experts that a row chooses, and the shared one by its own gate.
    fn experts<'b>(&self, w: Weights<'_, 'b>, x: Value<'b>) -> Value<'b> {
        let gated = |[experts, choices, ffn]: [Axis; 3], (gate, module): (&str, &str), routing: Routing| {
            let weight = |name: &str, axes: &[Axis]| w(name, axes, plain(axes));
            let gates = x.contract(weight(gate, &[experts, self.hidden])).route(None, choices, routing);
            let into = |name: &str| x.experts(gates, weight(&format!("{module}.{name}"), &[experts, ffn, self.hidden]));
            let y = into("gate_proj").map(Unary::Silu) * into("up_proj");
            y.combine(gates, weight(&format!("{module}.down_proj"), &[experts, self.hidden, ffn]))
        };
        let own = Routing { score: Score::Sigmoid, normalise: false, ..Routing::SOFTMAX };
        gated(self.experts, ("mlp.gate", "mlp.experts.{}"), self.routing)
            + gated(self.shared, ("mlp.shared_expert_gate", "mlp.shared_expert"), own)
    }
}
