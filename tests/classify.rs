//! Classifiers and reward models: their scores are dot products of the last row with the rows of `score.weight`, whatever they ride with.

mod common;

use common::{millstream, refuses};
use millstream::checkpoint::LoadFormat;
use millstream::job::{Interrupt, Unwatched};
use millstream::steps::Flow;
use millstream::{Bounds, Checkpoint, Engine, EngineBuilder, Failure, Generation, RequestError};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The rows of a language model's head that become rows of a classifier's.
const ROWS: [usize; 3] = [5, 0, 301];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name)
}

/// A classifier with the body of the fixture `family`, in a folder of this test's own, whose configuration has `extra` beside.
fn classifier(family: &str, test: &str, extra: &Value) -> PathBuf {
    let (from, to) = (fixture(family), Path::new(env!("CARGO_TARGET_TMPDIR")).join("classify").join(test).join(family));
    std::fs::create_dir_all(&to).expect("room for a folder");
    let mut config: Value = serde_json::from_slice(&std::fs::read(from.join("config.json")).unwrap()).unwrap();
    let class = config["architectures"][0].as_str().unwrap().replace("ForCausalLM", "ForSequenceClassification");
    config["architectures"] = json!([class]);
    config["id2label"] = json!({"0": "bad", "1": "fair", "2": "good"});
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    std::fs::write(to.join("config.json"), config.to_string()).expect("room for a small file");
    let bytes = std::fs::read(from.join("model.safetensors")).expect("a fixture");
    let stored = safetensors::SafeTensors::deserialize(&bytes).expect("a fixture's tensors");
    // A tied head is the embedding.
    let head = stored.tensor("lm_head.weight").or_else(|_| stored.tensor("model.embed_tokens.weight")).expect("a head");
    let width = head.shape()[1];
    let rows: Vec<u8> =
        ROWS.iter().flat_map(|row| &head.data()[row * width * 4..(row + 1) * width * 4]).copied().collect();
    let score = TensorView::new(Dtype::F32, vec![ROWS.len(), width], &rows).expect("three rows");
    let body = stored.tensors().into_iter().filter(|(name, _)| name != "lm_head.weight");
    let all: Vec<_> = body.chain([("score.weight".into(), score)]).collect();
    safetensors::serialize_to_file(all, None, &to.join("model.safetensors")).expect("tensors are written");
    to
}

fn open(dir: &Path) -> EngineBuilder {
    Engine::builder(Checkpoint::open(dir, LoadFormat::Mmap).expect("a folder")).threads(1)
}

