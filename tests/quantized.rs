//! Checkpoints as they are published quantised, against what their widened weights give in transformers; and such as do not fit together.

mod common;

use common::{millstream, refuses};
use graph::plan::{WeightSpec, WeightUse};
use millstream::checkpoint::{Checkpoint, LoadFormat, TensorRows};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use std::path::{Path, PathBuf};

/// Type, shape and bytes of a tensor.
type Raw = (Dtype, Vec<usize>, Vec<u8>);

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quantized").join(name)
}

fn folders() -> Vec<String> {
    let entries = std::fs::read_dir(folder("")).expect("the fixtures are part of the tree");
    let names = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
    let mut names: Vec<_> =
        names.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn parity(name: &str, flags: &[&str]) {
    let folder = folder(name).display().to_string();
    let output = millstream(&[&["parity", "--model", &folder], flags].concat());
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {flags:?}: {told}");
    assert!(told.contains("12 of 12 greedy tokens equal"), "{name} {flags:?}: {told}");
}

#[test]
fn widened_weights_give_the_logits_of_the_reference() {
    let names = folders();
    assert!(names.len() >= 14, "{names:?}");
    for name in &names {
        parity(name, &["--dtype", "f32"]);
    }
}

#[test]
fn ranks_read_their_parts() {
    for name in ["mxfp4", "gptq_act_order", "ct_int4_zeros"] {
        parity(name, &["--dtype", "f32", "-tp", "2"]);
    }
    parity("fp8_block", &["--dtype", "f32", "-tp", "2", "-ep", "2"]);
}

#[test]
fn weights_are_widened_to_the_type_of_the_configuration_and_that_is_said() {
    for (name, method, count) in [("awq", "AWQ", 21), ("mxfp4", "MXFP4", 8), ("fp8_block", "fp8", 72)] {
        let checkpoint = Checkpoint::open(&folder(name), LoadFormat::Mmap).expect("a fixture opens");
        let builder = millstream::Engine::builder(checkpoint);
        let (architecture, plan) = builder.plan().expect("a plan");
        let note = format!("{count} weights are stored as {method} and widened when they are loaded");
        assert!(architecture.notes.contains(&note), "{:?}", architecture.notes);
        let matrices =
            plan.data().programs().flat_map(|program| &program.weights).filter(|spec| spec.used != WeightUse::Vector);
        assert!(matrices.into_iter().all(|spec| spec.dtype == graph::WeightType::Bf16), "{name}");
    }
}

/// A copy of a fixture, its tensors changed.
fn changed(name: &str, case: &str, change: impl Fn(&str, TensorView<'_>) -> Option<Raw>) -> PathBuf {
    let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("quantized-{name}-{case}"));
    std::fs::create_dir_all(&to).expect("a folder");
    std::fs::copy(folder(name).join("config.json"), to.join("config.json")).expect("a configuration");
    let bytes = std::fs::read(folder(name).join("model.safetensors")).expect("weights");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("the weights parse");
    let kept: Vec<_> =
        tensors.tensors().into_iter().filter_map(|(name, view)| Some((change(&name, view)?, name))).collect();
    let views = kept.iter().map(|((dtype, shape, bytes), name)| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as elements"))
    });
    let file = safetensors::serialize(views, None).expect("tensors are written");
    std::fs::write(to.join("model.safetensors"), file).expect("room on the disk");
    to
}

fn same(view: &TensorView<'_>) -> Option<Raw> {
    Some((view.dtype(), view.shape().to_vec(), view.data().to_vec()))
}

#[test]
fn what_does_not_fit_together_is_refused_with_both_shapes() {
    const BASE: &str = "model.layers.1.mlp.up_proj";
    let check = |name: &str, case: &str, end: &str, expect: &str, change: &dyn Fn(&TensorView<'_>) -> Option<Raw>| {
        let dir = changed(
            name,
            case,
            |tensor, view| if tensor == format!("{BASE}{end}") { change(&view) } else { same(&view) },
        );
        let error = Checkpoint::open(&dir, LoadFormat::Mmap).expect_err("must be refused").to_string();
        assert_eq!(error, format!("{BASE}.weight: {expect}"), "{name}: {case}");
    };
    let gone = |_: &TensorView<'_>| None;
    // The first row or entry alone.
    let cut = |view: &TensorView<'_>| {
        let rows = view.shape()[0];
        Some((view.dtype(), [&[1], &view.shape()[1..]].concat(), view.data()[..view.data().len() / rows].to_vec()))
    };
    let floats = |view: &TensorView<'_>| Some((Dtype::F32, view.shape().to_vec(), view.data().to_vec()));
    check("gptq", "scales", ".scales", &format!("has no {BASE}.scales beside it"), &gone);
    check("gptq", "zeros", ".qzeros", &format!("{BASE}.qzeros has shape [1, 12], must have [2, 12]"), &cut);
    check("gptq", "type", ".qweight", &format!("{BASE}.qweight is F32, must be I32"), &floats);
    check("gptq_act_order", "order", ".g_idx", &format!("{BASE}.g_idx says group 9 at 0, of 2"), &|view| {
        let mut bytes = view.data().to_vec();
        bytes[..4].copy_from_slice(&9u32.to_le_bytes());
        Some((view.dtype(), view.shape().to_vec(), bytes))
    });
    check("awq", "scales", ".scales", &format!("{BASE}.qzeros has shape [2, 12], must have [1, 12]"), &cut);
    check("ct_fp8_tensor", "scale", ".weight_scale", &format!("has no {BASE}.weight_scale beside it"), &gone);
    let two = |view: &TensorView<'_>| Some((view.dtype(), vec![2, 1], view.data()[..8].to_vec()));
    let no_way = format!("{BASE}.weight_scale has shape [2, 1], which is no way to scale 96 × 64");
    check("ct_int8_channel", "scale", ".weight_scale", &no_way, &two);
    check(
        "ct_int4_group",
        "scale",
        ".weight_scale",
        &format!("{BASE}.weight_scale has shape [1, 2], must have one a row and group"),
        &cut,
    );
    check(
        "ct_int4_group",
        "shape",
        ".weight_shape",
        &format!("{BASE}.weight_shape has shape [1], must have [2]"),
        &cut,
    );
    check(
        "ct_int4_zeros",
        "zeros",
        ".weight_zero_point",
        &format!("{BASE}.weight_zero_point has shape [1, 2], must have [12, 2]"),
        &cut,
    );
    check(
        "ct_mxfp4",
        "scale",
        ".weight_scale",
        &format!("{BASE}.weight_scale has shape [1, 2], must have [96, 2]"),
        &cut,
    );
}

