//! A request on its way through the engine, and the record that it ends as.

use super::line::Refused;
use super::request::{Prompt, Request};
use super::result::{Choice, ErrorLine, Form, ResultLine, Usage};
use super::sampling::{SamplingError, Telling, generations};
use crate::engine::{Engine, Failure, RequestError, Stream, ValidRequest};
use std::time::{Duration, UNIX_EPOCH};

/// One continuation of a request.
struct Sample {
    stream: Stream,
    telling: Telling,
}

/// A request that was begun.
pub(super) struct Running {
    item: u64,
    line: u64,
    custom_id: String,
    form: Form,
    prompt_tokens: u64,
    samples: Vec<Sample>,
}

impl Running {
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
    pub(super) fn listen(&mut self, mut wait: Duration) -> Option<Result<(), Failure>> {
        let mut open = false;
        for sample in self.samples.iter_mut().filter(|sample| !sample.telling.is_over()) {
            if let Err(why) = sample.listen(std::mem::take(&mut wait)) {
                return Some(Err(why));
            }
            open |= !sample.telling.is_over();
        }
        (!open).then_some(Ok(()))
    }
}

impl Sample {
    fn listen(&mut self, mut wait: Duration) -> Result<(), Failure> {
        while let Ok(Some(output)) = self.stream.next_within(std::mem::take(&mut wait)) {
            self.telling.take(output)?;
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

impl Maker<'_> {
    /// The ids of a request's prompt, or the code and words of its error record.
    pub(super) fn prompt(&self, request: &Request) -> Result<Vec<u32>, (&'static str, String)> {
        let ids = match &request.prompt {
            Prompt::TokenIds(ids) => Ok(ids.clone()),
            Prompt::Text(text) => self.engine.encode(text),
            Prompt::PlainText(text) => self.engine.encode_plain(text),
            Prompt::Chat(conversation) => {
                let mut conversation = conversation.clone();
                // The time of the job, not of this run of it: a line that runs again has the same prompt.
                conversation.now = UNIX_EPOCH + Duration::from_secs(self.created);
                self.engine.encode_chat(&conversation)
            }
        };
        ids.map_err(|error| (error.code(), error.to_string()))
    }

    /// What a request with these prompt tokens asks of the engine, one a sample, checked.
    pub(super) fn requests(&self, request: &Request, prompt: &[u32]) -> Result<Vec<ValidRequest>, SamplingError> {
        let generations = generations(self.engine, request, prompt, self.seed)?;
        let valid = generations.into_iter().map(|generation| self.engine.validate(generation));
        Ok(valid.collect::<Result<_, RequestError>>()?)
    }

    /// Submits a request.
    pub(super) fn begin(
        &self,
        (item, line): (u64, u64),
        request: Request,
        prompt_tokens: usize,
        requests: Vec<ValidRequest>,
    ) -> Running {
        let sample = |request: ValidRequest| Sample { stream: request.submit(), telling: Telling::default() };
        let samples = requests.into_iter().map(sample).collect();
        let (prompt_tokens, form) = (prompt_tokens as u64, Form::of(&request.prompt));
        Running { item, line, custom_id: request.custom_id, form, prompt_tokens, samples }
    }

    /// The line of the output of a request that has ended, and its tokens.
    ///
    /// # Errors
    /// Why it has none, in words.
    pub(super) fn record(&self, done: &Running) -> Result<(Vec<u8>, u64), String> {
        let choice = |(index, sample): (usize, &Sample)| sample.telling.choice(self.engine, index as u32);
        let choices: Vec<Choice> = done.samples.iter().enumerate().map(choice).collect::<Result<_, _>>()?;
        let tokens = choices.iter().map(|choice| choice.token_ids.len() as u64).sum();
        let result = ResultLine {
            line: done.line,
            custom_id: &done.custom_id,
            model: self.engine.name(),
            created: self.created,
            form: done.form,
            choices: &choices,
            usage: Usage::new(done.prompt_tokens, tokens),
        };
        let mut record = vec![];
        result.write(&mut record).expect("memory takes what is written");
        Ok((record, tokens))
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
