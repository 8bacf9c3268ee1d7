//! The order in which unreferenced cached pages are given up: a doubly linked list through arrays indexed by page.
//!
//! Every page is in the list at most once. It knows nothing of what a page holds.

/// A list of pages, the longest unused first. All operations but [`Recency::iter`] take constant time and never allocate.
#[derive(Debug)]
pub(crate) struct Recency {
    /// Neighbours of each page; a page that is not in the list has none.
    links: Vec<Link>,
    oldest: Option<u32>,
    newest: Option<u32>,
    len: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    older: Option<u32>,
    newer: Option<u32>,
}

impl Recency {
    /// An empty list with room for `pages` pages.
    pub(crate) fn new(pages: u32) -> Self {
        Self { links: vec![Link::default(); pages as usize], oldest: None, newest: None, len: 0 }
    }

    /// How many pages are in the list.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Appends a page that is not in the list as the one used last.
    pub(crate) fn push(&mut self, page: u32) {
        self.links[page as usize] = Link { older: self.newest, newer: None };
        match self.newest {
            Some(newest) => self.links[newest as usize].newer = Some(page),
            None => self.oldest = Some(page),
        }
        self.newest = Some(page);
        self.len += 1;
    }

    /// Takes out a page that is in the list.
    pub(crate) fn remove(&mut self, page: u32) {
        let Link { older, newer } = std::mem::take(&mut self.links[page as usize]);
        match older {
            Some(older) => self.links[older as usize].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.links[newer as usize].older = older,
            None => self.newest = older,
        }
        self.len -= 1;
    }

    /// The page unused for longest.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.oldest
    }

    /// Takes out the page unused for longest.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let page = self.oldest?;
        self.remove(page);
        Some(page)
    }

    /// The pages, the longest unused first.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(self.oldest, |&page| self.links[page as usize].newer)
    }
}
