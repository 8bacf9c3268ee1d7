//! The tokenizer of a checkpoint, checked at load: what it says later can be trusted.
//!
//! Three numbers are kept apart: ids the tokenizer knows, rows of the embedding, and width of the logits.

use crate::error::{ExitCode, Shown, read_exit_code};
use serde::Deserialize;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokenizers::{DecoderWrapper, Model};

/// Bytes of a `tokenizer.json` that are read. The largest on the hub are near 35 MiB.
pub const TOKENIZER_BYTES_MAX: u64 = 256 << 20;

/// Why a tokenizer, or a text, is refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Over [`TOKENIZER_BYTES_MAX`].
    #[error("{}: {bytes} bytes, over the limit of {TOKENIZER_BYTES_MAX}", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Not a tokenizer.
    #[error("{}: not a tokenizer: {why}; fetch the file again", .file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What the parser says.
        why: String,
    },
    /// An id stands for two texts.
    #[error("{}: added_tokens: id {id} is both {first} and {second}", .file.display())]
    IdCollides {
        /// The file.
        file: PathBuf,
        /// The id.
        id: u32,
        /// One text.
        first: Shown,
        /// The other.
        second: Shown,
    },
    /// A text has two ids.
    #[error("{}: added_tokens: {content} has id {first} and id {second}", .file.display())]
    ContentCollides {
        /// The file.
        file: PathBuf,
        /// The text.
        content: Shown,
        /// One id.
        first: u32,
        /// The other.
        second: u32,
    },
    /// An added token whose id does not follow on: libraries give it another in silence.
    #[error(
        "{}: added_tokens: {content} has id {id}, which leaves a hole: it would be read as id {read_as}; number them on",
        .file.display()
    )]
    IdShifts {
        /// The file.
        file: PathBuf,
        /// The text.
        content: Shown,
        /// Its id in the file.
        id: u32,
        /// Its id as read.
        read_as: u32,
    },
    /// It can make ids that the embedding has no row for.
    #[error(
        "{}: largest token id is {largest}, the embedding has {rows} rows; this tokenizer belongs to another model",
        .file.display()
    )]
    BeyondEmbedding {
        /// The file.
        file: PathBuf,
        /// The largest id.
        largest: u32,
        /// Rows of the embedding.
        rows: u32,
    },
    /// A text that it cannot encode.
    #[error("{}: cannot encode the text: {why}", .file.display())]
    Encode {
        /// The file.
        file: PathBuf,
        /// What the tokenizer says.
        why: String,
    },
    /// Ids that it cannot decode.
    #[error("{}: cannot decode the token ids: {why}", .file.display())]
    Decode {
        /// The file.
        file: PathBuf,
        /// What the tokenizer says.
        why: String,
    },
}

impl TokenizerError {
    /// What a command exits with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            TokenizerError::Io { source, .. } => read_exit_code(source),
            TokenizerError::TooLarge { .. }
            | TokenizerError::Corrupt { .. }
            | TokenizerError::IdCollides { .. }
            | TokenizerError::ContentCollides { .. }
            | TokenizerError::IdShifts { .. }
            | TokenizerError::BeyondEmbedding { .. }
            | TokenizerError::Encode { .. }
            | TokenizerError::Decode { .. } => ExitCode::Data,
        }
    }
}

/// A tokenizer. Clones share it.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    file: PathBuf,
    library: tokenizers::Tokenizer,
    /// One more than the largest id.
    vocabulary_len: u32,
    /// Ids below it that stand for nothing.
    holes: u32,
    /// Whether the decoder joins the bytes of its tokens, so that a token has bytes of its own.
    byte_level: bool,
    /// Which byte a character of a byte-level token stands for.
    bytes_of: HashMap<char, u8>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({}, {} ids)", self.0.file.display(), self.0.vocabulary_len)
    }
}

/// What is read of `tokenizer.json` beside the library's own reading: it lets the last of two colliding tokens win.
#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}

