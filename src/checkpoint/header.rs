//! The header of a `.safetensors` file, checked before a byte of it is believed.
//!
//! The `safetensors` crate keeps the last of two equal names, ignores fields it does not know and lets an empty tensor share
//! the offset of another. So the header is scanned here first; the crate reads it after that, and both must agree.

use super::error::{CheckpointError, Spot};
use crate::error::Shown;
use crate::json::JsonFault;
use graph::DType;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::path::Path;

/// Bytes of the header's length at the start of a file.
const LENGTH_BYTES: usize = 8;

/// The longest header the format allows.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// One tensor as the header of its file declares it, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its element type, as the file spells it.
    pub stored: String,
    /// Its shape.
    pub shape: Vec<u64>,
    /// First byte, in the file.
    pub begin: usize,
    /// Byte after the last, in the file.
    pub end: usize,
    /// Where the header declares it, in the file.
    pub declared_at: u64,
}

impl Entry {
    /// The element type, if kernels read it.
    pub fn dtype(&self) -> Option<DType> {
        match self.stored.as_str() {
            "F32" => Some(DType::F32),
            "BF16" => Some(DType::Bf16),
            "F16" => Some(DType::F16),
            _ => None,
        }
    }
}

/// Bits of an element, of every type the format knows.
fn element_bits(stored: &str) -> Option<u64> {
    Some(match stored {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "C64" | "F64" | "I64" | "U64" => 64,
        _ => return None,
    })
}

/// Reads and checks the header of `bytes`, the whole of the weight file that messages call `file`; tensors in the order of their bytes.
///
/// # Errors
/// The first thing that is not as the format asks for.
pub fn read(file: &Path, bytes: &[u8]) -> Result<Vec<Entry>, CheckpointError> {
    let text = text(file, bytes)?;
    let data_at = LENGTH_BYTES + text.len();
    let scan = Scan { file, text, data_at };
    let mut entries = scan.entries()?;
    entries.sort_by_key(|entry| (entry.begin, entry.end));
    scan.lay_out(&entries)?;
    let needed = entries.last().map_or(data_at, |entry| entry.end) as u64;
    let found = bytes.len() as u64;
    if needed > found {
        return Err(CheckpointError::Truncated { file: file.into(), missing: needed - found, needed, bytes: found });
    }
    if needed < found {
        return Err(CheckpointError::Surplus { file: file.into(), extra: found - needed, needed, bytes: found });
    }
    agree(file, bytes, &entries)?;
    Ok(entries)
}

/// The header's text: its length is checked against the file before anything of that length is touched.
fn text<'a>(file: &Path, bytes: &'a [u8]) -> Result<&'a str, CheckpointError> {
    let found = bytes.len() as u64;
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(CheckpointError::HeaderCut { file: file.into(), bytes: found });
    };
    let declared = u64::from_le_bytes(*length);
    if declared > HEADER_BYTES_MAX {
        return Err(CheckpointError::HeaderTooLarge { file: file.into(), declared, limit: HEADER_BYTES_MAX });
    }
    // At most a hundred million, so it fits every usize.
    let Some(header) = rest.get(..declared as usize) else {
        return Err(CheckpointError::HeaderBeyondFile { file: file.into(), declared, bytes: found });
    };
    let fault = |offset: usize, what: String| CheckpointError::Header {
        at: Spot { file: file.into(), offset: (LENGTH_BYTES + offset) as u64 },
        what,
    };
    if header.first() != Some(&b'{') {
        return Err(fault(0, "the header must begin with {".into()));
    }
    match std::str::from_utf8(header) {
        Ok(text) => Ok(text),
        Err(error) => Err(fault(error.valid_up_to(), "the header is not UTF-8".into())),
    }
}

/// The reference reader must see the same tensors.
fn agree(file: &Path, bytes: &[u8], entries: &[Entry]) -> Result<(), CheckpointError> {
    let (_, metadata) = safetensors::SafeTensors::read_metadata(bytes)
        .map_err(|source| CheckpointError::Reference { file: file.into(), source })?;
    let data_at = bytes.len() - metadata.data_len();
    for entry in entries {
        let same = metadata.info(&entry.name).is_some_and(|info| {
            info.data_offsets == (entry.begin - data_at, entry.end - data_at)
                && info.shape.iter().map(|&d| d as u64).eq(entry.shape.iter().copied())
                && info.dtype.to_string() == entry.stored
        });
        if !same {
            let at = Spot { file: file.into(), offset: entry.declared_at };
            return Err(CheckpointError::Header { at, what: format!("{}: two readers see two tensors", entry.name) });
        }
    }
    Ok(())
}

/// What a header says of one tensor. Fields that the format does not have, and fields twice, are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The entries of an object in their order, equal keys and all, with the text of each value.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Collect<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Collect<'a> {
            type Value = Pairs<'a>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Pairs<'a>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = entries.next_entry::<String, &'de RawValue>()? {
                    pairs.push((pair.0, pair.1 as &RawValue));
                }
                Ok(Pairs(pairs))
            }
        }
        reader.deserialize_map(Collect(std::marker::PhantomData))
    }
}

