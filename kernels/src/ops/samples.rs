//! Seeded numbers for tests.

use crate::isa::Isa;
use crate::team::{Team, TeamSpec};

/// `count` numbers within -1..1, the same for the same seed.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Every instruction set that can be told apart here.
pub(crate) fn sets() -> Vec<Isa> {
    let mut sets = vec![Isa::Portable, Isa::detect()];
    sets.dedup();
    sets
}

/// A team that sleeps when it waits.
pub(crate) fn team(threads: usize) -> Team {
    Team::new(TeamSpec { threads, cores: None, spin: false })
}

/// The bits of numbers, to be compared.
pub(crate) fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|n| n.to_bits()).collect()
}

/// Asserts |got - wanted| ≤ bound · (1 + |wanted|) for each pair.
pub(crate) fn assert_close(got: &[f32], wanted: &[f32], bound: f32, what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}: lengths");
    for (i, (g, w)) in got.iter().zip(wanted).enumerate() {
        assert!((g - w).abs() <= bound * (1.0 + w.abs()), "{what}: element {i} is {g}, wanted {w}");
    }
}
