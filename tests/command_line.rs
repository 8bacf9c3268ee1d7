//! The commands as their users run them: what they refuse, with which words and exit code, and what a job leaves behind.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn millstream(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

/// A place of this test's own.
fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("command-line");
    std::fs::create_dir_all(&dir).expect("room for a small folder");
    dir.join(name)
}

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name).display().to_string()
}

/// This command line ends with this code, and says all of these on standard error.
#[track_caller]
fn refused(line: &str, code: i32, wants: &[&str]) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = millstream(&words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}: {said}");
    for want in wants {
        assert!(said.contains(want), "{line}: wanted {want:?} in\n{said}");
    }
}

#[test]
fn c24_to_c33_settings_that_cannot_be() {
    // 27: beyond the positions of the model; more than the pool has.
    refused(
        "plan --max-model-len 100000",
        78,
        &["max-model-len is 100000; allowed: 1 to 1024, the positions of the model"],
    );
    refused(
        "plan --kv-cache-memory-bytes 1000",
        78,
        &["needs 48.0 KiB of key/value cache on cpu:0, which has 1000 B; the largest that fits is 0"],
    );
    // Experts: of a model that has none, and over other ranks than there are.
    refused("plan -tp 2 -ep 2", 78, &["expert-parallel-size 2: qwen3 has no experts; leave it out"]);
    let model = fixture("mixtral");
    refused(
        &format!("plan --model {model} -tp 4 -ep 2"),
        78,
        &["expert-parallel-size 2 of tensor 4; legal degrees: 1, 4"],
    );
    refused(&format!("plan --model {model} -ep 3"), 78, &["expert-parallel-size 3 does not divide"]);
    refused("plan -dp 0", 78, &["data-parallel-size"]);
    refused("plan -dp 2 --devices cpu:0", 78, &["1 devices for tensor 1 × pipeline 1 × data 2 = 2 ranks"]);
    refused(
        &format!("plan --model {} -tp 3 --numerics tree", fixture("llama")),
        78,
        &["tensor-parallel-size 3: numerics tree sums along axis ffn in a tree of", "or numerics invariant"],
    );
    // 28: names that are nearly known.
    refused("plan --max-num-seq 3", 64, &["unexpected argument '--max-num-seq'", "'--max-num-seqs'"]);
    refused("plna", 64, &["unrecognized subcommand 'plna'", "'plan'"]);
    // 30: bounds that leave no room.
    refused("plan --max-num-seqs 0", 78, &["max-num-seqs is 0; allowed: 1 or more"]);
    refused("plan --threads 0", 78, &["--threads 0 for 1 devices"]);
    refused("plan -tp 0 -pp=0", 78, &["tensor-parallel-size is 0; allowed: 1 or more", "pipeline-parallel-size is 0"]);
    refused(
        "generate x --temperature NaN",
        64,
        &["'NaN'", "allowed: 0 (takes the likeliest) or a finite number above it"],
    );
    refused("generate x --top-p 1.5", 64, &["'1.5'", "allowed: above 0, at most 1"]);
    refused("generate x --min-p -1", 64, &["'-1'"]);
    refused("generate x --max-tokens 0", 64, &["1.."]);
    refused("bench --batch 0", 64, &["1.."]);
    refused("run a.jsonl -o b.jsonl --max-error-rate NaN", 64, &["'NaN'", "allowed: from 0 to 1"]);
    refused("run a.jsonl -o b.jsonl --max-error-rate 1.5", 64, &["'1.5'", "allowed: from 0 to 1"]);
    refused("plan --layer-partition 0,6 -pp 2", 78, &["each of at least 1 layer"]);
    // 31: two that contradict each other, where both were given.
    refused(
        "plan --max-num-batched-tokens 4 --max-num-seqs 8",
        78,
        &["max-num-batched-tokens is 4 and max-num-seqs is 8; every running sequence needs a row of the step"],
    );
    // 32: element types without a kernel.
    refused("plan --dtype int8", 64, &["'int8'", "allowed: auto, f32, bf16, f16"]);
    refused("plan --kv-cache-dtype fp8", 64, &["'fp8'", "allowed: auto, f32, bf16, f16"]);
    // What this build does not have.
    refused("plan --device tpu", 64, &["'tpu'", "possible values: auto, cpu, cuda"]);
    refused("plan --numerics fast", 64, &["'fast'", "possible values: invariant, tree"]);
}

