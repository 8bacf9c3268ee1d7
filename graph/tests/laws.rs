//! Every law of a graph and of a plan, broken once: the message that its reader gets.

use graph::plan::{Bounds, Carries, Deployment, DeviceId, DeviceSpec, Numerics, Plan, RawPlan, Role, compile};
use graph::{DType, Model, models, text};
use serde_json::{Value, json};

fn config() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "vocab_size": 32, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "max_position_embeddings": 64
    })
}

fn model() -> Model {
    models::describe(config().as_object().expect("an object")).expect("lawful").model
}

fn deployment(devices: &[&str]) -> Deployment<'static> {
    let device = |name: &&str| DeviceSpec { name: name.to_string(), memory_bytes: 1 << 24 };
    Deployment {
        family: "llama",
        tensor: 1,
        pipeline: devices.len() as u32,
        expert: 1,
        numerics: Numerics::Invariant,
        devices: devices.iter().map(device).collect(),
        layer_partition: None,
        bounds: Bounds::default(),
        max_positions: 64,
        weight_dtype: &|_| DType::F32,
        quantization: None,
        cache_dtype: DType::F32,
    }
}

/// Parses and checks `text` with `from` replaced by `to`.
#[track_caller]
fn graph(from: &str, to: &str, wants: &str) {
    unlawful(&model(), from, to, wants);
}

/// The same for any model.
#[track_caller]
fn unlawful(model: &Model, from: &str, to: &str, wants: &str) {
    let printed = text::print(model.draft());
    assert!(printed.contains(from), "{from} is in\n{printed}");
    let faults = match text::parse(&printed.replacen(from, to, 1)) {
        Err(fault) => vec![fault],
        Ok(draft) => Model::check(draft).expect_err("a broken law"),
    };
    let messages: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(messages.iter().any(|m| m == wants), "wanted {wants:?}, got {messages:#?}");
}

#[test]
fn graphs() {
    graph("axis ffn = 24", "axis ffn = 0", "axis ffn has length 0; a length is at least 1");
    graph(
        "axis ffn = 24",
        "axis hidden = 16\naxis ffn = 24",
        "axis \"hidden\" is declared 2 times; every axis needs a name of its own",
    );
    graph("[vocab, hidden]", "[vocab, vocab]", "weight model.embed_tokens.weight [vocab, vocab]: one axis named twice");
    graph("%2 = rms_norm %1", "%2 = rms_norm %9", "%2 (rms_norm) reads %9, which is not computed before it");
    graph("eps=0.000001", "eps=-1", "%2 (rms_norm): eps is -1; allowed: 0 or more");
    graph(
        "eps=0.000001",
        "eps=0.000001 run=8",
        "%2 (rms_norm): run is 8; allowed: the elements behind the weight's first axis",
    );
    graph("\"dims\":4", "\"dims\":3", "%6 (rope): dims is 3; allowed: even, and at most the length of the last axis");
    graph(
        "layer 1",
        "layer 2",
        "%18 (rms_norm) is in layer 2, behind layer 0; sections go embed, layer 0, layer 1, …, head",
    );
    graph("axis ffn = 24", "axis ffn = many", "line 5: the length of an axis is a number: \"axis ffn = many\"");
    graph(
        "param model.layers.0.input_layernorm.weight [hidden]",
        "param model.layers.0.input_layernorm.weight [ffn]",
        "%2 (rms_norm model.layers.0.input_layernorm.weight): weight: wants the last axes of [rows, hidden], got [ffn]",
    );
    let down = "param model.layers.0.mlp.down_proj.weight [hidden, ffn]";
    let stored = |how: &str| format!("{down} stored {how}");
    let name = "model.layers.0.mlp.down_proj.weight";
    graph(
        down,
        &stored("[hidden, hidden]"),
        &format!("weight {name} [hidden, ffn]: the axes it is stored along are not its own"),
    );
    graph(
        down,
        &stored("[hidden, (ffn|>ffn)]"),
        &format!("tensor {name}: its parts have 384 elements, it has 768; every part belongs to a weight"),
    );
    graph(
        down,
        &stored("[hidden, (ffn|ffn)]"),
        "line 16: no part is marked by >: \"param model.layers.0.mlp.down_proj.weight [hidden, ffn] stored [hidden, (ffn|ffn\"",
    );
    graph("scale=0.5", "scale=0.5 window=0", "%8 (attend): window is 0; allowed: 1 or more");
    graph("scale=0.5", "scale=0.5 softcap=-1", "%8 (attend): softcap is -1; allowed: above 0");
    graph("param lm_head", "param spare [ffn]\nparam lm_head", "weight spare is never read");
    graph(
        "%13 = silu %12 : [rows, ffn]",
        "%13 = silu %12 : [rows, hidden]",
        "%13 (silu) is declared as [rows, hidden], but gives [rows, ffn]",
    );
}

