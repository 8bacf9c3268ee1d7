//! The rows of a weight that one rank holds, copied straight from the file: no byte outside its part is touched.

use super::quantized::Packed;
use super::{Bytes, Checkpoint, CheckpointError};
use graph::DType;
use graph::Strides;
use graph::plan::WeightSpec;
use std::sync::Arc;

/// Which elements of a whole tensor a rank keeps, in which order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    /// The first of them.
    first: usize,
    /// Nested runs, the outermost first: how many entries are kept, and elements from one to the next. The innermost are neighbours.
    levels: Vec<(usize, usize)>,
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
        let uncounted = || wrong("its elements cannot be counted");
        let Strides { offset, strides, elements } = match &spec.stored {
            Some(stored) => stored.clone(),
            None => row_major(&spec.dims).ok_or_else(uncounted)?,
        };
        if strides.len() != spec.dims.len() {
            return Err(wrong("a dimension has no stride"));
        }
        let mut kept: Vec<(u64, u64)> = spec.dims.iter().map(|&len| (0, len.into())).collect();
        if let Some(cut) = spec.cut {
            let dim = kept.get_mut(cut.dim as usize).ok_or_else(|| wrong("the cut dimension does not exist"))?;
            if u64::from(cut.from) + u64::from(cut.len) > dim.1 {
                return Err(wrong("the cut goes past its dimension"));
            }
            *dim = (cut.from.into(), cut.len.into());
        }
        let sum = |offset: u64, entry: &dyn Fn(&(u64, u64)) -> u64| {
            let mut places = kept.iter().zip(&strides);
            places.try_fold(offset, |at, (kept, stride)| at.checked_add(entry(kept).checked_mul(*stride)?))
        };
        let first = sum(offset, &|(from, _)| *from).ok_or_else(uncounted)?;
        let last = sum(first, &|(_, len)| len.saturating_sub(1)).ok_or_else(uncounted)?;
        let count = kept.iter().try_fold(1u64, |all, (_, len)| all.checked_mul(*len)).ok_or_else(uncounted)?;
        if count > 0 && last >= elements {
            return Err(wrong("it goes past its tensor"));
        }
        let (rows, width) = (spec.rows() as usize, spec.k as usize);
        if spec.rows().checked_mul(spec.k.into()) != Some(count) {
            return Err(wrong("rows × columns is not the count of elements kept"));
        }
        let index = |n: u64| usize::try_from(n).map_err(|_| uncounted());
        let levels = merged(kept.iter().zip(&strides).map(|((_, len), stride)| (*len, *stride)));
        let level = |(len, stride)| -> Result<_, CheckpointError> { Ok((index(len)?, index(stride)?)) };
        let levels = levels.into_iter().map(level).collect::<Result<_, _>>()?;
        Ok(Self { first: index(first)?, levels, rows, width, whole: index(elements)? })
    }

    /// The runs of neighbours in the whole tensor that make up a row, in order: first element and count.
    pub(crate) fn runs(&self, row: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let (mut at, end) = (row * self.width, (row + 1) * self.width);
        let (&(run, _), outer) = self.levels.split_last().expect("the innermost level is there, be it of one element");
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let (mut rest, within) = (at / run, at % run);
                let mut first = self.first + within;
                for &(len, stride) in outer.iter().rev() {
                    first += rest % len * stride;
                    rest /= len;
                }
                let count = (run - within).min(end - at);
                at += count;
                (first, count)
            })
        })
    }
}

/// The strides of a tensor that is read whole, in order.
pub(super) fn row_major(dims: &[u32]) -> Option<Strides> {
    let mut elements = 1u64;
    let mut strides = vec![0; dims.len()];
    for (stride, &len) in strides.iter_mut().zip(dims).rev() {
        *stride = elements;
        elements = elements.checked_mul(len.into())?;
    }
    Some(Strides { offset: 0, strides, elements })
}

/// Levels of which a run of the inner one begins where the one before it ends are one level; the innermost has stride 1.
fn merged(levels: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = vec![];
    for (len, stride) in levels.filter(|(len, _)| *len != 1).chain([(1, 1)]) {
        match found.last_mut() {
            Some(outer) if outer.1 == len.saturating_mul(stride) => *outer = (outer.0.saturating_mul(len), stride),
            Some(_) | None => found.push((len, stride)),
        }
    }
    found
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
    let named = |number: u32| spec.entry(number).map(|(name, _)| (name, part.clone()));
    Ok((0..entries).filter_map(named).collect())
}

/// Where the elements of a tensor are.
#[derive(Clone)]
enum Source {
    /// As they are read.
    Plain(Bytes),
    /// Quantised.
    Packed(Arc<Packed>),
}

/// Fills `into` run by run, each of a first element and a count of elements of `size` bytes.
fn fill(
    runs: impl Iterator<Item = (usize, usize)>,
    size: usize,
    into: &mut [u8],
    mut copy: impl FnMut(usize, &mut [u8]),
) {
    let mut rest = into;
    for (first, count) in runs {
        let (run, others) = rest.split_at_mut(count * size);
        copy(first, run);
        rest = others;
    }
}

