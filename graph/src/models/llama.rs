//! Llama, dense decoder. Source: arXiv:2302.13971 §2, arXiv:2407.21783 §3.2; names as in the Hugging Face checkpoint.

use super::Family;
use super::blocks::Decoder;
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;

/// The row of this family.
pub(super) const FAMILY: Family =
    Family { name: "llama", model_types: &["llama"], source: "arXiv:2302.13971, arXiv:2407.21783", build };

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let d = Decoder::read(b, c, false);
    let (attention_bias, mlp_bias) = (c.flag_or("attention_bias", false), c.flag_or("mlp_bias", false));
    let queries = [d.kv_heads, d.group, d.head_dim];
    let keys = [d.kv_heads, d.head_dim];
    d.model(b, |w, x| {
        let y = x.rms_norm(w("input_layernorm.weight", &[d.hidden]), d.eps);
        let q = d.project(w, ("self_attn.q_proj", attention_bias), (&queries, &[d.hidden]), y);
        let k = d.project(w, ("self_attn.k_proj", attention_bias), (&keys, &[d.hidden]), y);
        let v = d.project(w, ("self_attn.v_proj", attention_bias), (&keys, &[d.hidden]), y);
        let y = d.attend([q, k, v], |_, head| head);
        let x = x + d.project(w, ("self_attn.o_proj", attention_bias), (&[d.hidden], &queries), y);
        let y = x.rms_norm(w("post_attention_layernorm.weight", &[d.hidden]), d.eps);
        x + d.gated_mlp(w, mlp_bias, y)
    })
}
