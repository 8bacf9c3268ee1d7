//! Running a step allocates nothing, on any thread of its team.

use graph::plan::{CacheSpec, Call, Operand, Place, Program, RowSet, WeightId, WeightSpec, WeightUse};
use graph::{Attention, DType, Norm, Rope, Unary, WeightType};
use kernels::{Execute, Executor, Isa, Limits, Memory, RowSource, Span, Step, Team, TeamSpec, Weight};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is counted: those of the test's own harness are not.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // A thread that ends has no such mark any more.
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Ones;

impl RowSource for Ones {
    fn dtype(&self) -> DType {
        DType::F32
    }

    fn copy_row(&self, _: usize, into: &mut [u8]) {
        into.as_chunks_mut::<4>().0.fill(0.01f32.to_le_bytes());
    }
}

const WIDTH: u32 = 256;

fn executor() -> Executor {
    let team = Arc::new(Team::new(TeamSpec { threads: 2, cores: None, spin: false }));
    team.run(&|_| COUNTED.set(true));
    let load = |used, n, k, dtype| {
        let spec = WeightSpec {
            name: "ones".into(),
            dims: vec![n, k],
            stored: None,
            cut: None,
            used,
            n,
            k,
            sum_parts: 1,
            dtype,
            integer: false,
        };
        Weight::load(&spec, &Ones, &team).expect("ones are a valid weight")
    };
    let weights = vec![
        load(WeightUse::Panels, WIDTH, WIDTH, WeightType::Q8_0),
        load(WeightUse::Vector, WIDTH, 1, WeightType::F32),
    ];
    let bytes = u64::from(200 * WIDTH * 4);
    let all = |number: u64| Operand { place: Place::Scratch(number * bytes), width: WIDTH, rows: RowSet::All };
    let last = Operand { place: Place::Output(0), width: WIDTH, rows: RowSet::Sampled };
    let ids = Operand { place: Place::Input(0), width: 1, rows: RowSet::All };
    let w = WeightId;
    let rope = Rope::plain(10000.0, 64);
    let calls = vec![
        Call::Gather { table: w(0), first: 0, ids, y: all(0) },
        Call::Norm { x: all(0), w: w(1), norm: Norm::rms(1e-6), y: all(1) },
        Call::Contract { x: all(1), parts: vec![(w(0), all(2)), (w(0), all(3)), (w(0), all(4))] },
        Call::Rope { x: all(2), head_dim: 64, rope, y: all(2) },
        Call::Attend {
            q: all(2),
            k: all(3),
            v: all(4),
            y: all(5),
            cache: 0,
            kv_heads: 4,
            group: 1,
            head_dim: 64,
            sinks: None,
            how: Attention::scaled(0.1),
        },
        Call::Gated { gate: all(5), up: all(0), f: Unary::Silu, y: all(5) },
        Call::AddNorm { a: all(0), b: all(5), sum: all(0), w: w(1), norm: Norm::rms(1e-6), y: all(1) },
        Call::SampledRows { x: all(1), y: last },
    ];
    let caches = vec![CacheSpec { kv_heads: 4, head_dim: 64, dtype: DType::Bf16 }];
    let program = Program { calls, scratch_bytes: 6 * bytes, caches, ..Program::default() };
    let limits = Limits {
        rows_max: 200,
        sampled_max: 2,
        pages: 40,
        window_pages: 0,
        slots: 0,
        spans_max: 64,
        span_pages_max: 64,
    };
    Executor::new(program, weights, limits, team, Isa::detect()).expect("the program is sound")
}

#[test]
fn steps_allocate_nothing() {
    let mut executor = executor();
    let (ids, mut output) = (Memory::zeroed(200 * 4), Memory::zeroed(2 * 4 * WIDTH as usize));
    let steps: Vec<Step> = [(1, 300), (2, 299), (7, 0), (150, 3), (200, 64)]
        .map(|(rows, start)| {
            let span = Span { rows, start, pages: 40, ..Span::default() };
            Step { id: 1, rows, spans: vec![span], pages: (0..40).rev().collect(), sampled: vec![0], ..Step::default() }
        })
        .into();
    let mut run = || {
        for step in &steps {
            executor.run(step, &[&ids], &mut [&mut output]).expect("the step fits");
        }
    };
    // Once for what the system itself makes at a thread's first wait.
    run();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    run();
    run();
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before);
}
