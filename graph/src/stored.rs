//! How a weight lies in its checkpoint: axes in another order than the model's, and tensors that are several weights in one.
//!
//! A stored dimension is an axis, or several runs of axes side by side of which a weight is one. So a fused projection is declared as
//! it is stored, and each of its parts is a weight of its own.

use crate::axis::Axis;
use crate::model::Draft;
use serde::{Deserialize, Serialize};

/// One dimension of a tensor as it is stored. Two of them may be one in the file: heads and elements of a head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stored {
    /// All of an axis.
    Axis(Axis),
    /// Runs of axes side by side; the weight is one of them. A run without axes is one element.
    Joined {
        /// The runs, in order.
        parts: Vec<Vec<Axis>>,
        /// Which of them.
        part: usize,
    },
}

impl Stored {
    /// All of each axis.
    pub fn plain(axes: &[Axis]) -> Vec<Self> {
        axes.iter().map(|&axis| Stored::Axis(axis)).collect()
    }

    /// Part `part` of `parts`.
    pub fn part(parts: &[&[Axis]], part: usize) -> Self {
        Self::Joined { parts: parts.iter().map(|axes| axes.to_vec()).collect(), part }
    }

    /// The axes that the weight has of this dimension.
    pub fn axes(&self) -> &[Axis] {
        match self {
            Stored::Axis(axis) => std::slice::from_ref(axis),
            Stored::Joined { parts, part } => parts.get(*part).map_or(&[], Vec::as_slice),
        }
    }

    /// Elements of the whole dimension, and those before the weight's part.
    fn extent(&self, length: &dyn Fn(&[Axis]) -> u64) -> (u64, u64) {
        match self {
            Stored::Axis(axis) => (length(&[*axis]), 0),
            Stored::Joined { parts, part } => {
                let lengths: Vec<u64> = parts.iter().map(|axes| length(axes)).collect();
                let sum = |lengths: &[u64]| lengths.iter().fold(0, |all: u64, &len| all.saturating_add(len));
                (sum(&lengths), sum(&lengths[..(*part).min(lengths.len())]))
            }
        }
    }

    /// Whether both are parts of one dimension, and different ones.
    fn parts_from(&self, other: &Self) -> bool {
        match (self, other) {
            (Stored::Joined { parts: a, part: i }, Stored::Joined { parts: b, part: j }) => a == b && i != j,
            (Stored::Axis(_) | Stored::Joined { .. }, _) => false,
        }
    }
}

/// Where the elements of a weight are in its tensor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Strides {
    /// The first element.
    pub offset: u64,
    /// From one index of each of the weight's axes to the next.
    pub strides: Vec<u64>,
    /// Elements of the tensor.
    pub elements: u64,
}

/// Lengths of the dimensions of the tensor.
pub(crate) fn dims(draft: &Draft, stored: &[Stored]) -> Vec<u64> {
    stored.iter().map(|dim| dim.extent(&|axes| draft.elements(axes)).0).collect()
}

/// Whether two weights of one name are different parts of one tensor.
pub(crate) fn disjoint(a: &[Stored], b: &[Stored]) -> bool {
    a.len() == b.len() && a.iter().zip(b).any(|(a, b)| a.parts_from(b))
}

/// Strides of the weight whose axes are `axes`, each of which some dimension has.
pub(crate) fn strides(draft: &Draft, axes: &[Axis], stored: &[Stored]) -> Strides {
    let length = |axes: &[Axis]| draft.elements(axes);
    let (mut elements, mut offset, mut strides) = (1u64, 0u64, vec![0; axes.len()]);
    for dim in stored.iter().rev() {
        let (whole, before) = dim.extent(&length);
        offset = before.saturating_mul(elements).saturating_add(offset);
        let mut stride = elements;
        for axis in dim.axes().iter().rev() {
            if let Some(at) = axes.iter().position(|a| a == axis) {
                strides[at] = stride;
            }
            stride = stride.saturating_mul(length(&[*axis]));
        }
        elements = elements.saturating_mul(whole);
    }
    Strides { offset, strides, elements }
}

/// What is wrong with the way a weight is stored.
pub(crate) fn fault(draft: &Draft, axes: &[Axis], stored: &[Stored]) -> Option<&'static str> {
    let exists = |axis: &Axis| axis.index() > 0 && axis.index() < draft.axes.len();
    let all = |dim: &Stored| match dim {
        Stored::Axis(axis) => vec![*axis],
        Stored::Joined { parts, .. } => parts.concat(),
    };
    if !stored.iter().flat_map(all).all(|axis| exists(&axis)) {
        return Some("it is stored along an axis that does not exist");
    }
    let out = |dim: &Stored| matches!(dim, Stored::Joined { parts, part } if *part >= parts.len());
    if stored.iter().any(out) {
        return Some("it is a part that its tensor lacks");
    }
    let mut kept: Vec<Axis> = stored.iter().flat_map(|dim| dim.axes().to_vec()).collect();
    let mut wanted = axes.to_vec();
    kept.sort();
    wanted.sort();
    (kept != wanted).then_some("the axes it is stored along are not its own")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axis::{AxisDef, Extent, ValueId};

    /// Axes of lengths 2, 3, 4, 5 behind the rows.
    fn draft() -> Draft {
        let axis = |n: u32| AxisDef { name: format!("a{n}"), extent: Extent::Fixed(n) };
        let rows = AxisDef { name: "rows".into(), extent: Extent::Rows };
        let axes = std::iter::once(rows).chain((2..6).map(axis)).collect();
        Draft { axes, params: vec![], nodes: vec![], output: ValueId(0) }
    }

    #[test]
    fn parts_begin_behind_those_before_them() {
        let [two, three, four, five] = [1, 2, 3, 4].map(Axis);
        // [2 · (3 · 4 | 4 | 4), 5]: per head, then joined.
        let parts: [&[Axis]; 3] = [&[three, four], &[four], &[four]];
        let joined = |part| vec![Stored::Axis(two), Stored::part(&parts, part), Stored::Axis(five)];
        let found = strides(&draft(), &[two, four, five], &joined(1));
        assert_eq!(found, Strides { offset: 12 * 5, strides: vec![20 * 5, 5, 1], elements: 2 * 20 * 5 });
        assert_eq!(dims(&draft(), &joined(1)), [2, 20, 5]);
        assert!(disjoint(&joined(1), &joined(2)) && !disjoint(&joined(1), &joined(1)));
        // Interleaved on the last axis, and transposed.
        let interleaved = [Stored::Axis(five), Stored::Axis(four), Stored::part(&[&[], &[]], 1)];
        let found = strides(&draft(), &[four, five], &interleaved);
        assert_eq!(found, Strides { offset: 1, strides: vec![2, 8], elements: 40 });
    }

    #[test]
    fn what_cannot_be_stored_is_said() {
        let [two, three] = [1, 2].map(Axis);
        let says = |axes: &[Axis], stored: &[Stored]| fault(&draft(), axes, stored);
        assert_eq!(says(&[two], &[Stored::Axis(two)]), None);
        assert_eq!(says(&[two], &[Stored::Axis(Axis(9))]), Some("it is stored along an axis that does not exist"));
        assert_eq!(says(&[two], &[Stored::part(&[&[two]], 1)]), Some("it is a part that its tensor lacks"));
        assert_eq!(says(&[two], &[Stored::Axis(three)]), Some("the axes it is stored along are not its own"));
    }
}
