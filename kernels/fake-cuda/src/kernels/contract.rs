//! Contractions.

use crate::arguments::Arguments;

/// The tile of outputs and of rows of a program: eight tiles of rows pass over a tile of outputs together.
fn tiles([x, y, _]: [usize; 3], [outputs, rows, _]: [u32; 3]) -> (usize, usize) {
    let (outputs, rows) = (outputs as usize, rows as usize);
    let number = y * outputs + x;
    let first = number / (8 * outputs) * 8;
    let height = (rows - first).min(8);
    let inside = number - first * outputs;
    (inside / height, first + inside % height)
}

pub(super) fn contract(a: &Arguments<'_>, id: [usize; 3], grid: [u32; 3]) {
    let (outputs, rows) = tiles(id, grid);
    let [n, k, part] = ["n", "k", "part"].map(|name| a.int(name));
    let [block_n, block_r] = ["BLOCK_N", "BLOCK_R"].map(|name| a.constant(name));
    let count = a.buffer("rows").int(0) as usize;
    let part = if a.constant("PARTED") == 1 { part } else { k };
    let (x, w, y) = (a.buffer("x"), a.buffer("w"), a.buffer("y"));
    for row in rows * block_r..count.min((rows + 1) * block_r) {
        let left: Vec<f32> = (0..k).map(|term| w.rounded(x.get(row * k + term))).collect();
        for output in outputs * block_n..n.min((outputs + 1) * block_n) {
            let of = |begin: usize| {
                let terms = begin..(begin + part).min(k);
                terms.fold(0.0f32, |sum, term| left[term].mul_add(w.get(output * k + term), sum))
            };
            y.set(row * n + output, (0..k).step_by(part).map(of).fold(0.0, |sum, own| sum + own));
        }
    }
}

pub(super) fn contract_part(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let [n, k, part, apart] = ["n", "k", "part", "apart"].map(|name| a.int(name));
    let [block_n, block_r] = ["BLOCK_N", "BLOCK_R"].map(|name| a.constant(name));
    let count = a.buffer("rows").int(0) as usize;
    let (x, w, parts) = (a.buffer("x"), a.buffer("w"), a.buffer("parts"));
    let terms = id[2] * part..k.min((id[2] + 1) * part);
    for row in id[1] * block_r..count.min((id[1] + 1) * block_r) {
        for output in id[0] * block_n..n.min((id[0] + 1) * block_n) {
            let product = |sum: f32, term| w.rounded(x.get(row * k + term)).mul_add(w.get(output * k + term), sum);
            parts.set(id[2] * apart + row * n + output, terms.clone().fold(0.0, product));
        }
    }
}

pub(super) fn merge_parts(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let [n, count, apart, block] = [a.int("n"), a.int("count"), a.int("apart"), a.constant("BLOCK")];
    let row = id[0];
    if row as i64 >= a.buffer("rows").int(0) {
        return;
    }
    let (parts, y) = (a.buffer("parts"), a.buffer("y"));
    for column in id[1] * block..n.min((id[1] + 1) * block) {
        let sum = (0..count).fold(0.0, |sum, number| sum + parts.get(number * apart + row * n + column));
        y.set(row * n + column, sum);
    }
}

pub(super) fn round_rows(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let (row, width, block) = (id[0], a.int("width"), a.constant("BLOCK"));
    if row as i64 >= a.buffer("rows").int(0) {
        return;
    }
    let (x, y) = (a.buffer("x"), a.buffer("y"));
    (id[1] * block..width.min((id[1] + 1) * block)).for_each(|at| y.set(row * width + at, x.get(row * width + at)));
}
