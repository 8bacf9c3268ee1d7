//! Plain loops, angles in f32 and their functions in f64.

use graph::Rope;

/// One row's heads, turned.
pub(super) fn rope(x: &[f32], head_dim: usize, rope: &Rope, position: u32) -> Vec<f32> {
    let (mut y, half) = (x.to_vec(), rope.dims as usize / 2);
    for head in y.chunks_mut(head_dim) {
        for (i, frequency) in rope.frequencies().iter().enumerate() {
            let angle = f64::from(position as f32 * frequency);
            let (sine, cosine) = angle.sin_cos();
            let amplitude = f64::from(rope.amplitude());
            let (a, b) = (f64::from(head[i]) * amplitude, f64::from(head[i + half]) * amplitude);
            head[i] = (a * cosine - b * sine) as f32;
            head[i + half] = (b * cosine + a * sine) as f32;
        }
    }
    y
}
