//! Qwen3 with experts: Qwen3's attention, and experts in the place of the MLP in the layers that the configuration names.
//! Source: arXiv:2505.09388 §2; names as in the Hugging Face checkpoint.

use super::Family;
use super::blocks::{Decoder, HeadNorms};
use super::experts::Experts;
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::op::Norm;
use crate::routing::Routing;

/// The row of this family.
pub(super) const FAMILY: Family = Family {
    name: "qwen3_moe",
    model_types: &["qwen3_moe"],
    source: "arXiv:2505.09388",
    defaults: r#"{"max_position_embeddings": 32768, "num_key_value_heads": 4}"#,
    build,
};

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let mut d = Decoder::read(b, c, Norm::rms(c.eps("rms_norm_eps")), c.count("intermediate_size"));
    d.attention.norms = HeadNorms::PerHead;
    if c.flag_or("use_sliding_window", false) {
        d.attention.windowed(&c.windows(d.layers, |_| true));
    }
    let routing = Routing { normalise: c.flag_or("norm_topk_prob", false), ..Routing::SOFTMAX };
    let (experts, choices) = (c.count_of(["num_experts", "num_local_experts"]), c.count_or("num_experts_per_tok", 8));
    let e = Experts::new(b, experts, choices, c.count("moe_intermediate_size"), routing);
    let (dense, step) = (c.layers("mlp_only_layers", d.layers), c.count_or("decoder_sparse_step", 1));
    d.model(|layer, x| {
        let x = x + layer.attention("self_attn", layer.norm("input_layernorm", x));
        let y = layer.norm("post_attention_layernorm", x);
        if dense.contains(&layer.number) || !(layer.number + 1).is_multiple_of(step) {
            return x + layer.gated_mlp("mlp", y);
        }
        x + e.routed(layer, "mlp.gate", ("mlp.experts.{}", ["gate_proj", "up_proj", "down_proj"]), y)
    })
}
