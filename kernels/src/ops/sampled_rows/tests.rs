use super::*;
use crate::isa::Isa;
use crate::ops::samples::{bits, numbers, team};

#[test]
fn rows_are_copied_in_the_order_of_the_list() {
    for (rows, width, sampled) in [(1, 1, vec![0]), (5, 7, vec![0, 4]), (5, 7, vec![]), (300, 64, (0..300).collect())] {
        let mut x = numbers(1, rows * width);
        let wanted = reference::sampled_rows(&x, &sampled, width);
        let mut y = vec![0.0; wanted.len()];
        let team = team(2);
        let workers = Workers { team: &team, isa: Isa::Portable };
        // SAFETY: x and y are this test's own.
        unsafe { run(workers, Slab::new(&mut x), &sampled, width, Slab::new(&mut y)) };
        assert_eq!(bits(&y), bits(&wanted));
    }
}
