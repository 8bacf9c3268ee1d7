//! A batcher, a pipeline with delays, and callers, driven by one seed; a failure names it.

use super::model::{Model, Outcome, alone, mix};
use crate::batcher::{Batcher, BatcherSpec, Capture, Finish, Refused, SequenceSpec, Update};
use crate::feed::Feeder;
use crate::ticket::{Samples, Score, Ticket};
use kernels::Step;
use std::collections::{BTreeMap, VecDeque};

/// Numbers without a pattern, from a seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(seed, 0x5eed))
    }

    /// A number in `0..sides`.
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = mix(self.0, 7);
        (self.0 >> 20) % sides
    }

    /// A number in `from..=to`.
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.roll(to - from + 1)
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize]
    }
}

/// A sequence as its caller sees it.
pub(super) struct Seen {
    spec: SequenceSpec,
    outcome: Outcome,
    cancelled: bool,
}

pub(super) struct World {
    pub(super) batcher: Batcher,
    pub(super) seen: BTreeMap<u64, Seen>,
    model: Model,
    feeder: Feeder,
    fails: bool,
    /// Written, not yet entered, each with the pages, slots of recurrent state and pages of windows that were free before it.
    written: VecDeque<(Ticket, [Vec<u32>; 3])>,
    /// Computed; the tokens are not yet at the feed.
    computed: VecDeque<Samples>,
    /// At the feed; not yet at the host.
    fed: VecDeque<Samples>,
    updates: Vec<Update>,
    pub(super) steps: u64,
    /// The rows of each step written.
    pub(super) rows: Vec<u32>,
}

impl World {
    pub(super) fn new(spec: BatcherSpec, fails: bool) -> Self {
        Self {
            batcher: Batcher::new(spec).expect("no bound is zero"),
            seen: BTreeMap::new(),
            model: Model::new(&spec.pool, fails),
            feeder: Feeder::new(spec.max_num_seqs),
            fails,
            written: VecDeque::new(),
            computed: VecDeque::new(),
            fed: VecDeque::new(),
            updates: Vec::new(),
            steps: 0,
            rows: Vec::new(),
        }
    }

    pub(super) fn submit(&mut self, spec: SequenceSpec) -> Result<(), Refused> {
        self.batcher.submit(spec.clone())?;
        let earlier = self.seen.insert(spec.id, Seen { spec, outcome: Outcome::default(), cancelled: false });
        assert!(earlier.is_none(), "the test uses an id twice");
        Ok(())
    }

    pub(super) fn cancel(&mut self, id: u64) {
        self.batcher.cancel(id, &mut self.updates);
        if !self.updates.is_empty() {
            self.seen.get_mut(&id).expect("it was submitted").cancelled = true;
        }
        self.take_updates(&Samples::default());
        self.batcher.cancel(id, &mut self.updates);
        assert_eq!(self.updates, [], "a second cancel does nothing");
    }

    /// Writes a step if one can be written.
    pub(super) fn fill(&mut self) -> bool {
        let free = (0..self.batcher.pool().capacity()).filter(|&page| self.batcher.pool().is_free(page)).collect();
        let pool = self.batcher.pool();
        let slots = (0..self.model.slots()).filter(|&slot| pool.is_free_slot(slot)).collect();
        let windows = (0..pool.spec().windows.pages).filter(|&page| pool.is_free_window(page)).collect();
        let mut ticket = self.batcher.ticket();
        let oldest = self.running_serials().next();
        if !self.batcher.fill(&mut ticket) {
            assert!(self.batcher.is_idle() || self.out() > 0, "there is work, no step is out and none is written");
            return false;
        }
        self.check_ticket(&ticket);
        self.check_queue();
        // An older one may have come back from the queue meanwhile.
        let stays = |serial| self.running_serials().any(|running| running == serial);
        assert!(oldest.is_none_or(stays), "the oldest running sequence was preempted");
        self.steps += 1;
        self.rows.push(ticket.step.rows);
        self.written.push_back((ticket, [free, slots, windows]));
        true
    }

    /// Lets the next step into the pipeline if its tokens are there.
    pub(super) fn enter(&mut self) -> bool {
        let Some((ticket, free)) = self.written.pop_front_if(|(ticket, _)| self.feeder.ready(ticket)) else {
            return false;
        };
        let [free, slots, windows] = free;
        free.into_iter().for_each(|page| self.model.poison(page));
        slots.into_iter().for_each(|slot| self.model.poison_slot(slot));
        windows.into_iter().for_each(|page| self.model.poison_window(page));
        let mut ids = vec![0; ticket.feeds.len()];
        self.feeder.resolve(&ticket, &mut ids).expect("it is ready");
        self.computed.push_back(self.model.run(&ticket, &ids));
        true
    }