impl Tokenizer {
    /// Reads `tokenizer.json`; `None` where there is none: such a model takes token ids only.
    pub fn from_file(file: &Path) -> Result<Option<Self>, TokenizerError> {
        let failed = |source| TokenizerError::Io { file: file.into(), source };
        let open = match std::fs::File::open(file) {
            Ok(open) => open,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let bytes = open.metadata().map_err(failed)?.len();
        if bytes > TOKENIZER_BYTES_MAX {
            return Err(TokenizerError::TooLarge { file: file.into(), bytes });
        }
        let mut text = Vec::new();
        open.take(TOKENIZER_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
        Self::from_bytes(file, &text).map(Some)
    }

    /// Parses a `tokenizer.json`; `file` is what messages call it.
    pub fn from_bytes(file: &Path, text: &[u8]) -> Result<Self, TokenizerError> {
        let corrupt = |why: String| TokenizerError::Corrupt { file: file.into(), why };
        let outline: Outline = serde_json::from_slice(text).map_err(|error| corrupt(error.to_string()))?;
        unique(file, &outline.added_tokens)?;
        let mut library = tokenizers::Tokenizer::from_bytes(text).map_err(|error| corrupt(error.to_string()))?;
        // Settings of a training run, stored by accident; a prompt is never cut or filled up in silence.
        library.with_truncation(None).map_err(|error| corrupt(error.to_string()))?;
        library.with_padding(None);
        for Added { id, content } in &outline.added_tokens {
            agrees(file, &library, *id, content)?;
        }
        let vocab = library.get_vocab(true);
        let vocabulary_len = vocab.values().max().map_or(0, |&largest| largest.saturating_add(1));
        let mut known: Vec<u32> = vocab.into_values().collect();
        known.sort_unstable();
        known.dedup();
        let holes = vocabulary_len - known.len() as u32;
        let byte_level = library.get_decoder().is_some_and(joins_bytes);
        let file = file.to_path_buf();
        Ok(Self(Arc::new(Inner { file, library, vocabulary_len, holes, byte_level, bytes_of: byte_alphabet() })))
    }

    /// One more than the largest id. Logits from here on belong to no token and must not be drawn.
    pub fn vocabulary_len(&self) -> u32 {
        self.0.vocabulary_len
    }

    /// Ids below [`Tokenizer::vocabulary_len`] that stand for nothing; they decode to nothing.
    pub fn holes(&self) -> u32 {
        self.0.holes
    }

    /// Refuses a model whose embedding has fewer rows than there are ids.
    pub fn check_rows(&self, rows: u32) -> Result<(), TokenizerError> {
        if self.0.vocabulary_len <= rows {
            return Ok(());
        }
        let largest = self.0.vocabulary_len - 1;
        Err(TokenizerError::BeyondEmbedding { file: self.0.file.clone(), largest, rows })
    }

    /// The ids of a prompt. Special tokens spelt in it are parsed, and those that the tokenizer adds are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.0.library.encode_fast(text, true);
        match encoding {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(TokenizerError::Encode { file: self.0.file.clone(), why: error.to_string() }),
        }
    }

    /// The ids of a text as it stands in the middle of another: nothing is added to it.
    pub fn encode_bare(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.0.library.encode_fast(text, false);
        match encoding {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(TokenizerError::Encode { file: self.0.file.clone(), why: error.to_string() }),
        }
    }

    /// The text of one id by itself, special tokens spelt out: what a person reads beside its log-probability. One that is no text by
    /// itself is `bytes:\xf0\x9f`; one that stands for nothing is empty.
    pub fn spelling(&self, id: u32) -> String {
        if let Some(bytes) = self.piece(id).filter(|bytes| !bytes.is_empty()) {
            let spelt = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
            return String::from_utf8(bytes).unwrap_or_else(|error| format!("bytes:{}", spelt(error.as_bytes())));
        }
        let text = self.0.library.decode(&[id], false).unwrap_or_default();
        if text.contains('\u{fffd}') { self.0.library.id_to_token(id).unwrap_or(text) } else { text }
    }

    /// The text of the ids, without special tokens. Ids that stand for nothing are skipped.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let text = self.0.library.decode(ids, true);
        text.map_err(|error| TokenizerError::Decode { file: self.0.file.clone(), why: error.to_string() })
    }

