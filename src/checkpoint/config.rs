//! The text of `config.json` and `generation_config.json`: read within limits, as one object, with places in every fault.
//!
//! Nothing a configuration names is ever executed. What its fields mean is for the families of the graph to say.

use super::floats;
use super::generation::SamplingDefaults;
use super::manifest::MANIFEST;
use crate::error::{ExitCode, Shown, read_exit_code};

use crate::json::{self, JsonFault};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a configuration that are read. The largest on the hub are near 50 KiB.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Values of a configuration: the labels of the largest classifiers are some 20,000.
const CONFIG_VALUES_MAX: u32 = 1 << 16;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there.
    #[error("{}: no such file; a model folder in Hugging Face layout has one", .file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Over [`CONFIG_BYTES_MAX`].
    #[error("{}: {bytes} bytes, over the limit of {CONFIG_BYTES_MAX}; a configuration is a few KiB", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Not JSON, nested too deeply, or a key twice.
    #[error("{}: {fault}", .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where and what.
        fault: JsonFault,
    },
    /// JSON, but not an object.
    #[error("{}: is {got}, must be an object", .file.display())]
    NotObject {
        /// The file.
        file: PathBuf,
        /// What it is.
        got: &'static str,
    },
    /// A field of the wrong type or out of its range.
    #[error("{}: {field} is {got}, must be {allowed}", .file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// Which.
        field: &'static str,
        /// What stands there.
        got: Shown,
        /// What may stand there.
        allowed: &'static str,
    },
}

impl ConfigError {
    /// What a command exits with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ConfigError::Missing { .. } => ExitCode::MissingInput,
            ConfigError::Io { source, .. } => read_exit_code(source),
            ConfigError::TooLarge { .. }
            | ConfigError::Syntax { .. }
            | ConfigError::NotObject { .. }
            | ConfigError::Field { .. } => ExitCode::Config,
        }
    }
}

/// Reads a configuration file.
pub fn read_config(file: &Path) -> Result<Map<String, Value>, ConfigError> {
    let failed = |source: std::io::Error| {
        if source.kind() == std::io::ErrorKind::NotFound {
            return ConfigError::Missing { file: file.into() };
        }
        ConfigError::Io { file: file.into(), source }
    };
    let open = std::fs::File::open(file).map_err(failed)?;
    let bytes = open.metadata().map_err(failed)?.len();
    if bytes > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { file: file.into(), bytes });
    }
    // The bound holds for what is read as well: the length of a device or a growing file says nothing.
    let mut text = Vec::new();
    open.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    parse_config(file, &text)
}

/// Parses a configuration; `file` is what messages call it.
pub fn parse_config(file: &Path, text: &[u8]) -> Result<Map<String, Value>, ConfigError> {
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { file: file.into(), bytes: text.len() as u64 });
    }
    // Faults have their places in the text as it is.
    let parsed = json::parse_bounded(text, CONFIG_VALUES_MAX).or_else(|fault| match floats::wrap_bare(text) {
        Cow::Borrowed(_) => Err(fault),
        Cow::Owned(wrapped) => json::parse_bounded(&wrapped, CONFIG_VALUES_MAX).map_err(|_| fault),
    });
    match parsed {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(ConfigError::NotObject { file: file.into(), got: json::kind(&other) }),
        Err(fault) => Err(ConfigError::Syntax { file: file.into(), fault }),
    }
}

