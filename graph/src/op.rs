//! The op vocabulary of the logical graph: closed, and small on purpose.
//!
//! Shapes are named axes. `rows` is the axis of all tokens of a step; every activation carries it first.

use crate::axis::{Axis, ParamId, ValueId};
use crate::rope::Rope;
use crate::routing::Routing;
use serde::{Deserialize, Serialize};

/// What attention does beside softmax(q kᵀ) v over the positions of a sequence up to the query's own.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Attention {
    /// What scores are multiplied by.
    pub scale: f32,
    /// A query reads this many positions, its own counted; `None` is all up to its own
    /// (Beltagy et al. 2020, arXiv:2004.05150, §3.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// Scores become cap · tanh(score / cap) after the scale (Gemma Team 2024, arXiv:2408.00118, §2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f32>,
}

impl Attention {
    /// Scores times `scale`, over all positions.
    pub fn scaled(scale: f32) -> Self {
        Self { scale, window: None, softcap: None }
    }

    /// The first position that a query at `position` reads.
    pub fn first(&self, position: u32) -> u32 {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// What a norm divides by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormKind {
    /// √(mean(x²) + eps) (Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4).
    Rms,
    /// √(var(x) + eps), after the mean is taken off (Ba et al. 2016, arXiv:1607.06450, eq. 3).
    Layer,
}

/// A norm: (x - mean) / √(… + eps) · (w + offset).
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Norm {
    /// What is divided by.
    pub kind: NormKind,
    /// Added to the mean square or the variance.
    pub eps: f32,
    /// Added to the weight: 1 where a checkpoint stores the scale less one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offset: f32,
    /// Elements that are normalised together; `None` takes all of the weight's. Those of its axes behind the first: then each entry of
    /// the first axis is normalised alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u32>,
}

fn is_zero(offset: &f32) -> bool {
    *offset == 0.0
}

impl Norm {
    /// RMS norm with the weight as it is.
    pub fn rms(eps: f32) -> Self {
        Self { kind: NormKind::Rms, eps, offset: 0.0, run: None }
    }

    /// Layer norm with the weight as it is.
    pub fn layer(eps: f32) -> Self {
        Self { kind: NormKind::Layer, eps, offset: 0.0, run: None }
    }
}

/// How the state of a scan goes from row to row.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recurrence {
    /// S = α S + k (δ v)ᵀ, y = Sᵀ q + skip · v, with δ = softplus(dt) held within limits and α = e^(-δ e^a_log)
    /// (Dao & Gu 2024, arXiv:2405.21060, §2).
    Selective {
        /// The least δ.
        low: f32,
        /// The largest δ; `None` where there is no limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        high: Option<f32>,
    },
    /// S = α S + k uᵀ with u = σ(beta)(v - α Sᵀ k), y = Sᵀ q; k and q are brought to length 1, x/√(Σx² + 1e-6), and q is divided by
    /// the root of its length (Yang et al. 2024, arXiv:2412.06464, §3).
    Delta,
}

