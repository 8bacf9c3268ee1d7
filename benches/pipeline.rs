//! What two stages on two cores gain over one core, and how near they come to two processes that share nothing.
//!
//! `cargo bench --bench pipeline [-- ROUNDS]`. Each round measures one device of one core, two stages of one core each, and two
//! processes of one core each at the same time, all over the same micro-batches; figures are medians of the rounds' ratios.

use kernels::ceiling::median;
use kernels::{Team, TeamSpec};
use millstream::{Checkpoint, Engine, Generation, Output, Stream};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Instant;

/// Rows of a micro-batch, which is one prompt.
const ROWS: u32 = 128;
/// Steps before the clock starts, and steps measured.
const WARM: usize = 20;
const STEPS: usize = 200;
/// Sequences and tokens of the decode figure.
const SEQUENCES: u32 = 8;
const TOKENS: u32 = 64;
/// The argument that makes this program one of the two processes.
const WORKER: &str = "--worker";

/// Rates of one layout.
#[derive(Clone, Copy)]
struct Rates {
    /// Prefill steps a second.
    steps: f64,
    /// Decoded tokens a second.
    tokens: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [flag, core] = &arguments[..]
        && flag == WORKER
    {
        return worker(core.parse().expect("a core's number"));
    }
    let rounds = arguments.first().map_or(5, |n| n.parse().expect("a number of rounds"));
    let (mut gain, mut share, mut decode, mut step_ms) = (vec![], vec![], vec![], vec![]);
    for round in 1..=rounds {
        let one = measure(&engine(1, 1));
        let two = measure(&engine(2, 2));
        let apart = processes();
        gain.push(two.steps / one.steps);
        share.push(two.steps / apart.steps);
        decode.push(two.tokens / one.tokens);
        step_ms.push(1e3 / one.steps);
        println!(
            "round {round}: prefill steps/s: one core {:.1}, two stages {:.1}, two processes {:.1} in all; decode tokens/s: {:.0}, {:.0}, {:.0}",
            one.steps, two.steps, apart.steps, one.tokens, two.tokens, apart.tokens
        );
    }
    println!("a step of {ROWS} rows on one core: {:.1} ms", median(&mut step_ms));
    println!("two stages over one core, prefill: {:.2} (wanted: at least 1.6)", median(&mut gain));
    println!("two stages over two processes, prefill: {:.2} (wanted: at least 0.9)", median(&mut share));
    println!(
        "two stages over one core, decode of {SEQUENCES} sequences: {:.2} (bound by shared bandwidth)",
        median(&mut decode)
    );
}

fn engine(stages: u32, threads: usize) -> Engine {
    let shape = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/shapes/pipeline-8l");
    let bounds = graph::plan::Bounds {
        max_num_batched_tokens: Some(ROWS),
        max_num_seqs: Some(16),
        max_model_len: Some(256),
        ..graph::plan::Bounds::default()
    };
    let builder = Engine::builder(Checkpoint::dummy(&shape).expect("the shape is in the tree"));
    let builder = builder.dummy_weights().bounds(bounds).without_prefix_caching();
    builder.pipeline_parallel_size(stages).threads(threads).pin_threads().build().expect("an engine builds")
}

fn measure(engine: &Engine) -> Rates {
    Rates { steps: prefill(engine), tokens: decode(engine) }
}

/// Steps a second over [`STEPS`] steps of one prompt each, in steady state.
fn prefill(engine: &Engine) -> f64 {
    let prompt = |which: usize| (0..ROWS).map(|i| (i * 31 + which as u32 * 17) % 4000).collect::<Vec<u32>>();
    let mut streams: VecDeque<Stream> = VecDeque::new();
    let (mut next, mut done, mut start) = (0, 0, Instant::now());
    // A few more at the end, so that the last steps measured overlap like all others.
    while done < WARM + STEPS {
        while next < WARM + STEPS + 8 && streams.len() < 24 {
            streams.push_back(engine.submit(Generation { ignore_eos: true, ..Generation::greedy(prompt(next), 1) }));
            next += 1;
        }
        let stream = streams.pop_front().expect("there are more than are done");
        assert!(stream.into_iter().any(|output| matches!(output, Output::Token { .. })), "every prompt gives a token");
        done += 1;
        if done == WARM {
            start = Instant::now();
        }
    }
    STEPS as f64 / start.elapsed().as_secs_f64()
}

/// Tokens a second of [`SEQUENCES`] sequences together.
fn decode(engine: &Engine) -> f64 {
    let begin = |which| engine.submit(Generation { ignore_eos: true, ..Generation::greedy(vec![which + 1], TOKENS) });
    let streams: Vec<Stream> = (0..SEQUENCES).map(begin).collect();
    let start = Instant::now();
    let tokens = streams.into_iter().flatten().filter(|output| matches!(output, Output::Token { .. })).count();
    tokens as f64 / start.elapsed().as_secs_f64()
}

/// One of two processes: everything on one core; says when it is ready, waits for its word, tells its rates.
fn worker(core: usize) {
    // Threads started from here on inherit the core.
    Team::new(TeamSpec { threads: 1, cores: Some(vec![core]), spin: false })
        .pin_caller()
        .expect("the core is ours to use");
    let engine = engine(1, 1);
    println!("ready");
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).expect("the parent speaks");
    let rates = measure(&engine);
    println!("{} {}", rates.steps, rates.tokens);
}

/// Two workers at the same time; their rates together.
fn processes() -> Rates {
    let own = std::env::current_exe().expect("this program");
    let spawn = |core: usize| {
        let mut command = Command::new(&own);
        command.args([WORKER, &core.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().expect("a process starts")
    };
    let mut children: Vec<Child> = (0..2).map(spawn).collect();
    let mut outputs: Vec<_> =
        children.iter_mut().map(|child| BufReader::new(child.stdout.take().expect("piped")).lines()).collect();
    let mut line = |which: usize| outputs[which].next().expect("the worker speaks").expect("text");
    for which in 0..2 {
        assert_eq!(line(which), "ready");
    }
    let mut words: Vec<ChildStdin> = children.iter_mut().map(|child| child.stdin.take().expect("piped")).collect();
    words.iter_mut().for_each(|word| writeln!(word, "go").expect("the worker listens"));
    let mut sum = Rates { steps: 0.0, tokens: 0.0 };
    for which in 0..2 {
        let rates: Vec<f64> = line(which).split(' ').map(|n| n.parse().expect("a rate")).collect();
        sum = Rates { steps: sum.steps + rates[0], tokens: sum.tokens + rates[1] };
    }
    for mut child in children {
        child.wait().expect("the worker ends");
    }
    sum
}