/// A model whose rows choose two of four experts.
fn routed() -> Model {
    let mut config = config();
    config["model_type"] = json!("mixtral");
    config["num_local_experts"] = json!(4);
    models::describe(config.as_object().expect("an object")).expect("lawful").model
}

#[test]
fn graphs_with_experts() {
    let check = |from: &str, to: &str, wants: &str| unlawful(&routed(), from, to, wants);
    let routing = r#""groups":1,"groups_kept":1,"group_best":1"#;
    let w = "model.layers.0.block_sparse_moe.experts.{}";
    check(
        "axis choices = 2",
        "axis choices = 5",
        "%13 (route): choices is 5; allowed: 1 to the experts of the groups that are kept, at most 64",
    );
    check(
        routing,
        r#""groups":3,"groups_kept":1,"group_best":1"#,
        "%13 (route): groups is 3; allowed: a divisor of the number of experts, at most 64",
    );
    check(
        routing,
        r#""groups":2,"groups_kept":3,"group_best":1"#,
        "%13 (route): groups_kept is 3; allowed: 1 to the number of groups",
    );
    check(
        "%13 = route %12 choices",
        "%13 = route %11 choices",
        "%13 (route) is declared as [rows, experts], but gives [rows, hidden]",
    );
    check(
        &format!("%14 = experts %11 %13 {w}.w1.weight"),
        &format!("%14 = experts %11 %12 {w}.w1.weight"),
        &format!("%14 (experts {w}.w1.weight): gates: wants the result of route, not of contract, got [rows, experts]"),
    );
    check(
        &format!("param {w}.w1.weight [experts, expert_ffn, hidden]"),
        &format!("param {w}.w1.weight [expert_ffn, experts, hidden]"),
        &format!("%14 (experts {w}.w1.weight): weight: wants experts first, got [expert_ffn, experts, hidden]"),
    );
    check(
        &format!("param {w}.w2.weight [experts, hidden, expert_ffn]"),
        &format!("param {w}.w2.weight [experts, expert_ffn, hidden]"),
        &format!(
            "%18 (combine {w}.w2.weight): weight: wants experts, axes of its own, then [expert_ffn], got [experts, expert_ffn, hidden]"
        ),
    );
    check(
        &format!("%18 = combine %17 %13 {w}.w2.weight"),
        "%18 = weigh %11 %13",
        "%18 (weigh): activations: wants [rows, choices] and the axes of the result, got [rows, hidden]",
    );
    check(
        &format!("%18 = combine %17 %13 {w}.w2.weight"),
        "%18 = weigh %17 %13",
        "%18 (weigh) is declared as [rows, hidden], but gives [rows, expert_ffn]",
    );
    check(
        &format!("param {w}.w1.weight [experts, expert_ffn, hidden]"),
        &format!("param {w}.w1.weight [experts]"),
        &format!("weight {w}.w1.weight [experts]: one tensor an entry has axes of its own"),
    );
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Deployment<'static>), devices: &[&str], wants: &[&str]) {
    let mut deployment = deployment(devices);
    change(&mut deployment);
    let Err(faults) = compile(&model(), &deployment) else { panic!("wanted {wants:?}, was accepted") };
    let messages: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(messages, wants);
}

