//! What a program must hold before an executor is made of it.

use super::{Limits, PORTS_MAX};
use crate::catalogue;
use crate::error::KernelError;
use graph::plan::{Access, Call, Operand, Place, Program, RowSet, StateSpec, WeightId, WeightSpec, WeightUse};
use graph::{Norm, Recurrence};

/// Operands read, and operands written.
fn operands(call: &Call) -> (Vec<Operand>, Vec<Operand>) {
    let (mut reads, mut writes) = (vec![], vec![]);
    call.visit(&mut |access, operand| match access {
        Access::Read => reads.push(*operand),
        Access::Write => writes.push(*operand),
    });
    (reads, writes)
}

/// Weights of a call, with the uses it may have (of however many experts), and the elements that one output row (n) and one operand row
/// (k) must have; 0 is not checked.
fn weights(call: &Call) -> Vec<(WeightId, &'static [WeightUse], u32, u32)> {
    use WeightUse::{Experts, Panels, Table, Vector};
    match call {
        Call::Gather { table, y, .. } => vec![(*table, &[Table, Panels], 0, y.width)],
        Call::Positions { table, y } => vec![(*table, &[Table, Panels], 0, y.width)],
        Call::Contract { x, parts } => parts.iter().map(|(w, y)| (*w, &[Panels][..], y.width, x.width)).collect(),
        Call::ShortConv { w, .. } => vec![(*w, &[Vector], 0, 1)],
        Call::Scan { a_log, skip, dt, .. } => {
            std::iter::once(a_log).chain(skip).map(|w| (*w, &[Vector][..], dt.width, 1)).collect()
        }
        Call::Bias { w, .. } | Call::Norm { w, .. } => vec![(*w, &[Vector], 0, 1)],
        Call::AddNorm { w, y, .. } => vec![(*w, &[Vector], y.width, 1)],
        Call::Attend { sinks, kv_heads, group, .. } => {
            sinks.iter().map(|w| (*w, &[Vector][..], kv_heads.saturating_mul(*group), 1)).collect()
        }
        Call::Route { x, bias, .. } => bias.iter().map(|bias| (*bias, &[Vector][..], x.width, 1)).collect(),
        Call::Experts { choices, parts, .. } => {
            parts.iter().map(|(w, y)| (*w, &[Experts(0)][..], y.width / (*choices).max(1), 0)).collect()
        }
        Call::ExpertBias { w, .. } => vec![(*w, &[Vector], 0, 1)],
        Call::ContractEach { w, .. } => vec![(*w, &[Experts(0)], 0, 0)],
        Call::Combine { x, choices, w, y, .. } => vec![(*w, &[Experts(0)], y.width, x.width / (*choices).max(1))],
        Call::Rope { .. }
        | Call::Weigh { .. }
        | Call::Concat { .. }
        | Call::Gated { .. }
        | Call::Unary { .. }
        | Call::Binary { .. }
        | Call::Slice { .. }
        | Call::SampledRows { .. } => vec![],
    }
}

/// Bytes of an operand in the largest step.
fn largest(operand: &Operand, limits: Limits) -> u64 {
    let rows = match operand.rows {
        RowSet::All => limits.rows_max,
        RowSet::Sampled => limits.sampled_max,
    };
    u64::from(rows) * u64::from(operand.width) * 4
}

/// Everything wrong with a program.
pub(crate) fn program(program: &Program, weights: &[&WeightSpec], limits: Limits) -> Vec<KernelError> {
    let mut faults = vec![];
    for (number, call) in program.calls.iter().enumerate() {
        let at = At { program, weights, limits, number, call };
        at.operands(&mut faults);
        at.weights(&mut faults);
        at.widths(&mut faults);
        at.states(&mut faults);
        at.row_sets(&mut faults);
    }
    faults
}

struct At<'a> {
    program: &'a Program,
    weights: &'a [&'a WeightSpec],
    limits: Limits,
    number: usize,
    call: &'a Call,
}

