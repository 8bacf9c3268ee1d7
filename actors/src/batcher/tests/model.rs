//! A model that is nothing but memory: every row's state is a hash of all states its page table leads to, so that any page
//! mixed up, reused too early or read before it was written changes the tokens that follow.

use crate::batcher::{Capture, Finish, SequenceSpec};
use crate::pool::PoolSpec;
use crate::ticket::{RowFault, Samples, Score, Ticket, Token};
use graph::plan::WindowPages;
use std::collections::BTreeMap;

/// Elements of a captured row.
pub(super) const WIDTH: usize = 2;

/// What unowned and unwritten cells hold.
const POISON: u64 = 0xdead_dead_dead_dead;

/// Tokens there are.
pub(super) const VOCAB: u64 = 40;

/// One row in this many has logits that are not finite, in models that fail.
const FAILS_EVERY: u64 = 150;

pub(super) fn mix(one: u64, other: u64) -> u64 {
    let mixed = (one ^ other.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (mixed >> 17)
}

/// A token as a row sees it. Where rows have two forms, a generated row is not what a prompt row would be.
fn seen(token: u32, is_generated: bool) -> u64 {
    u64::from(token) + u64::from(is_generated) * VOCAB
}

/// The state of a row from those before it, those in its window where there is one, and from what recurs where anything does.
fn state(before: impl Iterator<Item = u64>, seen: u64, recurrent: Option<u64>) -> u64 {
    mix(before.fold(recurrent.unwrap_or(1), mix), seen)
}

/// The first position before `position` that a row sees of layers with a window; all are behind where none has one.
fn window_start(windows: WindowPages, position: usize) -> usize {
    if windows.pages == 0 { position } else { (position + 1).saturating_sub(windows.window as usize) }
}

fn token_of(state: u64) -> u32 {
    (state % VOCAB) as u32
}

fn is_finite(state: u64, fails: bool) -> bool {
    !(fails && (state >> 8).is_multiple_of(FAILS_EVERY))
}

/// The token after a row, where the rules of its sequence make it depend on all tokens before.
fn ruled_token_of(state: u64, tokens: &[u32]) -> u32 {
    token_of(tokens.iter().fold(state, |hash, &token| mix(hash, u64::from(token))))
}

/// How likely a token was after a row, and the likeliest ones.
fn score_of(state: u64, token: u32, count: u32) -> (f32, Vec<(u32, f32)>) {
    let logprob = |token: u32| (mix(state, u64::from(token)) >> 40) as f32;
    (logprob(token), (0..count).map(|token| (token, logprob(token))).collect())
}

fn logits_of(state: u64) -> [f32; WIDTH] {
    [(state >> 40) as f32, (state & 0xff_ffff) as f32]
}

/// What was asked for of a row: its logits, how likely its token was, and the likeliest tokens.
pub(super) type Told = (Option<[f32; WIDTH]>, Option<(f32, Vec<(u32, f32)>)>);

/// What a sequence must produce, whatever it runs beside.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Outcome {
    /// Prompt rows that something is told of, by position.
    pub(super) prompt: Vec<Told>,
    /// Tokens and what is told of the rows they were drawn from.
    pub(super) tokens: Vec<(u32, Told)>,
    pub(super) end: Option<Finish>,
}

/// The outcome of a sequence that runs alone, without pages or steps.
pub(super) fn alone(spec: &SequenceSpec, pool: &PoolSpec, fails: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut tokens = spec.prompt.clone();
    let mut states = Vec::new();
    let mut recurrent = (pool.states.running > 0).then_some(0);
    loop {
        let position = states.len();
        let generated = spec.generated_from.map_or(spec.prompt.len(), |first| first as usize);
        let seen = seen(tokens[position], pool.two_forms && position >= generated);
        recurrent = recurrent.map(|before| mix(before, seen));
        let window = states[window_start(pool.windows, position)..].iter();
        let now = state(states.iter().chain(window).copied(), seen, recurrent);
        states.push(now);
        let generates = states.len() == tokens.len() && spec.max_tokens > 0;
        let told = states.len() >= spec.prompt_logprobs_from as usize;
        let captured = match spec.capture {
            Capture::None => false,
            Capture::Generated => generates,
            Capture::Last => states.len() == spec.prompt.len(),
            Capture::All => true,
        };
        let looked_at = spec.looks_at_prompt() && told || states.len() == tokens.len();
        if looked_at && !is_finite(now, fails) {
            outcome.end = Some(Finish::Fault { fault: RowFault::NonFinite, position: position as u32 });
            return outcome;
        }
        if generates {
            let token = if spec.rules.is_some() { ruled_token_of(now, &tokens) } else { token_of(now) };
            tokens.push(token);
            let score = spec.logprobs.map(|count| score_of(now, token, count));
            outcome.tokens.push((token, (captured.then(|| logits_of(now)), score)));
            if spec.stop_token_ids.contains(&token) {
                outcome.end = Some(Finish::Stop { token });
                return outcome;
            }
        } else {
            let logits = captured.then(|| logits_of(now));
            let next = tokens.get(states.len()).copied();
            let score = next.zip(spec.prompt_logprobs).filter(|_| told).map(|(next, count)| score_of(now, next, count));
            if logits.is_some() || score.is_some() {
                outcome.prompt.push((logits, score));
            }
        }
        let full = tokens.len() - spec.prompt.len() == spec.max_tokens as usize;
        let last =
            if matches!(spec.capture, Capture::Last | Capture::All) { tokens.len() } else { (tokens.len() - 1).max(1) };
        if full && (generates || states.len() == last) {
            outcome.end = Some(Finish::Length);
            return outcome;
        }
    }
}

