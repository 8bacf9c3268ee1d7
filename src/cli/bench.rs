//! `bench`: prefill and decode rates of an engine, in llama-bench's columns, as shares of what the machine can do.
//!
//! In each round the limits are measured before and after the engine, on as many threads and the same cores; the share is the median
//! of the ratios. Neither side disturbs the other: threads that wait spin for at most 0.1 ms before they sleep, a limit is
//! measured for 30 ms and more.

use super::tell::tell;
use super::{Failure, args};
use crate::engine::{Ended, Engine, Generation, Output, Stream, gpu_model};
use actors::trace::Trace;
use graph::WeightType;
use graph::plan::cost::{Cost, Stretch, step_cost};
use graph::plan::{Plan, WeightSpec};
use kernels::ceiling::{Comparison, compare, fma_peak, integer_peak, median, read_bandwidth};
use kernels::{Memory, Team, TeamSpec};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;

/// Bytes that reads are measured on: beyond the last cache of any machine.
const READ_BYTES: usize = 1 << 30;
/// A limit is measured as often as it takes for a tenth of the time that the engine takes, up to this many times.
const REPEATS_MAX: usize = 10;
/// Seconds of one measurement of a limit.
const MEASUREMENT: f64 = 0.03;

/// Measures what the flags ask for.
pub(super) fn bench(args: &args::Bench, trace: &Trace) -> Result<(), Failure> {
    let mut deploy = args.deploy.clone();
    let most = args.batch.iter().copied().max().unwrap_or(1);
    deploy.max_num_seqs = Some(deploy.max_num_seqs.unwrap_or(most).max(most));
    deploy.max_model_len.get_or_insert(args.n_prompt.max(args.n_gen) + 1);
    let builder = deploy.builder()?.trace(trace).without_prefix_caching();
    let (spec, set) = (builder.all_threads(), builder.instruction_set().name());
    let engine = builder.build()?;
    let head = Head::new(&engine, spec.threads, set);
    // The limits of the cores say nothing of a GPU, and those of a GPU are measured by benches/gpu.
    let machine = head.gpu.is_none().then(|| Machine::new(&spec));
    let prompts = Some(Test::Prompt { tokens: args.n_prompt }).filter(|_| args.n_prompt > 0);
    let generating = args.batch.iter().map(|&batch| Test::Generate { tokens: args.n_gen, batch });
    let tests = prompts.into_iter().chain(generating.filter(|_| args.n_gen > 0));
    if !args.json {
        tell!("| model | size | params | backend | threads | test | t/s | share | limit | rounds kept/dropped |");
        tell!("| --- | ---: | ---: | --- | ---: | --- | ---: | ---: | ---: | ---: |");
    }
    for test in tests {
        let row = measure(&engine, machine.as_ref(), test, args.repetitions as usize)?;
        tell!("{}", if args.json { row.json(&head) } else { row.line(&head) });
    }
    Ok(())
}

/// What is measured.
#[derive(Clone, Copy)]
enum Test {
    /// One prompt.
    Prompt { tokens: u32 },
    /// Sequences that generate together, each from a prompt of one token.
    Generate { tokens: u32, batch: u32 },
}

impl Test {
    fn name(self) -> String {
        match self {
            Self::Prompt { tokens } => format!("pp{tokens}"),
            Self::Generate { tokens, batch: 1 } => format!("tg{tokens}"),
            Self::Generate { tokens, batch } => format!("tg{tokens} batch {batch}"),
        }
    }

    /// Tokens of one run, and what they cost at least.
    fn work(self, engine: &Engine) -> (f64, Cost) {
        let plan = engine.plan().data();
        match self {
            Self::Prompt { tokens } => (tokens.into(), step_cost(plan, &[Stretch { start: 0, rows: tokens }], 1)),
            Self::Generate { tokens, batch } => {
                let mut cost = Cost::default();
                for start in 0..tokens {
                    cost += step_cost(plan, &vec![Stretch { start, rows: 1 }; batch as usize], batch);
                }
                (f64::from(tokens) * f64::from(batch), cost)
            }
        }
    }

    /// What it can be bound by.
    fn limits(self, engine: &Engine) -> Vec<Limit> {
        let integers = integers(engine.plan()).map(Limit::Products);
        let operations = integers.unwrap_or(Limit::MultiplyAdds);
        match self {
            Self::Prompt { .. } => vec![operations],
            Self::Generate { batch: 1, .. } => vec![Limit::Reads],
            Self::Generate { .. } => vec![Limit::Reads, operations],
        }
    }

