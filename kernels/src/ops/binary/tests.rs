use super::*;
use crate::ops::samples::{bits, numbers, sets, team};

#[test]
fn results_have_the_bits_of_the_reference_in_place_and_apart() {
    for f in [Binary::Add, Binary::Mul] {
        for isa in sets() {
            for count in [0, 1, 9, 20_001] {
                let (mut a, mut b, mut y) = (numbers(1, count), numbers(2, count), vec![0.0; count]);
                let wanted: Vec<f32> = a.iter().zip(&b).map(|(&a, &b)| reference::binary(f, a, b)).collect();
                let team = team(2);
                let workers = Workers { team: &team, isa };
                let (sa, sb, sy) = (Slab::new(&mut a), Slab::new(&mut b), Slab::new(&mut y));
                // SAFETY: the three vectors are this test's own; y is apart, then it is a.
                unsafe {
                    run(workers, f, sa, sb, sy);
                    run(workers, f, sa, sb, sa);
                }
                assert_eq!(bits(&y), bits(&wanted));
                assert_eq!(bits(&a), bits(&wanted));
            }
        }
    }
}
