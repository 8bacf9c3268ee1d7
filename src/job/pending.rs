//! A request on its way through the engine, and the record that it ends as.

use super::line::Refused;
use super::request::{Prompt, Request};
use super::result::{Choice, ErrorLine, FinishReason, ResultLine, Usage};
use crate::engine::{Ended, Engine, Generation, Output, Stream};
use crate::{Capture, Sampling};
use std::time::Duration;

/// Tokens where neither the request nor the job says: OpenAI's default of completions.
pub(super) const MAX_TOKENS: u32 = 16;

/// One continuation of a request.
struct Sample<'e> {
    stream: Stream<'e>,
    token_ids: Vec<u32>,
    text: String,
    finish: Option<FinishReason>,
}

/// A request that was begun.
pub(super) struct Running<'e> {
    item: u64,
    line: u64,
    custom_id: String,
    prompt_tokens: u64,
    samples: Vec<Sample<'e>>,
}

impl Running<'_> {
    /// Its place among the job's lines that are not blank.
    pub(super) fn item(&self) -> u64 {
        self.item
    }

    /// Its line.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Its name.
    pub(super) fn custom_id(&self) -> &str {
        &self.custom_id
    }

    /// Sequences that it has in the engine.
    pub(super) fn sequences(&self) -> usize {
        self.samples.len()
    }

    /// Takes what was told, waiting for the first of it; the end once all of its continuations have ended, or why one failed.
    pub(super) fn listen(&mut self, mut wait: Duration) -> Option<Result<(), String>> {
        let mut open = false;
        for sample in self.samples.iter_mut().filter(|sample| sample.finish.is_none()) {
            if let Err(why) = sample.listen(std::mem::take(&mut wait)) {
                return Some(Err(why));
            }
            open |= sample.finish.is_none();
        }
        (!open).then_some(Ok(()))
    }
}

impl Sample<'_> {
    fn listen(&mut self, mut wait: Duration) -> Result<(), String> {
        while let Ok(Some(output)) = self.stream.next_within(std::mem::take(&mut wait)) {
            match output {
                Output::Prompt { .. } => {}
                Output::Token { token, text, .. } => {
                    self.token_ids.push(token);
                    self.text.push_str(&text);
                }
                Output::Ended(Ended::Stop { .. }) => self.finish = Some(FinishReason::Stop),
                Output::Ended(Ended::Length) => self.finish = Some(FinishReason::Length),
                Output::Ended(Ended::Cancelled) => self.finish = Some(FinishReason::Abort),
                Output::Ended(Ended::Failed(why)) => return Err(why),
            }
        }
        Ok(())
    }
}

/// Makes generations of requests and records of what became of them.
pub(super) struct Maker<'e> {
    pub(super) engine: &'e Engine,
    /// Seed of requests that have none of their own.
    pub(super) seed: u64,
    /// Seconds since 1970, of the job.
    pub(super) created: u64,
}

impl<'e> Maker<'e> {
    /// The ids of a request's prompt, or the code and words of its error record.
    pub(super) fn prompt(&self, request: &Request) -> Result<Vec<u32>, (&'static str, String)> {
        match (&request.prompt, self.engine.tokenizer()) {
            (Prompt::TokenIds(ids), _) => Ok(ids.clone()),
            (Prompt::Text(text), Some(tokenizer)) => {
                tokenizer.encode(text).map_err(|error| ("tokenizer", error.to_string()))
            }
            (Prompt::Text(_), None) => {
                Err(("no_tokenizer", "the model has no tokenizer.json: give token_ids instead of prompt".into()))
            }
        }
    }

    /// Submits a request.
    pub(super) fn begin(&self, item: u64, line: u64, request: Request, prompt: Vec<u32>) -> Running<'e> {
        let fields = request.sampling;
        let generation = |sample| Generation {
            prompt: prompt.clone(),
            max_tokens: request.max_tokens.unwrap_or(MAX_TOKENS),
            sampling: Sampling {
                temperature: fields.temperature.unwrap_or(0.0),
                top_k: fields.top_k.unwrap_or(0),
                top_p: fields.top_p.unwrap_or(1.0),
                min_p: fields.min_p.unwrap_or(0.0),
                seed: fields.seed.unwrap_or(self.seed),
                request: name_key(&request.custom_id),
                sample,
            },
            stop_token_ids: request.stop_token_ids.clone(),
            ignore_eos: request.ignore_eos,
            capture: Capture::None,
        };
        let sample = |sample| Sample {
            stream: self.engine.submit(generation(sample)),
            token_ids: vec![],
            text: String::new(),
            finish: None,
        };
        let samples = (0..request.n).map(sample).collect();
        Running { item, line, custom_id: request.custom_id, prompt_tokens: prompt.len() as u64, samples }
    }

    /// The line of the output of a request that has ended, and its tokens.
    pub(super) fn record(&self, done: &Running<'_>) -> (Vec<u8>, u64) {
        let text = |sample: &Sample<'_>| self.engine.tokenizer().map(|_| sample.text.clone());
        let choice = |(index, sample): (usize, &Sample<'_>)| Choice {
            index: index as u32,
            text: text(sample),
            token_ids: sample.token_ids.clone(),
            finish_reason: sample.finish.expect("a request ends with its last continuation"),
            logprobs: (),
        };
        let choices: Vec<Choice> = done.samples.iter().enumerate().map(choice).collect();
        let tokens = choices.iter().map(|choice| choice.token_ids.len() as u64).sum();
        let result = ResultLine {
            line: done.line,
            custom_id: &done.custom_id,
            model: self.engine.name(),
            created: self.created,
            choices: &choices,
            usage: Usage::new(done.prompt_tokens, tokens),
        };
        let mut record = vec![];
        result.write(&mut record).expect("memory takes what is written");
        (record, tokens)
    }

    /// An error record.
    pub(super) fn error(error: ErrorLine<'_>) -> Vec<u8> {
        let mut record = vec![];
        error.write(&mut record).expect("memory takes what is written");
        record
    }

    /// The error record of a line that is no request.
    pub(super) fn refused(line: u64, refused: &Refused) -> Vec<u8> {
        let mut record = vec![];
        refused.write(line, &mut record).expect("memory takes what is written");
        record
    }
}

/// A number that is the request's own, whatever it is batched with: FNV-1a of its name.
fn name_key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
