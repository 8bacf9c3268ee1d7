//! The lines that a job writes, in the form of OpenAI's batch results.

use super::chat_result::ChatChoice;
use super::line::Refused;
use super::request::Prompt;
use crate::engine::StopReason;
use serde::{Serialize, Serializer};
use std::io::{Result, Write};

/// Why a text ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end token of the model or a stop token of the request.
    Stop,
    /// As many tokens as were asked for, or as the model has room for.
    Length,
    /// It was ended from outside.
    Abort,
    /// It failed; its tokens so far are good.
    Error,
}

/// One continuation.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Choice {
    /// Which of the request's.
    pub index: u32,
    /// Its text; `None` where the model has no tokenizer.
    pub text: Option<String>,
    /// Its tokens, with the one that ended it.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The stop token or stop text of the request that ended it; `None` for the model's own end tokens.
    #[serde(serialize_with = "stop_reason")]
    pub stop_reason: Option<StopReason>,
    /// How likely its tokens were, if that was asked for.
    pub logprobs: Option<Logprobs>,
    /// How likely the tokens of the prompt were, if that was asked for: of the first choice only, since it is the same for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_logprobs: Option<Vec<Option<PromptLogprobs>>>,
}

/// An id, a text, or nothing, as vLLM writes it.
pub(super) fn stop_reason<S: Serializer>(reason: &Option<StopReason>, to: S) -> std::result::Result<S::Ok, S::Error> {
    match reason {
        None => to.serialize_none(),
        Some(StopReason::EndToken(token) | StopReason::Token(token)) => to.serialize_u32(*token),
        Some(StopReason::Text(text)) => to.serialize_str(text),
    }
}

/// How likely the tokens of a choice were, in the form of OpenAI's completions. All lists are as long as its tokens.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Logprobs {
    /// Each token spelt by itself; one that is no text by itself as `bytes:\xf0\x9f`.
    pub tokens: Vec<String>,
    /// Their log-probabilities.
    pub token_logprobs: Vec<f32>,
    /// The token and the likeliest ones beside it.
    pub top_logprobs: Vec<TopLogprobs>,
    /// The characters of the text that were complete before each token.
    pub text_offset: Vec<usize>,
    /// How many likeliest ones were asked for.
    #[serde(skip)]
    pub top: usize,
}

/// Tokens and their log-probabilities, written as an object. Of tokens spelt alike the first stays.
#[derive(Clone, PartialEq, Debug)]
pub struct TopLogprobs(pub Vec<(String, f32)>);

impl Serialize for TopLogprobs {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let first = |(place, (text, _)): &(usize, &(String, f32))| !self.0[..*place].iter().any(|(one, _)| one == text);
        to.collect_map(self.0.iter().enumerate().filter(first).map(|(_, (text, logprob))| (text, logprob)))
    }
}

/// How likely a token of a prompt was.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PromptLogprob {
    /// Its log-probability.
    pub logprob: f32,
    /// 1 for the likeliest of all.
    pub rank: u32,
    /// The token spelt by itself.
    pub decoded_token: String,
}

/// A token of a prompt and the likeliest ones beside it, by id, written as an object.
#[derive(Clone, PartialEq, Debug)]
pub struct PromptLogprobs(pub Vec<(u32, PromptLogprob)>);

impl Serialize for PromptLogprobs {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(id, told)| (id, told)))
    }
}

/// Tokens of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of all continuations.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

impl Usage {
    /// The two counts and their sum.
    pub fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// Which of OpenAI's forms a result has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    /// `text_completion`, of a prompt.
    Completion,
    /// `chat.completion`, of messages.
    Chat,
}

impl Form {
    /// That of the results of a prompt.
    pub fn of(prompt: &Prompt) -> Self {
        match prompt {
            Prompt::Text(_) | Prompt::PlainText(_) | Prompt::TokenIds(_) => Form::Completion,
            Prompt::Chat(_) => Form::Chat,
        }
    }
}

