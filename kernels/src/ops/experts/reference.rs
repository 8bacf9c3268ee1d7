//! Plain loops, sums in f64.

use super::Shape;

/// For each row its choices: expert and gate.
fn choices(gates: &[f32], shape: Shape) -> Vec<Vec<(usize, f32)>> {
    let row = |gates: &[f32]| {
        let all = gates.iter().enumerate().filter(|(_, gate)| **gate != 0.0);
        all.map(|(expert, gate)| (expert, *gate)).take(shape.choices).collect()
    };
    gates.chunks(shape.experts).map(row).collect()
}

fn dot(x: &[f32], w: &[f32]) -> f64 {
    x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum()
}

/// y `[rows, choices, n]` of x and w `[experts, n, k]`.
pub(super) fn contract((x, gates): (&[f32], &[f32]), shape: Shape, w: &[f32], k: usize) -> Vec<f32> {
    let n = w.len() / shape.experts / k;
    let mut y = vec![];
    for (row, choices) in choices(gates, shape).into_iter().enumerate() {
        let missing = shape.choices - choices.len();
        for (choice, (expert, _)) in choices.into_iter().enumerate() {
            let x = &x[(row * shape.parts + choice.min(shape.parts - 1)) * k..][..k];
            y.extend((0..n).map(|i| dot(x, &w[(expert * n + i) * k..][..k]) as f32));
        }
        y.resize(y.len() + missing * n, 0.0);
    }
    y
}

/// y `[rows, n]` of x `[rows, choices, k]` and w `[experts, n, k]`.
pub(super) fn combine((x, gates): (&[f32], &[f32]), shape: Shape, w: &[f32], k: usize) -> Vec<f32> {
    let n = w.len() / shape.experts / k;
    let mut y = vec![];
    for (row, choices) in choices(gates, shape).into_iter().enumerate() {
        let term = |i: usize, (choice, (expert, gate)): (usize, &(usize, f32))| {
            f64::from(*gate) * dot(&x[(row * shape.choices + choice) * k..][..k], &w[(expert * n + i) * k..][..k])
        };
        y.extend((0..n).map(|i| choices.iter().enumerate().map(|each| term(i, each)).sum::<f64>() as f32));
    }
    y
}
