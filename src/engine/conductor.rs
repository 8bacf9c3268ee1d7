//! The control actor of an engine: an actix shell around the dispatcher, woken by a bell, stopped by a message.
//!
//! Work comes in by a bounded queue and goes out by a port to the detokeniser; actix carries only signals, which may be dropped when
//! its mailbox is full, because every signal makes the actor look at everything.

use super::detokenizer::{Bulletin, Listener, Notice};
use super::stream::Outlet;
use super::supervision::Supervisor;
use super::{Ended, Failure, Output as Heard, RequestError, TokenLogprob};
use actix::{Actor, AsyncContext, Context, Handler, Message};
use actors::batcher::{SequenceSpec, Update};
use actors::dispatcher::Dispatcher;
use actors::lane::Down;
use actors::port::{Bell, Slot};
use actors::stage::Output;
use actors::ticket::{Samples, Score};
use crossbeam::channel::Receiver;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Turns in a row before other signals get their chance.
const TURNS: usize = 64;

/// A sequence to be begun, and who is told of it.
pub(crate) struct Order {
    pub(super) spec: Box<SequenceSpec>,
    pub(super) listener: Listener,
}

/// What wakes the conductor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Signal {
    /// Samples, credits or orders may be there, or the wish to end.
    Turn,
}

/// The batcher's shell.
pub(crate) struct Conductor {
    dispatcher: Option<Dispatcher>,
    /// In a box, since an actor has to be movable.
    orders: Box<async_channel::Receiver<Order>>,
    /// Sequences whose text has ended or that nobody reads; they do not wait behind orders there is no room for.
    cancels: Receiver<u64>,
    bell: Bell,
    /// Set when the engine is dropped: what is in flight fails.
    stop: Arc<AtomicBool>,
    bulletins: Output<Bulletin>,
    /// What is known since the last bulletin. Without a free one nothing more may become known.
    open: Option<Slot<Bulletin>>,
    next_turn: u64,
    /// Faults of actors on lanes.
    downs: Receiver<Down>,
    supervisor: Supervisor,
    since: Instant,
    /// Why the engine failed; whoever submits reads it too.
    failed: Arc<OnceLock<String>>,
}

impl Conductor {
    pub(crate) fn new(
        dispatcher: Dispatcher,
        (orders, cancels): (async_channel::Receiver<Order>, Receiver<u64>),
        (bell, stop): (Bell, Arc<AtomicBool>),
        bulletins: Output<Bulletin>,
        ((downs, supervisor), failed): ((Receiver<Down>, Supervisor), Arc<OnceLock<String>>),
    ) -> Self {
        let dispatcher = Some(dispatcher);
        Self {
            dispatcher,
            orders: Box::new(orders),
            cancels,
            bell,
            stop,
            bulletins,
            open: None,
            next_turn: 0,
            downs,
            supervisor,
            since: Instant::now(),
            failed,
        }
    }

    /// Restarts actors that are down, or notes why the engine gives up.
    fn supervise(&mut self) {
        while let Ok(down) = self.downs.try_recv() {
            if let Err(why) = self.supervisor.on_down(&down, self.since.elapsed()) {
                self.failed.get_or_init(|| why);
            }
        }
    }

    /// The bulletin that this turn writes.
    fn open(&mut self) -> Option<Slot<Bulletin>> {
        self.open.take().or_else(|| {
            let mut slot = self.bulletins.outbox.try_slot()?;
            slot.notices.clear();
            slot.turn = self.next_turn;
            Some(slot)
        })
    }

    /// Whether anything moved. Without a free bulletin nothing does: its return rings the bell.
    fn turn(&mut self) -> bool {
        self.supervise();
        let Some(mut slot) = self.open() else { return false };
        let mut moved = self.take_cancels(&mut slot.notices);
        moved |= self.take_orders(&mut slot.notices);
        if let Some(dispatcher) = &mut self.dispatcher {
            let notices = &mut slot.notices;
            match dispatcher.turn(&mut |update, samples| notices.push(notice(update, samples))) {
                Ok(turned) => moved |= turned,
                Err(fault) => drop(self.failed.set(fault.to_string())),
            }
        }
        if let (Some(why), Some(_)) = (self.failed.get(), &self.dispatcher) {
            slot.notices.push(Notice::Failed { why: why.clone() });
            // The ports that close with it end the lanes.
            self.dispatcher = None;
        }
        self.publish(slot);
        moved
    }

