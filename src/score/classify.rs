//! Classifiers and reward models: what a checkpoint of `*ForSequenceClassification` says of a whole text, by the row of its last token.

use crate::engine::{Completion, Engine, Failure, Generation, RequestError};
use crate::job::Usage;
use actors::batcher::Capture;
use graph::{Activation, Labels};
use serde::Serialize;
use std::io::{Result as IoResult, Write};
use std::sync::Arc;

/// What a classifier says of a text.
#[derive(Clone, PartialEq, Debug)]
pub struct Classification {
    labels: Arc<Labels>,
    logits: Vec<f32>,
}

impl Classification {
    /// The scores as the model computes them, one a label. Of a reward model the first is the reward.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// A probability for each label as the configuration's `problem_type` has it: of one among all (softmax), of each by itself
    /// (sigmoid; also where there is one label), or the scores themselves (regression). Sums are taken in f64, in the labels' order.
    pub fn probs(&self) -> Vec<f64> {
        let wide = || self.logits.iter().map(|&logit| f64::from(logit));
        match self.labels.activation {
            Activation::None => wide().collect(),
            Activation::Sigmoid => wide().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect(),
            Activation::Softmax => {
                let most = wide().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = wide().map(|logit| (logit - most).exp()).sum();
                wide().map(|logit| (logit - most).exp() / sum).collect()
            }
        }
    }

    /// The name of the label with the largest score, the first among equals.
    pub fn label(&self) -> &str {
        let larger = |best: usize, label: usize| if self.logits[label] > self.logits[best] { label } else { best };
        &self.labels.names[(0..self.logits.len()).fold(0, larger)]
    }

    /// What the captured row of a text says.
    pub(crate) fn new(labels: Arc<Labels>, logits: Vec<f32>) -> Self {
        Self { labels, logits }
    }
}

impl Generation {
    /// The logits of a prompt's last row and no token: [`crate::PromptRow::logits`] of the one row that is told.
    pub fn last_logits(prompt: Vec<u32>) -> Self {
        Self { capture: Capture::Last, ..Self::greedy(prompt, 0) }
    }
}

impl Engine {
    /// What it says of a text of these tokens. Dropping the future gives it up.
    ///
    /// # Errors
    /// A model without labels, or why it was refused or failed.
    pub async fn classify(&self, tokens: Vec<u32>) -> Result<Classification, Failure> {
        let labels = self.labels().ok_or(RequestError::NoLabels)?.clone();
        self.generate(Generation::last_logits(tokens)).await.map(|told| row(labels, told))
    }

    /// As [`Engine::classify`], waiting for it on this thread.
    ///
    /// # Errors
    /// As [`Engine::classify`].
    pub fn classify_blocking(&self, tokens: Vec<u32>) -> Result<Classification, Failure> {
        let labels = self.labels().ok_or(RequestError::NoLabels)?.clone();
        self.generate_blocking(Generation::last_logits(tokens)).map(|told| row(labels, told))
    }
}

/// What a completion of [`Generation::last_logits`] says.
pub(crate) fn row(labels: Arc<Labels>, told: Completion) -> Classification {
    let logits = told.prompt.into_iter().find_map(|row| row.logits);
    Classification::new(labels, logits.unwrap_or_default())
}

/// The line of the output of a classified line, as vLLM's `/classify` answers, and the scores beside.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ClassifiedLine<'a> {
    pub(crate) line: u64,
    pub(crate) custom_id: &'a str,
    pub(crate) model: &'a str,
    pub(crate) created: u64,
    pub(crate) found: &'a Classification,
    pub(crate) usage: Usage,
}

impl ClassifiedLine<'_> {
    /// Writes it, with the end of its line.
    pub(crate) fn write(&self, out: impl Write) -> IoResult<()> {
        #[derive(Serialize)]
        struct Entry<'a> {
            index: u32,
            label: &'a str,
            probs: Vec<f64>,
            logits: &'a [f32],
            num_classes: usize,
        }
        #[derive(Serialize)]
        struct Body<'a> {
            id: String,
            object: &'static str,
            created: u64,
            model: &'a str,
            data: [Entry<'a>; 1],
            usage: Usage,
        }
        let found = self.found;
        let (probs, logits) = (found.probs(), found.logits());
        let body = Body {
            id: format!("classify-{}", self.line),
            object: "list",
            created: self.created,
            model: self.model,
            data: [Entry { index: 0, label: found.label(), probs, logits, num_classes: logits.len() }],
            usage: self.usage,
        };
        crate::job::write_response(self.line, self.custom_id, body, out)
    }
}
