//! Best of n: a policy draws n texts for each prompt, a second model scores them, the likeliest by its mean log-probability is kept.
//! `cargo run --release --example best_of_n -- examples/jobs/prompts.jsonl best.jsonl`

use millstream::job::{Interrupt, Unwatched};
use millstream::score::Scoring;
use millstream::steps::{Fleet, Flow};
use millstream::{Checkpoint, DType, Engine, Generation, Sampling};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::path::Path;

const SAMPLES: usize = 4;

#[derive(Serialize, Deserialize)]
struct Line {
    prompt: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct Draft {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    text: String,
    reward: f64,
}

pub(crate) fn best_of_n(input: &Path, output: &Path) -> Result<u64, Box<dyn Error>> {
    let embedded = || Engine::builder(Checkpoint::embedded());
    let fleet = Fleet::plan().model("policy", embedded()).model("reward", embedded().dtype(DType::F32)).build()?;
    let engine = |name| fleet.engine(name).ok_or("it was named above");
    let (policy, reward) = (engine("policy")?, engine("reward")?);
    let encoder = policy.clone();
    let sampling = Sampling { temperature: 0.9, ..Sampling::GREEDY };
    let job = Flow::<Line>::read(input)
        .try_map("encode", move |line: Line| {
            let prompt = encoder.encode(&line.prompt)?;
            Ok::<_, millstream::RequestError>(Draft { prompt, tokens: vec![], text: String::new(), reward: 0.0 })
        })
        .fan_out("samples", |draft: Draft| vec![draft; SAMPLES])
        .generate(
            "draft",
            policy,
            move |draft: &Draft| Generation { sampling, ..Generation::greedy(draft.prompt.clone(), 24) },
            |draft, made| Draft { tokens: made.token_ids(), text: made.text, ..draft },
        )
        .score(
            "reward",
            reward,
            |draft| Scoring { context: draft.prompt.clone(), continuation: draft.tokens.clone(), as_generated: false },
            |draft, score| Draft { reward: score.loglikelihood() / score.tokens.len() as f64, ..draft },
        )
        .fan_in("best", |drafts| drafts.into_iter().max_by(|a, b| a.reward.total_cmp(&b.reward)))
        .write(output);
    eprintln!("{}", job.explain());
    let summary = job.resume().open()?.run(&Interrupt::default(), &mut Unwatched)?;
    Ok(summary.tally.done - summary.tally.errors)
}

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &files[..] else { return Err("usage: best_of_n IN.jsonl OUT.jsonl".into()) };
    println!("{} prompts, the best of {SAMPLES} each", best_of_n(input.as_ref(), output.as_ref())?);
    Ok(())
}