#[test]
fn deployments() {
    let two = ["cpu:0", "cpu:1"];
    refused(
        |d| (d.tensor, d.pipeline) = (5, 1),
        &["cpu:0", "cpu:1", "cpu:2", "cpu:3", "cpu:4"],
        &["tensor-parallel-size 5 does not divide axis ffn of length 24; legal degrees: 1, 2, 3, 4, 6, 8, 12, 24"],
    );
    refused(
        |d| (d.tensor, d.pipeline, d.numerics) = (3, 1, Numerics::Tree),
        &["cpu:0", "cpu:1", "cpu:2"],
        &[
            "tensor-parallel-size 3: numerics tree sums along axis ffn in a tree of 4; legal degrees: 1, 2, 4, or numerics invariant",
        ],
    );
    refused(
        |d| d.layer_partition = Some(vec![4, 0]),
        &two,
        &["layer-partition [4, 0] has 2 stages and 4 layers; wanted: 2 stages, each of at least 1 layer, 4 in all"],
    );
    refused(
        |d| d.layer_partition = Some(vec![1, 2]),
        &two,
        &["layer-partition [1, 2] has 2 stages and 3 layers; wanted: 2 stages, each of at least 1 layer, 4 in all"],
    );
    refused(|d| d.pipeline = 1, &two, &["2 devices for tensor 1 × pipeline 1 = 1 ranks; give one device a rank"]);
    refused(
        |_| (),
        &["cpu:0", "cpu:0"],
        &["device cpu:0 is given to rank 0 and to rank 1; a device belongs to one rank"],
    );
    refused(
        |_| (),
        &["a", "b", "c", "d", "e"],
        &["pipeline-parallel-size 5 is more than the 4 layers of the model; use 1 to 4"],
    );
    refused(
        |d| d.bounds.max_model_len = Some(100),
        &["cpu:0"],
        &["max-model-len is 100; allowed: 1 to 64, the positions of the model (max_position_embeddings)"],
    );
    refused(
        |d| (d.bounds.max_num_seqs, d.bounds.max_num_batched_tokens) = (Some(8), Some(4)),
        &["cpu:0"],
        &[
            "max-num-batched-tokens is 4 and max-num-seqs is 8; every running sequence needs a row of the step: raise the first or lower the second",
        ],
    );
    refused(
        |d| (d.bounds.max_model_len, d.bounds.kv_cache_memory_bytes) = (Some(64), Some(10_000)),
        &["cpu:0"],
        &[
            "max-model-len 64 needs 16.0 KiB of key/value cache on cpu:0, which has 9.8 KiB; the largest that fits is 32",
        ],
    );
    refused(|d| d.bounds.max_num_seqs = Some(0), &["cpu:0"], &["max-num-seqs is 0; allowed: 1 or more"]);
    refused(
        |d| d.devices[0].memory_bytes = 100_000,
        &["cpu:0"],
        &[
            "max-model-len 16 needs 4.0 KiB of key/value cache on cpu:0, which has 0 B; the largest that fits is 0",
            "cpu:0 needs 1.0 MiB and has 97.7 KiB: weights 42.6 KiB, key/value cache 0 B, buffers 1000.0 KiB",
        ],
    );
}

#[test]
fn a_default_is_lowered_to_fit_and_says_so() {
    let mut deployment = deployment(&["cpu:0"]);
    deployment.bounds.max_num_batched_tokens = Some(7);
    deployment.bounds.kv_cache_memory_bytes = Some(10_000);
    let plan = compile(&model(), &deployment).expect("lawful");
    let settings = &plan.data().settings;
    assert_eq!((settings.max_num_seqs, settings.max_model_len, plan.pages()), (7, 32, 2));
    let notes = [
        "max-num-seqs lowered from 128 to 7: max-num-batched-tokens",
        "max-model-len lowered from 64 to 32: what the cache holds",
    ];
    assert_eq!(settings.notes, notes);
}

/// Breaks a lawful plan and reads what [`Plan::check`] says.
#[test]
fn heads_that_do_not_divide_are_shared_and_said_so() {
    let mut wide = config();
    (wide["num_attention_heads"], wide["num_key_value_heads"]) = (json!(12), json!(2));
    wide["head_dim"] = json!(4);
    let wide = models::describe(wide.as_object().expect("an object")).expect("lawful").model;
    let notes = |model: &Model, degree: usize| {
        let mut deployment = deployment(&["cpu:0", "cpu:1", "cpu:2", "cpu:3"][..degree]);
        (deployment.tensor, deployment.pipeline) = (degree as u32, 1);
        compile(model, &deployment).expect("no degree is refused for its heads").data().settings.notes.clone()
    };
    let vocab =
        "tensor-parallel-size 3 does not divide 32 vocab: every rank computes all of the embedding and the head";
    assert_eq!(
        notes(&wide, 3),
        [
            "tensor-parallel-size 3 does not divide 2 kv_heads: queries_per_kv is cut instead, and every rank holds all kv_heads",
            vocab
        ]
    );
    assert_eq!(
        notes(&model(), 3),
        ["tensor-parallel-size 3 does not divide 2 kv_heads: every rank computes all of attention", vocab]
    );
}

