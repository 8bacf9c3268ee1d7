//! The pages of the key-value cache of one device group, as numbers; every stage owns the memory behind them.
//!
//! A sequence holds a [`Lease`]: a page table whose first pages are full, immutable and shared by prefix, and whose other
//! pages have this one owner. A full page is found again by (weights version, parent page, exact tokens) and, where the model has ops
//! with two forms, by how many of its rows are prompt rows. A page that nobody
//! references but that can be found stays cached until room is needed; the one unused for longest goes first, and because a
//! lease gives its pages back from its end, a page always goes before the page it continues.
//!
//! Invariants: `free + cached + used == capacity` at all times, and `used == 0` once every lease is released. A page that a
//! lease gives back may be handed out at once, although steps that write it may still be on their way: stages run steps in
//! order, so what the next owner writes and reads comes after all that.
//!
//! It knows nothing of requests, steps or memory.

mod index;
mod kind;
mod recency;
mod slots;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;
mod windows;

use graph::plan::{StateSlots, WindowPages};
use index::{Index, Key};
use kind::Kind;
use recency::Recency;
use slots::Slots;
use std::ops::Range;
use windows::Windows;

/// A prompt leaves a snapshot of its recurrent state behind every so many pages, beside those at its end and where prompts part.
const SNAPSHOT_PAGES: u32 = 16;

/// What a pool is built from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolSpec {
    /// How many pages there are; their numbers are `0..pages`.
    pub pages: u32,
    /// Rows of a page, [`graph::plan::PAGE_ROWS`].
    pub page_rows: u32,
    /// Whether full pages are shared by prefix and kept for later sequences.
    pub prefix_caching: bool,
    /// Whether the model has ops that compute a generated row in another form than a prompt row: then a page of generated rows is
    /// never found as a page of a prompt.
    pub two_forms: bool,
    /// Slots of recurrent state; none where the model has no ops that recur.
    pub states: StateSlots,
    /// Pages of layers with a window; none where they use the others.
    pub windows: WindowPages,
    /// Which weights compute the rows. Pages of other weights are never found.
    pub weights_version: u64,
}

impl PoolSpec {
    /// Pages that hold `rows` rows.
    pub fn pages_of(&self, rows: u32) -> u32 {
        rows.div_ceil(self.page_rows)
    }

    /// How many rows of the page at `place` are prompt rows of a sequence with `prompt` of them, as far as that tells pages apart.
    fn prompt_rows(&self, place: usize, prompt: u32) -> u32 {
        if !self.two_forms {
            return self.page_rows;
        }
        prompt.saturating_sub(place as u32 * self.page_rows).min(self.page_rows)
    }

    /// Rows that fit all pages together.
    pub fn rows(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.page_rows)
    }
}

/// There are fewer pages than asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the pool is spent: {wanted} more pages wanted, {available} of {capacity} free or given up on demand")]
pub struct Spent {
    /// Pages wanted.
    pub wanted: u32,
    /// Pages that could have been had.
    pub available: u32,
    /// Pages of the pool.
    pub capacity: u32,
}

/// The pages of one sequence.
///
/// It has one owner: it is not `Clone`, and [`Pool::release`] consumes it.
/// ```compile_fail
/// fn copied(lease: &actors::pool::Lease) -> actors::pool::Lease {
///     lease.clone()
/// }
/// ```
#[must_use = "the pages are lost to the pool unless the lease is released"]
#[derive(PartialEq, Eq, Debug)]
pub struct Lease {
    pages: Vec<u32>,
    /// How many of the first pages are full and shared.
    shared: usize,
    cached_rows: u32,
    prompt: u32,
    weights_version: u64,
    /// How many pages are known of its prompt, even if no state was kept there: where prompts part.
    known_pages: u32,
    /// Its recurrent state.
    state: slots::Held,
    /// Its pages of layers with a window.
    window: windows::Held,
}

