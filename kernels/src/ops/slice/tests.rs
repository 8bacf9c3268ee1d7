use super::*;
use crate::ops::samples::{bits, numbers, sets, team};

#[test]
fn a_slice_is_that_of_the_reference() {
    for (count, kept) in [
        (1, Run { block: 1, from: 0, run: 1 }),
        (6, Run { block: 12, from: 4, run: 8 }),
        (3001, Run { block: 10, from: 5, run: 5 }),
    ] {
        let mut x = numbers(1, count * kept.block);
        let wanted = reference::slice(&x, kept);
        let mut y = vec![f32::NAN; count * kept.run];
        let team = team(2);
        // SAFETY: both are this test's own.
        unsafe { run(Workers { team: &team, isa: sets()[0] }, Slab::new(&mut x), kept, Slab::new(&mut y)) };
        assert_eq!(bits(&y), bits(&wanted), "{kept:?}");
    }
}
