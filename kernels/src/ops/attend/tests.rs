use super::*;
use crate::cache::{Cache, PAGE};
use crate::isa::Isa;
use crate::ops::Workers;
use crate::ops::samples::{assert_close, bits, numbers, sets, team};
use crate::slab::Slab;
use crate::step::{Span, Step};
use graph::DType;
use graph::plan::CacheSpec;
use half::{bf16, f16};

/// Sequences with their queries, keys and values, and how their rows are dealt to steps.
struct Case {
    heads: Heads,
    dtype: DType,
    isa: Isa,
    threads: usize,
    /// Rows of each sequence.
    rows: Vec<usize>,
    /// Rows of a sequence that ride in one step.
    chunk: usize,
    /// Whether pages are dealt in order or scattered, over memory that held not-a-numbers.
    scattered: bool,
}

fn rounded(values: &[f32], dtype: DType) -> Vec<f32> {
    let round = |v: f32| match dtype {
        DType::F32 | DType::U32 => v,
        DType::Bf16 => bf16::from_f32(v).to_f32(),
        DType::F16 => f16::from_f32(v).to_f32(),
    };
    values.iter().map(|&v| round(v)).collect()
}

/// Queries, keys and values of a sequence.
fn sequence(number: usize, rows: usize, heads: Heads) -> [Vec<f32>; 3] {
    let width = heads.kv_heads * heads.head_dim;
    let seed = number as u64 * 10;
    [
        numbers(seed + 1, rows * width * heads.group).iter().map(|q| q * 3.0).collect(),
        numbers(seed + 2, rows * width),
        numbers(seed + 3, rows * width),
    ]
}

/// Runs all steps; the results of each sequence.
fn attend(case: &Case) -> Vec<Vec<f32>> {
    let heads = case.heads;
    let (kv_heads, head_dim) = (heads.kv_heads as u32, heads.head_dim as u32);
    let needed: Vec<usize> = case.rows.iter().map(|rows| rows.div_ceil(PAGE)).collect();
    let pages: usize = needed.iter().sum::<usize>() + 3;
    let mut cache = Cache::new(CacheSpec { kv_heads, head_dim, dtype: case.dtype }, pages).expect("floats");
    let mut order: Vec<u32> = (0..pages as u32).collect();
    if case.scattered {
        order.sort_by_key(|page| page * 7919 % 104_729 % 97);
        cache.fill_bytes(0xff);
    }
    let team = team(case.threads);
    let workers = Workers { team: &team, isa: case.isa };
    let mut room = Room::new(case.rows.iter().sum(), heads.group, heads.head_dim, case.threads);
    let data: Vec<_> = case.rows.iter().enumerate().map(|(i, &rows)| sequence(i, rows, heads)).collect();
    let mut results = vec![Vec::new(); case.rows.len()];
    let width = heads.kv_heads * heads.head_dim;
    for from in (0..*case.rows.iter().max().expect("a sequence")).step_by(case.chunk) {
        let (mut step, mut operands) = (Step::default(), [Vec::new(), Vec::new(), Vec::new()]);
        let mut first_page = 0;
        let mut members = Vec::new();
        for (i, &rows) in case.rows.iter().enumerate() {
            let table = &order[first_page..first_page + needed[i]];
            first_page += needed[i];
            let to = rows.min(from + case.chunk);
            if to <= from {
                continue;
            }
            step.spans.push(Span {
                first_row: step.rows,
                rows: (to - from) as u32,
                start: from as u32,
                prompt: rows as u32,
                first_page: step.pages.len() as u32,
                pages: table.len() as u32,
            });
            step.pages.extend_from_slice(table);
            step.rows += (to - from) as u32;
            members.push((i, to - from));
            for (operand, (data, width)) in
                operands.iter_mut().zip(data[i].iter().zip([width * heads.group, width, width]))
            {
                operand.extend_from_slice(&data[from * width..to * width]);
            }
        }
        let [mut q, mut k, mut v] = operands;
        let mut y = vec![0.0; q.len()];
        let operands =
            Operands { q: Slab::new(&mut q), k: Slab::new(&mut k), v: Slab::new(&mut v), y: Slab::new(&mut y) };
        // SAFETY: all are this function's own; the pages come from `order`.
        unsafe { run(workers, &step, heads, operands, &mut cache, &mut room) };
        let mut y = y.as_slice();
        for (i, rows) in members {
            let (own, rest) = y.split_at(rows * width * heads.group);
            results[i].extend_from_slice(own);
            y = rest;
        }
    }
    results
}

#[test]
fn attention_is_that_of_the_reference_for_any_shape() {
    for isa in sets() {
        for (kv_heads, group, head_dim, rows) in [
            (1, 1, 1, 1),
            (2, 1, 16, 17),
            (1, 2, 64, 40),
            (2, 3, 20, 300),
            (1, 7, 8, 33),
            (1, 64, 16, 20),
            (3, 1, 128, 259),
        ] {
            for dtype in [DType::F32, DType::Bf16, DType::F16] {
                let heads = Heads { kv_heads, group, head_dim, scale: 0.3 };
                let [q, k, v] = sequence(0, rows, heads);
                let wanted = reference::attend(&q, &rounded(&k, dtype), &rounded(&v, dtype), heads);
                let case = Case { heads, dtype, isa, threads: 2, rows: vec![rows], chunk: rows, scattered: true };
                assert_close(&attend(&case)[0], &wanted, 4e-6, &format!("{heads:?} {dtype} {}", isa.name()));
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_chunks_pages_neighbours_or_threads() {
    for isa in sets() {
        for dtype in [DType::F32, DType::Bf16, DType::F16] {
            for (kv_heads, group, head_dim) in [(2, 2, 32), (1, 5, 24)] {
                let heads = Heads { kv_heads, group, head_dim, scale: 0.25 };
                let alone = |number: usize, rows: usize| {
                    let mut rows_of = vec![0; number];
                    rows_of.push(rows);
                    let case = Case { heads, dtype, isa, threads: 1, rows: rows_of, chunk: rows, scattered: false };
                    attend(&case).pop().expect("a result for each sequence")
                };
                let rows = vec![533, 1, 300, 70];
                let gold: Vec<_> = rows.iter().enumerate().map(|(i, &rows)| bits(&alone(i, rows))).collect();
                for (chunk, threads) in [(1, 1), (7, 2), (64, 2), (533, 2)] {
                    let case = Case { heads, dtype, isa, threads, rows: rows.clone(), chunk, scattered: true };
                    for (i, y) in attend(&case).iter().enumerate() {
                        assert!(bits(y) == gold[i], "{dtype} {heads:?} chunk {chunk} sequence {i} {}", isa.name());
                    }
                }
            }
        }
    }
}
