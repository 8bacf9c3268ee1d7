//! From a request of a job to generations, and from what they tell to choices.
//!
//! Where a request does not say, the model's `generation_config.json` does; where that does not either, tokens are drawn at
//! temperature 1 as vLLM does.

use super::request::Request;
use super::result::{Choice, FinishReason, Form, Logprobs, PromptLogprob, PromptLogprobs, TopLogprobs};
use crate::engine::{Ended, Engine, Failure, Generation, Output, RequestError, StopReason, TokenLogprob};
use crate::text::{TextStream, Tokenizer, TokenizerError};
use actors::sampler::LogitRules;
use actors::ticket::Sampling;

/// Tokens of a completion where neither the request nor the model says: OpenAI's default.
pub const MAX_TOKENS: u32 = 16;

/// Why a request of a good line cannot be begun with this model.
#[derive(Debug, thiserror::Error)]
pub enum SamplingError {
    /// More tokens at least than at most.
    #[error("min_tokens is {min_tokens}, must be at most max_tokens, which is {max_tokens}")]
    MinTokens {
        /// At least.
        min_tokens: u32,
        /// At most, where the request does not say by default.
        max_tokens: u32,
    },
    /// Texts, for a model that has tokens only.
    #[error("{field}: the model has no tokenizer; leave it out")]
    NoTokenizer {
        /// Which field.
        field: &'static str,
    },
    /// A word that has no tokens, or cannot be encoded.
    #[error("bad_words[{index}]: {why}")]
    BadWord {
        /// Its place in the list.
        index: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The engine does not take it.
    #[error(transparent)]
    Refused(#[from] RequestError),
}

impl SamplingError {
    /// The short name that an error record has.
    pub fn code(&self) -> &'static str {
        match self {
            SamplingError::MinTokens { .. } | SamplingError::BadWord { .. } => "invalid_value",
            SamplingError::NoTokenizer { .. } => "no_tokenizer",
            SamplingError::Refused(error) => error.code(),
        }
    }
}

/// The generations of a request whose prompt has these tokens, one a sample. `seed` is that of requests without their own.
///
/// # Errors
/// What the model cannot do, or what contradicts its defaults.
pub fn generations(
    engine: &Engine,
    request: &Request,
    prompt: &[u32],
    seed: u64,
) -> Result<Vec<Generation>, SamplingError> {
    let defaults = &engine.defaults().sampling;
    let room = engine.plan().data().settings.max_model_len.saturating_sub(prompt.len() as u32).max(1);
    // An answer ends by itself, so it has all the room there is; a completion as a rule does not.
    let unsaid = if Form::of(&request.prompt) == Form::Chat { room } else { MAX_TOKENS };
    let max_tokens = request.max_tokens.unwrap_or(defaults.max_new_tokens.unwrap_or(unsaid).min(room));
    let min_tokens = request.rules.min_tokens;
    if min_tokens > max_tokens {
        return Err(SamplingError::MinTokens { min_tokens, max_tokens });
    }
    if !request.stops.texts.is_empty() && engine.tokenizer().is_none() {
        return Err(SamplingError::NoTokenizer { field: "stop" });
    }
    let fields = request.sampling;
    let sampling = Sampling {
        temperature: fields.temperature.or(defaults.temperature()).unwrap_or(1.0),
        top_k: fields.top_k.or(defaults.top_k).unwrap_or(0),
        top_p: fields.top_p.or(defaults.top_p).unwrap_or(1.0),
        min_p: fields.min_p.or(defaults.min_p).unwrap_or(0.0),
        seed: fields.seed.unwrap_or(seed),
        request: name_key(&request.custom_id),
        sample: 0,
    };
    let rules = LogitRules {
        repetition_penalty: request.rules.repetition_penalty.or(defaults.repetition_penalty).unwrap_or(1.0),
        presence_penalty: request.rules.presence_penalty,
        frequency_penalty: request.rules.frequency_penalty,
        bias: request.rules.logit_bias.clone(),
        allowed: request.rules.allowed_token_ids.clone(),
        bad_words: bad_words(engine.tokenizer(), &request.rules.bad_words)?,
        min_tokens,
        end_token_ids: vec![],
    };
    let first = Generation {
        sampling,
        rules,
        logprobs: request.logprobs,
        stop: request.stops.texts.clone(),
        include_stop: request.stops.include,
        stop_token_ids: request.stop_token_ids.clone(),
        ignore_eos: request.ignore_eos,
        ..Generation::greedy(prompt.to_vec(), max_tokens)
    };
    let sample = |sample| Generation {
        sampling: Sampling { sample, ..sampling },
        // The prompt is the same for all: it is told of once.
        prompt_logprobs: request.prompt_logprobs.filter(|_| sample == 0),
        ..first.clone()
    };
    Ok((0..request.n).map(sample).collect())
}

/// The token sequences that a word comes to, as vLLM reads it: at the start of a text, and behind a space where that is another
/// token in the same number.
fn bad_words(tokenizer: Option<&Tokenizer>, words: &[String]) -> Result<Vec<Vec<u32>>, SamplingError> {
    if words.is_empty() {
        return Ok(vec![]);
    }
    let tokenizer = tokenizer.ok_or(SamplingError::NoTokenizer { field: "bad_words" })?;
    let mut sequences = vec![];
    for (index, word) in words.iter().enumerate() {
        let word = word.trim_start();
        let failed = |why: String| SamplingError::BadWord { index, why };
        let encode = |text: &str| tokenizer.encode_bare(text).map_err(|error| failed(error.to_string()));
        let (bare, spaced) = (encode(word)?, encode(&format!(" {word}"))?);
        if bare.is_empty() {
            return Err(failed("has no tokens; leave it out".into()));
        }
        let differs = spaced.len() == bare.len() && spaced[0] != bare[0];
        sequences.push(bare);
        sequences.extend(Some(spaced).filter(|_| differs));
    }
    Ok(sequences)
}

/// A number that is the request's own, whatever it is batched with: FNV-1a of its name.
fn name_key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What was told of one continuation so far.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Telling {
    token_ids: Vec<u32>,
    text: String,
    told: Vec<TokenLogprob>,
    prompt: Vec<TokenLogprob>,
    last_logits: Option<Vec<f32>>,
    finish_reason: Option<FinishReason>,
    stop_reason: Option<StopReason>,
}

impl Telling {
    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.finish_reason.is_some()
    }