#[test]
fn methods_that_are_not_read_are_refused_by_the_binary() {
    let dir = changed("awq", "method", |_, view| same(&view));
    let file = dir.join("config.json");
    let text = std::fs::read_to_string(&file).expect("a configuration").replace("\"awq\"", "\"hqq\"");
    std::fs::write(&file, text).expect("room on the disk");
    let methods = "gptq, awq, fp8, fbgemm_fp8, compressed-tensors or mxfp4";
    let message = format!("{}: quantization_config.quant_method is \"hqq\", must be {methods}", file.display());
    refuses(&["plan", "--model", &dir.display().to_string()], 78, &message);
}

/// Names and types that quantised weights are made of, or might be said to be.
const PARTS: [&str; 12] = [
    "w.weight",
    "w.weight_scale",
    "w.weight_scale_inv",
    "w.weight_zero_point",
    "w.qweight",
    "w.qzeros",
    "w.scales",
    "w.g_idx",
    "w.weight_packed",
    "w.weight_shape",
    "w.weight_global_scale",
    "w_blocks",
];
const TYPES: [Dtype; 8] =
    [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::I32, Dtype::I8, Dtype::U8, Dtype::F8_E4M3, Dtype::I64];
const LENGTHS: [usize; 9] = [0, 1, 2, 3, 4, 8, 12, 32, 64];

const METHODS: [&str; 6] = [
    r#"{"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": false}"#,
    r#"{"quant_method": "awq", "bits": 4, "group_size": 8}"#,
    r#"{"quant_method": "fp8", "weight_block_size": [8, 8]}"#,
    r#"{"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4, "group_size": 32}}}}"#,
    r#"{"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8}}}}"#,
    r#"{"quant_method": "mxfp4"}"#,
];

/// A tensor of these, with bytes that are all the same.
fn strange() -> impl Strategy<Value = (&'static str, Dtype, Vec<usize>, u8)> {
    let shape = proptest::collection::vec(proptest::sample::select(&LENGTHS), 0..4);
    (proptest::sample::select(&PARTS), proptest::sample::select(&TYPES), shape, proptest::num::u8::ANY)
}

proptest! {
    #[test]
    fn no_tensors_that_are_said_to_be_quantised_are_a_panic(
        method in proptest::sample::select(&METHODS),
        parts in proptest::collection::vec(strange(), 1..6),
    ) {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("quantized-strange");
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join("config.json"), format!("{{\"quantization_config\": {method}}}")).expect("a file");
        let tensors: std::collections::BTreeMap<&str, Raw> = parts
            .into_iter()
            .map(|(name, dtype, shape, byte)| {
                let bytes = vec![byte; shape.iter().product::<usize>() * dtype.bitsize() / 8];
                (name, (dtype, shape, bytes))
            })
            .collect();
        let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as elements"))
        });
        let file = safetensors::serialize(views, None).expect("tensors are written");
        std::fs::write(dir.join("model.safetensors"), file).expect("room on the disk");
        let Ok(checkpoint) = Checkpoint::open(&dir, LoadFormat::Read) else { return Ok(()) };
        for name in ["w.weight", "w"] {
            for (n, k) in LENGTHS.into_iter().flat_map(|n| LENGTHS.map(|k| (n as u32, k as u32))) {
                let spec = WeightSpec {
                    name: name.into(),
                    dims: vec![n, k],
                    stored: None,
                    cut: None,
                    used: WeightUse::Panels,
                    n,
                    k,
                    sum_parts: 1,
                    dtype: graph::WeightType::F32,
                    integer: false,
                };
                let Ok(rows) = TensorRows::new(&checkpoint, &spec) else { continue };
                let mut row = vec![0; rows.width() * rows.dtype().bytes()];
                (0..rows.rows()).for_each(|number| rows.copy_row(number, &mut row));
            }
        }
    }
}
