//! GPT-2: learned positions, layer norms, projections stored input first. Source: Radford et al. 2019, §2.3; names as in the Hugging
//! Face checkpoint.

use super::Family;
use super::blocks::{Decoder, Names, Projections};
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::op::Norm;

/// The row of this family.
pub(super) const FAMILY: Family = Family {
    name: "gpt2",
    model_types: &["gpt2"],
    source: "Radford et al. 2019",
    defaults: r#"{"layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "tie_word_embeddings": true,
        "n_positions": 1024, "scale_attn_weights": true}"#,
    build,
};

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let ffn = c.count_or("intermediate_size", c.count("hidden_size").saturating_mul(4));
    let mut d = Decoder::read(b, c, Norm::layer(c.eps("layer_norm_epsilon")), ffn);
    (d.norm_bias, d.mlp_bias, d.transposed) = (true, true, true);
    d.activation = c.activation("activation_function");
    d.attention.projections = Projections::Joined("c_attn");
    (d.attention.qkv_bias, d.attention.out) = (true, ("c_proj", true));
    d.attention.ropes.fill(None);
    let (scaled, by_layer) =
        (c.flag_or("scale_attn_weights", true), c.flag_or("scale_attn_by_inverse_layer_idx", false));
    for (number, how) in d.attention.how.iter_mut().enumerate() {
        how.scale = if scaled { how.scale } else { 1.0 } / if by_layer { number as f32 + 1.0 } else { 1.0 };
    }
    d.names = Names {
        embed: "transformer.wte",
        positions: Some("transformer.wpe"),
        layers: "transformer.h",
        norm: "transformer.ln_f",
        head: "lm_head",
    };
    d.model(|layer, x| {
        let x = x + layer.attention("attn", layer.norm("ln_1", x));
        x + layer.plain_mlp(("mlp.c_fc", "mlp.c_proj"), layer.norm("ln_2", x))
    })
}
