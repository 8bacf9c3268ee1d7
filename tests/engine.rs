//! The engine against references, and against itself on bits: whatever a request rides with, its tokens and logits are the same.

#[path = "common/families.rs"]
mod families;
#[path = "common/told.rs"]
mod told;

use families::{Kind, families, fixture};
use graph::plan::Bounds;
use millstream::checkpoint::{Checkpoint, LoadFormat};
use millstream::{Capture, Ended, Engine, Generation, Output, RequestError, Sampling};
use std::path::PathBuf;
use told::{Bits, bits, builder, engine, prompt, rows, run_parity};

/// The families with experts.
fn experts() -> impl Iterator<Item = &'static str> {
    families(&[Kind::Experts])
}

/// All but those with states, which have tests of their own.
fn attending() -> impl Iterator<Item = &'static str> {
    families(&[Kind::Dense, Kind::Experts])
}

/// A sampled request whose generated rows are captured, or all of them.
fn request(seed: u32, length: u32, capture: Capture) -> Generation {
    let sampling = Sampling {
        temperature: 0.9,
        top_k: 40,
        top_p: 0.95,
        min_p: 0.01,
        seed: 3,
        request: u64::from(seed),
        sample: 0,
    };
    Generation { sampling, capture, ignore_eos: true, ..Generation::greedy(prompt(seed, length), 20) }
}

/// The request alone, whole, on one thread, with a cold cache.
fn alone(name: &str, capture: Capture) -> Bits {
    bits(engine(name).submit(request(1, 75, capture)))
}

#[test]
fn every_layout_is_within_tolerance_of_the_reference() {
    for name in attending() {
        for arguments in [
            &[][..],
            &["-tp", "2"],
            &["-pp", "2"],
            &["-tp", "2", "-pp", "2"],
            &["--max-num-batched-tokens", "7"],
            &["-tp", "2", "-pp", "2", "--max-num-batched-tokens", "7"],
            &["-tp", "4"],
            &["--numerics", "tree", "-tp", "2", "-dp", "2"],
        ] {
            run_parity(name, arguments);
        }
    }
    for name in experts() {
        run_parity(name, &["-tp", "2", "-ep", "2"]);
        run_parity(name, &["-ep", "2"]);
        run_parity(name, &["-ep", "4", "-pp", "2"]);
        run_parity(name, &["-tp", "2", "-ep", "2", "-pp", "2", "--max-num-batched-tokens", "7"]);
    }
}

#[test]
fn company_does_not_change_a_bit() {
    for name in ["qwen3"].into_iter().chain(experts()) {
        let gold = alone(name, Capture::Generated);
        let engine = builder(name).bounds(rows(256)).threads(2).build().expect("an engine builds");
        let submit = |seed| engine.submit(request(seed, 3 + seed % 60, Capture::Generated));
        let others: Vec<_> = (2..33).map(submit).collect();
        let mine = engine.submit(request(1, 75, Capture::Generated));
        assert_eq!(bits(mine), gold);
        for (stream, seed) in others.into_iter().zip(2..) {
            let lonely = bits(self::engine(name).submit(request(seed, 3 + seed % 60, Capture::Generated)));
            assert_eq!(bits(stream), lonely, "{name} request {seed}");
        }
    }
}

#[test]
fn chunks_and_threads_do_not_change_a_bit() {
    for (name, capture) in
        ["llama"].into_iter().chain(experts()).flat_map(|name| [(name, Capture::Generated), (name, Capture::All)])
    {
        let gold = alone(name, capture);
        for (chunk, threads) in [(1, 1), (7, 2), (64, 1), (64, 2)] {
            let bounds = Bounds { max_num_seqs: Some(1), ..rows(chunk) };
            let engine = builder(name).bounds(bounds).threads(threads).build().expect("an engine builds");
            let found = bits(engine.submit(request(1, 75, capture)));
            assert_eq!(found, gold, "{name} in chunks of {chunk} on {threads} threads");
        }
    }
}

