use super::*;
use crate::ops::Workers;
use crate::ops::samples::{assert_close, bits, numbers, sets, team};
use crate::slab::Slab;
use graph::{Norm, NormKind};

const NORMS: [Norm; 3] = [
    Norm { kind: NormKind::Rms, eps: 1e-6, offset: 0.0, run: None },
    Norm { kind: NormKind::Rms, eps: 1e-5, offset: 1.0, run: None },
    Norm { kind: NormKind::Layer, eps: 1e-5, offset: 0.0, run: None },
];

#[test]
fn norms_are_those_of_the_reference_for_any_length() {
    for (isa, norm) in sets().into_iter().flat_map(|isa| NORMS.map(|norm| (isa, norm))) {
        for (rows, n) in [(0, 8), (1, 1), (3, 7), (2, 32), (5, 33), (300, 96), (2, 4099)] {
            // Far from zero, so that a mean that is not taken off shows.
            let mut x: Vec<f32> = numbers(1, rows * n).iter().map(|x| x + 0.5).collect();
            let w = numbers(2, n);
            let wanted = reference::norm(&x, &w, norm);
            let scale = Scale { w: &w, norm };
            let team = team(2);
            let mut y = vec![0.0; x.len()];
            // SAFETY: x and y are this test's own.
            unsafe { run(Workers { team: &team, isa }, Slab::new(&mut x), scale, Slab::new(&mut y)) };
            assert_close(&y, &wanted, 1e-6, "norm");
            let slab = Slab::new(&mut x);
            // SAFETY: x is this test's own, and the result is in place.
            unsafe { run(Workers { team: &team, isa }, slab, scale, slab) };
            assert_eq!(bits(&x), bits(&y), "in place");
        }
    }
}

#[test]
fn runs_in_turn_have_the_bits_of_each_run_with_its_weights() {
    for (isa, norm) in sets().into_iter().flat_map(|isa| NORMS.map(|norm| (isa, norm))) {
        for (rows, runs, n) in [(1, 2, 1), (3, 2, 64), (5, 3, 33)] {
            let (mut x, w) = (numbers(1, rows * runs * n), numbers(2, runs * n));
            let in_turn = Scale { w: &w, norm: Norm { run: Some(n as u32), ..norm } };
            assert_close(
                &reference::norm(&x[..n], &w[..n], norm),
                &reference::norm(&x, &w, in_turn.norm)[..n],
                0.0,
                "reference",
            );
            let team = team(2);
            let workers = Workers { team: &team, isa };
            let mut y = vec![0.0; x.len()];
            // SAFETY: x and y are this test's own.
            unsafe { run(workers, Slab::new(&mut x), in_turn, Slab::new(&mut y)) };
            for (number, (x, y)) in x.chunks_mut(n).zip(y.chunks(n)).enumerate() {
                let slab = Slab::new(x);
                // SAFETY: x is this test's own, and the result is in place.
                unsafe { run(workers, slab, Scale { w: &w[number % runs * n..][..n], norm }, slab) };
                assert_eq!(bits(x), bits(y), "run {number} of {runs} by {n}");
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others() {
    for (isa, norm) in sets().into_iter().flat_map(|isa| NORMS.map(|norm| (isa, norm))) {
        let (rows, n) = (200, 130);
        let (mut x, w) = (numbers(1, rows * n), numbers(2, n));
        let mut alone = x[50 * n..51 * n].to_vec();
        for (x, threads) in [(&mut x, 2), (&mut alone, 1)] {
            let team = team(threads);
            let slab = Slab::new(x);
            // SAFETY: x is this test's own.
            unsafe { run(Workers { team: &team, isa }, slab, Scale { w: &w, norm }, slab) };
        }
        assert_eq!(bits(&x[50 * n..51 * n]), bits(&alone));
    }
}

#[test]
fn the_fused_sum_has_the_bits_of_a_sum_and_a_norm() {
    for (isa, norm) in sets().into_iter().flat_map(|isa| NORMS.map(|norm| (isa, norm))) {
        let (rows, n) = (3, 37);
        let (mut a, mut b, w) = (numbers(1, rows * n), numbers(3, rows * n), numbers(2, n));
        let mut total: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let (mut y, mut separate) = (vec![0.0; a.len()], vec![0.0; a.len()]);
        let team = team(1);
        let workers = Workers { team: &team, isa };
        let scale = Scale { w: &w, norm };
        let (a_slab, b_slab) = (Slab::new(&mut a), Slab::new(&mut b));
        // SAFETY: all are this test's own; the sum is a.
        unsafe {
            add_run(workers, Sum { a: a_slab, b: b_slab, sum: a_slab }, scale, Slab::new(&mut y));
            run(workers, Slab::new(&mut total), scale, Slab::new(&mut separate));
        }
        assert_eq!(bits(&y), bits(&separate));
        assert_eq!(bits(&a), bits(&total));
    }
}
