//! Norms.

use crate::arguments::Arguments;

/// y = the norm of a run of values, times its weights.
fn normalised(a: &Arguments<'_>, values: &[f32], weight: impl Fn(usize) -> f32, mut put: impl FnMut(usize, f32)) {
    let n = values.len() as f64;
    let mean = if a.constant("LAYER") == 1 { values.iter().map(|v| f64::from(*v)).sum::<f64>() / n } else { 0.0 };
    let square = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (square + f64::from(a.float("eps"))).sqrt();
    for (at, value) in values.iter().enumerate() {
        put(at, ((f64::from(*value) - mean) * scale) as f32 * (weight(at) + a.float("offset")));
    }
}

pub(super) fn norm(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let [runs, turns, n, at_once] = [a.int("runs"), a.int("turns"), a.int("n"), a.constant("RUNS")];
    let (rows, x, w, y) = (a.buffer("rows").int(0) as usize, a.buffer("x"), a.buffer("w"), a.buffer("y"));
    for run in (id[0] * at_once..(id[0] + 1) * at_once).take_while(|run| *run < rows * runs) {
        let values: Vec<f32> = (0..n.min(a.constant("BLOCK"))).map(|at| x.get(run * n + at)).collect();
        normalised(a, &values, |at| w.get(run % turns * n + at), |at, value| y.set(run * n + at, value));
    }
}

pub(super) fn add_norm(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let (row, n) = (id[0], a.int("n"));
    if row as i64 >= a.buffer("rows").int(0) {
        return;
    }
    let [first, second, sum, w, y] = ["a", "b", "sum", "w", "y"].map(|name| a.buffer(name));
    let values: Vec<f32> =
        (0..n.min(a.constant("BLOCK"))).map(|at| first.get(row * n + at) + second.get(row * n + at)).collect();
    values.iter().enumerate().for_each(|(at, value)| sum.set(row * n + at, *value));
    normalised(a, &values, |at| w.get(at), |at, value| y.set(row * n + at, value));
}
