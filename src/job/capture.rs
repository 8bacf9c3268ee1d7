//! What a job on an engine that captures edges leaves beside its results: a safetensors file of each sequence.
//!
//! `OUT.captures/000012.safetensors` is of line 12; further choices of it are `000012.choice-1.safetensors` and so on. Each has the rows of
//! every edge by position, `token_ids` that they were computed of, and the request's name among its metadata.

use super::scan::JobError;
use crate::engine::{CapturedEdges, Output};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Where the captures of a job with this output lie.
pub(super) fn folder(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".captures");
    name.into()
}

/// Makes the folder.
///
/// # Errors
/// What the system says.
pub(super) fn make(folder: &Path) -> Result<(), JobError> {
    std::fs::create_dir_all(folder).map_err(|source| JobError::Capture { file: folder.into(), source })
}

/// What is captured of one sequence.
pub(super) struct Captured {
    /// The prompt, then the tokens drawn.
    token_ids: Vec<u32>,
    prompt_tokens: usize,
    edges: CapturedEdges,
}

impl Captured {
    /// Of a sequence that begins with `prompt`.
    pub(super) fn new(prompt: &[u32], edges: CapturedEdges) -> Self {
        Self { token_ids: prompt.to_vec(), prompt_tokens: prompt.len(), edges }
    }

    /// Takes in what a stream told.
    pub(super) fn take(&mut self, output: &Output) {
        self.edges.take(output);
        if let Output::Token(token) = output {
            self.token_ids.push(token.token);
        }
    }

    /// Writes the file of choice `choice` of a line.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn write(&self, folder: &Path, (line, custom_id): (u64, &str), choice: usize) -> Result<(), JobError> {
        let name = match choice {
            0 => format!("{line:06}.safetensors"),
            _ => format!("{line:06}.choice-{choice}.safetensors"),
        };
        let about = [
            ("custom_id", custom_id.to_owned()),
            ("line", line.to_string()),
            ("choice", choice.to_string()),
            ("prompt_tokens", self.prompt_tokens.to_string()),
        ];
        let about: HashMap<String, String> = about.map(|(key, value)| (key.to_owned(), value)).into();
        let file = folder.join(name);
        // Nothing is computed of the last token.
        let fed = &self.token_ids[..self.token_ids.len() - 1];
        self.edges.write(&file, fed, about).map_err(|source| JobError::Capture { file, source })
    }
}
