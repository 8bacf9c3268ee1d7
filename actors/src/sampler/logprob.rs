//! Log-probabilities of a row: of the raw logits, before temperature and rules, as vLLM's `raw_logprobs`.
//!
//! The logarithm of the sum is f64, summed front to back over the row; ranks go by logit, the lowest id first among equals.

use crate::ticket::Score;

/// Likeliest tokens told beside a token at most.
pub const LOGPROBS_MAX: u32 = kernels::draws::TOP_MAX;

/// How likely `token` was, and the `count` likeliest tokens, which are appended to `top`: at most [`LOGPROBS_MAX`] and at most all.
///
/// `logits` are finite, and `token` is one of them.
pub(super) fn score(logits: &[f32], token: u32, count: u32, top: &mut Vec<(u32, f32)>) -> Score {
    let max = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
    let log_sum = max + sum.ln();
    let logprob = |logit: f32| (f64::from(logit) - log_sum) as f32;
    let own = logits[token as usize];
    let larger = logits.iter().filter(|&&logit| logit > own).count();
    let equal_before = logits[..token as usize].iter().filter(|&&logit| logit == own).count();
    let first = top.len();
    let count = (count.min(LOGPROBS_MAX) as usize).min(logits.len());
    for (id, &logit) in logits.iter().enumerate().filter(|_| count > 0) {
        let best = &top[first..];
        if best.len() == count {
            if best[count - 1].1 >= logit {
                continue;
            }
            top.pop();
        }
        // An equal one that came before has the lower id and stays before it.
        let place = first + top[first..].partition_point(|&(_, other)| other >= logit);
        top.insert(place, (id as u32, logit));
    }
    top[first..].iter_mut().for_each(|(_, logit)| *logit = logprob(*logit));
    let rank = (larger + equal_before) as u32 + 1;
    Score { token, logprob: logprob(own), rank, first: first as u32, count: count as u32 }
}