#[test]
fn nothing_a_request_rides_with_changes_a_bit_of_any_family() {
    for name in attending() {
        let gold = alone(name, Capture::Generated);
        for (chunk, threads) in [(1, 1), (5, 2), (16, 1), (256, 2)] {
            let bounds = Bounds { max_num_seqs: Some(chunk.min(6)), ..rows(chunk) };
            let engine = builder(name).bounds(bounds).threads(threads).build().expect("an engine builds");
            let others: Vec<_> =
                (2..8).map(|seed| engine.submit(request(seed, 3 + seed * 9, Capture::Generated))).collect();
            // Cold beside others, then with its prefix in the cache.
            assert_eq!(bits(engine.submit(request(1, 75, Capture::Generated))), gold, "{name}, steps of {chunk}, cold");
            others.into_iter().for_each(|other| drop(bits(other)));
            assert_eq!(bits(engine.submit(request(1, 75, Capture::Generated))), gold, "{name}, steps of {chunk}, warm");
        }
    }
}

/// Prompts and the reference's logits of a fixture.
fn references(name: &str) -> Vec<(Vec<u32>, Vec<f32>)> {
    let read = |file| std::fs::read(fixture(name).join(file)).expect("a fixture has its reference");
    let json: serde_json::Value = serde_json::from_slice(&read("expected.json")).expect("the reference parses");
    let logits = read("expected.safetensors");
    let logits = safetensors::SafeTensors::deserialize(&logits).expect("the logits parse");
    let cases = json["cases"].as_array().expect("cases").iter().enumerate();
    let case = |(number, case): (usize, &serde_json::Value)| {
        let ids = case["prompt"].as_array().expect("a prompt").iter().map(|id| id.as_u64().expect("an id") as u32);
        let logits = logits.tensor(&format!("logits.{number}")).expect("logits of the case").data();
        (ids.collect(), logits.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    };
    cases.map(case).collect()
}

/// The fixture `name` in a folder of its own, its tensors renamed, with more tensors and another configuration.
fn rewritten(
    name: &str,
    rename: impl Fn(&str) -> String,
    extra: &[&str],
    config: impl Fn(serde_json::Value) -> serde_json::Value,
) -> Checkpoint {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("rewritten-{name}"));
    std::fs::create_dir_all(&dir).expect("a folder");
    let read = |file| std::fs::read(fixture(name).join(file)).expect("a fixture's file");
    let bytes = read("model.safetensors");
    let stored = safetensors::SafeTensors::deserialize(&bytes).expect("a fixture's tensors");
    let few = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &[0; 8]).expect("two zeros");
    let tensors = stored.tensors().into_iter().map(|(name, tensor)| (rename(&name), tensor));
    let all: Vec<_> = tensors.chain(extra.iter().map(|name| (name.to_string(), few.clone()))).collect();
    safetensors::serialize_to_file(all, None, &dir.join("model.safetensors")).expect("tensors are written");
    let json = serde_json::from_slice(&read("config.json")).expect("a fixture's configuration");
    std::fs::write(dir.join("config.json"), config(json).to_string()).expect("a configuration is written");
    Checkpoint::open(&dir, LoadFormat::Mmap).expect("the folder opens")
}

#[test]
fn a_text_model_is_found_inside_a_larger_one_and_without_its_head() {
    let gemma = rewritten(
        "gemma3",
        |name| format!("language_model.{name}"),
        &["vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", "multi_modal_projector.mm_soft_emb_norm.weight"],
        |text| serde_json::json!({"model_type": "gemma3", "vision_config": {"hidden_size": 4}, "text_config": text}),
    );
    let gpt2 = rewritten(
        "gpt2",
        |name| name.strip_prefix("transformer.").unwrap_or(name).to_string(),
        &["h.0.attn.bias", "h.1.attn.masked_bias"],
        |config| config,
    );
    for (name, checkpoint) in [("gemma3", gemma), ("gpt2", gpt2)] {
        let engine = Engine::builder(checkpoint).capture_logits().threads(1).build().expect("an engine builds");
        assert_eq!(bits(engine.submit(request(1, 75, Capture::Generated))), alone(name, Capture::Generated), "{name}");
        let said =
            engine.notes().iter().any(|note| note.starts_with("the part for images or sound of this checkpoint"));
        assert_eq!(said, name == "gemma3", "{:?}", engine.notes());
    }
}