#[track_caller]
fn broken(change: impl FnOnce(&mut RawPlan), wants: &[&str]) {
    let mut deployment = deployment(&["cpu:0", "cpu:1", "cpu:2", "cpu:3"]);
    (deployment.tensor, deployment.pipeline) = (2, 2);
    let mut raw = compile(&model(), &deployment).expect("lawful").data().clone();
    change(&mut raw);
    let messages: Vec<String> = Plan::check(raw).expect_err("broken").iter().map(ToString::to_string).collect();
    assert_eq!(messages, wants);
}

fn actor<'a>(plan: &'a mut RawPlan, name: &str) -> &'a mut Role {
    &mut plan.actors.iter_mut().find(|a| a.name == name).expect("an actor of this name").role
}

#[test]
fn plans() {
    broken(
        |p| {
            p.layers = 1 << 20;
            p.devices = vec![p.devices[0].clone(); 5000];
        },
        &["the plan has 5000 devices; at most 4096", "the plan has 1048576 layers; at most 4096"],
    );
    broken(|p| p.version = 9, &["the plan has version 9; this engine reads version 1"]);
    broken(
        |p| {
            for actor in &mut p.actors {
                if let Role::Stage { stage: 1, layers, .. } = &mut actor.role {
                    *layers = 3..4;
                }
            }
        },
        &["layers 2: computed by 0 stages; each layer belongs to one"],
    );
    broken(
        |p| {
            for actor in &mut p.actors {
                if let Role::Stage { stage: 1, layers, .. } = &mut actor.role {
                    *layers = 1..4;
                }
            }
        },
        &["layers 1: computed by 2 stages; each layer belongs to one"],
    );
    broken(
        |p| p.channels[0].credits = 2,
        &["channel tickets has 2 credits; 3 micro-batches in flight need at least 3"],
    );
    broken(
        |p| p.channels.retain(|c| c.name != "token ids"),
        &[
            "stage 0.0 rank 0 input 1 is fed 0 times; a port is fed once",
            "stage 0.0 rank 1 input 1 is fed 0 times; a port is fed once",
        ],
    );
    broken(
        |p| {
            let twice = p.channels[1].to[0];
            p.channels[1].to.push(twice);
        },
        &["stage 0.0 rank 0 input 1 is fed 2 times; a port is fed once"],
    );
    broken(|p| p.channels[1].from.port = 4, &["channel token ids: feed has no output 4"]);
    broken(
        |p| p.devices[1].memory_bytes = 10,
        &["cpu:1 needs 5.1 MiB and has 10 B: weights 13.8 KiB, key/value cache 513.0 KiB, buffers 4.6 MiB"],
    );
    broken(
        |p| {
            let Role::Communicator { collectives, .. } = actor(p, "communicator 1 rank 1") else {
                panic!("a communicator")
            };
            collectives.swap(0, 1);
        },
        &[
            "group tensor group of stage 1: communicator 1 rank 0 and communicator 1 rank 1 post different collectives at place 0",
        ],
    );
    broken(
        |p| {
            let Role::Sampler { vocabulary, .. } = actor(p, "sampler") else { panic!("a sampler") };
            *vocabulary = 33;
        },
        &[
            "channel logits gathered rank 0 to sampler: carries Tensor { width: 32, rows: Sampled }, the reader wants Tensor { width: 33, rows: Sampled }",
        ],
    );
    broken(
        |p| {
            let sampler = p.actors.iter_mut().find(|a| a.name == "sampler").expect("a sampler");
            sampler.device = Some(DeviceId(7));
        },
        &["sampler: its device does not exist; there are 4"],
    );
    broken(
        |p| {
            let stage = p.actors.iter_mut().find(|a| a.name == "stage 1.0 rank 1").expect("a stage");
            stage.device = Some(DeviceId(2));
        },
        &["stage 1.0 rank 1: device 2 belongs to stage 1 rank 0"],
    );
}

