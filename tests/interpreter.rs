//! The interpreter, which is the meaning of a graph, against the reference logits.

#[path = "common/families.rs"]
mod families;

use families::{Kind, families};
use graph::{interpret, models};
use kernels::RowSource;
use millstream::checkpoint::{Checkpoint, LoadFormat, TensorRows};

fn check(name: &str) {
    let dir = families::fixture(name);
    let checkpoint = Checkpoint::open(&dir, LoadFormat::Read).expect("a fixture opens");
    let model = models::describe(checkpoint.config()).expect("a known family").model;
    let weight = |name: &str| -> Vec<f32> {
        let tensor = checkpoint.tensor(name).expect("the fixture has every weight");
        tensor.bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let json = std::fs::read(dir.join("expected.json")).expect("a fixture has its reference");
    let json: serde_json::Value = serde_json::from_slice(&json).expect("the reference parses");
    let tensors = std::fs::read(dir.join("expected.safetensors")).expect("a fixture has its logits");
    let tensors = safetensors::SafeTensors::deserialize(&tensors).expect("the logits parse");
    for (number, case) in json["cases"].as_array().expect("cases").iter().enumerate() {
        let ids = case["prompt"].as_array().expect("a prompt");
        let ids: Vec<u32> = ids.iter().map(|id| id.as_u64().expect("an id") as u32).collect();
        let found = interpret::logits(&model, &ids, &weight);
        let wanted = tensors.tensor(&format!("logits.{number}")).expect("logits of the case");
        let wanted = wanted.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        for (at, (found, wanted)) in found.data.iter().zip(wanted).enumerate() {
            assert!((found - wanted).abs() < 2e-4, "{name} case {number} element {at}: {found}, wanted {wanted}");
        }
    }
    if name != "qwen3" {
        return;
    }
    // The rows a rank reads are those of the tensor: one weight, whole.
    let plan = millstream::Engine::builder(checkpoint.clone()).plan().expect("a plan").1;
    let graph::plan::Role::Stage { program, .. } = &plan.data().actors[3].role else { panic!("the first stage") };
    let spec = &program.weights[2];
    let rows = TensorRows::new(&checkpoint, spec).expect("rows of a weight");
    let mut row = vec![0; spec.k as usize * 4];
    RowSource::copy_row(&rows, 1, &mut row);
    assert_eq!(row, checkpoint.tensor(&spec.name).expect("it is there").bytes[row.len()..2 * row.len()]);
}

#[test]
fn families_without_experts_are_what_their_graphs_say() {
    families(&[Kind::Dense]).for_each(check);
}

#[test]
fn families_with_experts_are_what_their_graphs_say() {
    families(&[Kind::Experts]).for_each(check);
}

#[test]
fn families_that_recur_are_what_their_graphs_say() {
    families(&[Kind::Recurrent]).for_each(check);
}
