//! Plain loops, angles in f32 and their functions in f64.

use graph::{Pairing, Rope};

/// One row's heads, turned.
pub(super) fn rope(x: &[f32], head_dim: usize, rope: &Rope, position: u32) -> Vec<f32> {
    let (mut y, half) = (x.to_vec(), rope.dims as usize / 2);
    for head in y.chunks_mut(head_dim) {
        for (i, frequency) in rope.frequencies().iter().enumerate() {
            let angle = f64::from(position as f32 * frequency);
            let (sine, cosine) = angle.sin_cos();
            let amplitude = f64::from(rope.amplitude());
            let (first, second) = match rope.pairing {
                Pairing::Halves => (i, i + half),
                Pairing::Neighbours => (2 * i, 2 * i + 1),
            };
            let (a, b) = (f64::from(head[first]) * amplitude, f64::from(head[second]) * amplitude);
            head[first] = (a * cosine - b * sine) as f32;
            head[second] = (b * cosine + a * sine) as f32;
        }
    }
    y
}
