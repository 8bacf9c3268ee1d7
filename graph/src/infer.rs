//! The axes that an op gives, from the axes of what it reads.

use crate::axis::{Axis, ParamId, ValueId};
use crate::error::GraphError;
use crate::model::Draft;
use crate::op::{Op, Recurrence, Unary};
use crate::routing::Routing;

/// The rows axis: always the first.
pub(crate) const ROWS: Axis = Axis(0);

/// Axes of the result of `op`, which is or becomes node `node` of `draft`.
///
/// # Errors
/// The first operand that does not exist or does not fit.
pub(crate) fn infer(draft: &Draft, node: usize, op: &Op) -> Result<Vec<Axis>, GraphError> {
    let at = At { draft, node, op };
    match *op {
        Op::Tokens => Ok(vec![ROWS]),
        Op::Gather { table, ids } => {
            let (ids, table) = (at.value(ids)?, at.param(table)?);
            at.wants(ids == [ROWS], "ids", "[rows]", ids)?;
            at.wants(table.len() >= 2, "table", "an entry axis and at least one more", table)?;
            Ok(ids.iter().chain(&table[1..]).copied().collect())
        }
        Op::Positions { table } => {
            let table = at.param(table)?;
            at.wants(table.len() >= 2, "table", "an entry axis and at least one more", table)?;
            Ok(std::iter::once(&ROWS).chain(&table[1..]).copied().collect())
        }
        Op::Contract { x, w } => {
            let (x, w) = (at.value(x)?, at.param(w)?);
            let summed = w.iter().filter(|a| x.contains(a)).count();
            at.wants(summed > 0, "weight", &format!("an axis of [{}]", draft.names(x)), w)?;
            at.wants(summed < w.len(), "weight", "an axis that the activations lack", w)?;
            let tail: Vec<Axis> = w.iter().copied().filter(|a| x.contains(a)).collect();
            at.wants(w.ends_with(&tail), "weight", "its summed axes last", w)?;
            at.wants(x.ends_with(&tail), "activations", &format!("to end in [{}]", draft.names(&tail)), x)?;
            Ok(x.iter().filter(|a| !w.contains(a)).chain(w.iter().filter(|a| !x.contains(a))).copied().collect())
        }
        Op::Bias { x, w } => {
            let (x, w) = (at.value(x)?, at.param(w)?);
            at.wants(x[1..].ends_with(w), "weight", &format!("the last axes of [{}]", draft.names(x)), w)?;
            Ok(x.to_vec())
        }
        Op::Norm { x, w, norm } => {
            let (x, w) = (at.value(x)?, at.param(w)?);
            let fits = !w.is_empty() && x.len() >= 2 && x[1..].ends_with(w);
            at.wants(fits, "weight", &format!("the last axes of [{}]", draft.names(x)), w)?;
            at.constant(norm.eps.is_finite() && norm.eps >= 0.0, "eps", norm.eps, "0 or more")?;
            at.constant(norm.offset.is_finite(), "offset", norm.offset, "a finite number")?;
            if let Some(run) = norm.run {
                let behind = draft.elements(&w[1..]);
                at.constant(
                    w.len() >= 2 && u64::from(run) == behind,
                    "run",
                    run,
                    "the elements behind the weight's first axis",
                )?;
            }
            Ok(x.to_vec())
        }
        Op::Rope { x, ref rope } => {
            let x = at.value(x)?;
            at.wants(x.len() >= 2, "operand", "rows and a head axis", x)?;
            let length = draft.length(x[x.len() - 1]).unwrap_or(0);
            let fits = rope.dims > 0 && rope.dims.is_multiple_of(2) && rope.dims <= length;
            at.constant(fits, "dims", rope.dims, "even, and at most the length of the last axis")?;
            at.constant(rope.theta.is_finite() && rope.theta > 0.0, "theta", rope.theta, "above 0")?;
            Ok(x.to_vec())
        }
        Op::Attend { q, k, v, sinks, how } => {
            let (q, k, v) = (at.value(q)?, at.value(k)?, at.value(v)?);
            at.wants(q.len() == 4 && q[0] == ROWS, "queries", "[rows, heads, group, dim]", q)?;
            let wants = [q[0], q[1], q[3]];
            at.wants(k == wants, "keys", &format!("[{}]", draft.names(&wants)), k)?;
            at.wants(v == wants, "values", &format!("[{}]", draft.names(&wants)), v)?;
            if let Some(sinks) = sinks {
                let wants = format!("[{}]", draft.names(&q[1..3]));
                at.wants(at.param(sinks)? == &q[1..3], "sinks", &wants, at.param(sinks)?)?;
            }
            at.constant(how.scale.is_finite() && how.scale > 0.0, "scale", how.scale, "above 0")?;
            at.constant(how.window != Some(0), "window", 0, "1 or more")?;
            let cap = how.softcap.unwrap_or(1.0);
            at.constant(cap.is_finite() && cap > 0.0, "softcap", cap, "above 0")?;
            Ok(q.to_vec())
        }
        Op::ShortConv { x, w } => {
            let (x, w) = (at.value(x)?, at.param(w)?);
            let wants = format!("[{}, taps]", draft.names(&x[1..]));
            at.wants(w.len() == x.len() && x.len() >= 2 && w[..w.len() - 1] == x[1..], "weight", &wants, w)?;
            let taps = draft.length(w[w.len() - 1]).unwrap_or(0);
            at.constant((2..=8).contains(&taps), "taps", taps, "2 to 8")?;
            Ok(x.to_vec())
        }
        Op::Scan { q, k, v, dt, beta, a_log, skip, how } => scan(&at, [q, k, v, dt], beta, (a_log, skip), how),
        Op::ContractEach { x, w } => {
            let (x, w) = (at.value(x)?, at.param(w)?);
            let kept = x.iter().position(|a| *a == w[0]).filter(|&each| each > 0);
            at.wants(kept.is_some(), "weight", &format!("an axis of [{}] first", draft.names(x)), w)?;
            let (kept, summed) = x.split_at(kept.map_or(0, |each| each + 1));
            let wants = format!("{}, axes of its own, then [{}]", draft.names(&w[..1]), draft.names(summed));
            let fits = !summed.is_empty() && w.len() > summed.len() + 1 && w.ends_with(summed);
            at.wants(fits, "weight", &wants, w)?;
            Ok(kept.iter().chain(&w[1..w.len() - summed.len()]).copied().collect())
        }
        Op::Concat { a, b, axis } => {
            let (a, b) = (at.value(a)?, at.value(b)?);
            at.wants(a.len() >= 2, "first part", "rows and an axis to grow", a)?;
            let (kept, last) = a.split_at(a.len() - 1);
            let wants = format!("[{}] and an axis of its own", draft.names(kept));
            at.wants(b.len() == a.len() && b.starts_with(kept), "second part", &wants, b)?;
            let length = |a: &Axis| draft.length(*a).unwrap_or(0);
            let sum = last.iter().chain(b.last()).map(length).sum::<u32>();
            at.constant(length(&axis) == sum, "axis", length(&axis), "the length of both parts together")?;
            Ok(kept.iter().copied().chain([axis]).collect())
        }
        Op::Prefix { x, axis } => {
            let x = at.value(x)?;
            at.wants(x.len() >= 2, "operand", "rows and an axis to cut", x)?;
            let (length, whole) = (draft.length(axis).unwrap_or(0), draft.length(x[x.len() - 1]).unwrap_or(0));
            at.constant((1..=whole).contains(&length), "axis", length, "1 to the length of the last axis")?;
            Ok(x[..x.len() - 1].iter().copied().chain([axis]).collect())
        }
        Op::Route { x, bias, choices, routing } => at.route(x, bias, choices, routing),
        Op::Experts { x, gates, w } => {
            let (choices, new) = at.by_expert(x, gates, w)?;
            Ok([ROWS, choices].iter().chain(new).copied().collect())
        }
        Op::ExpertBias { x, gates, w } => {
            let (x, choices, (experts, w)) = (at.value(x)?, at.choices(gates)?, at.of_experts(gates, w)?);
            let wants = format!("[rows, {}] and the axes of the weight", draft.names(&[choices]));
            at.wants(x.len() == w.len() + 2 && x[1] == choices && x[2..] == *w, "activations", &wants, x)?;
            at.wants(!w.is_empty(), "weight", "an axis beside the experts", &[experts])?;
            Ok(x.to_vec())
        }
        Op::Combine { x, gates, w } => {
            let axes = at.value(x)?;
            let (choices, new) = at.by_expert(x, gates, w)?;
            let wants = format!("[rows, {}] and axes that are summed", draft.names(&[choices]));
            at.wants(axes.get(1) == Some(&choices), "activations", &wants, axes)?;
            Ok([ROWS].iter().chain(new).copied().collect())
        }
        Op::Weigh { x, gates } => {
            let (x, choices) = (at.value(x)?, at.choices(gates)?);
            let wants = format!("[rows, {}] and the axes of the result", draft.names(&[choices]));
            at.wants(x.len() >= 3 && x[0] == ROWS && x[1] == choices, "activations", &wants, x)?;
            Ok([ROWS].iter().chain(&x[2..]).copied().collect())
        }
        Op::Unary(f, x) => {
            let (field, c, least) = match f {
                Unary::Scale(c) => ("by", c, f32::MIN),
                Unary::Softcap(c) => ("cap", c, f32::MIN_POSITIVE),
                Unary::ClampedSwish { alpha, limit } => ("alpha · limit", alpha * limit, f32::MIN_POSITIVE),
                Unary::ClampedPlusOne(c) => ("limit", c, f32::MIN_POSITIVE),
                Unary::Silu | Unary::Gelu | Unary::GeluTanh | Unary::Relu | Unary::Relu2 | Unary::Sigmoid => {
                    ("by", 1.0, 0.0)
                }
            };
            at.constant(c.is_finite() && c >= least, field, c, "a finite number, a cap or limit above 0")?;
            Ok(at.value(x)?.to_vec())
        }
        Op::SampledRows(x) => Ok(at.value(x)?.to_vec()),
        Op::Binary(_, a, b) => {
            let (a, b) = (at.value(a)?, at.value(b)?);
            at.wants(a == b, "second operand", &format!("[{}]", draft.names(a)), b)?;
            Ok(a.to_vec())
        }
    }
}