#[test]
fn c31_a_default_is_lowered_to_fit_and_said_so() {
    let output = millstream(&["plan", "--max-num-batched-tokens", "4"]);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("note: max-num-seqs lowered from 128 to 4: max-num-batched-tokens"), "{said}");
}

#[test]
fn the_flags_of_every_command_are_in_its_help() {
    let everywhere = [
        "--model",
        "--load-format",
        "--device",
        "--devices",
        "--tensor-parallel-size",
        "--pipeline-parallel-size",
        "--data-parallel-size",
        "--expert-parallel-size",
        "--layer-partition",
        "--dtype",
        "--kv-cache-dtype",
        "--numerics",
        "--max-model-len",
        "--max-num-seqs",
        "--max-num-batched-tokens",
        "--kv-cache-memory-bytes",
        "--threads",
        "--dummy-weights",
        "--no-weight-scan",
    ];
    let own: [(&str, &[&str]); 5] = [
        ("run", &["--output", "--resume", "--strict", "--max-error-rate", "--seed", "--trace", "--trace-level"]),
        ("generate", &["--max-tokens", "--temperature", "--seed", "--trace", "--trace-level"]),
        ("parity", &["--tolerance", "--json", "--trace"]),
        ("bench", &["--n-prompt", "--n-gen", "--batch", "--json", "--trace"]),
        ("plan", &["--explain", "--json"]),
    ];
    for (command, flags) in own {
        let help = String::from_utf8(millstream(&[command, "--help"]).stdout).expect("text");
        for flag in everywhere.iter().chain(flags) {
            assert!(
                help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")),
                "{command}: {flag} in\n{help}"
            );
        }
    }
    for (command, flag) in [("trace", "--json"), ("models", "--json"), ("models", "--manifest")] {
        let help = String::from_utf8(millstream(&[command, "--help"]).stdout).expect("text");
        assert!(help.contains(flag), "{command}: {flag}");
    }
}

#[test]
fn d92_to_d96_deployments_that_cannot_be() {
    refused(
        "plan --layer-partition 1,2 -pp 2",
        78,
        &["layer-partition [1, 2] has 2 stages and 3 layers; wanted: 2 stages, each of at least 1 layer, 6 in all"],
    );
    refused("plan --devices cpu:0,cpu:0 -tp 2", 78, &["device cpu:0 is given to rank 0 and to rank 1"]);
    refused(
        "plan -tp 3",
        78,
        &[
            "tensor-parallel-size 3 does not divide axis ffn of length 704; legal degrees: 1, 2, 4, 8, 11, 16, 22, 32, 44, 64",
        ],
    );
    refused(
        "plan --devices cuda:9,cpu:x -pp 2",
        78,
        &["--devices cuda:9, cpu:x: no such device; this machine has cpu:K"],
    );
    refused(
        "plan --devices cpu:0 -pp 2",
        78,
        &["1 devices for tensor 1 × pipeline 2 = 2 ranks; give one device a rank"],
    );
    refused("plan -pp 9", 78, &["pipeline-parallel-size 9 is more than the 6 layers of the model; use 1 to 6"]);
    // All faults at once.
    refused("plan --max-num-seqs 0 --max-model-len 99999 -tp 3", 78, &["max-num-seqs is 0", "99999", "axis ffn"]);
}

#[test]
fn folders_and_files_that_are_not_there() {
    refused("plan --model /nowhere/at/all", 66, &["/nowhere/at/all: no such folder"]);
    refused("run /nowhere/job.jsonl -o /nowhere/out.jsonl", 66, &["/nowhere/job.jsonl: cannot be read"]);
    let job = scratch("unwritable.jsonl");
    std::fs::write(&job, "{\"custom_id\": \"a\", \"prompt\": \"x\"}\n").expect("room for a small file");
    refused(&format!("run {} -o /nowhere/out.jsonl", job.display()), 73, &["/nowhere/out.jsonl"]);
}

