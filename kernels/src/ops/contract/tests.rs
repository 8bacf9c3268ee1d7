use super::*;
use crate::isa::Isa;
use crate::ops::samples::{bits, numbers, sets, team};
use crate::weights::samples::{Rows, kinds, quantised, rounded, spec, terms, weight};
use graph::plan::WeightUse;

/// Results of all weights for the same rows.
fn compute(isa: Isa, threads: usize, weights: &[Weight], x: &[f32], rows: usize) -> Vec<Vec<f32>> {
    let team = team(threads);
    let mut room = Room::new(rows, x.len() / rows.max(1), threads, weights.iter().any(|w| w.spec().sum_parts > 1));
    let mut results: Vec<Vec<f32>> = weights.iter().map(|w| vec![f32::NAN; rows * w.spec().n as usize]).collect();
    let slabs: Vec<Slab<'_>> = results.iter_mut().map(|y| Slab::new(y)).collect();
    let at = |i: usize| Part { weight: &weights[i], y: slabs[i] };
    let parts = Parts { count: weights.len(), at: &at };
    // SAFETY: the results are this function's own and apart.
    unsafe { run(Workers { team: &team, isa }, x, rows, parts, &mut room) };
    results
}

fn panels(n: usize, k: usize, (dtype, integer): (WeightType, bool)) -> Weight {
    let rows = Rows { k, values: numbers((n * 31 + k) as u64, n * k) };
    let spec = graph::plan::WeightSpec { integer, ..spec(n, k, dtype, WeightUse::Panels) };
    Weight::load(&spec, &rows, &team(2)).expect("a sample is a valid weight")
}