/// Something that a person should hear once, which stops nothing.
#[derive(Clone, PartialEq, Debug)]
pub enum Note {
    /// The checkpoint comes with code of its own.
    RemoteCode {
        /// The class or file it names.
        names: Shown,
    },
    /// `generation_config.json` says how tokens are drawn.
    Sampling(SamplingDefaults),
    /// No hashes of the folder's files.
    ManifestAbsent {
        /// The folder.
        dir: PathBuf,
    },
    /// Neither file names a token that ends a text.
    EosAbsent,
    /// The two files differ.
    EosDiffers {
        /// Of `generation_config.json`, which wins.
        used: Vec<u32>,
        /// Of `config.json`.
        ignored: Vec<u32>,
    },
    /// An end token that no logit stands for.
    EosBeyondVocabulary {
        /// The token.
        id: u32,
        /// Logits of the model.
        vocabulary: u32,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::RemoteCode { names } => write!(
                f,
                "config.json: auto_map names {names}; code in a model folder is never run, the built-in architecture of \
                 this model_type is used"
            ),
            Note::Sampling(said) => {
                write!(f, "generation_config.json: job lines that do not say otherwise have {said}")
            }
            Note::ManifestAbsent { dir } => write!(
                f,
                "{dir}: has no {MANIFEST}, so a flipped bit of its weights may go unnoticed; millstream models --manifest {dir} \
                 writes one",
                dir = dir.display()
            ),
            Note::EosAbsent => write!(
                f,
                "eos_token_id: in neither generation_config.json nor config.json; a text ends only at max_tokens or at a \
                 stop token of its request"
            ),
            Note::EosDiffers { used, ignored } => write!(
                f,
                "eos_token_id: generation_config.json has {used:?}, config.json has {ignored:?}; generation_config.json wins"
            ),
            Note::EosBeyondVocabulary { id, vocabulary } => {
                write!(
                    f,
                    "eos_token_id: {id} is beyond the vocabulary of {vocabulary}; it is never drawn and is ignored"
                )
            }
        }
    }
}

/// A warning if the configuration names code to run. It is never run.
pub fn remote_code(config: &Map<String, Value>) -> Option<Note> {
    config.get("auto_map").map(|names| Note::RemoteCode { names: Shown::json(names) })
}

/// What a checkpoint asks of generation where a request does not say.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct GenerationDefaults {
    /// The token that begins a text, if the folder names one.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// How tokens are drawn.
    pub sampling: SamplingDefaults,
    /// What a person should hear.
    pub notes: Vec<Note>,
}

impl GenerationDefaults {
    /// Joins the two files of the folder `dir`: `generation_config.json` wins over `config.json`.
    pub fn resolve(
        dir: &Path,
        config: &Map<String, Value>,
        generation: Option<&Map<String, Value>>,
        vocabulary: u32,
    ) -> Result<Self, ConfigError> {
        let of_config = eos_of(&dir.join("config.json"), config)?;
        let of_generation = match generation {
            Some(map) => eos_of(&dir.join("generation_config.json"), map)?,
            None => None,
        };
        let file = dir.join("generation_config.json");
        let sampling = generation.map_or(Ok(SamplingDefaults::default()), |map| SamplingDefaults::read(&file, map))?;
        let mut notes = Vec::new();
        if sampling != SamplingDefaults::default() {
            notes.push(Note::Sampling(sampling));
        }
        let eos = match (of_generation, of_config) {
            (Some(used), Some(ignored)) => {
                if used != ignored {
                    notes.push(Note::EosDiffers { used: used.clone(), ignored });
                }
                used
            }
            (Some(used), None) | (None, Some(used)) => used,
            (None, None) => {
                notes.push(Note::EosAbsent);
                Vec::new()
            }
        };
        let beyond = eos.iter().filter(|&&id| id >= vocabulary);
        notes.extend(beyond.map(|&id| Note::EosBeyondVocabulary { id, vocabulary }));
        let eos = eos.into_iter().filter(|&id| id < vocabulary).collect();
        let bos = generation.and_then(|map| map.get("bos_token_id")).or(config.get("bos_token_id"));
        let bos = bos.and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok()).filter(|&id| id < vocabulary);
        Ok(Self { bos, eos, sampling, notes })
    }
}

/// `eos_token_id`: one id or a list of them; `None` where it is absent or null.
fn eos_of(file: &Path, map: &Map<String, Value>) -> Result<Option<Vec<u32>>, ConfigError> {
    let wrong = |value: &Value| ConfigError::Field {
        file: file.into(),
        field: "eos_token_id",
        got: Shown::json(value),
        allowed: "a token id or a list of token ids",
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match map.get("eos_token_id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => {
            list.iter().map(id).collect::<Option<Vec<_>>>().map(Some).ok_or_else(|| wrong(&Value::Array(list.clone())))
        }
        Some(value) => id(value).map(|id| Some(vec![id])).ok_or_else(|| wrong(value)),
    }
}
