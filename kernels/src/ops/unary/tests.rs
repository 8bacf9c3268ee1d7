use super::reference::unary;
use super::*;
use crate::ops::samples::{assert_close, bits, numbers, sets, team};

const ALL: [Unary; 11] = [
    Unary::ClampedSwish { alpha: 1.7, limit: 2.0 },
    Unary::ClampedPlusOne(3.5),
    Unary::Silu,
    Unary::Gelu,
    Unary::GeluTanh,
    Unary::Relu,
    Unary::Relu2,
    Unary::Sigmoid,
    Unary::Scale(-0.3),
    Unary::Softcap(0.7),
    Unary::Softcap(30.0),
];

fn compute(f: Unary, isa: crate::isa::Isa, threads: usize, x: &[f32]) -> Vec<f32> {
    let team = team(threads);
    let mut y = x.to_vec();
    let slab = Slab::new(&mut y);
    // SAFETY: y is this function's own, and x is y.
    unsafe { run(Workers { team: &team, isa }, f, slab, slab) };
    y
}

#[test]
fn functions_are_those_of_the_reference() {
    for f in ALL {
        for isa in sets() {
            for count in [0, 1, 7, 8, 9, 1000] {
                let x: Vec<f32> = numbers(3, count).iter().map(|v| v * 12.0).collect();
                let wanted: Vec<f32> = x.iter().map(|&v| unary(f, v)).collect();
                assert_close(&compute(f, isa, 1, &x), &wanted, 1e-6, &format!("{f:?} {}", isa.name()));
            }
        }
    }
}

#[test]
fn a_tail_has_the_bits_of_a_full_vector_and_threads_change_nothing() {
    for f in ALL {
        for isa in sets() {
            let x = numbers(5, 40_003);
            let whole = compute(f, isa, 1, &x);
            assert_eq!(bits(&whole), bits(&compute(f, isa, 3, &x)));
            for i in [0, 5, 40_002] {
                assert_eq!(whole[i].to_bits(), compute(f, isa, 1, &x[i..=i])[0].to_bits());
            }
        }
    }
}

#[test]
fn large_arguments_saturate_and_not_a_number_stays() {
    for isa in sets() {
        let y = compute(Unary::Silu, isa, 1, &[-200.0, 200.0, f32::NAN, 0.0]);
        let capped = compute(Unary::Softcap(2.0), isa, 1, &[-200.0, 200.0, f32::NAN, 1e-20]);
        assert!((capped[0] + 2.0).abs() < 1e-6 && capped[0] == -capped[1] && capped[2].is_nan(), "{capped:?}");
        assert!((capped[3] - 1e-20).abs() < 1e-26, "small values keep their size: {capped:?}");
        assert!(y[0].abs() < 1e-30 && y[1] == 200.0 && y[2].is_nan() && y[3] == 0.0, "{y:?}");
    }
}