fn scan(
    at: &At<'_>,
    [q, k, v, dt]: [ValueId; 4],
    beta: Option<ValueId>,
    (a_log, skip): (ParamId, Option<ParamId>),
    how: Recurrence,
) -> Result<Vec<Axis>, GraphError> {
    let (draft, v) = (at.draft, at.value(v)?);
    at.wants(v.len() == 4 && v[0] == ROWS, "values", "[rows, heads, group, value]", v)?;
    let (q, k, dt) = (at.value(q)?, at.value(k)?, at.value(dt)?);
    at.wants(q.len() == 3 && q[..2] == v[..2], "queries", &format!("[{}, key]", draft.names(&v[..2])), q)?;
    at.wants(k == q, "keys", &format!("[{}]", draft.names(q)), k)?;
    let (per_row, per_head) = (format!("[{}]", draft.names(&v[..3])), format!("[{}]", draft.names(&v[1..3])));
    at.wants(*dt == v[..3], "time steps", &per_row, dt)?;
    let weight = at.param(a_log)?;
    at.wants(*weight == v[1..3], "decay rates", &per_head, weight)?;
    if let Some(skip) = skip {
        let skip = at.param(skip)?;
        at.wants(*skip == v[1..3], "share of the values", &per_head, skip)?;
    }
    match (how, beta) {
        (Recurrence::Selective { low, high }, None) => {
            at.constant(low.is_finite() && low >= 0.0, "low", low, "0 or more")?;
            let high = high.unwrap_or(f32::MAX);
            at.constant(high.is_finite() && high >= low, "high", high, "low or more")?;
        }
        (Recurrence::Delta, Some(beta)) => {
            let beta = at.value(beta)?;
            at.wants(*beta == v[..3], "rates", &per_row, beta)?;
        }
        (Recurrence::Selective { .. }, Some(_)) => at.constant(false, "rates", 1, "none in a selective scan")?,
        (Recurrence::Delta, None) => at.constant(false, "rates", 0, "one for each head in a delta scan")?,
    }
    Ok(v.to_vec())
}