impl At<'_> {
    fn shape(&self, what: &'static str, wanted: u64, got: u64) -> KernelError {
        KernelError::Shape { call: self.number, op: self.call.name(), what, wanted, got }
    }

    fn operands(&self, faults: &mut Vec<KernelError>) {
        let (reads, writes) = operands(self.call);
        let alias = |what| KernelError::Alias { call: self.number, op: self.call.name(), what };
        for operand in reads.iter().chain(&writes) {
            match operand.place {
                Place::Scratch(at) => {
                    let end = at.saturating_add(largest(operand, self.limits));
                    if end > self.program.scratch_bytes || at % 64 != 0 {
                        faults.push(self.shape("bytes of scratch", end, self.program.scratch_bytes));
                    }
                }
                Place::Input(port) | Place::Output(port) if port as usize >= PORTS_MAX => {
                    faults.push(self.shape("ports, at most", PORTS_MAX as u64, u64::from(port) + 1));
                }
                Place::Input(_) | Place::Output(_) => {}
            }
        }
        for (number, write) in writes.iter().enumerate() {
            if matches!(write.place, Place::Input(_)) {
                faults.push(alias("a call writes an input"));
            }
            if writes[..number].iter().any(|other| self.overlap(write, other)) {
                faults.push(alias("two results overlap"));
            }
            let wrong = |read: &&Operand| self.overlap(write, read) && !(self.call.may_share() && *read == write);
            if reads.iter().any(|read| wrong(&read)) {
                faults.push(alias("a result overlaps an operand"));
            }
        }
    }

    fn overlap(&self, a: &Operand, b: &Operand) -> bool {
        match (a.place, b.place) {
            (Place::Scratch(x), Place::Scratch(y)) => {
                x < y.saturating_add(largest(b, self.limits)) && y < x.saturating_add(largest(a, self.limits))
            }
            (x, y) => x == y,
        }
    }

    fn weights(&self, faults: &mut Vec<KernelError>) {
        for (id, uses, n, k) in weights(self.call) {
            let (call, op) = (self.number, self.call.name());
            let Some(weight) = self.weights.get(id.0 as usize) else {
                faults.push(KernelError::NoWeight { call, op, weight: id.0, weights: self.weights.len() });
                continue;
            };
            let spec = *weight;
            let used = match spec.used {
                WeightUse::Experts(_) => WeightUse::Experts(0),
                used @ (WeightUse::Panels | WeightUse::Table | WeightUse::Vector) => used,
            };
            if !uses.contains(&used) {
                faults.push(KernelError::WrongUse { call, op, name: spec.name.clone() });
            }
            if let Err(missing) = catalogue::supports(self.call, spec.dtype) {
                faults.push(missing);
            }
            if n != 0 && spec.n != n {
                faults.push(self.shape("outputs of the weight", n.into(), spec.n.into()));
            }
            if k != 0 && spec.k != k {
                faults.push(self.shape("terms of the weight", k.into(), spec.k.into()));
            }
        }
    }

    /// A state of the program has as many elements as its call keeps, and no other call has it.
    fn states(&self, faults: &mut Vec<KernelError>) {
        let Some(state) = self.call.state() else { return };
        let wanted = if let Call::ShortConv { x, w, .. } = self.call {
            StateSpec::conv(x.width, self.outputs(*w) / x.width.max(1))
        } else if let Call::Scan { heads, group, key_dim, value_dim, .. } = self.call {
            StateSpec::scan([*heads, *group, *key_dim, *value_dim])
        } else {
            return;
        };
        let elements = self.program.states.get(state as usize).map_or(0, |spec| spec.elements);
        if elements != wanted.elements {
            faults.push(self.shape("elements of a slot of its state", wanted.elements, elements));
        }
        let owners = self.program.calls.iter().filter(|call| call.state() == Some(state)).count() as u64;
        if owners != 1 {
            faults.push(self.shape("calls with its state", 1, owners));
        }
    }

    /// Outputs of a weight, at least 1.
    fn outputs(&self, w: WeightId) -> u32 {
        self.weights.get(w.0 as usize).map_or(1, |weight| weight.n.max(1))
    }

    /// Experts that a weight has to have: those with a gate, or where these are of all experts, those of its cut.
    fn held(&self, w: WeightId, gates: &Operand) -> u32 {
        let cut = self.weights.get(w.0 as usize).and_then(|weight| weight.cut);
        let among = |cut: &graph::plan::Cut| cut.dim == 0 && cut.from.saturating_add(cut.len) <= gates.width;
        cut.filter(among).map_or(gates.width, |cut| cut.len)
    }

    /// All operands of a call have the same rows, but for those that sampling leaves.
    fn row_sets(&self, faults: &mut Vec<KernelError>) {
        let (reads, writes) = operands(self.call);
        let sampling = matches!(self.call, Call::SampledRows { .. });
        let stepwise = matches!(
            self.call,
            Call::Gather { .. }
                | Call::Positions { .. }
                | Call::Rope { .. }
                | Call::Attend { .. }
                | Call::ShortConv { .. }
                | Call::Scan { .. }
        );
        let first = if sampling || stepwise {
            RowSet::All
        } else {
            reads.iter().chain(&writes).next().map_or(RowSet::All, |o| o.rows)
        };
        let results = if sampling { RowSet::Sampled } else { first };
        if reads.iter().any(|o| o.rows != first) || writes.iter().any(|o| o.rows != results) {
            let what = "operands have the rows of different sets";
            faults.push(KernelError::Alias { call: self.number, op: self.call.name(), what });
        }
    }

    /// Widths that one call's operands must have in common.
    fn widths(&self, faults: &mut Vec<KernelError>) {
        let zero = match self.call {
            Call::Rope { head_dim, .. } => *head_dim == 0,
            Call::Attend { kv_heads, group, head_dim, .. } => *kv_heads == 0 || *group == 0 || *head_dim == 0,
            Call::Gather { y, .. } | Call::Positions { y, .. } => y.width == 0,
            Call::Scan { heads, group, key_dim, value_dim, .. } => {
                [heads, group, key_dim, value_dim].into_iter().any(|n| *n == 0)
            }
            Call::Contract { x, .. } | Call::Bias { x, .. } | Call::Norm { x, .. } | Call::Unary { x, .. } => {
                x.width == 0
            }
            Call::Route { y, .. } => y.width == 0,
            Call::ContractEach { x, .. } => x.width == 0,
            Call::Concat { a_run, b_run, .. } => *a_run == 0 || *b_run == 0,
            Call::Experts { parts, .. } if parts.is_empty() => true,
            Call::Weigh { y, gates, choices, .. } => y.width == 0 || gates.width == 0 || *choices == 0,
            Call::Experts { x, gates, choices, .. }
            | Call::ExpertBias { x, gates, choices, .. }
            | Call::Combine { x, gates, choices, .. } => x.width == 0 || gates.width == 0 || *choices == 0,
            Call::AddNorm { y, .. }
            | Call::Gated { y, .. }
            | Call::Binary { y, .. }
            | Call::ShortConv { y, .. }
            | Call::Slice { y, .. }
            | Call::SampledRows { y, .. } => y.width == 0,
        };
        if zero {
            faults.push(self.shape("heads and widths, at least", 1, 0));
        }
        let mut same = |what, wanted: u32, got: u32| {
            if wanted != got {
                faults.push(self.shape(what, wanted.into(), got.into()));
            }
        };
        match self.call {
            Call::Gather { ids, .. } => same("width of the ids", 1, ids.width),
            Call::Contract { .. } | Call::Positions { .. } => {}
            Call::Bias { x, w, y } | Call::Norm { x, w, y, .. } => {
                same("elements beyond whole runs of the weight", 0, x.width % self.outputs(*w));
                same("width of the result", x.width, y.width);
                if let Call::Norm { norm: Norm { run: Some(run), .. }, .. } = self.call {
                    same(
                        "elements of the weight beyond whole runs",
                        0,
                        self.outputs(*w).checked_rem(*run).unwrap_or(1),
                    );
                }
            }
            Call::AddNorm { a, b, sum, y, .. } => {
                [a, b, sum].into_iter().for_each(|o| same("width of a term", y.width, o.width));
            }
            Call::Rope { x, head_dim, rope, y } => {
                same("width of the result", x.width, y.width);
                same("elements beyond whole heads", 0, x.width % (*head_dim).max(1));
                same("dims turned beyond a head", 0, rope.dims.saturating_sub(*head_dim));
            }
            Call::Attend { q, k, v, y, cache, kv_heads, group, head_dim, .. } => {
                same("width of the keys", kv_heads.saturating_mul(*head_dim), k.width);
                same("width of the values", kv_heads.saturating_mul(*head_dim), v.width);
                same("width of the queries", k.width.saturating_mul(*group), q.width);
                same("width of the result", q.width, y.width);
                let spec = self.program.caches.get(*cache as usize);
                same("heads of the cache", *kv_heads, spec.map_or(0, |c| c.kv_heads));
                same("dims of the cache", *head_dim, spec.map_or(0, |c| c.head_dim));
            }
            Call::Slice { x, block, from, run, y } => {
                let (block, kept) = ((*block).max(1), (*run).max(1));
                same("elements beyond whole blocks", 0, x.width % block);
                same("elements beyond whole runs", 0, y.width % kept);
                same("runs, one a block", x.width / block, y.width / kept);
                same("elements kept beyond a block", 0, from.saturating_add(kept).saturating_sub(block));
            }
            Call::ShortConv { x, w, y, .. } => {
                let taps = self.outputs(*w) / x.width.max(1);
                same("width of the result", x.width, y.width);
                same("elements beyond whole filters", 0, self.outputs(*w) % x.width.max(1));
                same("taps of a filter, 2 to 8", taps.clamp(2, 8), taps);
            }
            Call::Scan { q, k, v, dt, beta, y, heads, group, key_dim, value_dim, how, .. } => {
                let values = heads.saturating_mul(*group);
                same("width of the queries", heads.saturating_mul(*key_dim), q.width);
                same("width of the keys", q.width, k.width);
                same("width of the values", values.saturating_mul(*value_dim), v.width);
                same("width of the result", v.width, y.width);
                same("width of the time steps", values, dt.width);
                let rates = if *how == Recurrence::Delta { values } else { 0 };
                same("width of the rates", rates, beta.map_or(0, |beta| beta.width));
            }
            Call::ContractEach { x, w, y } => {
                let spec = self.weights.get(w.0 as usize).copied();
                let (n, k) = spec.map_or((0, 0), |s| (s.n, s.k));
                let each = spec.map_or(1, |s| (s.rows() / u64::from(s.n.max(1))) as u32);
                same("width of the activations", each.saturating_mul(k), x.width);
                same("width of the result", each.saturating_mul(n), y.width);
            }
            Call::Concat { a, a_run, b, b_run, y } => {
                let runs = a.width / (*a_run).max(1);
                same("width of the first part", runs.saturating_mul(*a_run), a.width);
                same("width of the second part", runs.saturating_mul(*b_run), b.width);
                same("width of the result", a.width.saturating_add(b.width), y.width);
            }
            Call::Route { x, choices, routing, first, y, .. } => {
                same("experts held beyond all of them", 0, first.saturating_add(y.width).saturating_sub(x.width));
                same("constants of the routing out of range", 0, routing.fault(x.width, *choices).iter().len() as u32);
            }
            Call::Experts { x, gates, choices, parts } => {
                for (w, y) in parts {
                    let spec = self.weights.get(w.0 as usize).copied();
                    let (k, held) =
                        (spec.map_or(0, |s| s.k), spec.map_or(1, |s| (s.rows() / u64::from(s.n.max(1))) as u32));
                    let parted = k.saturating_mul(*choices);
                    same("width of the activations", if x.width == parted { parted } else { k }, x.width);
                    same("experts of the weight", self.held(*w, gates), held);
                    same("elements beyond whole choices", 0, y.width % (*choices).max(1));
                }
            }
            Call::ExpertBias { x, gates, choices, w, y } => {
                same("width of the result", x.width, y.width);
                let len = x.width / (*choices).max(1);
                same("elements beyond whole choices", 0, x.width % (*choices).max(1));
                same("elements of the weight", self.held(*w, gates).saturating_mul(len), self.outputs(*w));
            }
            Call::Combine { x, gates, choices, w, .. } => {
                let spec = self.weights.get(w.0 as usize).copied();
                same(
                    "experts of the weight",
                    self.held(*w, gates),
                    spec.map_or(1, |s| (s.rows() / u64::from(s.n.max(1))) as u32),
                );
                same("elements beyond whole choices", 0, x.width % (*choices).max(1));
            }
            Call::Weigh { x, choices, y, .. } => {
                same("width of the activations", y.width.saturating_mul(*choices), x.width);
            }
            Call::Gated { gate: a, up: b, y, .. } | Call::Binary { a, b, y, .. } => {
                same("width of the second operand", a.width, b.width);
                same("width of the result", a.width, y.width);
            }
            Call::Unary { x, y, .. } | Call::SampledRows { x, y } => {
                same("width of the result", x.width, y.width);
            }
        }
    }
}
