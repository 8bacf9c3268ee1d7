//! Text to token ids and back.

mod stops;
mod stream;
mod tokenizer;

pub use stops::{STOP_BYTES_MAX, STOP_TEXTS_MAX, Searched, StopFault, StopSearch, StopTexts};
pub use stream::TextStream;
pub use tokenizer::{TOKENIZER_BYTES_MAX, Tokenizer, TokenizerError};
