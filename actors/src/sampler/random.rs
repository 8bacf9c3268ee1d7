//! The random number of a draw: a function of (seed, request, sample, position) and of nothing else.

use crate::ticket::Sampling;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A number in `[0, 1)` with 53 random bits, the same in every release.
///
/// The key of ChaCha8 is seed, request and sample, little endian, then zeros; its stream is the position; the number is the
/// first 64 bits without the lowest 11.
pub fn uniform(sampling: &Sampling, position: u32) -> f64 {
    let mut bytes = [0; 32];
    for (at, word) in bytes.chunks_exact_mut(4).zip(key(sampling)) {
        at.copy_from_slice(&word.to_le_bytes());
    }
    let mut random = ChaCha8Rng::from_seed(bytes);
    random.set_stream(u64::from(position));
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The words of the key that are not always zero: seed and request, of each the low word first, and sample.
pub fn key(sampling: &Sampling) -> [u32; 5] {
    let [seed, request] = [sampling.seed, sampling.request];
    [seed as u32, (seed >> 32) as u32, request as u32, (request >> 32) as u32, sampling.sample]
}
