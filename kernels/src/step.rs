//! One step as the kernels see it: which rows, at which positions, over which pages.

/// A run of consecutive rows of one sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// The first row of the step that belongs to it.
    pub first_row: u32,
    /// How many rows.
    pub rows: u32,
    /// The position of its first row in the sequence.
    pub start: u32,
    /// Tokens of the sequence's prompt. Rows at positions below it are prompt rows, the others are generated rows, those that are
    /// computed again after a preemption as well. An op with two forms chooses by this and by nothing else.
    pub prompt: u32,
    /// Where its page table begins in [`Step::pages`].
    pub first_page: u32,
    /// Pages of its table: enough for `start + rows` positions.
    pub pages: u32,
}

/// Where what recurrent ops leave behind of a span's sequence lies, in slots of the state memory. A slot that a step writes is read by
/// no span of the same step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpanState {
    /// The slot with the state at the span's first row; `None` at position 0, where there is none yet.
    pub from: Option<u32>,
    /// The slot that gets the state behind the span's last row.
    pub to: u32,
    /// Where its snapshots begin in [`Step::snapshots`].
    pub first_snapshot: u32,
    /// How many there are.
    pub snapshots: u32,
}

/// A state that is kept beside the one that the sequence goes on with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// Behind this many rows of the sequence: a page border in the span, not beyond the prompt.
    pub end: u32,
    /// The slot that gets it.
    pub slot: u32,
}

impl Span {
    /// How many of its rows are prompt rows; they come first.
    pub fn prompt_rows(&self) -> u32 {
        self.prompt.saturating_sub(self.start).min(self.rows)
    }
}

/// In a page table for layers with a window: the page is behind the window and holds nothing.
pub const GONE: u32 = u32::MAX;

/// The shape of one step. All lengths have bounds fixed by the plan, so that a `Step` is filled again and again without
/// allocation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// Number of the step; consecutive.
    pub id: u64,
    /// Tokens of the step, packed.
    pub rows: u32,
    /// Sequences of the step, in the order of their rows; together they cover `0..rows` once.
    pub spans: Vec<Span>,
    /// Page tables, one after the other: page numbers of the pool.
    pub pages: Vec<u32>,
    /// Where layers with a window have pages of their own: the same tables with the numbers of those, [`GONE`] behind the window.
    pub windows: Vec<u32>,
    /// Rows that will be sampled, ascending.
    pub sampled: Vec<u32>,
    /// One a span where the model has recurrent ops, else none.
    pub states: Vec<SpanState>,
    /// Snapshots of all spans, in their order, and of each by ascending ends.
    pub snapshots: Vec<Snapshot>,
}

impl Step {
    /// An empty step with room for the largest one.
    pub fn with_capacity(spans: usize, pages: usize, sampled: usize) -> Self {
        Self {
            id: 0,
            rows: 0,
            spans: Vec::with_capacity(spans),
            pages: Vec::with_capacity(pages),
            sampled: Vec::with_capacity(sampled),
            windows: Vec::new(),
            states: Vec::new(),
            snapshots: Vec::new(),
        }
    }

    /// The same with room for the tables of layers with a window.
    pub fn with_windows(mut self) -> Self {
        self.windows.reserve_exact(self.pages.capacity());
        self
    }

    /// The same with room for the states of all spans and for this many snapshots.
    pub fn with_states(mut self, snapshots: usize) -> Self {
        self.states.reserve_exact(self.spans.capacity());
        self.snapshots.reserve_exact(snapshots);
        self
    }

    /// Empties it, keeping the room.
    pub fn clear(&mut self) {
        self.rows = 0;
        self.spans.clear();
        self.pages.clear();
        self.windows.clear();
        self.sampled.clear();
        self.states.clear();
        self.snapshots.clear();
    }

    /// The page table of a span for layers with a window.
    pub fn windows_of(&self, span: &Span) -> &[u32] {
        &self.windows[span.first_page as usize..(span.first_page + span.pages) as usize]
    }

    /// The snapshots of a span.
    pub fn snapshots_of(&self, state: &SpanState) -> &[Snapshot] {
        &self.snapshots[state.first_snapshot as usize..(state.first_snapshot + state.snapshots) as usize]
    }

    /// The page table of a span.
    pub fn pages_of(&self, span: &Span) -> &[u32] {
        &self.pages[span.first_page as usize..(span.first_page + span.pages) as usize]
    }
}
