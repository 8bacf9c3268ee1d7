//! `run`: a JSONL job, with a progress bar, notes and signals; under a parent that starts it again, unless that is left out.

mod parent;
mod watch;

pub(super) use parent::supervise;

use super::{Failure, args, limits, resume_command, say};
use crate::job::{Interrupt, Job, Pause, Progress, Summary, Tally, is_pipe};
use crate::supervise::{Child, ENGINE_FAILED};
use actors::trace::Trace;
use indicatif::{ProgressBar, ProgressStyle};
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use watch::Watch;

/// Where a job stands, for who asks in the middle of it.
#[derive(Debug, Default)]
struct Standing {
    done: AtomicU64,
    /// Lines plus one; 0 where they are not known.
    total: AtomicU64,
}

impl Standing {
    fn set(&self, done: u64, total: Option<u64>) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total.map_or(0, |total| total + 1), Ordering::Relaxed);
    }

    fn get(&self) -> (u64, Option<u64>) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed).checked_sub(1))
    }
}

/// Runs a job; says the code to end with.
pub(super) fn run(args: &args::Run, argv: &[OsString], trace: &Trace, child: Option<Child>) -> Result<u8, Failure> {
    limits::raise_open_files()?;
    let supervised = child.as_ref().map(Child::parent);
    let (interrupt, standing) = (Interrupt::default(), Arc::new(Standing::default()));
    let command = resume_command(argv, &args.job);
    let watch = Watch::begin(args, (interrupt.clone(), standing.clone()), command.clone(), trace, child);
    let mut builder = args.deploy.builder()?.trace(trace);
    if !args.capture.is_empty() {
        builder = builder.capture_edges(args.capture.iter().cloned());
    }
    let mut job = job(args);
    if let Some(parent) = supervised {
        job = job.held_for(parent);
    }
    let open = job.open(&builder)?;
    open.notes().iter().for_each(|note| say(format!("note: {note}")));
    if let Some(tally) = open.finished() {
        say_finished(tally);
        open.release();
        return Ok(0);
    }
    let (done, total) = open.standing();
    standing.set(done, total);
    watch.loading();
    let engine = builder.build()?;
    engine.notes().iter().for_each(|note| say(format!("note: {note}")));
    let chat = engine.tokenizer().and_then(|tokenizer| tokenizer.chat_templates());
    for fault in chat.iter().flat_map(|chat| chat.faults()) {
        say(format!("note: {fault}; lines with messages that need this chat template become error records"));
    }
    watch.running();
    if args.explain {
        let plan = engine.plan();
        say(graph::plan::explain::explain(plan) + &limits::explain(plan, is_piped(args)));
    }
    let summary = open.run(&engine, &interrupt, &mut Bar::new(standing))?;
    say_done(&summary, "tokens");
    let (done, total) = (summary.tally.done, summary.total);
    match summary.pause {
        None => Ok(0),
        Some(Pause::Engine { what }) if supervised.is_some() && command.is_some() => {
            say(format!("note: the engine has ended: {what}"));
            Ok(ENGINE_FAILED)
        }
        Some(pause) => Err(Failure::Paused { done, total, pause: pause.to_string(), command }),
    }
}

/// Says that a job had been done before.
pub(super) fn say_finished(tally: Tally) {
    say(format!("nothing to do: all {} lines are done, {} of them error records", tally.done, tally.errors));
}

/// Says what a run has done; `tokens` is what its tokens are called.
pub(super) fn say_done(summary: &Summary, tokens: &str) {
    let Summary { tally, seconds, .. } = summary;
    let rate = summary.tokens as f64 / seconds.max(1e-9);
    say(format!(
        "{} lines done, {} of them error records; {} {tokens} in {seconds:.2} s, {rate:.1} tokens/s",
        tally.done, tally.errors, summary.tokens
    ));
}

fn is_piped(args: &args::Run) -> bool {
    is_pipe(&args.job).unwrap_or(false)
}

/// The job that the flags describe.
fn job(args: &args::Run) -> Job {
    args.lines.apply(Job::new(&args.job, &args.output).seed(args.seed))
}

/// A bar on the terminal.
pub(super) struct Bar {
    bar: ProgressBar,
    standing: Arc<Standing>,
    total: Option<u64>,
}

impl Bar {
    /// A bar whose figures go to `standing` too.
    fn new(standing: Arc<Standing>) -> Self {
        Self { bar: ProgressBar::hidden(), standing, total: None }
    }

    /// A bar that nobody asks.
    pub(super) fn alone() -> Self {
        Self::new(Arc::default())
    }
}

impl Progress for Bar {
    fn begun(&mut self, total: Option<u64>, tally: Tally) {
        self.total = total;
        self.standing.set(tally.done, total);
        self.bar = match total {
            Some(lines) => {
                let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}, {eta} left");
                ProgressBar::new(lines).with_style(style.expect("the template is a constant"))
            }
            None => ProgressBar::new_spinner(),
        };
        self.bar.set_position(tally.done);
        // What was done before tells nothing of how long the rest takes.
        self.bar.reset_eta();
    }

    fn advanced(&mut self, tally: Tally, tokens_per_second: f64) {
        self.standing.set(tally.done, self.total);
        self.bar.set_message(format!("{tokens_per_second:.0} tokens/s"));
        self.bar.set_position(tally.done);
    }

    fn note(&mut self, note: &str) {
        self.bar.suspend(|| say(format!("note: {note}")));
    }

    fn over(&mut self) {
        self.bar.finish_and_clear();
    }
}
