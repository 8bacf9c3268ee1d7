//! The parent: carries out what the policy decides.

use super::ending::Ending;
use super::memory::System;
use super::policy::{Command, Event, Order, Policy};
use super::sheet::{Shared, memory};
use super::signals::{Heard, listen};
use super::wishes::Wishes;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use rustix::io::{FdFlags, fcntl_setfd};
use std::ffi::OsString;
use std::fs::File;
use std::io::{PipeWriter, Result, Write, pipe};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command as Program};
use std::time::{Duration, Instant};

/// With nothing due, how long until the parent looks at its process unasked.
const LOOK: Duration = Duration::from_secs(5);

/// What is run under the parent.
pub(crate) struct Setup<'a> {
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments; `again` where it goes on after an end.
    pub(crate) arguments: &'a dyn Fn(Handles, Again) -> Vec<OsString>,
    /// Whether it can go on.
    pub(crate) resumable: bool,
    /// What signals ask.
    pub(crate) wishes: Wishes,
    /// Notes in the journal what ended the process.
    pub(crate) note_fault: &'a dyn Fn(&str) -> std::result::Result<(), crate::error::Error>,
    /// Says something to whoever started the job.
    pub(crate) say: &'a dyn Fn(&str),
}

/// Descriptors that the process inherits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Handles {
    /// Where orders come from.
    pub(crate) lifeline: i32,
    /// The shared memory.
    pub(crate) sheet: i32,
}

/// Whether a process is the first one of a job's run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Again {
    /// It is.
    First,
    /// One before it ended.
    Again,
}

/// Why the parent ended, where that is not the process's own code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Paused {
    /// The process's code, or that of a third signal.
    Code(u8),
    /// The job pauses, for this reason.
    Because(String),
}

/// A process and this end of its lifeline.
struct Running {
    child: Child,
    lifeline: PipeWriter,
    /// Kills for want of memory before it was started.
    kills: u64,
}

/// The parent's view of the machine.
struct Parent<'a> {
    setup: Setup<'a>,
    memory: File,
    sheet: Shared,
    system: System,
}

/// Runs a process until it has ended for good.
///
/// # Errors
/// What the system refused before the first process ran: then nothing has happened.
pub(crate) fn supervise(mut setup: Setup<'_>) -> Result<Paused> {
    let memory = memory()?;
    let sheet = Shared::map(&memory)?;
    let heard = listen()?;
    let mut policy =
        Policy::new(std::mem::replace(&mut setup.wishes, Wishes::new(Duration::ZERO, false)), setup.resumable);
    let parent = Parent { setup, memory, sheet, system: System::default() };
    let mut running = parent.start(Again::First)?;
    let started = Instant::now();
    loop {
        let event = parent.next(&mut running, &heard, &policy, started);
        for command in policy.on(event, started.elapsed()) {
            match parent.carry_out(command, &mut running) {
                Done::Over(paused) => return Ok(paused),
                Done::On => {}
                Done::NotStarted(why) => {
                    for command in policy.on(Event::NotStarted(why), started.elapsed()) {
                        if let Done::Over(paused) = parent.carry_out(command, &mut running) {
                            return Ok(paused);
                        }
                    }
                }
            }
        }
    }
}

/// What came of a command.
enum Done {
    On,
    Over(Paused),
    NotStarted(String),
}

impl Parent<'_> {
    /// Starts the process.
    fn start(&self, again: Again) -> Result<Running> {
        self.sheet.clear();
        let (orders, lifeline) = pipe()?;
        // These two cross into the process; everything else closes there.
        fcntl_setfd(&orders, FdFlags::empty())?;
        fcntl_setfd(&self.memory, FdFlags::empty())?;
        let handles = Handles { lifeline: orders.as_raw_fd(), sheet: self.memory.as_raw_fd() };
        let kills = self.system.kills();
        let child = Program::new(&self.setup.program).args((self.setup.arguments)(handles, again)).spawn()?;
        Ok(Running { child, lifeline, kills })
    }

    /// Waits for the next event.
    fn next(&self, running: &mut Running, heard: &Receiver<Heard>, policy: &Policy, started: Instant) -> Event {
        loop {
            let due = policy.due().map(|due| due.saturating_sub(started.elapsed()));
            match heard.recv_timeout(due.unwrap_or(LOOK).min(LOOK)) {
                Ok(Heard::Asked(ask)) => return Event::Asked(ask),
                Ok(Heard::Dump) => return Event::Dump,
                Ok(Heard::Child) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if let Ok(Some(status)) = running.child.try_wait() {
                let killer = |signal| self.system.killer(signal, running.kills);
                return Event::Ended(Ending::of(status, self.sheet.during(), killer));
            }
            if policy.due().is_some_and(|due| due <= started.elapsed()) {
                return Event::Passed;
            }
        }
    }

    fn carry_out(&self, command: Command, running: &mut Running) -> Done {
        match command {
            // A process that does not hear it has ended, which is the next event.
            Command::Tell(order) => drop(running.lifeline.write_all(&[letter(order)])),
            Command::Kill => drop(running.child.kill()),
            Command::NoteFault(what) => {
                if let Err(error) = (self.setup.note_fault)(&what) {
                    (self.setup.say)(&format!("note: the journal could not be told what ended the process: {error}"));
                }
            }
            Command::Say(words) => (self.setup.say)(&words),
            Command::Restart => match self.start(Again::Again) {
                Ok(next) => *running = next,
                Err(error) => return Done::NotStarted(error.to_string()),
            },
            Command::Pause(why) => return Done::Over(Paused::Because(why)),
            Command::Exit(code) => return Done::Over(Paused::Code(code)),
        }
        Done::On
    }
}

/// An order on the lifeline.
fn letter(order: Order) -> u8 {
    match order {
        Order::Drain => b'd',
        Order::Stop => b's',
        Order::Dump => b'?',
    }
}

/// The order that a letter is; a letter of another version is none.
pub(super) fn order(letter: u8) -> Option<Order> {
    match letter {
        b'd' => Some(Order::Drain),
        b's' => Some(Order::Stop),
        b'?' => Some(Order::Dump),
        _ => None,
    }
}
