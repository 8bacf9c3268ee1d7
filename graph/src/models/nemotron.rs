//! Decoders whose MLPs are plain, with a squared ReLU between up and down: Nemotron, with layer norms of 1 + w, and Arcee, which is Llama
//! otherwise. Names as in the Hugging Face checkpoints.

use super::Family;
use super::blocks::Decoder;
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::op::Norm;

/// Source: arXiv:2402.16819 §2.
pub(super) const NEMOTRON: Family = Family {
    name: "nemotron",
    model_types: &["nemotron"],
    source: "arXiv:2402.16819",
    defaults: r#"{"hidden_act": "relu2", "norm_eps": 1e-5, "partial_rotary_factor": 0.5, "max_position_embeddings": 4096}"#,
    // Norms are stored less one.
    build: |c| build(c, Norm { offset: 1.0, ..Norm::layer(c.eps("norm_eps")) }, true),
};

/// Source: the checkpoint's convention (AFM-4.5B).
pub(super) const ARCEE: Family = Family {
    name: "arcee",
    model_types: &["arcee"],
    source: "transformers, AFM-4.5B",
    defaults: r#"{"hidden_act": "relu2", "rms_norm_eps": 1e-5, "max_position_embeddings": 4096}"#,
    build: |c| build(c, Norm::rms(c.eps("rms_norm_eps")), false),
};

fn build(c: &ConfigReader<'_>, norm: Norm, norm_bias: bool) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let mut d = Decoder::read(b, c, norm, c.count("intermediate_size"));
    d.norm_bias = norm_bias;
    d.model(|layer, x| {
        let x = x + layer.attention("self_attn", layer.norm("input_layernorm", x));
        x + layer.plain_mlp(("mlp.up_proj", "mlp.down_proj"), layer.norm("post_attention_layernorm", x))
    })
}
