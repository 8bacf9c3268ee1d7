//! Text as its tokens arrive: what has been given out never changes, and never ends in half a character.

use super::clean::Cleaner;
use super::error::TokenizerError;
use super::tokenizer::{IdPart, Tokenizer};

/// The longest tail that can still become one character.
const PARTIAL_MAX: usize = 3;

/// Turns the token ids of one text into its parts. The parts joined are the full decode.
#[derive(Debug)]
pub struct TextStream {
    tokenizer: Tokenizer,
    /// Bytes that may be the start of a character.
    partial: Vec<u8>,
    /// For decoders that do not work byte by byte: the ids since the last part that stood alone.
    window: Vec<u32>,
    /// How many ids of the window have been given out.
    given: usize,
    /// Takes spaces out, where the tokenizer does.
    cleaner: Option<Cleaner>,
}

impl TextStream {
    /// A stream at its start.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let cleaner = tokenizer.cleans_up().then(Cleaner::default);
        Self { tokenizer: tokenizer.clone(), partial: Vec::with_capacity(64), window: Vec::new(), given: 0, cleaner }
    }

    /// The text that `id` completes; often empty.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        let text = self.completed(id)?;
        Ok(match &mut self.cleaner {
            Some(cleaner) => cleaner.push(&text),
            None => text,
        })
    }

    /// What was held back: the half character at the end becomes U+FFFD, as in the full decode.
    pub fn finish(mut self) -> Result<String, TokenizerError> {
        let mut text = String::from_utf8_lossy(&self.partial).into_owned();
        if self.given < self.window.len() {
            text.push_str(&self.advance()?);
        }
        Ok(match self.cleaner.take() {
            Some(cleaner) => cleaner.finish(&text),
            None => text,
        })
    }

    fn completed(&mut self, id: u32) -> Result<String, TokenizerError> {
        if let Some(bytes) = self.tokenizer.piece(id) {
            self.partial.extend_from_slice(&bytes);
            let whole = self.partial.len() - unfinished(&self.partial);
            let text = String::from_utf8_lossy(&self.partial[..whole]).into_owned();
            self.partial.drain(..whole);
            return Ok(text);
        }
        match self.tokenizer.part(id) {
            IdPart::Nothing => Ok(String::new()),
            // A run of bytes is text only if all of it is, which the token behind it tells.
            IdPart::Byte => {
                self.window.push(id);
                Ok(String::new())
            }
            IdPart::Text => {
                self.window.push(id);
                self.advance()
            }
        }
    }

    /// Decodes the window with and without its new ids: a decoder may look at the token before, so the difference is the
    /// new text.
    fn advance(&mut self) -> Result<String, TokenizerError> {
        let before = self.tokenizer.decode_as_it_is(&self.window[..self.given])?;
        let now = self.tokenizer.decode_as_it_is(&self.window)?;
        if now.len() <= before.len() {
            return Ok(String::new());
        }
        let text = now.strip_prefix(before.as_str()).unwrap_or_default().to_string();
        self.window.drain(..self.given);
        self.given = self.window.len();
        Ok(text)
    }
}

/// Bytes at the end that begin a character and do not finish it.
fn unfinished(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(PARTIAL_MAX);
    for at in from..bytes.len() {
        // Only a tail that is a valid prefix has no error length.
        if let Err(error) = std::str::from_utf8(&bytes[at..])
            && error.error_len().is_none()
            && error.valid_up_to() == 0
        {
            return bytes.len() - at;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static DEMO: LazyLock<Tokenizer> =
        LazyLock::new(|| Checkpoint::embedded().tokenizer().unwrap().expect("the demo model has a tokenizer"));

    fn streamed(ids: &[u32]) -> Vec<String> {
        let mut stream = TextStream::new(&DEMO);
        let mut parts: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        parts.push(stream.finish().unwrap());
        parts
    }

    #[test]
    fn a_character_of_several_tokens_comes_whole() {
        let ids = DEMO.encode("a🦀é").unwrap();
        let parts = streamed(&ids);
        assert!(ids.len() > 3, "the crab takes several tokens");
        assert_eq!(parts.concat(), "a🦀é");
        assert!(parts.iter().all(|part| !part.contains('\u{fffd}')), "{parts:?}");
        let half = streamed(&DEMO.encode("🦀").unwrap()[..2]);
        assert_eq!(half.last().map(String::as_str), Some("\u{fffd}"), "the rest is flushed at the end");
    }

    #[test]
    fn ids_that_stand_for_nothing_decode_to_nothing() {
        assert_eq!(streamed(&[0, 4096, u32::MAX]).concat(), "");
        assert_eq!(DEMO.decode(&[0, 4096, u32::MAX]).unwrap(), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]
        #[test]
        fn parts_joined_are_the_full_decode(ids in prop::collection::vec(prop_oneof![0u32..300, 0u32..4200], 0..40)) {
            prop_assert_eq!(streamed(&ids).concat(), DEMO.decode(&ids).unwrap());
        }
    }
}
