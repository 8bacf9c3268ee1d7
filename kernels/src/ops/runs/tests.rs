use super::*;
use crate::isa::Isa;
use crate::ops::samples::{numbers, team};

#[test]
fn each_run_has_its_other_behind_it() {
    for (runs, m, n) in [(0, 3, 2), (1, 1, 1), (7, 3, 5), (5000, 2, 3)] {
        let (a, b) = (numbers(1, runs * m), numbers(2, runs * n));
        let team = team(2);
        let workers = Workers { team: &team, isa: Isa::Portable };
        let mut joined = vec![f32::NAN; runs * (m + n)];
        // SAFETY: the results are this test's own.
        unsafe { concat(workers, [Runs { x: &a, run: m }, Runs { x: &b, run: n }], Slab::new(&mut joined)) };
        let wanted: Vec<f32> = (0..runs).flat_map(|i| [&a[i * m..][..m], &b[i * n..][..n]].concat()).collect();
        assert_eq!(joined, wanted);
    }
}