#[test]
fn actors_that_wait_for_each_other_are_named() {
    let mut raw = compile(&model(), &deployment(&["cpu:0", "cpu:1"])).expect("lawful").data().clone();
    let stage = |raw: &RawPlan, name: &str| raw.actors.iter().position(|a| a.name == name).expect("a stage") as u32;
    let (first, second) = (stage(&raw, "stage 0"), stage(&raw, "stage 1"));
    let ids = raw.channels.iter().position(|c| c.carries == Carries::Ids).expect("ids");
    raw.channels[ids].from.actor.0 = second;
    let messages: Vec<String> = Plan::check(raw).expect_err("a cycle").iter().map(ToString::to_string).collect();
    assert!(
        messages.contains(&"actors wait for each other: stage 0 → stage 1 → stage 0".to_string()),
        "{messages:?} {first}"
    );
}

#[test]
fn two_sources_that_disagree_are_both_shown() {
    let notes = |change: Value| {
        let mut config = config();
        config.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        models::describe(config.as_object().expect("an object")).expect("lawful").notes
    };
    assert_eq!(notes(json!({"rope_theta": 5e5, "rope_parameters": {"rope_theta": 5e5}})), Vec::<String>::new());
    assert_eq!(
        notes(json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}})),
        ["config.json: rope_theta: rope_parameters has 500000.0, the top level has 10000.0; rope_parameters wins"]
    );
    assert_eq!(
        notes(json!({
            "rope_parameters": {"rope_type": "linear", "factor": 2.0},
            "rope_scaling": {"rope_type": "linear", "factor": 4.0}
        })),
        [
            "config.json: rotary embedding: rope_parameters has {\"rope_type\":\"linear\",\"factor\":2.0}, rope_scaling has \
          {\"rope_type\":\"linear\",\"factor\":4.0}; rope_parameters wins"
        ]
    );
}

#[track_caller]
fn configured(change: Value, wants: &[&str]) {
    let mut config = config();
    for (key, value) in change.as_object().expect("an object") {
        config[key] = value.clone();
        if value == "-" {
            config.as_object_mut().expect("an object").remove(key);
        }
    }
    let faults = models::describe(config.as_object().expect("an object")).expect_err("refused");
    let messages: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(messages, wants);
}

#[test]
fn configurations() {
    let known: Vec<&str> = models::FAMILIES.iter().flat_map(|family| family.model_types).copied().collect();
    let known = format!("known: {}", known.join(", "));
    let start = "docs/adding-a-model.md says how to describe another one";
    configured(
        json!({"model_type": "llame"}),
        &[&format!("config.json: model_type is \"llame\"; {known}; the nearest: llama; {start}")],
    );
    configured(json!({"model_type": "-"}), &[&format!("config.json: model_type is missing; {known}; {start}")]);
    configured(json!({"hidden_size": "-"}), &["config.json: hidden_size is missing; llama needs it"]);
    configured(
        json!({"vocab_size": -5, "num_hidden_layers": 0, "intermediate_size": 1e18}),
        &[
            "config.json: intermediate_size is 1e+18; allowed: a whole number from 1 to 16777216",
            "config.json: vocab_size is -5; allowed: a whole number from 1 to 16777216",
            "config.json: num_hidden_layers is 0; allowed: a whole number from 1 to 256",
        ],
    );
    configured(
        json!({"num_attention_heads": 3, "num_key_value_heads": 3}),
        &[
            "config.json: hidden_size is 16 and num_attention_heads is 3; heads must divide the hidden size where head_dim is absent",
            "config.json: head_dim is 5; allowed: an even number: rotary embedding turns pairs",
        ],
    );
    configured(
        json!({"num_key_value_heads": 3}),
        &["config.json: num_attention_heads is 4 and num_key_value_heads is 3; key/value heads must divide the heads"],
    );
    configured(
        json!({"head_dim": 7}),
        &["config.json: head_dim is 7; allowed: an even number: rotary embedding turns pairs"],
    );
    configured(
        json!({"rope_scaling": {"rope_type": "spiral"}}),
        &["config.json: rope_scaling.rope_type is spiral; allowed: default, linear, dynamic, llama3, yarn, longrope"],
    );
    configured(
        json!({"rope_scaling": {"rope_type": "linear", "factor": 0}}),
        &["config.json: rope_scaling.factor is 0; allowed: a finite number above 0"],
    );
    configured(
        json!({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}),
        &[
            "config.json: rope_parameters.low_freq_factor is missing; llama needs it",
            "config.json: rope_parameters.high_freq_factor is missing; llama needs it",
        ],
    );
    configured(
        json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [1.0]}}),
        &[
            "config.json: rope_scaling.long_factor is [1.0]; allowed: a list of 2 numbers above 0, one for each pair that turns",
        ],
    );
    configured(
        json!({"partial_rotary_factor": 0.8}),
        &["config.json: head_dim · partial_rotary_factor is 3; allowed: an even number: rotary embedding turns pairs"],
    );
    configured(
        json!({"model_type": "mistral", "layer_types": ["full_attention", "sideways"]}),
        &["config.json: layer_types is [\"full_attention\",\"sideways\"]; allowed: a list of 4, one a layer, each of \
           full_attention, sliding_attention, linear_attention"],
    );
    configured(
        json!({"model_type": "gemma2", "use_bidirectional_attention": true}),
        &["config.json: use_bidirectional_attention is true; allowed: false: what it turns on is not computed here"],
    );
    configured(
        json!({"model_type": "gemma2", "attn_logit_softcapping": 0}),
        &["config.json: attn_logit_softcapping is 0; allowed: a finite number above 0"],
    );
    configured(
        json!({"hidden_act": "swoosh"}),
        &["config.json: hidden_act is \"swoosh\"; allowed: silu, gelu, gelu_new, gelu_pytorch_tanh, relu, relu2"],
    );
}

