//! Deals the rows of sequences to steps, for tests of recurrent ops: in chunks, side by side, and again from a snapshot.

use crate::step::{Snapshot, Span, SpanState, Step};

/// How rows are dealt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deals {
    /// Rows of a sequence in one step; generated rows come one at a time.
    chunk: usize,
    /// Rows of a sequence that are its prompt; all of them where there are fewer.
    prompt: usize,
    /// Whether each sequence is thrown away behind its prompt's last snapshot and goes on from there.
    again: bool,
}

impl Deals {
    /// Everything in one step.
    pub(crate) fn whole() -> Self {
        Self { chunk: usize::MAX, prompt: usize::MAX, again: false }
    }

    /// The same with a prompt of this many rows.
    pub(crate) fn prompt(self, prompt: usize) -> Self {
        Self { prompt, ..self }
    }

    /// Several chunk lengths, with and without going back to a snapshot.
    pub(crate) fn many() -> impl Iterator<Item = Self> {
        let chunks = [1, 5, 16, 23, usize::MAX];
        chunks.into_iter().flat_map(|chunk| [false, true].map(|again| Self { chunk, again, ..Self::whole() }))
    }
}

/// A sequence on its way.
struct Sequence {
    rows: usize,
    done: usize,
    /// The slot with its state.
    at: Option<u32>,
    /// Its last snapshot: rows and slot.
    snapshot: Option<(usize, u32)>,
    is_again: bool,
}

/// Deals until all rows are dealt.
pub(crate) struct Dealer {
    deals: Deals,
    sequences: Vec<Sequence>,
    free: Vec<u32>,
    slots: usize,
}

/// A sequence's number and which of its rows a step has.
pub(crate) type Member = (usize, usize, usize);

/// Takes the results of a step's members, `width` elements a row, to those of their sequences.
pub(crate) fn collect(results: &mut [Vec<f32>], members: &[Member], mut y: &[f32], width: usize) {
    for &(number, from, to) in members {
        let (own, rest) = y.split_at((to - from) * width);
        results[number].truncate(from * width);
        results[number].extend_from_slice(own);
        y = rest;
    }
}

impl Dealer {
    /// Sequences of these lengths.
    pub(crate) fn new(rows: &[usize], deals: Deals) -> Self {
        let new = |&rows: &usize| Sequence { rows, done: 0, at: None, snapshot: None, is_again: !deals.again };
        let wanted: usize = rows.iter().map(|rows| rows.div_ceil(16) + 4).sum();
        let slots = wanted + usize::from(wanted.is_multiple_of(7));
        // Numbers far apart first, so that neighbours in a step are none in memory.
        let free = (0..slots as u32).map(|slot| slot * 7 % slots as u32).collect::<Vec<_>>();
        Self { deals, sequences: rows.iter().map(new).collect(), free, slots }
    }

    /// Slots it may name.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// The next step and its members. Rows may be dealt again; what comes last counts.
    pub(crate) fn next(&mut self) -> Option<(Step, Vec<Member>)> {
        let (mut step, mut members, mut given_back) = (Step::default(), vec![], vec![]);
        for number in 0..self.sequences.len() {
            let prompt = self.deals.prompt;
            let sequence = &mut self.sequences[number];
            if sequence.done == sequence.rows {
                continue;
            }
            let start = sequence.done;
            let chunk = if start >= prompt { 1 } else { self.deals.chunk };
            let end = sequence.rows.min(start.saturating_add(chunk));
            let first_snapshot = step.snapshots.len() as u32;
            for end in (start + 1..=end.min(prompt)).filter(|end| end.is_multiple_of(16)) {
                let slot = self.free.remove(0);
                step.snapshots.push(Snapshot { end: end as u32, slot });
                given_back.extend(sequence.snapshot.replace((end, slot)).map(|(_, slot)| slot));
            }
            let to = self.free.remove(0);
            let snapshots = step.snapshots.len() as u32 - first_snapshot;
            step.states.push(SpanState { from: sequence.at, to, first_snapshot, snapshots });
            given_back.extend(sequence.at.replace(to));
            let rows = (end - start) as u32;
            let (prompt, first_row) = (prompt.min(1 << 20) as u32, step.rows);
            step.spans.push(Span { first_row, rows, start: start as u32, prompt, ..Span::default() });
            step.rows += rows;
            members.push((number, start, end));
            sequence.done = end;
            if !sequence.is_again && end >= self.deals.prompt.min(sequence.rows) {
                sequence.is_again = true;
                if let Some((rows, slot)) = sequence.snapshot.take() {
                    given_back.extend(sequence.at.replace(slot));
                    sequence.done = rows;
                }
            }
        }
        self.free.extend(given_back);
        (step.rows > 0).then_some((step, members))
    }
}
