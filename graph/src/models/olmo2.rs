//! OLMo 2: norms behind the branches, and over all queries and all keys of a row. Source: arXiv:2501.00656 §2; names as in the Hugging
//! Face checkpoint.

use super::Family;
use super::blocks::{Decoder, HeadNorms};
use crate::builder::Builder;
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::Model;
use crate::op::Norm;

/// The row of this family.
pub(super) const FAMILY: Family = Family {
    name: "olmo2",
    model_types: &["olmo2"],
    source: "arXiv:2501.00656",
    defaults: r#"{"rms_norm_eps": 1e-5}"#,
    build,
};

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let mut d = Decoder::read(b, c, Norm::rms(c.eps("rms_norm_eps")), c.count("intermediate_size"));
    d.attention.norms = HeadNorms::Whole;
    d.model(|layer, x| {
        let x = x + layer.norm("post_attention_layernorm", layer.attention("self_attn", x));
        x + layer.norm("post_feedforward_layernorm", layer.gated_mlp("mlp", x))
    })
}
