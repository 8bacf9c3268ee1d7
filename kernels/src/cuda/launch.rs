//! A program as launches: kernels with all their parameters, whose grids follow from a step's counts.

use super::driver::{Address, DriverFault, Function, Stream};
use super::kernels::{Arguments, Loaded, Parameters, Variant};
use crate::error::KernelError;

/// What of a step a grid counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Count {
    /// Its rows.
    Rows,
    /// Its sampled rows.
    Sampled,
    /// Tiles of prompt rows.
    Tiles,
    /// Generated rows in the portion of this number.
    Generated(u32),
    /// Its spans, if any has prompt rows.
    PromptSpans,
    /// Its spans, if any has generated rows.
    GeneratedSpans,
    /// Its spans and snapshots.
    Kept,
}

/// One side of a grid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extent {
    /// So many blocks.
    Fixed(u32),
    /// `each` things for each one counted, `per` of them a block.
    Counted {
        /// Things for each.
        each: u32,
        /// Things a block.
        per: u32,
    },
    /// The most tiles of `per` that `each` things for each one counted can fill, sorted into `more` kinds with a border between.
    Tiles {
        /// Things for each.
        each: u32,
        /// Things a tile.
        per: u32,
        /// Kinds.
        more: u32,
    },
    /// One for each run of positions that generated rows are split into.
    Splits,
}

impl Extent {
    /// A block each.
    pub(crate) const ONE_EACH: Self = Self::Counted { each: 1, per: 1 };

    /// A block for each `per` elements of a row of `width`.
    pub(crate) fn columns(width: u32, per: u32) -> Self {
        Self::Fixed(width.div_ceil(per))
    }
}

/// How many of everything a step has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Rows.
    pub(crate) rows: u32,
    /// Sampled rows.
    pub(crate) sampled: u32,
    /// Tiles of prompt rows.
    pub(crate) tiles: u32,
    /// Generated rows.
    pub(crate) generated: u32,
    /// Runs of positions of the longest sequence that generates.
    pub(crate) splits: u32,
    /// Spans.
    pub(crate) spans: u32,
    /// Snapshots of recurrent states.
    pub(crate) snapshots: u32,
}

impl Counts {
    fn of(&self, count: Count, portion: u32) -> u32 {
        match count {
            Count::Rows => self.rows,
            Count::Sampled => self.sampled,
            Count::Tiles => self.tiles,
            Count::PromptSpans => self.spans * u32::from(self.tiles > 0),
            Count::GeneratedSpans => self.spans * u32::from(self.generated > 0),
            Count::Kept => self.spans + self.snapshots,
            Count::Generated(number) => self.generated.saturating_sub(number * portion).min(portion),
        }
    }
}

/// A kernel that is launched once in every step with a count in its range.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    call: u32,
    op: &'static str,
    function: Function,
    parameters: Parameters,
    grid: [Extent; 3],
    count: Count,
    /// The parameter that is told the splits of a step.
    splits: Option<usize>,
    /// The least and the largest count it is for.
    range: (u32, u32),
}

impl Launch {
    /// Enqueues it, if the step has what it is for. `portion` is how many generated rows are taken at once.
    ///
    /// # Safety
    /// The parameters name memory that lives until the stream was waited for.
    pub(crate) unsafe fn enqueue(&mut self, stream: &Stream, counts: &Counts, portion: u32) -> Result<(), KernelError> {
        let count = counts.of(self.count, portion);
        if count < self.range.0 || count > self.range.1 {
            return Ok(());
        }
        let side = |extent: Extent| match extent {
            Extent::Fixed(blocks) => blocks,
            Extent::Counted { each, per } => (count * each).div_ceil(per),
            Extent::Tiles { each, per, more } => (count * each).min((count * each).div_ceil(per) + more),
            Extent::Splits => counts.splits,
        };
        let grid = self.grid.map(side);
        if let Some(at) = self.splits {
            self.parameters.set_int(at, counts.splits as i32);
        }
        let (mut pointers, parameters) = self.parameters.pointers();
        // SAFETY: the parameters are those of the kernel's own type (Site::launch); the caller's promise for what they name.
        let launched = unsafe { stream.launch(&self.function, grid, &mut pointers[..parameters]) };
        launched.map_err(|fault| self.failed(fault))
    }

    fn failed(&self, fault: DriverFault) -> KernelError {
        KernelError::Device { call: Some((self.call, self.op)), fault }
    }
}

/// The call that launches are made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// Its number in the program.
    pub(crate) call: u32,
    /// Its op.
    pub(crate) op: &'static str,
}

/// Launches of a program as they are made.
pub(crate) struct Launches<'a> {
    at: At,
    loaded: &'a mut Loaded,
    pub(crate) made: Vec<Launch>,
}

impl<'a> Launches<'a> {
    pub(crate) fn new(loaded: &'a mut Loaded) -> Self {
        Self { at: At { call: 0, op: "" }, loaded, made: vec![] }
    }

    /// Goes on with another call.
    pub(crate) fn turn_to(&mut self, at: At) {
        self.at = at;
    }

    /// The call that they are made for.
    pub(crate) fn at(&self) -> At {
        self.at
    }

    /// One more launch, in every step that has any of what it counts.
    pub(crate) fn push<A: Arguments>(
        &mut self,
        variant: &'static Variant,
        arguments: &A,
        count: Count,
        grid: [Extent; 3],
    ) -> Result<(), KernelError> {
        self.push_for(variant, arguments, (count, (1, u32::MAX)), grid)
    }

    /// One more launch, in every step whose count is in a range.
    pub(crate) fn push_for<A: Arguments>(
        &mut self,
        variant: &'static Variant,
        arguments: &A,
        (count, range): (Count, (u32, u32)),
        grid: [Extent; 3],
    ) -> Result<(), KernelError> {
        let At { call, op } = self.at;
        assert_eq!(variant.kernel, A::KERNEL, "parameters are those of the kernel");
        let parameters = Parameters::of(arguments);
        if let Some((param, value)) = parameters.unaligned(variant) {
            return Err(KernelError::Unaligned { call: call as usize, op, kernel: variant.id, param, value });
        }
        let failed = |fault| KernelError::Device { call: Some((call, op)), fault };
        let function = self.loaded.function(variant).map_err(failed)?;
        let splits = variant.params.iter().position(|(name, _)| *name == "splits");
        self.made.push(Launch { call, op, function, parameters, grid, count, splits, range });
        Ok(())
    }
}

/// Where the numbers of rows lie on the device, which kernels read themselves: a captured graph is launched for a bucket of counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountAt {
    /// What is counted.
    pub(crate) count: Count,
    /// Where it lies.
    pub(crate) at: Address,
}
