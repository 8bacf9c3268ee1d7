//! The laws of a logical graph. All faults are returned, not the first.
//!
//! 1. Axis 0 is `rows`, and no other axis is bound at every step; names are unique; lengths are at least 1.
//! 2. A weight has axes that exist, differ, are not `rows`, and are those it is stored along. Weights of one name are different parts
//!    of one tensor, and together all of it.
//! 3. A node reads only values computed before it and weights that exist.
//! 4. The axes of a node are those that [`crate::infer`] gives; constants are in range.
//! 5. No op mixes all rows with sampled rows, and rows are sampled once.
//! 6. Sections go embed, layer 0, layer 1, …, head; layer numbers have no gap.
//! 7. Every weight, and every value but the output, is read.
//! 8. The output is `[rows, vocabulary]` behind `sampled_rows`.

use crate::axis::Extent;
use crate::error::GraphError;
use crate::infer::{ROWS, infer};
use crate::model::{Draft, ParamDef, Section};
use crate::op::Op;
use crate::stored;
use std::collections::BTreeMap;

/// Every law that `draft` breaks.
pub fn verify(draft: &Draft) -> Vec<GraphError> {
    let mut faults = Vec::new();
    axes(draft, &mut faults);
    params(draft, &mut faults);
    nodes(draft, &mut faults);
    row_sets(draft, &mut faults);
    sections(draft, &mut faults);
    unused(draft, &mut faults);
    output(draft, &mut faults);
    faults
}

fn axes(draft: &Draft, faults: &mut Vec<GraphError>) {
    let mut times = BTreeMap::new();
    for (number, axis) in draft.axes.iter().enumerate() {
        *times.entry(axis.name.as_str()).or_insert(0) += 1;
        if (axis.extent == Extent::Rows) != (number == 0) {
            faults.push(GraphError::RowsAxis { name: axis.name.clone(), number });
        }
        if axis.extent == Extent::Fixed(0) {
            faults.push(GraphError::AxisLength { name: axis.name.clone() });
        }
    }
    let twice = times.into_iter().filter(|&(name, times)| times > 1 || name.is_empty());
    faults.extend(twice.map(|(name, times)| GraphError::AxisName { name: name.into(), times }));
}

fn params(draft: &Draft, faults: &mut Vec<GraphError>) {
    let mut seen: BTreeMap<&str, Vec<&ParamDef>> = BTreeMap::new();
    for param in &draft.params {
        let exist = param.axes.iter().all(|a| a.index() < draft.axes.len());
        let differ = param.axes.iter().enumerate().all(|(i, a)| !param.axes[..i].contains(a));
        let what = match (param.axes.is_empty(), exist, differ, param.axes.contains(&ROWS)) {
            (true, ..) => Some("a weight has at least one axis"),
            _ if param.is_stacked() && param.axes.len() < 2 => Some("one tensor an entry has axes of its own"),
            (_, false, ..) => Some("an axis that does not exist"),
            (_, _, false, _) => Some("one axis named twice"),
            (.., true) => Some("a weight has no rows"),
            (false, true, true, false) => stored::fault(draft, &param.axes, &param.stored),
        };
        if let Some(what) = what {
            let axes = draft.names(&param.axes);
            faults.push(GraphError::ParamAxes { name: param.name.clone(), axes, what });
        }
        let others = seen.entry(&param.name).or_default();
        if let Some(first) = others.iter().find(|other| !stored::disjoint(&other.stored, &param.stored)) {
            let (first, second) = (draft.names(&first.axes), draft.names(&param.axes));
            faults.push(GraphError::ParamTwice { name: param.name.clone(), first, second });
        }
        others.push(param);
    }
    if !faults.is_empty() {
        return;
    }
    for (name, parts) in seen {
        let elements = parts.iter().fold(0u64, |all, part| all.saturating_add(draft.elements(&part.axes)));
        let whole = stored::strides(draft, &parts[0].axes, &parts[0].stored).elements;
        if elements != whole {
            faults.push(GraphError::Parts { name: name.into(), elements, whole });
        }
    }
}

