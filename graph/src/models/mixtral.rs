//! Mixtral: Llama with experts in the place of every MLP. Source: arXiv:2401.04088 §2; names as in the Hugging Face checkpoint.

use super::Family;
use super::blocks::Decoder;
use super::experts::Experts;
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::op::Norm;
use crate::routing::Routing;

/// The row of this family.
pub(super) const FAMILY: Family = Family {
    name: "mixtral",
    model_types: &["mixtral"],
    source: "arXiv:2401.04088",
    defaults: r#"{"rms_norm_eps": 1e-5, "max_position_embeddings": 131072, "num_key_value_heads": 8}"#,
    build,
};

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let ffn = c.count("intermediate_size");
    let mut d = Decoder::read(b, c, Norm::rms(c.eps("rms_norm_eps")), ffn);
    d.attention.windowed(&c.windows(d.layers, |_| true));
    let choices = c.count_or("num_experts_per_tok", 2);
    let e = Experts::new(b, c.count("num_local_experts"), choices, ffn, Routing::SOFTMAX);
    d.model(|layer, x| {
        let x = x + layer.attention("self_attn", layer.norm("input_layernorm", x));
        let names = ("block_sparse_moe.experts.{}", ["w1", "w3", "w2"]);
        x + e.routed(layer, "block_sparse_moe.gate", names, layer.norm("post_attention_layernorm", x))
    })
}
