//! Cohere Command R7B (`cohere2`): both branches read one layer norm; layers with a window turn neighbouring elements, every fourth sees
//! all positions and turns none. Source: arXiv:2504.00698 §2; names as in the Hugging Face checkpoint.

use super::Family;
use super::blocks::Decoder;
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::op::Norm;
use crate::rope::Pairing;

/// The row of this family.
pub(super) const FAMILY: Family = Family {
    name: "cohere2",
    model_types: &["cohere2"],
    source: "arXiv:2504.00698",
    defaults: r#"{"layer_norm_eps": 1e-5, "logit_scale": 0.0625, "max_position_embeddings": 8192, "sliding_window": 4096,
        "sliding_window_pattern": 4, "tie_word_embeddings": true}"#,
    build,
};

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let mut d = Decoder::read(b, c, Norm::layer(c.eps("layer_norm_eps")), c.count("intermediate_size"));
    d.logits_scale = c.positive_or("logit_scale", 0.0625);
    d.attention.windowed(&c.windows(d.layers, |_| false));
    for (rope, how) in d.attention.ropes.iter_mut().zip(&d.attention.how) {
        *rope = rope.take().filter(|_| how.window.is_some()).map(|rope| rope.paired(Pairing::Neighbours));
    }
    d.model(|layer, x| {
        let y = layer.norm("input_layernorm", x);
        x + layer.attention("self_attn", y) + layer.gated_mlp("mlp", y)
    })
}
