//! DeepSeek-V3: latent attention; behind the first layers experts in groups, chosen by sigmoid with a correction, beside shared ones.
//! Source: arXiv:2412.19437 §2.1; names as in the Hugging Face checkpoint. The head that predicts several tokens is not loaded.

use super::Family;
use super::blocks::{Decoder, LatentAttention};
use super::experts::Experts;
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::op::Norm;
use crate::routing::{Routing, Score};

/// The row of this family.
pub(super) const FAMILY: Family = Family {
    name: "deepseek_v3",
    model_types: &["deepseek_v3"],
    source: "arXiv:2412.19437",
    defaults: r#"{"max_position_embeddings": 4096}"#,
    build,
};

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let d = Decoder::read(b, c, Norm::rms(c.eps("rms_norm_eps")), c.count("intermediate_size"));
    let attention = LatentAttention::read(&d, c);
    c.must_be("scoring_func", "sigmoid");
    c.must_be("topk_method", "noaux_tc");
    let routing = Routing {
        score: Score::Sigmoid,
        groups: c.count_or("n_group", 8),
        groups_kept: c.count_or("topk_group", 4),
        group_best: 2,
        normalise: c.flag_or("norm_topk_prob", true),
        scale: c.positive_or("routed_scaling_factor", 2.5),
    };
    let ffn = c.count("moe_intermediate_size");
    let e = Experts::new(b, c.count("n_routed_experts"), c.count_or("num_experts_per_tok", 8), ffn, routing);
    let (dense, shared) = (c.count_from_zero("first_k_dense_replace", 3), c.count_from_zero("n_shared_experts", 1));
    let shared = (shared > 0).then(|| b.axis("shared_ffn", shared * ffn));
    d.model(|layer, x| {
        let x = x + attention.attend(layer, "self_attn", layer.norm("input_layernorm", x));
        let y = layer.norm("post_attention_layernorm", x);
        if layer.number < dense {
            return x + layer.gated_mlp("mlp", y);
        }
        let logits = layer.project(("mlp.gate", false), (&[e.experts], &[layer.d.hidden]), y);
        let correction = layer.weight("mlp.gate.e_score_correction_bias", &[e.experts]);
        let gates = logits.route(Some(correction), e.choices, e.routing);
        let routed = e.gated(layer, ("mlp.experts.{}", ["gate_proj", "up_proj", "down_proj"]), (gates, y));
        x + shared.map_or(routed, |ffn| routed + layer.gated_mlp_over(ffn, "mlp.shared_experts", y))
    })
}
