//! What a program, a step and its buffers must hold before anything is computed.

use super::{Limits, PORTS_MAX};
use crate::error::KernelError;
use crate::memory::Memory;
use crate::step::Step;
use crate::weights::Weight;
use graph::plan::{Call, Operand, Place, Program, RowSet, WeightId, WeightUse};

/// The name of a call's op.
fn name(call: &Call) -> &'static str {
    match call {
        Call::Gather { .. } => "gather",
        Call::Contract { .. } => "contract",
        Call::Bias { .. } => "bias",
        Call::RmsNorm { .. } => "rms_norm",
        Call::AddRmsNorm { .. } => "add_rms_norm",
        Call::Rope { .. } => "rope",
        Call::Attend { .. } => "attend",
        Call::Gated { .. } => "gated",
        Call::Unary { .. } => "unary",
        Call::Binary { .. } => "binary",
        Call::SampledRows { .. } => "sampled_rows",
    }
}

/// Operands read, operands written, and whether a written one may be a read one.
fn operands(call: &Call) -> (Vec<Operand>, Vec<Operand>, bool) {
    match call {
        Call::Gather { ids, y, .. } => (vec![*ids], vec![*y], false),
        Call::Contract { x, parts } => (vec![*x], parts.iter().map(|part| part.1).collect(), false),
        Call::Bias { x, .. } | Call::Rope { x, .. } => (vec![], vec![*x], false),
        Call::RmsNorm { x, y, .. } | Call::Unary { x, y, .. } => (vec![*x], vec![*y], true),
        Call::AddRmsNorm { a, b, sum, y, .. } => (vec![*a, *b], vec![*sum, *y], true),
        Call::Attend { q, k, v, y, .. } => (vec![*q, *k, *v], vec![*y], false),
        Call::Gated { gate, up, y, .. } => (vec![*gate, *up], vec![*y], true),
        Call::Binary { a, b, y, .. } => (vec![*a, *b], vec![*y], true),
        Call::SampledRows { x, y } => (vec![*x], vec![*y], false),
    }
}

