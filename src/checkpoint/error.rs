//! What is wrong with the weights of a model.

use crate::error::{ExitCode, Shown, read_exit_code};
use crate::json::JsonFault;
use std::fmt;
use std::path::PathBuf;

/// A byte of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spot {
    /// The file.
    pub file: PathBuf,
    /// The byte, from 0.
    pub offset: u64,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} byte {}", self.file.display(), self.offset)
    }
}

/// Why a path in an index is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathFault {
    /// It begins at the root.
    Absolute,
    /// It has `..` in it.
    Parent,
    /// A link in it leads out of the folder.
    Leaves,
    /// Nothing is there.
    Missing,
    /// Not a regular file.
    NotAFile,
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathFault::Absolute => "an absolute path; a shard lies in the model folder, name it relative to that",
            PathFault::Parent => "has `..` in it; a shard lies in the model folder",
            PathFault::Leaves => "leads out of the model folder by a link; copy the file into the folder",
            PathFault::Missing => "no such file in the model folder; the download is incomplete",
            PathFault::NotAFile => "is not a regular file",
        })
    }
}

/// The first few names of a list that may be long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    /// At most ten.
    pub first: Vec<String>,
    /// How many there are.
    pub count: usize,
}

impl Names {
    /// How many names are shown.
    const SHOWN: usize = 10;

    /// The first ten of `names`, and their count.
    pub fn of(names: impl IntoIterator<Item = String>) -> Self {
        let mut list = Self { first: Vec::new(), count: 0 };
        for name in names {
            if list.count < Self::SHOWN {
                list.first.push(name);
            }
            list.count += 1;
        }
        list
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count)?;
        if self.count > 0 {
            write!(f, " ({}{})", self.first.join(", "), if self.count > self.first.len() { ", …" } else { "" })?;
        }
        Ok(())
    }
}

/// What mends a damaged file.
const AGAIN: &str = "fetch the file again";
/// What is said of pickles.
const CONVERT: &str = "which can run code when it is read and is never opened; convert it: python -c \"from transformers import \
    AutoModelForCausalLM as M; M.from_pretrained('.').save_pretrained('converted', safe_serialization=True)\"";

