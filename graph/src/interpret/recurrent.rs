//! Ops with a state: plain loops from the first row to the last.

use super::{Interpreter, Tensor};
use crate::axis::ValueId;
use crate::op::{Op, Recurrence};

/// Each channel over its last rows: x `[rows, channels…]`, w `[channels…, taps]`.
pub(super) fn convolve(x: &Tensor, w: &[f32]) -> Vec<f32> {
    let channels = x.data.len() / x.dims[0].max(1);
    let taps = w.len() / channels.max(1);
    let value = |at: usize| {
        let (row, channel) = (at / channels, at % channels);
        let term = |tap: usize| {
            let from = (row + tap).checked_sub(taps - 1)?;
            Some(f64::from(w[channel * taps + tap]) * f64::from(x.data[from * channels + channel]))
        };
        (0..taps).filter_map(term).sum::<f64>() as f32
    };
    (0..x.data.len()).map(value).collect()
}

impl Interpreter<'_> {
    /// A scan by its recurrence.
    pub(super) fn scan(&self, op: &Op) -> Vec<f32> {
        let Op::Scan { q, k, v, dt, beta, how, .. } = *op else { panic!("a scan is interpreted") };
        let wide = |id: ValueId| self.value(id).data.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let weights: Vec<Vec<f32>> = op.params().iter().map(|&p| self.weight(p)).collect();
        let [rows, heads, group, value_dim] = self.value(v).dims[..] else { panic!("values have four axes") };
        let (values, key_dim) = (heads * group, self.value(q).dims[2]);
        let (q, k, v, dt, beta) = (wide(q), wide(k), wide(v), wide(dt), beta.map(wide));
        let mut y = vec![0.0; v.len()];
        for head in 0..values {
            let mut state = vec![0.0; key_dim * value_dim];
            let rate = f64::from(weights[0][head]).exp();
            for row in 0..rows {
                let (keys, place) = ((row * heads + head / group) * key_dim, row * values + head);
                let (q, k) = (&q[keys..keys + key_dim], &k[keys..keys + key_dim]);
                let v = &v[place * value_dim..(place + 1) * value_dim];
                let delta = dt[place].exp().ln_1p();
                let (q, k, delta) = match how {
                    Recurrence::Selective { low, high } => {
                        (q.to_vec(), k.to_vec(), delta.max(low.into()).min(high.map_or(f64::INFINITY, f64::from)))
                    }
                    Recurrence::Delta => (unit(q, 1.0 / (key_dim as f64).sqrt()), unit(k, 1.0), delta),
                };
                let decay = (-rate * delta).exp();
                state.iter_mut().for_each(|s| *s *= decay);
                for (d, v) in v.iter().enumerate() {
                    let through = |state: &[f64], x: &[f64]| {
                        x.iter().enumerate().map(|(n, x)| x * state[n * value_dim + d]).sum::<f64>()
                    };
                    let u = match &beta {
                        Some(beta) => (v - through(&state, &k)) / (1.0 + (-beta[place]).exp()),
                        None => delta * v,
                    };
                    k.iter().enumerate().for_each(|(n, k)| state[n * value_dim + d] += k * u);
                    let skip = weights.get(1).map_or(0.0, |skip| f64::from(skip[head]) * v);
                    y[place * value_dim + d] = (through(&state, &q) + skip) as f32;
                }
            }
        }
        y
    }
}

/// x · scale / √(Σx² + 1e-6).
fn unit(x: &[f64], scale: f64) -> Vec<f64> {
    let length = (x.iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt();
    x.iter().map(|x| x * scale / length).collect()
}
