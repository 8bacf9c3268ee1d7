use super::*;
use crate::isa::Isa;
use crate::ops::samples::{assert_close, bits, numbers, team};

fn compute(router: Router<'_>, x: &[f32], threads: usize) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len() / router.experts * router.held];
    let team = team(threads);
    // SAFETY: y is this test's own.
    unsafe { run(Workers { team: &team, isa: Isa::Portable }, router, x, Slab::new(&mut y)) };
    y
}

const GROUPED: Routing =
    Routing { score: Score::Sigmoid, groups: 4, groups_kept: 2, group_best: 2, normalise: true, scale: 2.5 };

#[test]
fn gates_are_those_of_the_reference() {
    for (experts, choices) in [(4, 2), (8, 3), (64, 8), (256, 8)] {
        let (x, bias) = (numbers(3, 33 * experts), numbers(9, experts));
        let plain = Routing { normalise: false, ..Routing::SOFTMAX };
        for routing in [Routing::SOFTMAX, plain, Routing { groups_kept: 4, ..GROUPED }, GROUPED] {
            for bias in [None, Some(&bias[..])] {
                if choices as u32 > experts as u32 / routing.groups * routing.groups_kept
                    || experts < 8 && routing.groups > 1
                {
                    continue;
                }
                let router = Router { routing: &routing, choices, bias, experts, first: 0, held: experts };
                let rows = x.chunks(experts).flat_map(|row| reference::route(&routing, row, bias, choices));
                let wanted: Vec<f32> = rows.collect();
                let whole = compute(router, &x, 2);
                assert_close(&whole, &wanted, 1e-6, "gates");
                let half = Router { first: experts / 2, held: experts / 2, ..router };
                let upper: Vec<f32> = whole.chunks(experts).flat_map(|row| row[experts / 2..].to_vec()).collect();
                assert_eq!(bits(&compute(half, &x, 1)), bits(&upper), "what is held is a part of the whole");
            }
        }
    }
}

#[test]
fn a_row_chooses_as_many_as_it_may_whatever_its_logits() {
    for x in [[f32::NAN; 8], [f32::INFINITY; 8], [0.0; 8], [f32::NEG_INFINITY; 8], [200.0; 8]] {
        let router = Router { routing: &GROUPED, choices: 3, bias: None, experts: 8, first: 0, held: 8 };
        let zeros = compute(router, &x, 1).iter().filter(|gate| **gate == 0.0).count();
        assert!(zeros == 5 || x[0] == f32::NEG_INFINITY, "{x:?}: {zeros}");
    }
}
