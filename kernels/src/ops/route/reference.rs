//! Plain loops in f64; the choice by sorting.

use graph::{Routing, Score};

/// Gates of one row of logits.
pub(super) fn route(routing: &Routing, logits: &[f32], bias: Option<&[f32]>, choices: usize) -> Vec<f32> {
    let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    let score = |x: f64| match routing.score {
        Score::Softmax => x.exp() / sum,
        Score::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    };
    let scores: Vec<f64> = logits.iter().map(|&x| score(x.into())).collect();
    let keys: Vec<f64> = scores.iter().enumerate().map(|(i, s)| s + bias.map_or(0.0, |b| f64::from(b[i]))).collect();
    let sorted = |keys: &[f64], mut entries: Vec<usize>| {
        entries.sort_by(|&a, &b| keys[b].total_cmp(&keys[a]).then(a.cmp(&b)));
        entries
    };
    let size = logits.len() / routing.groups as usize;
    let of_group = |group: usize| sorted(&keys, (group * size..(group + 1) * size).collect());
    let group_score = |group| of_group(group)[..routing.group_best as usize].iter().map(|&e| keys[e]).sum();
    let groups: Vec<f64> = (0..routing.groups as usize).map(group_score).collect();
    let kept = &sorted(&groups, (0..groups.len()).collect())[..routing.groups_kept as usize];
    let chosen = sorted(&keys, kept.iter().flat_map(|&group| group * size..(group + 1) * size).collect());
    let chosen = &chosen[..choices];
    let sum: f64 = if routing.normalise { chosen.iter().map(|&e| scores[e]).sum() } else { 1.0 };
    let gate = |e: usize| if chosen.contains(&e) { scores[e] / sum * f64::from(routing.scale) } else { 0.0 };
    (0..logits.len()).map(|e| gate(e) as f32).collect()
}
