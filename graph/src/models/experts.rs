//! Experts in the place of an MLP: a router, gated experts of which a row chooses some, and their weighted sum.

use super::blocks::Layer;
use crate::axis::Axis;
use crate::builder::{Builder, Value};
use crate::routing::Routing;

/// The axes and constants of the experts of a model.
pub(crate) struct Experts {
    pub(crate) experts: Axis,
    pub(crate) choices: Axis,
    pub(crate) ffn: Axis,
    pub(crate) routing: Routing,
}

/// Where the weights of an expert are, `{}` being its number, and what they are called: gate, up, down.
pub(crate) type ExpertNames<'a> = (&'a str, [&'a str; 3]);

impl Experts {
    /// Declares the axes: so many experts, so many of them a row, so many inner elements.
    pub(crate) fn new(b: &Builder, experts: u32, choices: u32, ffn: u32, routing: Routing) -> Self {
        Self {
            experts: b.axis("experts", experts),
            choices: b.axis("choices", choices),
            ffn: b.axis("expert_ffn", ffn),
            routing,
        }
    }

    /// The experts that the projection `router` chooses for each row.
    pub(crate) fn routed<'b>(
        &self,
        layer: &Layer<'_, 'b>,
        router: &str,
        names: ExpertNames<'_>,
        x: Value<'b>,
    ) -> Value<'b> {
        let logits = layer.project((router, false), (&[self.experts], &[layer.d.hidden]), x);
        self.gated(layer, names, (logits.route(None, self.choices, self.routing), x))
    }

    /// Σ gate · down(f(gate_proj(x)) · up(x)) over the experts that a row chooses (arXiv:2401.04088, §2.1).
    pub(crate) fn gated<'b>(
        &self,
        layer: &Layer<'_, 'b>,
        (path, [gate, up, down]): ExpertNames<'_>,
        (gates, x): (Value<'b>, Value<'b>),
    ) -> Value<'b> {
        let (hidden, activation) = (layer.d.hidden, layer.d.activation);
        let weight = |name: &str, axes: &[Axis]| layer.weight(&format!("{path}.{name}.weight"), axes);
        let into = |name| x.experts(gates, weight(name, &[self.experts, self.ffn, hidden]));
        let y = into(gate).map(activation) * into(up);
        y.combine(gates, weight(down, &[self.experts, hidden, self.ffn]))
    }
}
