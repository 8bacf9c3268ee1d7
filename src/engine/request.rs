//! The one door of the engine: what is asked for, and the only function that makes of it what the engine takes.
//!
//! Requests of the library, of job lines and of the command line all pass here, so a limit stands in one place. What costs is
//! refused before the work: a text before it is tokenised, a sequence before a page is reserved.

use super::Engine;
use super::conductor::Order;
use super::detokenizer::Listener;
use super::stream::{Outlet, Stream};
use crate::text::{ChatError, Conversation, StopFault, StopTexts};
use actors::batcher::{Capture, Refused, STOP_TOKENS_MAX, SequenceSpec};
use actors::sampler::{LogitRules, SamplingFault};
use actors::ticket::Sampling;
use std::sync::Arc;

/// Bytes of prompt text for each position of the longest sequence: no token of a published vocabulary is longer.
const TEXT_BYTES_A_POSITION: usize = 256;

/// A sequence to be continued.
#[derive(Clone, PartialEq, Debug)]
pub struct Generation {
    /// Token ids to continue; at least one.
    pub prompt: Vec<u32>,
    /// Tokens at most.
    pub max_tokens: u32,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// What changes the logits that they are drawn from. Its `min_tokens` holds back stop texts as well; its `end_token_ids` are added to.
    pub rules: LogitRules,
    /// Whether the log-probability of each token is told, and beside it those of how many likeliest tokens, 20 at most.
    pub logprobs: Option<u32>,
    /// The same for each token of the prompt but the first. Rows that tell of them are computed, whatever is cached.
    pub prompt_logprobs: Option<u32>,
    /// The first token of the prompt that `prompt_logprobs` is for: those before it are context, and may come from the cache.
    pub prompt_logprobs_from: u32,
    /// The first token of the prompt that counts as generated: where an op has two forms that differ in bits, one for prompts and one for
    /// generated rows, its row takes the latter.
    pub generated_from: Option<u32>,
    /// Texts that end it: the text is cut before the first one, and ends with the token that completed it. See [`StopTexts`].
    pub stop: Vec<String>,
    /// Leaves what ended it in the text: the stop text, or the text of the stop token.
    pub include_stop: bool,
    /// Tokens that end it, beside the model's own.
    pub stop_token_ids: Vec<u32>,
    /// Goes on past the model's own end tokens.
    pub ignore_eos: bool,
    /// Whose logits are sent along; needs [`super::EngineBuilder::capture_logits`].
    pub capture: Capture,
}

impl Generation {
    /// The likeliest continuation of `prompt`.
    pub fn greedy(prompt: Vec<u32>, max_tokens: u32) -> Self {
        Self {
            prompt,
            max_tokens,
            sampling: Sampling::GREEDY,
            rules: LogitRules::default(),
            logprobs: None,
            prompt_logprobs: None,
            prompt_logprobs_from: 0,
            generated_from: None,
            stop: vec![],
            include_stop: false,
            stop_token_ids: vec![],
            ignore_eos: false,
            capture: Capture::None,
        }
    }

    /// Rows of the prompt that something is told of.
    fn prompt_rows(&self) -> usize {
        match (self.capture, self.prompt_logprobs) {
            (Capture::None | Capture::Generated, None) => 0,
            (Capture::Last, None) => 1,
            (Capture::All, _) | (Capture::None | Capture::Generated | Capture::Last, Some(_)) => self.prompt.len(),
        }
    }
}

