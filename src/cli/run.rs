//! `run`: a JSONL job. Results are written in the order of the job's lines; memory does not grow with the job.

use super::{Failure, args};
use crate::Error;
use crate::engine::{Engine, Stream};
use crate::job::{
    ErrorLine, LineParser, LineReader, Prompt, Request, ResultLine, Usage, choice, generations, line_request, scan,
};
use actors::trace::Trace;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tracing::info_span;

/// A line on its way.
enum Pending<'e> {
    /// It has its record already.
    Record(Vec<u8>),
    /// It is being generated.
    Running { line: u64, custom_id: String, prompt_tokens: u64, streams: Vec<Stream<'e>> },
}

/// Counts of a job.
#[derive(Default)]
struct Tally {
    done: u64,
    errors: u64,
    tokens: u64,
}

/// Runs a job.
pub(super) fn run(args: &args::Run, trace: &Trace) -> Result<(), Failure> {
    let engine = args.deploy.builder()?.trace(trace).build()?;
    engine.notes().iter().for_each(|note| eprintln!("note: {note}"));
    let mut parser = LineParser::new(engine.plan().data().vocabulary);
    let found = scan(&args.job, args.strict.then_some(&mut parser)).map_err(Error::from)?;
    if found.lines == 0 {
        eprintln!("note: {} has no lines", args.job.display());
    }
    let input = File::open(&args.job).map_err(Failure::io(args.job.display()))?;
    let create = |source| Failure::Create { what: args.output.display().to_string(), source };
    let output = File::create(&args.output).map_err(create)?;
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    // A second signal ends at once.
    let drain = move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(drain) {
        eprintln!("note: signals end the job at once: {error}");
    }
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let job = Job { engine: &engine, seed: args.seed, created };
    let mut out = BufWriter::new(output);
    let (tally, seconds) = job.run(LineReader::new(BufReader::new(input)), parser, found.lines, &stop, &mut out)?;
    out.flush().map_err(Failure::io(args.output.display()))?;
    let rate = tally.tokens as f64 / seconds.max(1e-9);
    eprintln!(
        "{} lines done, {} of them error records; {} tokens in {seconds:.2} s, {rate:.1} tokens/s",
        tally.done, tally.errors, tally.tokens
    );
    let (done, total) = (tally.done, found.lines);
    if done < total { Err(Failure::Paused { done, total }) } else { Ok(()) }
}

struct Job<'e> {
    engine: &'e Engine,
    seed: u64,
    created: u64,
}

impl<'e> Job<'e> {
    fn run<R: std::io::BufRead>(
        &self,
        mut lines: LineReader<R>,
        mut parser: LineParser,
        total: u64,
        stop: &AtomicBool,
        out: &mut impl Write,
    ) -> Result<(Tally, f64), Failure> {
        let _span = info_span!("job run", lines = total).entered();
        // From when no line is begun any more.
        let mut drain = None;
        let bar = progress(total);
        let started = Instant::now();
        // Enough for the next step's sequences to be waiting while those of this one run.
        let window = 2 * self.engine.plan().data().settings.max_num_seqs as usize;
        let mut pending: VecDeque<Pending<'e>> = VecDeque::with_capacity(window);
        let mut tally = Tally::default();
        let mut more = true;
        loop {
            while more && pending.len() < window && !stop.load(Ordering::Relaxed) {
                match lines.next_line().map_err(Failure::io("the job"))? {
                    None => more = false,
                    Some(line) => {
                        let number = line.number;
                        pending.push_back(match line_request(&mut parser, &line) {
                            Ok(request) => self.begin(number, request)?,
                            Err(refused) => {
                                tally.errors += 1;
                                let mut record = vec![];
                                refused.write(number, &mut record).map_err(Failure::io("a record"))?;
                                Pending::Record(record)
                            }
                        });
                    }
                }
            }
            if !more || stop.load(Ordering::Relaxed) {
                drain.get_or_insert_with(|| info_span!("drain", lines = pending.len()).entered());
            }
            let Some(next) = pending.pop_front() else { break };
            let record = self.finish(next, &mut tally)?;
            out.write_all(&record).map_err(Failure::io("the output"))?;
            tally.done += 1;
            bar.set_message(format!("{:.0} tokens/s", tally.tokens as f64 / started.elapsed().as_secs_f64().max(1e-9)));
            bar.inc(1);
        }
        bar.finish_and_clear();
        drop(drain);
        let unknown: Vec<&str> = parser.unknown().collect();
        if !unknown.is_empty() {
            eprintln!("note: ignored fields: {}", unknown.join(", "));
        }
        Ok((tally, started.elapsed().as_secs_f64()))
    }

    /// Submits a request, or makes its error record.
    fn begin(&self, line: u64, request: Request) -> Result<Pending<'e>, Failure> {
        let custom_id = request.custom_id.clone();
        let refuse = |code: &str, message: &str| {
            let mut record = vec![];
            let error = ErrorLine { line, custom_id: Some(&request.custom_id), code, message };
            error.write(&mut record).map(|()| Pending::Record(record)).map_err(Failure::io("a record"))
        };
        let prompt = match (&request.prompt, self.engine.tokenizer()) {
            (Prompt::TokenIds(ids), _) => ids.clone(),
            (Prompt::Text(text), Some(tokenizer)) => match tokenizer.encode(text) {
                Ok(ids) => ids,
                Err(error) => return refuse("tokenizer", &error.to_string()),
            },
            (Prompt::Text(_), None) => {
                return refuse("no_tokenizer", "the model has no tokenizer.json: give token_ids instead of prompt");
            }
        };
        let generations = match generations(self.engine, &request, &prompt, self.seed) {
            Ok(generations) => generations,
            Err(error) => return refuse(error.code(), &error.to_string()),
        };
        let streams = generations.into_iter().map(|generation| self.engine.submit(generation)).collect();
        Ok(Pending::Running { line, custom_id, prompt_tokens: prompt.len() as u64, streams })
    }

    /// Waits for a line's end and makes its record.
    fn finish(&self, pending: Pending<'e>, tally: &mut Tally) -> Result<Vec<u8>, Failure> {
        let (line, custom_id, prompt_tokens, streams) = match pending {
            Pending::Record(record) => return Ok(record),
            Pending::Running { line, custom_id, prompt_tokens, streams } => (line, custom_id, prompt_tokens, streams),
        };
        let mut record = vec![];
        let (mut choices, mut generated) = (vec![], 0);
        for (index, stream) in streams.into_iter().enumerate() {
            match choice(self.engine, index as u32, stream) {
                Ok(choice) => {
                    generated += choice.token_ids.len() as u64;
                    choices.push(choice);
                }
                Err(message) => {
                    tally.errors += 1;
                    let error = ErrorLine { line, custom_id: Some(&custom_id), code: "refused", message: &message };
                    error.write(&mut record).map_err(Failure::io("a record"))?;
                    return Ok(record);
                }
            }
        }
        tally.tokens += generated;
        let result = ResultLine {
            line,
            custom_id: &custom_id,
            model: self.engine.name(),
            created: self.created,
            choices: &choices,
            usage: Usage::new(prompt_tokens, generated),
        };
        result.write(&mut record).map_err(Failure::io("a record"))?;
        Ok(record)
    }
}

fn progress(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}, {eta} left");
    ProgressBar::new(total).with_style(style.expect("the template is a constant"))
}