/// Runs a job; its records, by line.
fn run(name: &str, job: &str, arguments: &[&str]) -> (Vec<Value>, String) {
    let (input, output) = (scratch(&format!("{name}.jsonl")), scratch(&format!("{name}.out.jsonl")));
    std::fs::write(&input, job).expect("room for a small file");
    // What an earlier version of this test left is another job's.
    for left in [output.clone(), output.with_extension("jsonl.journal")] {
        drop(std::fs::remove_file(left));
    }
    let paths = [input.to_str().expect("ASCII"), "-o", output.to_str().expect("ASCII")];
    let done = millstream(&[&["run"][..], &paths, arguments].concat());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(0), "{said}");
    let text = std::fs::read_to_string(&output).expect("an output");
    (text.lines().map(|line| serde_json::from_str(line).expect("a record is JSON")).collect(), said)
}

#[test]
fn a_bad_line_is_a_record_and_the_rest_goes_on() {
    let job = "{\"custom_id\": \"good\", \"prompt\": \"A vector\", \"max_tokens\": 4}\n\
               {bad\n\
               {\"custom_id\": \"typo\", \"prompt\": \"x\", \"max_token\": 3}\n\
               {\"custom_id\": \"long\", \"token_ids\": [1, 2, 3], \"max_tokens\": 100000}\n\
               {\"custom_id\": \"id\", \"token_ids\": [1, 99999]}\n\
               {\"custom_id\": \"last\", \"prompt\": \"fn main\", \"max_tokens\": 4, \"whatever\": 1}";
    let (records, said) = run("bad-lines", job, &[]);
    assert_eq!(records.len(), 6);
    let message = |at: usize| records[at]["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(records[0]["custom_id"], "good");
    assert_eq!(records[0]["response"]["body"]["usage"]["completion_tokens"], 4);
    assert!(message(1).starts_with("not JSON: column 2"), "{}", message(1));
    assert_eq!(message(2), "\"max_token\" is not a field; did you mean \"max_tokens\"");
    assert!(message(3).contains("exceed max_model_len 1024"), "{}", message(3));
    assert_eq!(message(4), "token_ids[1] is 99999, must be a token id from 0 to 4095");
    assert_eq!(records[5]["response"]["body"]["choices"][0]["finish_reason"], "length");
    assert!(said.contains("6 lines done, 4 of them error records"), "{said}");
    assert!(said.contains("note: ignored fields: whatever"), "{said}");
}

#[test]
fn models_without_a_tokenizer_run_on_token_ids() {
    let job = "{\"custom_id\": \"ids\", \"token_ids\": [3, 1, 4, 1, 5], \"max_tokens\": 6, \"ignore_eos\": true}\n\
               {\"custom_id\": \"text\", \"prompt\": \"x\"}\n";
    for name in ["llama", "qwen3"] {
        for layout in [&[][..], &["-tp", "2"], &["-pp", "2"]] {
            let (records, _) =
                run(&format!("{name}-{}", layout.join("")), job, &[&["--model", &fixture(name)], layout].concat());
            let choice = &records[0]["response"]["body"]["choices"][0];
            assert_eq!(choice["token_ids"].as_array().map(Vec::len), Some(6), "{name} {layout:?}");
            assert_eq!(choice["text"], Value::Null, "there is nothing to decode with");
            assert_eq!(records[1]["error"]["code"], "no_tokenizer");
        }
    }
}

#[test]
fn one_prompt_is_continued_on_the_terminal() {
    let words = ["generate", "Ownership is", "--max-tokens", "12"];
    let output = millstream(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.trim().len() > 12, "{text:?}");
    assert_eq!(millstream(&words).stdout, text.into_bytes(), "the same every time");
}

#[test]
fn the_families_are_listed() {
    let output = millstream(&["models", "--json"]);
    let families: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let names: Vec<&str> = families.as_array().expect("a list").iter().filter_map(|f| f["name"].as_str()).collect();
    assert!(names.contains(&"llama") && names.contains(&"qwen3"), "{names:?}");
}

#[test]
fn who_has_read_enough_ends_a_command_without_a_fault() {
    for words in
        [&["plan"][..], &["models"], &["plan", "--explain"], &["generate", "Ownership is", "--max-tokens", "64"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        let mut command =
            command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        drop(command.stdout.take());
        let output = command.wait_with_output().expect("it was started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("panicked"), "{words:?}: {:?} {said}", output.status);
    }
}
