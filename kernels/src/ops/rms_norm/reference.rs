//! Plain loops, sums in f64.

/// Norm of each run of w's length.
pub(super) fn rms_norm(x: &[f32], w: &[f32], eps: f32) -> Vec<f32> {
    let norm = |run: &[f32]| {
        let mean = run.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / run.len() as f64;
        let scale = 1.0 / (mean + f64::from(eps)).sqrt();
        run.iter().zip(w).map(|(&x, &w)| (f64::from(x) * scale * f64::from(w)) as f32).collect::<Vec<_>>()
    };
    x.chunks(w.len()).flat_map(norm).collect()
}
