//! Kernel calls: what a stage does in one step, as a flat list over planned buffers.
//!
//! All activations are f32, row-major, `[rows, width]`, rows densely packed (the stride is the width). `rows` is the number of
//! rows of the step, or the number of sampled rows behind [`Call::SampledRows`].

use crate::dtype::{DType, WeightType};
use crate::op::{Attention, Binary, Norm, Recurrence, Unary};
use crate::rope::Rope;
use crate::routing::Routing;
use crate::stored::Strides;
use serde::{Deserialize, Serialize};

/// Where the bytes of an operand are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The stage's tensor input of this number (its ticket input is not counted).
    Input(u16),
    /// The stage's output of this number.
    Output(u16),
    /// The stage's scratch memory, from this byte on; 64-byte aligned.
    Scratch(u64),
}

/// Which rows of the step an operand has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowSet {
    /// All rows of the step.
    All,
    /// The rows that will be sampled.
    Sampled,
}

/// A matrix that a call reads or writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Operand {
    /// Where it is.
    pub place: Place,
    /// Elements of a row.
    pub width: u32,
    /// How many rows it has.
    pub rows: RowSet,
}

/// A weight of a stage, by its place in [`Program::weights`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WeightId(pub u32);

/// How a stage uses a weight, which decides how it is laid out at load.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightUse {
    /// The right side of a contraction: `n` outputs of `k` terms, in panels. May be gathered from as well (a tied head).
    Panels,
    /// A lookup table of `n` rows of `k` elements, as it lies in the checkpoint.
    Table,
    /// The right sides of the contractions of this many experts, `n` outputs of `k` terms each, in panels of their own.
    Experts(u32),
    /// A vector of `n` elements (`k` is 1), widened to f32: a norm's scale, a bias.
    Vector,
}

/// The part of a checkpoint tensor that one rank reads: elements `from..from + len` of one dimension.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Cut {
    /// Which dimension of the tensor as declared by the model (by axes, before flattening).
    pub dim: u32,
    /// First index kept.
    pub from: u32,
    /// How many are kept.
    pub len: u32,
}

/// A weight as one rank loads it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WeightSpec {
    /// The name in the checkpoint.
    pub name: String,
    /// The lengths of its axes in the model, whole (before the cut). Their product is the checkpoint tensor's element count, unless
    /// `stored` says otherwise.
    pub dims: Vec<u32>,
    /// Where those elements are in the tensor, if they are not all of it, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Strides>,
    /// The rank's part; `None` reads all of it.
    pub cut: Option<Cut>,
    /// How it is used.
    pub used: WeightUse,
    /// Rows after the cut: outputs of a contraction, entries of a table, elements of a vector.
    pub n: u32,
    /// Columns after the cut: terms of a contraction, elements of an entry, 1 for a vector.
    pub k: u32,
    /// Equal runs of the terms of a contraction that are summed on their own and then added in a binary tree: a power of two up to
    /// [`super::SUM_PARTS_MAX`]. 1 is one sum, in the order of its terms.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub sum_parts: u32,
    /// How elements are stored in memory; of a vector always f32.
    pub dtype: WeightType,
    /// Whether the rows that a quantised weight is multiplied by are quantised too, to 8 bits by block, and products are those of integers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub integer: bool,
}

fn one() -> u32 {
    1
}

fn is_one(parts: &u32) -> bool {
    *parts == 1
}

impl WeightSpec {
    /// Rows of `k` elements that are read from the checkpoint: `n`, or `n` for each expert.
    pub fn rows(&self) -> u64 {
        match self.used {
            WeightUse::Experts(experts) => u64::from(experts) * u64::from(self.n),
            WeightUse::Panels | WeightUse::Table | WeightUse::Vector => self.n.into(),
        }
    }

    /// The tensor that holds entry `number` of the first axis of those kept, and which of its dimensions are cut; `None` where one
    /// tensor holds all entries.
    pub fn entry(&self, number: u32) -> Option<(String, Option<Cut>)> {
        let from = self.cut.filter(|cut| cut.dim == 0).map_or(0, |cut| cut.from);
        let name = crate::model::entry_name(&self.name, from.saturating_add(number))?;
        Some((name, self.cut.filter(|cut| cut.dim > 0).map(|cut| Cut { dim: cut.dim - 1, ..cut })))
    }
}