impl Lease {
    /// The page table, from the sequence's first row on.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Rows that were found in the cache when the lease began: a multiple of the page size. They need no computing.
    pub fn cached_rows(&self) -> u32 {
        self.cached_rows
    }
}

/// Hands out pages, shares full ones and keeps them while there is room.
#[derive(Debug)]
pub struct Pool {
    spec: PoolSpec,
    /// How many leases hold each page.
    references: Vec<u32>,
    /// Pages that hold nothing.
    free: Vec<u32>,
    /// Pages that nobody references and that can still be found.
    cached: Recency,
    index: Index,
    /// Recurrent states, if the model has any.
    slots: Option<Slots>,
    /// Pages of layers with a window, if they have their own.
    windows: Option<Windows>,
    /// Emptied page tables, to be used again.
    spare_tables: Vec<Vec<u32>>,
}

impl Pool {
    /// A pool whose pages are all free.
    pub fn new(spec: PoolSpec) -> Self {
        Self {
            spec,
            references: vec![0; spec.pages as usize],
            // Taken from the end: low numbers first.
            free: (0..spec.pages).rev().collect(),
            cached: Recency::new(spec.pages),
            index: Index::new(spec.pages, spec.page_rows),
            slots: (spec.states.running > 0).then(|| Slots::new(spec.states, spec.pages)),
            windows: (spec.windows.pages > 0)
                .then(|| Windows::new(spec.windows, spec.pages, spec.page_rows, spec.prefix_caching)),
            spare_tables: Vec::new(),
        }
    }

    /// What it was built from.
    pub fn spec(&self) -> &PoolSpec {
        &self.spec
    }

    /// Starts a sequence whose first `prompt` rows are its prompt with the longest cached prefix of `tokens`, at most all but the
    /// last of them: that one's row is always computed, since its logits are needed. The table has room for `rows_max` rows
    /// without growing.
    pub fn begin(&mut self, tokens: &[u32], prompt: u32, rows_max: u32) -> Lease {
        let mut pages = self.spare_tables.pop().unwrap_or_default();
        pages.reserve(self.spec.pages_of(rows_max) as usize);
        let weights_version = self.spec.weights_version;
        let mut lease = Lease {
            pages,
            shared: 0,
            cached_rows: 0,
            prompt,
            weights_version,
            known_pages: 0,
            state: slots::Held::default(),
            window: windows::Held::default(),
        };
        if self.spec.prefix_caching {
            self.find_prefix(&mut lease, tokens);
        }
        if let Some(slots) = &mut self.slots {
            lease.state = slots.begin(&lease.pages);
        }
        if let Some(windows) = &mut self.windows {
            lease.window = windows.begin(&lease.pages);
        }
        lease.shared = lease.pages.len();
        lease.cached_rows = lease.shared as u32 * self.spec.page_rows;
        lease
    }

    /// References the pages of the longest cached prefix behind which the sequence can go on.
    fn find_prefix(&mut self, lease: &mut Lease, tokens: &[u32]) {
        let lookup = &tokens[..tokens.len().saturating_sub(1)];
        for (place, page_tokens) in lookup.chunks_exact(self.spec.page_rows as usize).enumerate() {
            let key = Key {
                weights_version: lease.weights_version,
                parent: lease.pages.last().copied(),
                prompt_rows: self.spec.prompt_rows(place, lease.prompt),
                tokens: page_tokens,
            };
            let Some(page) = self.index.find(&key) else { break };
            self.reference(page);
            lease.pages.push(page);
        }
        lease.known_pages = lease.pages.len() as u32;
        let resumable = self.resumable(&lease.pages);
        while lease.pages.len() > resumable {
            let page = lease.pages.pop().expect("there are more than are kept");
            self.dereference(page);
        }
    }

    /// Behind how many of the pages of a prefix a sequence can go on, by all kinds of memory.
    fn resumable(&self, prefix: &[u32]) -> usize {
        let mut pages = prefix.len();
        loop {
            let by_state = self.slots.as_ref().map_or(pages, |slots| slots.resumable(&prefix[..pages]));
            let agreed = self.windows.as_ref().map_or(by_state, |windows| windows.resumable(&prefix[..by_state]));
            if agreed == pages {
                return pages;
            }
            pages = agreed;
        }
    }

