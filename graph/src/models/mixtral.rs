//! Mixtral: Llama with experts in the place of every MLP. Source: arXiv:2401.04088 §2; names as in the Hugging Face checkpoint.

use super::Family;
use super::blocks::Decoder;
use super::experts::Experts;
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::routing::Routing;

/// The row of this family.
pub(super) const FAMILY: Family =
    Family { name: "mixtral", model_types: &["mixtral"], source: "arXiv:2401.04088", build };

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let d = Decoder::read(b, c, false);
    let choices = c.count_or("num_experts_per_tok", 2);
    let e = Experts::new(b, c.count("num_local_experts"), choices, c.count("intermediate_size"), Routing::SOFTMAX);
    let (queries, keys) = ([d.kv_heads, d.group, d.head_dim], [d.kv_heads, d.head_dim]);
    d.model(b, |w, x| {
        let y = x.rms_norm(w("input_layernorm.weight", &[d.hidden]), d.eps);
        let into = |name, axes| d.project(w, (name, false), (axes, &[d.hidden]), y);
        let qkv =
            [into("self_attn.q_proj", &queries), into("self_attn.k_proj", &keys), into("self_attn.v_proj", &keys)];
        let y = d.attend(qkv, |_, head| head);
        let x = x + d.project(w, ("self_attn.o_proj", false), (&[d.hidden], &queries), y);
        let y = x.rms_norm(w("post_attention_layernorm.weight", &[d.hidden]), d.eps);
        let logits = y.contract(w("block_sparse_moe.gate.weight", &[e.experts, d.hidden]));
        let gates = logits.route(None, e.choices, e.routing);
        x + e.gated(w, ("block_sparse_moe.experts.{}", ["w1", "w3", "w2"]), (d.hidden, d.activation), (gates, y))
    })
}