/// Texts of several lengths, some of which begin alike.
fn texts() -> Vec<Vec<u32>> {
    let text = |number: u32| (0..1 + 13 * (number % 6)).map(|at| (at * 37 + number / 6 * 101) % 500).collect();
    (0..18).map(text).collect()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn scores_are_the_bits_of_the_rows_they_are_made_of_in_any_company() {
    for family in ["llama", "qwen2", "mistral"] {
        let dir = classifier(family, "bits", &json!({}));
        let of_rows = |logits: Vec<f32>| ROWS.map(|row| logits[row].to_bits()).to_vec();
        let language = open(&fixture(family)).capture_logits().build().expect("an engine builds");
        let wanted: Vec<Vec<u32>> = texts()
            .into_iter()
            .map(|text| {
                let told = language.generate_blocking(Generation::last_logits(text)).expect("it is good");
                let [row] = &told.prompt[..] else { panic!("one row is told") };
                of_rows(row.logits.clone().expect("asked for"))
            })
            .collect();
        for (chunk, caching, stages) in [(256, true, 1), (7, false, 1), (16, true, 2)] {
            let bounds = Bounds { max_num_batched_tokens: Some(chunk), ..Bounds::default() };
            let builder = open(&dir).bounds(bounds).pipeline_parallel_size(stages).threads(stages as usize);
            let builder = if caching { builder } else { builder.without_prefix_caching() };
            let engine = builder.build().expect("an engine builds");
            for (text, wanted) in texts().into_iter().zip(&wanted) {
                assert_eq!(
                    &bits(engine.classify_blocking(text).expect("it is good").logits()),
                    wanted,
                    "{family} alone"
                );
            }
            let ask = |text| engine.submit(Generation::last_logits(text));
            let streams: Vec<_> = texts().into_iter().map(ask).collect();
            for (stream, wanted) in streams.into_iter().zip(&wanted) {
                let told = stream.wait().expect("it is good");
                assert_eq!(&bits(told.prompt[0].logits.as_ref().expect("asked for")), wanted, "{family} together");
                assert!(told.tokens.is_empty(), "nothing is drawn");
            }
        }
        let halves = open(&dir).tensor_parallel_size(2).threads(2).build().expect("an engine builds");
        for (text, wanted) in texts().into_iter().zip(&wanted) {
            let found = halves.classify_blocking(text).expect("it is good");
            for (&found, &wanted) in found.logits().iter().zip(wanted) {
                assert!((found - f32::from_bits(wanted)).abs() < 2e-4, "{family}: {found}, {}", f32::from_bits(wanted));
            }
        }
    }
}

#[test]
fn scores_become_probabilities_as_the_configuration_says() {
    let text = texts().remove(3);
    let asked = |kind: &str, extra: Value| {
        let engine = open(&classifier("llama", kind, &extra)).build().expect("an engine builds");
        let names = engine.labels().expect("it has labels").names.clone();
        (engine.classify_blocking(text.clone()).expect("it is good"), names)
    };
    let (found, names) = asked("single", json!({}));
    assert_eq!(names, ["bad", "fair", "good"]);
    let logits: Vec<f64> = found.logits().iter().map(|&logit| logit.into()).collect();
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    let near = |found: &[f64], wanted: &[f64]| found.iter().zip(wanted).all(|(f, w)| (f - w).abs() < 1e-12);
    assert!(near(&found.probs(), &logits.iter().map(|logit| logit.exp() / sum).collect::<Vec<_>>()));
    let most = (0..3).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("three labels");
    assert_eq!(found.label(), names[most]);
    let (found, _) = asked("multi", json!({"problem_type": "multi_label_classification"}));
    assert!(near(&found.probs(), &logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect::<Vec<_>>()));
    let (found, names) = asked("regression", json!({"problem_type": "regression", "id2label": null, "num_labels": 3}));
    assert_eq!(found.probs(), logits);
    assert_eq!(names, ["LABEL_0", "LABEL_1", "LABEL_2"]);
}

#[test]
fn labels_that_cannot_be_are_refused_before_a_weight_is_read() {
    let said = |extra: Value| {
        let dir = classifier("llama", "bad", &extra);
        match Engine::builder(Checkpoint::open(&dir, LoadFormat::Mmap).expect("a folder")).plan() {
            Ok(_) => panic!("{extra} is refused"),
            Err(error) => error.to_string(),
        }
    };
    let gap = said(json!({"id2label": {"0": "bad", "2": "good"}}));
    assert!(gap.contains("id2label") && gap.contains("without a gap"), "{gap}");
    let kind = said(json!({"problem_type": "guess"}));
    assert!(
        kind.contains("problem_type") && kind.contains("guess") && kind.contains("multi_label_classification"),
        "{kind}"
    );
    let two = said(json!({"id2label": {"0": "bad", "1": "good"}}));
    assert!(two.contains("score.weight"), "the head has three rows: {two}");
}

#[test]
fn each_kind_of_model_is_asked_what_it_can_say() {
    let engine = open(&classifier("llama", "kind", &json!({}))).build().expect("an engine builds");
    let refused = |error: Failure| {
        let Failure::Refused(error) = error else { panic!("{error}") };
        (error.code(), error)
    };
    let tokens = engine.generate_blocking(Generation::greedy(vec![1, 2], 3)).expect_err("no tokens");
    assert_eq!(refused(tokens), ("wrong_model", RequestError::Classifier { labels: 3 }));
    let told = Generation { prompt_logprobs: Some(0), ..Generation::last_logits(vec![1, 2]) };
    assert_eq!(refused(engine.generate_blocking(told).expect_err("no log-probabilities")).0, "wrong_model");
    let language = open(&fixture("llama")).build().expect("an engine builds");
    let labels = language.classify_blocking(vec![1, 2]).expect_err("no labels");
    assert_eq!(refused(labels), ("wrong_model", RequestError::NoLabels));
    let long = vec![1; 257];
    assert_eq!(refused(engine.classify_blocking(long).expect_err("256 positions")).0, "prompt_too_long");
    assert_eq!(engine.classify_blocking(vec![1; 256]).expect("all positions are a text's").logits().len(), 3);
}

#[test]
fn lines_of_a_job_are_answered_as_vllm_does_and_the_rest_is_refused() {
    let dir = classifier("llama", "job", &json!({}));
    let (input, output) = (dir.join("in.jsonl"), dir.join("out.jsonl"));
    let lines: Vec<String> = texts()
        .iter()
        .enumerate()
        .map(|(at, text)| json!({"custom_id": format!("t{at}"), "token_ids": text}).to_string())
        .chain([json!({"custom_id": "c", "token_ids": [1], "continuations": [[2]]}).to_string()])
        .chain([json!({"custom_id": "p", "prompt": "text"}).to_string()])
        .collect();
    std::fs::write(&input, lines.join("\n")).expect("room for a small file");
    for file in [output.clone(), dir.join("out.jsonl.journal")] {
        drop(std::fs::remove_file(file));
    }
    let path = |path: &Path| path.to_str().expect("ASCII").to_owned();
    let (model, from, to) = (path(&dir), path(&input), path(&output));
    refuses(
        &["run", &from, "-o", &to, "--model", &model, "--no-supervise"],
        64,
        "the model gives scores of 3 labels and no tokens; `millstream score` asks it about the lines' texts",
    );
    let ran = millstream(&["score", &from, "-o", &to, "--model", &model]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    assert!(said.contains("continuations"), "a name that nobody knows here is told: {said}");
    let engine = open(&dir).build().expect("an engine builds");
    let text = std::fs::read_to_string(&output).expect("results");
    let results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(results.len(), texts().len() + 2);
    for (at, tokens) in texts().into_iter().enumerate() {
        let (count, found) = (tokens.len(), engine.classify_blocking(tokens).expect("it is good"));
        let line = results.iter().find(|line| line["custom_id"] == format!("t{at}")).expect("every line has a result");
        let body = &line["response"]["body"];
        assert_eq!(body["data"][0]["label"], found.label());
        let told: Vec<f32> = serde_json::from_value(body["data"][0]["logits"].clone()).expect("numbers");
        assert_eq!(bits(&told), bits(found.logits()), "written to the last bit");
        assert_eq!((body["object"].as_str(), body["data"][0]["num_classes"].as_u64()), (Some("list"), Some(3)));
        assert_eq!(body["usage"]["prompt_tokens"], count);
    }
    let error =
        |id: &str| results.iter().find(|line| line["custom_id"] == id).expect("a result")["error"]["code"].clone();
    assert_eq!((error("c"), error("p")), (Value::Null, "no_tokenizer".into()));
}

#[derive(Clone, Serialize, Deserialize)]
struct Item {
    token_ids: Vec<u32>,
    #[serde(default)]
    reward: f32,
}

#[test]
fn a_reward_model_is_a_step() {
    let dir = classifier("llama", "steps", &json!({}));
    let (input, output) = (dir.join("in.jsonl"), dir.join("out.jsonl"));
    let line = |(at, text): (usize, &Vec<u32>)| json!({"custom_id": format!("t{at}"), "token_ids": text}).to_string();
    let lines: Vec<String> = texts().iter().enumerate().map(line).collect();
    std::fs::write(&input, lines.join("\n")).expect("room for a small file");
    for file in [output.clone(), dir.join("out.jsonl.journal")] {
        drop(std::fs::remove_file(file));
    }
    let engine = open(&dir).build().expect("an engine builds");
    let rewarded = |engine: &Engine| {
        Flow::<Item>::read(&input)
            .classify(
                "reward",
                engine,
                |item| item.token_ids.clone(),
                |item, said| Item { reward: said.logits()[0], ..item },
            )
            .write(&output)
    };
    let summary = rewarded(&engine).open().expect("a job").run(&Interrupt::default(), &mut Unwatched).expect("it runs");
    assert_eq!((summary.tally.done, summary.tally.errors), (18, 0));
    for (line, text) in std::fs::read_to_string(&output).expect("results").lines().zip(texts()) {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let reward: f32 = serde_json::from_value(line["response"]["body"]["reward"].clone()).expect("a number");
        assert_eq!(reward.to_bits(), engine.classify_blocking(text).expect("it is good").logits()[0].to_bits());
    }
    let language = open(&fixture("llama")).build().expect("an engine builds");
    let fault = rewarded(&language).open().expect_err("it has no labels").to_string();
    assert!(fault.contains("step \"reward\": the model has no labels"), "{fault}");
}
