//! Attention over pages of 16 positions.

use crate::arguments::{Arguments, Buffer};

const PAGE: usize = 16;
const SPLIT: i64 = 256;

pub(super) fn append(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let (row, block) = (id[0], a.constant("BLOCK"));
    if row as i64 >= a.buffer("rows").int(0) {
        return;
    }
    let [kv_heads, head_dim] = ["kv_heads", "head_dim"].map(|name| a.int(name));
    let position = a.buffer("row_position").int(row) as usize;
    let page = page(a, row, position);
    if page < 0 {
        return;
    }
    let [k, v, keys, values] = ["k", "v", "keys", "values"].map(|name| a.buffer(name));
    let width = kv_heads * head_dim;
    for column in id[1] * block..width.min((id[1] + 1) * block) {
        let head = page as usize * kv_heads + column / head_dim;
        let to = (head * PAGE + position % PAGE) * head_dim + column % head_dim;
        keys.set(to, k.get(row * width + column));
        values.set(to, v.get(row * width + column));
    }
}

/// The page of a position of the row's sequence.
fn page(a: &Arguments<'_>, row: usize, position: usize) -> i64 {
    let span = a.buffer("row_span").int(row) as usize;
    let first = a.buffer("span_first_page").int(span) as usize;
    a.buffer("table").int(first + position / PAGE)
}

/// One query's way over positions: the largest score in units of log 2, the sum of 2^(s - m), and the sum of 2^(s - m) v.
struct Way {
    m: f32,
    l: f32,
    o: Vec<f32>,
}

/// A layer's pages and how they are attended to.
struct Layer<'a> {
    a: &'a Arguments<'a>,
    keys: Buffer,
    values: Buffer,
    first_page: usize,
    kv_head: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Layer<'_> {
    fn at(&self, position: usize) -> Option<usize> {
        let page = self.a.buffer("table").int(self.first_page + position / PAGE);
        let head = |page: usize| page * self.kv_heads + self.kv_head;
        (page >= 0).then(|| (head(page as usize) * PAGE + position % PAGE) * self.head_dim)
    }

    fn score(&self, query: &[f32], at: usize) -> f32 {
        let dot: f32 = query.iter().enumerate().map(|(dim, q)| q * self.keys.get(at + dim)).sum();
        let (scaled, cap) = (dot * self.a.float("scale"), self.a.float("cap"));
        let shaped = if cap > 0.0 { cap * (scaled / cap).tanh() } else { scaled };
        shaped * std::f32::consts::LOG2_E
    }

    /// Over positions `from..end`, from an absolute block of positions to the next.
    fn over(&self, query: &[f32], from: i64, end: i64, block: i64) -> Way {
        let query: Vec<f32> = query.iter().map(|q| self.keys.rounded(*q)).collect();
        let mut way = Way { m: f32::NEG_INFINITY, l: 0.0, o: vec![0.0; self.head_dim] };
        for begin in (from / block * block..end).step_by(block as usize) {
            let positions = begin.max(from)..end.min(begin + block);
            let there: Vec<usize> = positions.filter_map(|position| self.at(position as usize)).collect();
            let scores: Vec<f32> = there.iter().map(|at| self.score(&query, *at)).collect();
            let top = scores.iter().copied().fold(way.m, f32::max);
            if top == f32::NEG_INFINITY {
                continue;
            }
            let factor = (way.m - top).exp2();
            let weights: Vec<f32> = scores.iter().map(|score| (score - top).exp2()).collect();
            way.l = way.l * factor + weights.iter().sum::<f32>();
            for (dim, o) in way.o.iter_mut().enumerate() {
                let value = |(at, weight): (&usize, &f32)| self.values.rounded(*weight) * self.values.get(at + dim);
                *o = *o * factor + there.iter().zip(&weights).map(value).sum::<f32>();
            }
            way.m = top;
        }
        way
    }
}

/// The first position that a row sees.
fn low(a: &Arguments<'_>, position: i64) -> i64 {
    (position - a.signed("window") + 1).max(0)
}

