//! The recurrences in f64, row by row.

use super::cpu::Heads;
use graph::Recurrence;

/// What a sequence is scanned with, as in [`super::Operands`].
pub(super) struct Inputs {
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    pub(super) dt: Vec<f32>,
    pub(super) beta: Option<Vec<f32>>,
    pub(super) a_log: Vec<f32>,
    pub(super) skip: Option<Vec<f32>>,
}

fn unit(x: &[f32], scale: f64) -> Vec<f64> {
    let length = (x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() + 1e-6).sqrt();
    x.iter().map(|&x| f64::from(x) * scale / length).collect()
}

/// The results of a whole sequence.
pub(super) fn scan(heads: Heads, how: Recurrence, inputs: &Inputs) -> Vec<f32> {
    let Heads { heads, group, key_dim, value_dim } = heads;
    let values = heads * group;
    let rows = inputs.dt.len() / values;
    let mut y = vec![0.0; inputs.v.len()];
    for head in 0..values {
        let mut state = vec![0.0; key_dim * value_dim];
        for row in 0..rows {
            let at = (row * heads + head / group) * key_dim;
            let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let (mut q, mut k) = (wide(&inputs.q[at..at + key_dim]), wide(&inputs.k[at..at + key_dim]));
            let place = row * values + head;
            let v: Vec<f64> = inputs.v[place * value_dim..][..value_dim].iter().map(|&v| v.into()).collect();
            let delta = f64::from(inputs.dt[place]).exp().ln_1p();
            let (delta, is_delta) = match how {
                Recurrence::Selective { low, high } => {
                    (delta.max(low.into()).min(high.map_or(f64::INFINITY, f64::from)), false)
                }
                Recurrence::Delta => (delta, true),
            };
            let alpha = (-f64::from(inputs.a_log[head]).exp() * delta).exp();
            state.iter_mut().for_each(|s| *s *= alpha);
            if is_delta {
                k = unit(&inputs.k[at..at + key_dim], 1.0);
                q = unit(&inputs.q[at..at + key_dim], 1.0 / (key_dim as f64).sqrt());
            }
            for d in 0..value_dim {
                let column =
                    |state: &[f64], x: &[f64]| (0..key_dim).map(|n| x[n] * state[n * value_dim + d]).sum::<f64>();
                let u = match &inputs.beta {
                    Some(beta) => (v[d] - column(&state, &k)) / (1.0 + f64::from(-beta[place]).exp()),
                    None => delta * v[d],
                };
                (0..key_dim).for_each(|n| state[n * value_dim + d] += k[n] * u);
                let skip = inputs.skip.as_ref().map_or(0.0, |skip| f64::from(skip[head]));
                y[place * value_dim + d] = (column(&state, &q) + skip * v[d]) as f32;
            }
        }
    }
    y
}
