//! The random number of a draw: a function of (seed, request, sample, position) and of nothing else.

use crate::ticket::Sampling;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A number in `[0, 1)` with 53 random bits, the same in every release.
///
/// The key of ChaCha8 is seed, request and sample, little endian, then zeros; its stream is the position; the number is the
/// first 64 bits without the lowest 11.
pub fn uniform(sampling: &Sampling, position: u32) -> f64 {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&sampling.seed.to_le_bytes());
    key[8..16].copy_from_slice(&sampling.request.to_le_bytes());
    key[16..20].copy_from_slice(&sampling.sample.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(u64::from(position));
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}
