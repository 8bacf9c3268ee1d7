//! Takes the process's `tracing` spans and events into the trace: marks on a track of their thread, beside the acts of actors.
//!
//! For what is rare: names are formatted and interned under a lock. A thread's spans nest on its track as they were entered. The
//! layer filters nothing; who installs it says which levels it hears.

use super::record::{Event, Name, Track};
use super::recorder::{Recorder, Trace};
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The heading of the tracks of threads.
const LANE: &str = "process";
/// Marks that are kept: spans of the control plane are rare.
const RECORDS: usize = 1 << 12;
/// Threads that get a track; spans of further ones are not recorded.
const THREADS_MAX: usize = 256;
/// Spans that are open at once; further ones are not recorded.
const OPEN_MAX: usize = 1024;
/// Characters of a mark's name.
const NAME_MAX: usize = 160;

/// A layer that writes spans and events into a trace.
#[derive(Debug)]
pub struct TraceLayer {
    trace: Trace,
    recorder: Recorder,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tracks: HashMap<ThreadId, Track>,
    open: Vec<Open>,
}

/// A span that a thread is in.
#[derive(Debug)]
struct Open {
    span: Id,
    thread: ThreadId,
    since_ns: u64,
}

impl TraceLayer {
    /// A layer that writes into `trace`.
    pub fn new(trace: &Trace) -> Self {
        Self { trace: trace.clone(), recorder: trace.recorder(RECORDS), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calling thread's track, made at its first span.
    fn track(&self, state: &mut State) -> Option<Track> {
        let thread = std::thread::current();
        if !state.tracks.contains_key(&thread.id()) {
            if state.tracks.len() >= THREADS_MAX {
                return None;
            }
            let name = thread.name().map_or_else(|| format!("{:?}", thread.id()), str::to_owned);
            state.tracks.insert(thread.id(), self.trace.track(LANE, &name));
        }
        state.tracks.get(&thread.id()).copied()
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for TraceLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let text = words(attributes.metadata(), |fields| attributes.record(fields));
        let name = self.trace.name(&text);
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(name);
        }
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        let mut state = self.state();
        if state.open.len() < OPEN_MAX {
            let (thread, since_ns) = (std::thread::current().id(), self.recorder.now_ns());
            state.open.push(Open { span: id.clone(), thread, since_ns });
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let end_ns = self.recorder.now_ns();
        let mut state = self.state();
        let thread = std::thread::current().id();
        let Some(at) = state.open.iter().rposition(|open| open.span == *id && open.thread == thread) else { return };
        let since_ns = state.open.remove(at).since_ns;
        let name = context.span(id).and_then(|span| span.extensions().get::<Name>().copied());
        if let (Some(track), Some(name)) = (self.track(&mut state), name) {
            self.recorder.span(track, since_ns, end_ns, Event::Mark { name });
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let name = self.trace.name(&words(event.metadata(), |fields| event.record(fields)));
        if let Some(track) = self.track(&mut self.state()) {
            self.recorder.point(track, self.recorder.now_ns(), Event::Mark { name });
        }
    }
}

/// What a mark says: an event's message or a span's name, and the fields behind it.
fn words(metadata: &Metadata<'_>, record: impl FnOnce(&mut dyn Visit)) -> String {
    let mut fields = Fields::default();
    record(&mut fields);
    let name = if fields.message.is_empty() { metadata.name() } else { &fields.message };
    let text = format!("{name}{}", fields.others);
    match text.char_indices().nth(NAME_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    /// ` key=value` each.
    others: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A value whose Debug fails has written what it could; there is nobody to tell.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            key => write!(self.others, " {key}={value:?}"),
        };
    }
}
