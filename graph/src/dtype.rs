//! Element types of weights, caches and activations.

use serde::{Deserialize, Serialize};

/// An element type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// bfloat16: the upper half of an f32.
    Bf16,
    /// IEEE 754 binary16.
    F16,
    /// Unsigned 32-bit integer: token ids.
    U32,
}

impl DType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::Bf16 | DType::F16 => 2,
        }
    }

    /// The name that command lines and plans use.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::F16 => "f16",
            DType::U32 => "u32",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Weights of a block: neighbours along the terms that share a scale.
pub const BLOCK: u32 = 32;

/// How the elements of a weight are stored in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightType {
    /// IEEE 754 binary32.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE 754 binary16.
    F16,
    /// Integers of 8 bits, and for each [`BLOCK`] a scale in f16. Source: GGUF's type of that name.
    Q8_0,
    /// Integers from -8 to 7, and for each [`BLOCK`] a scale in f16. Source: GGUF's type of that name.
    Q4_0,
}

impl WeightType {
    /// The type of weights that are stored as plain elements; `None` of integers.
    pub fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Self::F32),
            DType::Bf16 => Some(Self::Bf16),
            DType::F16 => Some(Self::F16),
            DType::U32 => None,
        }
    }

    /// The element type; `None` where elements are quantised in blocks.
    pub fn plain(self) -> Option<DType> {
        match self {
            Self::F32 => Some(DType::F32),
            Self::Bf16 => Some(DType::Bf16),
            Self::F16 => Some(DType::F16),
            Self::Q8_0 | Self::Q4_0 => None,
        }
    }

    /// Terms that a kernel takes at once, of which a contraction has whole runs: a block, or two whose codes share bytes on GPUs.
    pub fn run(self) -> u32 {
        match self {
            Self::F32 | Self::Bf16 | Self::F16 => 1,
            Self::Q8_0 => BLOCK,
            Self::Q4_0 => 2 * BLOCK,
        }
    }

    /// Bytes of a row of `k` elements, of whole blocks where there are blocks.
    pub fn row_bytes(self, k: u64) -> u64 {
        let blocks = k.div_ceil(BLOCK.into());
        match self {
            Self::F32 => k * 4,
            Self::Bf16 | Self::F16 => k * 2,
            Self::Q8_0 => blocks * 34,
            Self::Q4_0 => blocks * 18,
        }
    }

    /// The name that plans and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }
}

impl std::fmt::Display for WeightType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
