//! Recurrent ops through the graph and its passes: laws with their messages, text, meaning, and what a plan keeps for them.

use graph::plan::explain::explain;
use graph::plan::{Bounds, Call, Deployment, DeviceSpec, Numerics, Plan, Role, StateSlots, compile};
use graph::{Axis, Builder, DType, GraphError, Model, Section, interpret, text};

const SELECTIVE: (f32, Option<f32>) = (0.0, Some(2.0));

/// A layer of each kind of scan, over two heads of which each writes two values of three elements.
fn hybrid() -> Result<Model, Vec<GraphError>> {
    let b = &Builder::new();
    let (vocab, hidden) = (b.axis("vocab", 8), b.axis("hidden", 4));
    let (heads, group, key, value) =
        (b.axis("scan_heads", 2), b.axis("values_per_head", 2), b.axis("key", 5), b.axis("value", 3));
    let taps = b.axis("taps", 3);
    let mut x = b.tokens().gather(b.param("embed", &[vocab, hidden]));
    for layer in 0..2 {
        b.section(Section::Layer(layer));
        let w = |name: &str, axes: &[Axis]| b.param(format!("{layer}.{name}"), axes);
        let into = |name: &str, axes: &[Axis]| x.contract(w(name, &[axes, &[hidden]].concat()));
        let (q, k) = (into("q", &[heads, key]), into("k", &[heads, key]));
        let v = into("v", &[heads, group, value]).short_conv(w("conv", &[heads, group, value, taps]));
        let dt = into("dt", &[heads, group]);
        let a_log = w("a_log", &[heads, group]);
        let y = match layer {
            0 => v.selective_scan([q, k, dt], [a_log, w("skip", &[heads, group])], SELECTIVE),
            _ => v.delta_scan([q, k, dt, into("beta", &[heads, group])], a_log),
        };
        x = x + y.contract(w("out", &[hidden, heads, group, value]));
    }
    b.section(Section::Head);
    b.finish(x.sampled_rows().contract(b.param("head", &[vocab, hidden])))
}

