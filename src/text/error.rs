//! Why a tokenizer, or a text, is refused.

use super::tokenizer::TOKENIZER_BYTES_MAX;
use crate::error::{ExitCode, Shown, read_exit_code};
use std::path::PathBuf;

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
    /// A file beside it that cannot be read as what it should be.
    #[error("{}: {why}", .file.display())]
    Settings {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file beside it that is too long.
    #[error("{}: over the limit of {limit} bytes", .file.display())]
    SettingsTooLarge {
        /// The file.
        file: PathBuf,
        /// Bytes that are read.
        limit: u64,
    },
    /// A text that is too long to be encoded.
    #[error("the text has {bytes} bytes, over the limit of {limit}; give it in parts, or as token_ids")]
    TextTooLong {
        /// Its length.
        bytes: usize,
        /// The most.
        limit: usize,
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
            | TokenizerError::Settings { .. }
            | TokenizerError::SettingsTooLarge { .. }
            | TokenizerError::TextTooLong { .. }
            | TokenizerError::Encode { .. }
            | TokenizerError::Decode { .. } => ExitCode::Data,
        }
    }
}
