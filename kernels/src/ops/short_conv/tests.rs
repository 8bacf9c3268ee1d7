use super::*;
use crate::isa::Isa;
use crate::ops::samples::{assert_close, bits, numbers, sets, team};
use crate::ops::sequences::{Dealer, Deals, collect};
use graph::plan::StateSpec;

/// Runs sequences through steps as `deals` says; their results.
fn convolve(
    isa: Isa,
    threads: usize,
    w: &[f32],
    channels: usize,
    sequences: &[Vec<f32>],
    deals: Deals,
) -> Vec<Vec<f32>> {
    let taps = w.len() / channels;
    let rows: Vec<usize> = sequences.iter().map(|x| x.len() / channels).collect();
    let mut dealer = Dealer::new(&rows, deals);
    let mut states = States::new(StateSpec { elements: ((taps - 1) * channels) as u64 }, dealer.slots());
    states.fill_bytes(0xff);
    let team = team(threads);
    let mut results = vec![Vec::new(); rows.len()];
    while let Some((step, members)) = dealer.next() {
        let part = |&(i, from, to): &(usize, usize, usize)| &sequences[i][from * channels..to * channels];
        let mut x: Vec<f32> = members.iter().flat_map(part).copied().collect();
        let mut y = vec![f32::NAN; x.len()];
        let operands = Operands { x: Slab::new(&mut x), w, y: Slab::new(&mut y), channels };
        crate::states::check(&step, dealer.slots() as u32).expect("the dealer keeps the rules");
        // SAFETY: all are this function's own, and the states were checked.
        unsafe { run(Workers { team: &team, isa }, &step, operands, &mut states) };
        collect(&mut results, &members, &y, channels);
    }
    results
}

#[test]
fn the_convolution_is_that_of_the_reference_for_any_shape() {
    for isa in sets() {
        for (channels, taps, rows) in [(1, 2, 1), (5, 4, 2), (8, 4, 33), (37, 3, 20), (64, 8, 50)] {
            let (x, w) = (numbers(1, rows * channels), numbers(2, channels * taps));
            let wanted = reference::convolve(&x, &w, channels);
            let got = convolve(isa, 2, &w, channels, &[x], Deals::whole());
            assert_close(&got[0], &wanted, 2e-6, &format!("{channels} channels, {taps} taps"));
        }
    }
}

#[test]
fn bits_do_not_depend_on_chunks_neighbours_threads_or_where_a_state_was_kept() {
    for isa in sets() {
        for (channels, taps) in [(37, 4), (4096, 3)] {
            let w = numbers(2, channels * taps);
            let sequences: Vec<_> = [50, 1, 33].iter().map(|rows| numbers(*rows as u64, rows * channels)).collect();
            let gold: Vec<_> = sequences
                .iter()
                .map(|x| bits(&convolve(isa, 1, &w, channels, std::slice::from_ref(x), Deals::whole())[0]))
                .collect();
            for deals in Deals::many() {
                let got = convolve(isa, 2, &w, channels, &sequences, deals);
                for (got, gold) in got.iter().zip(&gold) {
                    assert!(bits(got) == *gold, "{} {deals:?}", isa.name());
                }
            }
        }
    }
}
