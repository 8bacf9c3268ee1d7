//! MiniCPM3: Llama's layers with latent attention, and multipliers of embeddings, branches and logits.
//! Source: arXiv:2404.06395 §3 for the multipliers, arXiv:2405.04434 §2.1 for the attention; names as in the Hugging Face checkpoint.

use super::Family;
use super::blocks::{Decoder, LatentAttention};
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::op::Norm;

/// The row of this family.
pub(super) const FAMILY: Family = Family {
    name: "minicpm3",
    model_types: &["minicpm3"],
    source: "arXiv:2404.06395",
    defaults: r#"{"rms_norm_eps": 1e-5, "max_position_embeddings": 32768, "tie_word_embeddings": true, "rope_interleave": false,
        "kv_lora_rank": 256, "q_lora_rank": 768, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32,
        "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256}"#,
    build,
};

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let mut d = Decoder::read(b, c, Norm::rms(c.eps("rms_norm_eps")), c.count("intermediate_size"));
    let attention = LatentAttention::read(&d, c);
    // Null means that nothing is scaled.
    let (root, hidden) = ((d.layers as f32).sqrt(), c.count("hidden_size") as f32);
    d.embedding_scale = c.positive_or("scale_emb", 1.0);
    d.logits_scale = c.positive_or("dim_model_base", hidden) / hidden;
    let branch = c.positive_or("scale_depth", root) / root;
    d.model(|layer, x| {
        let x = x + attention.attend(layer, "self_attn", layer.norm("input_layernorm", x)).scale(branch);
        x + layer.gated_mlp("mlp", layer.norm("post_attention_layernorm", x)).scale(branch)
    })
}
