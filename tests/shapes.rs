//! The shapes that `bench` measures: configurations of public models, planned without a weight.

use graph::DType;
use graph::models::describe;
use graph::plan::cost::{Stretch, step_cost};
use graph::plan::{Bounds, Deployment, DeviceSpec, Numerics, compile};
use millstream::{Checkpoint, Engine};
use std::path::{Path, PathBuf};

fn shape(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/shapes").join(name)
}

#[test]
fn known_shapes_plan_with_the_sizes_their_models_have() {
    // Weights, and those of them that a token is multiplied by: all but an untied embedding and the norms.
    for (name, family, layers, weights, multiplied) in [
        ("qwen3-0.6b", "qwen3", 28, 596_049_920u64, 595_984_384u64),
        ("llama-3.2-1b", "llama", 16, 1_235_814_400, 1_235_746_816),
        ("llama-3.1-8b", "llama", 32, 8_030_261_248, 7_504_658_432),
    ] {
        let checkpoint = Checkpoint::dummy(&shape(name)).expect("the shape is shipped");
        let architecture = describe(checkpoint.config()).expect("the family is known");
        assert_eq!((architecture.family, architecture.model.layers()), (family, layers), "{name}");
        let deployment = Deployment {
            family,
            tensor: 1,
            pipeline: 1,
            expert: 1,
            numerics: Numerics::Invariant,
            devices: vec![DeviceSpec { name: "cpu:0".into(), memory_bytes: 64 << 30 }],
            layer_partition: None,
            bounds: Bounds::default(),
            max_positions: architecture.max_positions,
            weight_dtype: &|_| DType::Bf16,
            quantization: None,
            cache_dtype: DType::Bf16,
        };
        let plan = compile(&architecture.model, &deployment).expect("the shape can be planned");
        let model = &architecture.model;
        let elements =
            |axes: &[graph::Axis]| -> u64 { axes.iter().map(|&a| u64::from(model.length(a).unwrap_or(1))).product() };
        assert_eq!(model.params().iter().map(|p| elements(&p.axes)).sum::<u64>(), weights, "{name}");
        let cost = |start| step_cost(plan.data(), &[Stretch { start, rows: 1 }], 1);
        let attention = cost(1).flops - cost(0).flops;
        assert_eq!(cost(0).flops - attention, 2 * multiplied, "{name}");
    }
}

#[test]
fn a_shape_larger_than_the_machine_is_described_and_refused_with_what_it_needs() {
    let checkpoint = Checkpoint::dummy(&shape("deepseek-v3")).expect("the shape is shipped");
    // "671B total parameters", arXiv:2412.19437 §1.
    let parameters = describe(checkpoint.config()).expect("the family is known").model.parameters();
    assert_eq!(parameters / 1_000_000_000, 671, "{parameters}");
    let builder = Engine::builder(checkpoint).dummy_weights().memory_bytes(64 << 30);
    let message = builder.plan().expect_err("64 GiB are too few").to_string();
    for part in ["cpu:0 needs 12", "has 64.00 GiB", "weights 1249.89 GiB"] {
        assert!(message.contains(part), "{message}");
    }
}
