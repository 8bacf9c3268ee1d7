//! Which tensors of a file belong together, and whether their types and shapes do.

use super::fp4::Fp4;
use super::method::Method;
use super::numbers::{Kind, Numbers};
use super::scaled::Scaled;
use super::words::{Codes, Groups, Words, Zero};
use super::{Elements, Packed};
use crate::checkpoint::{Bytes, CheckpointError, Shard, Stored};
use graph::DType;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tensors of a checkpoint, by name.
type Tensors = BTreeMap<String, Stored>;

/// Places of AWQ's codes in their word: its kernels unpack two at a time.
const AWQ_ORDER: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Ends of names that only say how to quantise activations or caches, or how to multiply: nothing that is computed here.
const BESIDE: [&str; 10] = [
    ".input_scale",
    ".activation_scale",
    ".input_scale_ub",
    ".input_zero_point",
    ".input_global_scale",
    ".output_scale",
    ".k_scale",
    ".v_scale",
    ".q_scale",
    ".prob_scale",
];

/// Makes one weight of the tensors that a quantised one has. The others stay as they are.
pub(in crate::checkpoint) fn gather(
    tensors: &mut Tensors,
    files: &[Shard],
    method: &Method,
    dtype: DType,
) -> Result<(), CheckpointError> {
    let mut found = vec![];
    for name in tensors.keys() {
        let group =
            |base: &str, weight: &str| Group { tensors, files, base: base.into(), weight: weight.into(), dtype };
        let plain = |base: &str| group(base, &format!("{base}.weight"));
        if let Some(base) = name.strip_suffix(".qweight") {
            found.push(plain(base).words(method)?);
        } else if let Some(base) = name.strip_suffix(".weight_packed") {
            found.push(plain(base).packed(method)?);
        } else if let Some(base) = name.strip_suffix("_blocks") {
            found.extend(group(base, base).blocks()?);
        } else if let Some(base) = name.strip_suffix(".weight") {
            found.extend(plain(base).scaled(method)?);
        }
    }
    for Found { weight, stored, parts } in found {
        parts.iter().for_each(|part| drop(tensors.remove(part)));
        tensors.insert(weight, stored);
    }
    tensors.retain(|name, _| !BESIDE.iter().any(|end| name.ends_with(end)));
    Ok(())
}

/// A weight, and the tensors that it is made of.
struct Found {
    weight: String,
    stored: Stored,
    parts: Vec<String>,
}

/// A tensor that is part of a weight.
#[derive(Clone)]
struct Part {
    name: String,
    stored: String,
    shape: Vec<usize>,
    bytes: Bytes,
}

/// The tensors of one weight.
struct Group<'a> {
    tensors: &'a Tensors,
    files: &'a [Shard],
    base: String,
    weight: String,
    dtype: DType,
}