    /// A new step begins. What the step before read can be had again.
    pub fn turn(&mut self) {
        self.slots.iter_mut().for_each(Kind::turn);
        self.windows.iter_mut().for_each(Kind::turn);
    }

    /// Appends the page table for layers with a window of a sequence whose rows at `rows` are in the present step, if they have pages of
    /// their own.
    pub fn window_table(&mut self, lease: &mut Lease, rows: Range<u32>, table: &mut Vec<u32>) {
        if let Some(windows) = &mut self.windows {
            windows.advance(&mut lease.window, rows, table);
        }
    }

    /// Where the recurrent state of a sequence lies, if it has one yet, and where the present step puts it; `None` where the model has
    /// no state.
    pub fn advance(&mut self, lease: &mut Lease) -> Option<(Option<u32>, u32)> {
        self.slots.as_mut().map(|slots| slots.advance(&mut lease.state))
    }

    /// A slot for a snapshot of the recurrent state behind `rows` rows, which the present step computes; `None` where none is wanted
    /// there or none is to spare. It is found once the rows are said to be written.
    pub fn snapshot(&mut self, lease: &mut Lease, rows: u32) -> Option<u32> {
        let page_rows = self.spec.page_rows;
        let (pages, prompt) = (rows / page_rows, lease.prompt);
        let is_border = rows > 0 && rows.is_multiple_of(page_rows) && rows <= prompt;
        // The last border of the prompt, for what continues it, and the last one whose next row is the prompt's, for its like.
        let is_last = pages == prompt / page_rows || pages == prompt.saturating_sub(1) / page_rows;
        let is_wanted = is_last || pages == lease.known_pages || pages.is_multiple_of(SNAPSHOT_PAGES);
        if !is_border || !is_wanted || !self.spec.prefix_caching {
            return None;
        }
        self.slots.as_mut()?.snapshot(&mut lease.state, pages as usize - 1)
    }

    /// Makes the lease long enough for `rows` rows, all of it or nothing. Cached pages are given up for it.
    pub fn reserve(&mut self, lease: &mut Lease, rows: u32) -> Result<(), Spent> {
        let wanted = self.spec.pages_of(rows).saturating_sub(lease.pages.len() as u32);
        let available = self.available();
        if wanted > available {
            return Err(Spent { wanted, available, capacity: self.spec.pages });
        }
        for _ in 0..wanted {
            let page = self.take().expect("there are as many as counted above");
            self.references[page as usize] = 1;
            lease.pages.push(page);
        }
        Ok(())
    }

    /// Says that the rows of `tokens`, the sequence's first ones, are written. Pages that are now full become shared; where
    /// another sequence has already published the same page, the lease goes over to that one and frees its own.
    pub fn written(&mut self, lease: &mut Lease, tokens: &[u32]) {
        if !self.spec.prefix_caching {
            return;
        }
        let page_rows = self.spec.page_rows as usize;
        for place in lease.shared..tokens.len() / page_rows {
            let parent = place.checked_sub(1).map(|before| lease.pages[before]);
            let page_tokens = &tokens[place * page_rows..(place + 1) * page_rows];
            let prompt_rows = self.spec.prompt_rows(place, lease.prompt);
            let key = Key { weights_version: lease.weights_version, parent, prompt_rows, tokens: page_tokens };
            let own = lease.pages[place];
            match self.index.find(&key) {
                Some(published) => {
                    self.reference(published);
                    lease.pages[place] = published;
                    self.dereference(own);
                }
                None => self.index.insert(own, &key),
            }
            if let Some(slots) = &mut self.slots {
                slots.publish(&mut lease.state, place, lease.pages[place]);
            }
            if let Some(windows) = &mut self.windows {
                windows.publish(&mut lease.window, place, lease.pages[place]);
            }
            lease.shared = place + 1;
        }
    }