/// Why a request is refused.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// There is nothing to continue.
    #[error("the prompt is empty, at least 1 token is needed")]
    EmptyPrompt,
    /// Neither tokens nor logits are wanted.
    #[error("max_tokens is 0, at least 1 is needed unless logits or log-probabilities of the prompt are wanted")]
    NothingWanted,
    /// Longer than the model's context.
    #[error("{prompt} prompt tokens and max_tokens {max_tokens} exceed max_model_len {max_model_len}")]
    TooLong {
        /// Tokens of the prompt.
        prompt: u64,
        /// Tokens to generate.
        max_tokens: u32,
        /// The bound.
        max_model_len: u32,
    },
    /// A place beyond the prompt, or rows that would be told of and left out.
    #[error(
        "the prompt has {prompt} tokens and is told of from token {from} on; give at most its length, and 0 where all logits are wanted"
    )]
    From {
        /// The place.
        from: u64,
        /// Tokens of the prompt.
        prompt: u64,
    },
    /// A text that cannot fit, refused before it is tokenised.
    #[error("the prompt has {bytes} bytes, at most {limit} are tokenised: 256 for each of {max_model_len} positions")]
    TextTooLong {
        /// Its length.
        bytes: usize,
        /// The most that is tokenised.
        limit: usize,
        /// Positions of the longest sequence.
        max_model_len: u32,
    },
    /// Too large for the pool even when nothing else runs.
    #[error(
        "{rows} rows of key-value cache are needed, the pool has {pool_rows}; the largest prompt and max_tokens that fit are \
         {largest} tokens together"
    )]
    NeverFits {
        /// Rows it may need.
        rows: u64,
        /// Rows of all pages.
        pool_rows: u64,
        /// Prompt tokens and `max_tokens` together that would fit.
        largest: u64,
    },
    /// A token that the model does not have.
    #[error("{field}[{index}] is {got}, must be a token id from 0 to {}", .vocabulary.saturating_sub(1))]
    Token {
        /// Which list.
        field: &'static str,
        /// Its place in the list.
        index: usize,
        /// What stands there.
        got: u32,
        /// Tokens of the model.
        vocabulary: u32,
    },
    /// Too many tokens end it.
    #[error("{got} stop tokens, at most {STOP_TOKENS_MAX} are searched for")]
    TooManyStops {
        /// How many there are, the model's own among them.
        got: usize,
    },
    /// The draw is not one.
    #[error(transparent)]
    Sampling(SamplingFault),
    /// A stop text is none.
    #[error(transparent)]
    Stop(StopFault),
    /// Texts, for a model that has tokens only.
    #[error("{field}: the model has no tokenizer; give {instead}")]
    NoTokenizer {
        /// What was given.
        field: &'static str,
        /// What can be given.
        instead: &'static str,
    },
    /// A text that the tokenizer does not take.
    #[error("{why}")]
    Tokenizer {
        /// What it says.
        why: String,
    },
    /// A conversation that has no rendering.
    #[error("{why}")]
    Chat {
        /// The short name of what is wrong; see [`crate::text::ChatError::code`].
        code: &'static str,
        /// What the template says.
        why: String,
    },
    /// Logits, of an engine that has no room for them.
    #[error("capture: the engine was built without capture_logits")]
    NoCapture,
    /// Tokens, of a model that has labels.
    #[error("the model gives scores of {labels} labels and no tokens; use `millstream score`, or `Engine::classify`")]
    Classifier {
        /// How many.
        labels: usize,
    },
    /// Labels, of a model that has tokens.
    #[error(
        "the model continues texts and has no labels; a classifier's config.json has architectures *ForSequenceClassification"
    )]
    NoLabels,
    /// More sequences than the engine takes at this moment.
    #[error("the engine takes no more sequences now; try again when one has ended")]
    Busy,
}

impl RequestError {
    /// The short name that an error record has.
    pub fn code(&self) -> &'static str {
        match self {
            RequestError::EmptyPrompt => "no_prompt",
            RequestError::TooLong { .. } | RequestError::TextTooLong { .. } | RequestError::NeverFits { .. } => {
                "prompt_too_long"
            }
            RequestError::NothingWanted
            | RequestError::From { .. }
            | RequestError::Token { .. }
            | RequestError::TooManyStops { .. }
            | RequestError::Sampling(_)
            | RequestError::Stop(_)
            | RequestError::NoCapture => "invalid_value",
            RequestError::NoTokenizer { .. } => "no_tokenizer",
            RequestError::Classifier { .. } | RequestError::NoLabels => "wrong_model",
            RequestError::Tokenizer { .. } => "tokenizer",
            RequestError::Chat { code, .. } => code,
            RequestError::Busy => "busy",
        }
    }
}

