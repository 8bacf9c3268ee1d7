use super::*;
use crate::cache::{Cache, PAGE};
use crate::isa::Isa;
use crate::ops::Workers;
use crate::ops::samples::{assert_close, bits, numbers, sets, team};
use crate::slab::Slab;
use crate::step::{GONE, Span, Step};
use graph::plan::CacheSpec;
use graph::{Attention, DType};
use half::{bf16, f16};

/// All positions; windows within a page, over pages and over blocks; a cap; all of it with sinks.
fn ways(scale: f32) -> Vec<(Attention, bool)> {
    let plain = Attention::scaled(scale);
    let windows = [1, 7, 16, 100, 256, 300].map(|window| (Attention { window: Some(window), ..plain }, false));
    let capped = Attention { softcap: Some(1.5), ..plain };
    let all = [(plain, false), (plain, true), (capped, false), (Attention { window: Some(45), ..capped }, true)];
    windows.into_iter().chain(all).collect()
}

/// Sequences with their queries, keys and values, and how their rows are dealt to steps.
struct Case {
    heads: Heads,
    /// Whether heads have sinks.
    sinks: bool,
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

fn sinks(heads: Heads) -> Vec<f32> {
    numbers(77, heads.kv_heads * heads.group).iter().map(|s| s * 3.0).collect()
}

/// Runs all steps; the results of each sequence.
fn attend(case: &Case) -> Vec<Vec<f32>> {
    attend_spoiled(case, 0)
}

/// The same where the first `spoiled` rows of each sequence have values that are not numbers.
fn attend_spoiled(case: &Case, spoiled: usize) -> Vec<Vec<f32>> {
    let heads = case.heads;
    let (kv_heads, head_dim) = (heads.kv_heads as u32, heads.head_dim as u32);
    let needed: Vec<usize> = case.rows.iter().map(|rows| rows.div_ceil(PAGE)).collect();
    let pages: usize = needed.iter().sum::<usize>() + 3;
    let cache = Cache::new(CacheSpec { kv_heads, head_dim, dtype: case.dtype }, pages).expect("floats");
    // Pages behind the window of a step's first row are gone.
    let mut cache = cache.windowed(heads.how.window.is_some());
    let mut order: Vec<u32> = (0..pages as u32).collect();
    if case.scattered {
        order.sort_by_key(|page| page * 7919 % 104_729 % 97);
        cache.fill_bytes(0xff);
    }
    let team = team(case.threads);
    let workers = Workers { team: &team, isa: case.isa };
    let mut room = Room::new(case.rows.iter().sum(), heads.group, heads.head_dim, case.threads);
    let mut data: Vec<_> = case.rows.iter().enumerate().map(|(i, &rows)| sequence(i, rows, heads)).collect();
    data.iter_mut().for_each(|[_, _, v]| v[..spoiled * heads.kv_heads * heads.head_dim].fill(f32::NAN));
    let sinks = case.sinks.then(|| sinks(heads));
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
            let first = heads.how.first(from as u32) as usize / PAGE;
            step.windows.extend(table.iter().enumerate().map(|(place, &page)| if place < first { GONE } else { page }));
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
        let operands = Operands {
            q: Slab::new(&mut q),
            k: Slab::new(&mut k),
            v: Slab::new(&mut v),
            sinks: sinks.as_deref(),
            y: Slab::new(&mut y),
        };
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
                // Options other than plain attention go with one element type a shape; they meet it at one place.
                let all = ways(0.3).into_iter().enumerate();
                for (_, (how, with)) in all.filter(|(i, _)| *i == 6 || (i + rows + dtype.bytes()).is_multiple_of(3)) {
                    let heads = Heads { kv_heads, group, head_dim, how };
                    let [q, k, v] = sequence(0, rows, heads);
                    let sinks = with.then(|| sinks(heads));
                    let (k, v) = (rounded(&k, dtype), rounded(&v, dtype));
                    let wanted = reference::attend([&q, &k, &v], sinks.as_deref(), heads);
                    let case = Case {
                        heads,
                        sinks: with,
                        dtype,
                        isa,
                        threads: 2,
                        rows: vec![rows],
                        chunk: rows,
                        scattered: true,
                    };
                    assert_close(&attend(&case)[0], &wanted, 4e-6, &format!("{heads:?} {dtype} {}", isa.name()));
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_chunks_pages_neighbours_or_threads() {
    let formats = [DType::F32, DType::Bf16, DType::F16];
    for (number, (how, sinks)) in ways(0.25).into_iter().enumerate() {
        for isa in sets() {
            // As above.
            let formats = if number == 6 { &formats[..] } else { &formats[number % 3..][..1] };
            for &dtype in formats {
                for (kv_heads, group, head_dim) in
                    if number == 6 { vec![(2, 2, 32), (1, 5, 24)] } else { vec![(1, 5, 24)] }
                {
                    let heads = Heads { kv_heads, group, head_dim, how };
                    same_bits(Case { heads, sinks, dtype, isa, threads: 1, rows: vec![], chunk: 1, scattered: false });
                }
            }
        }
    }
}

/// Holds sequences that ride together, in chunks, over scattered pages, against each of them alone.
fn same_bits(case: Case) {
    let alone = |number: usize, rows: usize| {
        let mut rows_of = vec![0; number];
        rows_of.push(rows);
        attend(&Case { rows: rows_of, chunk: rows, ..case }).pop().expect("a result for each sequence")
    };
    let rows = vec![533, 1, 300, 70];
    let gold: Vec<_> = rows.iter().enumerate().map(|(i, &rows)| bits(&alone(i, rows))).collect();
    for (chunk, threads) in [(1, 1), (7, 2), (64, 2), (533, 2)] {
        let together = Case { threads, rows: rows.clone(), chunk, scattered: true, ..case };
        for (i, y) in attend(&together).iter().enumerate() {
            let what = format!("{} {:?} chunk {chunk} sequence {i} {}", case.dtype, case.heads, case.isa.name());
            assert!(bits(y) == gold[i], "{what}");
        }
    }
}

#[test]
fn positions_behind_the_window_enter_no_sum() {
    let heads =
        |window| Heads { kv_heads: 1, group: 2, head_dim: 16, how: Attention { window, ..Attention::scaled(0.3) } };
    for isa in sets() {
        for window in [3, 16, 29] {
            let case = Case {
                heads: heads(Some(window)),
                sinks: false,
                dtype: DType::F32,
                isa,
                threads: 1,
                rows: vec![90],
                chunk: 90,
                scattered: false,
            };
            // Values of the first sequence's early rows are not numbers: rows past them must not notice.
            let spoiled = attend_spoiled(&case, 40);
            let whole = attend(&case);
            let width = 32;
            let clean = (40 + window as usize) * width;
            assert_eq!(bits(&spoiled[0][clean..]), bits(&whole[0][clean..]), "window {window}");
            assert!(spoiled[0][39 * width].is_nan(), "a row that sees one is not a number");
        }
    }
}
