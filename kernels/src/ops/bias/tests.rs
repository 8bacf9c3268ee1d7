use super::*;
use crate::ops::samples::{bits, numbers, sets, team};

#[test]
fn the_vector_repeats_over_rows_and_along_them() {
    for isa in sets() {
        for (rows, width, n) in [(0, 8, 8), (1, 1, 1), (3, 15, 5), (300, 96, 96)] {
            let (mut x, w) = (numbers(1, rows * width), numbers(2, n));
            let wanted = reference::bias(&x, &w);
            let team = team(2);
            let (slab, mut y) = (Slab::new(&mut x), vec![0.0; rows * width]);
            // SAFETY: x and y are this test's own; the result is apart, then in place.
            unsafe {
                run(Workers { team: &team, isa }, slab, &w, Slab::new(&mut y));
                run(Workers { team: &team, isa }, slab, &w, slab);
            }
            assert_eq!(bits(&x), bits(&wanted));
            assert_eq!(bits(&y), bits(&wanted));
        }
    }
}