/// How far logits may be from those of f32 weights where weights, keys and values are rounded to bf16, as `docs/models.md` has it.
const BF16_BOUNDS: [(&str, f32); 18] = [
    ("llama", 0.05),
    ("mistral", 0.05),
    ("qwen2", 0.08),
    ("qwen3", 0.1),
    ("granite", 0.004),
    ("phi3", 0.08),
    ("gemma2", 0.04),
    ("gemma3", 0.04),
    ("olmo2", 0.07),
    ("cohere2", 0.05),
    ("gpt_neox", 0.04),
    ("gpt2", 0.03),
    ("mixtral", 0.06),
    ("arcee", 0.05),
    ("nemotron", 0.25),
    ("minicpm3", 0.015),
    ("mamba2", 0.09),
    ("qwen3_next", 1.9),
];

/// The same for three rows of four of the families with experts: where two experts are nearly equal the other one is chosen, and that row is
/// another one.
const BF16_BOUNDS_OF_MOST: [(&str, f32); 3] = [("qwen3_moe", 0.04), ("deepseek_v3", 0.1), ("gpt_oss", 0.3)];

/// The largest error of each row of the references in bf16, the smallest first.
fn bf16_errors(name: &str) -> Vec<f32> {
    let bf16 = builder(name).dtype(graph::DType::Bf16).kv_cache_dtype(graph::DType::Bf16).threads(1);
    let engine = bf16.build().expect("an engine builds");
    let mut errors = vec![];
    for (prompt, wanted) in references(name) {
        let width = wanted.len() / prompt.len();
        let found = logits(&engine, prompt);
        assert_eq!(found.len(), wanted.len(), "{name}: logits of every position");
        let far = |(found, wanted): (&[f32], &[f32])| {
            found.iter().zip(wanted).map(|(found, wanted)| (found - wanted).abs()).fold(0.0, f32::max)
        };
        errors.extend(found.chunks(width).zip(wanted.chunks(width)).map(far));
    }
    errors.sort_by(f32::total_cmp);
    errors
}

/// Logits of every position of a prompt.
fn logits(engine: &Engine, prompt: Vec<u32>) -> Vec<f32> {
    let generation = Generation { capture: Capture::All, ignore_eos: true, ..Generation::greedy(prompt, 1) };
    let row = |output| match output {
        Output::Prompt(row) => row.logits,
        Output::Token(token) => token.logits,
        Output::Ended(_) => None,
    };
    engine.submit(generation).filter_map(row).flatten().collect()
}

fn largest(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len(), "logits of every position");
    found.iter().zip(wanted).map(|(found, wanted)| (found - wanted).abs()).fold(0.0, f32::max)
}

#[test]
fn experts_of_rounded_weights_are_what_the_graph_says() {
    // A rounded weight may choose another expert, so what f32 weights give is no measure.
    for name in experts() {
        let builder = builder(name).dtype(graph::DType::Bf16).threads(1);
        let (architecture, plan) = builder.plan().expect("a plan");
        let specs = plan.data().actors.iter().filter_map(|actor| {
            let graph::plan::Role::Stage { program, .. } = &actor.role else { return None };
            Some(&program.weights)
        });
        // Vectors stay as they are stored.
        let rounded: Vec<&str> =
            specs.flatten().filter(|w| w.dtype == graph::WeightType::Bf16).map(|w| w.name.as_str()).collect();
        let weight = |tensor: &str| -> Vec<f32> {
            let bytes = builder.checkpoint().tensor(tensor).expect("the fixture has every weight").bytes;
            let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            let stacked = |name: &&str| (0..64).any(|n| graph::entry_name(name, n).as_deref() == Some(tensor));
            if rounded.iter().any(|name| *name == tensor || stacked(name)) {
                values.map(|value| half::bf16::from_f32(value).to_f32()).collect()
            } else {
                values.collect()
            }
        };
        let engine = builder.clone().kv_cache_dtype(graph::DType::F32).build().expect("an engine builds");
        for (prompt, _) in references(name) {
            let wanted = graph::interpret::logits(&architecture.model, &prompt, &weight).data;
            let error = largest(&logits(&engine, prompt), &wanted);
            assert!(error < 2e-4, "{name}: {error:.1e} from what its graph says of the rounded weights");
        }
    }
}

