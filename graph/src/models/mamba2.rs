//! Mamba-2: no attention; each layer scans over a short convolution of what it projects, and gates the result. Source: arXiv:2405.21060
//! §7; names as in the Hugging Face checkpoint.

use super::Family;
use crate::axis::Axis;
use crate::builder::{Builder, Value};
use crate::config::ConfigReader;
use crate::error::{ConfigFault, GraphError};
use crate::model::{Model, Section};
use crate::op::{Norm, Unary};
use crate::stored::Stored;

/// The row of this family.
pub(super) const FAMILY: Family = Family {
    name: "mamba2",
    model_types: &["mamba2"],
    source: "arXiv:2405.21060",
    defaults: r#"{"n_groups": 8, "expand": 2, "conv_kernel": 4, "layer_norm_epsilon": 1e-5}"#,
    build,
};

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let (heads, groups, dim) = (c.count("num_heads"), c.count("n_groups"), c.count("head_dim"));
    let (hidden, inner) = (c.count("hidden_size"), c.count("expand").saturating_mul(c.count("hidden_size")));
    if u64::from(heads) * u64::from(dim) != u64::from(inner) || !heads.is_multiple_of(groups) {
        let allowed =
            format!("a multiple of n_groups {groups} with num_heads · head_dim {dim} = expand · hidden_size {inner}");
        c.fault(ConfigFault::Value { field: "num_heads".into(), value: heads.to_string(), allowed });
    }
    let (vocab, hidden) = (b.axis("vocab", c.count("vocab_size")), b.axis("hidden", hidden));
    let (group, per_group) = (b.axis("scan_heads", groups), b.axis("values_per_head", (heads / groups).max(1)));
    let (dim, state, taps) =
        (b.axis("head_dim", dim), b.axis("state", c.count("state_size")), b.axis("taps", c.count("conv_kernel")));
    let (values, keys, steps) = ([group, per_group, dim], [group, state], [group, per_group]);
    let (bias, conv_bias) = (c.flag_or("use_bias", false), c.flag_or("use_conv_bias", true));
    let (eps, activation, limits) =
        (c.eps("layer_norm_epsilon"), c.activation("hidden_act"), c.range_or("time_step_limit", (0.0, None)));
    let embed = b.param("backbone.embeddings.weight", &[vocab, hidden]);
    let mut x = b.tokens().gather(embed);
    for layer in 0..c.count("num_hidden_layers") {
        b.section(Section::Layer(layer));
        let name = |name: &str| format!("backbone.layers.{layer}.{name}");
        let y = x.rms_norm(b.param(name("norm.weight"), &[hidden]), eps);
        // Of the projection: gate, values, keys, queries, time steps. The middle three are convolved.
        let parts: [&[Axis]; 5] = [&values, &values, &keys, &keys, &steps];
        let into = |part: usize| {
            let stored = Stored::part(&parts, part);
            let axes = [parts[part], &[hidden]].concat();
            let w = b.part(name("mixer.in_proj.weight"), &axes, vec![stored.clone(), Stored::Axis(hidden)]);
            let y = y.contract(w);
            if bias { y.bias(b.part(name("mixer.in_proj.bias"), parts[part], vec![stored])) } else { y }
        };
        let convolved = |part: usize| -> Value<'_> {
            let stored = Stored::part(&parts[1..4], part - 1);
            let axes = [parts[part], &[taps]].concat();
            let w = b.part(name("mixer.conv1d.weight"), &axes, vec![stored.clone(), Stored::Axis(taps)]);
            let y = into(part).short_conv(w);
            let bias = || b.part(name("mixer.conv1d.bias"), parts[part], vec![stored.clone()]);
            if conv_bias { y.bias(bias()).map(activation) } else { y.map(activation) }
        };
        let dt = into(4).bias(b.param(name("mixer.dt_bias"), &steps));
        let [a_log, skip] = ["A_log", "D"].map(|weight| b.param(name(&format!("mixer.{weight}")), &steps));
        let y = convolved(1).selective_scan([convolved(3), convolved(2), dt], [a_log, skip], limits);
        let norm = Norm { run: Some(inner / groups.max(1)), ..Norm::rms(eps) };
        let y = (into(0).map(Unary::Silu) * y).norm(b.param(name("mixer.norm.weight"), &values), norm);
        let out = y.contract(b.param(name("mixer.out_proj.weight"), &[&[hidden], &values[..]].concat()));
        x = x + if bias { out.bias(b.param(name("mixer.out_proj.bias"), &[hidden])) } else { out };
    }
    b.section(Section::Head);
    let x = x.rms_norm(b.param("backbone.norm_f.weight", &[hidden]), eps).sampled_rows();
    let untied = || b.param("lm_head.weight", &[vocab, hidden]);
    b.finish(x.contract(if c.flag_or("tie_word_embeddings", false) { embed } else { untied() }))
}
