//! Golden text of the graph and of the passes. A changed golden is replaced by hand, on purpose.

use graph::plan::{Bounds, Deployment, DeviceSpec, Numerics, Plan, PlanError, compile, explain};
use graph::{DType, Model, models, text};
use serde_json::json;

/// A Qwen3 of one or more layers, small enough to read.
fn qwen3(layers: u32) -> Model {
    let config = json!({
        "model_type": "qwen3", "hidden_size": 8, "intermediate_size": 12, "vocab_size": 32, "num_hidden_layers": layers,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "tie_word_embeddings": true,
        "max_position_embeddings": 64
    });
    models::describe(config.as_object().expect("an object")).expect("a known family").model
}

fn deployed(model: &Model, tensor: u32, pipeline: u32) -> Result<Plan, Vec<PlanError>> {
    let device = |n| DeviceSpec { name: format!("cpu:{n}"), memory_bytes: 1 << 24 };
    let devices = (0..tensor * pipeline).map(device).collect();
    let bounds = Bounds { max_num_seqs: Some(4), max_num_batched_tokens: Some(16), ..Bounds::default() };
    let deployment = Deployment {
        family: "qwen3",
        tensor,
        pipeline,
        expert: 1,
        numerics: Numerics::Invariant,
        devices,
        layer_partition: None,
        bounds,
        max_positions: 64,
        weight_dtype: &|_| DType::F32,
        quantization: None,
        cache_dtype: DType::F32,
    };
    compile(model, &deployment)
}

#[track_caller]
fn check(found: &str, golden: &str) {
    for (number, (found, golden)) in found.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, golden, "line {}", number + 1);
    }
    assert_eq!(found.lines().count(), golden.lines().count(), "found:\n{found}");
}

#[test]
fn a_qwen3_reads_as_its_golden_text() {
    check(&text::print(qwen3(1).draft()), include_str!("golden/qwen3.txt"));
}

#[test]
fn the_text_form_reads_back_as_the_same_graph() {
    let model = qwen3(2);
    let draft = text::parse(&text::print(model.draft())).expect("printed text parses");
    assert_eq!(Model::check(draft).expect("still lawful"), model);
}

#[test]
fn every_conformance_model_reads_back_from_its_text() {
    let folders = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance");
    let mut read = 0;
    for folder in
        std::fs::read_dir(folders).expect("the fixtures are there").map(|entry| entry.expect("an entry").path())
    {
        let Ok(config) = std::fs::read_to_string(folder.join("config.json")) else { continue };
        let config: serde_json::Value = serde_json::from_str(&config).expect("a fixture's configuration parses");
        let Ok(architecture) = models::describe(config.as_object().expect("an object")) else { continue };
        let model = architecture.model;
        let draft = text::parse(&text::print(model.draft())).expect("printed text parses");
        assert_eq!(Model::check(draft).expect("still lawful"), model, "{}", folder.display());
        read += 1;
    }
    assert!(read >= 12, "{read} fixtures");
}

#[test]
fn one_device_runs_one_stage() {
    let plan = deployed(&qwen3(2), 1, 1).expect("a lawful plan");
    check(&explain::explain(&plan), include_str!("golden/plan_1x1.txt"));
}

#[test]
fn two_stages_of_two_ranks_reduce_twice_a_layer() {
    let plan = deployed(&qwen3(2), 2, 2).expect("a lawful plan");
    check(&explain::explain(&plan), include_str!("golden/plan_2x2.txt"));
}

#[test]
fn a_plan_reads_back_from_json() {
    for (tensor, pipeline) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
        let plan = deployed(&qwen3(2), tensor, pipeline).expect("a lawful plan");
        assert_eq!(Plan::from_json(&plan.to_json()).expect("still lawful"), plan);
    }
}
