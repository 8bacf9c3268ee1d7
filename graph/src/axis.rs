//! Typed ids, and the named dimensions that values and weights are made of.

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $id:ident),* $(,)?) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $id(pub u32);

        impl $id {
            /// The id as an index into the table it belongs to.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )* };
}

pub(crate) use ids;

ids!(
    /// A value of a graph: the result of the node of the same number.
    ValueId,
    /// A named dimension of a graph.
    Axis,
    /// A weight of a graph, by its place in the table of weights.
    ParamId,
);

/// What the length of an axis is known to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// Fixed by the configuration of the model.
    Fixed(u32),
    /// All tokens of one step, packed: bound afresh at every step.
    Rows,
}

/// The name and length of an axis.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AxisDef {
    /// The name that rules and messages use, unique in its graph.
    pub name: String,
    /// The length.
    pub extent: Extent,
}
