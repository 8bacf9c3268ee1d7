//! `trace`: what bounded a run. And what `--trace` of the other commands does: records, and writes the file at the end.

use super::tell::tell;
use super::{Failure, args, say};
use actors::trace::{Board, ChromeRead, Summary, Trace, TraceLayer, Verdict, Words, read_chrome, write_chrome};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use tracing::subscriber::{DefaultGuard, set_default, set_global_default};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

/// Bytes of a trace that are read: six times what a dozen full rings come to.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Runs `command`, which records into the trace it is given, and writes the file that was asked for, whatever became of the
/// command. Its engine has ended by then, so waits that lasted to the end are in the trace too.
pub(super) fn record<T>(
    tracing: &args::Tracing,
    command: impl FnOnce(&Trace) -> Result<T, Failure>,
) -> Result<T, Failure> {
    record_on(Board::default(), Unwritten::Fails, tracing, command)
}

/// What comes of a trace that cannot be written at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unwritten {
    /// The command fails.
    Fails,
    /// It is noted: the command has done more than this.
    Noted,
}

/// As [`record`], on a board that others may see.
pub(super) fn record_on<T>(
    board: Board,
    unwritten: Unwritten,
    tracing: &args::Tracing,
    command: impl FnOnce(&Trace) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let trace = Trace::with_board(tracing.trace_level, board);
    let Some(file) = &tracing.trace else { return command(&trace) };
    // Made before the work: hours later is too late to hear that it cannot be written.
    let out = File::create(file).map_err(Failure::io(file.display()))?;
    let listening = listen(&trace);
    let done = command(&trace);
    drop(listening);
    match (write(&trace, file, out), unwritten) {
        (Ok(()), _) => done,
        (Err(failure), Unwritten::Noted) => {
            say(format!("note: the trace is not whole, and nothing else is the worse for it: {failure}"));
            done
        }
        (Err(failure), Unwritten::Fails) => match done {
            Ok(_) => Err(failure),
            Err(first) => {
                say(format!("millstream: {failure}"));
                Err(first)
            }
        },
    }
}

/// Takes the spans of the whole process into the trace, or of this thread where somebody listens to the process already.
fn listen(trace: &Trace) -> Option<DefaultGuard> {
    let layered = || Registry::default().with(TraceLayer::new(trace).with_filter(LevelFilter::INFO));
    match set_global_default(layered()) {
        Ok(()) => None,
        Err(_) => Some(set_default(layered())),
    }
}

fn write(trace: &Trace, file: &Path, out: File) -> Result<(), Failure> {
    let recording = trace.collect();
    let mut out = BufWriter::new(out);
    write_chrome(&recording, &mut out).and_then(|_| out.flush()).map_err(Failure::io(file.display()))?;
    if recording.lost > 0 {
        say(format!("note: {}: the first {} records are lost, the last part is there", file.display(), recording.lost));
    }
    Ok(())
}

/// Prints what bounded a run.
pub(super) fn trace(args: &args::Trace) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let text = read(&args.file).map_err(|source| Failure::Read { what: file.clone(), source })?;
    let read = read_chrome(&text).map_err(|fault| Failure::Trace { file, fault })?;
    let summary = Summary::of(&read.recording);
    let mut lines = vec![];
    if args.json {
        lines.push(figures(&read, &summary).to_string());
    } else {
        // Names come from the file, and no file commands a terminal.
        let tame = |line: String| line.replace(char::is_control, "\u{fffd}");
        lines.extend(Words::new(&summary, &read.recording).lines().into_iter().map(tame));
        if read.lonely > 0 {
            lines.push(format!("{} messages have only one end in the file, and no arrow", read.lonely));
        }
        if read.skipped > 0 {
            lines.push(format!("{} events are not of this format and were stepped over", read.skipped));
        }
    }
    tell!("{}", lines.join("\n"));
    Ok(())
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let file = File::open(file)?;
    let bytes = file.metadata()?.len();
    if bytes > FILE_BYTES_MAX {
        let what = format!("wanted a file of at most {FILE_BYTES_MAX} bytes, got {bytes}");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, what));
    }
    let mut text = vec![];
    file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Everything that the lines say, for programs.
fn figures(read: &ChromeRead, summary: &Summary) -> Value {
    let recording = &read.recording;
    let words = Words::new(summary, recording);
    let seconds = |ns: u64| ns as f64 / 1e9;
    let tracks = summary.tracks.iter().map(|own| {
        let lane = recording.tracks.get(own.track.0 as usize).map_or("?", |name| &name.lane);
        let wait =
            |(blocked, ns): &(_, u64)| json!({"for": words.blocked(own.track, *blocked), "share": summary.share(*ns)});
        json!({"actor": recording.actor(own.track), "lane": lane, "acts": own.acts, "busy": summary.share(own.busy_ns),
            "waits": own.waits.iter().map(wait).collect::<Vec<_>>()})
    });
    let edges = summary.edges.iter().filter_map(|edge| {
        let name = recording.edge(edge.edge)?;
        Some(json!({"what": name.what, "from": recording.actor(name.from), "to": recording.actor(name.to),
            "mean": edge.mean, "max": edge.max}))
    });
    let counter =
        |c: &actors::trace::CounterSummary| json!({"name": recording.counter(c.counter), "mean": c.mean, "max": c.max});
    let wait = |wait: &actors::trace::LongWait| {
        json!({"actor": recording.actor(wait.track), "for": words.blocked(wait.track, wait.blocked), "seconds": seconds(wait.ns),
            "after_seconds": seconds(wait.after_ns)})
    };
    json!({
        "bound_by": kind(&summary.verdict),
        "verdict": words.verdict(),
        "window_seconds": seconds(summary.window_ns),
        "steps": summary.steps,
        "rows": summary.rows,
        "rows_per_second": summary.rows_per_second(),
        "overlap": summary.overlap,
        "actors": tracks.collect::<Vec<_>>(),
        "edges": edges.collect::<Vec<_>>(),
        "counters": summary.counters.iter().map(counter).collect::<Vec<_>>(),
        "longest_waits": summary.longest_waits.iter().map(wait).collect::<Vec<_>>(),
        "lost_records": summary.lost,
        "lonely_ends": read.lonely,
        "skipped_events": read.skipped,
    })
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Empty => "nothing",
        Verdict::Actor { .. } => "actor",
        Verdict::Balanced { .. } => "balanced",
        Verdict::InTurn { .. } => "order",
        Verdict::Batcher { .. } => "batcher",
        Verdict::Credit { .. } => "credit",
        Verdict::Waiting { .. } => "waiting",
    }
}
