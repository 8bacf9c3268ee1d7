//! Checkpoints that are published quantised: what several tensors of a file say together is one weight, with the name and the shape
//! that it has where it is not quantised. So nothing behind this module knows of it; a row is widened when it is read.

mod find;
mod fp4;
mod method;
mod numbers;
mod scaled;
mod words;

use super::rows::row_major;
use super::{Checkpoint, Shard};
use graph::plan::WeightSpec;
use graph::{DType, Strides};

pub(super) use find::gather;
pub(super) use method::{Method, widened};

/// A weight that is quantised in its file.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    elements: Elements,
    /// Elements of a row.
    columns: usize,
    /// Rows and columns of a matrix that lies the other way round in the model: Hugging Face's experts of gpt-oss are input first.
    turned: Option<[u64; 2]>,
    /// Bytes of all its tensors.
    pub(super) bytes: u64,
    /// What it is widened to unless somebody says otherwise.
    pub(super) dtype: DType,
}

#[derive(Clone, Debug)]
enum Elements {
    Scaled(scaled::Scaled),
    Words(words::Words),
    Fp4(fp4::Fp4),
}

impl Packed {
    /// Elements from `first` on, in the order in which the file has them, as little-endian f32.
    pub(super) fn read(&self, files: &[Shard], mut first: usize, mut into: &mut [[u8; 4]]) {
        while !into.is_empty() {
            let (row, from) = (first / self.columns, first % self.columns);
            let (run, rest) = into.split_at_mut(into.len().min(self.columns - from));
            first += run.len();
            match &self.elements {
                Elements::Scaled(scaled) => scaled.read(files, row, from, run),
                Elements::Words(words) => words.read(files, row, from, run),
                Elements::Fp4(fp4) => fp4.read(files, row, from, run),
            }
            into = rest;
        }
    }

    /// The specification of a weight of the model's layout, in the file's.
    pub(super) fn laid_out(&self, spec: &WeightSpec) -> WeightSpec {
        let stored = spec.stored.clone().or_else(|| row_major(&spec.dims));
        let (Some([rows, columns]), Some(stored)) = (self.turned, stored) else { return spec.clone() };
        // In the model a column has neighbours, in the file a row.
        let turn = |at: u64| at / (rows * columns) * (rows * columns) + at % rows * columns + at / rows % columns;
        let strides = stored.strides.iter().map(|&stride| turn(stride)).collect();
        let stored = Some(Strides { offset: turn(stored.offset), strides, elements: stored.elements });
        WeightSpec { stored, ..spec.clone() }
    }
}

impl Checkpoint {
    /// What the weights of a quantised checkpoint are widened from, for people.
    pub(crate) fn quantized(&self) -> Option<String> {
        let method = self.0.method.as_ref()?;
        let packed = self.0.tensors.values().filter_map(|stored| stored.packed.as_ref());
        let count = packed.count();
        (count > 0).then(|| format!("{count} weights are stored as {} and widened when they are loaded", method.name()))
    }
}