/// Where inference stands, for messages.
struct At<'a> {
    draft: &'a Draft,
    node: usize,
    op: &'a Op,
}

impl<'a> At<'a> {
    fn value(&self, id: ValueId) -> Result<&'a [Axis], GraphError> {
        if id.index() >= self.node {
            return Err(GraphError::Order { node: self.node, op: self.op.name(), operand: id.index() });
        }
        let node = self.draft.nodes.get(id.index());
        node.map(|n| n.axes.as_slice()).ok_or_else(|| self.unknown("value", id.index(), self.draft.nodes.len()))
    }

    fn param(&self, id: ParamId) -> Result<&'a [Axis], GraphError> {
        let param = self.draft.params.get(id.index());
        param.map(|p| p.axes.as_slice()).ok_or_else(|| self.unknown("weight", id.index(), self.draft.params.len()))
    }

    fn route(
        &self,
        x: ValueId,
        bias: Option<ParamId>,
        choices: Axis,
        routing: Routing,
    ) -> Result<Vec<Axis>, GraphError> {
        let x = self.value(x)?;
        self.wants(x.len() == 2 && x[0] == ROWS, "logits", "[rows, experts]", x)?;
        if let Some(bias) = bias {
            let bias = self.param(bias)?;
            self.wants(bias == &x[1..], "bias", &format!("[{}]", self.draft.names(&x[1..])), bias)?;
        }
        let (experts, chosen) = (self.draft.length(x[1]).unwrap_or(0), self.draft.length(choices).unwrap_or(0));
        match routing.fault(experts, chosen) {
            None => Ok(x.to_vec()),
            Some((field, value, allowed)) => self.constant(false, field, value, allowed).map(|()| x.to_vec()),
        }
    }

    /// The axis of the choices that `gates` leave a row.
    fn choices(&self, gates: ValueId) -> Result<Axis, GraphError> {
        let axes = self.value(gates)?;
        let op = &self.draft.nodes[gates.index()].op;
        if let Op::Route { choices, .. } = op {
            return Ok(*choices);
        }
        let wants = format!("the result of route, not of {}", op.name());
        self.wants(false, "gates", &wants, axes).map(|()| ROWS)
    }

    /// The expert axis of a weight that `gates` choose from, and its other axes.
    fn of_experts(&self, gates: ValueId, w: ParamId) -> Result<(Axis, &'a [Axis]), GraphError> {
        let (gates, w) = (self.value(gates)?, self.param(w)?);
        let experts = gates.get(1).copied().unwrap_or(ROWS);
        self.wants(w[0] == experts, "weight", &format!("{} first", self.draft.names(&[experts])), w)?;
        Ok((experts, &w[1..]))
    }

    /// Of a contraction by experts: the axis of the choices, and the axes that `w` brings.
    fn by_expert(&self, x: ValueId, gates: ValueId, weight: ParamId) -> Result<(Axis, &'a [Axis]), GraphError> {
        let (x, choices, (_, w)) = (self.value(x)?, self.choices(gates)?, self.of_experts(gates, weight)?);
        self.wants(x.len() >= 2 && x[0] == ROWS, "activations", "rows and at least one more", x)?;
        let x = if x[1] == choices { &x[2..] } else { &x[1..] };
        let wants = format!("experts, axes of its own, then [{}]", self.draft.names(x));
        let fits = !x.is_empty() && w.len() > x.len() && w.ends_with(x);
        self.wants(fits, "weight", &wants, self.param(weight)?)?;
        Ok((choices, &w[..w.len() - x.len()]))
    }

    fn unknown(&self, what: &'static str, number: usize, count: usize) -> GraphError {
        GraphError::Unknown { node: self.node, op: self.op.name(), what, number, count }
    }

    fn wants(&self, holds: bool, what: &'static str, wants: &str, got: &[Axis]) -> Result<(), GraphError> {
        if holds {
            return Ok(());
        }
        let name = |p: ParamId| self.draft.params.get(p.index()).map(|p| format!(" {}", p.name));
        Err(GraphError::Axes {
            node: self.node,
            op: self.op.name(),
            param: self.op.param().and_then(name).unwrap_or_default(),
            what,
            wants: wants.into(),
            got: self.draft.names(got),
        })
    }

    fn constant(
        &self,
        holds: bool,
        field: &'static str,
        value: impl std::fmt::Display,
        allowed: &'static str,
    ) -> Result<(), GraphError> {
        if holds {
            return Ok(());
        }
        Err(GraphError::Constant { node: self.node, op: self.op.name(), field, value: value.to_string(), allowed })
    }
}
