//! The control actor of an engine: an actix shell around the dispatcher, woken by a bell, stopped by a message.
//!
//! Work comes in by a bounded crossbeam queue and goes out through the sinks; actix carries only signals, which may be dropped when
//! its mailbox is full, because every signal makes the actor look at everything.

use actix::{Actor, AsyncContext, Context, Handler, Message};
use actors::batcher::{Finish, Refused, SequenceSpec, Update};
use actors::dispatcher::Dispatcher;
use actors::lane::Down;
use actors::port::Bell;
use crossbeam::channel::Receiver;
use std::collections::HashMap;

/// Turns in a row before other signals get their chance.
const TURNS: usize = 64;

/// What a sequence's owner hears, on the control thread; it must not block.
pub(crate) enum Event<'a> {
    /// The logits of a prompt row.
    Prompt { position: u32, logits: &'a [f32] },
    /// The next token.
    Token { token: u32, logits: Option<&'a [f32]> },
    /// The end; nothing follows.
    Finished(Outcome),
}

/// How a sequence ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// By its own rules.
    Done(Finish),
    /// It was never begun.
    Refused(Refused),
    /// The engine failed under it.
    Failed(String),
}

/// Hears of one sequence.
pub(crate) type Sink = Box<dyn FnMut(Event<'_>) + Send>;

/// What callers ask of the conductor.
pub(crate) enum Order {
    /// Begin a sequence.
    Submit(SequenceSpec, Sink),
    /// Give one up.
    Cancel(u64),
}

/// What wakes the conductor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Signal {
    /// Samples, credits or orders may be there.
    Turn,
    /// An actor of a lane faulted.
    Down(Down),
    /// End: what is in flight fails.
    Stop,
}

/// The batcher's shell.
pub(crate) struct Conductor {
    dispatcher: Option<Dispatcher>,
    orders: Receiver<Order>,
    bell: Bell,
    sinks: HashMap<u64, Sink>,
    failed: Option<String>,
}

impl Conductor {
    pub(crate) fn new(dispatcher: Dispatcher, orders: Receiver<Order>, bell: Bell) -> Self {
        Self { dispatcher: Some(dispatcher), orders, bell, sinks: HashMap::new(), failed: None }
    }

    /// Takes the orders there is room for. Says whether there were any.
    fn take_orders(&mut self) -> bool {
        let mut moved = false;
        while let Some(dispatcher) = &mut self.dispatcher {
            if dispatcher.batcher().room() == 0 {
                break;
            }
            let Ok(order) = self.orders.try_recv() else { break };
            moved = true;
            match order {
                Order::Submit(spec, mut sink) => {
                    let id = spec.id;
                    match dispatcher.batcher().submit(spec) {
                        Ok(()) => drop(self.sinks.insert(id, sink)),
                        Err(refused) => sink(Event::Finished(Outcome::Refused(refused))),
                    }
                }
                Order::Cancel(id) => {
                    let mut updates = vec![];
                    dispatcher.batcher().cancel(id, &mut updates);
                    updates.iter().for_each(|update| tell(&mut self.sinks, update, &[]));
                }
            }
        }
        moved
    }

    /// Whether anything moved.
    fn turn(&mut self) -> bool {
        let ordered = self.take_orders();
        let Some(dispatcher) = &mut self.dispatcher else { return ordered };
        let sinks = &mut self.sinks;
        match dispatcher.turn(&mut |update, logits| tell(sinks, update, logits)) {
            Ok(moved) => moved || ordered,
            Err(fault) => {
                self.fail(fault.to_string());
                true
            }
        }
    }

    /// Ends every sequence with the reason.
    fn fail(&mut self, why: String) {
        self.dispatcher = None;
        self.failed.get_or_insert(why);
        self.refuse_all();
    }

    fn refuse_all(&mut self) {
        let why = self.failed.clone().unwrap_or_else(|| "the engine was stopped".into());
        for (_, mut sink) in self.sinks.drain() {
            sink(Event::Finished(Outcome::Failed(why.clone())));
        }
        while let Ok(order) = self.orders.try_recv() {
            if let Order::Submit(_, mut sink) = order {
                sink(Event::Finished(Outcome::Failed(why.clone())));
            }
        }
    }
}

fn tell(sinks: &mut HashMap<u64, Sink>, update: &Update, logits: &[f32]) {
    match update {
        Update::Prompt { id, position, logits: range } => {
            if let Some(sink) = sinks.get_mut(id) {
                sink(Event::Prompt { position: *position, logits: &logits[range.clone()] });
            }
        }
        Update::Token { id, token, logits: range, .. } => {
            if let Some(sink) = sinks.get_mut(id) {
                let logits = range.as_ref().map(|range| &logits[range.clone()]);
                sink(Event::Token { token: *token, logits });
            }
        }
        Update::Finished { id, reason } => {
            if let Some(mut sink) = sinks.remove(id) {
                sink(Event::Finished(Outcome::Done(*reason)));
            }
        }
    }
}

impl Actor for Conductor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.bind(&self.bell);
        }
        context.notify(Signal::Turn);
    }
}

impl Handler<Signal> for Conductor {
    type Result = ();

    fn handle(&mut self, signal: Signal, context: &mut Self::Context) {
        match signal {
            Signal::Turn => {}
            Signal::Down(down) => self.fail(format!("{}: {}", down.lane, down.fault)),
            Signal::Stop => {
                self.dispatcher = None;
                self.refuse_all();
                actix::System::current().stop();
                return;
            }
        }
        if self.failed.is_some() {
            self.refuse_all();
        }
        for _ in 0..TURNS {
            // Armed before the last look, so that whatever comes later rings.
            self.bell.arm();
            if !self.turn() {
                return;
            }
        }
        context.notify(Signal::Turn);
    }
}
