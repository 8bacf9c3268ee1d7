use super::*;
use crate::ops::samples::{bits, numbers, team};
use crate::step::Span;
use crate::weights::samples::weight;
use graph::plan::{CacheSpec, WeightId, WeightUse};
use graph::{Attention, Binary, DType, Norm, Rope, Unary, WeightType};

const HIDDEN: u32 = 40;
const LIMITS: Limits =
    Limits { rows_max: 80, sampled_max: 4, pages: 12, window_pages: 0, slots: 0, spans_max: 64, span_pages_max: 64 };

fn all(place: Place, width: u32) -> Operand {
    Operand { place, width, rows: RowSet::All }
}

fn sampled(place: Place, width: u32) -> Operand {
    Operand { place, width, rows: RowSet::Sampled }
}

/// A whole small model: embedding, one block, a tied head; then a bias and pointwise calls, so that every call appears.
fn program() -> Program {
    let mut bytes = 0;
    let mut scratch = |width: u32| {
        let at = bytes;
        bytes += u64::from(LIMITS.rows_max * width * 4).next_multiple_of(64);
        Place::Scratch(at)
    };
    let hidden = [(); 4].map(|()| all(scratch(HIDDEN), HIDDEN));
    let [x, normed, branch, q] = hidden;
    let (k, v) = (all(scratch(20), 20), all(scratch(20), 20));
    let (gate, up) = (all(scratch(72), 72), all(scratch(72), 72));
    let last = sampled(scratch(HIDDEN), HIDDEN);
    let rope = Rope::plain(10000.0, 20);
    let w = WeightId;
    let calls = vec![
        Call::Gather { table: w(0), first: 0, ids: all(Place::Input(0), 1), y: x },
        Call::Norm { x, w: w(1), norm: Norm::rms(1e-6), y: normed },
        Call::Contract { x: normed, parts: vec![(w(2), q), (w(3), k), (w(4), v)] },
        Call::Bias { x: q, w: w(1), y: q },
        Call::Rope { x: q, head_dim: 20, rope: rope.clone(), y: q },
        Call::Rope { x: k, head_dim: 20, rope, y: k },
        Call::Attend {
            q,
            k,
            v,
            y: branch,
            cache: 0,
            kv_heads: 1,
            group: 2,
            head_dim: 20,
            sinks: None,
            how: Attention::scaled(0.2),
        },
        Call::AddNorm { a: x, b: branch, sum: x, w: w(1), norm: Norm::rms(1e-6), y: normed },
        Call::Contract { x: normed, parts: vec![(w(5), gate), (w(6), up)] },
        Call::Gated { gate, up, f: Unary::Silu, y: gate },
        Call::Contract { x: gate, parts: vec![(w(7), branch)] },
        Call::Binary { a: x, b: branch, f: Binary::Add, y: x },
        Call::Unary { x, f: Unary::Gelu, y: x },
        Call::SampledRows { x, y: last },
        Call::Contract { x: last, parts: vec![(w(0), sampled(Place::Output(0), 50))] },
    ];
    let caches = vec![CacheSpec { kv_heads: 1, head_dim: 20, dtype: DType::Bf16 }];
    Program { calls, scratch_bytes: bytes, caches, ..Program::default() }
}

fn weights(dtype: WeightType) -> Vec<Weight> {
    let panels = |n, k| weight(n, k, dtype, WeightUse::Panels);
    let mut all = vec![panels(50, 40), weight(40, 1, WeightType::F32, WeightUse::Vector)];
    all.extend([(40, 40), (20, 40), (20, 40), (72, 40), (72, 40), (40, 72)].map(|(n, k)| panels(n, k)));
    all
}

fn executor(dtype: WeightType, threads: usize, isa: Isa) -> Executor {
    Executor::new(program(), weights(dtype), LIMITS, Arc::new(team(threads)), isa).expect("the program is sound")
}

/// Runs tokens `from..to` of a sequence; the logits of its last row.
fn step(executor: &mut Executor, tokens: &[u32], from: usize, to: usize) -> Vec<f32> {
    let rows = (to - from) as u32;
    let span = Span { first_row: 0, rows, start: from as u32, pages: 6, ..Span::default() };
    let pages = vec![7, 3, 11, 0, 5, 2];
    let step = Step { id: 1, rows, spans: vec![span], pages, sampled: vec![rows - 1], ..Step::default() };
    let mut ids = Memory::zeroed(rows as usize * 4);
    ids.as_u32_mut().copy_from_slice(&tokens[from..to]);
    let mut logits = Memory::zeroed(50 * 4);
    executor.run(&step, &[&ids], &mut [&mut logits]).expect("the step fits");
    logits.as_f32().to_vec()
}

#[test]
fn logits_have_the_same_bits_however_a_sequence_is_cut() {
    let tokens: Vec<u32> = numbers(9, 75).iter().map(|t| ((t + 1.0) * 24.0) as u32).collect();
    for isa in crate::ops::samples::sets() {
        for dtype in [WeightType::F32, WeightType::Bf16] {
            let whole = step(&mut executor(dtype, 1, isa), &tokens, 0, 75);
            assert!(whole.iter().all(|logit| logit.is_finite()));
            for (chunk, threads) in [(1, 2), (7, 1), (32, 2)] {
                let mut executor = executor(dtype, threads, isa);
                let mut last = vec![];
                for from in (0..75).step_by(chunk) {
                    last = step(&mut executor, &tokens, from, 75.min(from + chunk));
                }
                assert_eq!(bits(&last), bits(&whole), "{dtype} chunk {chunk} {}", isa.name());
            }
        }
    }
}

