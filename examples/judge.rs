//! A judge: one model answers, a second one says how likely it finds each verdict on the answer, and a second answer is
//! drawn. `cargo run --release --example judge -- examples/jobs/prompts.jsonl judged.jsonl`

use millstream::job::{Interrupt, Unwatched};
use millstream::score::{Scoring, encode_pair};
use millstream::steps::{Fleet, Flow};
use millstream::{Checkpoint, DType, Engine, Generation, Sampling};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::path::Path;

const VERDICTS: [&str; 2] = [" This is correct.", " This is wrong."];

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Answer {
    prompt: String,
    text: String,
    verdict: String,
    /// Of the verdict that the judge finds likelier.
    loglikelihood: f64,
    second: String,
}

pub(crate) fn judge(input: &Path, output: &Path) -> Result<u64, Box<dyn Error>> {
    let embedded = || Engine::builder(Checkpoint::embedded());
    let fleet = Fleet::plan().model("writer", embedded()).model("judge", embedded().dtype(DType::F32)).build()?;
    let engine = |name| fleet.engine(name).ok_or("it was named above");
    let (writer, judge) = (engine("writer")?, engine("judge")?);
    let write = |engine: &Engine, temperature| {
        let engine = engine.clone();
        move |answer: &Answer| {
            let prompt = engine.encode(&answer.prompt).unwrap_or_default();
            Generation { sampling: Sampling { temperature, ..Sampling::GREEDY }, ..Generation::greedy(prompt, 20) }
        }
    };
    let (checked, reader) = (writer.clone(), judge.clone());
    let job = Flow::<Answer>::read(input)
        .try_map("check", move |answer: Answer| checked.encode(&answer.prompt).map(|_| answer))
        .generate("answer", writer, write(writer, 0.0), |answer, made| Answer { text: made.text, ..answer })
        .fan_out("verdicts", |answer: Answer| {
            VERDICTS.map(|verdict| Answer { verdict: verdict.into(), ..answer.clone() }).to_vec()
        })
        .score(
            "judge",
            judge,
            move |answer| {
                let asked = format!("{}{}", answer.prompt, answer.text);
                let pair = reader.tokenizer().and_then(|own| encode_pair(own, &asked, &answer.verdict).ok());
                let (context, continuation) = pair.unwrap_or_default();
                Scoring { context, continuation, as_generated: false }
            },
            |answer, score| Answer { loglikelihood: score.loglikelihood(), ..answer },
        )
        .fan_in("verdict", |verdicts: Vec<Answer>| {
            let likelier = |a: &Answer, b: &Answer| a.loglikelihood.total_cmp(&b.loglikelihood);
            verdicts.into_iter().max_by(likelier).unwrap_or_default()
        })
        .generate("second", writer, write(writer, 0.9), |answer, made| Answer { second: made.text, ..answer })
        .write(output);
    let summary = job.resume().open()?.run(&Interrupt::default(), &mut Unwatched)?;
    Ok(summary.tally.done - summary.tally.errors)
}

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &files[..] else { return Err("usage: judge IN.jsonl OUT.jsonl".into()) };
    println!("{} answers judged", judge(input.as_ref(), output.as_ref())?);
    Ok(())
}
