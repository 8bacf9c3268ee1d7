//! Qwen3 with experts: Qwen3's attention, and experts in the place of the MLP in the layers that the configuration names.
//! Source: arXiv:2505.09388 §2; names as in the Hugging Face checkpoint.

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
    Family { name: "qwen3_moe", model_types: &["qwen3_moe"], source: "arXiv:2505.09388", build };

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let d = Decoder::read(b, c, false);
    let bias = c.flag_or("attention_bias", false);
    let routing = Routing { normalise: c.flag_or("norm_topk_prob", false), ..Routing::SOFTMAX };
    let (experts, choices) = (c.count_of(["num_experts", "num_local_experts"]), c.count_or("num_experts_per_tok", 8));
    let e = Experts::new(b, experts, choices, c.count("moe_intermediate_size"), routing);
    let (dense, step) = (c.layers("mlp_only_layers", d.layers), c.count_or("decoder_sparse_step", 1));
    let (queries, keys) = ([d.kv_heads, d.group, d.head_dim], [d.kv_heads, d.head_dim]);
    d.numbered(b, |layer, w, x| {
        let y = x.rms_norm(w("input_layernorm.weight", &[d.hidden]), d.eps);
        let into = |name, axes| d.project(w, (name, bias), (axes, &[d.hidden]), y);
        let qkv =
            [into("self_attn.q_proj", &queries), into("self_attn.k_proj", &keys), into("self_attn.v_proj", &keys)];
        let y = d.attend(qkv, |which, head| {
            head.rms_norm(w(&format!("self_attn.{which}_norm.weight"), &[d.head_dim]), d.eps)
        });
        let x = x + d.project(w, ("self_attn.o_proj", bias), (&[d.hidden], &queries), y);
        let y = x.rms_norm(w("post_attention_layernorm.weight", &[d.hidden]), d.eps);
        if dense.contains(&layer) || !(layer + 1).is_multiple_of(step) {
            return x + d.gated_mlp(w, false, y);
        }
        let gates = y.contract(w("mlp.gate.weight", &[e.experts, d.hidden])).route(None, e.choices, e.routing);
        let names = ("mlp.experts.{}", ["gate_proj", "up_proj", "down_proj"]);
        x + e.gated(w, names, (d.hidden, d.activation), (gates, y))
    })
}
