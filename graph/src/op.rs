//! The op vocabulary of the logical graph: closed, and small on purpose.
//!
//! Shapes are named axes. `rows` is the axis of all tokens of a step; every activation carries it first.

use crate::axis::{ParamId, ValueId};
use crate::rope::Rope;
use serde::{Deserialize, Serialize};

/// Which positions a query row may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// All positions of its own sequence up to its own.
    Causal,
}

/// A pointwise function of one operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unary {
    /// x · σ(x).
    Silu,
    /// x · Φ(x), with the error function.
    Gelu,
    /// x · Φ(x) by the tanh approximation (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// A pointwise function of two operands of equal axes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binary {
    /// a + b.
    Add,
    /// a · b.
    Mul,
}

/// One op of the logical graph.
#[derive(Clone, PartialEq, Debug)]
pub enum Op {
    /// The token ids of the step: `[rows]`.
    Tokens,
    /// Row lookup: ids `[rows]`, table `[vocab, …]` → `[rows, …]`.
    Gather {
        /// The weight looked up in; its first axis is the one the ids count.
        table: ParamId,
        /// Token ids.
        ids: ValueId,
    },
    /// Sum over every axis that both operands name: x `[rows, kept…, summed…]`, w `[new…, summed…]` → `[rows, kept…, new…]`.
    Contract {
        /// Activations.
        x: ValueId,
        /// Weight.
        w: ParamId,
    },
    /// x + w, the weight repeated over the axes it does not name.
    Bias {
        /// Activations.
        x: ValueId,
        /// Weight; its axes are the trailing ones of `x`.
        w: ParamId,
    },
    /// x · w / √(mean(x²) + eps) over the last axis (Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4).
    RmsNorm {
        /// Activations.
        x: ValueId,
        /// Weight over the last axis of `x`.
        w: ParamId,
        /// Added to the mean square.
        eps: f32,
    },
    /// Rotation of the last axis by each row's position.
    Rope {
        /// Activations.
        x: ValueId,
        /// Angles.
        rope: Rope,
    },
    /// Softmax attention over a sequence: q `[rows, heads, group, dim]`, k and v `[rows, heads, dim]` → as q
    /// (Vaswani et al. 2017, arXiv:1706.03762, eq. 1; grouped as in arXiv:2305.13245).
    Attend {
        /// Queries.
        q: ValueId,
        /// Keys.
        k: ValueId,
        /// Values.
        v: ValueId,
        /// Visibility.
        mask: Mask,
        /// What scores are multiplied by before the softmax.
        scale: f32,
    },
    /// Pointwise, one operand.
    Unary(Unary, ValueId),
    /// Pointwise, two operands of equal axes.
    Binary(Binary, ValueId, ValueId),
    /// Keeps the rows that will be sampled.
    SampledRows(ValueId),
}

impl Op {
    /// The values this op reads, in order.
    pub fn operands(&self) -> Vec<ValueId> {
        match *self {
            Op::Tokens => vec![],
            Op::Gather { ids, .. } => vec![ids],
            Op::Contract { x, .. } | Op::Bias { x, .. } | Op::RmsNorm { x, .. } | Op::Rope { x, .. } => vec![x],
            Op::Attend { q, k, v, .. } => vec![q, k, v],
            Op::Unary(_, x) | Op::SampledRows(x) => vec![x],
            Op::Binary(_, a, b) => vec![a, b],
        }
    }

    /// The weight this op reads, if any.
    pub fn param(&self) -> Option<ParamId> {
        match *self {
            Op::Gather { table: p, .. }
            | Op::Contract { w: p, .. }
            | Op::Bias { w: p, .. }
            | Op::RmsNorm { w: p, .. } => Some(p),
            Op::Tokens | Op::Rope { .. } | Op::Attend { .. } | Op::Unary(..) | Op::Binary(..) | Op::SampledRows(_) => {
                None
            }
        }
    }

    /// The name of the op in the text form.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Tokens => "tokens",
            Op::Gather { .. } => "gather",
            Op::Contract { .. } => "contract",
            Op::Bias { .. } => "bias",
            Op::RmsNorm { .. } => "rms_norm",
            Op::Rope { .. } => "rope",
            Op::Attend { .. } => "attend",
            Op::Unary(Unary::Silu, _) => "silu",
            Op::Unary(Unary::Gelu, _) => "gelu",
            Op::Unary(Unary::GeluTanh, _) => "gelu_tanh",
            Op::Unary(Unary::Relu, _) => "relu",
            Op::Binary(Binary::Add, ..) => "add",
            Op::Binary(Binary::Mul, ..) => "mul",
            Op::SampledRows(_) => "sampled_rows",
        }
    }
}
