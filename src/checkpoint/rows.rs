//! The rows of a weight that one rank holds, copied straight from the file: no byte outside its part is touched.

use super::{Checkpoint, CheckpointError};
use graph::DType;
use graph::plan::WeightSpec;

/// Which elements of a whole tensor a rank keeps: of `outer` blocks, `kept` entries of `inner` elements from `from` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    /// Elements from one block to the next.
    block: usize,
    /// First element kept of each block.
    first: usize,
    /// Elements kept of each block, side by side.
    run: usize,
    /// Rows of the result.
    pub(crate) rows: usize,
    /// Elements of a row of the result.
    pub(crate) width: usize,
    /// Elements of the whole tensor.
    pub(crate) whole: usize,
}

impl Part {
    /// The part that a plan asks for. All counts are checked, so that [`Part::runs`] stays inside the tensor.
    pub(crate) fn of(spec: &WeightSpec) -> Result<Self, CheckpointError> {
        let wrong = |why| CheckpointError::Part {
            tensor: spec.name.clone(),
            part: format!("{:?} cut {:?} as {} × {}", spec.dims, spec.cut, spec.n, spec.k),
            why,
        };
        let product = |dims: &[u32]| dims.iter().try_fold(1usize, |all, &len| all.checked_mul(len as usize));
        let whole = product(&spec.dims).ok_or_else(|| wrong("its elements cannot be counted"))?;
        let (block, first, run) = match spec.cut {
            None => (whole, 0, whole),
            Some(cut) => {
                let dim = cut.dim as usize;
                let len = *spec.dims.get(dim).ok_or_else(|| wrong("the cut dimension does not exist"))? as usize;
                let (from, kept) = (cut.from as usize, cut.len as usize);
                if from.checked_add(kept).is_none_or(|end| end > len) {
                    return Err(wrong("the cut goes past its dimension"));
                }
                // Factors of `whole`, so none of these overflows.
                let inner = product(&spec.dims[dim + 1..]).ok_or_else(|| wrong("its elements cannot be counted"))?;
                (len * inner, from * inner, kept * inner)
            }
        };
        let (rows, width) = (spec.rows() as usize, spec.k as usize);
        let kept = whole.checked_div(block).map_or(0, |outer| outer * run);
        if rows.checked_mul(width) != Some(kept) {
            return Err(wrong("rows × columns is not the count of elements kept"));
        }
        Ok(Self { block, first, run, rows, width, whole })
    }

    /// The runs of neighbours in the whole tensor that make up a row, in order: first element and count.
    pub(crate) fn runs(&self, row: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let Self { block, first, run, width, .. } = *self;
        let (mut at, end) = (row * width, (row + 1) * width);
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let (outer, within) = (at / run, at % run);
                let count = (run - within).min(end - at);
                at += count;
                (outer * block + first + within, count)
            })
        })
    }
}

/// The tensors that hold a weight, with the part of each that is kept: one, or one for each entry of the first axis.
fn parts(spec: &WeightSpec) -> Result<Vec<(String, Part)>, CheckpointError> {
    let whole = Part::of(spec)?;
    let Some((name, cut)) = spec.entry(0) else { return Ok(vec![(spec.name.clone(), whole)]) };
    let entries = spec.cut.filter(|cut| cut.dim == 0).map_or(spec.dims[0], |cut| cut.len);
    let rows = spec.rows().checked_div(entries.into()).unwrap_or(0);
    let wrong = |why| CheckpointError::Part { tensor: name.clone(), part: format!("{:?}", spec.dims), why };
    if rows.saturating_mul(entries.into()) != spec.rows() {
        return Err(wrong("its rows are not the same in every entry"));
    }
    let used = graph::plan::WeightUse::Panels;
    let (dims, n) = (spec.dims[1..].to_vec(), u32::try_from(rows).map_err(|_| wrong("its rows cannot be counted"))?);
    let part = Part::of(&WeightSpec { dims, cut, used, n, ..spec.clone() })?;
    let named = |number: u32| spec.entry(number).map(|(name, _)| (name, part));
    Ok((0..entries).filter_map(named).collect())
}

/// Where the bytes of a tensor are.
#[derive(Clone, Copy)]
struct Bytes {
    shard: usize,
    begin: usize,
    end: usize,
}

/// A weight of a checkpoint, as the rows that one rank loads: of one tensor, or of one for each entry of its first axis.
#[derive(Clone)]
pub struct TensorRows {
    checkpoint: Checkpoint,
    /// The tensors, in order.
    entries: Vec<Bytes>,
    dtype: DType,
    /// The part of each of them.
    part: Part,
}