    pub(super) fn feed(&mut self) -> bool {
        let Some(samples) = self.computed.pop_front() else { return false };
        self.feeder.absorb(&samples);
        self.fed.push_back(samples);
        true
    }

    pub(super) fn deliver(&mut self) -> bool {
        let Some(samples) = self.fed.pop_front() else { return false };
        self.batcher.absorb(&samples, &mut self.updates).expect("results come in order");
        self.take_updates(&samples);
        true
    }

    /// Preempts a running sequence that may be, as if a page were wanted.
    pub(super) fn preempt(&mut self, dice: &mut Dice) {
        let place = dice.between(1, 8) as usize;
        let Some(&slot) = self.batcher.order.get(place) else { return };
        let sequence = &mut self.batcher.running_mut(slot).sequence;
        if !sequence.is_pinned() {
            sequence.preemptions += 1;
            self.batcher.send_back(slot);
        }
    }

    /// Stages crash: all that is out and all memory is lost.
    pub(super) fn crash(&mut self) {
        self.batcher.restart();
        let spec = self.batcher.spec().pool;
        self.model = Model::new(&spec, self.fails);
        self.written.clear();
        self.computed.clear();
        self.fed.clear();
    }

    /// Steps that are out.
    pub(super) fn out(&self) -> usize {
        self.written.len() + self.computed.len() + self.fed.len()
    }

    /// Does something that can be done, or nothing if nothing can.
    pub(super) fn turn(&mut self, dice: &mut Dice) -> bool {
        let first = dice.roll(4);
        (first..first + 4).any(|which| match which % 4 {
            0 => self.fill(),
            1 => self.enter(),
            2 => self.feed(),
            _ => self.deliver(),
        })
    }

    /// Goes on until nothing is left to do, then holds every sequence against its lonely run.
    pub(super) fn finish(&mut self, dice: &mut Dice) {
        while self.turn(dice) {}
        assert!(self.batcher.is_idle(), "stuck: {:?}", self.batcher.counters());
        let pool = self.batcher.pool();
        assert_eq!((pool.used(), pool.free() + pool.cached()), (0, pool.capacity()), "the idle pool adds up");
        let states = pool.spec().states;
        assert_eq!((pool.states_used(), pool.states_available()), (0, states.running + states.snapshots));
        assert_eq!((pool.windows_used(), pool.windows_available()), (0, pool.spec().windows.pages));
        for (id, seen) in &self.seen {
            let wanted = alone(&seen.spec, &self.batcher.spec().pool, self.fails);
            let got = &seen.outcome;
            if seen.cancelled {
                assert_eq!(got.end, Some(Finish::Cancelled));
                assert_eq!(got.tokens, wanted.tokens[..got.tokens.len()], "sequence {id}");
                assert_eq!(got.prompt, wanted.prompt[..got.prompt.len()], "sequence {id}");
            } else {
                assert_eq!(*got, wanted, "sequence {id}");
            }
        }
    }

