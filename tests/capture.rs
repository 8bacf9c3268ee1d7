//! Values inside a model, by module path: what the stored weights make of each other, the same in every layout, in files of a job, and
//! beside the reference of another implementation.

use graph::plan::Bounds;
use millstream::checkpoint::{Checkpoint, LoadFormat};
use millstream::{Capture, CapturedEdges, Ended, Engine, EngineBuilder, Error, Generation, Output};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name)
}

fn builder(name: &str) -> EngineBuilder {
    Engine::builder(Checkpoint::open(&fixture(name), LoadFormat::Mmap).expect("a fixture opens"))
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| 1 + i.wrapping_mul(2_654_435_761) % 500).collect()
}

/// The rows of all edges over a prompt of this length and nine tokens behind it.
fn captured(builder: EngineBuilder, length: u32) -> CapturedEdges {
    let engine = builder.threads(4).build().expect("an engine builds");
    let generation =
        || Generation { capture: Capture::All, ignore_eos: true, ..Generation::greedy(prompt(length), 10) };
    let once = || {
        let mut edges = CapturedEdges::new(engine.edges());
        for output in engine.submit(generation()) {
            edges.take(&output);
            if let Output::Ended(ended) = output {
                assert_eq!(ended, Ended::Length);
            }
        }
        assert_eq!(edges.count(), length as usize + 9, "a row for each position but the last");
        edges
    };
    let cold = once();
    assert!(once() == cold, "rows are computed, whatever is cached");
    cold
}

fn all(name: &str) -> EngineBuilder {
    builder(name).capture_edges(["*".to_owned()])
}

fn rows<'a>(edges: &'a CapturedEdges, name: &str) -> (&'a [f32], usize) {
    let (edge, rows) = edges.edges().find(|(edge, _)| edge.name == name).unwrap_or_else(|| panic!("no edge {name}"));
    (rows, edge.width as usize)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn what_a_module_gives_is_its_stored_weight_times_what_it_reads() {
    for (family, reads, gives, tensor, is_input_first) in [
        ("qwen3", "model.norm", "lm_head", "model.embed_tokens", false),
        ("llama", "model.layers.1.input_layernorm", "model.layers.1.self_attn.k_proj", "", false),
        ("qwen2", "model.layers.1.input_layernorm", "model.layers.1.self_attn.q_proj", "", false),
        ("phi3", "model.layers.1.input_layernorm", "model.layers.1.self_attn.qkv_proj", "", false),
        ("phi3", "model.layers.1.post_attention_layernorm", "model.layers.1.mlp.gate_up_proj", "", false),
        ("gpt2", "transformer.h.1.ln_1", "transformer.h.1.attn.c_attn", "", true),
        ("gpt_neox", "gpt_neox.layers.1.input_layernorm", "gpt_neox.layers.1.attention.query_key_value", "", false),
        ("mamba2", "backbone.layers.1.norm", "backbone.layers.1.mixer.in_proj", "", false),
        ("qwen3_next", "model.layers.1.input_layernorm", "model.layers.1.linear_attn.in_proj_qkvz", "", false),
    ] {
        let checkpoint = Checkpoint::open(&fixture(family), LoadFormat::Mmap).expect("a fixture opens");
        let module = if tensor.is_empty() { gives } else { tensor };
        let w = floats(checkpoint.tensor(&format!("{module}.weight")).expect("the module has a weight").bytes);
        let bias = checkpoint.tensor(&format!("{module}.bias")).map(|bias| floats(bias.bytes));
        for ranks in [1, 2] {
            let edges = [reads, gives].map(str::to_owned);
            let found = captured(builder(family).capture_edges(edges).tensor_parallel_size(ranks), 20);
            let ((x, k), (y, n)) = (rows(&found, reads), rows(&found, gives));
            assert_eq!(w.len(), n * k, "{family}: {gives}");
            for (x, y) in x.chunks_exact(k).zip(y.chunks_exact(n)) {
                for (at, &got) in y.iter().enumerate() {
                    let weight = |i: usize| if is_input_first { w[i * n + at] } else { w[at * k + i] };
                    let sum: f32 = x.iter().enumerate().map(|(i, x)| x * weight(i)).sum();
                    let wanted = sum + bias.as_ref().map_or(0.0, |bias| bias[at]);
                    assert!((got - wanted).abs() < 1e-4, "{family} on {ranks} ranks: {gives} {at}: {got}, {wanted}");
                }
            }
        }
    }
}

#[test]
fn the_same_rows_are_captured_in_every_layout() {
    for name in ["qwen3", "gemma3", "gpt2", "mixtral", "mamba2", "qwen3_next"] {
        let gold = captured(all(name), 40);
        assert!(gold.edges().count() > 20, "{name}: {} edges", gold.edges().count());
        let steps = Bounds { max_num_batched_tokens: Some(7), max_num_seqs: Some(1), ..Bounds::default() };
        assert!(captured(all(name).bounds(steps), 40) == gold, "{name}: steps of 7 rows");
        for stages in [2, 3] {
            assert!(captured(all(name).pipeline_parallel_size(stages), 40) == gold, "{name}: {stages} stages");
        }
        assert!(captured(all(name).data_parallel_size(2), 40) == gold, "{name}: two replicas");
        let tree = |ranks| all(name).numerics(graph::plan::Numerics::Tree).tensor_parallel_size(ranks);
        assert!(captured(tree(2), 40) == captured(tree(1), 40), "{name}: two ranks whose sums are in a tree");
        for stages in [1, 2] {
            let ranks = all(name).tensor_parallel_size(2).pipeline_parallel_size(stages);
            for ((edge, got), (_, wanted)) in captured(ranks.bounds(steps), 40).edges().zip(gold.edges()) {
                let scale = wanted.iter().fold(1.0f32, |most, element| most.max(element.abs()));
                let error = got.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert_eq!(got.len(), wanted.len());
                assert!(error <= 2e-4 * scale, "{name} on two ranks in {stages} stages: {}: {error}", edge.name);
            }
        }
    }
}

#[test]
fn a_layer_gives_the_sum_that_the_next_one_normalises() {
    let found = captured(all("llama"), 12);
    let w = Checkpoint::open(&fixture("llama"), LoadFormat::Mmap).expect("a fixture opens");
    let w = floats(w.tensor("model.layers.1.input_layernorm.weight").expect("a norm").bytes);
    let ((x, width), (y, _)) = (rows(&found, "model.layers.0"), rows(&found, "model.layers.1.input_layernorm"));
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact(width)) {
        let scale = (x.iter().map(|x| x * x).sum::<f32>() / width as f32 + 1e-6).sqrt();
        for ((x, w), y) in x.iter().zip(&w).zip(y) {
            assert!((x / scale * w - y).abs() < 1e-4);
        }
    }
}

