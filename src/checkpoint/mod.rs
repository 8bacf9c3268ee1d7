//! A model on disk, in Hugging Face layout: its configuration and its tensors, checked before they are believed.
//!
//! Nothing in the folder is executed, no length in it is believed before it is checked against the file, and no tensor is
//! copied here: [`TensorRows`] reads the rows of one rank straight from the mapping.

mod align;
mod check;
mod config;
mod dummy;
mod error;
mod fingerprint;
mod floats;
mod folder;
mod generation;
mod header;
mod manifest;
mod map;
mod quantized;
mod rows;
mod scan;

pub use check::{Unclaimed, UnclaimedPart};
pub use config::{CONFIG_BYTES_MAX, ConfigError, GenerationDefaults, Note, parse_config, read_config, remote_code};
pub use dummy::DummyRows;
pub use error::{CheckpointError, Names, PathFault, Spot};
pub use generation::SamplingDefaults;
pub use header::{Entry as ShardEntry, read as read_shard_header};
pub use manifest::{Integrity, MANIFEST, ManifestError, write_manifest};
pub use rows::TensorRows;
pub(crate) use scan::Scanned;
pub use scan::WEIGHT_MAX;

use crate::error::Error;
use graph::DType;
use header::Entry;
use map::Contents;
pub use map::report_lost_pages;
use quantized::{Method, Packed};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::info_span;

/// How the bytes of weights get into memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum LoadFormat {
    /// Mapped: a page is read when it is first touched. The files must not be shortened or rewritten while they are in use.
    #[default]
    Mmap,
    /// Copied into memory whole. For files that may change, and for file systems whose mappings fault.
    Read,
}

/// One weight file.
struct Shard {
    /// What messages call it.
    file: PathBuf,
    /// All of it.
    contents: Contents,
}

/// Where the bytes of a tensor are.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    shard: usize,
    begin: usize,
    end: usize,
}

impl Bytes {
    fn of<'a>(&self, files: &'a [Shard]) -> &'a [u8] {
        &files[self.shard].contents[self.begin..self.end]
    }
}

/// Where a tensor is.
#[derive(Clone)]
struct Stored {
    shard: usize,
    /// As its file declares it; of a quantised weight, with the name and the shape that it has in the model.
    entry: Entry,
    packed: Option<Arc<Packed>>,
}

impl Stored {
    fn bytes(&self) -> Bytes {
        Bytes { shard: self.shard, begin: self.entry.begin, end: self.entry.end }
    }

    /// The element type of its rows as they are read.
    fn dtype(&self) -> Option<DType> {
        if self.packed.is_some() { Some(DType::F32) } else { self.entry.dtype() }
    }
}

struct Inner {
    dir: PathBuf,
    config: Map<String, Value>,
    generation: Option<Map<String, Value>>,
    tokenizer: Option<&'static [u8]>,
    shards: Arc<Vec<Shard>>,
    tensors: BTreeMap<String, Stored>,
    /// How weights are quantised, where any may be.
    method: Option<Method>,
}

/// An opened model: configuration and tensors. Clones share the files.
#[derive(Clone)]
pub struct Checkpoint(Arc<Inner>);

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checkpoint({}, {} tensors)", self.0.dir.display(), self.0.tensors.len())
    }
}

/// A tensor as it lies in its file.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Element type.
    pub dtype: DType,
    /// Shape as stored.
    pub shape: &'a [u64],
    /// Row-major, little-endian; `dtype` × `shape` bytes, aligned as the file has them.
    pub bytes: &'a [u8],
}

impl Checkpoint {
    /// Opens a model folder: `config.json`, and one `model.safetensors` or an index with shards.
    pub fn open(dir: &Path, format: LoadFormat) -> Result<Self, Error> {
        let _span = info_span!("checkpoint open", dir = %dir.display()).entered();
        let listing = folder::list(dir)?;
        let config = read_config(&dir.join("config.json"))?;
        let generation = optional_config(&dir.join("generation_config.json"))?;
        let mut shards = Vec::with_capacity(listing.shards.len());
        for (name, path) in &listing.shards {
            shards.push(open_shard(&dir.join(name), path, format)?);
        }
        let mut tensors = read_headers(&shards)?;
        for (tensor, shard) in &listing.places {
            let there = tensors.get(tensor).is_some_and(|stored| shards[stored.shard].file == dir.join(shard));
            if !there {
                let (index, tensor, shard) = (listing.index.clone(), tensor.clone(), shard.clone());
                return Err(CheckpointError::NotInShard { index, tensor, shard }.into());
            }
        }
        let method = Method::of(&dir.join("config.json"), &config)?;
        if let Some(method) = &method {
            quantized::gather(&mut tensors, &shards, method, quantized::widened(&config))?;
        }
        let (dir, tokenizer, shards) = (dir.into(), None, Arc::new(shards));
        Ok(Self(Arc::new(Inner { dir, config, generation, tokenizer, shards, tensors, method })))
    }

    /// The model that is part of the program: see `models/demo/README.md`.
    pub fn embedded() -> Self {
        /// A file of the embedded model.
        macro_rules! demo {
            ($name:literal) => {
                include_bytes!(concat!("../../models/demo/", $name))
            };
        }
        let dir = PathBuf::from("embedded:demo");
        let _span = info_span!("checkpoint open", dir = %dir.display()).entered();
        let shipped = "the embedded model is checked by a test";
        let config = parse_config(&dir.join("config.json"), demo!("config.json")).expect(shipped);
        let generation = parse_config(&dir.join("generation_config.json"), demo!("generation_config.json"));
        let contents = Contents::Embedded(demo!("model.safetensors"));
        let shards = vec![Shard { file: dir.join("model.safetensors"), contents }];
        let tensors = read_headers(&shards).expect(shipped);
        let generation = Some(generation.expect(shipped));
        let tokenizer: Option<&'static [u8]> = Some(demo!("tokenizer.json"));
        let (shards, method) = (Arc::new(shards), None);
        Self(Arc::new(Inner { dir, config, generation, tokenizer, shards, tensors, method }))
    }

