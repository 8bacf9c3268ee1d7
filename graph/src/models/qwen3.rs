//! Qwen3, dense decoder: queries and keys are normalised per head before the rotation.
//! Source: arXiv:2505.09388 §2; names as in the Hugging Face checkpoint.

use super::Family;
use super::blocks::Decoder;
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;

/// The row of this family.
pub(super) const FAMILY: Family = Family { name: "qwen3", model_types: &["qwen3"], source: "arXiv:2505.09388", build };

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let d = Decoder::read(b, c, false);
    let bias = c.flag_or("attention_bias", false);
    let (queries, keys) = ([d.kv_heads, d.group, d.head_dim], [d.kv_heads, d.head_dim]);
    d.model(b, |w, x| {
        let y = x.rms_norm(w("input_layernorm.weight", &[d.hidden]), d.eps);
        let into = |name, axes| d.project(w, (name, bias), (axes, &[d.hidden]), y);
        let qkv =
            [into("self_attn.q_proj", &queries), into("self_attn.k_proj", &keys), into("self_attn.v_proj", &keys)];
        let y = d.attend(qkv, |which, head| {
            head.rms_norm(w(&format!("self_attn.{which}_norm.weight"), &[d.head_dim]), d.eps)
        });
        let x = x + d.project(w, ("self_attn.o_proj", bias), (&[d.hidden], &queries), y);
        let y = x.rms_norm(w("post_attention_layernorm.weight", &[d.hidden]), d.eps);
        x + d.gated_mlp(w, false, y)
    })
}
