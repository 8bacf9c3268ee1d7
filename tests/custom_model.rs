//! A family from outside the crate is a family: what its graph says, under every layout, on bits where one device gives them.

#[path = "../examples/custom_model.rs"]
#[allow(dead_code, reason = "its main is the example's")]
mod custom_model;

use custom_model::GATED;
use millstream::checkpoint::LoadFormat;
use millstream::graph::{Model, interpret, models};
use millstream::{Bounds, Capture, Checkpoint, Engine, Generation};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn place(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("custom_model").join(name);
    drop(std::fs::remove_dir_all(&dir));
    std::fs::create_dir_all(&dir).expect("room for a folder");
    dir
}

fn config() -> Value {
    json!({
        "model_type": "gated", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "gate_rank": 6
    })
}

/// A weight's elements: a function of its name and their places.
fn elements(name: &str, count: usize) -> Vec<f32> {
    let norm = name.contains("norm");
    let seed = name.bytes().fold(17u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let at = |place: usize| {
        let mixed = (seed ^ (place as u32).wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        let share = ((mixed ^ (mixed >> 13)) >> 8) as f32 / (1 << 24) as f32 - 0.5;
        if norm { 1.0 + share / 5.0 } else { share * 0.6 }
    };
    (0..count).map(at).collect()
}

/// A checkpoint of the family with weights.
fn checkpoint(name: &str) -> (Checkpoint, Model) {
    let dir = place(name);
    std::fs::write(dir.join("config.json"), config().to_string()).expect("room for a small file");
    let map = config().as_object().expect("an object").clone();
    let model = models::describe_among(&[GATED], &map).expect("it is described").model;
    let stored: BTreeMap<String, (Vec<usize>, Vec<u8>)> = model
        .tensors()
        .into_iter()
        .map(|(name, dims)| {
            let dims: Vec<usize> = dims.into_iter().map(|dim| dim as usize).collect();
            let bytes = elements(&name, dims.iter().product()).into_iter().flat_map(f32::to_le_bytes).collect();
            (name, (dims, bytes))
        })
        .collect();
    let views = stored.iter().map(|(name, (dims, bytes))| {
        (name.clone(), TensorView::new(Dtype::F32, dims.clone(), bytes).expect("as many bytes as it says"))
    });
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).expect("tensors are written");
    (Checkpoint::open(&dir, LoadFormat::Mmap).expect("a folder"), model)
}

#[test]
fn it_is_what_its_graph_says_under_every_layout() {
    let (checkpoint, model) = checkpoint("layouts");
    let prompts: Vec<Vec<u32>> =
        [1u32, 6, 23].map(|length| (0..length).map(|at| (at * 37 + length) % 96).collect()).to_vec();
    let weight = |name: &str| {
        let (_, dims) = model.tensors().into_iter().find(|(own, _)| own == name).expect("a weight");
        elements(name, dims.iter().map(|&dim| dim as usize).product())
    };
    let wanted: Vec<Vec<f32>> = prompts.iter().map(|prompt| interpret::logits(&model, prompt, &weight).data).collect();
    let told = |tensor: u32, stages: u32, chunk: u32| -> Vec<Vec<f32>> {
        let bounds = Bounds { max_num_batched_tokens: Some(chunk), ..Bounds::default() };
        let builder = Engine::builder(checkpoint.clone()).family(GATED).bounds(bounds).capture_logits();
        let builder =
            builder.tensor_parallel_size(tensor).pipeline_parallel_size(stages).threads((tensor * stages) as usize);
        let engine = builder.build().expect("an engine builds");
        let ask = |prompt: &Vec<u32>| Generation { capture: Capture::All, ..Generation::greedy(prompt.clone(), 0) };
        let streams: Vec<_> = prompts.iter().map(|prompt| engine.submit(ask(prompt))).collect();
        let rows = |stream: millstream::Stream| {
            let told = stream.wait().expect("it is good");
            told.prompt.into_iter().flat_map(|row| row.logits.expect("asked for")).collect()
        };
        streams.into_iter().map(rows).collect()
    };
    let alone = told(1, 1, 64);
    for (tensor, stages, chunk) in [(1, 1, 5), (1, 2, 64), (1, 3, 7), (2, 1, 64), (2, 2, 16), (4, 1, 64)] {
        for ((found, alone), wanted) in told(tensor, stages, chunk).iter().zip(&alone).zip(&wanted) {
            let far = found.iter().zip(wanted).map(|(found, wanted)| (found - wanted).abs()).fold(0.0, f32::max);
            assert!(far < 2e-4 && found.len() == wanted.len(), "-tp {tensor} -pp {stages}, steps of {chunk}: {far}");
            let bits = |row: &[f32]| row.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
            assert!(tensor > 1 || bits(found) == bits(alone), "-pp {stages}, steps of {chunk}: other bits");
        }
    }
}

#[test]
fn only_who_brings_it_has_it() {
    let (checkpoint, _) = checkpoint("known");
    let unknown = Engine::builder(checkpoint.clone()).plan().expect_err("nobody brought it").to_string();
    assert!(unknown.contains("\"gated\"") && unknown.contains("docs/adding-a-model.md"), "{unknown}");
    let (architecture, plan) = Engine::builder(checkpoint).family(GATED).plan().expect("it was brought");
    assert_eq!((architecture.family, plan.data().family.as_str(), plan.data().layers), ("gated", "gated", 3));
}

#[test]
fn the_example_runs_and_goes_on() {
    let output = place("example").join("out.jsonl");
    for _ in 0..2 {
        assert_eq!(custom_model::run(&output).expect("the example runs"), 64, "the second time there is nothing to do");
    }
    let text = std::fs::read_to_string(&output).expect("results");
    assert!(text.lines().count() == 64 && text.lines().all(|line| line.contains("\"error\":null")), "{text}");
}
