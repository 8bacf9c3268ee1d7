//! The least that a step has to do: the operations of its products, and the bytes of weights and pages it reads.
//!
//! What is left out is small beside it: norms, rotations and pointwise functions, and activations, which stay in caches.

use super::call::{Call, Program, RowSet, WeightSpec, WeightUse};
use super::raw::{RawPlan, Role};
use super::weights::weight_bytes;
use crate::op::Recurrence;

/// Consecutive positions of one sequence that a step computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The first position.
    pub start: u32,
    /// How many.
    pub rows: u32,
}

/// What a step has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// f32 operations of contractions and attention, two a multiply-add.
    pub flops: u64,
    /// Bytes read: every contracted weight once, and the pages of every sequence once.
    pub bytes: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.flops += other.flops;
        self.bytes += other.bytes;
    }
}

/// The cost of one step of the whole plan, of which `sampled` rows are sampled.
pub fn step_cost(plan: &RawPlan, stretches: &[Stretch], sampled: u32) -> Cost {
    let mut cost = Cost::default();
    for actor in &plan.actors {
        if let Role::Stage { program, .. } = &actor.role {
            cost += program_cost(program, stretches, sampled);
        }
    }
    cost
}

/// The cost of one step of one stage.
fn program_cost(program: &Program, stretches: &[Stretch], sampled: u32) -> Cost {
    let all: u64 = stretches.iter().map(|s| u64::from(s.rows)).sum();
    let mut cost = Cost::default();
    // Each sequence's state is read and written once.
    let states = |state: u32| 2 * stretches.len() as u64 * program.states[state as usize].slot_bytes();
    for call in &program.calls {
        match call {
            Call::Contract { x, parts } => {
                let rows = if x.rows == RowSet::All { all } else { sampled.into() };
                for spec in parts.iter().map(|(w, _)| &program.weights[w.0 as usize]).filter(|_| rows > 0) {
                    cost.flops += 2 * rows * u64::from(spec.n) * u64::from(spec.k);
                    cost.bytes += weight_bytes(spec);
                }
            }
            Call::Attend { cache, kv_heads, group, head_dim, how, .. } => {
                let spec = program.caches[*cache as usize];
                for &Stretch { start, rows } in stretches {
                    let (start, rows) = (u64::from(start), u64::from(rows));
                    let window = how.window.map_or(u64::MAX, u64::from);
                    // A row sees its own past and itself; rows past the window see just that.
                    let short = window.saturating_sub(start).min(rows);
                    let pairs = short * start + short * (short + 1) / 2 + (rows - short) * window.min(start + rows);
                    cost.flops += 4 * pairs * u64::from(*kv_heads) * u64::from(*group) * u64::from(*head_dim);
                    let past = start.min(window.saturating_sub(1));
                    cost.bytes += (past + rows) * spec.page_bytes(1);
                }
            }
            Call::ShortConv { w, state, .. } => {
                cost.flops += 2 * all * u64::from(program.weights[w.0 as usize].n);
                cost.bytes += states(*state);
            }
            Call::Scan { state, heads, group, key_dim, value_dim, how, .. } => {
                let elements = [heads, group, key_dim, value_dim].into_iter().map(|&n| u64::from(n)).product::<u64>();
                // A row is written to the state and read from it; the delta rule reads it twice.
                let passes = if *how == Recurrence::Delta { 3 } else { 2 };
                cost.flops += 2 * passes * all * elements;
                cost.bytes += states(*state);
            }
            Call::Experts { choices, parts, .. } => {
                for (w, _) in parts {
                    cost += of_experts(&program.weights[w.0 as usize], *choices, all);
                }
            }
            Call::Combine { choices, w, .. } => cost += of_experts(&program.weights[w.0 as usize], *choices, all),
            Call::ContractEach { x, w, .. } => {
                let (spec, rows) =
                    (&program.weights[w.0 as usize], if x.rows == RowSet::All { all } else { sampled.into() });
                if rows > 0 {
                    cost.flops += 2 * rows * spec.rows() * u64::from(spec.k);
                    cost.bytes += weight_bytes(spec);
                }
            }
            Call::Weigh { .. }
            | Call::Concat { .. }
            | Call::Gather { .. }
            | Call::Route { .. }
            | Call::ExpertBias { .. }
            | Call::Positions { .. }
            | Call::Bias { .. }
            | Call::Norm { .. }
            | Call::AddNorm { .. }
            | Call::Rope { .. }
            | Call::Gated { .. }
            | Call::Unary { .. }
            | Call::Binary { .. }
            | Call::Slice { .. }
            | Call::SampledRows { .. } => {}
        }
    }
    cost
}