/// A scan under way.
struct Scan<'a> {
    file: &'a Path,
    text: &'a str,
    data_at: usize,
}

impl<'a> Scan<'a> {
    /// A byte of the header, by where it is in the text.
    fn spot(&self, offset: usize) -> Spot {
        Spot { file: self.file.into(), offset: (LENGTH_BYTES + offset) as u64 }
    }

    /// Where a part of the text begins. `part` is a slice of `self.text`.
    fn offset_of(&self, part: &str) -> usize {
        part.as_ptr() as usize - self.text.as_ptr() as usize
    }

    /// A fault that `serde_json` found in `part`, by byte.
    fn fault(&self, part: &str, error: serde_json::Error, of: &str) -> CheckpointError {
        let fault = JsonFault::from(error);
        let line_at: usize = part.split_inclusive('\n').take(fault.line.saturating_sub(1)).map(str::len).sum();
        let offset = self.offset_of(part) + line_at + fault.column.saturating_sub(1);
        CheckpointError::Header { at: self.spot(offset), what: format!("{of}{}", fault.what) }
    }

    /// Every tensor of the header, names unique and each range fitting its shape.
    fn entries(&self) -> Result<Vec<Entry>, CheckpointError> {
        let Pairs(pairs) = serde_json::from_str(self.text).map_err(|error| self.fault(self.text, error, ""))?;
        let mut seen: HashMap<&str, usize> = HashMap::with_capacity(pairs.len());
        for (name, value) in &pairs {
            let here = self.offset_of(value.get());
            if let Some(before) = seen.insert(name, here) {
                let (first, second) = (self.spot(before), self.spot(here));
                return Err(CheckpointError::Duplicate { tensor: name.clone(), first, second });
            }
        }
        let mut entries = Vec::with_capacity(pairs.len());
        for (name, value) in &pairs {
            if name != "__metadata__" {
                entries.push(self.entry(name, value.get())?);
            }
        }
        Ok(entries)
    }

    /// One tensor; its numbers are checked before they become sizes.
    fn entry(&self, name: &str, value: &str) -> Result<Entry, CheckpointError> {
        let file = || self.file.to_path_buf();
        let tensor = || name.to_string();
        let declared: Declared =
            serde_json::from_str(value).map_err(|error| self.fault(value, error, &format!("{name}: ")))?;
        let Declared { dtype, shape, data_offsets: (begin, end) } = declared;
        let Some(bits) = element_bits(&dtype) else {
            let what = format!("{name}: dtype {} is not one of the format's", Shown::quoted(&dtype));
            return Err(CheckpointError::Header { at: self.spot(self.offset_of(value)), what });
        };
        let Some(found) = end.checked_sub(begin) else {
            return Err(CheckpointError::RangeReversed { file: file(), tensor: tensor(), begin, end });
        };
        let total = shape.iter().try_fold(1u64, |product, &d| product.checked_mul(d)).and_then(|n| n.checked_mul(bits));
        let Some(total) = total else {
            return Err(CheckpointError::ShapeOverflow { file: file(), tensor: tensor(), shape });
        };
        let expected = total.div_ceil(8);
        if expected != found {
            return Err(CheckpointError::RangeLength { file: file(), tensor: tensor(), dtype, shape, expected, found });
        }
        let in_file = |offset: u64| usize::try_from(offset).ok().and_then(|offset| offset.checked_add(self.data_at));
        let (Some(begin), Some(end)) = (in_file(begin), in_file(end)) else {
            return Err(CheckpointError::ShapeOverflow { file: file(), tensor: tensor(), shape });
        };
        let declared_at = self.spot(self.offset_of(value)).offset;
        Ok(Entry { name: tensor(), stored: dtype, shape, begin, end, declared_at })
    }

    /// `entries`, by their ranges, cover the data without a hole and without sharing.
    fn lay_out(&self, entries: &[Entry]) -> Result<(), CheckpointError> {
        let file = || self.file.to_path_buf();
        let offset = |at: usize| (at - self.data_at) as u64;
        if let Some(first) = entries.first().filter(|first| first.begin > self.data_at) {
            let (first, second) = ("the start of the data".to_string(), first.name.clone());
            return Err(CheckpointError::Hole { file: file(), first, second, bytes: offset(entries[0].begin) });
        }
        for pair in entries.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            if a.begin == b.begin && a.begin == a.end {
                let (empty, other) = (a.name.clone(), b.name.clone());
                return Err(CheckpointError::EmptyShares { file: file(), empty, other, offset: offset(a.begin) });
            }
            let (first, second) = (a.name.clone(), b.name.clone());
            if b.begin < a.end {
                let (end, begin) = (offset(a.end), offset(b.begin));
                return Err(CheckpointError::Overlap { file: file(), first, second, end, begin });
            }
            if b.begin > a.end {
                return Err(CheckpointError::Hole { file: file(), first, second, bytes: (b.begin - a.end) as u64 });
            }
        }
        Ok(())
    }
}