#[test]
fn the_observer_hears_of_every_call_in_order() {
    let mut executor = executor(WeightType::F32, 1, Isa::Portable);
    let mut heard = vec![];
    let (ids, mut logits) = (Memory::zeroed(4), Memory::zeroed(200));
    let span = Span { rows: 1, pages: 1, ..Span::default() };
    let step = Step { id: 1, rows: 1, spans: vec![span], pages: vec![0], sampled: vec![0], ..Step::default() };
    executor.run_observed(&step, &[&ids], &mut [&mut logits], &mut |call| heard.push(call)).expect("the step fits");
    assert_eq!(heard, (0..executor.program().calls.len()).collect::<Vec<_>>());
}

/// The message of the first fault of a program that was changed.
fn refused(change: impl FnOnce(&mut Program)) -> String {
    let mut program = program();
    change(&mut program);
    let made = Executor::new(program, weights(WeightType::F32), LIMITS, Arc::new(team(1)), Isa::Portable);
    made.err().expect("the program is refused")[0].to_string()
}

/// What is done to a program so that it must be refused.
type Change = Box<dyn FnOnce(&mut Program)>;

#[test]
fn a_program_that_does_not_fit_is_refused_with_its_call() {
    let x = all(Place::Scratch(0), HIDDEN);
    let far = all(Place::Scratch(1 << 40), HIDDEN);
    let cases: Vec<(&str, Change)> = vec![
        ("bytes of scratch", Box::new(move |p| p.calls[12] = Call::Unary { x: far, f: Unary::Relu, y: far })),
        ("bytes of scratch", Box::new(|p| p.scratch_bytes /= 2)),
        (
            "outputs of the weight: wanted 72, got 40",
            Box::new(|p| {
                let Call::Contract { parts, .. } = &mut p.calls[8] else { unreachable!("call 8 is a contraction") };
                parts[0].0 = WeightId(2);
            }),
        ),
        ("weight 99 of a program with 8", Box::new(move |p| p.calls[3] = Call::Bias { x, w: WeightId(99), y: x })),
        ("not laid out for this op", Box::new(move |p| p.calls[3] = Call::Bias { x, w: WeightId(2), y: x })),
        (
            "a result overlaps an operand",
            Box::new(move |p| {
                p.calls[10] = Call::Contract { x, parts: vec![(WeightId(2), x)] };
            }),
        ),
        (
            "two results overlap",
            Box::new(move |p| {
                let Call::Contract { parts, .. } = &mut p.calls[8] else { unreachable!("call 8 is a contraction") };
                parts[1].1 = parts[0].1;
            }),
        ),
        (
            "a call writes an input",
            Box::new(|p| {
                let x = all(Place::Input(0), 8);
                p.calls[12] = Call::Unary { x, f: Unary::Relu, y: x };
            }),
        ),
        (
            "operands have the rows of different sets",
            Box::new(move |p| {
                p.calls[12] = Call::Unary { x, f: Unary::Relu, y: sampled(Place::Output(0), x.width) };
            }),
        ),
        (
            "elements beyond whole heads",
            Box::new(move |p| {
                let rope = Rope::plain(1.0, 2);
                p.calls[4] = Call::Rope { x, head_dim: 21, rope, y: x };
            }),
        ),
        (
            "heads and widths, at least",
            Box::new(move |p| {
                let rope = Rope::plain(1.0, 0);
                p.calls[4] = Call::Rope { x, head_dim: 0, rope, y: x };
            }),
        ),
        ("heads of the cache", Box::new(|p| p.caches.clear())),
    ];
    for (wanted, change) in cases {
        let message = refused(change);
        assert!(message.contains(wanted), "wanted {wanted}: {message}");
    }
}

#[test]
fn a_step_that_does_not_fit_is_refused_before_anything_runs() {
    let span = Span { rows: 2, pages: 1, ..Span::default() };
    let good = Step { id: 4, rows: 2, spans: vec![span], pages: vec![0], sampled: vec![1], ..Step::default() };
    let with = |change: &dyn Fn(&mut Step)| {
        let mut step = good.clone();
        change(&mut step);
        step
    };
    let cases: [(&str, Step); 8] = [
        ("rows: at most 80, got 81", with(&|s| s.rows = 81)),
        ("sampled rows: at most 4, got 5", with(&|s| s.sampled = vec![1; 5])),
        ("a sampled row: at most 1, got 2", with(&|s| s.sampled = vec![2])),
        ("a page: at most 11, got 12", with(&|s| s.pages = vec![12])),
        ("pages of a span: at most 1, got 2", with(&|s| s.spans[0].pages = 2)),
        ("positions of a span on its pages: at most 16, got 17", with(&|s| s.spans[0].start = 15)),
        ("the first row of a span: at most 0, got 1", with(&|s| s.spans[0].first_row = 1)),
        ("rows of all spans: at most 2, got 1", with(&|s| s.spans[0].rows = 1)),
    ];
    let mut executor = executor(WeightType::F32, 1, Isa::Portable);
    let (ids, mut logits) = (Memory::zeroed(8), Memory::zeroed(200));
    executor.run(&good, &[&ids], &mut [&mut logits]).expect("the good step fits");
    for (wanted, step) in cases {
        let message = executor.run(&step, &[&ids], &mut [&mut logits]).expect_err("refused").to_string();
        assert!(message.contains(wanted), "wanted {wanted}: {message}");
    }
    let message = executor.run(&good, &[], &mut [&mut logits]).expect_err("refused").to_string();
    assert_eq!(message, "step 4: input 0: wanted 8 bytes, got 0");
    let message = executor.run(&good, &[&ids], &mut [&mut Memory::zeroed(100)]).expect_err("refused").to_string();
    assert_eq!(message, "step 4: output 0: wanted 200 bytes, got 100");
}