    /// Whether anything was told.
    pub(super) fn has_begun(&self) -> bool {
        self.is_over() || !self.token_ids.is_empty() || !self.prompt.is_empty()
    }

    /// What was told of the prompt's tokens.
    pub(super) fn prompt(&self) -> &[TokenLogprob] {
        &self.prompt
    }

    /// The logits of the last row of the prompt that came with them.
    pub(super) fn last_logits(&self) -> Option<&[f32]> {
        self.last_logits.as_deref()
    }

    /// Takes in what a stream told.
    ///
    /// # Errors
    /// Why there will be no continuation.
    pub fn take(&mut self, output: Output) -> Result<(), Failure> {
        match output {
            Output::Prompt(row) => {
                self.prompt.extend(row.logprob);
                self.last_logits = row.logits.or(self.last_logits.take());
            }
            Output::Token(token) => {
                self.token_ids.push(token.token);
                self.text.push_str(&token.text);
                self.told.extend(token.logprob);
            }
            Output::Ended(Ended::Stop { reason }) => {
                self.finish_reason = Some(FinishReason::Stop);
                // The model's own end is no reason of the request's.
                self.stop_reason = Some(reason).filter(|reason| !matches!(reason, StopReason::EndToken(_)));
            }
            Output::Ended(Ended::Length) => self.finish_reason = Some(FinishReason::Length),
            Output::Ended(Ended::Cancelled) => self.finish_reason = Some(FinishReason::Abort),
            Output::Ended(Ended::Failed(why)) => return Err(why),
        }
        Ok(())
    }

    /// The continuation as results have it.
    ///
    /// # Errors
    /// A token that cannot be spelled, in words.
    pub fn choice(&self, engine: &Engine, index: u32) -> Result<Choice, String> {
        let tokenizer = engine.tokenizer();
        let told = |error: TokenizerError| error.to_string();
        let logprobs = (!self.told.is_empty()).then(|| logprobs(tokenizer, &self.told, &self.text)).transpose();
        Ok(Choice {
            index,
            text: tokenizer.map(|_| self.text.clone()),
            token_ids: self.token_ids.clone(),
            finish_reason: self.finish_reason.unwrap_or(FinishReason::Error),
            stop_reason: self.stop_reason.clone(),
            logprobs: logprobs.map_err(told)?,
            prompt_logprobs: (!self.prompt.is_empty()).then(|| prompt_logprobs(tokenizer, &self.prompt)),
        })
    }
}

/// The text of one token by itself.
fn spelling(tokenizer: Option<&Tokenizer>, id: u32) -> String {
    tokenizer.map_or_else(|| format!("token_id:{id}"), |tokenizer| tokenizer.spelling(id))
}

/// The token itself, then the likeliest ones, each once.
fn each_once(told: &TokenLogprob) -> impl Iterator<Item = (u32, f32, u32)> {
    let others = told.top.iter().zip(1..).map(|(&(id, logprob), rank)| (id, logprob, rank));
    let own = told.token;
    std::iter::once((own, told.logprob, told.rank)).chain(others.filter(move |(id, ..)| *id != own))
}

/// What is told of the tokens of a text, in OpenAI's form.
fn logprobs(tokenizer: Option<&Tokenizer>, told: &[TokenLogprob], text: &str) -> Result<Logprobs, TokenizerError> {
    let top = |told| TopLogprobs(each_once(told).map(|(id, logprob, _)| (spelling(tokenizer, id), logprob)).collect());
    Ok(Logprobs {
        tokens: told.iter().map(|told| spelling(tokenizer, told.token)).collect(),
        token_logprobs: told.iter().map(|told| told.logprob).collect(),
        top_logprobs: told.iter().map(top).collect(),
        text_offset: offsets(tokenizer, told, text.chars().count())?,
        top: told.first().map_or(0, |told| told.top.len()),
    })
}

/// For each token, the characters of the text that were complete before it.
fn offsets(tokenizer: Option<&Tokenizer>, told: &[TokenLogprob], len: usize) -> Result<Vec<usize>, TokenizerError> {
    let Some(tokenizer) = tokenizer else { return Ok(vec![0; told.len()]) };
    let (mut stream, mut offset, mut offsets) = (TextStream::new(tokenizer), 0, Vec::with_capacity(told.len()));
    for told in told {
        // A stop cuts the text before the tokens that it lies across.
        offsets.push(offset.min(len));
        offset += stream.push(told.token)?.chars().count();
    }
    Ok(offsets)
}

/// What is told of the tokens of a prompt, in vLLM's form: nothing of the first.
fn prompt_logprobs(tokenizer: Option<&Tokenizer>, told: &[TokenLogprob]) -> Vec<Option<PromptLogprobs>> {
    let entry = |(id, logprob, rank)| (id, PromptLogprob { logprob, rank, decoded_token: spelling(tokenizer, id) });
    let of = |told| Some(PromptLogprobs(each_once(told).map(entry).collect()));
    std::iter::once(None).chain(told.iter().map(of)).collect()
}
