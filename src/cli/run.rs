//! `run`: a JSONL job, with a progress bar, notes and signals.

use super::{Failure, args};
use crate::job::{Interrupt, Job, Progress, Tally};
use actors::trace::Trace;
use indicatif::{ProgressBar, ProgressStyle};

/// Runs a job.
pub(super) fn run(args: &args::Run, trace: &Trace) -> Result<(), Failure> {
    let interrupt = Interrupt::default();
    let asked = interrupt.clone();
    // The first signal drains, the second stops, the third does not wait for what should have stopped.
    let ask = move || {
        if asked.ask() > 2 {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(ask) {
        eprintln!("note: signals end the job at once: {error}");
    }
    let builder = args.deploy.builder()?.trace(trace);
    let open = job(args).open(&builder)?;
    open.notes().iter().for_each(|note| eprintln!("note: {note}"));
    if let Some(tally) = open.finished() {
        eprintln!("nothing to do: all {} lines are done, {} of them error records", tally.done, tally.errors);
        open.release();
        return Ok(());
    }
    let engine = builder.build()?;
    engine.notes().iter().for_each(|note| eprintln!("note: {note}"));
    let chat = engine.tokenizer().and_then(|tokenizer| tokenizer.chat_templates());
    for fault in chat.iter().flat_map(|chat| chat.faults()) {
        eprintln!("note: {fault}; lines with messages that need this chat template become error records");
    }
    let summary = open.run(&engine, &interrupt, &mut Bar(ProgressBar::hidden()))?;
    let (tally, seconds) = (summary.tally, summary.seconds);
    let rate = summary.tokens as f64 / seconds.max(1e-9);
    eprintln!(
        "{} lines done, {} of them error records; {} tokens in {seconds:.2} s, {rate:.1} tokens/s",
        tally.done, tally.errors, summary.tokens
    );
    let (done, total) = (tally.done, summary.total);
    summary.pause.map_or(Ok(()), |pause| Err(Failure::Paused { done, total, pause }))
}

/// The job that the flags describe.
fn job(args: &args::Run) -> Job {
    let mut job = Job::new(&args.job, &args.output).seed(args.seed);
    if args.resume {
        job = job.resume();
    }
    if args.strict {
        job = job.strict();
    }
    match args.max_error_rate {
        Some(share) => job.max_error_rate(share),
        None => job,
    }
}

/// A bar on the terminal.
struct Bar(ProgressBar);

impl Progress for Bar {
    fn begun(&mut self, total: Option<u64>, tally: Tally) {
        self.0 = match total {
            Some(lines) => {
                let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}, {eta} left");
                ProgressBar::new(lines).with_style(style.expect("the template is a constant"))
            }
            None => ProgressBar::new_spinner(),
        };
        self.0.set_position(tally.done);
        // What was done before tells nothing of how long the rest takes.
        self.0.reset_eta();
    }

    fn advanced(&mut self, tally: Tally, tokens_per_second: f64) {
        self.0.set_message(format!("{tokens_per_second:.0} tokens/s"));
        self.0.set_position(tally.done);
    }

    fn note(&mut self, note: &str) {
        eprintln!("note: {note}");
    }

    fn over(&mut self) {
        self.0.finish_and_clear();
    }
}