/// A finished request. Its line is the same whenever it is written: its ids are made of its place in the job.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ResultLine<'a> {
    /// The line it came from.
    pub line: u64,
    /// Its name.
    pub custom_id: &'a str,
    /// What the model is called.
    pub model: &'a str,
    /// Seconds since 1970, of the job.
    pub created: u64,
    /// The form of its body.
    pub form: Form,
    /// Its continuations.
    pub choices: &'a [Choice],
    /// Its tokens.
    pub usage: Usage,
}

#[derive(Serialize)]
struct Batch<'a, B: Serialize, E: Serialize> {
    id: String,
    custom_id: Option<&'a str>,
    response: Option<Response<B>>,
    error: Option<E>,
}

#[derive(Serialize)]
struct Response<B: Serialize> {
    status_code: u16,
    request_id: String,
    body: B,
}

#[derive(Serialize)]
struct Completion<'a, C: Serialize> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: C,
    usage: Usage,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    line: u64,
}

impl ResultLine<'_> {
    /// Writes it, with the end of its line.
    pub fn write(&self, mut out: impl Write) -> Result<()> {
        match self.form {
            Form::Completion => self.write_body("cmpl", "text_completion", self.choices, &mut out),
            Form::Chat => {
                let choices: Vec<ChatChoice<'_>> = self.choices.iter().map(ChatChoice::of).collect();
                self.write_body("chatcmpl", "chat.completion", choices, &mut out)
            }
        }
    }

    fn write_body(
        &self,
        prefix: &str,
        object: &'static str,
        choices: impl Serialize,
        out: &mut impl Write,
    ) -> Result<()> {
        let (created, model, usage) = (self.created, self.model, self.usage);
        let body = Completion { id: format!("{prefix}-{}", self.line), object, created, model, choices, usage };
        write_response(self.line, self.custom_id, body, out)
    }
}

/// Writes the result of a line, around this body, with the end of the line.
pub(crate) fn write_response(line: u64, custom_id: &str, body: impl Serialize, mut out: impl Write) -> Result<()> {
    let response = Response { status_code: 200, request_id: format!("req-{line}"), body };
    let id = format!("batch_req_{line}");
    let line = Batch::<_, ()> { id, custom_id: Some(custom_id), response: Some(response), error: None };
    write_line(&line, &mut out)
}

/// Writes the line of an item that a step filtered out.
pub(crate) fn write_filtered(line: u64, custom_id: &str, mut out: impl Write) -> Result<()> {
    #[derive(Serialize)]
    struct Filtered<'a> {
        id: String,
        custom_id: &'a str,
        response: Option<()>,
        error: Option<()>,
        filtered: bool,
    }
    let id = format!("batch_req_{line}");
    write_line(&Filtered { id, custom_id, response: None, error: None, filtered: true }, &mut out)
}

/// A request that failed, or a line that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorLine<'a> {
    /// The line it came from.
    pub line: u64,
    /// Its name, if it has a good one.
    pub custom_id: Option<&'a str>,
    /// A short name for the kind of fault.
    pub code: &'a str,
    /// What is wrong and how to mend it.
    pub message: &'a str,
}

impl ErrorLine<'_> {
    /// Writes it, with the end of its line.
    pub fn write(&self, mut out: impl Write) -> Result<()> {
        let error = ErrorBody { code: self.code, message: self.message, line: self.line };
        let id = format!("batch_req_{}", self.line);
        let line = Batch::<(), _> { id, custom_id: self.custom_id, response: None, error: Some(error) };
        write_line(&line, &mut out)
    }
}

impl Refused {
    /// Writes the error record of line number `line`.
    pub fn write(&self, line: u64, out: impl Write) -> Result<()> {
        let message = self.error.to_string();
        let (custom_id, code) = (self.custom_id.as_deref(), self.error.code());
        ErrorLine { line, custom_id, code, message: &message }.write(out)
    }
}

fn write_line(line: &impl Serialize, out: &mut impl Write) -> Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
