//! What the process of a job does about signals, or about the orders of its parent: drains, stops, prints what goes on.

use super::Standing;
use crate::cli::{Failure, args, say};
use crate::error::ExitCode;
use crate::job::Interrupt;
use crate::job::journal::Places;
use crate::supervise::{Ask, Child, Heard, Level, Order, Wishes, listen};
use actors::trace::Trace;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far the process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The job is not open yet.
    Opening,
    /// The job is open and the model is not loaded.
    Loading,
    /// Requests run.
    Running,
}

impl Phase {
    fn words(self) -> &'static str {
        match self {
            Phase::Opening => "opens the job",
            Phase::Loading => "loads the model",
            Phase::Running => "runs",
        }
    }
}

/// What the watching thread and the process share.
struct Shared {
    phase: Mutex<Phase>,
    interrupt: Interrupt,
    standing: Arc<Standing>,
    command: Option<String>,
    /// The note of who works on the job.
    note: PathBuf,
    trace: Trace,
    since: Instant,
}

/// Tells the watching thread how far the process is.
#[derive(Clone)]
pub(super) struct Watch(Arc<Shared>);

impl Watch {
    /// Watches from now on. Where that cannot be, signals end the job at once, which is said.
    pub(super) fn begin(
        args: &args::Run,
        (interrupt, standing): (Interrupt, Arc<Standing>),
        command: Option<String>,
        trace: &Trace,
        child: Option<Child>,
    ) -> Self {
        let (phase, note) = (Mutex::new(Phase::Opening), Places::of(&args.output).note);
        let (trace, since) = (trace.clone(), Instant::now());
        let watch = Self(Arc::new(Shared { phase, interrupt, standing, command, note, trace, since }));
        let own = watch.clone();
        let begun = match child {
            None => {
                let wishes = wishes(args);
                listen().and_then(|heard| spawn(move || own.by_signals(&heard, wishes)))
            }
            Some(child) => {
                let direct = watch.clone();
                child.obey(move |order| own.on_order(order)).and_then(|()| listen()).and_then(|heard| {
                    spawn(move || {
                        for signal in heard {
                            direct.beside_the_parent(signal);
                        }
                    })
                })
            }
        };
        if let Err(error) = begun {
            say(format!("note: signals end the job at once: {error}"));
        }
        watch
    }

    /// The job is open, and the model is about to be loaded.
    pub(super) fn loading(&self) {
        self.enter(Phase::Loading);
    }

    /// Requests are about to run.
    pub(super) fn running(&self) {
        self.enter(Phase::Running);
    }

    fn enter(&self, phase: Phase) {
        // Not while the other thread is about to end the process.
        *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Signals of a process without a parent.
    fn by_signals(&self, heard: &Receiver<Heard>, mut wishes: Wishes) {
        loop {
            let due = wishes.due().map(|due| due.saturating_sub(self.0.since.elapsed()));
            let now = || self.0.since.elapsed();
            let level = match heard.recv_timeout(due.unwrap_or(Duration::MAX)) {
                Ok(Heard::Asked(ask)) => wishes.ask(ask, now()),
                Ok(Heard::Dump) => {
                    self.dump();
                    None
                }
                Ok(Heard::Child) => None,
                Err(RecvTimeoutError::Timeout) => wishes.pass(now()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(level) = level {
                self.reach(level);
            }
        }
    }

    /// Orders of the parent.
    fn on_order(&self, order: Order) {
        match order {
            Order::Drain => self.reach(Level::Drain),
            Order::Stop => self.reach(Level::Stop),
            Order::Dump => self.dump(),
        }
    }

    /// Signals that came to this process although it has a parent. A terminal sends them to both, and the parent counts: here they ask
    /// once, however often they come.
    fn beside_the_parent(&self, signal: Heard) {
        match signal {
            Heard::Asked(Ask::Interrupt | Ask::Terminate) => self.reach(Level::Drain),
            Heard::Asked(Ask::HangUp) | Heard::Dump | Heard::Child => {}
        }
    }

    fn reach(&self, level: Level) {
        let phase = self.0.phase.lock().unwrap_or_else(PoisonError::into_inner);
        match (level, *phase) {
            (Level::Drain | Level::Stop, Phase::Running) => {
                self.0.interrupt.reach(if level == Level::Drain { 1 } else { 2 });
            }
            // Nothing is in flight.
            (Level::Drain | Level::Stop, Phase::Opening | Phase::Loading) => self.pause("interrupted", *phase),
            (Level::Overdue, _) => self.pause("stopped; what was in flight runs again", *phase),
            (Level::Exit, _) => std::process::exit(130),
        }
    }

    /// Ends the process here and now; the journal takes that at any moment.
    fn pause(&self, why: &str, phase: Phase) -> ! {
        let (done, total) = self.0.standing.get();
        let command = self.0.command.clone();
        say(format!("millstream: {}", Failure::Paused { done, total, pause: why.into(), command }));
        if phase == Phase::Loading {
            // A note that stays is only a note.
            drop(std::fs::remove_file(&self.0.note));
        }
        std::process::exit(ExitCode::Paused.code().into())
    }

    /// Prints what goes on.
    fn dump(&self) {
        let phase = *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, total) = self.0.standing.get();
        let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
        let seconds = self.0.since.elapsed().as_secs_f64();
        let mut text =
            format!("state: {seconds:.1} s after its start the process {}; {done}{of} lines are done", phase.words());
        for line in self.0.trace.moment() {
            text += "\n  ";
            text += &line;
        }
        say(text);
    }
}

/// What signals ask, by the flags.
pub(super) fn wishes(args: &args::Run) -> Wishes {
    Wishes::new(Duration::from_secs(args.drain_seconds), args.on_hangup == args::OnHangup::Detach)
}

fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name("watch".into()).spawn(work).map(drop)
}
