//! Text to token ids and back.

mod stream;
mod tokenizer;

pub use stream::TextStream;
pub use tokenizer::{TOKENIZER_BYTES_MAX, Tokenizer, TokenizerError};
