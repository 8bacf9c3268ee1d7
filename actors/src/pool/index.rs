//! Finds a full page by what made it: weights version, parent page, the exact tokens of its rows and which of them are prompt rows.
//!
//! A hash picks the bucket, never the page: the whole key is compared on every hit, so that two prompts whose hashes meet
//! still cannot see each other's rows.

use std::hash::{DefaultHasher, Hash, Hasher};

/// What a full page is a function of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key<'a> {
    /// Which weights computed the rows.
    pub(crate) weights_version: u64,
    /// The page before it in its sequence, itself in the index; `None` for the first page.
    pub(crate) parent: Option<u32>,
    /// How many of its rows, from the first on, are prompt rows; the same for all pages where ops have one form.
    pub(crate) prompt_rows: u32,
    /// The tokens of its rows, exactly a page of them.
    pub(crate) tokens: &'a [u32],
}

impl Key<'_> {
    /// `DefaultHasher::new` has fixed keys, so buckets are the same in every run.
    fn hash_bits(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// The key of each page in the index, and the chains that find them. Sized once; never allocates afterwards.
#[derive(Debug)]
pub(crate) struct Index {
    page_rows: usize,
    buckets: Vec<Option<u32>>,
    /// One a page; `None` while the page is not in the index.
    entries: Vec<Option<Entry>>,
    /// The tokens of every page, `page_rows` each.
    tokens: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    weights_version: u64,
    parent: Option<u32>,
    prompt_rows: u32,
    bucket: u32,
    next: Option<u32>,
}

impl Index {
    /// An empty index for pages `0..pages` of `page_rows` rows.
    pub(crate) fn new(pages: u32, page_rows: u32) -> Self {
        Self {
            page_rows: page_rows as usize,
            buckets: vec![None; (pages as usize).next_power_of_two()],
            entries: vec![None; pages as usize],
            tokens: vec![0; pages as usize * page_rows as usize],
        }
    }

    /// The page that holds these rows, if one does.
    pub(crate) fn find(&self, key: &Key) -> Option<u32> {
        let mut next = self.buckets[self.bucket(key) as usize];
        while let Some(page) = next {
            let entry = self.entry(page);
            if self.key(page, &entry) == *key {
                return Some(page);
            }
            next = entry.next;
        }
        None
    }

    /// Files a page that is not in the index under a key that is not in the index.
    pub(crate) fn insert(&mut self, page: u32, key: &Key) {
        let bucket = self.bucket(key);
        let next = self.buckets[bucket as usize].replace(page);
        let &Key { weights_version, parent, prompt_rows, tokens } = key;
        self.entries[page as usize] = Some(Entry { weights_version, parent, prompt_rows, bucket, next });
        let first = page as usize * self.page_rows;
        self.tokens[first..first + self.page_rows].copy_from_slice(tokens);
    }

    /// Takes a page out of the index.
    pub(crate) fn remove(&mut self, page: u32) {
        let removed = self.entry(page);
        self.entries[page as usize] = None;
        let mut at = self.buckets[removed.bucket as usize];
        if at == Some(page) {
            self.buckets[removed.bucket as usize] = removed.next;
            return;
        }
        while let Some(before) = at {
            let entry = self.entries[before as usize].as_mut().expect("a chain links only indexed pages");
            if entry.next == Some(page) {
                entry.next = removed.next;
                return;
            }
            at = entry.next;
        }
    }

    /// Whether a page is in the index.
    pub(crate) fn contains(&self, page: u32) -> bool {
        self.entries[page as usize].is_some()
    }

    /// The parent of a page in the index.
    #[cfg(test)]
    pub(crate) fn parent(&self, page: u32) -> Option<u32> {
        self.entry(page).parent
    }

    fn entry(&self, page: u32) -> Entry {
        self.entries[page as usize].expect("only indexed pages are looked at")
    }

    fn key(&self, page: u32, entry: &Entry) -> Key<'_> {
        let first = page as usize * self.page_rows;
        Key {
            weights_version: entry.weights_version,
            parent: entry.parent,
            prompt_rows: entry.prompt_rows,
            tokens: &self.tokens[first..first + self.page_rows],
        }
    }

    fn bucket(&self, key: &Key) -> u32 {
        (key.hash_bits() as usize & (self.buckets.len() - 1)) as u32
    }
}
