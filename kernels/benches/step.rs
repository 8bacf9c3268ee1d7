//! Where the time of a step goes: every call of a whole model timed, and added up by op, beside the machine's limits.
//!
//! `cargo bench -p millstream-kernels --bench step -- SHAPE [THREADS [CASE]]`, SHAPE being a folder of
//! benches/shapes, CASE a part of a case's name

mod common;

use common::{Noise, noise, team};
use graph::DType;
use graph::models::describe;
use graph::plan::cost::{Cost, Stretch, step_cost};
use graph::plan::{Bounds, Call, Deployment, DeviceSpec, Numerics, Plan, Program, Role, RowSet, compile};
use kernels::ceiling::{fma_peak, median, read_bandwidth};
use kernels::{Execute, Executor, Isa, Limits, Memory, Span, Step, Weight};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

const ROUNDS: usize = 9;
const ROWS_MAX: u32 = 512;
const PAGES: u32 = 2048;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let shape = words.next().unwrap_or_else(|| "qwen3-0.6b".into());
    let threads = words.next().map_or(2, |word| word.parse().expect("a count of threads"));
    let only = words.next();
    let (plan, program) = program(&shape);
    let team = team(threads);
    let load = |(i, spec): (usize, &graph::plan::WeightSpec)| {
        // Vectors are f32 in memory, whatever their source.
        Weight::load(spec, &Noise(i as u64), &team).expect("noise is a valid weight")
    };
    let weights = program.weights.iter().enumerate().map(load).collect();
    let limits = Limits {
        rows_max: ROWS_MAX,
        sampled_max: 32,
        pages: PAGES,
        window_pages: 0,
        slots: 0,
        spans_max: 64,
        span_pages_max: 64,
    };
    let mut executor = Executor::new(program, weights, limits, team.clone(), Isa::detect()).expect("the plan is sound");
    let memory = noise(1 << 30);
    let vocabulary = plan.data().vocabulary as usize;
    let (mut ids, mut logits) = (Memory::zeroed(ROWS_MAX as usize * 4), Memory::zeroed(32 * vocabulary * 4));
    ids.as_u32_mut().iter_mut().enumerate().for_each(|(i, id)| *id = (i * 7919 % vocabulary) as u32);
    for (what, spans, sampled) in [
        ("1 row, position 16", vec![(16, 1)], 1),
        ("1 row, position 1000", vec![(1000, 1)], 1),
        ("2 rows, position 16", vec![(16, 1); 2], 2),
        ("4 rows, position 16", vec![(16, 1); 4], 4),
        ("8 rows, position 16", vec![(16, 1); 8], 8),
        ("32 rows, position 16", vec![(16, 1); 32], 32),
        ("prompt of 512", vec![(0, 512)], 1),
    ] {
        if only.as_ref().is_some_and(|only| !what.contains(only.as_str())) {
            continue;
        }
        let (step, cost) = (step(&spans, sampled), cost(&plan, &spans, sampled));
        let mut runs = vec![];
        let mut ops: BTreeMap<&str, f64> = BTreeMap::new();
        let (reads, peak) = (read_bandwidth(&team, &memory), fma_peak(&team));
        for round in 0..=ROUNDS {
            let calls: Vec<&'static str> = executor.program().calls.iter().map(label).collect();
            let start = Instant::now();
            let mut last = start;
            let mut observe = |call: usize| {
                let now = Instant::now();
                if round > 0 {
                    *ops.entry(calls[call]).or_default() += (now - last).as_secs_f64() / ROUNDS as f64;
                }
                last = now;
            };
            executor.run_observed(&step, &[&ids], &mut [&mut logits], &mut observe).expect("the step fits");
            runs.push(start.elapsed().as_secs_f64());
        }
        let seconds = median(&mut runs[1..]);
        let (reads, peak) = (reads.max(read_bandwidth(&team, &memory)), peak.max(fma_peak(&team)));
        println!(
            "{shape}, {threads} thread(s), {what}: {:.2} ms; {:.0} % of {:.1} GB/s, {:.0} % of {:.0} GFLOP/s",
            seconds * 1e3,
            cost.bytes as f64 / seconds / reads * 100.0,
            reads / 1e9,
            cost.flops as f64 / seconds / peak * 100.0,
            peak / 1e9
        );
        for (op, spent) in ops {
            println!("    {op:<16} {:9.3} ms  {:5.1} %", spent * 1e3, spent / seconds * 100.0);
        }
    }
}

/// The op; the head apart from other contractions.
fn label(call: &Call) -> &'static str {
    let Call::Contract { x, parts } = call else { return call.name() };
    match parts.len() {
        _ if x.rows == RowSet::Sampled => "contract: head",
        3 => "contract: qkv",
        2 => "contract: gate, up",
        _ => "contract",
    }
}

/// The one stage of a shape.
fn program(shape: &str) -> (Plan, Program) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/shapes").join(shape).join("config.json");
    let text = std::fs::read_to_string(&file).expect("a shape of benches/shapes");
    let config: serde_json::Value = serde_json::from_str(&text).expect("a shape is JSON");
    let architecture = describe(config.as_object().expect("a shape is an object")).expect("a known architecture");
    let deployment = Deployment {
        family: architecture.family,
        tensor: 1,
        pipeline: 1,
        expert: 1,
        numerics: Numerics::Invariant,
        devices: vec![DeviceSpec { name: "cpu:0".into(), memory_bytes: 64 << 30 }],
        layer_partition: None,
        bounds: Bounds { max_num_batched_tokens: Some(ROWS_MAX), max_num_seqs: Some(32), ..Bounds::default() },
        max_positions: architecture.max_positions,
        weight_dtype: &|_| DType::Bf16,
        quantization: None,
        cache_dtype: DType::Bf16,
    };
    let plan = compile(&architecture.model, &deployment).expect("the shape can be planned");
    let stage = plan.data().actors.iter().find_map(|actor| match &actor.role {
        Role::Stage { program, .. } => Some(program.clone()),
        Role::Batcher | Role::Pool { .. } | Role::Feed | Role::Communicator { .. } | Role::Sampler { .. } => None,
    });
    let program = stage.expect("a plan has a stage");
    (plan, program)
}

/// A step of sequences with (first position, rows), the last rows of which are sampled.
fn step(spans: &[(u32, u32)], sampled: u32) -> Step {
    let mut step = Step::default();
    for &(start, rows) in spans {
        let (first_page, pages) = (step.pages.len() as u32, (start + rows).div_ceil(16));
        step.spans.push(Span { first_row: step.rows, rows, start, prompt: start + rows, first_page, pages });
        step.pages.extend((first_page..first_page + pages).map(|page| page * 1223 % PAGES));
        step.rows += rows;
    }
    step.sampled = (step.rows - sampled..step.rows).collect();
    step
}

fn cost(plan: &Plan, spans: &[(u32, u32)], sampled: u32) -> Cost {
    let stretches: Vec<Stretch> = spans.iter().map(|&(start, rows)| Stretch { start, rows }).collect();
    step_cost(plan.data(), &stretches, sampled)
}