    /// The running sequences, the oldest first.
    fn running_serials(&self) -> impl Iterator<Item = u64> + '_ {
        self.batcher.order.iter().filter_map(|&slot| Some(self.batcher.running(slot)?.sequence.serial))
    }

    fn take_updates(&mut self, samples: &Samples) {
        let row = |range: std::ops::Range<usize>| [samples.logits[range.start], samples.logits[range.end - 1]];
        let told = |score: Score| (score.logprob, samples.top_of(&score).to_vec());
        for update in self.updates.drain(..) {
            let (Update::Prompt { id, .. } | Update::Token { id, .. } | Update::Finished { id, .. }) = update;
            let seen = self.seen.get_mut(&id).expect("updates are for submitted sequences");
            let outcome = &mut seen.outcome;
            assert_eq!(outcome.end, None, "sequence {id}: nothing follows the end");
            match update {
                Update::Prompt { position, logits, score, .. } => {
                    let first = match (seen.spec.prompt_logprobs, seen.spec.capture) {
                        (None, Capture::Last) => seen.spec.prompt.len() - 1,
                        (None | Some(_), _) => seen.spec.prompt_logprobs_from.saturating_sub(1) as usize,
                    };
                    assert_eq!(position as usize, first + outcome.prompt.len());
                    outcome.prompt.push((logits.map(row), score.map(told)));
                }
                Update::Token { token, position, logits, score, .. } => {
                    assert_eq!(position as usize, seen.spec.prompt.len() + outcome.tokens.len());
                    outcome.tokens.push((token, (logits.map(row), score.map(told))));
                }
                Update::Finished { reason, .. } => outcome.end = Some(reason),
            }
        }
    }

    fn check_ticket(&self, ticket: &Ticket) {
        let (spec, step) = (self.batcher.spec(), &ticket.step);
        assert_eq!(ticket.feeds.len(), step.rows as usize);
        assert_eq!(ticket.draws.len(), step.sampled.len());
        assert!(step.rows > 0 && step.rows <= spec.max_num_batched_tokens);
        assert!(step.sampled.len() as u32 <= spec.sampled_rows_max);
        assert!(step.sampled.is_sorted_by(|one, other| one < other));
        assert!(ticket.needs <= step.id);
        let (mut row, mut pages) = (0, Vec::new());
        for span in &step.spans {
            assert_eq!(span.first_row, row);
            assert!(span.rows > 0);
            assert_eq!(span.pages, spec.pool.pages_of(span.start + span.rows));
            row += span.rows;
            let begun = (span.start / spec.pool.page_rows) as usize;
            pages.extend_from_slice(&step.pages_of(span)[begun..]);
        }
        pages.sort_unstable();
        assert!(pages.is_sorted_by(|one, other| one < other), "two sequences write one page in step {}", step.id);
        assert_eq!(row, step.rows);
        self.check_states(step);
        self.check_windows(step);
    }

    /// Pages of windows that a step writes are one sequence's, and nobody else sees them in that step.
    fn check_windows(&self, step: &Step) {
        let spec = self.batcher.spec().pool;
        assert_eq!(step.windows.len(), if spec.windows.pages > 0 { step.pages.len() } else { 0 });
        let spans = if spec.windows.pages > 0 { &step.spans[..] } else { &[] };
        for (number, span) in spans.iter().enumerate() {
            let first = (span.start + 1).saturating_sub(spec.windows.window) / spec.page_rows;
            let seen = &step.windows_of(span)[first as usize..];
            assert!(seen.iter().all(|&page| page < spec.windows.pages), "a row sees a page that is gone");
            for other in spans.iter().skip(number + 1).chain(&spans[..number]) {
                let written = &step.windows_of(other)[(other.start / spec.page_rows) as usize..];
                assert!(written.iter().all(|page| !seen.contains(page)), "two sequences share a page that one writes");
            }
        }
    }

    /// Every span of a recurrent model has a state, and what a step writes is written once and read by nobody.
    fn check_states(&self, step: &Step) {
        let recurs = self.batcher.spec().pool.states.running > 0;
        assert_eq!(step.states.len(), if recurs { step.spans.len() } else { 0 });
        assert!(step.spans.iter().zip(&step.states).all(|(span, state)| (span.start == 0) == state.from.is_none()));
        let written = step.states.iter().map(|state| state.to).chain(step.snapshots.iter().map(|s| s.slot));
        let mut touched: Vec<u32> = written.collect();
        touched.sort_unstable();
        assert!(touched.is_sorted_by(|one, other| one < other), "a slot is written twice in step {}", step.id);
        let mut read = step.states.iter().filter_map(|state| state.from);
        assert!(read.all(|slot| touched.binary_search(&slot).is_err()), "step {} reads what it writes", step.id);
    }

    /// First come, first served; and nobody is preempted more than three times.
    fn check_queue(&self) {
        let batcher = &self.batcher;
        assert!(batcher.waiting.iter().is_sorted_by_key(|sequence| sequence.serial));
        assert!(batcher.waiting.iter().all(|sequence| sequence.preemptions <= 3));
        let again = batcher.waiting.iter().filter(|sequence| sequence.epoch > 0).count();
        assert_eq!(again as u32, batcher.waiting_again);
        let newest = batcher.order.last().and_then(|&slot| batcher.running(slot));
        if let (Some(newest), Some(next)) = (newest, batcher.waiting.iter().find(|sequence| sequence.epoch == 0)) {
            assert!(newest.sequence.serial < next.serial, "a newcomer was passed");
        }
    }
}
