//! What every kind of memory that a sequence leaves behind answers for, beside the pages that name its prefixes.
//!
//! The pool's pages are what a prefix is known by: a page in the index stands for its rows and all rows before them, whether or not a
//! layer keeps keys and values there. Any other kind of memory hangs on to that: it says behind which of a prefix's pages a sequence
//! could go on, takes what a sequence left behind a page when the page is published, and gives it up with the page.

/// A kind of memory beside full pages.
pub(crate) trait Kind {
    /// What one running sequence holds.
    type Held: Default;

    /// A new step begins: what the step before still read can be had from now on.
    fn turn(&mut self);

    /// Behind how many of the pages of `prefix`, at most all, a sequence can go on.
    fn resumable(&self, prefix: &[u32]) -> usize;

    /// Starts a sequence behind the pages of `prefix`, of which [`Kind::resumable`] said that it can go on there.
    fn begin(&mut self, prefix: &[u32]) -> Self::Held;

    /// The page at `place` of a sequence is in the index as `page`: what the sequence left behind it can be found from now on.
    fn publish(&mut self, held: &mut Self::Held, place: usize, page: u32);

    /// A page is no longer in the index.
    fn unpublish(&mut self, page: u32);

    /// Ends a sequence.
    fn release(&mut self, held: Self::Held);

    /// Memory is lost: nothing is found any more.
    fn forget(&mut self);

    /// Places that running sequences hold.
    fn used(&self) -> u32;

    /// Places that nobody holds, those that could still be found among them.
    fn available(&self) -> u32;
}
