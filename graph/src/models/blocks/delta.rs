//! A layer of the gated delta rule: queries, keys and values convolved, the rule, its result normalised and gated
//! (arXiv:2412.06464, §3).

use super::decoder::{Decoder, Layer};
use crate::axis::Axis;
use crate::builder::Value;
use crate::config::ConfigReader;
use crate::op::Unary;
use crate::stored::Stored;

/// The axes of its layers.
pub struct DeltaRule {
    /// Heads of keys, heads of values of each, elements of a key, elements of a value.
    scan: [Axis; 4],
    taps: Axis,
}

impl DeltaRule {
    /// Reads the fields of Qwen3-Next's configuration.
    pub fn read(d: &Decoder<'_>, c: &ConfigReader<'_>) -> Self {
        let (keys, values) = (c.count("linear_num_key_heads"), c.count("linear_num_value_heads"));
        let scan = [
            d.b.axis("scan_heads", keys),
            d.b.axis("values_per_head", (values / keys).max(1)),
            d.b.axis("key", c.count("linear_key_head_dim")),
            d.b.axis("value", c.count("linear_value_head_dim")),
        ];
        Self { scan, taps: d.b.axis("taps", c.count("linear_conv_kernel_dim")) }
    }

    /// The gated delta rule over convolved queries, keys and values by the module of this name, its result normalised and gated.
    pub fn layer<'b>(&self, layer: &Layer<'_, 'b>, module: &str, x: Value<'b>) -> Value<'b> {
        let ([heads, group, key, value], hidden) = (self.scan, [layer.d.hidden]);
        let name = |part: &str| format!("{module}.{part}");
        let into = |part: &str, parts: &[&[Axis]], which: usize| {
            let new = [Stored::Axis(heads), Stored::part(parts, which)];
            layer.project_part((&name(part), false), (&new, &hidden), x)
        };
        let projected = |which| into("in_proj_qkvz", &[&[key], &[key], &[group, value], &[group, value]], which);
        let convolved = |which: usize| {
            let parts: [&[Axis]; 3] = [&[heads, key], &[heads, key], &[heads, group, value]];
            let stored = vec![Stored::part(&parts, which), Stored::Axis(self.taps)];
            let filter = layer.name(&name("conv1d.weight"));
            let filter = layer.d.b.part(filter, &[parts[which], &[self.taps]].concat(), stored);
            projected(which).short_conv(filter).map(Unary::Silu)
        };
        let rates = |which| into("in_proj_ba", &[&[group], &[group]], which);
        let dt = rates(1).bias(layer.weight(&name("dt_bias"), &[heads, group]));
        let a_log = layer.weight(&name("A_log"), &[heads, group]);
        let y = convolved(2).delta_scan([convolved(0), convolved(1), dt, rates(0)], a_log);
        // This norm is stored whole.
        let norm = layer.weight(&name("norm.weight"), &[value]);
        let y = projected(3).map(Unary::Silu) * y.rms_norm(norm, layer.d.norm.eps);
        layer.project((&name("out_proj"), false), (&hidden, &[heads, group, value]), y)
    }
}
