//! Feed-forward blocks: gated, with gate and up apart or as one tensor, and plain.

use super::decoder::Layer;
use crate::axis::Axis;
use crate::builder::Value;
use crate::stored::Stored;

impl<'b> Layer<'_, 'b> {
    /// down(f(gate(x)) · up(x)) (Shazeer 2020, arXiv:2002.05202, eq. 6).
    pub fn gated_mlp(&self, module: &str, x: Value<'b>) -> Value<'b> {
        self.gated_mlp_over(self.d.ffn, module, x)
    }

    /// The same with another inner axis.
    pub fn gated_mlp_over(&self, ffn: Axis, module: &str, x: Value<'b>) -> Value<'b> {
        let (d, hidden) = (self.d, [self.d.hidden]);
        let name = |part: &str| format!("{module}.{part}");
        let inner = |which: usize| match d.gate_up {
            None => self.project((&name(["gate_proj", "up_proj"][which]), d.mlp_bias), (&[ffn], &hidden), x),
            Some(joined) => {
                let part = [Stored::part(&[&[ffn], &[ffn]], which)];
                self.project_part((&name(joined), d.mlp_bias), (&part, &hidden), x)
            }
        };
        let y = inner(0).map(d.activation) * inner(1);
        self.project((&name("down_proj"), d.mlp_bias), (&hidden, &[ffn]), y)
    }

    /// down(f(up(x))).
    pub fn plain_mlp(&self, (up, down): (&str, &str), x: Value<'b>) -> Value<'b> {
        let (d, hidden) = (self.d, [self.d.hidden]);
        let y = self.project((up, d.mlp_bias), (&[d.ffn], &hidden), x).map(d.activation);
        self.project((down, d.mlp_bias), (&hidden, &[d.ffn]), y)
    }
}