/// One kernel call. `y` is written; the others are read. Operands of one call do not overlap unless it says so.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// y[r] = table[ids[r] - first] where that entry is held here, else zeros.
    Gather {
        /// Lookup table ([`WeightUse::Table`] or [`WeightUse::Panels`]) of `n` entries.
        table: WeightId,
        /// The token id of the table's first entry.
        first: u32,
        /// Token ids: an input of u32, width 1.
        ids: Operand,
        /// Result.
        y: Operand,
    },
    /// y[r] = table[position of r in its sequence].
    Positions {
        /// Lookup table of `n` entries, as many as there are positions.
        table: WeightId,
        /// Result.
        y: Operand,
    },
    /// For each part, y = x · wᵀ; x is shared.
    Contract {
        /// Activations `[rows, k]`.
        x: Operand,
        /// Weights `[n, k]` and their results `[rows, n]`.
        parts: Vec<(WeightId, Operand)>,
    },
    /// y = x + w over every row; `y` may be `x`.
    Bias {
        /// Activations.
        x: Operand,
        /// Vector; its length divides the width and repeats.
        w: WeightId,
        /// Result.
        y: Operand,
    },
    /// Norm of each run of `w.n` elements; `y` may be `x`.
    Norm {
        /// Activations; the width is a multiple of the weight's length.
        x: Operand,
        /// Scale.
        w: WeightId,
        /// Which norm.
        norm: Norm,
        /// Result.
        y: Operand,
    },
    /// sum = a + b, then y = norm(sum); `sum` may be `a` or `b`.
    AddNorm {
        /// First term.
        a: Operand,
        /// Second term.
        b: Operand,
        /// The sum.
        sum: Operand,
        /// Scale; its length is the width.
        w: WeightId,
        /// Which norm.
        norm: Norm,
        /// The normalised sum.
        y: Operand,
    },
    /// y = each head of `x`, turned by its row's position; `y` may be `x`.
    Rope {
        /// Activations; the width is heads × head_dim.
        x: Operand,
        /// Elements of a head.
        head_dim: u32,
        /// Angles.
        rope: Rope,
        /// Result.
        y: Operand,
    },
    /// Appends k and v to the sequence's pages, then attends.
    Attend {
        /// Queries `[rows, kv_heads · group · head_dim]`.
        q: Operand,
        /// Keys `[rows, kv_heads · head_dim]`.
        k: Operand,
        /// Values `[rows, kv_heads · head_dim]`.
        v: Operand,
        /// Result, as `q`.
        y: Operand,
        /// Which of the stage's cache layers.
        cache: u32,
        /// Heads of keys and values held here.
        kv_heads: u32,
        /// Queries a head of keys.
        group: u32,
        /// Elements of a head.
        head_dim: u32,
        /// A score of each query head that has no value: a vector of kv_heads · group.
        sinks: Option<WeightId>,
        /// Scale, window and cap.
        how: Attention,
    },
    /// y[t] = Σ_j w[·][j] · x[t - (taps - 1) + j]; keeps the last rows of x.
    ShortConv {
        /// Activations `[rows, channels]`.
        x: Operand,
        /// Vector of channels · taps.
        w: WeightId,
        /// Which of the stage's states: taps - 1 rows.
        state: u32,
        /// Result.
        y: Operand,
    },
    /// Brings the state of each sequence on, and reads it for every row.
    Scan {
        /// Queries `[rows, heads · key_dim]`.
        q: Operand,
        /// Keys `[rows, heads · key_dim]`.
        k: Operand,
        /// Values `[rows, heads · group · value_dim]`.
        v: Operand,
        /// Time steps `[rows, heads · group]`.
        dt: Operand,
        /// Rates of the delta rule, as `dt`.
        beta: Option<Operand>,
        /// Vector of heads · group.
        a_log: WeightId,
        /// Vector of heads · group.
        skip: Option<WeightId>,
        /// Result, as `v`.
        y: Operand,
        /// Which of the stage's states.
        state: u32,
        /// Heads of queries and keys held here.
        heads: u32,
        /// Heads of values for each.
        group: u32,
        /// Elements of a query or key.
        key_dim: u32,
        /// Elements of a head of values.
        value_dim: u32,
        /// How the state goes on.
        how: Recurrence,
    },
    /// The gates of the experts that each row's logits choose; zeros elsewhere.
    Route {
        /// Logits `[rows, experts]`, of all experts.
        x: Operand,
        /// Added to the scores for the choice: a vector with an element an expert.
        bias: Option<WeightId>,
        /// Experts that a row chooses.
        choices: u32,
        /// How they are chosen and weighed.
        routing: Routing,
        /// The first expert held here.
        first: u32,
        /// Gates `[rows, experts]`: of all experts, or of those held here.
        y: Operand,
    },
    /// For each part and each choice of a row, y = x · wᵀ by the weight of the choice's expert; zeros where a row has fewer choices.
    Experts {
        /// Activations `[rows, k]`, or `[rows, choices · k]`.
        x: Operand,
        /// Gates `[rows, experts]`: of all experts, or of those held here.
        gates: Operand,
        /// Experts that a row chooses, at most.
        choices: u32,
        /// Weights ([`WeightUse::Experts`]) and their results `[rows, choices · n]`.
        parts: Vec<(WeightId, Operand)>,
    },
    /// y = x plus, in each choice of a row, the run of w that belongs to its expert; `y` may be `x`.
    ExpertBias {
        /// Activations `[rows, choices · len]`.
        x: Operand,
        /// Gates `[rows, experts]`: of all experts, or of those held here.
        gates: Operand,
        /// Experts that a row chooses, at most.
        choices: u32,
        /// Vector of `experts held here · len` elements.
        w: WeightId,
        /// Result, as `x`.
        y: Operand,
    },
    /// y = Σ over the choices of a row, in the order of experts, of gate · (x · wᵀ by the weight of the choice's expert).
    Combine {
        /// Activations `[rows, choices · k]`.
        x: Operand,
        /// Gates `[rows, experts]`: of all experts, or of those held here.
        gates: Operand,
        /// Experts that a row chooses, at most.
        choices: u32,
        /// Weight ([`WeightUse::Experts`]).
        w: WeightId,
        /// Result `[rows, n]`.
        y: Operand,
    },
    /// y = Σ over the choices of a row, in their order, of gate · x.
    Weigh {
        /// What the experts made `[rows, choices · n]`.
        x: Operand,
        /// Gates of all experts `[rows, experts]`.
        gates: Operand,
        /// Experts that a row chooses, at most.
        choices: u32,
        /// Result `[rows, n]`.
        y: Operand,
    },
    /// y = x · wᵀ for each of the runs of a row, by the entry of w that belongs to it.
    ContractEach {
        /// Activations `[rows, each · k]`.
        x: Operand,
        /// Weight ([`WeightUse::Experts`]): an entry each.
        w: WeightId,
        /// Result `[rows, each · n]`.
        y: Operand,
    },
    /// y = runs of `a`, each with its run of `b` behind it.
    Concat {
        /// First parts.
        a: Operand,
        /// Elements of a run of `a`.
        a_run: u32,
        /// Second parts, as many runs.
        b: Operand,
        /// Elements of a run of `b`.
        b_run: u32,
        /// Result.
        y: Operand,
    },
    /// y = f(gate) · up; `y` may be `gate` or `up`.
    Gated {
        /// Through the function.
        gate: Operand,
        /// Multiplied.
        up: Operand,
        /// The function.
        f: Unary,
        /// Result.
        y: Operand,
    },
    /// y = f(x); `y` may be `x`.
    Unary {
        /// Operand.
        x: Operand,
        /// The function.
        f: Unary,
        /// Result.
        y: Operand,
    },
    /// y = f(a, b); `y` may be `a` or `b`.
    Binary {
        /// First operand.
        a: Operand,
        /// Second operand.
        b: Operand,
        /// The function.
        f: Binary,
        /// Result.
        y: Operand,
    },
    /// y = of every block of each row of `x`, one run: this rank's slice of a whole value.
    Slice {
        /// All of it.
        x: Operand,
        /// Elements of a block.
        block: u32,
        /// The first element kept of each.
        from: u32,
        /// How many are kept.
        run: u32,
        /// The slice.
        y: Operand,
    },
    /// y = the rows of `x` that will be sampled, in the order of the ticket's list.
    SampledRows {
        /// All rows.
        x: Operand,
        /// The sampled ones.
        y: Operand,
    },
}

