//! A request on its way through the engine, and the record that it ends as.

use super::capture::Captured;
use super::line::Refused;
use super::request::{Prompt, Request};
use super::result::{Choice, ErrorLine, Form, ResultLine, Usage};
use super::sampling::{SamplingError, Telling, generations};
use super::scan::JobError;
use super::score_line::ScoreRequest;
use super::task::Ask;
use crate::Capture;
use crate::engine::{CapturedEdges, Engine, Failure, Generation, RequestError, Stream, ValidRequest};
use crate::score::{Classification, ClassifiedLine, ScoreError, Scored, ScoredLine, scorings};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// One sequence of a request.
struct Sample {
    stream: Stream,
    telling: Telling,
    captured: Option<Captured>,
}

/// What becomes of the sequences of a request once they have ended.
#[derive(Debug)]
enum Record {
    /// Choices, in this form.
    Choices(Form),
    /// What a classifier says.
    Labels,
    /// Scores; how many tokens of each context were cut off.
    Scores(Vec<usize>),
}

/// A request that was checked.
pub(super) struct Prepared {
    prompt_tokens: u64,
    requests: Vec<ValidRequest>,
    record: Record,
}

/// Why a good line has no result: the code and words of its error record.
pub(super) struct Denied {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl From<RequestError> for Denied {
    fn from(error: RequestError) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

impl From<SamplingError> for Denied {
    fn from(error: SamplingError) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

impl From<ScoreError> for Denied {
    fn from(error: ScoreError) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

/// A request that was begun.
pub(super) struct Running {
    item: u64,
    line: u64,
    custom_id: String,
    prompt_tokens: u64,
    samples: Vec<Sample>,
    /// Sequences that share a context with the first one, and wait until its rows are there.
    held: Vec<ValidRequest>,
    record: Record,
}

impl Running {
    /// Submits a request.
    pub(super) fn begin((item, line): (u64, u64), custom_id: String, prepared: Prepared) -> Self {
        let Prepared { prompt_tokens, mut requests, record } = prepared;
        let held = match record {
            Record::Choices(_) | Record::Labels => vec![],
            Record::Scores(_) => requests.split_off(requests.len().min(1)),
        };
        let samples = requests.into_iter().map(Sample::begin).collect();
        Running { item, line, custom_id, prompt_tokens, samples, held, record }
    }

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

    /// Sequences that it has in the engine, or will have.
    pub(super) fn sequences(&self) -> usize {
        self.samples.len() + self.held.len()
    }

    /// Writes what was captured of a request that has ended, if anything was.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn write_captured(&self, folder: &Path) -> Result<(), JobError> {
        let captured = self.samples.iter().map(|sample| &sample.captured).enumerate();
        let mut captured = captured.filter_map(|(choice, captured)| Some((choice, captured.as_ref()?)));
        captured.try_for_each(|(choice, captured)| captured.write(folder, (self.line, &self.custom_id), choice))
    }

    /// Takes what was told, waiting for the first of it; the end once all of its sequences have ended, or why one failed.
    pub(super) fn listen(&mut self, mut wait: Duration) -> Option<Result<(), Failure>> {
        let mut open = false;
        for sample in self.samples.iter_mut().filter(|sample| !sample.telling.is_over()) {
            if let Err(why) = sample.listen(std::mem::take(&mut wait)) {
                return Some(Err(why));
            }
            open |= !sample.telling.is_over();
        }
        // The first told something, so that the rows of its context can be shared.
        if !self.held.is_empty() && self.samples.iter().any(|sample| sample.telling.has_begun()) {
            self.samples.extend(self.held.drain(..).map(Sample::begin));
            open = true;
        }
        (!open).then_some(Ok(()))
    }
}

impl Sample {
    fn begin(request: ValidRequest) -> Self {
        let edges = request.engine().edges();
        let captured = (request.captures_all() && !edges.is_empty())
            .then(|| Captured::new(request.prompt(), CapturedEdges::new(edges)));
        Self { stream: request.submit(), telling: Telling::default(), captured }
    }

