//! An architecture that the engine does not know, described here and run by it as if it were its own: batched, sharded, as a job that resumes.
//! `cargo run --release --example custom_model -- out.jsonl`

use millstream::graph::models::Family;
use millstream::graph::models::blocks::{Decoder, Layer};
use millstream::graph::{Axis, Builder, ConfigReader, GraphError, Model, Norm, Unary, Value};
use millstream::job::{Interrupt, Job, Unwatched};
use millstream::{Checkpoint, Engine};
use std::error::Error;
use std::path::Path;

/// Llama with two twists: a squared ReLU between up and down (arXiv:2109.08668, §3), and a gate of low rank on what each branch adds to the
/// residual stream, x + tanh(B·A·x) · branch.
pub(crate) const GATED: Family = Family {
    name: "gated",
    model_types: &["gated"],
    source: "this example",
    defaults: r#"{"rms_norm_eps": 1e-5}"#,
    build,
};

fn build(c: &ConfigReader<'_>) -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let mut d = Decoder::read(b, c, Norm::rms(c.eps("rms_norm_eps")), c.count("intermediate_size"));
    d.activation = Unary::Relu;
    let rank = b.axis("gate_rank", c.count_or("gate_rank", 8));
    d.model(|layer, x| {
        let branch = layer.attention("self_attn", layer.norm("input_layernorm", x));
        let x = x + gate(layer, rank, x, "self_attn") * branch;
        let inner = layer.norm("post_attention_layernorm", x);
        let up = layer.project(("mlp.up_proj", false), (&[d.ffn], &[d.hidden]), inner).map(d.activation);
        x + gate(layer, rank, x, "mlp") * layer.project(("mlp.down_proj", false), (&[d.hidden], &[d.ffn]), up * up)
    })
}

/// tanh(B·A·x), by the branch of this name.
fn gate<'b>(layer: &Layer<'_, 'b>, rank: Axis, x: Value<'b>, branch: &str) -> Value<'b> {
    let (hidden, name) = ([layer.d.hidden], |part| format!("{branch}.gate.{part}"));
    let low = layer.project((&name("a_proj"), false), (&[rank], &hidden), x);
    layer.project((&name("b_proj"), false), (&hidden, &[rank]), low).map(Unary::Softcap(1.0))
}

/// What a checkpoint of it has beside its weights.
const CONFIG: &str = r#"{"model_type": "gated", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 512, "eos_token_id": 0}"#;

pub(crate) fn run(output: &Path) -> Result<u64, Box<dyn Error>> {
    let dir = output.with_extension("model");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("config.json"), CONFIG)?;
    let lines =
        (0..64u32).map(|n| format!(r#"{{"custom_id": "{n}", "token_ids": [{}, 7, {n}], "max_tokens": 24}}"#, n * 5));
    std::fs::write(dir.join("in.jsonl"), lines.collect::<Vec<_>>().join("\n"))?;
    // With weights in the folder: `Checkpoint::open(&dir, LoadFormat::Mmap)?`, without `dummy_weights`.
    let builder = Engine::builder(Checkpoint::dummy(&dir)?).family(GATED).dummy_weights().pipeline_parallel_size(2);
    let job = Job::new(dir.join("in.jsonl"), output).resume().open(&builder)?;
    let summary = job.run(&builder.build()?, &Interrupt::default(), &mut Unwatched)?;
    Ok(summary.tally.done - summary.tally.errors)
}

fn main() -> Result<(), Box<dyn Error>> {
    let output = std::env::args().nth(1).ok_or("usage: custom_model OUT.jsonl")?;
    println!("{} lines of a model that the engine does not know", run(output.as_ref())?);
    Ok(())
}