    /// The bytes that one id adds to a text; `None` where the decoder does not work byte by byte.
    pub fn piece(&self, id: u32) -> Option<Vec<u8>> {
        if !self.0.byte_level {
            return None;
        }
        let added = self.0.library.get_added_vocabulary();
        let token = added.simple_id_to_token(id).or_else(|| self.0.library.get_model().id_to_token(id));
        let Some(token) = token.filter(|token| !added.is_special_token(token)) else {
            return Some(Vec::new());
        };
        let bytes: Option<Vec<u8>> = token.chars().map(|c| self.0.bytes_of.get(&c).copied()).collect();
        Some(bytes.unwrap_or_else(|| token.into_bytes()))
    }
}

/// No added token shares its id or its text with another.
fn unique(file: &Path, tokens: &[Added]) -> Result<(), TokenizerError> {
    let mut by_id: HashMap<u32, &str> = HashMap::new();
    let mut by_content: HashMap<&str, u32> = HashMap::new();
    for Added { id, content } in tokens {
        if let Some(first) = by_id.insert(*id, content) {
            let (first, second) = (Shown::quoted(first), Shown::quoted(content));
            return Err(TokenizerError::IdCollides { file: file.into(), id: *id, first, second });
        }
        if let Some(first) = by_content.insert(content, *id) {
            let content = Shown::quoted(content);
            return Err(TokenizerError::ContentCollides { file: file.into(), content, first, second: *id });
        }
    }
    Ok(())
}

/// The loaded tokenizer and the model's own vocabulary say of an added token what the file says.
fn agrees(file: &Path, library: &tokenizers::Tokenizer, id: u32, content: &str) -> Result<(), TokenizerError> {
    if let Some(other) = library.get_model().id_to_token(id).filter(|other| other != content) {
        let (first, second) = (Shown::quoted(&other), Shown::quoted(content));
        return Err(TokenizerError::IdCollides { file: file.into(), id, first, second });
    }
    if let Some(other) = library.get_model().token_to_id(content).filter(|&other| other != id) {
        let content = Shown::quoted(content);
        return Err(TokenizerError::ContentCollides { file: file.into(), content, first: other, second: id });
    }
    if let Some(read_as) = library.token_to_id(content).filter(|&read_as| read_as != id) {
        return Err(TokenizerError::IdShifts { file: file.into(), content: Shown::quoted(content), id, read_as });
    }
    Ok(())
}

/// Whether a decoder maps each token to bytes and joins them, and does nothing else.
fn joins_bytes(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(sequence) => {
            matches!(sequence.get_decoders(), [DecoderWrapper::ByteLevel(_)])
        }
        DecoderWrapper::BPE(_)
        | DecoderWrapper::WordPiece(_)
        | DecoderWrapper::Metaspace(_)
        | DecoderWrapper::CTC(_)
        | DecoderWrapper::Replace(_)
        | DecoderWrapper::Fuse(_)
        | DecoderWrapper::Strip(_)
        | DecoderWrapper::ByteFallback(_) => false,
    }
}

/// The alphabet of byte-level tokens: printable bytes stand for themselves, the others for characters from 256 on, in order.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255u8).filter(|&byte| !printable(byte));
    let shifted = others.enumerate().map(|(at, byte)| (char::from_u32(256 + at as u32).expect("below 512"), byte));
    shifted.chain((0..=255u8).filter(|&byte| printable(byte)).map(|byte| (char::from(byte), byte))).collect()
}