#[test]
fn bf16_stays_within_the_stated_bound() {
    let documented = include_str!("../docs/models.md");
    let all = BF16_BOUNDS.map(|(name, bound)| (name, bound, format!("| {name} | {bound} |"), 1.0));
    let most =
        BF16_BOUNDS_OF_MOST.map(|(name, bound)| (name, bound, format!("| {name} | {bound} (3 rows of 4) |"), 0.75));
    let mut wrong = vec![];
    for (name, bound, row, share) in all.into_iter().chain(most) {
        let errors = bf16_errors(name);
        let last = errors[(errors.len() as f32 * share) as usize - 1];
        if last > bound || !documented.contains(&row) {
            wrong.push(format!("{name}: {last:.1e} from the reference; docs/models.md has the row {row}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Logits of a prompt and the greedy tokens behind it, by a model of made-up weights.
fn made_up(config: &serde_json::Value, ranks: u32) -> (Vec<f32>, Vec<u32>) {
    let dir =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("made-up-{}", config["model_type"].as_str().unwrap()));
    std::fs::create_dir_all(&dir).expect("a folder for a configuration");
    std::fs::write(dir.join("config.json"), config.to_string()).expect("a configuration is written");
    let checkpoint = Checkpoint::dummy(&dir).expect("a configuration");
    let engine = Engine::builder(checkpoint).dummy_weights().dtype(graph::DType::F32).capture_logits();
    let engine = engine.tensor_parallel_size(ranks).threads(ranks as usize).build().expect("an engine builds");
    let generation = Generation { capture: Capture::All, ignore_eos: true, ..Generation::greedy(prompt(3, 40), 8) };
    let found = bits(engine.submit(generation));
    (found.prompt.iter().chain(&found.generated).flatten().map(|bits| f32::from_bits(*bits)).collect(), found.tokens)
}

#[test]
fn heads_and_vocabularies_that_do_not_divide_are_shared_out() {
    for (kind, kv_heads, ranks) in [("llama", 1, 2), ("olmo2", 1, 2), ("gemma2", 1, 4), ("llama", 2, 4), ("gpt2", 4, 2)]
    {
        let config = serde_json::json!({
            "model_type": kind, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 509,
            "num_attention_heads": 4, "num_key_value_heads": kv_heads, "head_dim": 8, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 64, "sliding_window": 16, "tie_word_embeddings": kind == "gpt2"
        });
        let (one, tokens) = made_up(&config, 1);
        let (several, same) = made_up(&config, ranks);
        assert_eq!(one.len(), several.len());
        for (one, several) in one.iter().zip(&several) {
            assert!((one - several).abs() < 2e-4, "{kind} on {ranks} ranks: {several}, on one {one}");
        }
        assert_eq!(tokens, same, "{kind} on {ranks} ranks");
    }
}

#[test]
fn a_warm_prefix_does_not_change_a_bit() {
    for name in ["qwen3"].into_iter().chain(experts()) {
        let gold = alone(name, Capture::Generated);
        let engine = engine(name);
        for cache in ["cold", "warm"] {
            assert_eq!(bits(engine.submit(request(1, 75, Capture::Generated))), gold, "{name}, {cache}");
        }
    }
}

#[test]
fn replicas_do_not_change_a_bit() {
    for name in ["qwen3", "qwen3_moe"] {
        let engine = builder(name).data_parallel_size(2).build().expect("an engine builds");
        assert_eq!(engine.replicas(), 2);
        let submit = |seed| engine.submit(request(seed, 3 + seed * 9, Capture::Generated));
        let streams: Vec<_> = (1..8).map(submit).collect();
        for (stream, seed) in streams.into_iter().zip(1..) {
            let lonely = bits(self::engine(name).submit(request(seed, 3 + seed * 9, Capture::Generated)));
            assert_eq!(bits(stream), lonely, "{name} request {seed}");
        }
    }
}

#[test]
fn under_a_tree_no_degree_changes_a_bit() {
    for name in ["llama", "gemma2", "gpt2"].into_iter().chain(experts()) {
        let tree = |tensor, expert| {
            let builder = builder(name).numerics(graph::plan::Numerics::Tree);
            let engine = builder.tensor_parallel_size(tensor).expert_parallel_size(expert).build();
            bits(engine.expect("an engine builds").submit(request(1, 75, Capture::All)))
        };
        let gold = tree(1, 1);
        let experts = experts().any(|other| other == name);
        for (tensor, expert) in [(2, 1), (2, 2), (4, 1), (4, 4)].into_iter().filter(|(_, e)| *e == 1 || experts) {
            assert_eq!(tree(tensor, expert), gold, "{name}, -tp {tensor} -ep {expert}");
        }
    }
}

#[test]
fn pipelines_do_not_change_a_bit() {
    for name in attending() {
        let gold = alone(name, Capture::All);
        for stages in [2, 3] {
            let engine = builder(name).pipeline_parallel_size(stages).build().expect("an engine builds");
            assert_eq!(bits(engine.submit(request(1, 75, Capture::All))), gold, "{name} in {stages} stages");
        }
    }
}

#[test]
fn preemption_does_not_change_a_bit() {
    // gpt_oss has pages of another size for windows: see tests/pools.rs.
    for name in ["qwen3"].into_iter().chain(experts()).filter(|name| *name != "gpt_oss") {
        let gold = alone(name, Capture::Generated);
        let (_, plan) = builder(name).plan().expect("a plan");
        let page = plan.data().devices[0].cache_bytes / u64::from(plan.pages());
        // 11 pages of 16 positions: two of these requests begin with five each and both want a sixth.
        let bounds = Bounds { kv_cache_memory_bytes: Some(11 * page), max_num_seqs: Some(8), ..rows(128) };
        let engine = builder(name).bounds(bounds).without_prefix_caching().build().expect("an engine builds");
        assert_eq!(engine.plan().pages(), 11, "{name}");
        let streams: Vec<_> = (0..8).map(|_| engine.submit(request(1, 75, Capture::Generated))).collect();
        for stream in streams {
            assert_eq!(bits(stream), gold, "{name}");
        }
    }
}

#[test]
fn tensor_ranks_stay_within_tolerance() {
    let gold = alone("llama", Capture::All);
    let engine = builder("llama").tensor_parallel_size(2).build().expect("an engine builds");
    let found = bits(engine.submit(request(1, 75, Capture::All)));
    for (found, gold) in found.prompt.iter().flatten().zip(gold.prompt.iter().flatten()) {
        assert!((f32::from_bits(*found) - f32::from_bits(*gold)).abs() < 2e-4);
    }
}

#[test]
fn a_request_that_can_never_fit_is_refused_with_numbers() {
    let engine = engine("llama");
    let outputs: Vec<_> = engine.submit(Generation::greedy(prompt(1, 250), 20)).collect();
    let why = RequestError::TooLong { prompt: 250, max_tokens: 20, max_model_len: 256 };
    assert_eq!(why.to_string(), "250 prompt tokens and max_tokens 20 exceed max_model_len 256");
    assert_eq!(outputs, [Output::Ended(Ended::Failed(why.into()))]);
}

#[test]
fn streamed_texts_joined_are_the_decode_of_what_was_spoken() {
    let engine = Engine::builder(Checkpoint::embedded()).threads(1).build().expect("an engine builds");
    let tokenizer = engine.tokenizer().expect("the embedded model has a tokenizer");
    let prompt = tokenizer.encode("The `Vec` type").expect("text encodes");
    let whole: Vec<u32> = engine.submit(Generation::greedy(prompt.clone(), 24)).filter_map(token).collect();
    // Once to the full length, once up to a token that then counts as a stop.
    let stop = whole[15];
    for (stops, spoken) in
        [(vec![], &whole[..]), (vec![stop], &whole[..whole.iter().position(|&t| t == stop).unwrap()])]
    {
        let generation = Generation { stop_token_ids: stops, ..Generation::greedy(prompt.clone(), 24) };
        let text: String = engine
            .submit(generation)
            .filter_map(|output| match output {
                Output::Token(token) => Some(token.text),
                Output::Prompt(_) | Output::Ended(_) => None,
            })
            .collect();
        assert_eq!(text, tokenizer.decode(spoken).expect("ids decode"));
    }
}

fn token(output: Output) -> Option<u32> {
    match output {
        Output::Token(token) => Some(token.token),
        Output::Prompt(_) | Output::Ended(_) => None,
    }
}