impl Group<'_> {
    fn wrong<T>(&self, what: impl Into<String>) -> Result<T, CheckpointError> {
        Err(CheckpointError::Quantized { tensor: self.weight.clone(), what: what.into() })
    }

    fn part(&self, end: &str) -> Option<Part> {
        let name = format!("{}{end}", self.base);
        let stored = self.tensors.get(&name)?;
        let shape = stored.entry.shape.iter().map(|&len| usize::try_from(len).ok()).collect::<Option<_>>()?;
        Some(Part { name, stored: stored.entry.stored.clone(), shape, bytes: stored.bytes() })
    }

    /// A part that there must be, of one of these types.
    fn typed(&self, end: &str, types: &[&str]) -> Result<Part, CheckpointError> {
        let Some(part) = self.part(end) else { return self.wrong(format!("has no {}{end} beside it", self.base)) };
        if types.contains(&part.stored.as_str()) {
            return Ok(part);
        }
        self.wrong(format!("{} is {}, must be {}", part.name, part.stored, types.join(" or ")))
    }

    fn shaped(&self, part: &Part, wanted: &[usize]) -> Result<(), CheckpointError> {
        if part.shape == wanted {
            return Ok(());
        }
        self.wrong(format!("{} has shape {:?}, must have {wanted:?}", part.name, part.shape))
    }

    fn numbers(&self, part: &Part) -> Result<Numbers, CheckpointError> {
        match Kind::of(&part.stored) {
            Some(kind) => Ok(Numbers { bytes: part.bytes, kind }),
            None => self.wrong(format!("{} is {}, which is no scale", part.name, part.stored)),
        }
    }

    /// The weight of these parts, of which the first has its place in the file.
    fn found(&self, elements: Elements, shape: &[usize], parts: Vec<Part>) -> Found {
        let mut stored = self.tensors[&parts[0].name].clone();
        let columns = shape[shape.len() - 1];
        let bytes = parts.iter().map(|part| (part.bytes.end - part.bytes.begin) as u64).sum();
        stored.entry.name = self.weight.clone();
        stored.entry.shape = shape.iter().map(|&len| len as u64).collect();
        stored.packed = Some(Arc::new(Packed { elements, columns, turned: None, bytes, dtype: self.dtype }));
        Found { weight: self.weight.clone(), stored, parts: parts.into_iter().map(|part| part.name).collect() }
    }

    /// Codes of one byte, and scales.
    fn scaled(&self, method: &Method) -> Result<Option<Found>, CheckpointError> {
        let Some(codes) = self.part(".weight").filter(|codes| matches!(codes.stored.as_str(), "F8_E4M3" | "I8")) else {
            return Ok(None);
        };
        let &[rows, columns @ 1..=usize::MAX] = codes.shape.as_slice() else {
            return self.wrong(format!("has shape {:?}; of quantised tensors only matrices are read", codes.shape));
        };
        let end = if self.part(".weight_scale_inv").is_some() { ".weight_scale_inv" } else { ".weight_scale" };
        let scales = self.typed(end, &["F32", "BF16", "F16", "F8_E8M0"])?;
        let block = match method {
            Method::Fp8 { block } | Method::CompressedTensors { block, .. } => *block,
            Method::Gptq { .. } | Method::Awq { .. } | Method::Mxfp4 => None,
        };
        let blocks = block.filter(|[r, c]| scales.shape == [rows.div_ceil(*r), columns.div_ceil(*c)]);
        let (block, across) = match (blocks, scales.shape.as_slice()) {
            (Some(block), &[_, across]) => (block, across),
            (None, [] | [1] | [1, 1]) => ([rows.max(1), columns], 1),
            (None, &[n] | &[n, 1]) if n == rows => ([1, columns], 1),
            (None, &[n, across @ 1..=usize::MAX]) if n == rows && columns.is_multiple_of(across) => {
                ([1, columns / across], across)
            }
            (_, shape) => {
                let of = format!("{rows} × {columns}");
                let what = format!("{} has shape {shape:?}, which is no way to scale {of}", scales.name);
                return self.wrong(what);
            }
        };
        let zeros = self.part(".weight_zero_point");
        if let Some(zeros) = &zeros {
            self.shaped(zeros, &scales.shape)?;
        }
        let elements = Elements::Scaled(Scaled {
            codes: codes.bytes,
            columns,
            float: codes.stored == "F8_E4M3",
            scales: self.numbers(&scales)?,
            zeros: zeros.as_ref().map(|zeros| self.numbers(zeros)).transpose()?,
            block,
            across,
        });
        let parts = [codes, scales].into_iter().chain(zeros).collect();
        Ok(Some(self.found(elements, &[rows, columns], parts)))
    }

    /// GPTQ and AWQ: input first.
    fn words(&self, method: &Method) -> Result<Found, CheckpointError> {
        let (bits, rows_packed, zero, group) = match *method {
            Method::Gptq { bits, symmetric: true, group, .. } => (bits, false, Some(1 << (bits - 1)), group),
            Method::Gptq { bits, group, .. } => (bits, false, None, group),
            Method::Awq { group } => (4, true, None, group),
            Method::Fp8 { .. } | Method::CompressedTensors { .. } | Method::Mxfp4 => {
                return self.wrong(format!("{}.qweight is there, which {} has not", self.base, method.name()));
            }
        };
        let each = 32 / bits as usize;
        let codes = self.typed(".qweight", &["I32"])?;
        let scales = self.typed(".scales", &["F16", "BF16", "F32"])?;
        let zeros = self.typed(".qzeros", &["I32"])?;
        let (&[high @ 1..=usize::MAX, wide], &[groups @ 1..=usize::MAX, rows]) =
            (codes.shape.as_slice(), scales.shape.as_slice())
        else {
            return self.wrong(format!("{} has shape {:?}, must be a matrix", codes.name, codes.shape));
        };
        let columns = if rows_packed { high } else { high.saturating_mul(each) };
        let packed = rows.div_ceil(each);
        self.shaped(&codes, &[high, if rows_packed { packed } else { rows }])?;
        self.shaped(&zeros, &[groups, packed])?;
        let order = rows_packed.then_some(AWQ_ORDER);
        let more = if let Method::Gptq { more, .. } = *method { more } else { 0 };
        let stored = Codes { words: zeros.bytes, bits, rows_packed: true, strides: [1, packed], order };
        let listed = self.part(".g_idx").filter(|_| !rows_packed);
        let words = Words {
            codes: Codes { words: codes.bytes, bits, rows_packed, strides: [1, wide], order },
            zero: zero.map_or(Zero::Stored(stored, more), Zero::Fixed),
            scales: self.numbers(&scales)?,
            scale_strides: [1, rows],
            groups: self.groups(listed.as_ref(), columns, groups, group)?,
        };
        let parts = [codes, scales, zeros].into_iter().chain(self.part(".g_idx")).collect();
        Ok(self.found(Elements::Words(words), &[rows, columns], parts))
    }

    /// The packed form of compressed-tensors: integers in words, or floats of 4 bits.
    fn packed(&self, method: &Method) -> Result<Found, CheckpointError> {
        let Method::CompressedTensors { widths, .. } = method else {
            return self.wrong(format!("{}.weight_packed is there, which {} has not", self.base, method.name()));
        };
        let codes = self.typed(".weight_packed", &["I32", "U8"])?;
        let &[rows, wide] = codes.shape.as_slice() else {
            return self.wrong(format!("has shape {:?}; of quantised tensors only matrices are read", codes.shape));
        };
        let scales = self.part(".weight_scale");
        if codes.stored == "U8" {
            return self.fp4(codes, ".weight_scale", &[rows, wide * 2]);
        }
        let shape = self.typed(".weight_shape", &["I64", "I32"])?;
        self.shaped(&shape, &[2])?;
        let columns = match shape.bytes.of(self.files) {
            bytes if shape.stored == "I64" => u64::from_le_bytes(bytes.as_chunks().0[1]),
            bytes => u32::from_le_bytes(bytes.as_chunks().0[1]).into(),
        };
        let columns = usize::try_from(columns).unwrap_or(usize::MAX);
        let fits = |(bits, _): &&(u32, _)| columns >= 1 && columns.div_ceil(32 / *bits as usize) == wide;
        let Some(&(bits, group)) = widths.iter().find(fits) else {
            let widths: Vec<u32> = widths.iter().map(|(bits, _)| *bits).collect();
            let what = format!("{columns} columns of {widths:?} bits do not fill {wide} words of {}", codes.name);
            return self.wrong(what);
        };
        let Some(scales) = scales else { return self.wrong(format!("has no {}.weight_scale beside it", self.base)) };
        let groups = match scales.shape.as_slice() {
            [] | [1] => 1,
            &[n] if n == rows => 1,
            &[n, groups @ 1..=usize::MAX] if n == rows => groups,
            other => return self.wrong(format!("{} has shape {other:?}, must have one a row and group", scales.name)),
        };
        let per_row = if scales.shape.iter().product::<usize>() == 1 { 0 } else { groups };
        let zeros = self.part(".weight_zero_point");
        let zero = match &zeros {
            None => Zero::Fixed(1 << (bits - 1)),
            Some(zeros) => {
                let zeros = self.typed(".weight_zero_point", &["I32"]).map(|_| zeros)?;
                self.shaped(zeros, &[rows.div_ceil(32 / bits as usize), groups])?;
                let strides = [groups, 1];
                Zero::Stored(Codes { words: zeros.bytes, bits, rows_packed: true, strides, order: None }, 0)
            }
        };
        let listed = self.part(".weight_g_idx");
        let words = Words {
            codes: Codes { words: codes.bytes, bits, rows_packed: false, strides: [wide, 1], order: None },
            zero,
            scales: self.numbers(&scales)?,
            scale_strides: [per_row, 1],
            groups: self.groups(listed.as_ref(), columns, groups, group)?,
        };
        let parts = [codes, scales, shape].into_iter().chain(zeros).chain(listed).collect();
        Ok(self.found(Elements::Words(words), &[rows, columns], parts))
    }

    /// The groups of columns: as a list says, or even ones.
    fn groups(
        &self,
        listed: Option<&Part>,
        columns: usize,
        groups: usize,
        group: Option<usize>,
    ) -> Result<Groups, CheckpointError> {
        let Some(part) = listed else {
            let even = group.unwrap_or(columns).min(columns);
            return match columns.div_ceil(even) == groups {
                true => Ok(Groups::Even(even)),
                false => self.wrong(format!("has {groups} groups where {columns} terms in groups of {even} were said")),
            };
        };
        let (part, list) = (self.typed(&part.name[self.base.len()..], &["I32"])?, part.bytes.of(self.files));
        self.shaped(&part, &[columns])?;
        let list: Arc<[u32]> = list.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
        // A list of which the end is missing says -1: no order of its own.
        if list.iter().all(|&group| group == u32::MAX) {
            return self.groups(None, columns, groups, group);
        }
        match list.iter().position(|&group| group as usize >= groups) {
            None => Ok(Groups::Listed(list)),
            Some(at) => self.wrong(format!("{} says group {} at {at}, of {groups}", part.name, list[at].cast_signed())),
        }
    }

    /// Floats of 4 bits, `shape` columns last.
    fn fp4(&self, codes: Part, end: &str, shape: &[usize]) -> Result<Found, CheckpointError> {
        let scales = self.typed(end, &["U8", "F8_E8M0", "F8_E4M3"])?;
        let (columns, groups) = (shape[shape.len() - 1], scales.shape.last().copied().unwrap_or(0));
        let mut wanted = shape.to_vec();
        wanted[shape.len() - 1] = groups;
        self.shaped(&scales, &wanted)?;
        if groups == 0 || columns == 0 || !columns.is_multiple_of(2 * groups) {
            return self.wrong(format!("{} has {groups} groups of {columns} columns", scales.name));
        }
        let global = self.part(".weight_global_scale");
        let divisor = match &global {
            None => 1.0,
            Some(part) if part.stored == "F32" && part.shape.iter().product::<usize>() == 1 => {
                self.numbers(part)?.at(self.files, 0)
            }
            Some(part) => return self.wrong(format!("{} is not one F32", part.name)),
        };
        let (scale, group) = (self.numbers(&scales)?, columns / groups);
        let elements = Elements::Fp4(Fp4 { codes: codes.bytes, columns, scales: scale, group, divisor });
        Ok(self.found(elements, shape, [codes, scales].into_iter().chain(global).collect()))
    }

    /// Blocks of 16 bytes with a scale each, as gpt-oss has them: experts output first, where its model has them input first.
    fn blocks(&self) -> Result<Option<Found>, CheckpointError> {
        let Some(codes) = self.part("_blocks").filter(|codes| codes.stored == "U8") else { return Ok(None) };
        let &[experts, rows, groups, bytes] = codes.shape.as_slice() else {
            return self
                .wrong(format!("{} has shape {:?}, must be experts, rows, groups, bytes", codes.name, codes.shape));
        };
        let columns = groups.saturating_mul(bytes).saturating_mul(2);
        let mut found = self.fp4(codes, "_scales", &[experts, rows, columns])?;
        found.stored.entry.shape = [experts, columns, rows].map(|len| len as u64).into();
        if let Some(packed) = found.stored.packed.as_mut().and_then(Arc::get_mut) {
            packed.turned = Some([rows, columns].map(|len| len as u64));
        }
        Ok(Some(found))
    }
}