fn nodes(draft: &Draft, faults: &mut Vec<GraphError>) {
    for (number, node) in draft.nodes.iter().enumerate() {
        match infer(draft, number, &node.op) {
            Ok(axes) if axes == node.axes => {}
            Ok(axes) => faults.push(GraphError::Declared {
                node: number,
                op: node.op.name(),
                declared: draft.names(&node.axes),
                gives: draft.names(&axes),
            }),
            Err(fault) => faults.push(fault),
        }
    }
}

/// For each node, whether it lies behind `sampled_rows`.
pub(crate) fn sampled(draft: &Draft) -> Vec<bool> {
    let mut sampled = vec![false; draft.nodes.len()];
    for (number, node) in draft.nodes.iter().enumerate() {
        let behind = |v: &crate::axis::ValueId| v.index() < number && sampled[v.index()];
        sampled[number] = matches!(node.op, Op::SampledRows(_)) || node.op.operands().iter().any(behind);
    }
    sampled
}

fn row_sets(draft: &Draft, faults: &mut Vec<GraphError>) {
    let sampled = sampled(draft);
    for (number, node) in draft.nodes.iter().enumerate() {
        let operands = node.op.operands();
        let mut sets = operands.iter().filter(|v| v.index() < number).map(|v| sampled[v.index()]);
        let mixed = match (&node.op, sets.next()) {
            (_, None) => false,
            (Op::SampledRows(_) | Op::Attend { .. } | Op::ShortConv { .. } | Op::Scan { .. }, Some(first)) => {
                first || sets.any(|s| s)
            }
            (_, Some(first)) => sets.any(|s| s != first),
        };
        if mixed {
            faults.push(GraphError::RowSets { node: number, op: node.op.name() });
        }
    }
}

fn sections(draft: &Draft, faults: &mut Vec<GraphError>) {
    let mut before = Section::Embed;
    for (number, node) in draft.nodes.iter().enumerate() {
        let follows = match (before, node.section) {
            (Section::Embed, Section::Layer(layer)) => layer == 0,
            (Section::Layer(last), Section::Layer(layer)) => layer == last || layer == last + 1,
            (Section::Head, Section::Layer(_)) | (Section::Layer(_) | Section::Head, Section::Embed) => false,
            (Section::Embed, Section::Embed) | (_, Section::Head) => true,
        };
        if !follows {
            let (found, before) = (node.section.to_string(), before.to_string());
            faults.push(GraphError::Section { node: number, op: node.op.name(), found, before });
        }
        before = node.section;
    }
}

fn unused(draft: &Draft, faults: &mut Vec<GraphError>) {
    let mut values = vec![false; draft.nodes.len()];
    let mut params = vec![false; draft.params.len()];
    for node in &draft.nodes {
        for v in node.op.operands() {
            values.get_mut(v.index()).into_iter().for_each(|read| *read = true);
        }
        for p in node.op.params() {
            params.get_mut(p.index()).into_iter().for_each(|read| *read = true);
        }
    }
    values.get_mut(draft.output.index()).into_iter().for_each(|read| *read = true);
    let value = |(n, read): (usize, &bool)| (!read).then(|| format!("%{n} ({})", draft.nodes[n].op.name()));
    let param = |(n, read): (usize, &bool)| (!read).then(|| format!("weight {}", draft.params[n].name));
    let what = values.iter().enumerate().filter_map(value).chain(params.iter().enumerate().filter_map(param));
    faults.extend(what.map(|what| GraphError::Unused { what }));
}

fn output(draft: &Draft, faults: &mut Vec<GraphError>) {
    let node = draft.output.index();
    let Some(found) = draft.nodes.get(node) else {
        let count = draft.nodes.len();
        faults.push(GraphError::Unknown { node, op: "output", what: "value", number: node, count });
        return;
    };
    if found.axes.len() != 2 || found.axes[0] != ROWS || !sampled(draft)[node] {
        faults.push(GraphError::Output { node, axes: draft.names(&found.axes) });
    }
}
