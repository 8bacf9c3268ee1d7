//! What holds of every plan that compiles, over models, degrees and bounds at random.

use graph::plan::explain::explain;
use graph::plan::{Bounds, Deployment, DeviceSpec, Numerics, Plan, PlanError, Role, compile};
use graph::{DType, Model, models};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

/// A decoder and how it is to be run.
#[derive(Clone, Debug)]
struct Case {
    family: &'static str,
    layers: u32,
    kv_heads: u32,
    group: u32,
    ffn: u32,
    vocabulary: u32,
    tied: bool,
    tensor: u32,
    pipeline: u32,
    memory_bytes: u64,
    bounds: Bounds,
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let seqs = prop::option::of(1u32..40);
    let rows = prop::option::of(1u32..200);
    let length = prop::option::of(1u32..64);
    let cache = prop::option::of(1u64 << 10..1 << 24);
    let sampled = prop::option::of(1u32..64);
    (seqs, rows, length, cache, sampled).prop_map(|(seqs, rows, length, cache, sampled)| Bounds {
        max_num_seqs: seqs,
        max_num_batched_tokens: rows,
        max_model_len: length,
        kv_cache_memory_bytes: cache,
        sampled_rows_max: sampled,
    })
}

fn case() -> impl Strategy<Value = Case> {
    let family = prop_oneof![
        Just("llama"),
        Just("qwen3"),
        Just("qwen2"),
        Just("phi3"),
        Just("gemma2"),
        Just("olmo2"),
        Just("cohere2"),
        Just("gpt_neox"),
        Just("gpt2")
    ];
    let shape = (1u32..7, 1u32..5, 1u32..4, 1u32..40, 1u32..80, any::<bool>());
    let degrees = (1u32..5, 1u32..5, 14u32..28);
    (family, shape, degrees, bounds()).prop_map(|(family, shape, (tensor, pipeline, memory), bounds)| {
        let (layers, kv_heads, group, ffn, vocabulary, tied) = shape;
        // Lengths that four ranks divide are as likely as any others.
        let even = |n: u32| if n.is_multiple_of(2) { n * 4 } else { n };
        Case {
            family,
            layers,
            kv_heads,
            group,
            ffn: even(ffn),
            vocabulary: even(vocabulary),
            tied,
            tensor,
            pipeline,
            memory_bytes: 1 << memory,
            bounds,
        }
    })
}

fn model(case: &Case) -> Model {
    let config = json!({
        "model_type": case.family, "hidden_size": 16, "intermediate_size": case.ffn, "vocab_size": case.vocabulary,
        "num_hidden_layers": case.layers, "num_attention_heads": case.kv_heads * case.group,
        "num_key_value_heads": case.kv_heads, "head_dim": 4, "rms_norm_eps": 1e-6, "partial_rotary_factor": 1.0,
        "tie_word_embeddings": case.tied, "max_position_embeddings": 64
    });
    models::describe(config.as_object().expect("an object")).expect("a lawful configuration").model
}

fn compiled(case: &Case, model: &Model) -> Result<Plan, Vec<PlanError>> {
    let device = |n| DeviceSpec { name: format!("cpu:{n}"), memory_bytes: case.memory_bytes };
    compile(
        model,
        &Deployment {
            family: case.family,
            tensor: case.tensor,
            pipeline: case.pipeline,
            expert: 1,
            numerics: Numerics::Invariant,
            devices: (0..case.tensor * case.pipeline).map(device).collect(),
            layer_partition: None,
            bounds: case.bounds,
            max_positions: 64,
            weight_dtype: &|_| DType::Bf16,
            quantization: None,
            cache_dtype: DType::F32,
        },
    )
}

/// Elements of each weight that the ranks of a stage of the pipeline hold together; segments of a rank share theirs.
fn held(plan: &Plan) -> BTreeMap<(u32, String), u64> {
    let mut of_rank = BTreeMap::new();
    for actor in &plan.data().actors {
        if let Role::Stage { stage, rank, program, .. } = &actor.role {
            for weight in &program.weights {
                // Parts of one tensor are weights of one name.
                let offset = weight.stored.as_ref().map_or(0, |stored| stored.offset);
                let elements = u64::from(weight.n) * u64::from(weight.k);
                of_rank.insert((*stage, *rank, format!("{}@{offset}", weight.name)), elements);
            }
        }
    }
    let mut held = BTreeMap::new();
    for ((stage, _, name), elements) in of_rank {
        *held.entry((stage, name)).or_insert(0) += elements;
    }
    held
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_plan_is_whole_fits_and_reads_back(case in case()) {
        let model = model(&case);
        let plan = match compiled(&case, &model) {
            Ok(plan) => plan,
            Err(faults) => {
                prop_assert!(!faults.is_empty(), "a refusal says why");
                prop_assert!(faults.iter().all(|fault| !fault.to_string().is_empty()));
                return Ok(());
            }
        };
        prop_assert_eq!(&Plan::from_json(&plan.to_json()).expect("a plan reads back"), &plan);
        prop_assert!(explain(&plan).contains(case.family));
        for device in &plan.data().devices {
            let used = device.weight_bytes + device.cache_bytes + device.buffer_bytes;
            prop_assert!(used <= device.memory_bytes, "{} holds {used} of {}", device.name, device.memory_bytes);
        }
        // Every weight is there, and no rank's part is missing: split ones add up to the whole, others are whole on every rank.
        let held = held(&plan);
        for (number, param) in model.params().iter().enumerate() {
            let offset = model.strides(graph::ParamId(number as u32)).map_or(0, |stored| stored.offset);
            let name = format!("{}@{offset}", param.name);
            let whole: u64 = param.axes.iter().map(|&axis| u64::from(model.length(axis).unwrap_or(1))).product();
            let stages: Vec<u64> = held.iter().filter(|((_, held), _)| *held == name).map(|(_, n)| *n).collect();
            prop_assert!(!stages.is_empty(), "{} is on no stage", param.name);
            let copies = whole * u64::from(case.tensor);
            prop_assert!(stages.iter().all(|&n| n == whole || n == copies), "{}: {stages:?} of {whole}", param.name);
        }
        // Every layer runs once on every rank of its stage, in order.
        for rank in 0..case.tensor {
            let mut next = 0;
            for actor in &plan.data().actors {
                let Role::Stage { rank: of, layers, .. } = &actor.role else { continue };
                if *of == rank && !layers.is_empty() && layers.end > next {
                    prop_assert!(layers.start <= next, "layers {next} to {} are missing", layers.start);
                    next = layers.end;
                }
            }
            prop_assert_eq!(next, case.layers, "rank {}", rank);
        }
        // Somebody can always send: credits are there, and as many tickets as steps in flight.
        let settings = &plan.data().settings;
        for channel in &plan.data().channels {
            prop_assert!(channel.credits > 0 && channel.bytes > 0 && !channel.to.is_empty(), "{}", channel.name);
        }
        prop_assert!(settings.max_num_seqs <= settings.max_num_batched_tokens);
        prop_assert!(u64::from(plan.pages()) * 16 >= u64::from(settings.max_model_len), "the longest sequence fits the pool");
    }
}
