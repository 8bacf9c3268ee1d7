//! Steps that are models: as many items at once as their engine runs, each handed on as soon as it is done.

use super::books::{Books, Halt, StepName};
use super::closures::guarded;
use super::flow::{Flow, PARTS_MAX, Record};
use super::item::{Denied, Message, Outcome};
use crate::engine::{Completion, Engine, Failure, Generation};
use crate::score::{Classification, Score, Scoring, row};
use async_channel::{Receiver, Sender};
use futures_util::future::{Either, select};
use futures_util::stream::StreamExt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A step that asks a model: what it asks of an item, and what it makes of the answer.
struct Asking<A, F> {
    step: StepName,
    books: Arc<Books>,
    engine: Engine,
    ask: A,
    then: F,
}

impl<A, F> Asking<A, F> {
    /// What becomes of one message.
    async fn answer<T, U: Record>(&self, mut message: Message<T>) -> Message<U>
    where
        A: Fn(&T) -> Generation,
        F: Fn(T, Completion) -> U,
    {
        let Some(value) = message.value.take().filter(|_| !message.item.is_over()) else { return message.with(None) };
        if let Some(made) = self.books.remembered(&message.item, &self.step, message.part) {
            return message.with(Some(made));
        }
        let made = match self.made(&message, value).await {
            Ok(Some(made)) => Some(made),
            Ok(None) => {
                message.item.abandon();
                None
            }
            Err(denied) => {
                message.item.conclude(Outcome::Failed(denied));
                None
            }
        };
        message.with(made)
    }

    /// The answer, committed; `None` where the run ends before it.
    async fn made<T, U: Record>(&self, message: &Message<T>, value: T) -> Result<Option<U>, Denied>
    where
        A: Fn(&T) -> Generation,
        F: Fn(T, Completion) -> U,
    {
        let mut generation = guarded(&self.step, || Ok((self.ask)(&value)))?;
        // Draws are the item's, the step's and the part's own, whatever they run beside and however often they run.
        generation.sampling.request = key(&message.item.custom_id, self.step.number, message.part);
        generation.sampling.sample = (message.part % PARTS_MAX as u64) as u32;
        let denied = |failure: &Failure| {
            let (code, message) = (failure.code(), format!("step {}: {failure}", self.step.name));
            Denied { code, message }
        };
        let (abandoned, answer) = (self.books.abandoned(), self.engine.generate(generation));
        let completion = match select(pin!(abandoned.recv()), pin!(answer)).await {
            Either::Left(_) => return Ok(None),
            Either::Right((Ok(completion), _)) => completion,
            Either::Right((Err(Failure::Engine { what }), _)) => {
                self.books.halt(Halt::Engine(what));
                return Ok(None);
            }
            Either::Right((Err(failure), _)) => return Err(denied(&failure)),
        };
        message.item.tokens.fetch_add(completion.tokens.len() as u64, Ordering::AcqRel);
        let made = guarded(&self.step, || Ok((self.then)(value, completion)))?;
        self.books.commit(&message.item, &self.step, message.part, &made)?;
        Ok(Some(made))
    }
}

/// A number of the item's, the step's and the group's own: FNV-1a.
fn key(custom_id: &str, step: u32, part: u64) -> u64 {
    let group = (part / PARTS_MAX as u64).to_le_bytes();
    let bytes = custom_id.bytes().chain(step.to_le_bytes()).chain(group);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl<T: Record + Sync> Flow<T> {
    /// Continues what `ask` says with a model, and makes a `U` of each item and its completion. `request` and `sample` of the sampling
    /// are set here: draws are the item's, the step's and the part's own.
    pub fn generate<U: Record>(
        mut self,
        name: &str,
        engine: &Engine,
        ask: impl Fn(&T) -> Generation + Send + Sync + 'static,
        then: impl Fn(T, Completion) -> U + Send + Sync + 'static,
    ) -> Flow<U> {
        self.asks(name, engine, false);
        self.asking(("generate", name), engine, ask, then)
    }

    /// Scores what `ask` says with a model, and makes a `U` of each item and its score.
    pub fn score<U: Record>(
        mut self,
        name: &str,
        engine: &Engine,
        ask: impl Fn(&T) -> Scoring + Send + Sync + 'static,
        then: impl Fn(T, Score) -> U + Send + Sync + 'static,
    ) -> Flow<U> {
        self.asks(name, engine, false);
        let then = move |value, completion| then(value, Score::of(completion));
        self.asking(("score", name), engine, move |value: &T| ask(value).generation(), then)
    }

    /// Asks a classifier or reward model about the tokens that `ask` gives, and makes a `U` of each item and what it says. A
    /// model without labels is a fault of the job.
    pub fn classify<U: Record>(
        mut self,
        name: &str,
        engine: &Engine,
        ask: impl Fn(&T) -> Vec<u32> + Send + Sync + 'static,
        then: impl Fn(T, Classification) -> U + Send + Sync + 'static,
    ) -> Flow<U> {
        self.asks(name, engine, true);
        let labels = engine.labels().cloned().unwrap_or_default();
        let then = move |value, completion| then(value, row(labels.clone(), completion));
        self.asking(("classify", name), engine, move |value: &T| Generation::last_logits(ask(value)), then)
    }

    /// Notes the engine of a step, which is to have labels or not.
    fn asks(&mut self, name: &str, engine: &Engine, labels: bool) {
        let outline = self.outline();
        outline.engines.push((name.into(), engine.clone()));
        match (engine.labels(), labels) {
            (Some(_), false) => {
                outline.faults.push(format!("step {name:?}: the model has labels and no tokens; use classify"))
            }
            (None, true) => {
                outline.faults.push(format!("step {name:?}: the model has no labels; use generate or score"))
            }
            (Some(_), true) | (None, false) => {}
        }
    }

    fn asking<U: Record>(
        self,
        name: (&'static str, &str),
        engine: &Engine,
        ask: impl Fn(&T) -> Generation + Send + Sync + 'static,
        then: impl Fn(T, Completion) -> U + Send + Sync + 'static,
    ) -> Flow<U> {
        let engine = engine.clone();
        self.add(name, move |step, books, input: Receiver<Message<T>>, output: Sender<Message<U>>| {
            let width = engine.window();
            Box::new(move || {
                let asking = Asking { step, books, engine, ask, then };
                let answers = input.map(|message| asking.answer(message)).buffer_unordered(width);
                let hand_on = answers.for_each(|message| async {
                    drop(output.send(message).await);
                });
                futures_executor::block_on(hand_on);
            })
        })
    }
}