    /// Seconds of one run.
    fn run(self, engine: &Engine) -> Result<f64, Failure> {
        let start = Instant::now();
        match self {
            Self::Prompt { tokens } => drain(begin(engine, prompt(engine, tokens, 0), 1))?,
            Self::Generate { tokens, batch } => {
                let begin = |which| begin(engine, prompt(engine, 1, which), tokens);
                (0..batch).map(begin).collect::<Vec<_>>().into_iter().try_for_each(drain)?;
            }
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

/// The weights that are multiplied as integers, if a plan has any.
fn integers(plan: &Plan) -> Option<WeightType> {
    plan.data().programs().flat_map(|program| &program.weights).find(|spec| spec.integer).map(|spec| spec.dtype)
}

/// What a machine cannot exceed.
#[derive(Clone, Copy)]
enum Limit {
    /// Bytes a second read from memory.
    Reads,
    /// f32 operations a second in multiply-adds.
    MultiplyAdds,
    /// Operations a second in products of integers, where weights of this type are multiplied so.
    Products(WeightType),
}

impl Limit {
    /// How much of it a cost takes.
    fn amount(self, cost: Cost) -> f64 {
        match self {
            Self::Reads => cost.bytes as f64,
            Self::MultiplyAdds | Self::Products(_) => cost.flops as f64,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Reads => "GB/s",
            Self::MultiplyAdds => "GFLOP/s",
            Self::Products(_) => "GOP/s",
        }
    }
}

/// A team like the engine's, and memory to read.
struct Machine {
    team: Team,
    memory: Memory,
}

impl Machine {
    fn new(spec: &TeamSpec) -> Self {
        let mut memory = Memory::zeroed(READ_BYTES);
        // Pages never written would all be one page of zeros.
        memory.as_bytes_mut().fill(1);
        Self { team: Team::new(spec.clone()), memory }
    }

    /// The limit now, over `repeats` measurements, on a thread of its own, which is pinned as a lane is.
    fn limit(&self, limit: Limit, repeats: usize) -> f64 {
        let once = || match limit {
            Limit::Reads => read_bandwidth(&self.team, &self.memory),
            Limit::MultiplyAdds => fma_peak(&self.team),
            Limit::Products(weights) => integer_peak(&self.team, weights),
        };
        let all = || {
            // A core that is not ours to use is no reason to stop: the thread runs where it may.
            drop(self.team.pin_caller());
            (0..repeats).map(|_| once()).sum::<f64>() / repeats as f64
        };
        std::thread::scope(|scope| scope.spawn(all).join().expect("measuring does not panic"))
    }
}

/// Token ids that look random, the same every time.
fn prompt(engine: &Engine, tokens: u32, which: u32) -> Vec<u32> {
    let vocabulary = engine.plan().data().vocabulary;
    (0..tokens).map(|i| (i.wrapping_mul(2_654_435_761) ^ which.wrapping_mul(97)) % vocabulary).collect()
}

fn begin(engine: &Engine, prompt: Vec<u32>, tokens: u32) -> Stream {
    engine.submit(Generation { ignore_eos: true, ..Generation::greedy(prompt, tokens) })
}

/// Waits for the end.
fn drain(stream: Stream) -> Result<(), Failure> {
    for output in stream {
        match output {
            Output::Ended(Ended::Failed(failure)) => {
                return Err(Failure::Reference { what: "bench".into(), why: failure.to_string() });
            }
            Output::Prompt(_)
            | Output::Token(_)
            | Output::Ended(Ended::Stop { .. } | Ended::Length | Ended::Cancelled) => {}
        }
    }
    Ok(())
}

/// One row of the table.
struct Row {
    test: Test,
    /// Tokens a second, round by round.
    rates: Vec<f64>,
    shares: Vec<(Limit, Comparison)>,
    /// Bytes read and operations done for a token, at least.
    each: (f64, f64),
}

/// Runs a test once unmeasured, then round by round.
fn measure(engine: &Engine, machine: Option<&Machine>, test: Test, rounds: usize) -> Result<Row, Failure> {
    let (tokens, cost) = test.work(engine);
    let repeats = ((test.run(engine)? * 0.1 / MEASUREMENT) as usize).clamp(1, REPEATS_MAX);
    let limits = if machine.is_some() { test.limits(engine) } else { vec![] };
    let (mut ceilings, mut seconds) = (vec![vec![]; limits.len()], vec![]);
    for _ in 0..rounds {
        let mut look = || {
            for (limit, ceilings) in limits.iter().zip(&mut ceilings) {
                ceilings.extend(machine.map(|machine| machine.limit(*limit, repeats)));
            }
        };
        look();
        seconds.push(test.run(engine)?);
        look();
    }
    let share = |(&limit, ceilings): (&Limit, &Vec<f64>)| {
        let (mut before_and_after, mut runs) = (ceilings.iter().copied(), seconds.iter());
        let mut ceiling = || before_and_after.next().expect("two a round");
        let mut rate = || limit.amount(cost) / runs.next().expect("one a round");
        (limit, compare(rounds, &mut ceiling, &mut rate))
    };
    let shares = limits.iter().zip(&ceilings).map(share).collect();
    let rates = seconds.iter().map(|seconds| tokens / seconds).collect();
    Ok(Row { test, rates, shares, each: (cost.bytes as f64 / tokens, cost.flops as f64 / tokens) })
}

/// What all rows begin with.
struct Head {
    model: String,
    bytes: u64,
    params: u64,
    set: &'static str,
    threads: usize,
    /// The maker's name of the first GPU, where there is one.
    gpu: Option<String>,
}

impl Head {
    fn new(engine: &Engine, threads: usize, set: &'static str) -> Self {
        let data = engine.plan().data();
        // Parts of one tensor begin at different places of it.
        let part = |spec: &WeightSpec| spec.stored.as_ref().map_or(0, |stored| stored.offset);
        let mut weights: BTreeMap<(&str, u64), &WeightSpec> = BTreeMap::new();
        let all = data.programs().flat_map(|program| &program.weights);
        weights.extend(all.map(|spec| ((spec.name.as_str(), part(spec)), spec)));
        let elements = |spec: &&WeightSpec| spec.dims.iter().map(|&len| u64::from(len)).product::<u64>();
        Self {
            model: format!("{} {}L", data.family, data.layers),
            bytes: data.devices.iter().map(|device| device.weight_bytes).sum(),
            params: weights.values().map(elements).sum(),
            set,
            threads,
            gpu: data.devices.iter().find_map(|device| gpu_model(&device.name)),
        }
    }

    /// What computes.
    fn backend(&self) -> String {
        self.gpu.as_ref().map_or_else(|| format!("CPU {}", self.set), |gpu| format!("CUDA {gpu}"))
    }
}

impl Row {
    /// Median and standard deviation of the rates.
    fn rate(&self) -> (f64, f64) {
        let mean = self.rates.iter().sum::<f64>() / self.rates.len() as f64;
        let square = self.rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / self.rates.len() as f64;
        (median(&mut self.rates.clone()), square.sqrt())
    }

    fn line(&self, head: &Head) -> String {
        let (rate, deviation) = self.rate();
        let each =
            |f: &dyn Fn(&(Limit, Comparison)) -> String| self.shares.iter().map(f).collect::<Vec<_>>().join(", ");
        let share = each(&|(_, found)| format!("{:.0} %", found.share * 100.0));
        let limit = each(&|(limit, found)| format!("{:.1} {}", found.ceiling / 1e9, limit.unit()));
        let rounds = each(&|(_, found)| format!("{}/{}", found.kept, found.dropped));
        let (gib, millions) = (head.bytes as f64 / f64::from(1 << 30), head.params as f64 / 1e6);
        let (Head { model, threads, .. }, backend) = (head, head.backend());
        let test = self.test.name();
        format!(
            "| {model} | {gib:.2} GiB | {millions:.2} M | {backend} | {threads} | {test} | {rate:.2} ± {deviation:.2} | {share} | {limit} | {rounds} |"
        )
    }

    fn json(&self, head: &Head) -> String {
        let (rate, deviation) = self.rate();
        let (prompt, generated, batch) = match self.test {
            Test::Prompt { tokens } => (tokens, 0, 1),
            Test::Generate { tokens, batch } => (0, tokens, batch),
        };
        let share = |(limit, found): &(Limit, Comparison)| {
            json!({"limit": match limit { Limit::Reads => "read", Limit::MultiplyAdds => "fma", Limit::Products(_) => "integer" },
                "share": found.share, "share_least": found.range.0, "share_most": found.range.1,
                "ceiling": found.ceiling, "rate": found.rate, "rounds_kept": found.kept, "rounds_dropped": found.dropped})
        };
        let shares: Vec<_> = self.shares.iter().map(share).collect();
        json!({"model": head.model, "model_size": head.bytes, "model_n_params": head.params, "backend": if head.gpu.is_some() { "CUDA" } else { "CPU" }, "gpu": head.gpu,
            "instruction_set": head.set, "n_threads": head.threads, "test": self.test.name(), "n_prompt": prompt,
            "n_gen": generated, "n_batch": batch, "median_ts": rate, "stddev_ts": deviation, "samples_ts": self.rates,
            "bytes_per_token": self.each.0, "flops_per_token": self.each.1, "limits": shares})
        .to_string()
    }
}
