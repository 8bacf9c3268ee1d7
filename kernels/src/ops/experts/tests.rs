use super::*;
use crate::isa::Isa;
use crate::ops::contract::{self, Part, Parts};
use crate::ops::samples::{assert_close, bits, numbers, sets, team};
use crate::weights::Weight;
use crate::weights::samples::{Rows, kinds, quantised, rounded, spec, terms};
use graph::WeightType;
use graph::plan::WeightUse;

/// Experts of n outputs and k terms.
fn weight(experts: usize, n: usize, k: usize, (dtype, integer): (WeightType, bool)) -> Weight {
    let rows = Rows { k, values: rounded(experts * n, k, dtype) };
    let spec = graph::plan::WeightSpec {
        dims: vec![experts as u32, n as u32, k as u32],
        integer,
        ..spec(n, k, dtype, WeightUse::Experts(experts as u32))
    };
    Weight::load(&spec, &rows, &team(2)).expect("a sample is a valid weight")
}

/// Gates of rows that choose different experts, most of them as many as they may, some fewer and one none.
fn gates(rows: usize, experts: usize, choices: usize) -> Vec<f32> {
    let mut gates = vec![0.0; rows * experts];
    for (row, gates) in gates.chunks_mut(experts).enumerate() {
        let count = if row % 5 == 3 { row % (choices + 1) } else { choices };
        for choice in 0..count {
            gates[(row * 7 + choice * 3 + row / 4) % experts] = 0.25 + (row + choice) as f32 / 64.0;
        }
    }
    gates
}

struct Case {
    shape: Shape,
    n: usize,
    k: usize,
    isa: Isa,
    threads: usize,
    /// Rows of the largest call: those of all choices together do not fit the packed memory.
    room: usize,
}

impl Case {
    fn rooms(&self, rows: usize) -> (Room, contract::Room) {
        let room = self.room.max(rows);
        let index = Room::new(room, self.shape.choices, self.shape.experts);
        (index, contract::Room::new(room, self.k, self.threads, false))
    }

    fn contract(&self, weights: &[Weight], x: &[f32], gates: &[f32]) -> Vec<Vec<f32>> {
        let rows = gates.len() / self.shape.experts;
        let mut results = vec![vec![f32::NAN; rows * self.shape.choices * self.n]; weights.len()];
        let slabs: Vec<Slab<'_>> = results.iter_mut().map(|y| Slab::new(y)).collect();
        let at = |i: usize| Part { weight: &weights[i], y: slabs[i] };
        let (team, (mut index, mut room)) = (team(self.threads), self.rooms(rows));
        let (workers, parts) = (Workers { team: &team, isa: self.isa }, Parts { count: weights.len(), at: &at });
        // SAFETY: the results are this function's own and apart.
        unsafe { contract(workers, (x, gates), self.shape, parts, (&mut index, &mut room)) };
        results
    }

    fn combine(&self, weight: &Weight, x: &[f32], gates: &[f32]) -> Vec<f32> {
        let rows = gates.len() / self.shape.experts;
        let mut y = vec![f32::NAN; rows * self.n];
        let (team, (mut index, mut room)) = (team(self.threads), self.rooms(rows));
        let (workers, part) = (Workers { team: &team, isa: self.isa }, Part { weight, y: Slab::new(&mut y) });
        // SAFETY: the result is this function's own.
        unsafe { combine(workers, (x, gates), self.shape, part, (&mut index, &mut room)) };
        y
    }
}

