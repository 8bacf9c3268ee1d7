//! Text to token ids and back, and conversations to text.

mod added;
pub mod chat;
mod clean;
mod error;
mod folder;
mod outline;
mod regexes;
mod stops;
mod stream;
mod tokenizer;

pub use chat::{ChatError, ChatTemplates, Conversation, Rendering};
pub use error::TokenizerError;
pub use stops::{STOP_BYTES_MAX, STOP_TEXTS_MAX, Searched, StopFault, StopSearch, StopTexts};
pub use stream::TextStream;
pub use tokenizer::{TEXT_BYTES_MAX, TOKENIZER_BYTES_MAX, Tokenizer};
