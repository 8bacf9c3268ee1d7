//! gpt-oss: sinks, windows in every other layer, and experts with biases and a clamped gate. Source: arXiv:2508.10925 §2; names as in the
//! Hugging Face checkpoint, whose experts are stored input first, gate and up element by element.

use super::Family;
use super::blocks::{Decoder, Layer};
use super::experts::Experts;
use crate::axis::Axis;
use crate::builder::{Builder, Value};
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::op::{Norm, Unary};
use crate::routing::Routing;
use crate::stored::Stored;

/// The row of this family.
pub(super) const FAMILY: Family = Family {
    name: "gpt_oss",
    model_types: &["gpt_oss"],
    source: "arXiv:2508.10925",
    defaults: r#"{"rms_norm_eps": 1e-5, "rope_theta": 150000.0, "sliding_window": 128, "head_dim": 64, "attention_bias": true,
        "num_key_value_heads": 8, "max_position_embeddings": 131072}"#,
    build,
};

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let inner = c.count("intermediate_size");
    let mut d = Decoder::read(b, c, Norm::rms(c.eps("rms_norm_eps")), inner);
    d.attention.sinks = true;
    d.attention.windowed(&c.windows(d.layers, |layer| layer.is_multiple_of(2)));
    let chosen = c.count_or("num_experts_per_tok", 4);
    let e = Experts::new(b, c.count("num_local_experts"), chosen, inner, Routing::SOFTMAX);
    let limit = c.positive_or("swiglu_limit", 7.0);
    let swish = Unary::ClampedSwish { alpha: c.positive_or("swiglu_alpha", 1.702), limit };
    d.model(|layer, x| {
        let x = x + layer.attention("self_attn", layer.norm("input_layernorm", x));
        let y = layer.norm("post_attention_layernorm", x);
        let logits = layer.project(("mlp.router", true), (&[e.experts], &[layer.d.hidden]), y);
        let gates = logits.route(None, e.choices, e.routing);
        let [gate, up] = [0, 1].map(|which| into(layer, &e, which, (gates, y)));
        let y = gate.map(swish) * up.map(Unary::ClampedPlusOne(limit));
        let stored = |axes: [Axis; 2]| Stored::plain(&[e.experts, axes[0], axes[1]]);
        let (hidden, name) = (layer.d.hidden, |part: &str| layer.name(&format!("mlp.experts.{part}")));
        let down = b.part(name("down_proj"), &[e.experts, hidden, e.ffn], stored([e.ffn, hidden]));
        let bias = Stored::plain(&[e.experts, hidden]);
        let bias = b.part(name("down_proj_bias"), &[hidden, e.experts], bias);
        // The biases of a row's experts, weighed as what they belong to.
        x + (y.combine(gates, down) + gates.contract(bias))
    })
}

/// Gate (0) or up (1) of each choice, with its bias.
fn into<'b>(layer: &Layer<'_, 'b>, e: &Experts, which: usize, (gates, x): (Value<'b>, Value<'b>)) -> Value<'b> {
    let (b, hidden) = (layer.d.b, layer.d.hidden);
    let name = |part: &str| layer.name(&format!("mlp.experts.{part}"));
    let stored = |axes: &[Axis]| {
        let one: [&[Axis]; 2] = [&[], &[]];
        [Stored::plain(axes), vec![Stored::part(&one, which)]].concat()
    };
    let w = b.part(name("gate_up_proj"), &[e.experts, e.ffn, hidden], stored(&[e.experts, hidden, e.ffn]));
    let bias = b.part(name("gate_up_proj_bias"), &[e.experts, e.ffn], stored(&[e.experts, e.ffn]));
    x.experts(gates, w).expert_bias(gates, bias)
}
