//! Drawing one token from one row of logits.
//!
//! The filters come in vLLM's order: temperature, min-p, top-k, top-p, each on what the one before has left, so that top-p is
//! a share of the probability that top-k and min-p kept. Equal logits are ordered by id, the lowest first. Sums are f64,
//! front to back over an order that the row alone fixes; nothing depends on the rows beside it.

use super::random::uniform;
use crate::ticket::Sampling;
use std::cmp::Ordering;

/// A token further below the largest than this, in temperature-scaled logits, has no chance worth a 53-bit number:
/// exp(-64) is 1.6e-28, and 1.1e-16 is the smallest step of the number it is drawn with.
const HOPELESS: f64 = -64.0;

/// Candidates that top-p looks at first; four times as many each time they do not reach its share.
const TOP_P_FIRST: usize = 256;

/// Room for the candidates of a row, used again and again.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Scratch {
    candidates: Vec<Candidate>,
}

impl Scratch {
    /// Room for rows of `vocab` logits.
    pub fn new(vocab: u32) -> Self {
        Self { candidates: Vec::with_capacity(vocab as usize) }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
    /// exp of the scaled distance to the largest logit: a probability up to a common factor.
    weight: f64,
}

/// The largest first, the lowest id among equals: a total order over finite logits.
fn by_rank(one: &Candidate, other: &Candidate) -> Ordering {
    other.logit.total_cmp(&one.logit).then(one.id.cmp(&other.id))
}

/// The id of the largest logit, the lowest among equals; 0 for an empty row.
pub fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// Draws the token at `position + 1` from the logits of the row at `position`, which are all finite and at least one.
pub fn draw(logits: &[f32], sampling: &Sampling, position: u32, scratch: &mut Scratch) -> u32 {
    let best = largest(logits);
    if sampling.temperature == 0.0 {
        return best;
    }
    let candidates = &mut scratch.candidates;
    collect(logits, logits[best as usize], sampling, candidates);
    let top_k = sampling.top_k as usize;
    if top_k > 0 && top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k - 1, by_rank);
        candidates.truncate(top_k);
        candidates.sort_unstable_by(by_rank);
    }
    if sampling.top_p < 1.0 {
        keep_top_p(candidates, f64::from(sampling.top_p));
    }
    pick(candidates, uniform(sampling, position))
}

/// Fills the candidates, by id, with what temperature and min-p leave.
fn collect(logits: &[f32], max: f32, sampling: &Sampling, candidates: &mut Vec<Candidate>) {
    let temperature = f64::from(sampling.temperature);
    // A token's probability over the likeliest one's is its weight: min-p is a bound on its logarithm.
    let floor = f64::from(sampling.min_p).ln().max(HOPELESS);
    candidates.clear();
    for (id, &logit) in logits.iter().enumerate() {
        let scaled = (f64::from(logit) - f64::from(max)) / temperature;
        if scaled >= floor {
            candidates.push(Candidate { id: id as u32, logit, weight: scaled.exp() });
        }
    }
}

/// Keeps the smallest set of likeliest candidates whose probability reaches `top_p`, at least one.
fn keep_top_p(candidates: &mut Vec<Candidate>, top_p: f64) {
    let share = top_p * candidates.iter().map(|candidate| candidate.weight).sum::<f64>();
    let mut ranked = TOP_P_FIRST;
    loop {
        let whole = ranked >= candidates.len();
        if !whole {
            candidates.select_nth_unstable_by(ranked - 1, by_rank);
        }
        let front = ranked.min(candidates.len());
        candidates[..front].sort_unstable_by(by_rank);
        let mut sum = 0.0;
        let reached = candidates[..front].iter().position(|candidate| {
            sum += candidate.weight;
            sum >= share
        });
        if let Some(last) = reached {
            candidates.truncate(last + 1);
            return;
        }
        if whole {
            return;
        }
        ranked *= 4;
    }
}

/// The candidate at which the running sum of weights passes `uniform` of the total.
fn pick(candidates: &[Candidate], uniform: f64) -> u32 {
    let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
    let target = uniform * total;
    let mut sum = 0.0;
    let passed = candidates.iter().find(|candidate| {
        sum += candidate.weight;
        sum > target
    });
    // The product can round up to the total; then it is the last one.
    passed.or(candidates.last()).expect("the largest logit is always a candidate").id
}
