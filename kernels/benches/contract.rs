//! Contractions beside the machine's limits: shares of read bandwidth up to 4 rows, of the multiply-add peak beyond.
//!
//! `cargo bench -p millstream-kernels --bench contract [-- bf16|f32|f16|q8_0|q4_0|q8_0-weight-only|q4_0-weight-only]`; the peak is that of f32 for all of them.

mod common;

use common::{Noise, executor, noise, operand, print, team};
use graph::WeightType;
use graph::plan::{Call, Place, Program, WeightId, WeightSpec, WeightUse};
use kernels::ceiling::{compare, fma_peak, read_bandwidth};
use kernels::{Execute, Memory, Span, Step, Team, Weight};
use std::sync::Arc;
use std::time::Instant;

/// Methods of `--quantization` and plain types.
const KINDS: [(&str, WeightType, bool); 7] = [
    ("bf16", WeightType::Bf16, false),
    ("f32", WeightType::F32, false),
    ("f16", WeightType::F16, false),
    ("q8_0", WeightType::Q8_0, true),
    ("q4_0", WeightType::Q4_0, true),
    ("q8_0-weight-only", WeightType::Q8_0, false),
    ("q4_0-weight-only", WeightType::Q4_0, false),
];
const ROUNDS: usize = 7;
const ROWS: [u32; 8] = [1, 2, 4, 8, 16, 32, 128, 512];
/// n and k: of Qwen3-0.6B, and of Llama-3.2-1B.
const SHAPES: [(u32, u32); 5] = [(2048, 1024), (3072, 1024), (1024, 3072), (8192, 2048), (2048, 8192)];
/// Bytes of distinct weights that a pass goes through, so that none comes from a cache.
const POOL: usize = 256 << 20;

fn main() {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let memory = noise(512 << 20);
    for threads in [1, 2] {
        let team = team(threads);
        println!(
            "{threads} thread(s): reads {:.1} GB/s, fma {:.0} GFLOP/s",
            read_bandwidth(&team, &memory) / 1e9,
            fma_peak(&team) / 1e9
        );
        for (name, dtype, integer) in KINDS {
            if wanted.as_ref().is_some_and(|wanted| wanted != name) {
                continue;
            }
            for shape in SHAPES {
                bench(&team, &memory, (name, dtype, integer), shape);
            }
        }
    }
}

/// Weights of one shape.
fn weights((n, k): (u32, u32), (dtype, integer): (WeightType, bool), count: usize, team: &Team) -> Vec<Weight> {
    let name = |i: usize| format!("noise_{i}");
    let spec = |i| WeightSpec {
        name: name(i),
        dims: vec![n, k],
        stored: None,
        cut: None,
        used: WeightUse::Panels,
        n,
        k,
        sum_parts: 1,
        dtype,
        integer,
    };
    let load = |i: usize| Weight::load(&spec(i), &Noise(i as u64), team).expect("noise is a valid weight");
    (0..count).map(load).collect()
}

/// All row counts of one shape.
fn bench(team: &Arc<Team>, memory: &Memory, (name, dtype, integer): (&str, WeightType, bool), (n, k): (u32, u32)) {
    let bytes = n as usize * dtype.row_bytes(k.into()) as usize;
    let count = POOL / bytes;
    let x = operand(Place::Input(0), k);
    let call = |i| Call::Contract { x, parts: vec![(WeightId(i), operand(Place::Output(0), n))] };
    let calls: Vec<Call> = (0..count as u32).map(call).collect();
    let program = Program { calls, ..Program::default() };
    let mut executor = executor(program, weights((n, k), (dtype, integer), count, team), 512, 1, team);
    let (input, mut output) = (noise(512 * k as usize * 4), Memory::zeroed(512 * n as usize * 4));
    for rows in ROWS {
        // A page table that no call of the program reads.
        let pages = rows.div_ceil(16);
        let span = Span { first_row: 0, rows, start: 0, prompt: rows, first_page: 0, pages };
        let step = Step { rows, spans: vec![span], pages: vec![0; pages as usize], ..Step::default() };
        let mut seconds = || {
            let start = Instant::now();
            executor.run(&step, &[&input], &mut [&mut output]).expect("the step fits");
            start.elapsed().as_secs_f64()
        };
        let what = format!("contract {name} {n} x {k}, {} thread(s), {rows} rows", team.threads());
        if rows <= 4 {
            let mut work = || (count * bytes) as f64 / seconds();
            print(&what, "GB/s", compare(ROUNDS, &mut || read_bandwidth(team, memory), &mut work));
        } else {
            let mut work = || 2.0 * f64::from(rows) * (count * n as usize * k as usize) as f64 / seconds();
            print(&what, "GFLOP/s", compare(3, &mut || fma_peak(team), &mut work));
        }
    }
}
