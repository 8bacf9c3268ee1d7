//! What the benches share: executors, teams, memory and weights of noise, and a line of results.

#![allow(dead_code, reason = "each bench uses its own part")]

use graph::DType;
use graph::plan::{Operand, Place, Program, RowSet};
use kernels::ceiling::Comparison;
use kernels::{Executor, Isa, Limits, Memory, RowSource, Team, TeamSpec, Weight};
use std::sync::Arc;

/// An input, or the output, of all rows.
pub(crate) fn operand(place: Place, width: u32) -> Operand {
    Operand { place, width, rows: RowSet::All }
}

/// An executor over a whole program.
pub(crate) fn executor(
    program: Program,
    weights: Vec<Weight>,
    rows_max: u32,
    pages: u32,
    team: &Arc<Team>,
) -> Executor {
    let limits =
        Limits { rows_max, sampled_max: 1, pages, window_pages: 0, slots: 0, spans_max: 64, span_pages_max: 64 };
    Executor::new(program, weights, limits, Arc::clone(team), Isa::detect()).expect("a bench's program is sound")
}

/// A team on the first cores; the caller is pinned too.
pub(crate) fn team(threads: usize) -> Arc<Team> {
    let team = Team::new(TeamSpec { threads, cores: Some((0..threads).collect()), spin: true });
    let _ = team.pin_caller();
    Arc::new(team)
}

/// Memory of noise that is sane as f32.
pub(crate) fn noise(bytes: usize) -> Memory {
    let mut memory = Memory::zeroed(bytes);
    let mut state = 1u64;
    for value in memory.as_f32_mut() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *value = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
    }
    memory
}

/// Rows of small numbers.
pub(crate) struct Noise(pub(crate) u64);

impl RowSource for Noise {
    fn dtype(&self) -> DType {
        DType::Bf16
    }

    fn copy_row(&self, row: usize, into: &mut [u8]) {
        let mut state = (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ self.0;
        for bytes in into.chunks_exact_mut(2) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // A sign, an exponent near 1/16 and a fraction.
            bytes.copy_from_slice(&(((state >> 48) as u16 & 0x807f) | 0x3d80).to_le_bytes());
        }
    }
}

/// Prints one comparison; rates in G a second.
pub(crate) fn print(what: &str, unit: &str, found: Comparison) {
    println!(
        "{what}: {:.0} % ({:.0}-{:.0}) of {:.1} {unit}, {} rounds, {} dropped",
        found.share * 100.0,
        found.range.0 * 100.0,
        found.range.1 * 100.0,
        found.ceiling / 1e9,
        found.kept,
        found.dropped
    );
}