impl From<Refused> for RequestError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::EmptyPrompt { .. } => RequestError::EmptyPrompt,
            Refused::NothingWanted { .. } => RequestError::NothingWanted,
            Refused::TooLong { prompt, max_tokens, max_model_len, .. } => {
                RequestError::TooLong { prompt, max_tokens, max_model_len }
            }
            Refused::From { from, prompt, .. } => RequestError::From { from, prompt },
            Refused::NeverFits { rows, pool_rows, largest, .. } => RequestError::NeverFits { rows, pool_rows, largest },
            Refused::TooManyStops { got, .. } => RequestError::TooManyStops { got },
            Refused::Sampling { fault, .. } => RequestError::Sampling(fault),
            Refused::DuplicateId { .. } | Refused::QueueFull { .. } => RequestError::Busy,
        }
    }
}

/// A request that the engine it was checked for can run to its end. Only [`Engine::validate`] makes one.
#[derive(Debug)]
pub struct ValidRequest {
    engine: Engine,
    spec: SequenceSpec,
    stops: StopTexts,
    include_stop: bool,
    min_tokens: u32,
    end_tokens: Arc<[u32]>,
    /// Outputs that its stream can be told at most.
    outputs_max: usize,
}

impl ValidRequest {
    /// Tokens of its prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.spec.prompt.len()
    }

    /// Its prompt.
    pub(crate) fn prompt(&self) -> &[u32] {
        &self.spec.prompt
    }

    /// Whether all of its rows are captured.
    pub(crate) fn captures_all(&self) -> bool {
        self.spec.capture == Capture::All
    }

    /// The engine that it was checked for.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Begins it. Waits where too many are waiting already; see [`ValidRequest::submit_async`].
    pub fn submit(self) -> Stream {
        let (order, stream) = self.order();
        stream.engine().order(order);
        stream
    }

    /// Begins it once there is room for it to wait. Dropping the future before that gives it up.
    pub async fn submit_async(self) -> Stream {
        let (order, stream) = self.order();
        stream.engine().order_async(order).await;
        stream
    }

    fn order(self) -> (Order, Stream) {
        let Self { engine, mut spec, stops, include_stop, min_tokens, end_tokens, outputs_max } = self;
        spec.id = engine.next_id();
        let (outlet, stream) = Outlet::open(engine, spec.id, outputs_max);
        let listener = Listener { outlet, stops, include_stop, min_tokens, end_tokens };
        (Order { spec: Box::new(spec), listener }, stream)
    }
}