/// What one stage does in a step.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Program {
    /// Weights, in the order of their ids.
    pub weights: Vec<WeightSpec>,
    /// Calls, in order.
    pub calls: Vec<Call>,
    /// Bytes of scratch memory for the largest step.
    pub scratch_bytes: u64,
    /// Cache layers that [`Call::Attend`] counts.
    pub caches: Vec<CacheSpec>,
    /// States that [`Call::ShortConv`] and [`Call::Scan`] count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateSpec>,
}

/// What a recurrent call leaves behind of a sequence: f32 elements of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StateSpec {
    /// Elements of one slot.
    pub elements: u64,
}

impl StateSpec {
    /// The rows before the next one that a convolution reads.
    pub fn conv(channels: u32, taps: u32) -> Self {
        Self { elements: u64::from(channels) * u64::from(taps.saturating_sub(1)) }
    }

    /// The states `[key_dim, value_dim]` of all heads of values, and the keys, updates and decays of a chunk that is not full. Values are
    /// padded to 16.
    pub fn scan([heads, group, key_dim, value_dim]: [u32; 4]) -> Self {
        let (heads, group, key_dim) = (u64::from(heads), u64::from(group), u64::from(key_dim));
        let (width, chunk) = (u64::from(value_dim.next_multiple_of(16)), u64::from(super::PAGE_ROWS));
        let a_value_head = key_dim * width + chunk * width + chunk;
        Self { elements: heads * (chunk * key_dim + group * a_value_head) }
    }

    /// Bytes of a slot.
    pub fn slot_bytes(self) -> u64 {
        4 * self.elements
    }
}

/// One layer of paged key/value memory of a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CacheSpec {
    /// Heads of keys and values held here.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Element type of keys and values.
    pub dtype: DType,
}

impl CacheSpec {
    /// Bytes of one page of `rows` positions: keys and values.
    pub fn page_bytes(self, rows: u32) -> u64 {
        2 * u64::from(self.kv_heads) * u64::from(self.head_dim) * u64::from(rows) * self.dtype.bytes() as u64
    }
}
