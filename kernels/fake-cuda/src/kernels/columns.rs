//! Kernels that go over a row in blocks of columns.

use crate::arguments::Arguments;
use crate::wrong;
use std::ops::Range;

/// The row of a program, unless the step has fewer, and its columns of `width`.
fn place(a: &Arguments<'_>, id: [usize; 3], (rows, width): (&str, usize)) -> Option<(usize, Range<usize>)> {
    let block = a.constant("BLOCK");
    let columns = id[1] * block..width.min((id[1] + 1) * block);
    ((id[0] as i64) < a.buffer(rows).int(0)).then_some((id[0], columns))
}

/// f by its number in `ops/unary/triton.py`.
fn function(a: &Arguments<'_>, x: f32) -> f32 {
    let (first, second) = (a.float("first"), a.float("second"));
    let logistic = |x: f32| 1.0 / (1.0 + (-x).exp());
    match a.signed("f") {
        0 => x * logistic(x),
        1 => (0.5 * f64::from(x) * (1.0 + erf(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2))) as f32,
        2 => x * logistic(1.595_769 * x + 0.071_354_814 * x * x * x),
        3 => x.max(0.0),
        4 => x.max(0.0) * x.max(0.0),
        5 => logistic(x),
        6 => x * first,
        7 => first * (x / first).tanh(),
        8 => x.min(second) * logistic(first * x.min(second)),
        9 => x.clamp(-first, first) + 1.0,
        other => wrong(&format!("there is no function {other}")),
    }
}

/// The error function by its series, or by its continued fraction where that is shorter (Abramowitz and Stegun, 7.1.5 and 7.1.14).
fn erf(x: f64) -> f64 {
    let size = x.abs();
    let value = if size < 3.0 {
        let (mut term, mut sum) = (size, size);
        for n in 1..100 {
            term *= -size * size / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..60).rev().fold(size, |under, n| size + f64::from(n) / 2.0 / under);
        1.0 - (-size * size).exp() / fraction / std::f64::consts::PI.sqrt()
    };
    value.copysign(x)
}

pub(super) fn unary(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let width = a.int("width");
    let Some((row, columns)) = place(a, id, ("rows", width)) else { return };
    let (x, y) = (a.buffer("x"), a.buffer("y"));
    columns.map(|column| row * width + column).for_each(|at| y.set(at, function(a, x.get(at))));
}

pub(super) fn gated(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let width = a.int("width");
    let Some((row, columns)) = place(a, id, ("rows", width)) else { return };
    let (gate, up, y) = (a.buffer("gate"), a.buffer("up"), a.buffer("y"));
    columns.map(|column| row * width + column).for_each(|at| y.set(at, function(a, gate.get(at)) * up.get(at)));
}

fn both(a: &Arguments<'_>, id: [usize; 3], f: fn(f32, f32) -> f32) {
    let width = a.int("width");
    let Some((row, columns)) = place(a, id, ("rows", width)) else { return };
    let (first, second, y) = (a.buffer("a"), a.buffer("b"), a.buffer("y"));
    columns.map(|column| row * width + column).for_each(|at| y.set(at, f(first.get(at), second.get(at))));
}

pub(super) fn add(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    both(a, id, |a, b| a + b);
}

pub(super) fn multiply(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    both(a, id, |a, b| a * b);
}

pub(super) fn bias(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let (width, n) = (a.int("width"), a.int("n"));
    let Some((row, columns)) = place(a, id, ("rows", width)) else { return };
    let (x, w, y) = (a.buffer("x"), a.buffer("w"), a.buffer("y"));
    columns.for_each(|column| y.set(row * width + column, x.get(row * width + column) + w.get(column % n)));
}

pub(super) fn gather(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let (n, k) = (a.signed("n"), a.int("k"));
    let Some((row, columns)) = place(a, id, ("rows", k)) else { return };
    let (ids, table, y) = (a.buffer("ids"), a.buffer("table"), a.buffer("y"));
    let entry = ids.int(row) - a.signed("first");
    let held = (0..n).contains(&entry);
    columns.for_each(|column| y.set(row * k + column, if held { table.get(entry as usize * k + column) } else { 0.0 }));
}

pub(super) fn slice_blocks(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let [x_width, width, block, begin, run] = ["x_width", "y_width", "block", "begin", "run"].map(|name| a.int(name));
    let Some((row, columns)) = place(a, id, ("rows", width)) else { return };
    let (x, y) = (a.buffer("x"), a.buffer("y"));
    let source = |column: usize| row * x_width + column / run * block + begin + column % run;
    columns.for_each(|column| y.set(row * width + column, x.get(source(column))));
}

pub(super) fn concat(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let [width, a_run, b_run] = ["width", "a_run", "b_run"].map(|name| a.int(name));
    let Some((row, columns)) = place(a, id, ("rows", width)) else { return };
    let (first, second, y) = (a.buffer("a"), a.buffer("b"), a.buffer("y"));
    let runs = width / (a_run + b_run);
    for column in columns {
        let (number, inside) = (column / (a_run + b_run), column % (a_run + b_run));
        let value = match inside.checked_sub(a_run) {
            None => first.get((row * runs + number) * a_run + inside),
            Some(inside) => second.get((row * runs + number) * b_run + inside),
        };
        y.set(row * width + column, value);
    }
}

pub(super) fn sampled_rows(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let width = a.int("width");
    let Some((number, columns)) = place(a, id, ("count", width)) else { return };
    let (sampled, x, y) = (a.buffer("sampled"), a.buffer("x"), a.buffer("y"));
    let row = sampled.int(number) as usize;
    columns.for_each(|column| y.set(number * width + column, x.get(row * width + column)));
}
