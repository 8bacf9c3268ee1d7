//! Llama and those that differ from it by a setting: Mistral, Qwen2, Qwen3, Granite, Phi-3. Names as in the Hugging Face checkpoints.

use super::Family;
use super::blocks::{Decoder, HeadNorms, Projections};
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::op::Norm;

/// Source: arXiv:2302.13971 §2, arXiv:2407.21783 §3.2.
pub(super) const LLAMA: Family = Family {
    name: "llama",
    model_types: &["llama"],
    source: "arXiv:2302.13971, arXiv:2407.21783",
    defaults: "{}",
    build: |c| build(c, |_| ()),
};

/// A window over the positions of every layer. Source: arXiv:2310.06825 §2.
pub(super) const MISTRAL: Family = Family {
    name: "mistral",
    model_types: &["mistral"],
    source: "arXiv:2310.06825",
    defaults: r#"{"sliding_window": 4096, "num_key_value_heads": 8, "max_position_embeddings": 131072}"#,
    build: |c| build(c, |d| d.attention.windowed(&c.windows(d.layers, |_| true))),
};

/// Queries, keys and values have a bias. Source: arXiv:2407.10671 §2.2.
pub(super) const QWEN2: Family = Family {
    name: "qwen2",
    model_types: &["qwen2"],
    source: "arXiv:2407.10671",
    defaults: r#"{"max_window_layers": 28, "sliding_window": 4096, "max_position_embeddings": 32768}"#,
    build: |c| {
        build(c, |d| {
            d.attention.qkv_bias = true;
            late_windows(c, d);
        })
    },
};

/// Queries and keys are normalised per head before the rotation. Source: arXiv:2505.09388 §2.
pub(super) const QWEN3: Family = Family {
    name: "qwen3",
    model_types: &["qwen3"],
    source: "arXiv:2505.09388",
    defaults: r#"{"head_dim": 128, "max_window_layers": 28, "sliding_window": 4096, "max_position_embeddings": 32768}"#,
    build: |c| {
        build(c, |d| {
            d.attention.norms = HeadNorms::PerHead;
            late_windows(c, d);
        })
    },
};

/// Multipliers of embeddings, scores, branches and logits. Source: the checkpoint's convention (arXiv:2408.13359 §3 has them as μP).
pub(super) const GRANITE: Family = Family {
    name: "granite",
    model_types: &["granite"],
    source: "arXiv:2408.13359",
    defaults: "{}",
    build: |c| {
        build(c, |d| {
            d.embedding_scale = c.positive_or("embedding_multiplier", 1.0);
            d.logits_scale = 1.0 / c.positive_or("logits_scaling", 1.0);
            d.attention.scaled(c.positive_or("attention_multiplier", 1.0));
        })
    },
};

/// Projections that share an input are one tensor; part of a head is turned. Source: arXiv:2404.14219 §2.
pub(super) const PHI3: Family = Family {
    name: "phi3",
    model_types: &["phi3"],
    source: "arXiv:2404.14219",
    defaults: r#"{"rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "original_max_position_embeddings": 4096}"#,
    build: |c| {
        build(c, |d| {
            d.attention.projections = Projections::Joined("qkv_proj");
            d.gate_up = Some("gate_up_proj");
            d.attention.windowed(&c.windows(d.layers, |_| true));
        })
    },
};

/// Layers from `max_window_layers` on have a window where `use_sliding_window` says so.
fn late_windows(c: &ConfigReader<'_>, d: &mut Decoder<'_>) {
    if c.flag_or("use_sliding_window", false) {
        let first = c.count_or("max_window_layers", 28);
        d.attention.windowed(&c.windows(d.layers, |layer| layer >= first));
    }
}

fn build(c: &ConfigReader<'_>, differs: impl Fn(&mut Decoder<'_>)) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let mut d = Decoder::read(b, c, Norm::rms(c.eps("rms_norm_eps")), c.count("intermediate_size"));
    differs(&mut d);
    let branch = c.positive_or("residual_multiplier", 1.0);
    d.model(|layer, x| {
        let x = x + layer.attention("self_attn", layer.norm("input_layernorm", x)).scale(branch);
        x + layer.gated_mlp("mlp", layer.norm("post_attention_layernorm", x)).scale(branch)
    })
}