/// A pointwise function of one operand.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
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
    /// max(x, 0)² (arXiv:2109.08668, §3).
    Relu2,
    /// σ(x), the logistic function.
    Sigmoid,
    /// c · x.
    Scale(f32),
    /// c · tanh(x / c).
    Softcap(f32),
    /// x' · σ(alpha · x'), x' being x but at most `limit` (arXiv:2508.10925, §2.2).
    ClampedSwish {
        /// In the logistic function.
        alpha: f32,
        /// The most that counts of x.
        limit: f32,
    },
    /// x held within ± limit, plus 1.
    ClampedPlusOne(f32),
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
    /// Row lookup by the position of each row in its sequence: table `[positions, …]` → `[rows, …]`.
    Positions {
        /// The weight looked up in; its first axis is the one that positions count.
        table: ParamId,
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
    /// A norm over the axes of its weight.
    Norm {
        /// Activations.
        x: ValueId,
        /// Weight; its axes are the trailing ones of `x`.
        w: ParamId,
        /// Which norm.
        norm: Norm,
    },
    /// Rotation of the last axis by each row's position.
    Rope {
        /// Activations.
        x: ValueId,
        /// Angles.
        rope: Rope,
    },
    /// Softmax attention over a sequence: q `[rows, heads, group, dim]`, k and v `[rows, heads, dim]` → as q
    /// (Vaswani et al. 2017, arXiv:1706.03762, eq. 1; grouped as in arXiv:2305.13245). A sink is one more score of each head
    /// that has no value (arXiv:2508.10925, §2.3).
    Attend {
        /// Queries.
        q: ValueId,
        /// Keys.
        k: ValueId,
        /// Values.
        v: ValueId,
        /// Sinks `[heads, group]`.
        sinks: Option<ParamId>,
        /// Scale, window and cap.
        how: Attention,
    },
    /// Each channel by itself over its last rows, zeros before the first: x `[rows, channels…]`, w `[channels…, taps]` → as x; the
    /// last tap is the row's own (Gu & Dao 2023, arXiv:2312.00752, §3.4).
    ShortConv {
        /// Activations.
        x: ValueId,
        /// Filters.
        w: ParamId,
    },
    /// A linear recurrence over a sequence: q and k `[rows, heads, key]`, v `[rows, heads, group, value]`, dt and beta
    /// `[rows, heads, group]`, a_log and skip `[heads, group]` → as v.
    Scan {
        /// What the state is read by.
        q: ValueId,
        /// What the state is written by.
        k: ValueId,
        /// What is written.
        v: ValueId,
        /// Time steps, before their softplus.
        dt: ValueId,
        /// Rates of the delta rule, before the logistic function; the other has none.
        beta: Option<ValueId>,
        /// Logarithms of the decay rates.
        a_log: ParamId,
        /// How much of v is added to the result.
        skip: Option<ParamId>,
        /// How the state goes on.
        how: Recurrence,
    },
    /// Which experts a row goes to, and by how much: logits `[rows, experts]` → gates `[rows, experts]`, zero where an expert is not
    /// chosen. A row has `choices` of them, in the order of their numbers.
    Route {
        /// Logits of the router.
        x: ValueId,
        /// Added to the scores for the choice alone.
        bias: Option<ParamId>,
        /// As many experts as a row chooses.
        choices: Axis,
        /// How they are chosen and weighed.
        routing: Routing,
    },
    /// A contraction by the expert of each choice: x `[rows, summed…]` or `[rows, choices, summed…]`, w `[experts, new…, summed…]`
    /// → `[rows, choices, new…]` (Shazeer et al. 2017, arXiv:1701.06538, §2).
    Experts {
        /// Activations.
        x: ValueId,
        /// The result of a [`Op::Route`].
        gates: ValueId,
        /// Weight.
        w: ParamId,
    },
    /// x + the entry of w that belongs to the expert of each choice: x `[rows, choices, rest…]`, w `[experts, rest…]`.
    ExpertBias {
        /// Activations.
        x: ValueId,
        /// The result of a [`Op::Route`].
        gates: ValueId,
        /// Weight.
        w: ParamId,
    },
    /// The sum over a row's choices of gate · (w of the expert by x): x `[rows, choices, summed…]`, w `[experts, new…, summed…]`
    /// → `[rows, new…]`.
    Combine {
        /// Activations.
        x: ValueId,
        /// The result of a [`Op::Route`].
        gates: ValueId,
        /// Weight.
        w: ParamId,
    },
    /// The sum over a row's choices of gate · x: x `[rows, choices, rest…]` → `[rows, rest…]`.
    Weigh {
        /// What the experts made.
        x: ValueId,
        /// The result of a [`Op::Route`].
        gates: ValueId,
    },
    /// A contraction by the entry of w that belongs to each index of an axis: x `[rows, kept…, each, summed…]`, w
    /// `[each, new…, summed…]` → `[rows, kept…, each, new…]`.
    ContractEach {
        /// Activations.
        x: ValueId,
        /// Weight.
        w: ParamId,
    },
    /// b behind a along the last axis, which becomes `axis`.
    Concat {
        /// First part.
        a: ValueId,
        /// Second part.
        b: ValueId,
        /// The last axis of the result, as long as both parts together.
        axis: Axis,
    },
    /// The first elements of the last axis, which becomes `axis`.
    Prefix {
        /// Activations.
        x: ValueId,
        /// The last axis of the result.
        axis: Axis,
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
            Op::Tokens | Op::Positions { .. } => vec![],
            Op::Gather { ids, .. } => vec![ids],
            Op::Contract { x, .. } | Op::Bias { x, .. } | Op::Norm { x, .. } | Op::Rope { x, .. } => vec![x],
            Op::Attend { q, k, v, .. } => vec![q, k, v],
            Op::ShortConv { x, .. } => vec![x],
            Op::Scan { q, k, v, dt, beta, .. } => [q, k, v, dt].into_iter().chain(beta).collect(),
            Op::Route { x, .. } | Op::ContractEach { x, .. } | Op::Prefix { x, .. } => vec![x],
            Op::Concat { a, b, .. } => vec![a, b],
            Op::Weigh { x, gates } => vec![x, gates],
            Op::Experts { x, gates, .. } | Op::ExpertBias { x, gates, .. } | Op::Combine { x, gates, .. } => {
                vec![x, gates]
            }
            Op::Unary(_, x) | Op::SampledRows(x) => vec![x],
            Op::Binary(_, a, b) => vec![a, b],
        }
    }

    /// All weights this op reads, [`Op::param`] first.
    pub fn params(&self) -> Vec<ParamId> {
        let second = if let Op::Scan { skip, .. } = self { *skip } else { None };
        self.param().into_iter().chain(second).collect()
    }

    /// The weight this op reads, if any; where there are several, the one that it is known by.
    pub fn param(&self) -> Option<ParamId> {
        match *self {
            Op::Gather { table: p, .. }
            | Op::Positions { table: p }
            | Op::Contract { w: p, .. }
            | Op::Bias { w: p, .. }
            | Op::Norm { w: p, .. }
            | Op::ShortConv { w: p, .. }
            | Op::Scan { a_log: p, .. }
            | Op::Experts { w: p, .. }
            | Op::ExpertBias { w: p, .. }
            | Op::ContractEach { w: p, .. }
            | Op::Combine { w: p, .. } => Some(p),
            Op::Route { bias, .. } => bias,
            Op::Attend { sinks, .. } => sinks,
            Op::Tokens
            | Op::Weigh { .. }
            | Op::Concat { .. }
            | Op::Prefix { .. }
            | Op::Rope { .. }
            | Op::Unary(..)
            | Op::Binary(..)
            | Op::SampledRows(_) => None,
        }
    }

    /// The name of the op in the text form.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Tokens => "tokens",
            Op::Gather { .. } => "gather",
            Op::Positions { .. } => "positions",
            Op::Contract { .. } => "contract",
            Op::Bias { .. } => "bias",
            Op::Norm { norm: Norm { kind: NormKind::Rms, .. }, .. } => "rms_norm",
            Op::Norm { norm: Norm { kind: NormKind::Layer, .. }, .. } => "layer_norm",
            Op::Rope { .. } => "rope",
            Op::Attend { .. } => "attend",
            Op::ShortConv { .. } => "short_conv",
            Op::Scan { .. } => "scan",
            Op::Route { .. } => "route",
            Op::Experts { .. } => "experts",
            Op::ExpertBias { .. } => "expert_bias",
            Op::Combine { .. } => "combine",
            Op::Weigh { .. } => "weigh",
            Op::ContractEach { .. } => "contract_each",
            Op::Concat { .. } => "concat",
            Op::Prefix { .. } => "prefix",
            Op::Unary(Unary::Silu, _) => "silu",
            Op::Unary(Unary::Gelu, _) => "gelu",
            Op::Unary(Unary::GeluTanh, _) => "gelu_tanh",
            Op::Unary(Unary::Relu, _) => "relu",
            Op::Unary(Unary::Relu2, _) => "relu2",
            Op::Unary(Unary::Sigmoid, _) => "sigmoid",
            Op::Unary(Unary::Scale(_), _) => "scale",
            Op::Unary(Unary::Softcap(_), _) => "softcap",
            Op::Unary(Unary::ClampedSwish { .. }, _) => "clamped_swish",
            Op::Unary(Unary::ClampedPlusOne(_), _) => "clamped_plus_one",
            Op::Binary(Binary::Add, ..) => "add",
            Op::Binary(Binary::Mul, ..) => "mul",
            Op::SampledRows(_) => "sampled_rows",
        }
    }
}
