//! A line of a scoring job: `{"custom_id", "prompt" | "token_ids", "continuations"}`; of a classifier's `{"custom_id", "prompt" |
//! "token_ids" | "messages"}`.

use super::fields::{CLASSIFY_NAMES, Fields, SCORE_NAMES};
use super::line::{LineError, LineParser, Refused};
use super::request::Prompt;
use crate::error::Shown;
use serde_json::{Map, Value};

/// Continuations of one line.
const CONTINUATIONS_MAX: usize = 1024;

/// A context or a continuation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Text, which the model's tokenizer turns into ids.
    Text(String),
    /// Token ids; each stands for a token of the model.
    TokenIds(Vec<u32>),
}

/// What one line of a scoring job asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScoreRequest {
    /// The name under which its result is written; unique in the job.
    pub custom_id: String,
    /// What stands before the continuations; an empty text is the model's own beginning.
    pub context: Piece,
    /// What is scored behind it; at least one.
    pub continuations: Vec<Piece>,
}

impl LineParser {
    /// The request of a line of a scoring job.
    ///
    /// # Errors
    /// Why it is none, under its name if it has a good one.
    pub fn parse_score(&mut self, line: &[u8]) -> Result<ScoreRequest, Refused> {
        let (map, custom_id) = self.object(line)?;
        self.score(&map, &custom_id).map_err(|error| Refused { custom_id: Some(custom_id), error })
    }

    /// The name and the text of a line to be classified.
    ///
    /// # Errors
    /// As [`LineParser::parse_score`].
    pub fn parse_classify(&mut self, line: &[u8]) -> Result<(String, Prompt), Refused> {
        let (map, custom_id) = self.object(line)?;
        match self.text(&map) {
            Ok(prompt) => Ok((custom_id, prompt)),
            Err(error) => Err(Refused { custom_id: Some(custom_id), error }),
        }
    }

    fn text(&mut self, map: &Map<String, Value>) -> Result<Prompt, LineError> {
        self.known_names(map, &CLASSIFY_NAMES)?;
        let fields = Fields(map);
        let mut prompt = self.prompt(&fields)?;
        if let Prompt::Chat(conversation) = &mut prompt {
            // The conversation is whole: nobody is about to answer.
            let asked = fields.flag("add_generation_prompt")?;
            conversation.add_generation_prompt = asked.unwrap_or(false);
        }
        Ok(prompt)
    }

    fn score(&mut self, map: &Map<String, Value>, custom_id: &str) -> Result<ScoreRequest, LineError> {
        self.known_names(map, &SCORE_NAMES)?;
        let fields = Fields(map);
        let context = self.context(&fields)?;
        let continuations = self.continuations(&fields)?;
        Ok(ScoreRequest { custom_id: custom_id.into(), context, continuations })
    }

    /// What stands before the continuations; an empty text is a context too.
    fn context(&self, fields: &Fields<'_>) -> Result<Piece, LineError> {
        let name = match (fields.get("prompt"), fields.get("token_ids")) {
            (Some(_), Some(_)) => return Err(LineError::Both { first: "prompt", second: "token_ids" }),
            (None, None) => return Err(LineError::NoPrompt),
            (Some(Value::String(text)), None) => return Ok(Piece::Text(text.clone())),
            (Some(_), None) => "prompt",
            (None, Some(_)) => "token_ids",
        };
        let ids = fields.tokens(name, self.vocabulary())?.filter(|ids| !ids.is_empty());
        ids.map(Piece::TokenIds).ok_or(LineError::EmptyPrompt)
    }

    fn continuations(&self, fields: &Fields<'_>) -> Result<Vec<Piece>, LineError> {
        let (field, allowed) = ("continuations", "a list of 1 to 1024 texts or lists of token ids");
        let wrong = |got| LineError::Field { field, got, allowed };
        let list = match fields.get(field) {
            Some(Value::Array(list)) if (1..=CONTINUATIONS_MAX).contains(&list.len()) => list,
            Some(Value::Array(list)) => return Err(wrong(Shown::json(&format!("{} entries", list.len()).into()))),
            other => return Err(wrong(Shown::json(other.unwrap_or(&Value::Null)))),
        };
        list.iter().enumerate().map(|(index, value)| self.continuation(index, value)).collect()
    }

    fn continuation(&self, index: usize, value: &Value) -> Result<Piece, LineError> {
        let (field, allowed) = ("continuations", "a text or a list of token ids, of at least one character or token");
        match value {
            Value::String(text) if !text.is_empty() => return Ok(Piece::Text(text.clone())),
            Value::Array(ids) if !ids.is_empty() => {
                let id = |id: &Value| id.as_u64().filter(|&id| id < u64::from(self.vocabulary())).map(|id| id as u32);
                if let Some(ids) = ids.iter().map(id).collect::<Option<Vec<u32>>>() {
                    return Ok(Piece::TokenIds(ids));
                }
            }
            Value::String(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            }
        }
        Err(LineError::Element { field, index, got: Shown::json(value), allowed })
    }
}
