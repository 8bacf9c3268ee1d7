//! Experts: the choice of a row, and what its experts compute.

use super::Tensor;
use crate::routing::{Routing, Score, WEIGHT_SUM_LEAST};

/// Gates `[rows, experts]` from logits `[rows, experts]`.
pub(super) fn route(logits: &Tensor, bias: Option<&[f32]>, choices: usize, routing: &Routing) -> Vec<f32> {
    let row = |logits: &[f32]| {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&x| f64::from(x - top).exp()).sum();
        let score = |&x: &f32| match routing.score {
            Score::Softmax => f64::from(x - top).exp() / sum,
            Score::Sigmoid => 1.0 / (1.0 + (-f64::from(x)).exp()),
        };
        let scores: Vec<f32> = logits.iter().map(|x| score(x) as f32).collect();
        let bias = |expert: usize| bias.map_or(0.0, |bias| bias[expert]);
        let keys: Vec<f32> = scores.iter().enumerate().map(|(expert, score)| score + bias(expert)).collect();
        let mut chosen = vec![0; choices];
        routing.choose(&keys, &mut chosen);
        let weight = |expert: usize| if chosen.contains(&(expert as u32)) { scores[expert] } else { 0.0 };
        let weights: Vec<f32> = (0..scores.len()).map(weight).collect();
        let sum = if routing.normalise { weights.iter().sum::<f32>() + WEIGHT_SUM_LEAST } else { 1.0 };
        weights.into_iter().map(|w| w / sum * routing.scale).collect::<Vec<f32>>()
    };
    runs(logits).flat_map(row).collect()
}

/// The rows of a matrix.
fn runs(x: &Tensor) -> impl Iterator<Item = &[f32]> {
    x.data.chunks_exact(x.dims[1])
}

/// The experts of a row, in order, with their weights.
fn chosen(gates: &[f32], choices: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
    gates.iter().copied().enumerate().filter(|(_, gate)| *gate != 0.0).take(choices)
}

fn dot(x: &[f32], w: &[f32]) -> f32 {
    x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum::<f64>() as f32
}

/// How `x` lies: whose experts its rows choose.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Experts that a row chooses, at most.
    pub(super) choices: usize,
    /// Parts of a row of `x`: one for each choice, or one for all of them.
    pub(super) parts: usize,
}

/// A choice: its part of `x`, its expert's part of `w`, its weight.
type Choice<'a> = (&'a [f32], &'a [f32], f32);

/// The choices of each row.
fn rows<'a>([x, gates]: [&'a Tensor; 2], shape: Shape, w: &'a [f32]) -> impl Iterator<Item = Vec<Choice<'a>>> {
    let (k, of_expert) = (terms([x, gates], shape), w.len() / gates.dims[1]);
    runs(gates).enumerate().map(move |(row, gates)| {
        let part = |choice: usize| &x.data[(row * shape.parts + choice % shape.parts) * k..][..k];
        let numbered = chosen(gates, shape.choices).enumerate();
        numbered.map(|(choice, (expert, gate))| (part(choice), &w[expert * of_expert..][..of_expert], gate)).collect()
    })
}

/// Elements of a part of `x`.
fn terms([x, gates]: [&Tensor; 2], shape: Shape) -> usize {
    x.data.len() / gates.dims[0].max(1) / shape.parts
}

/// x by the weight of each choice's expert: zeros where a row has fewer choices than it may.
pub(super) fn contract(operands: [&Tensor; 2], shape: Shape, w: &[f32]) -> Vec<f32> {
    let k = terms(operands, shape);
    let new = w.len() / operands[1].dims[1] / k;
    let mut out = vec![];
    for row in rows(operands, shape, w) {
        let missing = shape.choices - row.len();
        out.extend(row.into_iter().flat_map(|(x, w, _)| w.chunks_exact(k).map(move |w| dot(x, w))));
        out.resize(out.len() + missing * new, 0.0);
    }
    out
}

/// x plus the entry of each choice's expert.
pub(super) fn bias(operands: [&Tensor; 2], shape: Shape, w: &[f32]) -> Vec<f32> {
    let k = terms(operands, shape);
    let mut out = operands[0].data.clone();
    for (row, choices) in rows(operands, shape, w).enumerate() {
        for (choice, (_, w, _)) in choices.into_iter().enumerate() {
            let out = &mut out[(row * shape.choices + choice) * k..][..k];
            out.iter_mut().zip(w).for_each(|(out, w)| *out += w);
        }
    }
    out
}

/// The weighted sum of what each choice's expert makes of its part of `x`.
pub(super) fn combine(operands: [&Tensor; 2], shape: Shape, w: &[f32]) -> Vec<f32> {
    let k = terms(operands, shape);
    let new = w.len() / operands[1].dims[1] / k;
    let row = |choices: Vec<Choice<'_>>| {
        let mut sums = vec![0.0f64; new];
        for (x, w, gate) in choices {
            let each = w.chunks_exact(k).map(|w| f64::from(gate) * f64::from(dot(x, w)));
            sums.iter_mut().zip(each).for_each(|(sum, term)| *sum += term);
        }
        sums.into_iter().map(|sum| sum as f32).collect::<Vec<f32>>()
    };
    rows(operands, shape, w).flat_map(row).collect()
}

/// The parts of `x` by their gates, added in the order of the choices.
pub(super) fn weigh([x, gates]: [&Tensor; 2], shape: Shape) -> Vec<f32> {
    let width = terms([x, gates], shape);
    let mut out = vec![];
    for (row, gates) in runs(gates).enumerate() {
        let part = |choice: usize| &x.data[(row * shape.parts + choice) * width..][..width];
        let term = |i: usize, (choice, (_, gate))| f64::from(gate) * f64::from(part(choice)[i]);
        out.extend(
            (0..width).map(|i| chosen(gates, shape.choices).enumerate().map(|each| term(i, each)).sum::<f64>() as f32),
        );
    }
    out
}
