//! Made-up weights, so that speed can be measured from a `config.json` alone.
//!
//! A value is a function of the tensor's name and the element's place in the whole tensor: every cut sees the same model.

use super::CheckpointError;
use super::rows::Part;
use graph::DType;
use graph::plan::{WeightSpec, WeightUse};

/// A weight that no file holds, as the rows that one rank loads.
#[derive(Clone, Debug)]
pub struct DummyRows {
    dtype: DType,
    part: Part,
    key: u64,
    middle: f32,
    spread: f32,
}

impl DummyRows {
    /// The rows of `spec`, in f32 or bf16.
    pub fn new(spec: &WeightSpec, dtype: DType, seed: u64) -> Result<Self, CheckpointError> {
        let part = Part::of(spec)?;
        if !matches!(dtype, DType::F32 | DType::Bf16) {
            let part = dtype.to_string();
            return Err(CheckpointError::Part { tensor: spec.name.clone(), part, why: "made up in f32 or bf16 only" });
        }
        let (middle, spread) = match spec.used {
            // Rows of a contraction keep the size of what goes through them: variance one over the terms.
            WeightUse::Panels | WeightUse::Experts(_) | WeightUse::Table => (0.0, (3.0 / terms(spec) as f32).sqrt()),
            WeightUse::Vector if spec.name.ends_with("bias") => (0.0, 0.02),
            WeightUse::Vector => (1.0, 0.05),
        };
        Ok(Self { dtype, part, key: mix(name_hash(&spec.name) ^ mix(seed)), middle, spread })
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.part.rows
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.part.width
    }

    /// The element type as stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Makes a row, in `into`, which has just its bytes.
    pub fn copy_row(&self, row: usize, into: &mut [u8]) {
        let size = self.dtype.bytes();
        assert_eq!(into.len(), self.part.width * size, "room for one row");
        let mut at = 0;
        for (first, count) in self.part.runs(row) {
            let run = &mut into[at * size..(at + count) * size];
            match self.dtype {
                DType::Bf16 => self.values(first, run.as_chunks_mut().0, |v| half::bf16::from_f32(v).to_le_bytes()),
                DType::F32 | DType::F16 | DType::U32 => self.values(first, run.as_chunks_mut().0, f32::to_le_bytes),
            }
            at += count;
        }
    }

    /// The elements from `first` on, uniform around the middle: a word of four quarters at a time, since a model has gigabytes.
    fn values<const SIZE: usize>(&self, first: usize, out: &mut [[u8; SIZE]], bytes: impl Fn(f32) -> [u8; SIZE]) {
        let value = |word: u64, which: usize| {
            let quarter = (word >> (16 * which)) as u16;
            bytes(self.middle + self.spread * (f32::from(quarter) / 32768.0 - 1.0))
        };
        let part = |from: usize, out: &mut [[u8; SIZE]]| {
            let word = self.word(from / 4);
            out.iter_mut().enumerate().for_each(|(i, out)| *out = value(word, from % 4 + i));
        };
        let (before, rest) = out.split_at_mut((first.next_multiple_of(4) - first).min(out.len()));
        part(first, before);
        let at = first + before.len();
        let (fours, after) = rest.as_chunks_mut::<4>();
        for (i, four) in fours.iter_mut().enumerate() {
            let word = self.word(at / 4 + i);
            *four = std::array::from_fn(|which| value(word, which));
        }
        part(at + 4 * fours.len(), after);
    }

    /// The mixed word of the four elements from `4 · number` on.
    fn word(&self, number: usize) -> u64 {
        mix(self.key.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

/// Terms of a contraction over the whole tensor, whichever rank asks: the trailing dimensions that make up `k`.
fn terms(spec: &WeightSpec) -> u64 {
    let (mut here, mut whole) = (1u64, 1u64);
    for (dim, &len) in spec.dims.iter().enumerate().rev() {
        if here == u64::from(spec.k) {
            break;
        }
        let kept = spec.cut.filter(|cut| cut.dim as usize == dim).map_or(len, |cut| cut.len);
        here *= u64::from(kept);
        whole *= u64::from(len);
    }
    whole.max(1)
}

/// The finaliser of SplitMix64.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// FNV-1a.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::plan::Cut;

    fn spec(cut: Option<Cut>, n: u32, k: u32) -> WeightSpec {
        let used = WeightUse::Panels;
        WeightSpec {
            name: "layer.w".into(),
            dims: vec![8, 4, 16],
            stored: None,
            cut,
            used,
            n,
            k,
            sum_parts: 1,
            dtype: graph::WeightType::F32,
            integer: false,
        }
    }

    fn all(rows: &DummyRows) -> Vec<f32> {
        let mut values = Vec::new();
        let mut row = vec![0; rows.width() * 4];
        for index in 0..rows.rows() {
            rows.copy_row(index, &mut row);
            values.extend(row.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())));
        }
        values
    }

    #[test]
    fn every_cut_sees_the_same_model() {
        let whole = all(&DummyRows::new(&spec(None, 8, 64), DType::F32, 7).unwrap());
        let cut = Some(Cut { dim: 1, from: 2, len: 2 });
        let part = all(&DummyRows::new(&spec(cut, 8, 32), DType::F32, 7).unwrap());
        let expect: Vec<f32> = whole.chunks(64).flat_map(|row| row[32..].to_vec()).collect();
        assert_eq!(part, expect);
        let other = all(&DummyRows::new(&spec(None, 8, 64), DType::F32, 8).unwrap());
        assert_ne!(whole, other);
    }

    #[test]
    fn values_have_the_spread_that_keeps_sizes() {
        let values = all(&DummyRows::new(&spec(None, 8, 64), DType::F32, 0).unwrap());
        let mean_square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!((mean_square * 64.0 - 1.0).abs() < 0.2, "{mean_square}");
        let norm = WeightSpec { name: "norm.weight".into(), used: WeightUse::Vector, ..spec(None, 512, 1) };
        assert!(all(&DummyRows::new(&norm, DType::F32, 0).unwrap()).iter().all(|v| (v - 1.0).abs() <= 0.05));
    }
}
