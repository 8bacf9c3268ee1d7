//! GPT-NeoX and Pythia: layer norms, branches beside each other, part of a head is turned, one tensor of query, key and value a head.
//! Source: arXiv:2204.06745 §2; names as in the Hugging Face checkpoint.

use super::Family;
use super::blocks::{Decoder, Names, Projections};
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::op::Norm;

/// The row of this family.
pub(super) const FAMILY: Family = Family {
    name: "gpt_neox",
    model_types: &["gpt_neox"],
    source: "arXiv:2204.06745",
    defaults: r#"{"layer_norm_eps": 1e-5, "hidden_act": "gelu", "attention_bias": true, "rotary_pct": 0.25,
        "use_parallel_residual": true}"#,
    build,
};

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let mut d = Decoder::read(b, c, Norm::layer(c.eps("layer_norm_eps")), c.count("intermediate_size"));
    (d.norm_bias, d.mlp_bias) = (true, true);
    d.attention.projections = Projections::PerHead("query_key_value");
    d.attention.out.0 = "dense";
    d.names = Names {
        embed: "gpt_neox.embed_in",
        positions: None,
        layers: "gpt_neox.layers",
        norm: "gpt_neox.final_layer_norm",
        head: "embed_out",
    };
    let parallel = c.flag_or("use_parallel_residual", true);
    d.model(|layer, x| {
        let y = layer.attention("attention", layer.norm("input_layernorm", x));
        let mlp =
            |x| layer.plain_mlp(("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"), layer.norm("post_attention_layernorm", x));
        if parallel {
            return mlp(x) + y + x;
        }
        let x = x + y;
        x + mlp(x)
    })
}
