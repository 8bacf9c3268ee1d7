//! The machine's own limits, measured: how fast its threads read memory, and how many f32 multiply-adds they do.
//!
//! A share of a limit means something only if both were measured in the same minute: [`compare`] runs the limit before and after the
//! work, round by round, and takes the median of the ratios.

use crate::isa::{Isa, Kernel, Simd};
use crate::memory::Memory;
use crate::team::Team;
use graph::WeightType;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long one measurement runs.
const LENGTH: Duration = Duration::from_millis(30);
/// Bytes a thread reads between two looks at the clock, as two streams.
const PIECE: usize = 4 << 20;
/// Bytes that prefetches run ahead of each stream.
const AHEAD: usize = 512;
/// Multiply-adds between two looks at the clock.
const FMA_TURNS: usize = 100_000;
/// Chains of multiply-adds: two units of four cycles need eight; twelve fill the registers as a contraction does.
const CHAINS: usize = 12;

struct TwoStreams<'a>(&'a [u8]);

impl Kernel for TwoStreams<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let lines: &[[f32; 8]] = bytemuck::cast_slice(&self.0[..self.0.len() / 128 * 128]);
        let (first, second) = lines.split_at(lines.len() / 2);
        let mut sums = [s.zero(); 4];
        for (a, b) in first.as_chunks::<2>().0.iter().zip(second.as_chunks::<2>().0) {
            for (stream, line) in [a, b].into_iter().enumerate() {
                s.prefetch(line.as_ptr().cast::<u8>().wrapping_add(AHEAD));
                for (half, eight) in line.iter().enumerate() {
                    sums[stream * 2 + half] = s.max(sums[stream * 2 + half], s.load(eight));
                }
            }
        }
        black_box(sums.map(|sum| s.lanes(sum)));
    }
}

struct OneStream<'a>(&'a [u8]);

impl Kernel for OneStream<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (lines, _) = self.0.as_chunks::<128>();
        let mut sums = [s.zero(); 4];
        for line in lines {
            let eights: &[[f32; 8]] = bytemuck::cast_slice(line);
            for (sum, eight) in sums.iter_mut().zip(eights) {
                *sum = s.max(*sum, s.load(eight));
            }
        }
        black_box(sums.map(|sum| s.lanes(sum)));
    }
}

struct MultiplyAdd;

impl Kernel for MultiplyAdd {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (factor, term) = (s.splat(black_box(0.5)), s.splat(black_box(0.25)));
        let mut chains = [s.splat(black_box(1.0)); CHAINS];
        for _ in 0..FMA_TURNS {
            for chain in &mut chains {
                *chain = s.fma(*chain, factor, term);
            }
        }
        black_box(chains.map(|chain| s.lanes(chain)));
    }
}

/// Products of bytes, or of halves of words, and their sums.
struct Products {
    bytes: bool,
}

impl Kernel for Products {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (factor, term) = (s.splat_word(black_box(0x0101_0101)), s.splat_word(black_box(3)));
        let mut chains = [s.splat_word(black_box(1)); CHAINS];
        for _ in 0..FMA_TURNS {
            for chain in &mut chains {
                *chain = if self.bytes {
                    s.add_halves(s.multiply_bytes(*chain, factor), term)
                } else {
                    s.add_words(s.multiply_halves(*chain, factor), term)
                };
            }
        }
        black_box(chains.map(|chain| s.lanes(s.floats(chain))));
    }
}