#[test]
fn sums_are_those_of_the_reference_for_any_shape() {
    for isa in sets() {
        for (dtype, integer) in kinds() {
            for (n, k) in [(1, 1), (16, 2), (15, 3), (17, 64), (40, 513), (33, 1030), (130, 96)] {
                let k = terms(dtype, k, 1);
                let w = rounded(n, k, dtype);
                for rows in [0, 1, 2, 3, 5, 6, 7, 13, 130] {
                    let x = numbers(11, rows * k);
                    let (wanted, sizes) = reference::contract(&quantised(&x, integer), &w, k);
                    let y = compute(isa, 2, &[panels(n, k, (dtype, integer))], &x, rows);
                    for ((got, wanted), size) in y[0].iter().zip(&wanted).zip(&sizes) {
                        assert!((got - wanted).abs() <= 2e-6 * size, "{dtype} {n}x{k} rows {rows}: {got} for {wanted}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_every_batch_and_on_every_team() {
    const ALL: usize = 200;
    for isa in sets() {
        for (dtype, integer) in kinds() {
            for (n, k) in [(70, 1027), (36, 300)] {
                let k = terms(dtype, k, 1);
                let (w, x) = (panels(n, k, (dtype, integer)), numbers(5, ALL * k));
                let gold = compute(isa, 1, std::slice::from_ref(&w), &x, ALL).remove(0);
                for rows in [1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 32, 100, 128] {
                    for threads in [1, 2] {
                        let first = (rows * 7) % (ALL - rows);
                        let part = &x[first * k..(first + rows) * k];
                        let y = compute(isa, threads, std::slice::from_ref(&w), part, rows).remove(0);
                        let same = bits(&y) == bits(&gold[first * n..(first + rows) * n]);
                        assert!(same, "{dtype} {n}x{k} rows {rows} threads {threads} {}", isa.name());
                    }
                }
            }
        }
    }
}

#[test]
fn parts_that_share_x_have_the_bits_they_have_alone() {
    for isa in sets() {
        let weights: Vec<Weight> =
            [(33, WeightType::F32), (1, WeightType::Bf16), (64, WeightType::F16), (16, WeightType::Bf16)]
                .map(|(n, dtype)| weight(n, 100, dtype, WeightUse::Panels))
                .into();
        for rows in [1, 4, 9, 140] {
            let x = numbers(5, rows * 100);
            let together = compute(isa, 2, &weights, &x, rows);
            for (i, y) in together.iter().enumerate() {
                assert_eq!(bits(y), bits(&compute(isa, 1, &weights[i..=i], &x, rows)[0]));
            }
        }
    }
}

#[test]
fn a_row_that_is_no_number_gives_none_and_leaves_the_others_alone() {
    for isa in sets() {
        for kind in kinds() {
            let (n, k) = (33, 128);
            let w = [panels(n, k, kind)];
            for (rows, bad) in [(1, 0), (5, 3), (9, 7)] {
                let clean = numbers(5, rows * k);
                let wanted = compute(isa, 1, &w, &clean, rows).remove(0);
                for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut x = clean.clone();
                    x[bad * k + 70] = value;
                    let found = compute(isa, 1, &w, &x, rows).remove(0);
                    for (row, (found, wanted)) in found.chunks(n).zip(wanted.chunks(n)).enumerate() {
                        let alike = bits(found) == bits(wanted);
                        let none = found.iter().all(|y| !y.is_finite());
                        assert!(if row == bad { none } else { alike }, "{kind:?} row {row} of {rows}, {value}");
                    }
                }
            }
        }
    }
}

#[test]
fn quantised_weights_have_the_bits_of_their_widened_ones() {
    for isa in sets() {
        for dtype in [WeightType::Q8_0, WeightType::Q4_0] {
            let (n, k) = (70, 32 * 19);
            let wide = Rows { k, values: rounded(n, k, dtype) };
            let wide = Weight::load(&spec(n, k, WeightType::F32, WeightUse::Panels), &wide, &team(1)).expect("valid");
            let quantised = weight(n, k, dtype, WeightUse::Panels);
            for rows in [1, 2, 3, 6, 7, 12, 13, 40, 200] {
                let x = numbers(5, rows * k);
                let [wide, got] = [&wide, &quantised].map(|w| compute(isa, 2, std::slice::from_ref(w), &x, rows));
                assert_eq!(bits(&got[0]), bits(&wide[0]), "{dtype} rows {rows} {}", isa.name());
            }
        }
    }
}

/// The terms `from..from + len` of each output of a sample, in parts.
fn parted(
    n: usize,
    k: usize,
    (dtype, integer): (WeightType, bool),
    (from, len, sum_parts): (usize, usize, u32),
) -> Weight {
    let all = rounded(n, k, dtype);
    let values = all.chunks(k).flat_map(|row| row[from..from + len].iter().copied()).collect();
    let spec = graph::plan::WeightSpec { sum_parts, integer, ..spec(n, len, dtype, WeightUse::Panels) };
    Weight::load(&spec, &Rows { k: len, values }, &team(1)).expect("a sample is a valid weight")
}

#[test]
fn parts_of_a_sum_are_added_in_the_same_tree_whoever_has_them() {
    for isa in sets() {
        for (dtype, integer) in kinds() {
            for (n, k) in [(33, 48), (40, 16 * 67), (16, 16)] {
                let k = terms(dtype, k, 8);
                for rows in [1, 2, 5, 7, 13, 130, 200] {
                    let x = numbers(5, rows * k);
                    let whole = compute(isa, 2, &[parted(n, k, (dtype, integer), (0, k, 8))], &x, rows).remove(0);
                    for ranks in [2, 4, 8] {
                        let len = k / ranks;
                        let of = |rank: usize| {
                            let x: Vec<f32> =
                                x.chunks(k).flat_map(|x| x[rank * len..][..len].iter().copied()).collect();
                            let weight = parted(n, k, (dtype, integer), (rank * len, len, 8 / ranks as u32));
                            compute(isa, 1, &[weight], &x, rows).remove(0)
                        };
                        let terms: Vec<Vec<f32>> = (0..ranks).map(of).collect();
                        let terms: Vec<&[f32]> = terms.iter().map(Vec::as_slice).collect();
                        let mut sum = vec![0.0; rows * n];
                        crate::ops::reduce::sum(&terms, &mut sum);
                        assert_eq!(bits(&sum), bits(&whole), "{dtype} {n}x{k} rows {rows} on {ranks} ranks");
                    }
                }
            }
        }
    }
}
