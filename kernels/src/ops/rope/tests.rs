use super::*;
use crate::isa::Isa;
use crate::ops::Workers;
use crate::ops::samples::{assert_close, bits, numbers, sets, team};
use crate::slab::Slab;
use crate::step::{Span, Step};
use graph::{Pairing, Rope, RopeScaling};

fn step() -> Step {
    let span = |first_row, rows, start| Span { first_row, rows, start, ..Span::default() };
    Step { rows: 100, spans: vec![span(0, 1, 77), span(1, 90, 5), span(91, 9, 100_000)], ..Step::default() }
}

#[test]
fn heads_turn_as_in_the_reference_whole_and_in_part() {
    let step = step();
    for isa in sets() {
        for pairing in [Pairing::Halves, Pairing::Neighbours] {
            turned(&step, isa, pairing);
        }
    }
}

fn turned(step: &Step, isa: Isa, pairing: Pairing) {
    for (heads, head_dim, dims) in [(1, 2, 2), (3, 16, 16), (2, 24, 10), (4, 64, 32), (1, 5, 0)] {
        for scaling in [
            RopeScaling::Default,
            RopeScaling::Yarn {
                factor: 4.0,
                beta_fast: 32.0,
                beta_slow: 1.0,
                original: 64,
                attention_factor: 1.1,
                truncate: true,
            },
        ] {
            let rope = Rope { scaling, ..Rope::plain(10000.0, dims).paired(pairing) };
            let width = heads * head_dim;
            let x = numbers(7, 100 * width);
            let position = |row: u32| {
                let span = step.spans.iter().rfind(|span| span.first_row <= row).expect("spans cover the rows");
                span.start + row - span.first_row
            };
            let row = |r: u32| reference::rope(&x[r as usize * width..][..width], head_dim, &rope, position(r));
            let wanted: Vec<f32> = (0..100).flat_map(row).collect();
            let mut one = Vec::new();
            for threads in [1, 2] {
                let team = team(threads);
                let workers = Workers { team: &team, isa };
                let mut angles = Angles::new(&rope, 128);
                angles.fill(workers, step);
                let mut y = x.clone();
                let (mut from, mut apart) = (x.clone(), vec![0.0; x.len()]);
                let slab = Slab::new(&mut y);
                // SAFETY: all are this test's own; the result is in place, then apart.
                unsafe {
                    run(workers, slab, (width, head_dim), &angles, slab);
                    run(workers, Slab::new(&mut from), (width, head_dim), &angles, Slab::new(&mut apart));
                }
                assert_eq!(bits(&apart), bits(&y));
                assert_close(&y, &wanted, 1e-6, "rope");
                if threads == 1 { one = y } else { assert_eq!(bits(&one), bits(&y)) }
            }
        }
    }
}
