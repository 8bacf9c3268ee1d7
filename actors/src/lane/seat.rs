//! An actor's place in a lane: polls it behind a guard and keeps the books of its waiting.

use super::actor::{Actor, Fault, LaneContext, Turn};
use crate::trace::{Doing, Event, Wait};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One actor, and whether it is still polled.
pub(super) struct Seat {
    state: State,
    /// Since when it waits, and for what.
    waiting: Option<(u64, Wait)>,
    /// The step it began last, for the report of a panic.
    step: Option<u64>,
}

enum State {
    Live(Box<dyn Actor>),
    /// Kept with its ports, so that nothing it holds is lost and a successor can take them over.
    Down(Box<dyn Actor>),
    Finished,
}

impl Seat {
    pub(super) fn new(actor: Box<dyn Actor>) -> Self {
        Self { state: State::Live(actor), waiting: None, step: None }
    }

    pub(super) fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// The actor that faulted here, out of its seat.
    pub(super) fn take_down(&mut self) -> Option<Box<dyn Actor>> {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Down(actor) => Some(actor),
            other @ (State::Live(_) | State::Finished) => {
                self.state = other;
                None
            }
        }
    }

    /// The actor, whatever its state.
    pub(super) fn into_actor(self) -> Option<Box<dyn Actor>> {
        match self.state {
            State::Live(actor) | State::Down(actor) => Some(actor),
            State::Finished => None,
        }
    }

    /// Polls the actor; a fault or a panic puts it down. `None` if there is nobody to poll.
    pub(super) fn poll(&mut self, context: &mut LaneContext) -> Option<Result<Turn, Fault>> {
        let State::Live(actor) = &mut self.state else { return None };
        context.begun = None;
        context.track = actor.track();
        // Asserted safe to unwind: after a panic the actor is not polled again, and its ports keep their own invariants.
        let polled = catch_unwind(AssertUnwindSafe(|| actor.poll(context)));
        let track = actor.track();
        if let Some(begun) = context.begun {
            self.step = Some(begun.step);
        }
        let result = match polled {
            Ok(result) => result,
            Err(payload) => Err(panicked(actor.name(), self.step, payload.as_ref())),
        };
        match &result {
            Ok(Turn::Fired) => {
                context.recorder().board().rests(track);
                if let Some((since_ns, wait)) = self.waiting.take() {
                    let end_ns = context.begun.map_or_else(|| context.recorder().now_ns(), |begun| begun.start_ns);
                    context.recorder().span(track, since_ns, end_ns, Event::Wait(wait));
                }
            }
            Ok(Turn::Waiting(wait)) => self.wait(*wait, context),
            Ok(Turn::Finished) => {
                self.state = State::Finished;
                context.recorder().board().ends(track, Doing::Finished, context.recorder().now_ns());
            }
            Err(_) => {
                self.put_down();
                context.recorder().board().ends(track, Doing::Down, context.recorder().now_ns());
            }
        }
        Some(result)
    }

    /// Starts a wait, or ends one and starts the next if the cause has changed.
    fn wait(&mut self, wait: Wait, context: &LaneContext) {
        if self.waiting.is_some_and(|(_, before)| before == wait) {
            return;
        }
        let now_ns = context.recorder().now_ns();
        if let (Some((since_ns, before)), State::Live(actor)) = (self.waiting, &self.state) {
            context.recorder().span(actor.track(), since_ns, now_ns, Event::Wait(before));
        }
        context.recorder().board().waits(context.track, wait, now_ns);
        self.waiting = Some((now_ns, wait));
    }

    /// Records a wait that is not over, when the lane ends.
    pub(super) fn close(&mut self, context: &LaneContext) {
        if let (Some((since_ns, wait)), State::Live(actor)) = (self.waiting.take(), &self.state) {
            context.recorder().span(actor.track(), since_ns, context.recorder().now_ns(), Event::Wait(wait));
        }
    }

    fn put_down(&mut self) {
        self.waiting = None;
        self.state = match std::mem::replace(&mut self.state, State::Finished) {
            State::Live(actor) | State::Down(actor) => State::Down(actor),
            State::Finished => State::Finished,
        };
    }
}

fn panicked(actor: &str, step: Option<u64>, payload: &(dyn Any + Send)) -> Fault {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".to_owned());
    let actor = actor.to_owned();
    match step {
        Some(step) => Fault::Panicked { actor, step, message },
        None => Fault::PanickedIdle { actor, message },
    }
}
