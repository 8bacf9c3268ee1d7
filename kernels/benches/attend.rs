//! Attention beside the machine's limits: decoding against read bandwidth, prompts against the multiply-add peak.
//!
//! `cargo bench -p millstream-kernels --bench attend`

mod common;

use common::{executor, noise, operand, print, team};
use graph::plan::{CacheSpec, Call, Place, Program};
use graph::{Attention, DType};
use kernels::ceiling::{compare, fma_peak, read_bandwidth};
use kernels::{Execute, Executor, Memory, Span, Step, Team};
use std::sync::Arc;
use std::time::Instant;

const ROUNDS: usize = 7;
const HEADS: u32 = 8;
const GROUP: u32 = 2;
const DIM: u32 = 128;
const CONTEXT: u32 = 4096;
const SEQUENCES: u32 = 16;
const PAGES: u32 = CONTEXT / 16;

fn main() {
    let memory = noise(512 << 20);
    for threads in [1, 2] {
        let team = team(threads);
        for dtype in [DType::Bf16, DType::F32] {
            bench(&team, &memory, dtype);
        }
    }
}

/// The page table of a sequence, scattered over the pool.
fn table(sequence: u32) -> impl Iterator<Item = u32> {
    // 2731 is prime to the number of pages.
    (0..PAGES).map(move |page| (sequence * PAGES + page) * 2731 % (SEQUENCES * PAGES))
}

/// A step of the given (sequence, start, rows).
fn step(members: &[(u32, u32, u32)]) -> Step {
    let mut step = Step::default();
    for &(sequence, start, rows) in members {
        let first_page = step.pages.len() as u32;
        step.spans.push(Span { first_row: step.rows, rows, start, prompt: start + rows, first_page, pages: PAGES });
        step.pages.extend(table(sequence));
        step.rows += rows;
    }
    step
}

fn bench(team: &Arc<Team>, memory: &Memory, dtype: DType) {
    let cache = CacheSpec { kv_heads: HEADS, head_dim: DIM, dtype };
    let attend = Call::Attend {
        q: operand(Place::Input(0), HEADS * GROUP * DIM),
        k: operand(Place::Input(1), HEADS * DIM),
        v: operand(Place::Input(2), HEADS * DIM),
        y: operand(Place::Output(0), HEADS * GROUP * DIM),
        cache: 0,
        kv_heads: HEADS,
        group: GROUP,
        head_dim: DIM,
        sinks: None,
        how: Attention::scaled(0.088),
    };
    let program = Program { calls: vec![attend], caches: vec![cache], ..Program::default() };
    let mut executor = executor(program, vec![], 512, SEQUENCES * PAGES, team);
    let width = (HEADS * DIM * 4) as usize * 512;
    let inputs = [noise(width * GROUP as usize), noise(width), noise(width)];
    let mut output = Memory::zeroed(width * GROUP as usize);
    let mut seconds = |executor: &mut Executor, step: &Step| {
        let start = Instant::now();
        executor.run(step, &inputs.each_ref(), &mut [&mut output]).expect("the step fits");
        start.elapsed().as_secs_f64()
    };
    for sequence in 0..SEQUENCES {
        for start in (0..CONTEXT).step_by(512) {
            seconds(&mut executor, &step(&[(sequence, start, 512)]));
        }
    }
    let position = u64::from(HEADS * DIM) * 2 * dtype.bytes() as u64;
    let mut turn = 0;
    for batch in [1, 8] {
        let mut work = || {
            let mut total = 0.0;
            for _ in 0..SEQUENCES / batch {
                let members: Vec<_> = (0..batch).map(|i| ((turn + i) % SEQUENCES, CONTEXT - 1, 1)).collect();
                turn += batch;
                total += seconds(&mut executor, &step(&members));
            }
            (u64::from(SEQUENCES * CONTEXT) * position) as f64 / total
        };
        let what = format!("decode {dtype}, {} thread(s), batch {batch}, context {CONTEXT}", team.threads());
        print(&what, "GB/s", compare(ROUNDS, &mut || read_bandwidth(team, memory), &mut work));
    }
    for start in [0, 2048] {
        let step = step(&[(0, start, 512)]);
        let pairs: f64 = (0..512).map(|row| f64::from(start + row + 1)).sum();
        let flops = pairs * f64::from(HEADS * GROUP * DIM) * 4.0;
        let what = format!("prompt {dtype}, {} thread(s), 512 rows from {start}", team.threads());
        let mut work = || flops / seconds(&mut executor, &step);
        print(&what, "GFLOP/s", compare(ROUNDS, &mut || fma_peak(team), &mut work));
    }
}
