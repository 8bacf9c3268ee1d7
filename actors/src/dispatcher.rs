//! The batcher between its ports: absorbs samples, writes tickets. A pure state machine; its shell says when to take a turn.

use crate::batcher::{Batcher, Counters, Misdelivered, Update};
use crate::port::Bell;
use crate::stage::{Input, Output};
use crate::ticket::{Samples, Ticket};
use crate::trace::{Cause, Counter, Edge, Event, Recorder, Trace, Track, Wait};

/// A batcher with the ends of the pipeline.
pub struct Dispatcher {
    batcher: Batcher,
    tickets: Output<Ticket>,
    samples: Input<Samples>,
    updates: Vec<Update>,
    books: Books,
}

/// What the dispatcher leaves in the trace.
struct Books {
    recorder: Recorder,
    track: Track,
    /// Waiting for somebody to submit.
    no_requests: Cause,
    gauges: [Gauge; 5],
    /// Since when it waits, and for what.
    waiting: Option<(u64, Wait)>,
}

/// A figure of the batcher that is recorded when it changes.
struct Gauge {
    counter: Counter,
    read: fn(&Counters) -> u64,
    last: Option<u64>,
}

impl Books {
    fn new(trace: &Trace, recorder: Recorder, track: Track) -> Self {
        let gauge = |name: &str, read| Gauge { counter: trace.counter(name), read, last: None };
        let gauges = [
            gauge("pool: pages in use", |c: &Counters| c.pages_used.into()),
            gauge("pool: pages available", |c: &Counters| c.pages_available.into()),
            gauge("batcher: sequences running", |c: &Counters| c.running.into()),
            gauge("batcher: sequences waiting", |c: &Counters| c.waiting.into()),
            gauge("batcher: preemptions so far", |c: &Counters| c.preemptions),
        ];
        Self { recorder, track, no_requests: trace.cause("no requests"), gauges, waiting: None }
    }

    /// Ends the wait, if there is one.
    fn wake(&mut self, now_ns: u64) {
        if let Some((since_ns, wait)) = self.waiting.take() {
            self.recorder.span(self.track, since_ns, now_ns, Event::Wait(wait));
        }
    }

    fn wait(&mut self, wait: Wait) {
        if self.waiting.is_some_and(|(_, before)| before == wait) {
            return;
        }
        let now_ns = self.recorder.now_ns();
        self.wake(now_ns);
        self.recorder.board().waits(self.track, wait, now_ns);
        self.waiting = Some((now_ns, wait));
    }

    fn count(&mut self, counters: &Counters) {
        let now_ns = self.recorder.now_ns();
        for gauge in &mut self.gauges {
            let value = (gauge.read)(counters);
            if gauge.last.replace(value) != Some(value) {
                self.recorder.point(self.track, now_ns, Event::Count { counter: gauge.counter, value });
            }
        }
    }
}

impl Dispatcher {
    /// A dispatcher over an idle pipeline, which records on `track`.
    pub fn new(
        batcher: Batcher,
        tickets: Output<Ticket>,
        samples: Input<Samples>,
        (trace, recorder, track): (&Trace, Recorder, Track),
    ) -> Self {
        Self { batcher, tickets, samples, updates: vec![], books: Books::new(trace, recorder, track) }
    }

    /// Binds both ends to the bell that announces the next turn.
    pub fn bind(&mut self, bell: &Bell) {
        self.tickets.outbox.bind_writer(bell.clone());
        self.samples.inbox.bind_reader(bell.clone());
    }

    /// The batcher, to submit to.
    pub fn batcher(&mut self) -> &mut Batcher {
        &mut self.batcher
    }

    /// The track of its acts in the trace.
    pub fn track(&self) -> Track {
        self.books.track
    }

    /// Whether the pipeline has ended: no samples will come any more.
    pub fn is_closed(&self) -> bool {
        self.samples.inbox.is_closed()
    }

    /// Records that the shell sent message `step` over `edges`.
    pub fn sent(&self, edges: &[Edge], step: u64) {
        let now_ns = self.books.recorder.now_ns();
        for &edge in edges {
            self.books.recorder.point(self.books.track, now_ns, Event::Send { edge, step });
        }
    }

    /// What keeps it from a turn that moves anything.
    pub fn waits_for(&self) -> Wait {
        if self.batcher.is_idle() {
            Wait::Outside(self.books.no_requests)
        } else if self.tickets.outbox.free() == 0 {
            Wait::Credit(self.tickets.edges[0])
        } else {
            Wait::Input(self.samples.edge)
        }
    }

    /// Absorbs all samples that are there and writes all tickets that can be; `report` hears every update with the samples of its
    /// step. Says whether anything moved.
    ///
    /// # Errors
    /// Samples that belong to no step that is out.
    pub fn turn(&mut self, report: &mut dyn FnMut(&Update, &Samples)) -> Result<bool, Misdelivered> {
        let (mut moved, start_ns) = (false, self.books.recorder.now_ns());
        while let Some(samples) = self.samples.inbox.try_recv() {
            self.books.wake(start_ns);
            moved = true;
            let (edge, step) = (self.samples.edge, samples.step);
            self.books.recorder.point(self.books.track, start_ns, Event::Receive { edge, step });
            self.batcher.absorb(&samples, &mut self.updates)?;
            self.updates.drain(..).for_each(|update| report(&update, &samples));
        }
        let mut begun_ns = start_ns;
        while let Some(mut slot) = self.tickets.outbox.try_slot() {
            if !self.batcher.fill(&mut slot) {
                break;
            }
            moved = true;
            begun_ns = self.write(begun_ns, slot.step.id, slot.step.rows);
            slot.send();
        }
        if moved {
            self.books.recorder.board().rests(self.books.track);
            self.books.count(&self.batcher.counters());
        } else {
            self.books.wait(self.waits_for());
        }
        Ok(moved)
    }

    /// Records a ticket that was written since `begun_ns`; returns the time.
    fn write(&mut self, begun_ns: u64, step: u64, rows: u32) -> u64 {
        let books = &mut self.books;
        books.wake(begun_ns);
        books.recorder.board().acts(books.track, step, begun_ns);
        let end_ns = books.recorder.now_ns();
        books.recorder.span(books.track, begun_ns, end_ns, Event::Act { step, rows, bytes: 0 });
        for &edge in &self.tickets.edges {
            let sent_ns = end_ns.saturating_sub(1).max(begun_ns);
            books.recorder.point(books.track, sent_ns, Event::Send { edge, step });
        }
        end_ns
    }
}
