use super::cpu::Heads;
use super::reference::Inputs;
use super::*;
use crate::isa::Isa;
use crate::ops::Workers;
use crate::ops::samples::{bits, numbers, sets, team};
use crate::ops::sequences::{Dealer, Deals, collect};
use crate::slab::Slab;
use crate::states::States;
use graph::Recurrence;
use graph::plan::StateSpec;

const SELECTIVE: Recurrence = Recurrence::Selective { low: 0.0, high: None };

/// A sequence of `rows` rows. Decays are those of trained models: slow and fast heads.
fn inputs(seed: u64, rows: usize, heads: Heads, how: Recurrence) -> Inputs {
    let values = heads.heads * heads.group;
    let wide = |seed, count| -> Vec<f32> { numbers(seed, count).iter().map(|x| x * 3.0).collect() };
    let is_delta = how == Recurrence::Delta;
    // What all sequences share.
    let weight = |seed| numbers(seed, values);
    Inputs {
        q: numbers(seed + 1, rows * heads.heads * heads.key_dim),
        k: numbers(seed + 2, rows * heads.heads * heads.key_dim),
        v: numbers(seed + 3, rows * values * heads.value_dim),
        dt: wide(seed + 4, rows * values),
        beta: is_delta.then(|| wide(seed + 5, rows * values)),
        a_log: weight(7).iter().map(|a| a * 2.0).collect(),
        skip: (!is_delta).then(|| weight(8)),
    }
}

struct Case {
    heads: Heads,
    how: Recurrence,
    isa: Isa,
    threads: usize,
}

/// Runs sequences through steps as `deals` says; their results.
fn scan(case: &Case, sequences: &[Inputs], deals: Deals) -> Vec<Vec<f32>> {
    let Heads { heads, group, key_dim, value_dim } = case.heads;
    let values = heads * group;
    let rows: Vec<usize> = sequences.iter().map(|s| s.dt.len() / values).collect();
    let mut dealer = Dealer::new(&rows, deals);
    let spec = StateSpec::scan([heads, group, key_dim, value_dim].map(|n| n as u32));
    let mut states = States::new(spec, dealer.slots());
    states.fill_bytes(0xff);
    let team = team(case.threads);
    let mut room = Room::new(key_dim, value_dim, case.threads);
    let mut results = vec![Vec::new(); rows.len()];
    while let Some((step, members)) = dealer.next() {
        let part = |of: &dyn Fn(&Inputs) -> &Vec<f32>, width: usize| -> Vec<f32> {
            let rows = |&(i, from, to): &(usize, usize, usize)| &of(&sequences[i])[from * width..to * width];
            members.iter().flat_map(rows).copied().collect()
        };
        let (mut q, mut k) = (part(&|s| &s.q, heads * key_dim), part(&|s| &s.k, heads * key_dim));
        let (mut v, mut dt) = (part(&|s| &s.v, values * value_dim), part(&|s| &s.dt, values));
        let mut beta = sequences[0].beta.is_some().then(|| part(&|s| s.beta.as_ref().expect("all have"), values));
        let mut y = vec![f32::NAN; v.len()];
        let operands = Operands {
            q: Slab::new(&mut q),
            k: Slab::new(&mut k),
            v: Slab::new(&mut v),
            dt: Slab::new(&mut dt),
            beta: beta.as_deref_mut().map(Slab::new),
            a_log: &sequences[0].a_log,
            skip: sequences[0].skip.as_deref(),
            y: Slab::new(&mut y),
        };
        crate::states::check(&step, dealer.slots() as u32).expect("the dealer keeps the rules");
        let workers = Workers { team: &team, isa: case.isa };
        // SAFETY: all are this function's own, and the states were checked.
        unsafe { run(workers, &step, (case.heads, case.how), operands, &mut states, &mut room) };
        collect(&mut results, &members, &y, values * value_dim);
    }
    results
}

#[test]
fn scans_are_the_recurrence_for_any_shape_wherever_the_prompt_ends() {
    for (heads, group, key_dim, value_dim) in
        [(1, 1, 1, 1), (2, 4, 16, 16), (2, 2, 16, 20), (1, 3, 37, 8), (1, 2, 128, 64)]
    {
        let heads = Heads { heads, group, key_dim, value_dim };
        for how in [SELECTIVE, Recurrence::Selective { low: 0.1, high: Some(1.0) }, Recurrence::Delta] {
            for (isa, prompt) in sets().into_iter().flat_map(|isa| [1, 16, 37, 60].map(|prompt| (isa, prompt))) {
                let sequence = inputs(3, 60, heads, how);
                let wanted = reference::scan(heads, how, &sequence);
                let got = scan(&Case { heads, how, isa, threads: 2 }, &[sequence], Deals::whole().prompt(prompt));
                let largest = wanted.iter().fold(0f32, |most, y| most.max(y.abs()));
                for (row, (got, wanted)) in got[0].iter().zip(&wanted).enumerate() {
                    let error = (got - wanted).abs() / largest;
                    assert!(error < 2e-5, "{heads:?} {how:?} prompt {prompt} element {row}: {got}, wanted {wanted}");
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_chunks_neighbours_threads_or_snapshots() {
    for isa in sets() {
        for how in [SELECTIVE, Recurrence::Delta] {
            for (group, value_dim) in [(2, 20), (3, 32)] {
                let heads = Heads { heads: 2, group, key_dim: 24, value_dim };
                let sequences: Vec<_> = [70, 3, 48].iter().map(|&rows| inputs(rows as u64, rows, heads, how)).collect();
                for prompt in [2, 16, 41, usize::MAX] {
                    let case = |threads| Case { heads, how, isa, threads };
                    let alone =
                        |s: &Inputs| bits(&scan(&case(1), std::slice::from_ref(s), Deals::whole().prompt(prompt))[0]);
                    let gold: Vec<_> = sequences.iter().map(alone).collect();
                    for deals in Deals::many().map(|deals| deals.prompt(prompt)) {
                        for (got, gold) in scan(&case(2), &sequences, deals).iter().zip(&gold) {
                            assert!(bits(got) == *gold, "{} {how:?} {deals:?}", isa.name());
                        }
                    }
                }
            }
        }
    }
}