/// A weight of a checkpoint, as the rows that one rank loads: of one tensor, or of one for each entry of its first axis.
#[derive(Clone)]
pub struct TensorRows {
    checkpoint: Checkpoint,
    /// The tensors, in order.
    entries: Vec<Source>,
    dtype: DType,
    /// The part of each of them.
    part: Part,
}

impl TensorRows {
    /// The rows of `spec`, if the checkpoint has them.
    pub fn new(checkpoint: &Checkpoint, spec: &WeightSpec) -> Result<Self, CheckpointError> {
        let packed = checkpoint.0.tensors.get(&spec.name).and_then(|stored| stored.packed.as_ref());
        let parts = match packed {
            Some(packed) => parts(&packed.laid_out(spec))?,
            None => parts(spec)?,
        };
        let (mut entries, mut first) = (Vec::with_capacity(parts.len()), None);
        for (name, part) in &parts {
            let wrong = |why| CheckpointError::Part { tensor: name.clone(), part: format!("{:?}", spec.dims), why };
            let stored = checkpoint.0.tensors.get(name).ok_or_else(|| wrong("the checkpoint has no such tensor"))?;
            let dtype = stored.dtype().ok_or_else(|| wrong("its element type is not read"))?;
            let elements = stored.entry.shape.iter().product::<u64>();
            if part.whole as u64 != elements {
                return Err(wrong("it has another count of elements"));
            }
            if *first.get_or_insert(dtype) != dtype {
                return Err(wrong("its element type is not that of the entries before it"));
            }
            entries.push(stored.packed.clone().map_or(Source::Plain(stored.bytes()), Source::Packed));
        }
        let none = || CheckpointError::Part {
            tensor: spec.name.clone(),
            part: format!("{:?} cut {:?}", spec.dims, spec.cut),
            why: "it has no entries",
        };
        let (Some((_, part)), Some(dtype)) = (parts.first(), first) else { return Err(none()) };
        Ok(Self { checkpoint: checkpoint.clone(), entries, dtype, part: part.clone() })
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
        let (files, size) = (&self.checkpoint.0.shards, self.dtype.bytes());
        assert_eq!(into.len(), self.part.width * size, "room for one row");
        // Runs may be single elements: what belongs to the tensor is looked up once.
        let runs = self.part.runs(row % self.part.rows);
        match &self.entries[row / self.part.rows] {
            Source::Plain(bytes) => {
                let bytes = bytes.of(files);
                fill(runs, size, into, |first, run| run.copy_from_slice(&bytes[first * size..][..run.len()]));
            }
            Source::Packed(packed) => {
                fill(runs, size, into, |first, run| packed.read(files, first, run.as_chunks_mut().0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::plan::{Cut, WeightUse};

    fn spec(dims: &[u32], cut: Option<(u32, u32, u32)>, n: u32, k: u32) -> WeightSpec {
        let cut = cut.map(|(dim, from, len)| Cut { dim, from, len });
        WeightSpec {
            name: "w".into(),
            dims: dims.into(),
            stored: None,
            cut,
            used: WeightUse::Panels,
            n,
            k,
            sum_parts: 1,
            dtype: graph::WeightType::F32,
            integer: false,
        }
    }

    /// The kept elements of a tensor whose elements are their own indices, row by row.
    fn rows(spec: &WeightSpec) -> Vec<Vec<usize>> {
        let part = Part::of(spec).unwrap();
        let row = |row| part.runs(row).flat_map(|(first, count)| first..first + count).collect();
        (0..part.rows).map(row).collect()
    }

    #[test]
    fn a_part_of_a_stored_tensor_is_read_where_it_lies() {
        // Of [2 heads, (3 | 4) dims, 5], the second part: dims 4 of each head; then transposed.
        let stored = |strides: &[u64]| Some(Strides { offset: 15, strides: strides.into(), elements: 70 });
        let part = WeightSpec { stored: stored(&[35, 5, 1]), ..spec(&[2, 4, 5], None, 8, 5) };
        let wanted = |head: usize, dim: usize| (0..5).map(|k| head * 35 + 15 + dim * 5 + k).collect::<Vec<_>>();
        let all: Vec<_> = (0..8).map(|row| wanted(row / 4, row % 4)).collect();
        assert_eq!(rows(&part), all);
        assert_eq!(Part::of(&part).unwrap().runs(3).count(), 1, "neighbours are one run");
        let cut = WeightSpec { cut: Some(Cut { dim: 1, from: 2, len: 2 }), n: 4, ..part };
        assert_eq!(rows(&cut), [&all[2..4], &all[6..8]].concat());
        let turned = WeightSpec { stored: stored(&[1, 35, 5]), ..spec(&[5, 2, 4], None, 5, 8) };
        let column = |k: usize| all.iter().map(|row| row[k]).collect::<Vec<_>>();
        assert_eq!(rows(&turned), (0..5).map(column).collect::<Vec<_>>());
        let beyond = WeightSpec { stored: stored(&[35, 5, 2]), ..spec(&[2, 4, 5], None, 8, 5) };
        assert!(Part::of(&beyond).unwrap_err().to_string().ends_with("it goes past its tensor"));
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
