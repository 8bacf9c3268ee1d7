//! Which files of a model folder hold its weights, and that they lie in it.

use super::error::{CheckpointError, PathFault};
use crate::error::Shown;
use crate::json;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The weights in one file.
const SINGLE: &str = "model.safetensors";

/// The weights in shards: which tensor is where.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Bytes of an index that are read. A model of 100,000 tensors has one near 10 MiB.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// Files of a folder, beside configuration and weights, that change what a request means.
pub(super) const TEXT_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
];

/// The weight files of a folder.
pub(crate) struct Listing {
    /// Each file as messages name it, and as it is opened.
    pub(crate) shards: Vec<(String, PathBuf)>,
    /// Which shard each tensor is said to be in; empty for a single file.
    pub(crate) places: BTreeMap<String, String>,
    /// The index itself.
    pub(crate) index: PathBuf,
}

/// Finds the weights of `dir`. One file goes before an index, as elsewhere.
pub(crate) fn list(dir: &Path) -> Result<Listing, CheckpointError> {
    if !dir.is_dir() {
        let (by, named) = (dir.into(), Shown::quoted(&dir.file_name().unwrap_or_default().to_string_lossy()));
        let pickle = dir.is_file() && is_pickle(dir);
        return Err(if pickle { CheckpointError::Pickle { by, named } } else { CheckpointError::NoFolder { dir: by } });
    }
    let index = dir.join(INDEX);
    if dir.join(SINGLE).symlink_metadata().is_ok() {
        let path = inside(dir, dir, SINGLE)?;
        return Ok(Listing { shards: vec![(SINGLE.into(), path)], places: BTreeMap::new(), index });
    }
    if !index.exists() {
        return Err(match pickle_in(dir) {
            Some(found) => CheckpointError::PickleOnly { dir: dir.into(), found },
            None => CheckpointError::NoWeights { dir: dir.into() },
        });
    }
    let places = read_index(&index)?;
    let mut shards = BTreeMap::new();
    for shard in places.values() {
        if is_pickle(Path::new(shard)) {
            return Err(CheckpointError::Pickle { by: index, named: Shown::quoted(shard) });
        }
        if !shards.contains_key(shard) {
            shards.insert(shard.clone(), inside(dir, &index, shard)?);
        }
    }
    Ok(Listing { shards: shards.into_iter().collect(), places, index })
}

/// Whether the ending of a file says pickle.
fn is_pickle(file: &Path) -> bool {
    let endings = ["bin", "pt", "pth", "ckpt", "pkl"].map(OsStr::new);
    file.extension().is_some_and(|ending| endings.contains(&ending))
}

/// The first file, by name, whose ending says pickle.
fn pickle_in(dir: &Path) -> Option<String> {
    let files = std::fs::read_dir(dir).ok()?.filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name())));
    let pickles = files.filter(|name| is_pickle(name));
    pickles.min().map(|name| name.display().to_string())
}

/// `weight_map` of an index.
fn read_index(index: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    let failed = |source| CheckpointError::Io { file: index.into(), source };
    let file = std::fs::File::open(index).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes > INDEX_BYTES_MAX {
        return Err(CheckpointError::IndexTooLarge { file: index.into(), bytes, limit: INDEX_BYTES_MAX });
    }
    let mut text = Vec::new();
    file.take(INDEX_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    let value = json::parse_bytes(&text).map_err(|fault| CheckpointError::IndexSyntax { file: index.into(), fault })?;
    let wrong = |field: String, value: &Value, allowed| CheckpointError::IndexField {
        file: index.into(),
        field,
        got: Shown::json(value),
        allowed,
    };
    let map = value.get("weight_map").unwrap_or(&Value::Null);
    let Value::Object(map) = map else {
        return Err(wrong("weight_map".into(), map, "an object of tensor name to file name"));
    };
    map.iter()
        .map(|(tensor, shard)| match shard {
            Value::String(shard) => Ok((tensor.clone(), shard.clone())),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                Err(wrong(format!("weight_map[{}]", Shown::quoted(tensor)), shard, "a file name"))
            }
        })
        .collect()
}

/// The real path of `name` in `dir`, which must not lead out of it. `from` is what names it.
fn inside(dir: &Path, from: &Path, name: &str) -> Result<PathBuf, CheckpointError> {
    let refuse = |fault| Err(CheckpointError::ShardPath { from: from.into(), shard: Shown::quoted(name), fault });
    let path = Path::new(name);
    if path.is_absolute() {
        return refuse(PathFault::Absolute);
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return refuse(PathFault::Parent);
    }
    let failed = |source| CheckpointError::Io { file: dir.join(name), source };
    let real = match dir.join(path).canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return refuse(PathFault::Missing),
        Err(error) => return Err(failed(error)),
    };
    let home = dir.canonicalize().map_err(failed)?;
    if !real.starts_with(&home) && !cache_blobs(&home).is_some_and(|blobs| real.starts_with(blobs)) {
        return refuse(PathFault::Leaves);
    }
    if !real.is_file() {
        return refuse(PathFault::NotAFile);
    }
    Ok(real)
}

/// In the cache of the Hugging Face hub a model folder is `snapshots/REVISION`, full of links to its sibling `blobs`.
fn cache_blobs(home: &Path) -> Option<PathBuf> {
    let snapshots = home.parent()?;
    (snapshots.file_name()? == "snapshots").then(|| snapshots.with_file_name("blobs"))
}