impl Engine {
    /// The ids of a prompt's text, with what the tokenizer adds to it. A text that cannot fit is refused unread.
    ///
    /// # Errors
    /// A model without a tokenizer, a text over 256 bytes for each position of the longest sequence, or what the tokenizer says.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, RequestError> {
        let instead = "token_ids instead of prompt";
        let tokenizer = self.tokenizer().ok_or(RequestError::NoTokenizer { field: "prompt", instead })?;
        self.check_text(text)?;
        tokenizer.encode(text).map_err(|error| RequestError::Tokenizer { why: error.to_string() })
    }

    /// The token ids of a text in which nothing is special.
    ///
    /// # Errors
    /// As [`Engine::encode`].
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, RequestError> {
        let instead = "token_ids instead of prompt";
        let tokenizer = self.tokenizer().ok_or(RequestError::NoTokenizer { field: "prompt", instead })?;
        self.check_text(text)?;
        tokenizer.encode_plain(text).map_err(|error| RequestError::Tokenizer { why: error.to_string() })
    }

    /// The token ids of a conversation, by the model's chat template. None of its texts is special.
    ///
    /// # Errors
    /// As [`Engine::encode`], for the text that the template makes of it; a model without a template, or what the template refuses.
    pub fn encode_chat(&self, conversation: &Conversation) -> Result<Vec<u32>, RequestError> {
        let instead = "token_ids instead of messages";
        let tokenizer = self.tokenizer().ok_or(RequestError::NoTokenizer { field: "messages", instead })?;
        let failed = |error: ChatError| RequestError::Chat { code: error.code(), why: error.to_string() };
        let rendering = tokenizer.render_chat(conversation).map_err(failed)?;
        self.check_text(rendering.text())?;
        tokenizer.encode_rendering(&rendering).map_err(|error| RequestError::Tokenizer { why: error.to_string() })
    }

    /// Refuses a text before it is tokenised, if it cannot fit.
    pub(crate) fn check_text(&self, text: &str) -> Result<(), RequestError> {
        let max_model_len = self.plan().data().settings.max_model_len;
        let (bytes, limit) = (text.len(), TEXT_BYTES_A_POSITION * max_model_len as usize);
        if bytes > limit { Err(RequestError::TextTooLong { bytes, limit, max_model_len }) } else { Ok(()) }
    }

    /// Checks everything that a generation asks for: the only way to what the engine runs.
    ///
    /// # Errors
    /// The first thing that this engine cannot do.
    pub fn validate(&self, generation: Generation) -> Result<ValidRequest, RequestError> {
        let instead = "stop_token_ids";
        let stops = StopTexts::new(&generation.stop).map_err(RequestError::Stop)?;
        if !stops.is_empty() && self.tokenizer().is_none() {
            return Err(RequestError::NoTokenizer { field: "stop", instead });
        }
        if generation.capture != Capture::None && !self.captures() {
            return Err(RequestError::NoCapture);
        }
        self.check_kind(&generation)?;
        self.check_ids(&generation)?;
        let prompt_rows = generation.prompt_rows();
        let end_tokens: Arc<[u32]> =
            if generation.ignore_eos { Arc::default() } else { self.defaults().eos.as_slice().into() };
        let stop_token_ids = [&generation.stop_token_ids[..], &end_tokens[..]].concat();
        let (mut rules, include_stop) = (generation.rules, generation.include_stop);
        let min_tokens = rules.min_tokens;
        if min_tokens > 0 {
            rules.end_token_ids.extend(&stop_token_ids);
        }
        let spec = SequenceSpec {
            id: 0,
            prompt: generation.prompt,
            max_tokens: generation.max_tokens,
            stop_token_ids,
            sampling: generation.sampling,
            rules: Some(rules).filter(|rules| !rules.is_neutral()).map(Arc::new),
            logprobs: generation.logprobs,
            prompt_logprobs: generation.prompt_logprobs,
            prompt_logprobs_from: generation.prompt_logprobs_from,
            generated_from: generation.generated_from,
            capture: generation.capture,
        };
        spec.check(self.batcher())?;
        // Room for everything that can be told, so that telling never waits.
        let outputs_max = prompt_rows + spec.max_tokens as usize + 2;
        let engine = self.clone();
        Ok(ValidRequest { engine, spec, stops, include_stop, min_tokens, end_tokens, outputs_max })
    }

    /// A classifier draws no tokens and says nothing of those it reads.
    fn check_kind(&self, generation: &Generation) -> Result<(), RequestError> {
        let asks = |generation: &Generation| {
            generation.max_tokens == 0
                && generation.prompt_logprobs.is_none()
                && generation.capture != Capture::Generated
        };
        match self.labels() {
            Some(labels) if !asks(generation) => Err(RequestError::Classifier { labels: labels.names.len() }),
            Some(_) | None => Ok(()),
        }
    }

    /// Every token named is one of the model's.
    fn check_ids(&self, generation: &Generation) -> Result<(), RequestError> {
        let rules = &generation.rules;
        let bias: Vec<u32> = rules.bias.iter().map(|(id, _)| *id).collect();
        let lists: [(&'static str, &[u32]); 4] = [
            ("prompt", &generation.prompt),
            ("stop_token_ids", &generation.stop_token_ids),
            ("logit_bias", &bias),
            ("allowed_token_ids", rules.allowed.as_deref().unwrap_or_default()),
        ];
        let vocabulary = self.vocabulary();
        for (field, ids) in lists {
            if let Some(index) = ids.iter().position(|&id| id >= vocabulary) {
                return Err(RequestError::Token { field, index, got: ids[index], vocabulary });
            }
        }
        Ok(())
    }

    /// Begins a generation, and waits where too many are waiting already. One that is refused ends at once with
    /// [`super::Failure::Refused`]; [`Engine::validate`] says so before.
    pub fn submit(&self, generation: Generation) -> Stream {
        match self.validate(generation) {
            Ok(request) => request.submit(),
            Err(error) => Stream::refused(self.clone(), error),
        }
    }

    /// As [`Engine::submit`], without blocking the thread. Dropping the future gives the generation up.
    pub async fn submit_async(&self, generation: Generation) -> Stream {
        match self.validate(generation) {
            Ok(request) => request.submit_async().await,
            Err(error) => Stream::refused(self.clone(), error),
        }
    }
}
