//! Plain loops, sums in f64.

/// x `[rows, k]` times w `[n, k]` transposed, and Σ|w x| of each output.
pub(super) fn contract(x: &[f32], w: &[f32], k: usize) -> (Vec<f32>, Vec<f32>) {
    let outputs = |x: &[f32]| {
        let dot = |w: &[f32], f: fn(f64) -> f64| -> f32 {
            x.iter().zip(w).map(|(&x, &w)| f(f64::from(x) * f64::from(w))).sum::<f64>() as f32
        };
        w.chunks(k).map(|w| (dot(w, |v| v), dot(w, f64::abs))).collect::<Vec<_>>()
    };
    x.chunks(k).flat_map(outputs).unzip()
}
