//! A layer of the gated delta rule: queries, keys and values convolved, the rule, its result normalised and gated
//! (arXiv:2412.06464, §3).

use crate::axis::Axis;
use crate::builder::{Builder, Param, Value};
use crate::config::ConfigReader;
use crate::op::Unary;
use crate::stored::Stored;

/// A weight of a layer by its name in it, its axes and the dimensions it is stored in.
pub(crate) type Weights<'w, 'b> = &'w dyn Fn(&str, &[Axis], Vec<Stored>) -> Param<'b>;

/// All of each axis.
pub(crate) fn plain(axes: &[Axis]) -> Vec<Stored> {
    axes.iter().map(|&axis| Stored::Axis(axis)).collect()
}

/// The axes and constants of its layers.
pub(crate) struct DeltaRule {
    hidden: Axis,
    /// Heads of keys, heads of values of each, elements of a key, elements of a value.
    scan: [Axis; 4],
    taps: Axis,
    eps: f32,
}

impl DeltaRule {
    /// Declares the axes that `c` gives the lengths of.
    pub(crate) fn read(b: &Builder, c: &ConfigReader<'_>, hidden: Axis, eps: f32) -> Self {
        let (keys, values) = (c.count("linear_num_key_heads"), c.count("linear_num_value_heads"));
        let scan = [
            b.axis("scan_heads", keys),
            b.axis("values_per_head", (values / keys).max(1)),
            b.axis("key", c.count("linear_key_head_dim")),
            b.axis("value", c.count("linear_value_head_dim")),
        ];
        Self { hidden, scan, taps: b.axis("taps", c.count("linear_conv_kernel_dim")), eps }
    }

    /// The gated delta rule over convolved queries, keys and values, its result normalised and gated.
    pub(crate) fn layer<'b>(
        &self,
        w: Weights<'_, 'b>,
        bare: &dyn Fn(&str, &[Axis]) -> Param<'b>,
        x: Value<'b>,
    ) -> Value<'b> {
        let [heads, group, key, value] = self.scan;
        let into = |name: &str, parts: &[&[Axis]], part: usize| {
            let stored = vec![Stored::Axis(heads), Stored::part(parts, part), Stored::Axis(self.hidden)];
            let axes = [&[heads], parts[part], &[self.hidden]].concat();
            x.contract(w(&format!("linear_attn.{name}"), &axes, stored))
        };
        let projected = |part| into("in_proj_qkvz", &[&[key], &[key], &[group, value], &[group, value]], part);
        let convolved = |part: usize| {
            let parts: [&[Axis]; 3] = [&[heads, key], &[heads, key], &[heads, group, value]];
            let stored = vec![Stored::part(&parts, part), Stored::Axis(self.taps)];
            let filter = w("linear_attn.conv1d", &[parts[part], &[self.taps]].concat(), stored);
            projected(part).short_conv(filter).map(Unary::Silu)
        };
        let rates = |part| into("in_proj_ba", &[&[group], &[group]], part);
        let dt = rates(1).bias(bare("dt_bias", &[heads, group]));
        let y = convolved(2).delta_scan([convolved(0), convolved(1), dt, rates(0)], bare("A_log", &[heads, group]));
        let norm = w("linear_attn.norm", &[value], plain(&[value]));
        let y = projected(3).map(Unary::Silu) * y.rms_norm(norm, self.eps);
        let out = [self.hidden, heads, group, value];
        y.contract(w("linear_attn.out_proj", &out, plain(&out)))
    }
}
