//! `shard-check`: one model under every legal layout of a few devices, held against the same model on one.
//!
//! What the law of determinism promises is compared on bits; what it leaves open (sums over ranks, unless they are made in a tree)
//! within a tolerance, with equal tokens.

use super::tell::tell;
use super::{Failure, args};
use crate::engine::{Ended, Engine, EngineBuilder, EngineError, Generation, Output};
use crate::{Capture, Error};
use actors::trace::Trace;
use graph::plan::{Bounds, Numerics};
use serde_json::{Value, json};

/// Devices of the largest layout.
const DEVICES_MAX: u32 = 4;
/// Largest difference of a logit where sums over ranks have another order.
const TOLERANCE: f32 = 2e-4;
/// Lengths of the prompts: one token, less than a page, and several pages that end inside one.
const PROMPTS: [u32; 3] = [1, 11, 45];
/// Tokens generated behind each prompt.
const TOKENS: u32 = 10;

/// One way to run a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    tensor: u32,
    pipeline: u32,
    data: u32,
    expert: u32,
    /// Rows of the largest step; the default where there is none.
    rows: Option<u32>,
    /// Threads of the process.
    threads: Option<usize>,
}

impl Layout {
    const ONE: Self = Self { tensor: 1, pipeline: 1, data: 1, expert: 1, rows: None, threads: Some(1) };

    /// Every mix of degrees up to [`DEVICES_MAX`] devices, with experts cut and with experts dealt out, then the cuts of rows and threads that one device has.
    fn all() -> Vec<Self> {
        let mut all = vec![];
        for data in 1..=DEVICES_MAX {
            for tensor in 1..=DEVICES_MAX / data {
                for pipeline in 1..=DEVICES_MAX / data / tensor {
                    let layout = Self { tensor, pipeline, data, threads: None, ..Self::ONE };
                    if tensor * pipeline * data > 1 {
                        all.push(layout);
                    }
                    if tensor > 1 {
                        all.push(Self { expert: tensor, ..layout });
                        continue;
                    }
                    let experts = 2..=DEVICES_MAX / data / pipeline;
                    all.extend(experts.map(|expert| Self { expert, ..layout }));
                }
            }
        }
        let cut = |rows, threads| Self { rows: Some(rows), threads: Some(threads), ..Self::ONE };
        all.extend([cut(1, 1), cut(7, 2), cut(64, 2)]);
        all
    }

    fn builder(self, model: &EngineBuilder) -> EngineBuilder {
        let mut builder = model
            .clone()
            .tensor_parallel_size(self.tensor)
            .pipeline_parallel_size(self.pipeline)
            .data_parallel_size(self.data)
            .expert_parallel_size(self.expert);
        if let Some(rows) = self.rows {
            let bounds =
                Bounds { max_num_batched_tokens: Some(rows), max_num_seqs: Some(rows.min(4)), ..Bounds::default() };
            builder = builder.bounds(bounds);
        }
        match self.threads {
            Some(threads) => builder.threads(threads),
            None => builder,
        }
    }

    /// Whether the law promises the bits of one device.
    fn keeps_bits(self, numerics: Numerics) -> bool {
        self.tensor * self.expert == 1 || numerics == Numerics::Tree
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let degrees = [("-tp", self.tensor), ("-pp", self.pipeline), ("-dp", self.data), ("-ep", self.expert)];
        let mut words: Vec<String> =
            degrees.iter().filter(|(_, n)| *n > 1).map(|(flag, n)| format!("{flag} {n}")).collect();
        words.extend(self.rows.map(|rows| format!("steps of {rows} rows")));
        words.extend(self.threads.filter(|_| self.rows.is_some()).map(|n| format!("{n} threads")));
        f.write_str(&words.join(", "))
    }
}

