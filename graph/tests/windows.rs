//! Layers with a window have pages of their own, as many as running sequences and the steps in flight can need.

use graph::plan::explain::explain;
use graph::plan::{Bounds, Deployment, DeviceSpec, Numerics, Plan, WindowPages, compile};
use graph::{Attention, Builder, DType, Model, Section};

/// One layer that reads everything, and two that read windows.
fn mixed(windows: [Option<u32>; 3]) -> Model {
    let b = &Builder::new();
    let (vocab, hidden) = (b.axis("vocab", 8), b.axis("hidden", 4));
    let (heads, group, dim) = (b.axis("kv_heads", 2), b.axis("queries_per_kv", 1), b.axis("head_dim", 4));
    let mut x = b.tokens().gather(b.param("embed", &[vocab, hidden]));
    for (layer, window) in windows.into_iter().enumerate() {
        b.section(Section::Layer(layer as u32));
        let into = |name: &str, axes: &[_]| x.contract(b.param(format!("{layer}.{name}"), &[axes, &[hidden]].concat()));
        let (q, k, v) = (into("q", &[heads, group, dim]), into("k", &[heads, dim]), into("v", &[heads, dim]));
        let y = q.attend(k, v, None, Attention { window, ..Attention::scaled(0.5) });
        x = x + y.contract(b.param(format!("{layer}.out"), &[hidden, heads, group, dim]));
    }
    b.section(Section::Head);
    b.finish(x.sampled_rows().contract(b.param("head", &[vocab, hidden]))).expect("lawful")
}

fn deployed(windows: [Option<u32>; 3], bounds: Bounds) -> Result<Plan, Vec<String>> {
    let deployment = Deployment {
        family: "mixed",
        tensor: 1,
        pipeline: 1,
        expert: 1,
        numerics: Numerics::Invariant,
        devices: vec![DeviceSpec { name: "cpu:0".into(), memory_bytes: 1 << 26 }],
        layer_partition: None,
        bounds,
        max_positions: 1024,
        weight_dtype: &|_| DType::F32,
        quantization: None,
        cache_dtype: DType::F32,
    };
    compile(&mixed(windows), &deployment).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

const BOUNDS: Bounds = Bounds {
    max_num_seqs: Some(4),
    max_num_batched_tokens: Some(64),
    max_model_len: None,
    kv_cache_memory_bytes: None,
    sampled_rows_max: None,
};

/// Bytes of a page of one layer: keys and values of 16 positions, 2 heads and 4 dims, in f32.
const PAGE_BYTES: u64 = 2 * 16 * 2 * 4 * 4;

#[test]
fn windows_have_pages_for_what_runs_and_no_more() {
    let plan = deployed([Some(40), None, Some(20)], BOUNDS).expect("a plan");
    // Four sequences with three pages and one at either end; and of each of three steps, one of them being written, four pages of
    // rows and one more a sequence.
    let pages = 4 * (3 + 2) + 3 * (4 + 4);
    assert_eq!(plan.windows(), WindowPages { pages, window: 40 });
    assert_eq!(plan.pages(), 4 * 64 + 1);
    let device = &plan.data().devices[0];
    assert_eq!(device.cache_bytes, PAGE_BYTES * (257 + 2 * u64::from(pages)));
    let words = explain(&plan);
    let owns = format!("owns 257 pages of 16 positions; {pages} pages for windows of 40 positions");
    assert!(words.contains(&owns), "{words}");
    assert_eq!(Plan::from_json(&plan.to_json()).expect("it reads back"), plan);
}

#[test]
fn a_window_as_long_as_a_sequence_is_none() {
    let plan = deployed([Some(1024), None, None], BOUNDS).expect("a plan");
    assert_eq!(plan.windows(), WindowPages::default());
    assert_eq!(plan.data().devices[0].cache_bytes, PAGE_BYTES * 3 * 257);
}

#[test]
fn windows_that_do_not_fit_lower_what_runs_or_are_refused() {
    let tight = Bounds { kv_cache_memory_bytes: Some(PAGE_BYTES * 60), ..BOUNDS };
    let message = &deployed([Some(40), None, Some(20)], tight).expect_err("too little")[0];
    assert!(
        message.starts_with("4 running sequences with windows of 40 positions need 88.0 KiB on cpu:0"),
        "{message}"
    );
    let lowered = deployed([Some(40), None, None], Bounds { max_num_seqs: None, ..tight }).expect("a plan");
    let settings = &lowered.data().settings;
    assert!(settings.notes.iter().any(|note| note.starts_with("max-num-seqs lowered from 64 to ")), "{settings:?}");
    assert!(lowered.windows().pages <= 30);
}
