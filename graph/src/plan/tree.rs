//! Numerics of a tree: sums whose bits no degree changes.
//!
//! - The terms of a contraction over an axis that ranks may share are summed in equal runs, each in order, and the runs are added in a
//!   binary tree. A rank has some neighbouring runs, so its sum is a branch of the tree, and the sum over ranks is what lies above.
//! - What experts make is summed over ranks choice by choice and weighed behind that, in the order of a row's choices: `combine` becomes
//!   `experts` and `weigh`, whether ranks share each expert or have whole ones.

use super::SUM_PARTS_MAX;
use super::bridge::with_operands;
use super::shard::Rules;
use crate::axis::{Axis, ParamId, ValueId};
use crate::model::{Model, Node};
use crate::op::Op;

/// The model with its combinations taken apart, and where its values are then.
pub(super) fn by_choice(model: &Model) -> (Model, Vec<ValueId>) {
    let mut draft = model.draft().clone();
    let mut at: Vec<ValueId> = vec![];
    for node in std::mem::take(&mut draft.nodes) {
        let operands: Vec<ValueId> = node.op.operands().iter().map(|v| at[v.index()]).collect();
        let mut push = |op, axes| {
            draft.nodes.push(Node { op, axes, section: node.section });
            ValueId(draft.nodes.len() as u32 - 1)
        };
        let last = if let Op::Combine { w, .. } = node.op {
            let (x, gates) = (operands[0], operands[1]);
            let Op::Route { choices, .. } = model.nodes()[node.op.operands()[1].index()].op else {
                unreachable!("only a checked model gets here, whose gates are made by route")
            };
            let axes = [node.axes[0], choices].iter().chain(&node.axes[1..]).copied().collect();
            let x = push(Op::Experts { x, gates, w }, axes);
            push(Op::Weigh { x, gates }, node.axes)
        } else {
            push(with_operands(&node.op, &operands), node.axes)
        };
        at.push(last);
    }
    draft.output = at[draft.output.index()];
    (Model::check(draft).expect("both ops hold the laws that combine holds"), at)
}

/// The weight of a contraction and its summed axes, the outermost first.
fn summed<'m>(model: &'m Model, op: &Op) -> Option<(ParamId, &'m [Axis])> {
    let (Op::Contract { x, w } | Op::Experts { x, w, .. }) = *op else { return None };
    let (x, w_axes) = (&model.nodes()[x.index()].axes, &model.param(w).axes);
    let count = w_axes.iter().rev().take_while(|axis| x.contains(axis)).count();
    Some((w, &w_axes[w_axes.len() - count..]))
}

/// Runs that the sums of one contraction can have along its outermost summed axis: the whole of an axis of one element is passed over.
fn runs(model: &Model, summed: &[Axis]) -> Option<(Axis, u32)> {
    let length = |axis: &Axis| model.length(*axis).unwrap_or(1);
    let outer = summed.iter().find(|axis| length(axis) > 1)?;
    let terms: u32 = summed.iter().map(length).product();
    let fits = |parts: &u32| length(outer).is_multiple_of(*parts) && terms.is_multiple_of(2 * parts);
    Some((*outer, (0..=SUM_PARTS_MAX.ilog2()).rev().map(|level| 1 << level).find(fits).unwrap_or(1)))
}

/// Runs of the sums along an axis: as many as all contractions over it can have, 1 where one of them has other axes outside of it.
pub(super) fn parts(model: &Model, axis: Axis) -> u32 {
    let of = |(_, summed): (ParamId, &[Axis])| {
        let inside = summed.contains(&axis).then(|| runs(model, summed))?;
        Some(inside.filter(|(outer, _)| *outer == axis).map_or(1, |(_, parts)| parts))
    };
    model.nodes().iter().filter_map(|node| summed(model, &node.op).and_then(of)).min().unwrap_or(1)
}

/// Runs of the sums of a weight on one of `ranks` ranks, which has a part of dimension `cut`.
pub(super) fn of_weight(model: &Model, param: ParamId, cut: Option<usize>, ranks: u32) -> u32 {
    let contracted = model.nodes().iter().find_map(|node| summed(model, &node.op).filter(|(w, _)| *w == param));
    let Some((outer, _)) = contracted.and_then(|(_, summed)| runs(model, summed)) else { return 1 };
    let name = &model.axes()[outer.index()].name;
    if !Rules::default().summed().any(|axis| axis == name) {
        return 1;
    }
    let mine = cut.is_some_and(|dim| model.param(param).axes[dim] == outer);
    parts(model, outer) / if mine { ranks } else { 1 }
}
