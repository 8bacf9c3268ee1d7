//! Qwen3-Next: layers of the gated delta rule, and among them some of gated attention; experts with a gated shared one. Norms are stored
//! less one. Source: arXiv:2412.06464 §3 (the rule); names as in the Hugging Face checkpoint.

use super::Family;
use super::blocks::{Decoder, DeltaRule, HeadNorms};
use super::experts::Experts;
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::{ConfigFault, GraphError};
use crate::model::Model;
use crate::op::Norm;
use crate::routing::{Routing, Score};

/// The row of this family.
pub(super) const FAMILY: Family = Family {
    name: "qwen3_next",
    model_types: &["qwen3_next"],
    source: "arXiv:2412.06464",
    defaults: r#"{"full_attention_interval": 4, "linear_conv_kernel_dim": 4, "norm_topk_prob": true, "num_experts_per_tok": 10,
        "decoder_sparse_step": 1, "partial_rotary_factor": 0.25, "max_position_embeddings": 32768}"#,
    build,
};

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let norm = Norm { offset: 1.0, ..Norm::rms(c.eps("rms_norm_eps")) };
    let shared_ffn = c.count("shared_expert_intermediate_size");
    let mut d = Decoder::read(b, c, norm, shared_ffn);
    c.must_be_off("attention_bias");
    if c.count("decoder_sparse_step") != 1 || !c.layers("mlp_only_layers", d.layers).is_empty() {
        let (value, allowed) = ("other than 1, or mlp_only_layers".into(), "1: every layer has experts".into());
        c.fault(ConfigFault::Value { field: "decoder_sparse_step".into(), value, allowed });
    }
    (d.attention.gated, d.attention.norms) = (true, HeadNorms::PerHead);
    let interval = c.count("full_attention_interval");
    let kinds = c.layer_types(d.layers);
    let is_full = |layer: u32| match &kinds {
        Some(kinds) => kinds.get(layer as usize).is_some_and(|kind| kind == "full_attention"),
        None => (layer + 1).is_multiple_of(interval),
    };
    let delta = DeltaRule::read(&d, c);
    let routing = Routing { normalise: c.flag_or("norm_topk_prob", true), ..Routing::SOFTMAX };
    let (chosen, ffn) = (c.count("num_experts_per_tok"), c.count("moe_intermediate_size"));
    let experts = Experts::new(b, c.count("num_experts"), chosen, ffn, routing);
    // The shared expert is one of one, by a gate of its own.
    let shared = Experts {
        experts: b.axis("shared_experts", 1),
        choices: b.axis("shared_choices", 1),
        ffn: b.axis("shared_ffn", shared_ffn),
        routing: Routing { score: Score::Sigmoid, normalise: false, ..Routing::SOFTMAX },
    };
    let parts = ["gate_proj", "up_proj", "down_proj"];
    d.model(|layer, x| {
        let y = layer.norm("input_layernorm", x);
        let y =
            if is_full(layer.number) { layer.attention("self_attn", y) } else { delta.layer(layer, "linear_attn", y) };
        let x = x + y;
        let y = layer.norm("post_attention_layernorm", x);
        let routed = experts.routed(layer, "mlp.gate", ("mlp.experts.{}", parts), y);
        x + (routed + shared.routed(layer, "mlp.shared_expert_gate", ("mlp.shared_expert", parts), y))
    })
}