    /// Gives up all sequences whose text has ended; says whether there were any.
    fn take_cancels(&mut self, notices: &mut Vec<Notice>) -> bool {
        let mut moved = false;
        while let Ok(id) = self.cancels.try_recv() {
            moved = true;
            self.cancel(id, notices);
        }
        moved
    }

    fn cancel(&mut self, id: u64, notices: &mut Vec<Notice>) {
        let Some(dispatcher) = &mut self.dispatcher else { return };
        let mut updates = vec![];
        dispatcher.batcher().cancel(id, &mut updates);
        notices.extend(updates.iter().map(|update| notice(update, &Samples::default())));
    }

    /// Takes the orders there is room for; says whether there were any.
    fn take_orders(&mut self, notices: &mut Vec<Notice>) -> bool {
        let mut moved = false;
        while self.dispatcher.as_mut().is_none_or(|dispatcher| dispatcher.batcher().room() > 0) {
            let Ok(Order { spec, listener }) = self.orders.try_recv() else { break };
            moved = true;
            // Whoever gave it up may have been heard before it came.
            if listener.outlet.is_abandoned() {
                continue;
            }
            let Some(dispatcher) = &mut self.dispatcher else {
                refuse(&listener.outlet, Failure::Engine { what: self.reason() });
                continue;
            };
            let id = spec.id;
            match dispatcher.batcher().submit(*spec) {
                Ok(()) => notices.push(Notice::Begun { id, listener }),
                Err(refused) => refuse(&listener.outlet, RequestError::from(refused).into()),
            }
        }
        moved
    }

    fn reason(&self) -> String {
        self.failed.get().cloned().unwrap_or_else(|| "the engine was stopped".into())
    }

    /// Sends a bulletin that says something; keeps another one open.
    fn publish(&mut self, slot: Slot<Bulletin>) {
        if slot.notices.is_empty() {
            self.open = Some(slot);
            return;
        }
        if let Some(dispatcher) = &self.dispatcher {
            dispatcher.sent(&self.bulletins.edges, slot.turn);
        }
        self.next_turn += 1;
        slot.send();
    }

    /// Tells everybody that it is over. The detokeniser tells those whose port closes with the conductor.
    fn stop(&mut self) {
        self.dispatcher = None;
        self.open = None;
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            refuse(&order.listener.outlet, Failure::Engine { what: self.reason() });
        }
        actix::System::current().stop();
    }
}

/// Tells the stream of a sequence that is never begun.
fn refuse(outlet: &Outlet, failure: Failure) {
    outlet.tell(Heard::Ended(Ended::Failed(failure)));
}

fn notice(update: &Update, samples: &Samples) -> Notice {
    let captured = |range: &Option<std::ops::Range<usize>>| Some(samples.logits[range.clone()?].to_vec());
    let logprob = |score: &Option<Score>| score.as_ref().map(|score| told(score, samples));
    match update {
        Update::Prompt { id, position, logits: range, score } => {
            Notice::Prompt { id: *id, position: *position, captured: captured(range), logprob: logprob(score) }
        }
        Update::Token { id, token, logits: range, score, .. } => {
            Notice::Token { id: *id, token: *token, captured: captured(range), logprob: logprob(score) }
        }
        Update::Finished { id, reason } => Notice::Ended { id: *id, reason: *reason, step: samples.step },
    }
}

fn told(score: &Score, samples: &Samples) -> TokenLogprob {
    let Score { token, logprob, rank, .. } = *score;
    TokenLogprob { token, logprob, rank, top: samples.top_of(score).to_vec() }
}

impl Actor for Conductor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.bind(&self.bell);
        }
        self.bulletins.outbox.bind_writer(self.bell.clone());
        context.notify(Signal::Turn);
    }
}

impl Handler<Signal> for Conductor {
    type Result = ();

    fn handle(&mut self, signal: Signal, context: &mut Self::Context) {
        let Signal::Turn = signal;
        for _ in 0..TURNS {
            // Armed before the last look, so that whatever comes later rings.
            self.bell.arm();
            if self.stop.load(Ordering::Acquire) {
                return self.stop();
            }
            if !self.turn() {
                return;
            }
        }
        context.notify(Signal::Turn);
    }
}
