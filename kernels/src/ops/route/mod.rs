//! Gates of the experts that each row's logits choose: their weights, and zeros elsewhere.
//!
//! Shapes: logits `[rows, experts]`, bias `[experts]`, gates `[rows, held]`: the experts `first..first + held`.
//! Maths: [`Routing`]. Scores, sums and weights of a row are computed by one thread in the order of the experts.
//! Bytes: 4 read an expert, 4 written a held one. Error: a few roundings of e^x, which the standard library's has within one.
//! Source: arXiv:2401.04088, §2.1; arXiv:2412.19437, §2.1.2.

pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use super::Workers;
use crate::slab::Slab;
use graph::routing::{CHOICES_MAX, EXPERTS_MAX, WEIGHT_SUM_LEAST};
use graph::{Routing, Score};

/// How the rows of a call are routed.
#[derive(Clone, Copy)]
pub(crate) struct Router<'a> {
    /// How experts are chosen.
    pub(crate) routing: &'a Routing,
    /// How many of them.
    pub(crate) choices: usize,
    /// Added for the choice alone.
    pub(crate) bias: Option<&'a [f32]>,
    /// Experts in all.
    pub(crate) experts: usize,
    /// The first one held here.
    pub(crate) first: usize,
    /// How many are held here.
    pub(crate) held: usize,
}

/// Gates of every row.
///
/// # Safety
/// `y` is this call's alone until it returns, and does not overlap `x`.
pub(crate) unsafe fn run(workers: Workers<'_>, router: Router<'_>, x: &[f32], y: Slab<'_>) {
    let rows = x.len() / router.experts;
    // Exponentials and choices are about sixteen times the work of a pointwise function.
    workers.cut(rows, 1, x.len() * 16, &|rows| {
        for row in rows {
            // SAFETY: this thread alone has these rows of y.
            let gates = unsafe { y.write(row * router.held, router.held) };
            route(router, &x[row * router.experts..][..router.experts], gates);
        }
    });
}

/// The gates of one row.
fn route(router: Router<'_>, logits: &[f32], gates: &mut [f32]) {
    let (mut scores, mut keys, mut chosen) = ([0.0; EXPERTS_MAX], [0.0; EXPERTS_MAX], [0; CHOICES_MAX]);
    let (scores, keys, chosen) =
        (&mut scores[..logits.len()], &mut keys[..logits.len()], &mut chosen[..router.choices]);
    match router.routing.score {
        Score::Softmax => {
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().zip(logits).for_each(|(score, x)| *score = (x - top).exp());
            let sum: f32 = scores.iter().sum();
            scores.iter_mut().for_each(|score| *score /= sum);
        }
        Score::Sigmoid => scores.iter_mut().zip(logits).for_each(|(score, x)| *score = 1.0 / (1.0 + (-x).exp())),
    }
    keys.copy_from_slice(scores);
    if let Some(bias) = router.bias {
        keys.iter_mut().zip(bias).for_each(|(key, bias)| *key += bias);
    }
    router.routing.choose(keys, chosen);
    chosen.sort_unstable();
    let sum = match router.routing.normalise {
        true => chosen.iter().map(|&expert| scores[expert as usize]).sum::<f32>() + WEIGHT_SUM_LEAST,
        false => 1.0,
    };
    gates.fill(0.0);
    for expert in chosen.iter().map(|&expert| expert as usize) {
        if let Some(gate) = expert.checked_sub(router.first).and_then(|at| gates.get_mut(at)) {
            *gate = scores[expert] / sum * router.routing.scale;
        }
    }
}
