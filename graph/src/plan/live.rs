//! What ranks behind the first compute: all that somebody reads. The sampler reads rank 0, so logits that every rank could compute whole
//! are computed there alone.

use super::fuse::FusedNode;
use super::partition::{Collective, Piece, Segment};
use crate::axis::ValueId;
use std::collections::BTreeSet;

/// Each piece as ranks behind the first have it; `None` where they have nothing of it: a segment nobody there reads, or a communication
/// to which they only contribute. `sampled` is what the sampler reads.
pub(super) fn behind_first(pieces: &[Piece], sampled: impl IntoIterator<Item = ValueId>) -> Vec<Option<Piece>> {
    // What is read on rank 0, and on the others.
    let (mut first, mut others): (BTreeSet<ValueId>, _) = (sampled.into_iter().collect(), BTreeSet::new());
    let mut found: Vec<Option<Piece>> =
        pieces.iter().rev().map(|piece| piece_of(piece, &mut first, &mut others)).collect();
    found.reverse();
    found
}

fn piece_of(piece: &Piece, first: &mut BTreeSet<ValueId>, others: &mut BTreeSet<ValueId>) -> Option<Piece> {
    match piece {
        Piece::Collective(collective @ Collective { x, y, .. }) => {
            let read = others.contains(y);
            if read || first.contains(y) {
                first.insert(*x);
                others.insert(*x);
            }
            read.then_some(Piece::Collective(*collective))
        }
        Piece::Segment(segment) => {
            first.extend(&segment.inputs);
            let read = others.clone();
            let mut nodes: Vec<FusedNode> = vec![];
            for node in segment.nodes.iter().rev().filter(|_| !read.is_empty()) {
                if node.results.iter().any(|value| others.contains(value)) {
                    others.extend(node.work.operands());
                    nodes.push(node.clone());
                }
            }
            nodes.reverse();
            let uses = |value: &ValueId| nodes.iter().any(|node| node.work.operands().contains(value));
            let inputs = segment.inputs.iter().copied().filter(uses).collect();
            let outputs = segment.outputs.iter().copied().filter(|value| read.contains(value)).collect();
            let stage = segment.stage;
            (!nodes.is_empty()).then_some(Piece::Segment(Segment { stage, nodes, inputs, outputs }))
        }
    }
}