#[test]
fn sums_are_those_of_the_reference_for_any_shape() {
    for (dtype, integer) in kinds() {
        for (experts, choices, n, k) in [(4, 2, 16, 8), (3, 3, 17, 33), (8, 2, 40, 65), (16, 4, 5, 130), (1, 1, 7, 3)] {
            let k = terms(dtype, k, 1);
            let w = rounded(experts * n, k, dtype);
            let weights = [weight(experts, n, k, (dtype, integer)), weight(experts, n, k, (dtype, integer))];
            for rows in [0, 1, 2, 9, 70] {
                let gates = gates(rows, experts, choices);
                for (isa, parts) in sets().into_iter().flat_map(|isa| [(isa, 1), (isa, choices)]) {
                    let shape = Shape::whole(experts, choices, parts);
                    let case = Case { shape, n, k, isa, threads: 2, room: rows };
                    let x = numbers(11, rows * parts * k);
                    let as_multiplied = quantised(&x, integer);
                    for y in case.contract(&weights, &x, &gates) {
                        assert_close(
                            &y,
                            &reference::contract((&as_multiplied, &gates), shape, &w, k),
                            2e-6 * k as f32,
                            "contract",
                        );
                    }
                    if parts == choices {
                        let y = case.combine(&weights[0], &x, &gates);
                        assert_close(
                            &y,
                            &reference::combine((&as_multiplied, &gates), shape, &w, k),
                            4e-6 * k as f32,
                            "combine",
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_every_batch_and_on_every_team() {
    const ALL: usize = 150;
    let (experts, choices, n, k) = (6, 2, 37, 301);
    for isa in sets() {
        for (dtype, integer) in kinds() {
            let k = terms(dtype, k, 1);
            let weight = [weight(experts, n, k, (dtype, integer))];
            let (x, gates) = (numbers(5, ALL * choices * k), gates(ALL, experts, choices));
            let shape = Shape::whole(experts, choices, choices);
            let case = Case { shape, n, k, isa, threads: 1, room: ALL };
            let (gold, sums) = (case.contract(&weight, &x, &gates).remove(0), case.combine(&weight[0], &x, &gates));
            for rows in [1, 2, 7, 40, 128] {
                for (threads, room) in [(1, rows), (2, rows), (2, ALL * 2)] {
                    let first = (rows * 7) % (ALL - rows);
                    let (x, gates) = (&x[first * choices * k..], &gates[first * experts..]);
                    let (x, gates) = (&x[..rows * choices * k], &gates[..rows * experts]);
                    let case = Case { shape, n, k, isa, threads, room };
                    let y = case.contract(&weight, x, gates).remove(0);
                    let gold = &gold[first * choices * n..][..rows * choices * n];
                    assert!(bits(&y) == bits(gold), "contract {dtype} rows {rows} threads {threads}");
                    let y = case.combine(&weight[0], x, gates);
                    let sums = &sums[first * n..][..rows * n];
                    assert!(bits(&y) == bits(sums), "combine {dtype} rows {rows} threads {threads}");
                }
            }
        }
    }
}

#[test]
fn experts_have_the_bits_of_a_plain_contraction() {
    let (experts, n, k) = (3, 20, 90);
    let all = weight(experts, n, k, (WeightType::Bf16, false));
    let w = rounded(experts * n, k, WeightType::Bf16);
    let x = numbers(2, 9 * k);
    let gates: Vec<f32> = (0..9).flat_map(|row| (0..experts).map(move |e| f32::from(u8::from(row % 3 == e)))).collect();
    let shape = Shape::whole(experts, 1, 1);
    let case = Case { shape, n, k, isa: Isa::detect(), threads: 2, room: 9 };
    let y = case.contract(std::slice::from_ref(&all), &x, &gates).remove(0);
    let one = weight(1, n, k, (WeightType::Bf16, false));
    assert_eq!(one.spec().n, all.spec().n);
    for expert in 0..experts {
        let values = w[expert * n * k..][..n * k].to_vec();
        let alone = Weight::load(&spec(n, k, WeightType::Bf16, WeightUse::Panels), &Rows { k, values }, &team(1))
            .expect("loads");
        let mut wanted = vec![0.0; n];
        let slab = Slab::new(&mut wanted);
        let (team, mut room) = (team(1), contract::Room::new(1, k, 1, false));
        let at = |_: usize| Part { weight: &alone, y: slab };
        let (workers, parts) = (Workers { team: &team, isa: Isa::detect() }, Parts { count: 1, at: &at });
        // SAFETY: the result is this test's own.
        unsafe { contract::run(workers, &x[(expert + 3) * k..][..k], 1, parts, &mut room) };
        assert_eq!(bits(&y[(expert + 3) * n..][..n]), bits(&wanted));
    }
}

#[test]
fn each_choice_gets_the_bias_of_its_expert() {
    let shape = Shape::whole(3, 2, 2);
    let (gates, w) = ([0.0, 0.5, 0.5, 1.0, 0.0, 0.0], [1.0, 2.0, 10.0, 20.0, 100.0, 200.0]);
    let (mut x, mut y) = ([0.5; 8], [f32::NAN; 8]);
    let team = team(1);
    let (workers, x) = (Workers { team: &team, isa: Isa::Portable }, Slab::new(&mut x));
    let wanted = [10.5, 20.5, 100.5, 200.5, 1.5, 2.5, 0.5, 0.5];
    // SAFETY: x and y are this test's own.
    unsafe { bias(workers, (x, &gates), shape, &w, Slab::new(&mut y)) };
    assert_eq!(y, wanted);
    // SAFETY: as above; y is x.
    unsafe { bias(workers, (x, &gates), shape, &w, x) };
    // SAFETY: nobody writes x any more.
    assert_eq!(unsafe { x.read(0, 8) }, wanted);
}

#[test]
fn each_run_of_a_row_has_a_weight_of_its_own() {
    for isa in sets() {
        for (each, n, k, rows) in [(1, 3, 5, 4), (4, 17, 24, 1), (6, 40, 33, 31)] {
            let (weight, x) = (weight(each, n, k, (WeightType::Bf16, false)), numbers(7, rows * each * k));
            let shape = Shape::whole(each, each, each);
            let case = Case { shape, n, k, isa, threads: 2, room: rows };
            // As if every row had chosen every expert.
            let gates = vec![1.0; rows * each];
            let wanted = case.contract(std::slice::from_ref(&weight), &x, &gates).remove(0);
            let mut y = vec![f32::NAN; rows * each * n];
            let (team, (mut index, mut room)) = (team(2), case.rooms(rows));
            let (workers, part) = (Workers { team: &team, isa }, Part { weight: &weight, y: Slab::new(&mut y) });
            // SAFETY: the result is this test's own.
            unsafe { contract_each(workers, (&x, rows), each, part, (&mut index, &mut room)) };
            assert_eq!(bits(&y), bits(&wanted), "{each} runs of {n} x {k}, {rows} rows");
        }
    }
}

#[test]
fn choices_weighed_behind_a_sum_over_ranks_have_the_bits_of_those_combined() {
    let (experts, choices, n, k, rows) = (6, 3, 20, 16, 33);
    let values = rounded(experts * n, k, WeightType::F32);
    let held = |first: usize, count: usize| {
        let rows = Rows { k, values: values[first * n * k..][..count * n * k].to_vec() };
        let used = WeightUse::Experts(count as u32);
        Weight::load(&spec(n, k, WeightType::F32, used), &rows, &team(1)).expect("a sample is a valid weight")
    };
    let (x, gates) = (numbers(3, rows * choices * k), gates(rows, experts, choices));
    let shape = Shape::whole(experts, choices, choices);
    let case = |shape| Case { shape, n, k, isa: Isa::detect(), threads: 2, room: rows };
    let wanted = case(shape).combine(&held(0, experts), &x, &gates);
    for ranks in [1, 2, 3] {
        let mine = experts / ranks;
        let term = |rank: usize| {
            let weight = held(rank * mine, mine);
            case(Shape { first: rank * mine, held: mine, ..shape }).contract(&[weight], &x, &gates).remove(0)
        };
        let terms: Vec<Vec<f32>> = (0..ranks).map(term).collect();
        let terms: Vec<&[f32]> = terms.iter().map(Vec::as_slice).collect();
        let (mut sum, mut y, team) = (vec![0.0; rows * choices * n], vec![f32::NAN; rows * n], team(2));
        crate::ops::reduce::sum(&terms, &mut sum);
        let workers = Workers { team: &team, isa: Isa::detect() };
        // SAFETY: the result is this test's own.
        unsafe { weigh(workers, (&sum, &gates), shape, Slab::new(&mut y)) };
        assert_eq!(bits(&y), bits(&wanted), "{ranks} ranks");
    }
}
