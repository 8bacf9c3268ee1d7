//! Pages of layers whose queries read a window of their past: what lies behind the window is given up while a sequence runs.
//!
//! A sequence holds the pages that its next row sees, and those that its last step filled. A page that fell behind the window becomes
//! free once the step that read it last is written; if its rows are not yet known to be written it waits for that, so that it can be
//! found again by its prefix. Running sequences and the steps in flight never need more pages than there are (the plan counts them), so
//! nothing is reserved and nobody waits; what they do not need keeps the windows of earlier prompts, the one unused for longest going first.

use super::kind::Kind;
use super::recency::Recency;
use graph::plan::WindowPages;
use kernels::GONE;
use std::ops::Range;

/// The pages of one running sequence.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Held {
    /// By place; [`GONE`] behind the window.
    table: Vec<u32>,
    /// Places below this one are gone.
    first: usize,
    /// Rows at places below this one are known to be written.
    written: usize,
    /// Pages behind the window whose rows are not yet known to be written: place and page.
    pending: Vec<(usize, u32)>,
}

/// Hands out pages and keeps the windows of prompts while there is room.
#[derive(Debug)]
pub(crate) struct Windows {
    spec: WindowPages,
    page_rows: u32,
    /// Whether windows are kept for later sequences.
    keeps: bool,
    /// How many sequences hold each page.
    references: Vec<u32>,
    /// Pages that hold nothing.
    free: Vec<u32>,
    /// Pages that the present step sees last.
    resting: Vec<u32>,
    /// The page of the prefix that each page hangs on.
    prefix_of: Vec<Option<u32>>,
    /// The page of windows that hangs on each page of a prefix.
    of_page: Vec<Option<u32>>,
    /// Pages that nobody holds and that can be found.
    cached: Recency,
    /// Emptied tables, to be used again.
    spare: Vec<Held>,
}

impl Windows {
    /// Pages that are all free, for a pool of `pages` pages of `page_rows` rows.
    pub(crate) fn new(spec: WindowPages, pages: u32, page_rows: u32, keeps: bool) -> Self {
        Self {
            spec,
            page_rows,
            keeps,
            references: vec![0; spec.pages as usize],
            free: (0..spec.pages).rev().collect(),
            resting: Vec::with_capacity(spec.pages as usize),
            prefix_of: vec![None; spec.pages as usize],
            of_page: vec![None; pages as usize],
            cached: Recency::new(spec.pages),
            spare: Vec::new(),
        }
    }

    /// The first place that a row at `position` sees.
    fn first_seen(&self, position: u32) -> usize {
        ((position + 1).saturating_sub(self.spec.window) / self.page_rows) as usize
    }

    /// Appends the page table of a sequence whose rows at `rows` are in the present step to `table`, then gives up what no later row sees.
    pub(crate) fn advance(&mut self, held: &mut Held, rows: Range<u32>, table: &mut Vec<u32>) {
        while held.table.len() < rows.end.div_ceil(self.page_rows) as usize {
            let page = self.take().expect("the plan counts the pages that sequences can need");
            self.references[page as usize] = 1;
            held.table.push(page);
        }
        table.extend_from_slice(&held.table);
        for place in held.first..self.first_seen(rows.end).min(held.table.len()) {
            let page = std::mem::replace(&mut held.table[place], GONE);
            held.first = place + 1;
            if self.keeps && place >= held.written {
                held.pending.push((place, page));
            } else {
                self.resting.push(page);
            }
        }
    }

    fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let page = self.cached.pop()?;
            self.detach(page);
            Some(page)
        })
    }

    fn detach(&mut self, page: u32) {
        if let Some(prefix) = self.prefix_of[page as usize].take() {
            self.of_page[prefix as usize] = None;
        }
    }

    fn reference(&mut self, page: u32) {
        let references = &mut self.references[page as usize];
        if *references == 0 {
            self.cached.remove(page);
        }
        *references += 1;
    }

    fn dereference(&mut self, page: u32) {
        self.references[page as usize] -= 1;
        if self.references[page as usize] > 0 {
            return;
        }
        match self.prefix_of[page as usize] {
            Some(_) => self.cached.push(page),
            None => self.free.push(page),
        }
    }

    /// Whether a page holds nothing and belongs to nobody.
    #[cfg(test)]
    pub(crate) fn is_free(&self, page: u32) -> bool {
        self.free.contains(&page)
    }
}

impl Kind for Windows {
    type Held = Held;

    fn turn(&mut self) {
        while let Some(page) = self.resting.pop() {
            self.dereference(page);
        }
    }

    fn resumable(&self, prefix: &[u32]) -> usize {
        // How many pages before each border are there, without a gap.
        let (mut run, mut found) = (0, 0);
        for (place, &page) in prefix.iter().enumerate() {
            run = if self.of_page[page as usize].is_some() { run + 1 } else { 0 };
            let border = (place as u32 + 1) * self.page_rows;
            if place + 1 - run <= self.first_seen(border) {
                found = place + 1;
            }
        }
        found
    }

    fn begin(&mut self, prefix: &[u32]) -> Held {
        let mut held = self.spare.pop().unwrap_or_default();
        held.first = self.first_seen(prefix.len() as u32 * self.page_rows).min(prefix.len());
        held.written = prefix.len();
        held.table.resize(held.first, GONE);
        for &page in &prefix[held.first..] {
            let page = self.of_page[page as usize].expect("the prefix was found resumable");
            self.reference(page);
            held.table.push(page);
        }
        held
    }

    fn publish(&mut self, held: &mut Held, place: usize, page: u32) {
        held.written = place + 1;
        let behind = held.pending.iter().position(|&(pending, _)| pending == place);
        let own = match behind {
            Some(at) => held.pending.swap_remove(at).1,
            None => held.table.get(place).copied().unwrap_or(GONE),
        };
        // Where another sequence was first, the two are equal.
        if own != GONE && self.prefix_of[own as usize].is_none() && self.of_page[page as usize].is_none() {
            self.prefix_of[own as usize] = Some(page);
            self.of_page[page as usize] = Some(own);
        }
        if behind.is_some() {
            self.dereference(own);
        }
    }

    fn unpublish(&mut self, page: u32) {
        let Some(own) = self.of_page[page as usize] else { return };
        self.detach(own);
        if self.references[own as usize] == 0 {
            self.cached.remove(own);
            self.free.push(own);
        }
    }

    fn release(&mut self, mut held: Held) {
        // From the end, so that a page is given up before the pages that a window has it with.
        while let Some(page) = held.table.pop() {
            if page != GONE {
                self.dereference(page);
            }
        }
        while let Some((_, page)) = held.pending.pop() {
            self.dereference(page);
        }
        (held.first, held.written) = (0, 0);
        self.spare.push(held);
    }

    fn forget(&mut self) {
        self.turn();
        while let Some(page) = self.cached.pop() {
            self.detach(page);
            self.free.push(page);
        }
    }

    fn used(&self) -> u32 {
        self.spec.pages - self.available()
    }

    fn available(&self) -> u32 {
        (self.free.len() + self.resting_alone()) as u32 + self.cached.len()
    }
}

impl Windows {
    /// Pages that are had again when the next step begins.
    fn resting_alone(&self) -> usize {
        let times = |page: u32| self.resting.iter().filter(|&&other| other == page).count() as u32;
        let is_first = |at: usize, page: u32| !self.resting[..at].contains(&page);
        let alone = |&(at, &page): &(usize, &u32)| is_first(at, page) && self.references[page as usize] == times(page);
        self.resting.iter().enumerate().filter(alone).count()
    }
}
