//! The examples of jobs of steps, on the embedded model: they run, and a job that was stopped ends as the calm one did.

use serde_json::Value;
use std::path::{Path, PathBuf};

#[path = "../examples/best_of_n.rs"]
#[allow(dead_code, reason = "a test calls what main calls")]
mod best_of_n;
#[path = "../examples/judge.rs"]
#[allow(dead_code, reason = "a test calls what main calls")]
mod judge;
#[path = "../examples/rollouts.rs"]
#[allow(dead_code, reason = "a test calls what main calls")]
mod rollouts;

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("steps").join(name);
    drop(std::fs::remove_dir_all(&dir));
    std::fs::create_dir_all(&dir).expect("a folder");
    dir
}

fn prompts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/jobs/prompts.jsonl")
}

fn bodies(output: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(output).expect("results");
    let body = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["response"]["body"].clone();
    text.lines().map(body).collect()
}

#[test]
fn the_best_of_n_is_the_one_that_the_second_model_likes_best() {
    let output = scratch("best").join("out.jsonl");
    assert_eq!(best_of_n::best_of_n(&prompts(), &output).expect("it runs"), 5);
    let first = std::fs::read(&output).expect("results");
    for body in bodies(&output) {
        assert!(body["reward"].as_f64().is_some_and(|reward| reward < 0.0), "{body}");
        assert_eq!(body["tokens"].as_array().map(Vec::len), Some(24));
    }
    // Cut journals go on to the same bytes.
    let journal = output.with_extension("jsonl.journal");
    let whole = std::fs::read(&journal).expect("a journal");
    for share in [3, 6, 9] {
        std::fs::write(&journal, &whole[..whole.len() * share / 10]).expect("room for a file");
        std::fs::remove_file(&output).expect("it goes");
        assert_eq!(best_of_n::best_of_n(&prompts(), &output).expect("it goes on"), 5);
        assert!(std::fs::read(&output).expect("results") == first, "{share} tenths of the journal");
    }
}

#[test]
fn rollouts_tell_the_log_probabilities_of_two_models() {
    let output = scratch("rollouts").join("out.jsonl");
    assert_eq!(rollouts::rollouts(&prompts(), &output).expect("it runs"), 5);
    for body in bodies(&output) {
        let group = body.as_array().expect("a group");
        assert_eq!(group.len(), 3);
        assert!(group[0]["tokens"] != group[1]["tokens"], "samples are drawn apart: {body}");
        for rollout in group {
            let numbers = |name: &str| -> Vec<f64> {
                rollout[name].as_array().expect("a list").iter().filter_map(Value::as_f64).collect()
            };
            let (policy, reference) = (numbers("policy_logprobs"), numbers("reference_logprobs"));
            assert_eq!(policy.len(), rollout["tokens"].as_array().map_or(0, Vec::len));
            // The same weights with other element types in the cache: near, and not the same.
            assert!(
                policy.iter().zip(&reference).all(|(one, other)| (one - other).abs() < 0.2),
                "{policy:?} {reference:?}"
            );
            assert_eq!(policy.len(), reference.len());
        }
    }
}

#[test]
fn a_judge_says_which_verdict_it_finds_likelier() {
    let output = scratch("judge").join("out.jsonl");
    assert_eq!(judge::judge(&prompts(), &output).expect("it runs"), 5);
    for body in bodies(&output) {
        assert!(body["verdict"].as_str().is_some_and(|verdict| verdict.starts_with(" This is")), "{body}");
        assert!(body["second"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    }
}

#[test]
fn models_of_a_fleet_share_a_budget_and_all_their_faults_come_at_once() {
    use millstream::steps::Fleet;
    use millstream::{Checkpoint, Engine};
    let embedded = || Engine::builder(Checkpoint::embedded());
    let plan = Fleet::plan().model("a", embedded()).model("b", embedded()).memory_bytes(1 << 30).threads(3);
    let said = plan.explain().expect("they fit");
    assert!(said.contains("a: ") && said.contains("2 threads") && said.contains("1 threads"), "{said}");
    let small = Fleet::plan().model("a", embedded()).model("b", embedded()).memory_bytes(8 << 20);
    let error = small.build().expect_err("they do not fit").to_string();
    assert!(error.contains("GiB") || error.contains("MiB"), "{error}");
    let bad =
        Fleet::plan().model("a", embedded().pipeline_parallel_size(99)).model("b", embedded().tensor_parallel_size(7));
    let error = bad.explain().expect_err("neither can be").to_string();
    assert!(error.contains("pipeline-parallel-size 99") && error.contains("tensor-parallel-size 7"), "{error}");
}