    /// A configuration without weights, from a `config.json` or a folder that has one. [`DummyRows`] makes weights up.
    pub fn dummy(config: &Path) -> Result<Self, Error> {
        let file = if config.is_dir() { config.join("config.json") } else { config.to_path_buf() };
        let dir = file.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        let _span = info_span!("checkpoint open", dir = %dir.display(), weights = "made up").entered();
        let config = read_config(&file)?;
        let generation = optional_config(&dir.join("generation_config.json"))?;
        let (tokenizer, shards, tensors, method) = (None, Arc::default(), BTreeMap::new(), None);
        Ok(Self(Arc::new(Inner { dir, config, generation, tokenizer, shards, tensors, method })))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// `config.json`.
    pub fn config(&self) -> &Map<String, Value> {
        &self.0.config
    }

    /// `generation_config.json`, where there is one.
    pub fn generation_config(&self) -> Option<&Map<String, Value>> {
        self.0.generation.as_ref()
    }

    /// What ends a text and what else the folder asks for, for a model of this many logits.
    pub fn generation_defaults(&self, vocabulary: u32) -> Result<GenerationDefaults, Error> {
        Ok(GenerationDefaults::resolve(self.dir(), self.config(), self.generation_config(), vocabulary)?)
    }

    /// The tokenizer of the folder; `None` where it has no `tokenizer.json`.
    pub fn tokenizer(&self) -> Result<Option<crate::text::Tokenizer>, Error> {
        let _span = info_span!("tokenizer open").entered();
        let file = self.0.dir.join("tokenizer.json");
        Ok(match self.0.tokenizer {
            Some(bytes) => Some(crate::text::Tokenizer::from_bytes(&file, bytes)?),
            None => crate::text::Tokenizer::from_folder(&self.0.dir)?,
        })
    }

    /// Whether the folder has chat templates, so that lines of a job may have `messages`.
    pub fn has_chat_templates(&self) -> Result<bool, Error> {
        match self.0.tokenizer {
            Some(_) => Ok(false),
            None => Ok(crate::text::Tokenizer::has_chat_templates(&self.0.dir)?),
        }
    }

    /// The tensors' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.tensors.keys().map(String::as_str)
    }

    /// A tensor. `None` where there is none of that name, its element type is not one that kernels read, or it is quantised.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let stored = self.0.tensors.get(name).filter(|stored| stored.packed.is_none())?;
        let (shape, bytes) = (&stored.entry.shape, stored.bytes().of(&self.0.shards));
        Some(TensorView { dtype: stored.entry.dtype()?, shape, bytes })
    }

    /// The element type of a weight by its name in a model, in which `{}` may stand for the number of an entry that is a tensor of its own.
    /// Of a quantised one, the type that `config.json` names.
    pub fn weight_dtype(&self, name: &str) -> Option<DType> {
        let entry = graph::entry_name(name, 0);
        let stored = self.0.tensors.get(entry.as_deref().unwrap_or(name))?;
        stored.packed.as_ref().map_or(stored.entry.dtype(), |packed| Some(packed.dtype))
    }

    /// Bytes of all tensors together.
    pub fn bytes(&self) -> u64 {
        let bytes = |stored: &Stored| (stored.entry.end - stored.entry.begin) as u64;
        self.0.tensors.values().map(|stored| stored.packed.as_ref().map_or(bytes(stored), |packed| packed.bytes)).sum()
    }
}

/// A configuration file that may be absent.
fn optional_config(file: &Path) -> Result<Option<Map<String, Value>>, ConfigError> {
    match read_config(file) {
        Ok(map) => Ok(Some(map)),
        Err(ConfigError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens one weight file once; its length is taken from what was opened.
fn open_shard(file: &Path, path: &Path, format: LoadFormat) -> Result<Shard, CheckpointError> {
    let failed = |source| CheckpointError::Io { file: file.into(), source };
    let open = std::fs::File::open(path).map_err(failed)?;
    let bytes = open.metadata().map_err(failed)?.len();
    if bytes < 8 {
        return Err(CheckpointError::HeaderCut { file: file.into(), bytes });
    }
    let len = usize::try_from(bytes).map_err(|error| failed(std::io::Error::other(error)))?;
    Ok(Shard { file: file.into(), contents: Contents::of(&open, file, len, format).map_err(failed)? })
}

/// The tensors of all shards, each name once.
fn read_headers(shards: &[Shard]) -> Result<BTreeMap<String, Stored>, CheckpointError> {
    let mut tensors: BTreeMap<String, Stored> = BTreeMap::new();
    for (shard, Shard { file, contents }) in shards.iter().enumerate() {
        for entry in header::read(file, contents)? {
            let spot = |shard: usize, offset| Spot { file: shards[shard].file.clone(), offset };
            if let Some(before) = tensors.get(&entry.name) {
                let first = spot(before.shard, before.entry.declared_at);
                let second = spot(shard, entry.declared_at);
                return Err(CheckpointError::Duplicate { tensor: entry.name, first, second });
            }
            tensors.insert(entry.name.clone(), Stored { shard, entry, packed: None });
        }
    }
    Ok(tensors)
}
