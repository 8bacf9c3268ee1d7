//! Pass 4: layers to stages, and stages to the segments between communications.

use super::PlanError;
use super::bridge::Move;
use super::fuse::{Fused, FusedNode, Fusion};
use super::shard::Dist;
use crate::axis::ValueId;
use crate::model::{Model, Section};
use crate::op::{Binary, Op};
use std::ops::Range;

/// A run of nodes that one actor computes in one go.
#[derive(Clone, PartialEq, Debug)]
pub struct Segment {
    /// The stage it belongs to.
    pub stage: u32,
    /// Its nodes.
    pub nodes: Vec<FusedNode>,
    /// Values it reads from elsewhere, by first use.
    pub inputs: Vec<ValueId>,
    /// Values of its own that others read.
    pub outputs: Vec<ValueId>,
}

/// A communication between the ranks of a stage.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Collective {
    /// The stage it belongs to.
    pub stage: u32,
    /// What is done.
    pub how: Move,
    /// What each rank brings.
    pub x: ValueId,
    /// What each rank gets.
    pub y: ValueId,
}

/// A segment or a communication.
#[derive(Clone, PartialEq, Debug)]
pub enum Piece {
    /// Computes.
    Segment(Segment),
    /// Communicates.
    Collective(Collective),
}

/// The fused graph in pieces, in topological order.
#[derive(Clone, Debug)]
pub struct Partitioned {
    /// The model.
    pub model: Model,
    /// Ranks of the tensor axis.
    pub ranks: u32,
    /// The dimension along which each weight is cut.
    pub cuts: Vec<Option<usize>>,
    /// Which model value each value is, and how it is held.
    pub values: Vec<(ValueId, Dist)>,
    /// Layers of each stage.
    pub layers: Vec<Range<u32>>,
    /// Segments and communications.
    pub pieces: Vec<Piece>,
    /// The token ids.
    pub tokens: ValueId,
    /// The logits, whole.
    pub output: ValueId,
    /// Values that the sampler reads beside them, whole.
    pub captured: Vec<ValueId>,
}

/// Layers a stage: as given, or as even as they come with the larger shares first (the last stage has the head as well).
///
/// # Errors
/// More stages than layers, or a partition that does not add up.
pub fn layers(model: &Model, stages: u32, given: Option<&[u32]>) -> Result<Vec<Range<u32>>, PlanError> {
    let total = model.layers();
    if stages == 0 || stages > total {
        return Err(PlanError::Stages { asked: stages, layers: total });
    }
    let even = |s: u32| total / stages + u32::from(s < total % stages);
    let counts = given.map_or_else(|| (0..stages).map(even).collect(), <[u32]>::to_vec);
    let sum: u64 = counts.iter().map(|&n| u64::from(n)).sum();
    if counts.len() != stages as usize || sum != u64::from(total) || counts.contains(&0) {
        return Err(PlanError::Partition { given: counts, stages, layers: total });
    }
    let mut from = 0;
    let range = |n: u32| {
        from += n;
        from - n..from
    };
    Ok(counts.into_iter().map(range).collect())
}

/// Cuts `fused` into stages of `layers`, and each stage at its communications.
pub fn partition(fused: Fused, layers: Vec<Range<u32>>) -> Partitioned {
    let Fused { model, ranks, cuts, values, nodes, output, captured } = fused;
    let stage = |section: Section| match section {
        Section::Embed => 0,
        Section::Layer(n) => layers.iter().position(|r| r.contains(&n)).unwrap_or(0),
        Section::Head => layers.len() - 1,
    };
    let mut of_stage: Vec<Vec<FusedNode>> = vec![vec![]; layers.len()];
    let mut tokens = ValueId(0);
    for node in nodes {
        if matches!(node.work, Fusion::Op(Op::Tokens)) {
            tokens = node.results[0];
            continue;
        }
        for part in part(node, &stage) {
            of_stage[stage(part.section)].push(part);
        }
    }
    let mut pieces: Vec<Piece> = vec![];
    for (stage, nodes) in of_stage.into_iter().enumerate() {
        pieces.extend(cut_stage(stage as u32, nodes));
    }
    connect(&mut pieces, captured.iter().copied().chain([output]).collect());
    Partitioned { model, ranks, cuts, values, layers, pieces, tokens, output, captured }
}

/// A sum and its norm are parted where the pipeline is cut between them.
fn part(node: FusedNode, stage: &impl Fn(Section) -> usize) -> Vec<FusedNode> {
    match node.work {
        Fusion::AddNorm { a, b, w, norm, normed } if stage(normed) != stage(node.section) => {
            let [sum, y] = node.results[..] else { return vec![node] };
            let add = Fusion::Op(Op::Binary(Binary::Add, a, b));
            let norm = Fusion::Op(Op::Norm { x: sum, w, norm });
            vec![
                FusedNode { work: add, results: vec![sum], section: node.section },
                FusedNode { work: norm, results: vec![y], section: normed },
            ]
        }
        Fusion::AddNorm { .. }
        | Fusion::Op(_)
        | Fusion::Contract { .. }
        | Fusion::Experts { .. }
        | Fusion::Gated { .. }
        | Fusion::Move(..) => {
            vec![node]
        }
    }
}

fn cut_stage(stage: u32, nodes: Vec<FusedNode>) -> Vec<Piece> {
    let mut pieces = vec![];
    let mut run: Vec<FusedNode> = vec![];
    let segment = |nodes| Piece::Segment(Segment { stage, nodes, inputs: vec![], outputs: vec![] });
    for node in nodes {
        match node.work {
            Fusion::Move(how, x) if !matches!(how, Move::Slice(_) | Move::Nothing) => {
                if !run.is_empty() {
                    pieces.push(segment(std::mem::take(&mut run)));
                }
                pieces.push(Piece::Collective(Collective { stage, how, x, y: node.results[0] }));
            }
            Fusion::Move(..)
            | Fusion::Op(_)
            | Fusion::Contract { .. }
            | Fusion::Experts { .. }
            | Fusion::Gated { .. }
            | Fusion::AddNorm { .. } => run.push(node),
        }
    }
    if !run.is_empty() {
        pieces.push(segment(run));
    }
    pieces
}

/// Finds what each segment reads from others and gives to others, or to the sampler.
fn connect(pieces: &mut [Piece], mut read_outside: Vec<ValueId>) {
    for piece in pieces.iter_mut() {
        match piece {
            Piece::Collective(c) => read_outside.push(c.x),
            Piece::Segment(segment) => {
                let own: Vec<ValueId> = segment.nodes.iter().flat_map(|n| n.results.iter().copied()).collect();
                for value in segment.nodes.iter().flat_map(|n| n.work.operands()) {
                    if !own.contains(&value) && !segment.inputs.contains(&value) {
                        segment.inputs.push(value);
                        read_outside.push(value);
                    }
                }
            }
        }
    }
    for piece in pieces {
        if let Piece::Segment(segment) = piece {
            let results = segment.nodes.iter().flat_map(|n| n.results.iter().copied());
            segment.outputs = results.filter(|v| read_outside.contains(v)).collect();
        }
    }
}
