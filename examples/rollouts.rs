//! Roll-outs for a trainer: n samples a prompt, each token with its log-probability under the policy and under a reference model.
//! `cargo run --release --example rollouts -- examples/jobs/prompts.jsonl rollouts.jsonl`

use millstream::job::{Interrupt, Unwatched};
use millstream::score::Scoring;
use millstream::steps::{Fleet, Flow};
use millstream::{Checkpoint, DType, Engine, Generation, Sampling};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::path::Path;

const SAMPLES: usize = 3;

#[derive(Serialize, Deserialize)]
struct Line {
    prompt: String,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Rollout {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    policy_logprobs: Vec<f32>,
    reference_logprobs: Vec<f32>,
}

pub(crate) fn rollouts(input: &Path, output: &Path) -> Result<u64, Box<dyn Error>> {
    let embedded = || Engine::builder(Checkpoint::embedded());
    let fleet = Fleet::plan().model("policy", embedded()).model("reference", embedded().dtype(DType::F32)).build()?;
    let engine = |name| fleet.engine(name).ok_or("it was named above");
    let (policy, reference) = (engine("policy")?, engine("reference")?);
    let encoder = policy.clone();
    let sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
    let job = Flow::<Line>::read(input)
        .try_map("encode", move |line: Line| encoder.encode(&line.prompt))
        .fan_out("samples", |prompt: Vec<u32>| vec![Rollout { prompt, ..Rollout::default() }; SAMPLES])
        .generate(
            "rollout",
            policy,
            move |rollout: &Rollout| {
                let generation = Generation::greedy(rollout.prompt.clone(), 32);
                Generation { sampling, logprobs: Some(0), ..generation }
            },
            |rollout, made| {
                let logprob = |token: &millstream::Token| token.logprob.as_ref().map(|told| told.logprob);
                let policy_logprobs = made.tokens.iter().filter_map(logprob).collect();
                Rollout { tokens: made.token_ids(), policy_logprobs, ..rollout }
            },
        )
        .score(
            "reference",
            reference,
            |rollout: &Rollout| Scoring {
                context: rollout.prompt.clone(),
                continuation: rollout.tokens.clone(),
                as_generated: true,
            },
            |rollout, score| Rollout {
                reference_logprobs: score.tokens.iter().map(|told| told.logprob).collect(),
                ..rollout
            },
        )
        .fan_in("group", |rollouts: Vec<Rollout>| rollouts)
        .write(output);
    let summary = job.resume().open()?.run(&Interrupt::default(), &mut Unwatched)?;
    Ok(summary.tally.done - summary.tally.errors)
}

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &files[..] else { return Err("usage: rollouts IN.jsonl OUT.jsonl".into()) };
    println!("{} prompts, {SAMPLES} roll-outs each", rollouts(input.as_ref(), output.as_ref())?);
    Ok(())
}