#[test]
fn an_edge_that_is_not_there_is_named_with_those_that_are_near() {
    let asked = "model.layers.1.self_attn.out_proj".to_owned();
    match builder("qwen3").capture_edges([asked]).plan() {
        Err(Error::Engine(error)) => {
            let message = error.to_string();
            assert!(message.contains("no edge of this model is called model.layers.1.self_attn.out_proj"), "{message}");
            assert!(message.contains("model.layers.1.self_attn.o_proj"), "{message}");
        }
        other => panic!("wanted a fault of the engine, got {:?}", other.map(|_| ())),
    }
}

fn run(words: &[&str]) -> u8 {
    millstream::cli::main(["millstream"].iter().chain(words).map(Into::into))
}

fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).expect("an old folder goes");
    }
    std::fs::create_dir_all(&dir).expect("a folder");
    dir
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ASCII")
}

#[test]
fn a_job_leaves_a_file_of_each_sequence() {
    let dir = folder("capture-job");
    let (job, output) = (dir.join("job.jsonl"), dir.join("out.jsonl"));
    let lines = format!(
        "{}\n{}\n",
        serde_json::json!({"custom_id": "first", "token_ids": prompt(40), "max_tokens": 10, "ignore_eos": true, "temperature": 0}),
        serde_json::json!({"custom_id": "second", "token_ids": [5, 6, 7], "max_tokens": 4, "n": 2, "ignore_eos": true}),
    );
    std::fs::write(&job, lines).expect("a job is written");
    let model = fixture("qwen3");
    let edges = "model.layers.*.self_attn.o_proj,logits";
    let layout = ["-tp", "2", "-pp", "2", "--max-num-batched-tokens", "7"];
    let words = ["run", text(&job), "-o", text(&output), "--model", text(&model), "--no-supervise", "--capture", edges];
    assert_eq!(run(&[&words[..], &layout].concat()), 0);
    let captures = dir.join("out.jsonl.captures");
    let mut files: Vec<String> = std::fs::read_dir(&captures)
        .expect("the folder of captures")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name of ASCII"))
        .collect();
    files.sort();
    assert_eq!(files, ["000001.safetensors", "000002.choice-1.safetensors", "000002.safetensors"]);
    let read = |name: &str| std::fs::read(captures.join(name)).expect("a captured file");
    let edges = ["model.layers.*.self_attn.o_proj", "logits"].map(str::to_owned);
    let gold = captured(builder("qwen3").capture_edges(edges).tensor_parallel_size(2), 40);
    let bytes = read("000001.safetensors");
    let found = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    assert_eq!(found.len(), 3 + 1 + 1, "three layers, the logits and the tokens");
    for (edge, wanted) in gold.edges() {
        let tensor = found.tensor(&edge.name).expect("an edge that was asked for");
        assert_eq!(tensor.shape(), [49, edge.width as usize]);
        assert!(floats(tensor.data()) == wanted, "{}", edge.name);
    }
    let ids: Vec<i64> = found
        .tensor("token_ids")
        .expect("tokens")
        .data()
        .as_chunks::<8>()
        .0
        .iter()
        .map(|b| i64::from_le_bytes(*b))
        .collect();
    assert!(ids.len() == 49 && ids.iter().zip(prompt(40)).all(|(&id, token)| id == i64::from(token)));
    let bytes = read("000002.choice-1.safetensors");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a header");
    let about = metadata.metadata().clone().expect("words about it");
    assert_eq!(
        (about["custom_id"].as_str(), about["choice"].as_str(), about["prompt_tokens"].as_str()),
        ("second", "1", "3")
    );
    let found = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    assert_eq!(found.tensor("logits").expect("logits").shape(), [6, 512]);
}

