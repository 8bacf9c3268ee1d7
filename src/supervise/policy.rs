//! What the parent of a job's process decides: a pure state machine over what happens to that process and what signals ask.

use super::ending::Ending;
use super::intensity::{Intensity, RESTARTS_MAX, WINDOW};
use super::wishes::{Ask, Level, Wishes};
use std::time::Duration;

/// What happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// A signal that asks for the end.
    Asked(Ask),
    /// SIGQUIT: somebody wants to know what goes on.
    Dump,
    /// Time, when [`Policy::due`] says so.
    Passed,
    /// The process ended.
    Ended(Ending),
    /// A process could not be started.
    NotStarted(String),
}

/// What the process hears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Begin no line, finish what is in flight.
    Drain,
    /// Give up what is in flight.
    Stop,
    /// Print what goes on.
    Dump,
}

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// Tell the process.
    Tell(Order),
    /// End it at once.
    Kill,
    /// Note in the journal what ended it while requests were in flight.
    NoteFault(String),
    /// Say this on standard error.
    Say(String),
    /// Start it again, to go on with the job.
    Restart,
    /// Say that the job pauses, why, and how it goes on; then end with 75.
    Pause(String),
    /// End with this code.
    Exit(u8),
}

/// The state.
#[derive(Debug)]
pub(crate) struct Policy {
    wishes: Wishes,
    intensity: Intensity,
    /// Whether the job can be gone on with: its input is no pipe.
    resumable: bool,
}

impl Policy {
    /// A policy for a process that was just started.
    pub(crate) fn new(wishes: Wishes, resumable: bool) -> Self {
        Self { wishes, intensity: Intensity::default(), resumable }
    }

    /// When [`Event::Passed`] is due at the latest.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.wishes.due()
    }

    /// Takes an event in. Times are since any one origin.
    pub(crate) fn on(&mut self, event: Event, now: Duration) -> Vec<Command> {
        match event {
            Event::Asked(ask) => self.wishes.ask(ask, now).map(reached).unwrap_or_default(),
            Event::Passed => self.wishes.pass(now).map(reached).unwrap_or_default(),
            Event::Dump => vec![Command::Tell(Order::Dump)],
            Event::NotStarted(why) => vec![Command::Pause(format!("the process could not be started again: {why}"))],
            Event::Ended(ending) => self.ended(&ending, now),
        }
    }

    fn ended(&mut self, ending: &Ending, now: Duration) -> Vec<Command> {
        if let Ending::Code(code) = ending {
            return vec![Command::Exit(*code)];
        }
        match self.wishes.level() {
            Some(Level::Exit) => return vec![Command::Exit(130)],
            // It was killed from here, and whatever it was in the middle of is no fault of a request.
            Some(Level::Overdue) => return vec![Command::Pause("stopped; what was in flight runs again".into())],
            None | Some(Level::Drain | Level::Stop) => {}
        }
        let mut commands = vec![];
        let what = format!("the process ended by {ending}");
        if ending.is_own_fault() {
            commands.push(Command::NoteFault(what.clone()));
        }
        if !self.resumable {
            let lost =
                "its input is a pipe, which cannot be read again: what is done is in the output, the rest is not";
            commands.extend([Command::Say(format!("{what}; {lost}")), Command::Exit(70)]);
        } else if self.wishes.level().is_some() {
            commands.push(Command::Pause(what));
        } else if let Some(nth) = self.intensity.allows(now) {
            let seconds = WINDOW.as_secs();
            let again =
                format!("note: {what}; it is started again, {nth} of at most {RESTARTS_MAX} times in {seconds} s");
            commands.extend([Command::Say(again), Command::Restart]);
        } else {
            let seconds = WINDOW.as_secs();
            commands.push(Command::Pause(format!(
                "{what}, and {RESTARTS_MAX} restarts within {seconds} s were not enough"
            )));
        }
        commands
    }
}

fn reached(level: Level) -> Vec<Command> {
    match level {
        Level::Drain => vec![Command::Tell(Order::Drain)],
        Level::Stop => vec![Command::Tell(Order::Stop)],
        Level::Overdue | Level::Exit => vec![Command::Kill],
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