/// The page memory of one stage.
pub(super) struct Model {
    cells: Vec<u64>,
    /// Recurrent states.
    slots: Vec<u64>,
    /// Pages of layers with a window.
    window_cells: Vec<u64>,
    windows: WindowPages,
    page_rows: usize,
    two_forms: bool,
    fails: bool,
    /// Sequence, epoch and tokens of each slot that a sequence with rules was admitted to.
    histories: BTreeMap<u32, (u64, u32, Vec<u32>)>,
}

impl Model {
    pub(super) fn new(spec: &PoolSpec, fails: bool) -> Self {
        let cells = vec![POISON; (spec.pages * spec.page_rows) as usize];
        let (page_rows, two_forms) = (spec.page_rows as usize, spec.two_forms);
        let slots = vec![POISON; (spec.states.running + spec.states.snapshots) as usize];
        let (windows, window_cells) = (spec.windows, vec![POISON; (spec.windows.pages * spec.page_rows) as usize]);
        Self { cells, slots, window_cells, windows, page_rows, two_forms, fails, histories: BTreeMap::new() }
    }

    /// Overwrites a page that belongs to nobody.
    pub(super) fn poison(&mut self, page: u32) {
        let first = page as usize * self.page_rows;
        self.cells[first..first + self.page_rows].fill(POISON);
    }

    /// Overwrites a page of layers with a window that belongs to nobody.
    pub(super) fn poison_window(&mut self, page: u32) {
        let first = page as usize * self.page_rows;
        self.window_cells[first..first + self.page_rows].fill(POISON);
    }

    /// How many slots of recurrent state there are.
    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Overwrites a slot of recurrent state that belongs to nobody.
    pub(super) fn poison_slot(&mut self, slot: u32) {
        self.slots[slot as usize] = POISON;
    }

    /// Runs a step.
    pub(super) fn run(&mut self, ticket: &Ticket, ids: &[u32]) -> Samples {
        let mut states = vec![0; ids.len()];
        // Nothing of what a step writes is read in it.
        let before = self.slots.clone();
        for (number, span) in ticket.step.spans.iter().enumerate() {
            let place = ticket.step.states.get(number);
            let mut recurrent = place.map(|place| place.from.map_or(0, |slot| before[slot as usize]));
            let table = ticket.step.pages_of(span);
            // Pages that this step begins were somebody else's.
            for &page in &table[(span.start as usize).div_ceil(self.page_rows)..] {
                self.poison(page);
            }
            let windowed = if self.windows.pages > 0 { ticket.step.windows_of(span) } else { &[] };
            let begun = windowed.get((span.start as usize).div_ceil(self.page_rows)..).unwrap_or_default();
            begun.iter().for_each(|&page| self.poison_window(page));
            let cell = |position: usize| {
                table[position / self.page_rows] as usize * self.page_rows + position % self.page_rows
            };
            let page_rows = self.page_rows;
            let window_cell =
                |position: usize| windowed[position / page_rows] as usize * page_rows + position % page_rows;
            for at in 0..span.rows {
                let (row, position) = ((span.first_row + at) as usize, (span.start + at) as usize);
                let seen = seen(ids[row], self.two_forms && at >= span.prompt_rows());
                recurrent = recurrent.map(|before| mix(before, seen));
                let window = window_start(self.windows, position)..position;
                let window = window.map(|before| self.window_cells[window_cell(before)]);
                let before = (0..position).map(|before| self.cells[cell(before)]).chain(window);
                states[row] = state(before, seen, recurrent);
                for snapshot in place.iter().flat_map(|place| ticket.step.snapshots_of(place)) {
                    if snapshot.end as usize == position + 1 {
                        self.slots[snapshot.slot as usize] = recurrent.expect("it has a state");
                    }
                }
                self.cells[cell(position)] = states[row];
                if self.windows.pages > 0 {
                    self.window_cells[window_cell(position)] = states[row];
                }
            }
            if let (Some(place), Some(recurrent)) = (place, recurrent) {
                self.slots[place.to as usize] = recurrent;
            }
        }
        self.sample(ticket, &states)
    }

    fn sample(&mut self, ticket: &Ticket, states: &[u64]) -> Samples {
        for admission in &ticket.admissions {
            let history = (admission.sequence, admission.epoch, admission.tokens.to_vec());
            self.histories.insert(admission.slot, history);
        }
        let mut samples = Samples { step: ticket.step.id, ..Samples::default() };
        for (&row, draw) in ticket.step.sampled.iter().zip(&ticket.draws) {
            let state = states[row as usize];
            let finite = is_finite(state, self.fails);
            let logits = draw.capture.then_some(samples.logits.len() as u32);
            if draw.capture {
                samples.logits.extend(logits_of(state));
            }
            let mut token = draw.sampling.filter(|_| finite).map(|_| token_of(state));
            if let Some(token) = token.as_mut().filter(|_| draw.ruled) {
                let (sequence, epoch, tokens) = self.histories.get_mut(&draw.slot).expect("it was admitted");
                assert_eq!((*sequence, *epoch), (draw.sequence, draw.epoch));
                *token = ruled_token_of(state, tokens);
                tokens.push(*token);
            }
            let scored = token.or(draw.next).filter(|_| finite);
            let score = scored.zip(draw.logprobs).map(|(token, count)| {
                let (logprob, top) = score_of(state, token, count);
                let first = samples.top.len() as u32;
                samples.top.extend(top);
                Score { token, logprob, rank: 1, first, count }
            });
            samples.tokens.push(Token {
                sequence: draw.sequence,
                epoch: draw.epoch,
                slot: draw.slot,
                position: draw.position,
                token,
                fault: (!finite).then_some(RowFault::NonFinite),
                score,
                logits,
            });
        }
        samples
    }
}
