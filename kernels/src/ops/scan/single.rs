//! One generated row: the recurrence itself.

use super::desk::Desk;
use crate::isa::{Simd, math};

/// Brings the state behind row 0 of the desk, and its result into `out`.
#[inline(always)]
pub(super) fn advance<S: Simd>(s: S, desk: &mut Desk<'_>, is_delta: bool) {
    let lines = desk.lines;
    let factor = math::exp(s, s.splat(desk.decay[0]));
    if is_delta {
        let rate = s.splat(desk.step[0]);
        for pair in (0..lines).step_by(2) {
            let seen = through(s, desk, pair);
            for (half, seen) in seen.into_iter().enumerate() {
                let u = s.load(&desk.u[pair + half]);
                s.store(s.mul(rate, s.sub(u, s.mul(factor, seen))), &mut desk.u[pair + half]);
            }
        }
    }
    for pair in (0..lines).step_by(2) {
        let u = [s.load(&desk.u[pair]), s.load(&desk.u[pair + 1])];
        let mut sums = [s.zero(); 2];
        for term in 0..desk.key_dim {
            let (key, query) = (s.splat(desk.k[term]), s.splat(desk.q[term]));
            for half in 0..2 {
                let at = term * lines + pair + half;
                let state = s.fma(key, u[half], s.mul(factor, s.load(&desk.state[at])));
                s.store(state, &mut desk.state[at]);
                sums[half] = s.fma(query, state, sums[half]);
            }
        }
        desk.out[pair..pair + 2].iter_mut().zip(sums).for_each(|(out, sum)| s.store(sum, out));
    }
}

/// k S, for a pair of lines.
#[inline(always)]
fn through<S: Simd>(s: S, desk: &Desk<'_>, pair: usize) -> [S::V; 2] {
    let mut sums = [s.zero(); 2];
    for (term, key) in desk.k.iter().enumerate().take(desk.key_dim) {
        let (key, at) = (s.splat(*key), term * desk.lines + pair);
        sums[0] = s.fma(key, s.load(&desk.state[at]), sums[0]);
        sums[1] = s.fma(key, s.load(&desk.state[at + 1]), sums[1]);
    }
    sums
}
