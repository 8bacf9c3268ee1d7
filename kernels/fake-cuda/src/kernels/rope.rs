//! Rotations.

use crate::arguments::Arguments;

pub(super) fn angles(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let (row, pairs, block) = (id[0], a.int("pairs"), a.constant("BLOCK"));
    if row as i64 >= a.buffer("rows").int(0) {
        return;
    }
    let (position, frequencies, table) = (a.buffer("row_position"), a.buffer("frequencies"), a.buffer("table"));
    for pair in id[1] * block..pairs.min((id[1] + 1) * block) {
        let (sine, cosine) = f64::from(position.int(row) as f32 * frequencies.get(pair)).sin_cos();
        table.set(row * 2 * pairs + pair, cosine as f32 * a.float("amplitude"));
        table.set(row * 2 * pairs + pairs + pair, sine as f32 * a.float("amplitude"));
    }
}

pub(super) fn rope(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let [heads, head_dim, pairs] = ["heads", "head_dim", "pairs"].map(|name| a.int(name));
    let (row, at_once) = (id[0], a.constant("HEADS"));
    if row as i64 >= a.buffer("rows").int(0) {
        return;
    }
    let (x, table, y) = (a.buffer("x"), a.buffer("table"), a.buffer("y"));
    for head in id[1] * at_once..heads.min((id[1] + 1) * at_once) {
        let begin = (row * heads + head) * head_dim;
        let values: Vec<f32> = (0..head_dim.min(a.constant("D"))).map(|at| x.get(begin + at)).collect();
        for pair in 0..pairs {
            let (cosine, sine) = (table.get(row * 2 * pairs + pair), table.get(row * 2 * pairs + pairs + pair));
            let [first, second] =
                if a.constant("NEIGHBOURS") == 1 { [2 * pair, 2 * pair + 1] } else { [pair, pair + pairs] };
            y.set(begin + first, values[first] * cosine - values[second] * sine);
            y.set(begin + second, values[second] * cosine + values[first] * sine);
        }
        (2 * pairs..values.len()).for_each(|at| y.set(begin + at, values[at]));
    }
}
