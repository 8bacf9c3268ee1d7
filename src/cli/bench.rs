//! `bench`: prefill and decode rates of an engine, in llama-bench's columns.

use super::{Failure, args};
use crate::engine::{Ended, Engine, Generation, Output, Stream};
use actors::trace::Trace;
use graph::plan::Role;
use serde_json::json;
use std::time::Instant;

/// One row of the table.
struct Row {
    test: String,
    rates: Vec<f64>,
}

/// Measures what the flags ask for.
pub(super) fn bench(args: &args::Bench, trace: &Trace) -> Result<(), Failure> {
    let mut deploy = args.deploy.clone();
    let most = args.batch.iter().copied().max().unwrap_or(1).max(1);
    deploy.max_num_seqs = Some(deploy.max_num_seqs.unwrap_or(most).max(most));
    let engine = deploy.builder()?.trace(trace).without_prefix_caching().build()?;
    let mut rows = vec![];
    if args.n_prompt > 0 {
        rows.push(measure(args, format!("pp{}", args.n_prompt), || prefill(&engine, args.n_prompt))?);
    }
    for &batch in args.batch.iter().filter(|_| args.n_gen > 0) {
        let test = if batch == 1 { format!("tg{}", args.n_gen) } else { format!("tg{} batch {batch}", args.n_gen) };
        rows.push(measure(args, test, || decode(&engine, args.n_gen, batch))?);
    }
    print(&engine, &rows, args.json);
    Ok(())
}

fn measure(args: &args::Bench, test: String, mut once: impl FnMut() -> Result<f64, Failure>) -> Result<Row, Failure> {
    once()?;
    let rates = (0..args.repetitions.max(1)).map(|_| once()).collect::<Result<_, _>>()?;
    Ok(Row { test, rates })
}

/// Token ids that differ from call to call only in nothing: the same prompt every time.
fn prompt(engine: &Engine, tokens: u32, which: u32) -> Vec<u32> {
    let vocabulary = engine.plan().data().vocabulary;
    (0..tokens).map(|i| (i.wrapping_mul(2_654_435_761) ^ which.wrapping_mul(97)) % vocabulary).collect()
}

fn begin(engine: &Engine, prompt: Vec<u32>, tokens: u32) -> Stream<'_> {
    engine.submit(Generation { ignore_eos: true, ..Generation::greedy(prompt, tokens) })
}

/// Waits for the end; the time of the first token is told.
fn drain(stream: Stream<'_>, first: &mut Option<Instant>) -> Result<(), Failure> {
    for output in stream {
        match output {
            Output::Prompt { .. } => {}
            Output::Token { .. } => drop(first.get_or_insert_with(Instant::now)),
            Output::Ended(Ended::Failed(why)) => return Err(Failure::Reference { what: "bench".into(), why }),
            Output::Ended(Ended::Stop { .. } | Ended::Length | Ended::Cancelled) => {}
        }
    }
    Ok(())
}

/// Prompt tokens a second of one prompt.
fn prefill(engine: &Engine, tokens: u32) -> Result<f64, Failure> {
    let start = Instant::now();
    drain(begin(engine, prompt(engine, tokens, 0), 1), &mut None)?;
    Ok(f64::from(tokens) / start.elapsed().as_secs_f64())
}

/// Generated tokens a second of `batch` sequences together, from the first token on.
fn decode(engine: &Engine, tokens: u32, batch: u32) -> Result<f64, Failure> {
    let streams: Vec<_> = (0..batch).map(|which| begin(engine, prompt(engine, 1, which), tokens + 1)).collect();
    let mut first = None;
    for stream in streams {
        drain(stream, &mut first)?;
    }
    let seconds = first.map_or(f64::INFINITY, |first| first.elapsed().as_secs_f64());
    Ok(f64::from(tokens) * f64::from(batch) / seconds)
}

fn print(engine: &Engine, rows: &[Row], as_json: bool) {
    let data = engine.plan().data();
    let bytes: u64 = data.devices.iter().map(|d| d.weight_bytes).sum();
    let gib = bytes as f64 / f64::from(1 << 30);
    let stages = data.actors.iter().filter(|a| matches!(a.role, Role::Stage { .. })).count();
    let (family, layers) = (&data.family, data.layers);
    if !as_json {
        println!("| model | size | stages | test | t/s |\n| --- | ---: | ---: | --- | ---: |");
    }
    for row in rows {
        let mut sorted = row.rates.clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
        if as_json {
            println!(
                "{}",
                json!({"family": family, "layers": layers, "weight_bytes": bytes, "test": row.test,
                    "median_ts": median, "samples_ts": row.rates})
            );
        } else {
            let model = format!("{family} {layers}L");
            println!("| {model} | {gib:.2} GiB | {stages} | {} | {median:.1} ({least:.1}-{most:.1}) |", row.test);
        }
    }
}