/// What one request gave: its tokens, and the logits of every position.
#[derive(Clone, PartialEq, Debug, Default)]
struct Told {
    tokens: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

/// How a layout compares with one device.
enum Verdict {
    SameBits,
    Within(f32),
    Differs { largest: f32, request: usize, position: usize },
    OtherToken { request: usize, place: usize },
    Illegal(String),
}

impl Verdict {
    /// Whether it is what the law promises: `bits`, or equal tokens.
    fn holds(&self, bits: bool) -> bool {
        match self {
            Verdict::SameBits | Verdict::Illegal(_) => true,
            Verdict::Within(_) => !bits,
            Verdict::Differs { .. } | Verdict::OtherToken { .. } => false,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::SameBits => write!(f, "same bits"),
            Verdict::Within(largest) => write!(f, "within {largest:.1e}, equal tokens"),
            Verdict::Differs { largest, request, position } => {
                write!(f, "differs by {largest:.1e}, first at position {position} of request {request}")
            }
            Verdict::OtherToken { request, place } => write!(f, "another token at place {place} of request {request}"),
            Verdict::Illegal(why) => write!(f, "not legal: {why}"),
        }
    }
}

/// Runs every layout and prints how each compares.
pub(super) fn shard_check(args: &args::ShardCheck, trace: &Trace) -> Result<(), Failure> {
    let model = args.deploy.builder()?.trace(trace).capture_logits();
    let one = Layout::ONE.builder(&model).build()?;
    let numerics = one.plan().data().numerics;
    let gold = run(one)?;
    let (mut failed, mut rows) = (0_u32, vec![]);
    let routed = model.architecture()?.model.nodes().iter().any(|node| matches!(node.op, graph::Op::Route { .. }));
    for layout in Layout::all().into_iter().filter(|layout| routed || layout.expert == 1) {
        let verdict = match layout.builder(&model).build() {
            Ok(engine) => compare(&gold, &run(engine)?),
            Err(Error::Engine(EngineError::Plan(faults))) => {
                Verdict::Illegal(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
            Err(other) => return Err(other.into()),
        };
        let bits = layout.keeps_bits(numerics);
        let holds = verdict.holds(bits);
        failed += u32::from(!holds);
        if args.json {
            rows.push(row(layout, &verdict, (bits, holds)));
        } else {
            tell!("{:<28} {verdict}{}", layout.to_string(), if holds { "" } else { "  FAILED" });
        }
    }
    if args.json {
        tell!(
            "{}",
            json!({"passed": failed == 0, "numerics": numerics.name(), "tolerance": TOLERANCE, "layouts": rows})
        );
    } else {
        tell!("{}", if failed == 0 { "passed" } else { "failed" });
    }
    if failed == 0 { Ok(()) } else { Err(Failure::Check(format!("{failed} layouts differ from one device"))) }
}

fn row(layout: Layout, verdict: &Verdict, (bits, holds): (bool, bool)) -> Value {
    let (legal, largest) = match verdict {
        Verdict::SameBits => (true, Some(0.0)),
        Verdict::Within(largest) | Verdict::Differs { largest, .. } => (true, Some(*largest)),
        Verdict::OtherToken { .. } => (true, None),
        Verdict::Illegal(_) => (false, None),
    };
    json!({"layout": layout.to_string(), "tensor_parallel_size": layout.tensor, "pipeline_parallel_size": layout.pipeline,
        "data_parallel_size": layout.data, "expert_parallel_size": layout.expert,
        "held_to": if bits { "bits".into() } else { format!("{TOLERANCE:e}") },
        "legal": legal, "same_bits": matches!(verdict, Verdict::SameBits), "largest_error": largest, "passed": holds,
        "verdict": verdict.to_string()})
}

/// What the requests give, all of them in flight at once.
fn run(engine: Engine) -> Result<Vec<Told>, Failure> {
    let vocabulary = engine.plan().data().vocabulary;
    let room = engine.plan().data().settings.max_model_len.saturating_sub(TOKENS).max(1);
    let streams: Vec<_> = PROMPTS
        .iter()
        .map(|&length| {
            let prompt = (0..length.min(room)).map(|i| (1 + i.wrapping_mul(2_654_435_761)) % vocabulary).collect();
            engine.submit(Generation { capture: Capture::All, ignore_eos: true, ..Generation::greedy(prompt, TOKENS) })
        })
        .collect();
    streams.into_iter().map(collect).collect()
}

fn collect(stream: impl Iterator<Item = Output>) -> Result<Told, Failure> {
    let mut told = Told::default();
    for output in stream {
        match output {
            Output::Prompt(row) => told.logits.extend(row.logits),
            Output::Token(token) => {
                told.tokens.push(token.token);
                told.logits.extend(token.logits);
            }
            Output::Ended(Ended::Failed(why)) => {
                return Err(Failure::Reference { what: "shard-check".into(), why: why.to_string() });
            }
            Output::Ended(Ended::Stop { .. } | Ended::Length | Ended::Cancelled) => break,
        }
    }
    Ok(told)
}

fn compare(gold: &[Told], found: &[Told]) -> Verdict {
    let bits = |told: &[Told]| -> Vec<u32> {
        told.iter().flat_map(|t| t.logits.iter().flatten()).map(|logit| logit.to_bits()).collect()
    };
    let token = gold.iter().zip(found).enumerate().find_map(|(request, (gold, found))| {
        let place = (0..gold.tokens.len()).find(|&at| found.tokens.get(at) != Some(&gold.tokens[at]))?;
        Some(Verdict::OtherToken { request, place })
    });
    if let Some(verdict) = token {
        return verdict;
    }
    if bits(gold) == bits(found) {
        return Verdict::SameBits;
    }
    let (mut largest, mut first) = (0_f32, None);
    for (request, (gold, found)) in gold.iter().zip(found).enumerate() {
        for (position, (gold, found)) in gold.logits.iter().zip(&found.logits).enumerate() {
            for (gold, found) in gold.iter().zip(found) {
                let error = (gold - found).abs();
                // A NaN is past every tolerance.
                if error.is_nan() || error > TOLERANCE {
                    first.get_or_insert((request, position));
                }
                largest = largest.max(error);
            }
        }
    }
    match first {
        Some((request, position)) => Verdict::Differs { largest, request, position },
        None => Verdict::Within(largest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tokens: &[u32], logits: &[f32]) -> Vec<Told> {
        vec![Told { tokens: tokens.to_vec(), logits: vec![logits.to_vec()] }]
    }

    #[test]
    fn a_layout_passes_by_what_the_law_promises_it() {
        let gold = told(&[1, 2], &[0.5, 1.0]);
        let (pipeline, tensor) = (Layout { pipeline: 2, ..Layout::ONE }, Layout { tensor: 2, ..Layout::ONE });
        let bits = |layout: Layout| layout.keeps_bits(Numerics::Invariant);
        assert_eq!((bits(pipeline), bits(tensor), tensor.keeps_bits(Numerics::Tree)), (true, false, true));
        for (found, by_bits, by_tolerance) in [
            (told(&[1, 2], &[0.5, 1.0]), true, true),
            (told(&[1, 2], &[0.5, 1.0001]), false, true),
            (told(&[1, 2], &[0.5, 1.001]), false, false),
            (told(&[1, 2], &[0.5, f32::NAN]), false, false),
            (told(&[1, 3], &[0.5, 1.0]), false, false),
            (told(&[1], &[0.5, 1.0]), false, false),
        ] {
            let verdict = compare(&gold, &found);
            assert_eq!((verdict.holds(true), verdict.holds(false)), (by_bits, by_tolerance), "{verdict}");
        }
    }

    #[test]
    fn every_layout_of_up_to_four_devices_is_there_once() {
        let names: Vec<String> = Layout::all().iter().map(ToString::to_string).collect();
        for name in [
            "-pp 2",
            "-pp 3",
            "-pp 4",
            "-tp 2",
            "-tp 2, -pp 2",
            "-tp 3",
            "-tp 4",
            "-tp 2, -ep 2",
            "-dp 3",
            "-tp 2, -dp 2, -ep 2",
            "steps of 7 rows, 2 threads",
        ] {
            assert_eq!(names.iter().filter(|n| *n == name).count(), 1, "{name} in {names:?}");
        }
    }
}
