//! What is read of a `tokenizer.json` beside the tokenizers crate, and the checks that it does not make.

use super::error::TokenizerError;
use crate::error::Shown;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::Model;

/// What is read of `tokenizer.json` beside the library's own reading: it lets the last of two colliding tokens win.
#[derive(Deserialize)]
pub(super) struct Outline {
    #[serde(default)]
    pub(super) added_tokens: Vec<Added>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) decoder: Value,
}

/// An added token.
#[derive(Deserialize)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
}

/// No added token shares its id or its text with another.
pub(super) fn unique(file: &Path, tokens: &[Added]) -> Result<(), TokenizerError> {
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
pub(super) fn agrees(
    file: &Path,
    library: &tokenizers::Tokenizer,
    id: u32,
    content: &str,
) -> Result<(), TokenizerError> {
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