fn deployed(tensor: u32, bounds: Bounds, memory_bytes: u64) -> Result<Plan, Vec<String>> {
    let device = |n| DeviceSpec { name: format!("cpu:{n}"), memory_bytes };
    let deployment = Deployment {
        family: "hybrid",
        tensor,
        pipeline: 1,
        expert: 1,
        numerics: Numerics::Invariant,
        devices: (0..tensor).map(device).collect(),
        layer_partition: None,
        bounds,
        max_positions: 64,
        weight_dtype: &|_| DType::F32,
        quantization: None,
        cache_dtype: DType::F32,
    };
    let plan = compile(&hybrid().expect("lawful"), &deployment);
    plan.map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn the_text_reads_back() {
    let model = hybrid().expect("lawful");
    let printed = text::print(model.draft());
    assert!(
        printed.contains("scan %2 %3 %5 %6 0.a_log 0.skip {\"selective\":{\"low\":0.0,\"high\":2.0}} : "),
        "{printed}"
    );
    assert!(printed.contains("short_conv %4 0.conv : [rows, scan_heads, values_per_head, value]"), "{printed}");
    assert_eq!(text::parse(&printed).expect("it reads back"), *model.draft());
}

/// Parses and checks the text with `from` replaced by `to`.
#[track_caller]
fn refused(from: &str, to: &str, wants: &str) {
    let printed = text::print(hybrid().expect("lawful").draft());
    assert!(printed.contains(from), "{from} is in\n{printed}");
    let draft = text::parse(&printed.replacen(from, to, 1)).expect("it reads");
    let faults = Model::check(draft).expect_err("a broken law");
    let messages: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(messages.iter().any(|m| m == wants), "wanted {wants:?}, got {messages:#?}");
}

#[test]
fn laws() {
    refused(
        "0.conv [scan_heads, values_per_head, value, taps]",
        "0.conv [scan_heads, value, taps]",
        "%5 (short_conv 0.conv): weight: wants [scan_heads, values_per_head, value, taps], got [scan_heads, value, taps]",
    );
    refused("axis taps = 3", "axis taps = 9", "%5 (short_conv): taps is 9; allowed: 2 to 8");
    refused(
        "scan %2 %3 %5 %6 0.a_log",
        "scan %2 %3 %5 %2 0.a_log",
        "%7 (scan 0.a_log): time steps: wants [rows, scan_heads, values_per_head], got [rows, scan_heads, key]",
    );
    refused(
        "scan %2 %3",
        "scan %2 %6",
        "%7 (scan 0.a_log): keys: wants [rows, scan_heads, key], got [rows, scan_heads, values_per_head]",
    );
    refused(
        "0.skip [scan_heads, values_per_head]",
        "0.skip [values_per_head]",
        "%7 (scan 0.a_log): share of the values: wants [scan_heads, values_per_head], got [values_per_head]",
    );
    refused("\"high\":2.0", "\"high\":-1.0", "%7 (scan): high is -1; allowed: low or more");
    refused(
        "0.a_log 0.skip {\"selective\":{\"low\":0.0,\"high\":2.0}}",
        "0.a_log 0.skip \"delta\"",
        "%7 (scan): rates is 0; allowed: one for each head in a delta scan",
    );
}

/// With a decay of 1/2, keys and queries of one element, a state is what an exponential average is.
#[test]
fn the_meaning_of_a_scan_is_its_recurrence() {
    let b = &Builder::new();
    let (vocab, one, taps) = (b.axis("vocab", 4), b.axis("one", 1), b.axis("taps", 2));
    let (heads, group, key) = (b.axis("heads", 1), b.axis("group", 1), b.axis("key", 1));
    b.section(Section::Embed);
    let x = b.tokens().gather(b.param("embed", &[vocab, one]));
    b.section(Section::Layer(0));
    let v = x.contract(b.param("v", &[heads, group, key, one])).short_conv(b.param("conv", &[heads, group, key, taps]));
    let k = x.contract(b.param("k", &[heads, key, one]));
    let dt = x.contract(b.param("dt", &[heads, group, one]));
    let (a_log, skip) = (b.param("a_log", &[heads, group]), b.param("skip", &[heads, group]));
    let y =
        v.selective_scan([k, k, dt], [a_log, skip], (0.0, None)).contract(b.param("out", &[one, heads, group, key]));
    b.section(Section::Head);
    let model = b.finish(y.sampled_rows().contract(b.param("head", &[vocab, one]))).expect("lawful");
    // softplus(ln(e - 1)) is 1, and e^(-e^(ln ln 2)) is 1/2.
    let weight = |name: &str| match name {
        "embed" => vec![1.0; 4],
        "conv" => vec![10.0, 1.0],
        "dt" => vec![(std::f32::consts::E - 1.0).ln()],
        "a_log" => vec![std::f32::consts::LN_2.ln()],
        "skip" => vec![100.0],
        "head" => vec![1.0, 0.0, 0.0, 0.0],
        _ => vec![1.0],
    };
    let logits = interpret::logits(&model, &[0, 1, 2], &weight);
    let got: Vec<f32> = logits.data.chunks_exact(4).map(|row| row[0]).collect();
    for (got, wanted) in got.iter().zip([101.0, 0.5 + 11.0 + 1100.0, 0.25 + 5.5 + 11.0 + 1100.0]) {
        assert!((got - wanted).abs() < 1e-3, "{got}, wanted {wanted}");
    }
}

#[test]
fn heads_are_cut_over_tensor_ranks_with_their_states() {
    for tensor in [1, 2] {
        let plan = deployed(tensor, Bounds::default(), 1 << 26).expect("a plan");
        assert!(plan.has_two_forms());
        for actor in &plan.data().actors {
            let Role::Stage { program, .. } = &actor.role else { continue };
            for call in &program.calls {
                if let Call::Scan { heads, group, key_dim, value_dim, state, .. } = call {
                    assert_eq!([*heads, *group, *key_dim, *value_dim], [2 / tensor, 2, 5, 3]);
                    let elements = program.states[*state as usize].elements;
                    // Keys of a chunk, and of each head of values its state, the updates of a chunk and their decays.
                    assert_eq!(elements, u64::from(2 / tensor) * (16 * 5 + 2 * (5 * 16 + 16 * 16 + 16)));
                }
            }
        }
    }
}

#[test]
fn a_plan_keeps_two_slots_a_sequence_and_the_rest_for_snapshots() {
    let bounds = Bounds { max_num_seqs: Some(3), max_num_batched_tokens: Some(32), ..Bounds::default() };
    let plan = deployed(1, bounds, 1 << 26).expect("a plan");
    assert_eq!(plan.states(), StateSlots { running: 6, snapshots: 12 });
    let slot_bytes = 4 * 2 * (2 * (16 * 5 + 2 * (5 * 16 + 16 * 16 + 16)) + 2 * 2 * 2 * 3);
    assert_eq!(plan.data().devices[0].state_bytes, 18 * slot_bytes);
    let words = explain(&plan);
    assert!(words.contains("pages of 16 positions; 6 slots of recurrent state, and 12 for snapshots"), "{words}");
    assert!(words.contains("key/value cache 0 B, recurrent state "), "{words}");

    let tight = Bounds { kv_cache_memory_bytes: Some(7 * slot_bytes), ..bounds };
    assert_eq!(deployed(1, tight, 1 << 26).expect("a plan").states(), StateSlots { running: 6, snapshots: 1 });
    let less = Bounds { kv_cache_memory_bytes: Some(5 * slot_bytes), ..bounds };
    let message = &deployed(1, less, 1 << 26).expect_err("too little")[0];
    assert!(message.starts_with("3 running sequences need two slots of recurrent state each"), "{message}");
    assert!(message.contains("max-num-seqs can be 2; lower it"), "{message}");
    let lowered = deployed(1, Bounds { max_num_seqs: None, ..less }, 1 << 26).expect("a plan");
    assert_eq!(lowered.states(), StateSlots { running: 4, snapshots: 1 });
    let note = "max-num-seqs lowered from 32 to 2: two slots of recurrent state a sequence";
    assert!(lowered.data().settings.notes.iter().any(|n| n == note), "{:?}", lowered.data().settings.notes);
}
