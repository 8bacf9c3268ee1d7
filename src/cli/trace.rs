//! `trace`: what bounded a run. And what `--trace` of the other commands does: records, and writes the file at the end.

use super::tell::tell;
use super::{Failure, args, say};
use crate::pictures;
use actors::trace::{
    Board, Change, ChromeRead, Comparison, Percentiles, Summary, Trace, TraceLayer, Verdict, Words, read_chrome,
    write_chrome,
};
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
    let asked = [(&tracing.trace, Form::Chrome), (&tracing.report, Form::Page)];
    let asked = asked.into_iter().filter_map(|(file, form)| Some((file.as_deref()?, form)));
    // Made before the work: hours later is too late to hear that it cannot be written.
    let made = asked.map(|(file, form)| Ok((file, form, File::create(file).map_err(Failure::io(file.display()))?)));
    let outs = made.collect::<Result<Vec<_>, Failure>>()?;
    if outs.is_empty() {
        return command(&trace);
    }
    let listening = listen(&trace);
    let done = command(&trace);
    drop(listening);
    match (write(&trace, outs), unwritten) {
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

/// A form in which a run is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// The file of ui.perfetto.dev.
    Chrome,
    /// The page.
    Page,
}

fn write(trace: &Trace, outs: Vec<(&Path, Form, File)>) -> Result<(), Failure> {
    let recording = trace.collect();
    for (file, form, out) in outs {
        let mut out = BufWriter::new(out);
        let written = match form {
            Form::Chrome => write_chrome(&recording, &mut out).map(drop),
            Form::Page => out.write_all(pictures::page(&recording, 0).as_bytes()),
        };
        written.and_then(|()| out.flush()).map_err(Failure::io(file.display()))?;
        if recording.lost > 0 {
            let (file, lost) = (file.display(), recording.lost);
            say(format!("note: {file}: the first {lost} records are lost, the last part is there"));
        }
    }
    Ok(())
}

/// Says what bounded a run, draws it, or says what changed between two.
pub(super) fn trace(args: &args::Trace) -> Result<(), Failure> {
    let read = read(&args.file)?;
    if let Some(html) = &args.html {
        return std::fs::write(html, pictures::page(&read.recording, read.lonely)).map_err(Failure::io(html.display()));
    }
    let summary = Summary::of(&read.recording);
    if let Some(other) = &args.other {
        let other = self::read(other)?;
        let comparison =
            Comparison::of((&summary, &read.recording), (&Summary::of(&other.recording), &other.recording));
        match args.json {
            true => tell!("{}", changes(&comparison)),
            false => tell!("{}", comparison.lines().into_iter().map(tame).collect::<Vec<_>>().join("\n")),
        }
        return Ok(());
    }
    let mut lines = vec![];
    if args.json {
        lines.push(figures(&read, &summary).to_string());
    } else {
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

/// Names come from the file, and no file commands a terminal.
fn tame(line: String) -> String {
    line.replace(char::is_control, "\u{fffd}")
}

fn read(file: &Path) -> Result<ChromeRead, Failure> {
    let name = file.display().to_string();
    let text = text(file).map_err(|source| Failure::Read { what: name.clone(), source })?;
    read_chrome(&text).map_err(|fault| Failure::Trace { file: name, fault })
}

fn text(file: &Path) -> std::io::Result<Vec<u8>> {
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
    let requests = &summary.requests;
    let times = |times: &Option<Percentiles>| {
        times.map(|t| json!({"p50": seconds(t.p50_ns), "p90": seconds(t.p90_ns), "p99": seconds(t.p99_ns)}))
    };
    json!({
        "bound_by": kind(&summary.verdict),
        "verdict": words.verdict(),
        "window_seconds": seconds(summary.window_ns),
        "steps": summary.steps,
        "rows": summary.rows,
        "rows_per_second": summary.rows_per_second(),
        "overlap": summary.overlap,
        "bubble": summary.bubble,
        "communication": {"seconds": seconds(summary.communication.ns), "hidden_seconds": seconds(summary.communication.hidden_ns)},
        "requests": {"ended": requests.ended, "tokens": requests.tokens, "first_token_seconds": times(&requests.first_token),
            "between_tokens_seconds": times(&requests.between_tokens), "longest_gap_seconds": times(&requests.longest_gap)},
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

/// Everything that changed, for programs.
fn changes(comparison: &Comparison) -> Value {
    let change = |change: &Change| json!({"before": change.before, "after": change.after});
    let counter = |counted: &actors::trace::CounterChange| json!({"name": counted.counter, "mean": change(&counted.mean), "max": change(&counted.max)});
    let seconds = |ns: &Change| json!({"before": ns.before / 1e9, "after": ns.after / 1e9});
    let actors = comparison.actors.iter().map(|actor| {
        let wait = |wait: &actors::trace::WaitChange| {
            json!({"for": wait.what, "share": change(&wait.share), "seconds_a_row": seconds(&wait.row_ns)})
        };
        json!({"actor": actor.actor, "busy": change(&actor.busy), "act_seconds": seconds(&actor.act_ns),
            "seconds_a_row": seconds(&actor.row_ns), "waits": actor.waits.iter().map(wait).collect::<Vec<_>>()})
    });
    json!({
        "cause": comparison.cause,
        "verdicts": {"before": comparison.verdicts[0], "after": comparison.verdicts[1]},
        "rows_per_second": change(&comparison.rows_per_second),
        "rows_a_step": change(&comparison.rows_a_step),
        "step_seconds": seconds(&comparison.step_ns),
        "bubble": change(&comparison.bubble),
        "counters": comparison.counters.iter().map(counter).collect::<Vec<_>>(),
        "actors": actors.collect::<Vec<_>>(),
        "only_before": comparison.gone,
        "only_after": comparison.new,
    })
}
