//! Packing: checkpoint rows into tables and panels, each thread its own share.

use super::{RowSource, widen};
use crate::panel::{Format, LANES, Q4_0, Q8_0, Quantized};
use crate::team::{Team, share};
use graph::plan::WeightSpec;
use graph::{BLOCK, DType, WeightType};
use half::{bf16, f16};
use std::sync::Mutex;

/// Cuts `into` into one piece a thread, of whole units of `unit` bytes, and runs `work(first unit, piece)` on each.
fn cut(team: &Team, into: &mut [u8], unit: usize, work: &(dyn Fn(usize, &mut [u8]) + Sync)) {
    let (units, threads) = (into.len().checked_div(unit).unwrap_or(0), team.threads());
    let mut rest = into;
    let mut pieces = Vec::with_capacity(threads);
    for thread in 0..threads {
        let range = share(units, threads, thread, 1);
        let (piece, tail) = rest.split_at_mut(range.len() * unit);
        pieces.push(Mutex::new((range.start, piece)));
        rest = tail;
    }
    team.run(&|thread| {
        let mut piece = pieces[thread].lock().expect("each thread locks its own piece, once");
        let first = piece.0;
        work(first, piece.1);
    });
}

/// A table or a vector: row after row.
pub(crate) fn rows(spec: &WeightSpec, source: &dyn RowSource, team: &Team, into: &mut [u8]) {
    let (k, from) = (spec.k as usize, source.dtype());
    let to = spec.dtype.plain().expect("check refuses tables of blocks");
    cut(team, into, k * to.bytes(), &|first, piece| {
        let mut row = vec![0; k * from.bytes()];
        let mut wide = vec![0.0; k];
        for (index, out) in piece.chunks_exact_mut(k * to.bytes()).enumerate() {
            if from == to {
                source.copy_row(first + index, out);
            } else {
                source.copy_row(first + index, &mut row);
                widen(from, &row, &mut wide);
                narrow(to, &wide, out);
            }
        }
    });
}

/// Bytes of the codes of a row of `k` elements.
pub(crate) fn code_bytes(dtype: WeightType, k: usize) -> usize {
    if dtype == WeightType::Q4_0 { k / 2 } else { k }
}

/// Rows of quantised weights as GPUs read them: codes, and behind them the scale of each block as f32. Codes of 8 bits are signed; those of 4
/// bits lie by pairs of blocks, the first in the low halves of its bytes, the second in the high ones.
pub(crate) fn quantized(spec: &WeightSpec, source: &dyn RowSource, team: &Team, into: &mut [u8]) {
    let (k, from) = (spec.k as usize, source.dtype());
    let codes_len = code_bytes(spec.dtype, k);
    cut(team, into, codes_len + k / BLOCK as usize * 4, &|first, piece| {
        let (mut row, mut wide) = (vec![0; k * from.bytes()], vec![0.0; k]);
        for (index, out) in piece.chunks_exact_mut(codes_len + k / BLOCK as usize * 4).enumerate() {
            source.copy_row(first + index, &mut row);
            widen(from, &row, &mut wide);
            let (codes, scales) = out.split_at_mut(codes_len);
            let blocks = wide.as_chunks::<{ BLOCK as usize }>().0.iter().zip(scales.as_chunks_mut().0);
            for (number, (block, scale_at)) in blocks.enumerate() {
                let at = number * BLOCK as usize;
                let scale = if spec.dtype == WeightType::Q4_0 {
                    let (scale, four) = Q4_0::quantize(block);
                    let pair = &mut codes[number / 2 * BLOCK as usize..][..BLOCK as usize];
                    for (byte, code) in pair.iter_mut().zip(four) {
                        *byte = if number.is_multiple_of(2) { code } else { *byte | (code << 4) };
                    }
                    scale
                } else {
                    let (scale, eight) = Q8_0::quantize(block);
                    codes[at..at + BLOCK as usize].copy_from_slice(&eight);
                    scale
                };
                *scale_at = scale.to_f32().to_le_bytes();
            }
        }
    });
}

/// Panels of 16 outputs, each of one expert.
pub(super) fn panels<F: Format>(spec: &WeightSpec, source: &dyn RowSource, team: &Team, into: &mut [u8]) {
    let (n, k, from) = (spec.n as usize, spec.k as usize, source.dtype());
    let count = k.div_ceil(F::TERMS);
    let each = n.div_ceil(LANES);
    cut(team, into, count * size_of::<F::Line>(), &|first, piece| {
        let mut row = vec![0; k * from.bytes()];
        let mut wide = vec![0.0; k];
        let lines: &mut [F::Line] = bytemuck::cast_slice_mut(piece);
        for (index, panel) in lines.chunks_exact_mut(count).enumerate() {
            let (expert, output) = ((first + index) / each, (first + index) % each * LANES);
            for lane in 0..LANES.min(n - output) {
                source.copy_row(expert * n + output + lane, &mut row);
                widen(from, &row, &mut wide);
                for (line, terms) in panel.iter_mut().zip(wide.chunks(F::TERMS)) {
                    F::fill(line, lane, terms);
                }
            }
        }
    });
}

/// Rounds to the element type, to nearest with ties to even.
fn narrow(dtype: DType, from: &[f32], into: &mut [u8]) {
    let shorts = |into: &mut [u8], round: fn(f32) -> u16| {
        for (bytes, value) in into.as_chunks_mut::<2>().0.iter_mut().zip(from) {
            *bytes = round(*value).to_le_bytes();
        }
    };
    match dtype {
        DType::F32 => {
            for (bytes, value) in into.as_chunks_mut::<4>().0.iter_mut().zip(from) {
                *bytes = value.to_le_bytes();
            }
        }
        DType::Bf16 => shorts(into, |value| bf16::from_f32(value).to_bits()),
        DType::F16 => shorts(into, |value| f16::from_f32(value).to_bits()),
        DType::U32 => unreachable!("check refuses u32 weights"),
    }
}