    /// Ends a sequence: every page it alone held is free, or cached if it can be found again.
    pub fn release(&mut self, lease: Lease) {
        if let Some(slots) = &mut self.slots {
            slots.release(lease.state);
        }
        if let Some(windows) = &mut self.windows {
            windows.release(lease.window);
        }
        let mut pages = lease.pages;
        // From the end, so that a page is given up before the page it continues.
        while let Some(page) = pages.pop() {
            self.dereference(page);
        }
        self.spare_tables.push(pages);
    }

    /// Goes over to other weights: what is cached is no longer found, and leases that began before publish under the old ones.
    pub fn change_weights(&mut self, weights_version: u64) {
        self.spec.weights_version = weights_version;
    }

    /// Forgets what the cached pages hold, because the memory behind them is lost. Leases are to be released before.
    pub fn forget(&mut self) {
        while let Some(page) = self.cached.pop() {
            self.index.remove(page);
            self.free.push(page);
        }
        self.slots.iter_mut().for_each(Kind::forget);
        self.windows.iter_mut().for_each(Kind::forget);
    }

    /// Pages in all.
    pub fn capacity(&self) -> u32 {
        self.spec.pages
    }

    /// Pages that hold nothing.
    pub fn free(&self) -> u32 {
        self.free.len() as u32
    }

    /// Pages that nobody references but that would be found by their prefix.
    pub fn cached(&self) -> u32 {
        self.cached.len()
    }

    /// Pages that leases hold, each counted once.
    pub fn used(&self) -> u32 {
        self.capacity() - self.available()
    }

    /// Pages that a reservation could have: free ones and cached ones.
    pub fn available(&self) -> u32 {
        self.free() + self.cached()
    }

    /// Slots of recurrent state that sequences hold.
    pub fn states_used(&self) -> u32 {
        self.slots.as_ref().map_or(0, Kind::used)
    }

    /// Slots of recurrent state that nobody holds, snapshots among them.
    pub fn states_available(&self) -> u32 {
        self.slots.as_ref().map_or(0, Kind::available)
    }

    /// Pages of layers with a window that sequences hold.
    pub fn windows_used(&self) -> u32 {
        self.windows.as_ref().map_or(0, Kind::used)
    }

    /// Pages of layers with a window that nobody holds, those that could be found among them.
    pub fn windows_available(&self) -> u32 {
        self.windows.as_ref().map_or(0, Kind::available)
    }

    /// Whether a page of layers with a window holds nothing and belongs to nobody.
    #[cfg(test)]
    pub(crate) fn is_free_window(&self, page: u32) -> bool {
        self.windows.as_ref().is_some_and(|windows| windows.is_free(page))
    }

    /// Whether a page holds nothing and belongs to nobody.
    #[cfg(test)]
    pub(crate) fn is_free(&self, page: u32) -> bool {
        self.references[page as usize] == 0 && !self.index.contains(page)
    }

    /// Whether a slot of recurrent state holds nothing and belongs to nobody.
    #[cfg(test)]
    pub(crate) fn is_free_slot(&self, slot: u32) -> bool {
        self.slots.as_ref().is_some_and(|slots| slots.is_free(slot))
    }

    fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let page = self.cached.pop()?;
            self.index.remove(page);
            self.slots.iter_mut().for_each(|slots| slots.unpublish(page));
            self.windows.iter_mut().for_each(|windows| windows.unpublish(page));
            Some(page)
        })
    }

    fn reference(&mut self, page: u32) {
        let references = &mut self.references[page as usize];
        if *references == 0 {
            self.cached.remove(page);
        }
        *references += 1;
    }

    fn dereference(&mut self, page: u32) {
        let references = &mut self.references[page as usize];
        *references -= 1;
        if *references > 0 {
            return;
        }
        if self.index.contains(page) {
            self.cached.push(page);
        } else {
            self.free.push(page);
        }
    }
}
