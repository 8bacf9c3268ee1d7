//! Contractions with weights in blocks, and lookups in them.

use super::contract::Tile;
use crate::arguments::Arguments;
use half::bf16;

/// The weight of an output and a term, without its scale.
type Code<'a> = &'a dyn Fn(usize, usize) -> f32;

fn four<'a>(a: &'a Arguments<'_>, w: &str) -> impl Fn(usize, usize) -> f32 + 'a {
    let (k, w, group) = (a.int("k"), a.buffer(w), a.constant("GROUP"));
    move |output, term| {
        let byte = w.byte(output * (k / 2) + term / (2 * group) * group + term % group);
        f32::from(byte >> (term / group % 2 * 4) & 15) - 8.0
    }
}

fn eight<'a>(a: &'a Arguments<'_>, w: &str) -> impl Fn(usize, usize) -> f32 + 'a {
    let (k, w) = (a.int("k"), a.buffer(w));
    move |output, term| f32::from(w.byte(output * k + term).cast_signed())
}

pub(super) fn contract_blocks(a: &Arguments<'_>, id: [usize; 3], grid: [u32; 3]) {
    let tile = Tile::new(a, id, grid);
    let (w, group) = (["w0", "w1", "w2"][tile.which], a.constant("GROUP"));
    let (scales, n) = (a.buffer(["scales0", "scales1", "scales2"][tile.which]), a.int(["n0", "n1", "n2"][tile.which]));
    let (eight, four) = (eight(a, w), four(a, w));
    let code: Code<'_> = if a.constant("BITS") == 8 { &eight } else { &four };
    let product = |left: &[f32], output: usize, terms: std::ops::Range<usize>| {
        terms.step_by(group).fold(0.0f32, |sum, first| {
            let own = (first..first + group).fold(0.0f32, |own, term| left[term].mul_add(code(output, term), own));
            sum + own * scales.get(first / group * n + output)
        })
    };
    tile.contract(a, |x| bf16::from_f32(x).to_f32(), product);
}

fn gather(a: &Arguments<'_>, id: [usize; 3], code: Code<'_>) {
    let ([n, k], first, [block, group]) =
        (["n", "k"].map(|name| a.int(name)), a.signed("first"), ["BLOCK", "GROUP"].map(|name| a.constant(name)));
    let (scales, y) = (a.buffer("scales"), a.buffer("y"));
    if id[0] as i64 >= a.buffer("rows").int(0) {
        return;
    }
    let entry = a.buffer("ids").int(id[0]) - first;
    let held = usize::try_from(entry).ok().filter(|entry| *entry < n);
    for column in id[1] * block..k.min((id[1] + 1) * block) {
        let value = held.map_or(0.0, |entry| code(entry, column) * scales.get(column / group * n + entry));
        y.set(id[0] * k + column, value);
    }
}

pub(super) fn gather_int4(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    gather(a, id, &four(a, "w"));
}

pub(super) fn gather_int8(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    gather(a, id, &eight(a, "w"));
}
