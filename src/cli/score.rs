//! `score`: log-probabilities of continuations, and the perplexity of texts.

use super::run::{Bar, say_done, say_finished};
use super::tell::tell;
use super::{Failure, args, resume_command, say};
use crate::job::{Interrupt, Job, Pause, Task};
use crate::score::{Perplexity, TextError, perplexity};
use crate::supervise::{Heard, listen};
use actors::trace::Trace;
use crossbeam::channel::Receiver;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;
use std::thread::Builder;

/// Scores a job, or texts.
pub(super) fn score(args: &args::Score, argv: &[OsString], trace: &Trace) -> Result<(), Failure> {
    let (Some(input), Some(output)) = (&args.job, &args.output) else { return texts(args, trace) };
    let job = Job::new(input, output).task(Task::Score { as_generated: args.as_generated });
    lines(args, &args.lines.apply(job), resume_command(argv, input), trace)
}

/// Scores the lines of a job, in this process.
fn lines(args: &args::Score, job: &Job, command: Option<String>, trace: &Trace) -> Result<(), Failure> {
    let interrupt = Interrupt::default();
    obey_signals(&interrupt);
    let builder = args.deploy.builder()?.trace(trace);
    let open = job.open(&builder)?;
    open.notes().iter().for_each(|note| say(format!("note: {note}")));
    if let Some(tally) = open.finished() {
        say_finished(tally);
        open.release();
        return Ok(());
    }
    let engine = builder.build()?;
    engine.notes().iter().for_each(|note| say(format!("note: {note}")));
    let summary = open.run(&engine, &interrupt, &mut Bar::alone())?;
    say_done(&summary, "tokens scored");
    let (done, total) = (summary.tally.done, summary.total);
    let paused = |pause: Pause| Err(Failure::Paused { done, total, pause: pause.to_string(), command });
    summary.pause.map_or(Ok(()), paused)
}

/// The first signal drains, the second stops, the third does not wait for what should have stopped.
fn obey_signals(interrupt: &Interrupt) {
    let asked = interrupt.clone();
    let obey = move |heard: Receiver<Heard>| {
        for signal in heard {
            match signal {
                Heard::Asked(_) if asked.ask() > 2 => std::process::exit(130),
                Heard::Asked(_) | Heard::Dump | Heard::Child => {}
            }
        }
    };
    let begun = listen().and_then(|heard| Builder::new().name("signals".into()).spawn(move || obey(heard)));
    if let Err(error) = begun {
        say(format!("note: signals end the job at once: {error}"));
    }
}

fn texts(args: &args::Score, trace: &Trace) -> Result<(), Failure> {
    let read = |file: &Path| {
        let failed = |source| Failure::Read { what: file.display().to_string(), source };
        std::fs::read_to_string(file).map_err(failed)
    };
    // All are read before the weights: a name that is wrong costs nothing.
    let texts = args.text.iter().map(|file| read(file)).collect::<Result<Vec<String>, Failure>>()?;
    let engine = args.deploy.builder()?.trace(trace).build()?;
    engine.notes().iter().for_each(|note| say(format!("note: {note}")));
    let mut rows = vec![];
    for (file, text) in args.text.iter().zip(&texts) {
        let failed = |error: TextError| Failure::Reference { what: file.display().to_string(), why: error.to_string() };
        let found = perplexity(&engine, text, args.stride, args.as_generated).map_err(failed)?;
        rows.push((file.display().to_string(), found));
    }
    let all = rows.iter().fold(Perplexity::default(), |sum, (_, found)| sum + *found);
    if args.json {
        let texts: Vec<Value> = rows.iter().map(|(file, found)| figures(Some(file), found)).collect();
        tell!("{}", json!({ "model": engine.name(), "texts": texts, "all": figures(None, &all) }));
        return Ok(());
    }
    tell!("{:>12} {:>12} {:>12} {:>9} {:>14}  text", "token ppl", "word ppl", "byte ppl", "bits/byte", "loglikelihood");
    let row = |name: &str, found: &Perplexity| {
        tell!(
            "{:>12.4} {:>12.4} {:>12.6} {:>9.6} {:>14.4}  {name} ({} tokens, {} words, {} bytes)",
            found.token_perplexity(),
            found.word_perplexity(),
            found.byte_perplexity(),
            found.bits_per_byte(),
            found.loglikelihood,
            found.tokens,
            found.words,
            found.bytes
        );
    };
    rows.iter().for_each(|(file, found)| row(file, found));
    if rows.len() > 1 {
        row("all", &all);
    }
    Ok(())
}

/// The figures under the names of lm-evaluation-harness.
fn figures(file: Option<&String>, found: &Perplexity) -> Value {
    json!({
        "file": file,
        "loglikelihood": found.loglikelihood,
        "tokens": found.tokens,
        "words": found.words,
        "bytes": found.bytes,
        "token_perplexity": found.token_perplexity(),
        "word_perplexity": found.word_perplexity(),
        "byte_perplexity": found.byte_perplexity(),
        "bits_per_byte": found.bits_per_byte(),
    })
}
