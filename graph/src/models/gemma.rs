//! Gemma 2 and 3: norms before and behind every branch, scaled embeddings, windows on most layers, soft caps or norms of heads.
//! Names as in the Hugging Face checkpoints.

use super::Family;
use super::blocks::{Decoder, HeadNorms};
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::op::Norm;

/// Every second layer has a window; scores and logits are capped. Source: arXiv:2408.00118 §2.
pub(super) const GEMMA2: Family = Family {
    name: "gemma2",
    model_types: &["gemma2"],
    source: "arXiv:2408.00118",
    defaults: r#"{"head_dim": 256, "query_pre_attn_scalar": 256, "tie_word_embeddings": true, "sliding_window": 4096,
        "sliding_window_pattern": 2, "max_position_embeddings": 8192, "hidden_activation": "gelu_pytorch_tanh",
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}"#,
    build: |c| build(c, |_| ()),
};

/// Every sixth layer sees all positions, by a slower rotation; queries and keys are normalised per head. Source: arXiv:2503.19786 §2.
pub(super) const GEMMA3: Family = Family {
    name: "gemma3",
    model_types: &["gemma3_text"],
    source: "arXiv:2503.19786",
    defaults: r#"{"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "query_pre_attn_scalar": 256, "tie_word_embeddings": true, "sliding_window": 4096, "sliding_window_pattern": 6,
        "max_position_embeddings": 131072, "hidden_activation": "gelu_pytorch_tanh", "rope_theta": 1e6,
        "rope_local_base_freq": 1e4}"#,
    build: |c| {
        build(c, |d| {
            d.attention.norms = HeadNorms::PerHead;
            let (_, _, head_dim) = c.heads();
            let ropes = [c.rope_of("full_attention", head_dim), c.rope_of("sliding_attention", head_dim)];
            for (rope, how) in d.attention.ropes.iter_mut().zip(&d.attention.how) {
                *rope = Some(ropes[usize::from(how.window.is_some())].clone());
            }
        })
    },
};

fn build(c: &ConfigReader<'_>, differs: impl Fn(&mut Decoder<'_>)) -> Result<Model, Vec<GraphError>> {
    c.must_be_off("use_bidirectional_attention");
    let b = &Builder::new();
    // The checkpoint stores the scale of a norm less one.
    let norm = Norm { offset: 1.0, ..Norm::rms(c.eps("rms_norm_eps")) };
    let mut d = Decoder::read(b, c, norm, c.count("intermediate_size"));
    d.activation = c.activation("hidden_activation");
    // The reference rounds the scale to the element type that the model was trained in.
    d.embedding_scale = c.rounded((c.count("hidden_size") as f32).sqrt());
    d.logits_cap = c.cap("final_logit_softcapping");
    d.attention.scaled(1.0 / c.positive_or("query_pre_attn_scalar", 256.0).sqrt());
    d.attention.windowed(&c.windows(d.layers, |_| false));
    d.attention.how.iter_mut().for_each(|how| how.softcap = c.cap("attn_logit_softcapping"));
    differs(&mut d);
    d.model(|layer, x| {
        let y = layer.attention("self_attn", layer.norm("input_layernorm", x));
        let x = x + layer.norm("post_attention_layernorm", y);
        let y = layer.gated_mlp("mlp", layer.norm("pre_feedforward_layernorm", x));
        x + layer.norm("post_feedforward_layernorm", y)
    })
}