/// The windows that the layers of a configuration have.
fn windows(change: Value) -> Vec<Option<u32>> {
    let mut config = config();
    for (key, value) in change.as_object().expect("an object") {
        config[key] = value.clone();
    }
    let model = models::describe(config.as_object().expect("an object")).expect("lawful").model;
    let window = |node: &graph::Node| {
        let graph::Op::Attend { how, .. } = &node.op else { return None };
        Some(how.window)
    };
    model.nodes().iter().filter_map(window).collect()
}

#[test]
fn layers_have_the_windows_that_their_configuration_says() {
    let (all, none) = (Some(8), None);
    let of = |kind: &str| json!({"model_type": kind, "sliding_window": 8});
    assert_eq!(windows(of("llama")), [none; 4], "a field that Llama does not have");
    assert_eq!(windows(of("mistral")), [all; 4]);
    assert_eq!(windows(json!({"model_type": "mistral", "sliding_window": null})), [none; 4]);
    assert_eq!(windows(json!({"model_type": "mistral"})), [Some(4096); 4], "the default of the reference");
    assert_eq!(windows(of("qwen2")), [none; 4]);
    let late = json!({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 3});
    assert_eq!(windows(late), [none, none, none, all]);
    assert_eq!(windows(of("gemma2")), [all, none, all, none]);
    assert_eq!(windows(of("cohere2")), [all, all, all, none]);
    let types = ["full_attention", "sliding_attention", "full_attention", "full_attention"];
    let said = json!({"model_type": "gemma2", "sliding_window": 8, "layer_types": types});
    assert_eq!(windows(said), [none, all, none, none]);
}

#[test]
fn the_form_of_longrope_is_the_plans() {
    let mut config = config();
    config["rope_scaling"] = json!({"type": "su", "short_factor": [1.0, 1.0], "long_factor": [2.0, 4.0]});
    config["original_max_position_embeddings"] = json!(16);
    let model = models::describe(config.as_object().expect("an object")).expect("lawful").model;
    for (length, form) in [(16, "short"), (17, "long")] {
        let mut deployment = deployment(&["cpu:0"]);
        deployment.bounds.max_model_len = Some(length);
        let plan = compile(&model, &deployment).expect("a lawful plan");
        let side = if length > 16 { "over" } else { "within" };
        let said =
            format!("rotary embedding: the {form} factors of longrope, since max-model-len {length} is {side} 16");
        assert_eq!(plan.data().settings.notes, [said]);
        let json = plan.to_json();
        assert_eq!(json.contains("4.0"), form == "long", "only the form that is used is in the plan");
    }
}

#[test]
fn attention_has_two_forms_on_a_gpu_and_one_on_the_cores() {
    let forms = |devices: &[&str]| compile(&model(), &deployment(devices)).expect("a lawful plan").has_two_forms();
    assert!(!forms(&["cpu:0", "cpu:1"]));
    assert!(forms(&["cuda:0"]) && forms(&["cpu:0", "cuda:0"]));
}