/// Runs `piece` on all threads until `length` is over; pieces a second of wall time.
fn rate(team: &Team, length: Duration, piece: &(dyn Fn(usize) + Sync)) -> f64 {
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    team.run(&|_| {
        while start.elapsed() < length {
            piece(next.fetch_add(1, Ordering::Relaxed));
        }
    });
    next.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

/// Bytes a second that the team reads from `memory`: in two streams a thread with prefetch, or in one without, whichever is faster.
/// The memory must be far larger than the last cache, and must have been written: pages never written all read the same zeros.
pub fn read_bandwidth(team: &Team, memory: &Memory) -> f64 {
    let (bytes, isa) = (memory.as_bytes(), Isa::detect());
    let piece_len = PIECE.min(bytes.len());
    let pieces = (bytes.len() / piece_len.max(1)).max(1);
    let piece = |number: usize| &bytes[number % pieces * piece_len..][..piece_len];
    let two = rate(team, LENGTH / 2, &|number| isa.run(TwoStreams(piece(number))));
    let one = rate(team, LENGTH / 2, &|number| isa.run(OneStream(piece(number))));
    two.max(one) * piece_len as f64
}

/// f32 operations a second that the team does in fused multiply-adds, two each.
pub fn fma_peak(team: &Team) -> f64 {
    let isa = Isa::detect();
    rate(team, LENGTH, &|_| isa.run(MultiplyAdd)) * (FMA_TURNS * CHAINS * 8 * 2) as f64
}

/// Operations a second that the team does in products of integers and their sums, as contractions with weights of this type make them: 16 bits
/// by 16 where codes have 8 bits, 8 bits by 8 with sums of 16 where they have 4.
pub fn integer_peak(team: &Team, weights: WeightType) -> f64 {
    let (isa, bytes) = (Isa::detect(), weights == WeightType::Q4_0);
    let operations = if bytes { 64 } else { 32 };
    rate(team, LENGTH, &|_| isa.run(Products { bytes })) * (FMA_TURNS * CHAINS * operations) as f64
}

/// What [`compare`] found.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Comparison {
    /// Median over the kept rounds of the work's rate over the mean of its two ceilings.
    pub share: f64,
    /// Lowest and highest share kept.
    pub range: (f64, f64),
    /// Median ceiling.
    pub ceiling: f64,
    /// Median rate of the work.
    pub rate: f64,
    /// Rounds kept.
    pub kept: usize,
    /// Rounds whose two ceilings differed by over 10 %: the machine changed under them.
    pub dropped: usize,
}

/// Measures ceiling, work, ceiling, `rounds` times; both give a rate in the same unit. If every round was dropped, all count.
pub fn compare(rounds: usize, ceiling: &mut dyn FnMut() -> f64, work: &mut dyn FnMut() -> f64) -> Comparison {
    let measured: Vec<[f64; 3]> = (0..rounds.max(1)).map(|_| [ceiling(), work(), ceiling()]).collect();
    let steady = |round: &&[f64; 3]| (round[0] - round[2]).abs() <= 0.1 * round[0].max(round[2]);
    let mut kept: Vec<&[f64; 3]> = measured.iter().filter(steady).collect();
    let dropped = measured.len() - kept.len();
    if kept.is_empty() {
        kept = measured.iter().collect();
    }
    let top = |round: &[f64; 3]| (round[0] + round[2]) / 2.0;
    let mut shares: Vec<f64> = kept.iter().map(|round| round[1] / top(round)).collect();
    let share = median(&mut shares);
    Comparison {
        share,
        range: (shares[0], shares[shares.len() - 1]),
        ceiling: median(&mut kept.iter().map(|round| top(round)).collect::<Vec<_>>()),
        rate: median(&mut kept.iter().map(|round| round[1]).collect::<Vec<_>>()),
        kept: measured.len() - dropped,
        dropped,
    }
}

/// The median; sorts the values. There must be at least one.
pub fn median(values: &mut [f64]) -> f64 {
    assert!(!values.is_empty(), "a median is of something");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::samples::team;

    #[test]
    fn limits_are_positive_on_any_memory() {
        for bytes in [1, 1000, 1 << 20] {
            assert!(read_bandwidth(&team(2), &Memory::zeroed(bytes)) > 0.0);
        }
        assert!(fma_peak(&team(2)) > 0.0);
        assert!(
            [WeightType::Q8_0, WeightType::Q4_0]
                .map(|weights| integer_peak(&team(2), weights))
                .into_iter()
                .all(|peak| peak > 0.0)
        );
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn unsteady_rounds_are_dropped_and_counted() {
        let mut ceilings = [10.0, 10.0, 10.0, 20.0, 10.0, 10.4].into_iter();
        let mut work = [5.0, 9.0, 5.1].into_iter();
        let mut next = || ceilings.next().expect("two a round");
        let found = compare(3, &mut next, &mut || work.next().expect("one a round"));
        assert_eq!((found.kept, found.dropped), (2, 1));
        assert!((found.share - 0.5).abs() < 1e-9 && found.range.1 <= 0.5 + 1e-9, "{found:?}");
    }
}