impl TensorRows {
    /// The rows of `spec`, if the checkpoint has them.
    pub fn new(checkpoint: &Checkpoint, spec: &WeightSpec) -> Result<Self, CheckpointError> {
        let parts = parts(spec)?;
        let (mut entries, mut first) = (Vec::with_capacity(parts.len()), None);
        for (name, part) in &parts {
            let wrong = |why| CheckpointError::Part { tensor: name.clone(), part: format!("{:?}", spec.dims), why };
            let stored = checkpoint.0.tensors.get(name).ok_or_else(|| wrong("the checkpoint has no such tensor"))?;
            let dtype = stored.entry.dtype().ok_or_else(|| wrong("its element type is not read"))?;
            let (shard, begin, end) = (stored.shard, stored.entry.begin, stored.entry.end);
            if part.whole.checked_mul(dtype.bytes()) != Some(end - begin) {
                return Err(wrong("it has another count of elements"));
            }
            if *first.get_or_insert(dtype) != dtype {
                return Err(wrong("its element type is not that of the entries before it"));
            }
            entries.push(Bytes { shard, begin, end });
        }
        let none = || CheckpointError::Part {
            tensor: spec.name.clone(),
            part: format!("{:?} cut {:?}", spec.dims, spec.cut),
            why: "it has no entries",
        };
        let (Some((_, part)), Some(dtype)) = (parts.first(), first) else { return Err(none()) };
        Ok(Self { checkpoint: checkpoint.clone(), entries, dtype, part: *part })
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.part.rows * self.entries.len()
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.part.width
    }

    /// The element type as stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Copies a row, as stored, into `into`, which has just its bytes.
    pub fn copy_row(&self, row: usize, into: &mut [u8]) {
        let Bytes { shard, begin, end } = self.entries[row / self.part.rows];
        let bytes = &self.checkpoint.0.shards[shard].contents[begin..end];
        let size = self.dtype.bytes();
        assert_eq!(into.len(), self.part.width * size, "room for one row");
        let mut at = 0;
        for (first, count) in self.part.runs(row % self.part.rows) {
            let len = count * size;
            into[at..at + len].copy_from_slice(&bytes[first * size..first * size + len]);
            at += len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::plan::{Cut, WeightUse};

    fn spec(dims: &[u32], cut: Option<(u32, u32, u32)>, n: u32, k: u32) -> WeightSpec {
        let cut = cut.map(|(dim, from, len)| Cut { dim, from, len });
        WeightSpec { name: "w".into(), dims: dims.into(), cut, used: WeightUse::Panels, n, k, dtype: DType::F32 }
    }

    /// The kept elements of a tensor whose elements are their own indices, row by row.
    fn rows(spec: &WeightSpec) -> Vec<Vec<usize>> {
        let part = Part::of(spec).unwrap();
        let row = |row| part.runs(row).flat_map(|(first, count)| first..first + count).collect();
        (0..part.rows).map(row).collect()
    }

    /// The same by walking every index of the tensor.
    fn walked(spec: &WeightSpec) -> Vec<Vec<usize>> {
        let dims: Vec<usize> = spec.dims.iter().map(|&len| len as usize).collect();
        let kept = |element: usize| {
            let cut = spec.cut.unwrap();
            let inner: usize = dims[cut.dim as usize + 1..].iter().product();
            let index = (element / inner % dims[cut.dim as usize]) as u32;
            index >= cut.from && index < cut.from + cut.len
        };
        let all: Vec<usize> = (0..dims.iter().product()).filter(|&element| kept(element)).collect();
        all.chunks(spec.k as usize).map(<[usize]>::to_vec).collect()
    }

    #[test]
    fn a_cut_of_any_dimension_keeps_just_its_elements() {
        for spec in [
            spec(&[4, 2, 3, 5], Some((0, 1, 2)), 12, 5),
            spec(&[4, 2, 3, 5], Some((1, 1, 1)), 12, 5),
            spec(&[4, 2, 3, 5], Some((2, 0, 2)), 16, 5),
            spec(&[4, 2, 3, 5], Some((3, 2, 3)), 24, 3),
            // The contraction's terms are several axes, one of them cut.
            spec(&[5, 4, 3], Some((1, 2, 2)), 5, 6),
            spec(&[6], Some((0, 3, 3)), 3, 1),
        ] {
            assert_eq!(rows(&spec), walked(&spec), "{spec:?}");
        }
        assert_eq!(rows(&spec(&[2, 2], None, 2, 2)), [[0, 1], [2, 3]]);
        assert!(rows(&spec(&[0, 2], None, 0, 2)).is_empty());
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let check = |spec: WeightSpec, expect: &str| {
            let message = Part::of(&spec).unwrap_err().to_string();
            assert!(message.ends_with(expect), "{message}");
        };
        check(spec(&[4, 2], Some((2, 0, 1)), 4, 2), "the cut dimension does not exist");
        check(spec(&[4, 2], Some((0, 3, 2)), 2, 2), "the cut goes past its dimension");
        check(spec(&[4, 2], Some((0, u32::MAX, 2)), 2, 2), "the cut goes past its dimension");
        check(spec(&[4, 2], None, 3, 2), "rows × columns is not the count of elements kept");
        check(spec(&[u32::MAX; 3], None, 1, 1), "its elements cannot be counted");
    }
}
