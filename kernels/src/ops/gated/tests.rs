use super::*;
use crate::ops::samples::{assert_close, bits, numbers, sets, team};

#[test]
fn gating_is_that_of_the_reference_in_place_and_apart() {
    for f in [
        Unary::Silu,
        Unary::Gelu,
        Unary::GeluTanh,
        Unary::Relu,
        Unary::Relu2,
        Unary::Sigmoid,
        Unary::Scale(0.5),
        Unary::Softcap(3.0),
        Unary::ClampedSwish { alpha: 1.7, limit: 0.5 },
        Unary::ClampedPlusOne(0.5),
    ] {
        for isa in sets() {
            for count in [0, 3, 8, 20_001] {
                let (mut gate, mut up, mut y) = (numbers(1, count), numbers(2, count), vec![0.0; count]);
                let wanted: Vec<f32> = gate.iter().zip(&up).map(|(&g, &u)| reference::gated(f, g, u)).collect();
                let team = team(2);
                let workers = Workers { team: &team, isa };
                let (sg, su, sy) = (Slab::new(&mut gate), Slab::new(&mut up), Slab::new(&mut y));
                // SAFETY: the three vectors are this test's own; y is apart, then it is up.
                unsafe {
                    run(workers, f, sg, su, sy);
                    run(workers, f, sg, su, su);
                }
                assert_close(&y, &wanted, 1e-6, "gated");
                assert_eq!(bits(&y), bits(&up));
            }
        }
    }
}