    fn listen(&mut self, mut wait: Duration) -> Result<(), Failure> {
        while let Ok(Some(output)) = self.stream.next_within(std::mem::take(&mut wait)) {
            if let Some(captured) = &mut self.captured {
                captured.take(&output);
            }
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
    /// What a line asks of the engine, checked; or the error record that it gets instead.
    pub(super) fn prepare(&self, ask: Ask) -> Result<Prepared, Denied> {
        match ask {
            Ask::Generate(request) => self.generate(&request),
            Ask::Score(request, as_generated) => self.score(&request, as_generated),
            Ask::Classify(_, prompt) => self.classify(&prompt),
        }
    }

    fn generate(&self, request: &Request) -> Result<Prepared, Denied> {
        let prompt = self.prompt(&request.prompt)?;
        let mut generations = generations(self.engine, request, &prompt, self.seed)?;
        if !self.engine.edges().is_empty() {
            generations.iter_mut().for_each(|generation| generation.capture = Capture::All);
        }
        let valid = generations.into_iter().map(|generation| self.engine.validate(generation));
        let requests = valid.collect::<Result<_, _>>()?;
        Ok(Prepared {
            prompt_tokens: prompt.len() as u64,
            requests,
            record: Record::Choices(Form::of(&request.prompt)),
        })
    }

    fn classify(&self, prompt: &Prompt) -> Result<Prepared, Denied> {
        let prompt = self.prompt(prompt)?;
        let prompt_tokens = prompt.len() as u64;
        let request = self.engine.validate(Generation::last_logits(prompt))?;
        Ok(Prepared { prompt_tokens, requests: vec![request], record: Record::Labels })
    }

    /// The ids of a request's prompt.
    fn prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Denied> {
        match prompt {
            Prompt::TokenIds(ids) => Ok(ids.clone()),
            Prompt::Text(text) => Ok(self.engine.encode(text)?),
            Prompt::PlainText(text) => Ok(self.engine.encode_plain(text)?),
            Prompt::Chat(conversation) => {
                let mut conversation = conversation.clone();
                // The time of the job, not of this run of it: a line that runs again has the same prompt.
                conversation.now = UNIX_EPOCH + Duration::from_secs(self.created);
                Ok(self.engine.encode_chat(&conversation)?)
            }
        }
    }

    fn score(&self, request: &ScoreRequest, as_generated: bool) -> Result<Prepared, Denied> {
        let (mut requests, mut cuts, mut prompt_tokens) = (vec![], vec![], 0);
        for (scoring, cut) in scorings(self.engine, request, as_generated)? {
            prompt_tokens += scoring.context.len() as u64;
            requests.push(self.engine.validate(scoring.generation())?);
            cuts.push(cut);
        }
        Ok(Prepared { prompt_tokens, requests, record: Record::Scores(cuts) })
    }

    /// The line of the output of a request that has ended, and its tokens.
    ///
    /// # Errors
    /// Why it has none, in words.
    pub(super) fn record(&self, done: &Running) -> Result<(Vec<u8>, u64), String> {
        let mut record = vec![];
        let tokens = match &done.record {
            Record::Choices(form) => {
                let choice = |(index, sample): (usize, &Sample)| sample.telling.choice(self.engine, index as u32);
                let choices: Vec<Choice> = done.samples.iter().enumerate().map(choice).collect::<Result<_, _>>()?;
                let tokens = choices.iter().map(|choice| choice.token_ids.len() as u64).sum();
                let result = ResultLine {
                    line: done.line,
                    custom_id: &done.custom_id,
                    model: self.engine.name(),
                    created: self.created,
                    form: *form,
                    choices: &choices,
                    usage: Usage::new(done.prompt_tokens, tokens),
                };
                result.write(&mut record).expect("memory takes what is written");
                tokens
            }
            Record::Labels => {
                let logits = done.samples.iter().find_map(|sample| sample.telling.last_logits());
                let labels = self.engine.labels().zip(logits).ok_or("the model told of no row")?;
                let found = Classification::new(labels.0.clone(), labels.1.to_vec());
                let line = ClassifiedLine {
                    line: done.line,
                    custom_id: &done.custom_id,
                    model: self.engine.name(),
                    created: self.created,
                    found: &found,
                    usage: Usage::new(done.prompt_tokens, 0),
                };
                line.write(&mut record).expect("memory takes what is written");
                done.prompt_tokens
            }
            Record::Scores(cuts) => {
                let scored = |(index, (sample, cut)): (usize, (&Sample, &usize))| {
                    Scored::new(index, *cut, sample.telling.prompt())
                };
                let results: Vec<Scored> = done.samples.iter().zip(cuts).enumerate().map(scored).collect();
                let tokens = results.iter().map(|scored| u64::from(scored.num_tokens)).sum();
                let line = ScoredLine {
                    line: done.line,
                    custom_id: &done.custom_id,
                    model: self.engine.name(),
                    created: self.created,
                    results: &results,
                    usage: Usage::new(done.prompt_tokens, tokens),
                };
                line.write(&mut record).expect("memory takes what is written");
                tokens
            }
        };
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