/// Weights of a call, with the elements that one output row (n) and one operand row (k) must have; 0 is not checked.
fn weights(call: &Call) -> Vec<(WeightId, &'static [WeightUse], u32, u32)> {
    use WeightUse::{Panels, Table, Vector};
    match call {
        Call::Gather { table, y, .. } => vec![(*table, &[Table, Panels], 0, y.width)],
        Call::Contract { x, parts } => parts.iter().map(|(w, y)| (*w, &[Panels][..], y.width, x.width)).collect(),
        Call::Bias { w, .. } | Call::RmsNorm { w, .. } => vec![(*w, &[Vector], 0, 1)],
        Call::AddRmsNorm { w, y, .. } => vec![(*w, &[Vector], y.width, 1)],
        Call::Rope { .. }
        | Call::Attend { .. }
        | Call::Gated { .. }
        | Call::Unary { .. }
        | Call::Binary { .. }
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
pub(super) fn program(program: &Program, weights: &[Weight], limits: Limits) -> Vec<KernelError> {
    let mut faults = vec![];
    for (number, call) in program.calls.iter().enumerate() {
        let at = At { program, weights, limits, number, call };
        at.operands(&mut faults);
        at.weights(&mut faults);
        at.widths(&mut faults);
    }
    faults
}

struct At<'a> {
    program: &'a Program,
    weights: &'a [Weight],
    limits: Limits,
    number: usize,
    call: &'a Call,
}

impl At<'_> {
    fn shape(&self, what: &'static str, wanted: u64, got: u64) -> KernelError {
        KernelError::Shape { call: self.number, op: name(self.call), what, wanted, got }
    }

    fn operands(&self, faults: &mut Vec<KernelError>) {
        let (reads, writes, may_share) = operands(self.call);
        let alias = |what| KernelError::Alias { call: self.number, op: name(self.call), what };
        for operand in reads.iter().chain(&writes) {
            match operand.place {
                Place::Scratch(at) => {
                    let end = at + largest(operand, self.limits);
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
            let wrong = |read: &&Operand| self.overlap(write, read) && !(may_share && *read == write);
            if reads.iter().any(|read| wrong(&read)) {
                faults.push(alias("a result overlaps an operand"));
            }
        }
    }

    fn overlap(&self, a: &Operand, b: &Operand) -> bool {
        match (a.place, b.place) {
            (Place::Scratch(x), Place::Scratch(y)) => {
                x < y + largest(b, self.limits) && y < x + largest(a, self.limits)
            }
            (x, y) => x == y,
        }
    }

    fn weights(&self, faults: &mut Vec<KernelError>) {
        for (id, uses, n, k) in weights(self.call) {
            let (call, op) = (self.number, name(self.call));
            let Some(weight) = self.weights.get(id.0 as usize) else {
                faults.push(KernelError::NoWeight { call, op, weight: id.0, weights: self.weights.len() });
                continue;
            };
            let spec = weight.spec();
            if !uses.contains(&spec.used) {
                faults.push(KernelError::WrongUse { call, op, name: spec.name.clone() });
            }
            if n != 0 && spec.n != n {
                faults.push(self.shape("outputs of the weight", n.into(), spec.n.into()));
            }
            if spec.k != k {
                faults.push(self.shape("terms of the weight", k.into(), spec.k.into()));
            }
        }
    }

    /// Outputs of a weight, at least 1.
    fn outputs(&self, w: WeightId) -> u32 {
        self.weights.get(w.0 as usize).map_or(1, |weight| weight.spec().n.max(1))
    }

    /// Widths that one call's operands must have in common.
    fn widths(&self, faults: &mut Vec<KernelError>) {
        let mut same = |what, wanted: u32, got: u32| {
            if wanted != got {
                faults.push(self.shape(what, wanted.into(), got.into()));
            }
        };
        match self.call {
            Call::Gather { ids, .. } => same("width of the ids", 1, ids.width),
            Call::Contract { .. } => {}
            Call::Bias { x, w } => same("elements beyond whole runs of the weight", 0, x.width % self.outputs(*w)),
            Call::RmsNorm { x, w, y, .. } => {
                same("elements beyond whole runs of the weight", 0, x.width % self.outputs(*w));
                same("width of the result", x.width, y.width);
            }
            Call::AddRmsNorm { a, b, sum, y, .. } => {
                [a, b, sum].into_iter().for_each(|o| same("width of a term", y.width, o.width));
            }
            Call::Rope { x, head_dim, rope } => {
                same("elements beyond whole heads", 0, x.width % (*head_dim).max(1));
                same("dims turned beyond a head", 0, rope.dims.saturating_sub(*head_dim));
            }
            Call::Attend { q, k, v, y, cache, kv_heads, group, head_dim, .. } => {
                same("width of the keys", kv_heads * head_dim, k.width);
                same("width of the values", kv_heads * head_dim, v.width);
                same("width of the queries", kv_heads * group * head_dim, q.width);
                same("width of the result", q.width, y.width);
                let spec = self.program.caches.get(*cache as usize);
                same("heads of the cache", *kv_heads, spec.map_or(0, |c| c.kv_heads));
                same("dims of the cache", *head_dim, spec.map_or(0, |c| c.head_dim));
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

/// Holds a step against the limits and against itself.
pub(super) fn step(step: &Step, limits: Limits, page_rows: u32) -> Result<(), KernelError> {
    let beyond = |what, limit: u64, got: u64| Err(KernelError::Step { step: step.id, what, limit, got });
    if step.rows > limits.rows_max {
        return beyond("rows", limits.rows_max.into(), step.rows.into());
    }
    if step.sampled.len() > limits.sampled_max as usize {
        return beyond("sampled rows", limits.sampled_max.into(), step.sampled.len() as u64);
    }
    if let Some(&row) = step.sampled.iter().find(|&&row| row >= step.rows) {
        return beyond("a sampled row", u64::from(step.rows.saturating_sub(1)), row.into());
    }
    let mut next = 0;
    for span in &step.spans {
        if span.first_row != next {
            return beyond("the first row of a span", next.into(), span.first_row.into());
        }
        next += span.rows;
        let (held, needed) =
            (u64::from(span.pages) * u64::from(page_rows), u64::from(span.start) + u64::from(span.rows));
        if needed > held {
            return beyond("positions of a span on its pages", held, needed);
        }
        let pages = u64::from(span.first_page) + u64::from(span.pages);
        if pages > step.pages.len() as u64 {
            return beyond("pages of a span", step.pages.len() as u64, pages);
        }
        if let Some(&page) = step.pages_of(span).iter().find(|&&page| page >= limits.pages) {
            return beyond("a page", u64::from(limits.pages.saturating_sub(1)), page.into());
        }
    }
    if next != step.rows { beyond("rows of all spans", step.rows.into(), next.into()) } else { Ok(()) }
}

/// Holds the buffers of a step against the operands that lie in them.
pub(super) fn buffers(
    program: &Program,
    step: &Step,
    inputs: &[&Memory],
    outputs: &[&mut Memory],
) -> Result<(), KernelError> {
    let mut result = Ok(());
    for call in &program.calls {
        visit(call, &mut |operand| {
            let rows = match operand.rows {
                RowSet::All => u64::from(step.rows),
                RowSet::Sampled => step.sampled.len() as u64,
            };
            let wanted = rows * u64::from(operand.width) * 4;
            let (what, index, got) = match operand.place {
                Place::Input(port) => ("input", port as usize, inputs.get(port as usize).map(|m| m.len())),
                Place::Output(port) => ("output", port as usize, outputs.get(port as usize).map(|m| m.len())),
                Place::Scratch(_) => return,
            };
            let fits = got.is_some_and(|got| got as u64 >= wanted);
            if !fits && result.is_ok() {
                result = Err(KernelError::Buffer { step: step.id, what, index, wanted, got: got.unwrap_or(0) as u64 });
            }
        });
    }
    result
}

/// Every operand of a call, without allocating.
fn visit(call: &Call, f: &mut dyn FnMut(&Operand)) {
    match call {
        Call::Gather { ids, y, .. } => [ids, y].into_iter().for_each(f),
        Call::Contract { x, parts } => {
            f(x);
            parts.iter().for_each(|part| f(&part.1));
        }
        Call::Bias { x, .. } | Call::Rope { x, .. } => f(x),
        Call::RmsNorm { x, y, .. } | Call::Unary { x, y, .. } | Call::SampledRows { x, y } => {
            [x, y].into_iter().for_each(f);
        }
        Call::AddRmsNorm { a, b, sum, y, .. } => [a, b, sum, y].into_iter().for_each(f),
        Call::Attend { q, k, v, y, .. } => [q, k, v, y].into_iter().for_each(f),
        Call::Gated { gate, up, y, .. } => [gate, up, y].into_iter().for_each(f),
        Call::Binary { a, b, y, .. } => [a, b, y].into_iter().for_each(f),
    }
}
