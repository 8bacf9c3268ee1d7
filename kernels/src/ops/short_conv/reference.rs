//! Plain loops over a whole sequence.

/// `x` `[rows, channels]`, `w` `[channels, taps]`.
pub(super) fn convolve(x: &[f32], w: &[f32], channels: usize) -> Vec<f32> {
    let taps = w.len() / channels;
    let row_of = |i: usize| (i / channels, i % channels);
    let value = |i: usize| {
        let (row, channel) = row_of(i);
        let term = |tap: usize| {
            let at = (row + tap).checked_sub(taps - 1)?;
            Some(f64::from(w[channel * taps + tap]) * f64::from(x[at * channels + channel]))
        };
        (0..taps).filter_map(term).sum::<f64>() as f32
    };
    (0..x.len()).map(value).collect()
}