/// The cost of `rows` rows that choose `choices` experts each, all of them alike: the experts that at least one row is expected to
/// choose are read, and of a row's choices those that are held here are computed.
fn of_experts(spec: &WeightSpec, choices: u32, rows: u64) -> Cost {
    let WeightUse::Experts(held) = spec.used else { return Cost::default() };
    let of_all = f64::from(choices) / f64::from(spec.dims.first().copied().unwrap_or(1).max(choices).max(1));
    let active = f64::from(held) * (1.0 - (1.0 - of_all).powf(rows as f64));
    let one = weight_bytes(spec) as f64 / f64::from(held.max(1));
    let pairs = rows as f64 * of_all * f64::from(held);
    Cost { flops: (2.0 * pairs * f64::from(spec.n) * f64::from(spec.k)) as u64, bytes: (active * one) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::{DType, WeightType};
    use crate::op::Attention;
    use crate::plan::{CacheSpec, Operand, Place, WeightId};

    #[test]
    fn weights_count_once_a_step_and_rows_count_their_past() {
        let operand = |width, rows| Operand { place: Place::Scratch(0), width, rows };
        let (x, y, last) = (operand(8, RowSet::All), operand(32, RowSet::All), operand(8, RowSet::Sampled));
        let spec = WeightSpec {
            name: "w".into(),
            dims: vec![32, 8],
            stored: None,
            cut: None,
            used: WeightUse::Panels,
            n: 32,
            k: 8,
            sum_parts: 1,
            dtype: WeightType::Bf16,
            integer: false,
        };
        let attend = Call::Attend {
            q: y,
            k: x,
            v: x,
            y,
            cache: 0,
            kv_heads: 2,
            group: 3,
            head_dim: 4,
            sinks: None,
            how: Attention::scaled(1.0),
        };
        let contract = |x| Call::Contract { x, parts: vec![(WeightId(0), y)] };
        let program = Program {
            weights: vec![spec],
            calls: vec![contract(x), attend, contract(last)],
            scratch_bytes: 0,
            caches: vec![CacheSpec { kv_heads: 2, head_dim: 4, dtype: DType::Bf16 }],
            states: vec![],
        };
        let stretches = [Stretch { start: 0, rows: 3 }, Stretch { start: 10, rows: 1 }];
        let cost = program_cost(&program, &stretches, 2);
        // Rows 0, 1, 2 see 1 + 2 + 3 positions, row 10 sees 11: 17 pairs.
        assert_eq!(cost.flops, 2 * 4 * 32 * 8 + 4 * 17 * 2 * 3 * 4 + 2 * 2 * 32 * 8);
        assert_eq!(cost.bytes, 2 * (32 * 8 * 2) + (3 + 11) * (2 * 2 * 4 * 2));
        let mut windowed = program.clone();
        let Call::Attend { how, .. } = &mut windowed.calls[1] else { unreachable!("call 1 attends") };
        how.window = Some(2);
        let narrow = program_cost(&windowed, &stretches, 2);
        // Rows see 1 + 2 + 2 and 2 positions; of the 11 of the second sequence 2 are read.
        assert_eq!(cost.flops - narrow.flops, 4 * 10 * 2 * 3 * 4);
        assert_eq!(cost.bytes - narrow.bytes, 9 * (2 * 2 * 4 * 2));
        let unsampled = program_cost(&program, &stretches, 0);
        assert_eq!(cost.bytes - unsampled.bytes, 32 * 8 * 2, "a head that nobody asks for is not read");
    }
}
