//! Contractions with weights in blocks, and lookups in them.

use crate::arguments::Arguments;
use half::bf16;

/// The weight of an output and a term, without its scale.
type Code<'a> = &'a dyn Fn(usize, usize) -> f32;

fn four(a: &Arguments<'_>) -> impl Fn(usize, usize) -> f32 {
    let ([n, k], [w, zeros]) = (["n", "k"].map(|name| a.int(name)), ["w", "zeros"].map(|name| a.buffer(name)));
    let group = a.constant("GROUP");
    let half = group.min(64);
    move |output, term| {
        let byte = w.byte(output * (k / 2) + term / (2 * half) * half + term % half);
        let code = byte >> (term / half % 2 * 4) & 15;
        f32::from(code) - f32::from(zeros.byte(term / group * n + output))
    }
}

fn eight(a: &Arguments<'_>) -> impl Fn(usize, usize) -> f32 {
    let (k, w) = (a.int("k"), a.buffer("w"));
    move |output, term| f32::from(w.byte(output * k + term).cast_signed())
}

fn contract(a: &Arguments<'_>, id: [usize; 3], code: Code<'_>) {
    let [n, k] = ["n", "k"].map(|name| a.int(name));
    let [block_n, block_r, group] = ["BLOCK_N", "BLOCK_R", "GROUP"].map(|name| a.constant(name));
    let count = a.buffer("rows").int(0) as usize;
    let (x, scales, y) = (a.buffer("x"), a.buffer("scales"), a.buffer("y"));
    for row in id[1] * block_r..count.min((id[1] + 1) * block_r) {
        let left: Vec<f32> = (0..k).map(|term| bf16::from_f32(x.get(row * k + term)).to_f32()).collect();
        for output in id[0] * block_n..n.min((id[0] + 1) * block_n) {
            let sum = (0..k).step_by(group).fold(0.0f32, |sum, first| {
                let terms = first..first + group;
                let own = terms.fold(0.0f32, |own, term| left[term].mul_add(code(output, term), own));
                sum + own * scales.get(first / group * n + output)
            });
            y.set(row * n + output, sum);
        }
    }
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

pub(super) fn int4(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    contract(a, id, &four(a));
}

pub(super) fn int8(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    contract(a, id, &eight(a));
}

pub(super) fn gather_int4(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    gather(a, id, &four(a));
}

pub(super) fn gather_int8(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    gather(a, id, &eight(a));
}