/// A fixture in a folder of its own, with one element of a tensor changed.
fn broken(name: &str, tensor: &str) -> PathBuf {
    let dir = folder(&format!("capture-broken-{name}-{tensor}"));
    std::fs::copy(fixture(name).join("config.json"), dir.join("config.json")).expect("a configuration is copied");
    let bytes = std::fs::read(fixture(name).join("model.safetensors")).expect("a fixture's weights");
    let stored = SafeTensors::deserialize(&bytes).expect("a fixture's tensors");
    let mut changed: BTreeMap<String, Vec<u8>> =
        stored.tensors().into_iter().map(|(name, tensor)| (name, tensor.data().to_vec())).collect();
    let element = &mut changed.get_mut(tensor).expect("the tensor is there")[400..404];
    let value = f32::from_le_bytes((&*element).try_into().expect("four bytes"));
    element.copy_from_slice(&(value + 0.25).to_le_bytes());
    let views = stored.tensors().into_iter().map(|(name, tensor)| {
        let view = TensorView::new(tensor.dtype(), tensor.shape().to_vec(), &changed[&name]).expect("the same shape");
        (name, view)
    });
    let views: Vec<_> = views.collect();
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).expect("tensors are written");
    dir
}

#[test]
fn a_module_that_means_another_value_elsewhere_is_no_error() {
    // transformers has the multiplier of Gemma's embeddings inside the module.
    let reference = fixture("gemma3").join("reference.safetensors");
    let model = fixture("gemma3");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["parity", "--model", text(&model), "--reference", text(&reference)])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("8 edges compared, 1 of them differ"), "{said}");
    assert!(
        said.contains("model.embed_tokens differs by") && said.contains("but what is computed of it agrees"),
        "{said}"
    );
}

#[test]
fn the_first_edge_that_differs_from_the_reference_is_named() {
    let binary = env!("CARGO_BIN_EXE_millstream");
    for family in ["qwen3", "mamba2"] {
        let reference = fixture(family).join("reference.safetensors");
        let parity = |model: &Path, more: &[&str]| {
            let mut command = std::process::Command::new(binary);
            command.args(["parity", "--json", "--model", text(model), "--reference", text(&reference)]).args(more);
            let output = command.output().expect("it runs");
            let json: serde_json::Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|_| panic!("{family}: {}", String::from_utf8_lossy(&output.stderr)));
            (output.status.code(), json)
        };
        for layout in [&[][..], &["-tp", "2", "-pp", "2", "--max-num-batched-tokens", "5"]] {
            let (code, told) = parity(&fixture(family), layout);
            assert_eq!((code, &told["passed"]), (Some(0), &true.into()), "{family} {layout:?}: {told:#}");
            assert!(told["edges"].as_array().expect("a list").len() > 15, "{family}: {told:#}");
        }
        let modules: &[&str] = match family {
            "qwen3" => {
                &["model.layers.1.self_attn.o_proj", "model.layers.2.mlp.gate_proj", "model.layers.0.self_attn.v_proj"]
            }
            _ => &["backbone.layers.1.mixer.in_proj", "backbone.layers.2.mixer.out_proj"],
        };
        for module in modules {
            let model = broken(family, &format!("{module}.weight"));
            for layout in [&[][..], &["-tp", "2", "-pp", "2"]] {
                let (code, told) = parity(&model, layout);
                assert_eq!((code, &told["first"]["edge"]), (Some(1), &(*module).into()), "{layout:?}: {told:#}");
            }
        }
    }
}
