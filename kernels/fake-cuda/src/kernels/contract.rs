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

/// One program of a contraction with up to three weights: which of them, and its rows and outputs.
pub(super) struct Tile {
    /// 0, 1 or 2.
    pub(super) which: usize,
    outputs: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    /// Its number, the outputs and rows of a tile, and where its rows begin.
    at: (usize, usize, usize),
    run: usize,
    runs: usize,
}

impl Tile {
    pub(super) fn new(a: &Arguments<'_>, id: [usize; 3], grid: [u32; 3]) -> Self {
        let (mut outputs, row_tile) = tiles(id, grid);
        let number = row_tile * grid[0] as usize + outputs;
        let [block_n, block_r] = ["BLOCK_N", "BLOCK_R"].map(|name| a.constant(name));
        let widths = ["n0", "n1", "n2"].map(|name| a.int(name));
        let mut which = 0;
        while outputs >= widths[which].div_ceil(block_n) {
            outputs -= widths[which].div_ceil(block_n);
            which += 1;
        }
        let count = a.buffer("rows").int(0) as usize;
        let rows = row_tile * block_r..count.min((row_tile + 1) * block_r);
        let outputs = outputs * block_n..widths[which].min((outputs + 1) * block_n);
        Self { which, outputs, rows, at: (number, block_n, block_r), run: id[2], runs: grid[2] as usize }
    }

    /// Of each row and output of the tile, what `sum` makes of the terms of a run, given the row rounded by `rounded`: in runs by one program, or
    /// by the last of several.
    pub(super) fn contract(
        &self,
        a: &Arguments<'_>,
        rounded: impl Fn(f32) -> f32,
        sum: impl Fn(&[f32], usize, std::ops::Range<usize>) -> f32,
    ) {
        let ([k, part, n], x) = (["k", "part", NS[self.which]].map(|name| a.int(name)), a.buffer("x"));
        let y = a.buffer(YS[self.which]);
        let (parted, (number, block_n, block_r)) = (a.constant("PARTED"), self.at);
        let apart = (parted == 2).then(|| (a.buffer("parts"), a.buffer("arrived")));
        let part = if parted == 0 { k } else { part };
        if self.rows.is_empty() {
            return;
        }
        let is_last = apart.as_ref().is_some_and(|(_, arrived)| {
            let now = arrived.int(number) as usize + 1;
            arrived.put_int(number, (now % self.runs) as i32);
            now == self.runs
        });
        for row in self.rows.clone() {
            let left: Vec<f32> = (0..k).map(|term| rounded(x.get(row * k + term))).collect();
            for output in self.outputs.clone() {
                let of = |begin: usize| sum(&left, output, begin..(begin + part).min(k));
                let Some((parts, _)) = &apart else {
                    y.set(row * n + output, (0..k).step_by(part).map(of).fold(0.0, |sum, own| sum + own));
                    continue;
                };
                let at = |run: usize| {
                    let inside = (output - self.outputs.start) * block_r + row - self.rows.start;
                    (number * self.runs + run) * block_n * block_r + inside
                };
                parts.set(at(self.run), of(self.run * part));
                if is_last {
                    y.set(row * n + output, (0..self.runs).fold(0.0, |sum, run| sum + parts.get(at(run))));
                }
            }
        }
    }
}

const NS: [&str; 3] = ["n0", "n1", "n2"];
const YS: [&str; 3] = ["y0", "y1", "y2"];

pub(super) fn contract(a: &Arguments<'_>, id: [usize; 3], grid: [u32; 3]) {
    let tile = Tile::new(a, id, grid);
    let (k, w) = (a.int("k"), a.buffer(["w0", "w1", "w2"][tile.which]));
    let product = |left: &[f32], output: usize, terms: std::ops::Range<usize>| {
        terms.fold(0.0f32, |sum, term| left[term].mul_add(w.get(output * k + term), sum))
    };
    tile.contract(a, |x| w.rounded(x), product);
}

pub(super) fn round_rows(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let (row, width, block) = (id[0], a.int("width"), a.constant("BLOCK"));
    if row as i64 >= a.buffer("rows").int(0) {
        return;
    }
    let (x, y) = (a.buffer("x"), a.buffer("y"));
    (id[1] * block..width.min((id[1] + 1) * block)).for_each(|at| y.set(row * width + at, x.get(row * width + at)));
}