pub(super) fn prompt(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let tiles = a.buffer("tiles").int(0);
    let tile = tiles - 1 - id[0] as i64;
    if tile < 0 {
        return;
    }
    let list = |name: &str, at: usize| a.buffer(name).int(at);
    let (span, first) = (list("tile_span", tile as usize) as usize, list("tile_row", tile as usize));
    let start = list("span_start", span);
    let rows = (list("span_prompt", span) - start).min(list("span_rows", span));
    let [kv_heads, group, head_dim] = ["kv_heads", "group", "head_dim"].map(|name| a.int(name));
    let head = id[1];
    let layer = Layer {
        a,
        keys: a.buffer("keys"),
        values: a.buffer("values"),
        first_page: list("span_first_page", span) as usize,
        kv_head: head / group,
        kv_heads,
        head_dim,
    };
    let (q, y) = (a.buffer("q"), a.buffer("y"));
    for own in first..rows.min(first + a.constant("BLOCK_M") as i64) {
        let (position, row) = (start + own, (list("span_first_row", span) + own) as usize);
        let begin = (row * kv_heads * group + head) * head_dim;
        let query: Vec<f32> = (0..head_dim).map(|dim| q.get(begin + dim)).collect();
        let mut way = layer.over(&query, low(a, position), position + 1, a.constant("BLOCK_P") as i64);
        if a.int("has_sinks") != 0 {
            let sink = a.buffer("sinks").get(head) * std::f32::consts::LOG2_E;
            let top = way.m.max(sink);
            let factor = (way.m - top).exp2();
            way.l = way.l * factor + (sink - top).exp2();
            way.o.iter_mut().for_each(|o| *o *= factor);
        }
        way.o.iter().enumerate().for_each(|(dim, o)| y.set(begin + dim, o / way.l));
    }
}

/// The row of a program over generated rows.
fn generated_row(a: &Arguments<'_>, id: [usize; 3]) -> Option<usize> {
    ((id[0] as i64) < a.buffer("count").int(0)).then(|| a.buffer("generated_rows").int(id[0]) as usize)
}

pub(super) fn generated(a: &Arguments<'_>, id: [usize; 3], grid: [u32; 3]) {
    let Some(row) = generated_row(a, id) else { return };
    let position = a.buffer("row_position").int(row);
    let (split, low) = (id[2] as i64, low(a, position));
    let end = (split * SPLIT + SPLIT).min(position + 1);
    if end <= split * SPLIT || end <= low {
        return;
    }
    let [kv_heads, group, head_dim] = ["kv_heads", "group", "head_dim"].map(|name| a.int(name));
    let at_once = a.constant("GROUP");
    let of_group = group.div_ceil(at_once);
    let (kv_head, first) = (id[1] / of_group, id[1] % of_group * at_once);
    let span = a.buffer("row_span").int(row) as usize;
    let first_page = a.buffer("span_first_page").int(span) as usize;
    let (keys, values) = (a.buffer("keys"), a.buffer("values"));
    let layer = Layer { a, keys, values, first_page, kv_head, kv_heads, head_dim };
    let [q, split_m, split_l, split_o] = ["q", "split_m", "split_l", "split_o"].map(|name| a.buffer(name));
    for member in first..group.min(first + at_once) {
        let head = kv_head * group + member;
        let begin = (row * kv_heads * group + head) * head_dim;
        let query: Vec<f32> = (0..head_dim).map(|dim| q.get(begin + dim)).collect();
        let way = layer.over(&query, low.max(split * SPLIT), end, a.constant("BLOCK_P") as i64);
        let to = (id[0] * kv_heads * group + head) * grid[2] as usize + id[2];
        split_m.set(to, way.m);
        split_l.set(to, way.l);
        way.o.iter().enumerate().for_each(|(dim, o)| split_o.set(to * head_dim + dim, *o));
    }
}

pub(super) fn merge_splits(a: &Arguments<'_>, id: [usize; 3], grid: [u32; 3]) {
    let Some(row) = generated_row(a, id) else { return };
    let position = a.buffer("row_position").int(row);
    let (head, heads) = (id[1], grid[1] as usize);
    let [splits, head_dim] = ["splits", "head_dim"].map(|name| a.int(name));
    let base = (id[0] * heads + head) * splits;
    let seen = (low(a, position) / SPLIT) as usize..=(position / SPLIT) as usize;
    let [split_m, split_l, split_o, y] = ["split_m", "split_l", "split_o", "y"].map(|name| a.buffer(name));
    let sink = (a.int("has_sinks") != 0).then(|| a.buffer("sinks").get(head) * std::f32::consts::LOG2_E);
    let top = seen.clone().map(|split| split_m.get(base + split)).fold(sink.unwrap_or(f32::NEG_INFINITY), f32::max);
    let factors: Vec<(usize, f32)> = seen.map(|split| (split, (split_m.get(base + split) - top).exp2())).collect();
    let l = factors.iter().map(|(split, factor)| factor * split_l.get(base + split)).sum::<f32>();
    let l = l + sink.map_or(0.0, |sink| (sink - top).exp2());
    for dim in 0..head_dim {
        let part = |(split, factor): &(usize, f32)| factor * split_o.get((base + split) * head_dim + dim);
        y.set((row * heads + head) * head_dim + dim, factors.iter().map(part).sum::<f32>() / l);
    }
}