/// Why a checkpoint is refused.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The folder is not there.
    #[error("{}: no such folder; name a model folder in Hugging Face layout", .dir.display())]
    NoFolder {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder has no weights.
    #[error("{}: has neither model.safetensors nor model.safetensors.index.json; name a folder with one of them", .dir.display())]
    NoWeights {
        /// The folder.
        dir: PathBuf,
    },
    /// Only weights in a format that runs code when it is read.
    #[error("{}: only {found} here, a pickle, {CONVERT}", .dir.display())]
    PickleOnly {
        /// The folder.
        dir: PathBuf,
        /// The file.
        found: String,
    },
    /// Such a file, named by an index or as the model.
    #[error("{}: {named} is a pickle, {CONVERT}", .by.display())]
    Pickle {
        /// What names it.
        by: PathBuf,
        /// The file.
        named: Shown,
    },
    /// A file could not be read.
    #[error("{}: cannot be read: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Fewer than the eight bytes that every shard begins with.
    #[error("{}: header length needs 8 bytes, file has {bytes}; {AGAIN}", .file.display())]
    HeaderCut {
        /// The file.
        file: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// The header is said to be longer than the file.
    #[error("{}: byte 0: header length is {declared}, file has {bytes} bytes; {AGAIN}", .file.display())]
    HeaderBeyondFile {
        /// The file.
        file: PathBuf,
        /// Said by the file.
        declared: u64,
        /// Its length.
        bytes: u64,
    },
    /// The header is longer than the format allows.
    #[error("{}: byte 0: header length is {declared}, over the limit of {limit} bytes; {AGAIN}", .file.display())]
    HeaderTooLarge {
        /// The file.
        file: PathBuf,
        /// Said by the file.
        declared: u64,
        /// What the format allows.
        limit: u64,
    },
    /// The header is not what the format asks for.
    #[error("{at}: {what}; {AGAIN}")]
    Header {
        /// Where.
        at: Spot,
        /// What is wrong.
        what: String,
    },
    /// One name for two tensors.
    #[error("tensor {tensor} is there twice: {first} and {second}; a reader could take either: {AGAIN}")]
    Duplicate {
        /// The tensor.
        tensor: String,
        /// One place.
        first: Spot,
        /// The other.
        second: Spot,
    },
    /// A range that ends before it begins.
    #[error("{}: {tensor}: data_offsets [{begin}, {end}] end before they begin; {AGAIN}", .file.display())]
    RangeReversed {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// First byte.
        begin: u64,
        /// Byte after the last.
        end: u64,
    },
    /// A shape whose elements or bytes cannot be counted.
    #[error("{}: {tensor}: the product of shape {shape:?} does not fit 64 bits; {AGAIN}", .file.display())]
    ShapeOverflow {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A range that does not fit its shape.
    #[error("{}: {tensor}: {dtype} {shape:?} takes {expected} bytes, data_offsets give {found}; {AGAIN}", .file.display())]
    RangeLength {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Bytes of the shape.
        expected: u64,
        /// Bytes of the range.
        found: u64,
    },
    /// Two tensors share bytes.
    #[error("{}: {first} and {second} overlap: one ends at byte {end} of the data, the other begins at {begin}; {AGAIN}", .file.display())]
    Overlap {
        /// The file.
        file: PathBuf,
        /// The one that begins first.
        first: String,
        /// The other.
        second: String,
        /// Where the first ends.
        end: u64,
        /// Where the second begins.
        begin: u64,
    },
    /// Bytes that belong to no tensor.
    #[error("{}: a hole of {bytes} bytes between {first} and {second}; {AGAIN}", .file.display())]
    Hole {
        /// The file.
        file: PathBuf,
        /// The tensor before it, or the start of the data.
        first: String,
        /// The tensor behind it.
        second: String,
        /// Its length.
        bytes: u64,
    },
    /// An empty tensor at the place of another.
    #[error("{}: {empty} has no elements and shares offset {offset} with {other}; {AGAIN}", .file.display())]
    EmptyShares {
        /// The file.
        file: PathBuf,
        /// The empty one.
        empty: String,
        /// The other.
        other: String,
        /// Where.
        offset: u64,
    },
    /// The file ends before its tensors do.
    #[error("{}: missing {missing} bytes: its header needs {needed}, file has {bytes}; {AGAIN}", .file.display())]
    Truncated {
        /// The file.
        file: PathBuf,
        /// How many are missing.
        missing: u64,
        /// What the header needs.
        needed: u64,
        /// What there is.
        bytes: u64,
    },
    /// The file goes on behind its tensors.
    #[error("{}: {extra} bytes behind the last tensor: its header needs {needed}, file has {bytes}; {AGAIN}", .file.display())]
    Surplus {
        /// The file.
        file: PathBuf,
        /// How many are too many.
        extra: u64,
        /// What the header needs.
        needed: u64,
        /// What there is.
        bytes: u64,
    },
    /// The reference reader refuses what the scan accepted.
    #[error("{}: {source}; {AGAIN}", .file.display())]
    Reference {
        /// The file.
        file: PathBuf,
        /// What it says.
        source: safetensors::SafeTensorError,
    },
    /// The index is not JSON of the form that is asked for.
    #[error("{}: {fault}", .file.display())]
    IndexSyntax {
        /// The index.
        file: PathBuf,
        /// Where and what.
        fault: JsonFault,
    },
    /// The index has a field of the wrong kind.
    #[error("{}: {field} is {got}, must be {allowed}", .file.display())]
    IndexField {
        /// The index.
        file: PathBuf,
        /// Which.
        field: String,
        /// What stands there.
        got: Shown,
        /// What may stand there.
        allowed: &'static str,
    },
    /// The index is too long.
    #[error("{}: {bytes} bytes, over the limit of {limit}", .file.display())]
    IndexTooLarge {
        /// The index.
        file: PathBuf,
        /// Its length.
        bytes: u64,
        /// What is read.
        limit: u64,
    },
    /// A shard is not where the index may point.
    #[error("{}: {shard} {fault}", .from.display())]
    ShardPath {
        /// The index, or the folder.
        from: PathBuf,
        /// The path as written.
        shard: Shown,
        /// Why it is refused.
        fault: PathFault,
    },
    /// A shard lacks what the index says it has.
    #[error("{}: {tensor} should be in {shard}, which has no such tensor; {AGAIN}", .index.display())]
    NotInShard {
        /// The index.
        index: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shard.
        shard: String,
    },
    /// The checkpoint has not the tensors that the model has.
    #[error("{}: tensors missing: {missing}; tensors that the model does not have: {unexpected}", .dir.display())]
    Tensors {
        /// The folder.
        dir: PathBuf,
        /// In the model only.
        missing: Names,
        /// In the checkpoint only.
        unexpected: Names,
    },
    /// A tensor of another shape than the configuration gives.
    #[error("{}: {tensor}: want {want:?} by config.json, got {got:?}", .file.display())]
    Shape {
        /// The shard.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// By the model's axes.
        want: Vec<u32>,
        /// In the file.
        got: Vec<u64>,
    },
    /// A tensor of an element type that is not read.
    #[error("{}: {tensor}: want f32, bf16 or f16, got {got}", .file.display())]
    DType {
        /// The shard.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// In the file.
        got: String,
    },
    /// A plan asks for a part that the tensor does not have.
    #[error("{tensor}: the plan's part ({part}) does not fit the tensor: {why}")]
    Part {
        /// The tensor.
        tensor: String,
        /// What the plan asks for.
        part: String,
        /// What does not fit.
        why: &'static str,
    },
    /// An element that no weight can have.
    #[error(
        "{}: {tensor}{index:?} is {value}, must be finite and at most {limit} in size; the file is damaged: fetch it again, or \
         take it as it is with --no-weight-scan", .file.display()
    )]
    Element {
        /// The shard.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its place in the tensor as stored, the first such.
        index: Vec<u64>,
        /// What stands there.
        value: f32,
        /// [`super::WEIGHT_MAX`].
        limit: f32,
    },
    /// What a quantised weight is made of does not fit together.
    #[error("{tensor}: {what}")]
    Quantized {
        /// The weight, by the name it has where it is not quantised.
        tensor: String,
        /// What is wrong.
        what: String,
    },
    /// Of the folder's manifest.
    #[error(transparent)]
    Manifest(#[from] super::ManifestError),
}

impl CheckpointError {
    /// What a command exits with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            CheckpointError::NoFolder { .. } | CheckpointError::NoWeights { .. } => ExitCode::MissingInput,
            CheckpointError::Io { source, .. } => read_exit_code(source),
            CheckpointError::Part { .. } => ExitCode::Bug,
            CheckpointError::Manifest(error) => error.exit_code(),
            CheckpointError::PickleOnly { .. }
            | CheckpointError::Pickle { .. }
            | CheckpointError::HeaderCut { .. }
            | CheckpointError::HeaderBeyondFile { .. }
            | CheckpointError::HeaderTooLarge { .. }
            | CheckpointError::Header { .. }
            | CheckpointError::Duplicate { .. }
            | CheckpointError::RangeReversed { .. }
            | CheckpointError::ShapeOverflow { .. }
            | CheckpointError::RangeLength { .. }
            | CheckpointError::Overlap { .. }
            | CheckpointError::Hole { .. }
            | CheckpointError::EmptyShares { .. }
            | CheckpointError::Truncated { .. }
            | CheckpointError::Surplus { .. }
            | CheckpointError::Reference { .. }
            | CheckpointError::IndexSyntax { .. }
            | CheckpointError::IndexField { .. }
            | CheckpointError::IndexTooLarge { .. }
            | CheckpointError::ShardPath { .. }
            | CheckpointError::NotInShard { .. }
            | CheckpointError::Tensors { .. }
            | CheckpointError::Shape { .. }
            | CheckpointError::Quantized { .. }
            | CheckpointError::DType { .. }
            | CheckpointError::Element { .. } => ExitCode::Data,
        }
    }
}
