//! The CUDA path from the command line to the launches, on a driver that computes on the host (`kernels/fake-cuda`): every address, launch,
//! copy and graph is the engine's own, only the arithmetic is not a GPU's.

#[path = "common/families.rs"]
mod families;

use families::{Kind, families};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The folder of the driver, built on first use.
fn driver() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--profile", "test", "-p", "millstream-fake-cuda"]);
        build.args(["--message-format", "json"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        let built = build.stderr(Stdio::inherit()).output().expect("cargo runs");
        assert!(built.status.success(), "the driver is built");
        let said = String::from_utf8(built.stdout).expect("messages are text");
        let mut libraries =
            said.lines().filter_map(|line| line.split('"').find(|part| part.ends_with("/libfake_cuda.so")));
        let library = libraries.next_back().expect("cargo says where the library is");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda").join(std::process::id().to_string());
        std::fs::create_dir_all(&folder).expect("room for a folder");
        std::fs::copy(library, folder.join("libcuda.so.1")).expect("room for the library");
        folder
    })
}

/// The binary with these arguments, on the driver.
fn millstream(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(arguments).env("LD_LIBRARY_PATH", driver()).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A file of one test's own.
fn file(name: &str) -> PathBuf {
    driver().join(name)
}

#[test]
fn every_family_gives_its_reference() {
    for name in families(&[Kind::Dense, Kind::Experts, Kind::Recurrent]) {
        let report = file(&format!("{name}.json"));
        let model = format!("tests/conformance/{name}");
        let mut command = millstream(&["parity", "--device", "cuda", "--model", &model]);
        let output = command.env("FAKE_CUDA_REPORT", &report).output().expect("the binary runs");
        assert!(output.status.success(), "{name}: {}", said(&output));
        let report = std::fs::read_to_string(&report).expect("the driver reports");
        assert!(!report.contains("\"replays\":0,"), "{name}: generated rows come from graphs: {report}");
    }
}

/// Largest error of a parity run.
fn largest(output: &Output) -> f32 {
    let text = said(output);
    let errors = text.lines().filter_map(|line| line.split("largest error ").nth(1));
    let errors = errors.map(|rest| rest.split(';').next().and_then(|number| number.parse().ok()).expect("a number"));
    errors.fold(f32::NAN, f32::max)
}

#[test]
fn rounded_to_bf16_they_stay_within_a_bound() {
    // Activations are rounded too, where the cores round weights and keys only.
    for (name, bound) in [("llama", 0.1), ("qwen3", 0.2), ("gemma2", 0.08), ("mixtral", 0.1)] {
        let model = format!("tests/conformance/{name}");
        let flags = ["--dtype", "bf16", "--kv-cache-dtype", "bf16", "--tolerance", "1"];
        let mut command = millstream(&["parity", "--device", "cuda", "--model", &model]);
        let output = command.args(flags).output().expect("the binary runs");
        let error = largest(&output);
        assert!(error < bound, "{name}: {error}, wanted below {bound}: {}", said(&output));
    }
}

#[test]
fn company_chunks_and_the_prefix_cache_do_not_change_a_bit() {
    let line = |number: usize| {
        let (prompt, sampling) =
            (["A vector", "Ownership is one of the things that a reader meets", "x"][number % 3], number % 2);
        format!(
            "{{\"custom_id\": \"{number}\", \"prompt\": \"{prompt} {}\", \"max_tokens\": {}, \"temperature\": {sampling}, \"logprobs\": 2}}\n",
            number % 5,
            1 + number * 7 % 11
        )
    };
    let job = file("job.jsonl");
    std::fs::write(&job, (0..10).map(line).collect::<String>()).expect("room for a job");
    let run = |number: usize, flags: &[&str]| {
        let out = file(&format!("out-{number}.jsonl"));
        let mut command = millstream(&["run", "--device", "cuda", "--no-supervise"]);
        let output = command.arg(&job).arg("-o").arg(&out).args(flags).output().expect("the binary runs");
        assert!(output.status.success(), "{flags:?}: {}", said(&output));
        let text = std::fs::read_to_string(out).expect("results");
        text.split("\"created\":").map(|part| part.trim_start_matches(char::is_numeric)).collect::<String>()
    };
    let gold = run(0, &[]);
    for (number, flags) in [
        vec!["--max-num-seqs", "1"],
        vec!["--max-num-batched-tokens", "5", "--max-num-seqs", "3"],
        vec!["--no-enable-prefix-caching", "--kv-cache-memory-bytes", "1000000"],
    ]
    .iter()
    .enumerate()
    {
        assert!(run(number + 1, flags) == gold, "{flags:?}");
    }
}

/// Tokens and log-probabilities of a job, the latter to four digits.
fn drawn(name: &str, rule: &str) -> Vec<String> {
    let settings = [
        "\"temperature\": 0",
        "\"temperature\": 1",
        "\"temperature\": 0.7, \"top_k\": 3",
        "\"temperature\": 1.3, \"top_p\": 0.6",
        "\"temperature\": 1.5, \"min_p\": 0.1, \"top_k\": 40, \"top_p\": 0.95",
    ];
    let line = |(number, setting): (usize, &str)| {
        let logprobs = if number.is_multiple_of(2) { ", \"logprobs\": 3" } else { "" };
        format!(
            "{{\"custom_id\": \"{number}\", \"prompt\": \"A vector {number}\", \"max_tokens\": 12, \"seed\": 7, {setting}{logprobs}{rule}}}\n"
        )
    };
    let (job, out) = (file(&format!("{name}.jsonl")), file(&format!("{name}.out.jsonl")));
    std::fs::write(&job, settings.into_iter().cycle().take(15).enumerate().map(line).collect::<String>())
        .expect("a job");
    let mut command = millstream(&["run", "--device", "cuda", "--no-supervise"]);
    let output = command.arg(&job).arg("-o").arg(&out).output().expect("the binary runs");
    assert!(output.status.success(), "{}", said(&output));
    let told = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a result");
        let choice = &line["response"]["body"]["choices"][0];
        let round = |value: &serde_json::Value| format!("{:.4}", value.as_f64().unwrap_or(f64::NAN));
        let own = choice["logprobs"]["token_logprobs"].as_array().into_iter().flatten().map(round);
        let top = choice["logprobs"]["top_logprobs"].as_array().into_iter().flatten();
        let top =
            top.flat_map(|top| top.as_object().expect("likeliest").iter().map(|(k, v)| format!("{k}{}", round(v))));
        format!("{} {:?} {:?}", choice["text"], own.collect::<Vec<_>>(), top.collect::<Vec<_>>())
    };
    std::fs::read_to_string(out).expect("results").lines().map(told).collect()
}

#[test]
fn a_gpu_draws_the_tokens_that_the_sampler_draws() {
    // Draws by rules are the sampler's; a bias of nothing is a rule.
    let (on_device, by_sampler) = (drawn("drawn", ""), drawn("ruled", ", \"logit_bias\": {\"0\": 0}"));
    assert_eq!(on_device, by_sampler);
    let different: std::collections::BTreeSet<_> = on_device.iter().collect();
    assert!(different.len() > 10, "draws depend on their request: {on_device:?}");
}

/// The likeliest tokens that a job of three lines tells, with their log-probabilities.
type Likeliest = Vec<serde_json::Map<String, serde_json::Value>>;

fn likeliest(model: &str, flags: &[&str]) -> Likeliest {
    let line = |number: u32| {
        let ids: Vec<u32> = (0..3 + number * 9).map(|i| 1 + (number * 37 + i * 101) % 500).collect();
        format!(
            "{{\"custom_id\": \"{number}\", \"token_ids\": {ids:?}, \"max_tokens\": 1, \"temperature\": 0, \"ignore_eos\": true, \"logprobs\": 5}}\n"
        )
    };
    let of = flags.join("").replace([':', '-'], "");
    let (job, out) = (file(&format!("logprobs-{of}.jsonl")), file(&format!("logprobs-{of}.out.jsonl")));
    std::fs::write(&job, (0..3).map(line).collect::<String>()).expect("room for a job");
    drop((std::fs::remove_file(&out), std::fs::remove_file(out.with_extension("jsonl.journal"))));
    let mut command = millstream(&["run", "--no-supervise", "--model", model]);
    let output = command.arg(&job).arg("-o").arg(&out).args(flags).output().expect("the binary runs");
    assert!(output.status.success(), "{flags:?}: {}", said(&output));
    let text = std::fs::read_to_string(out).expect("results");
    let of = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a result");
        let top = &line["response"]["body"]["choices"][0]["logprobs"]["top_logprobs"][0];
        top.as_object().expect("the likeliest tokens").clone()
    };
    text.lines().map(of).collect()
}

/// A folder with a model of random weights that is wide enough for its sums to be made in runs.
fn wide() -> PathBuf {
    let folder = file("wide");
    std::fs::create_dir_all(&folder).expect("room for a folder");
    let config = std::fs::read_to_string("tests/conformance/llama/config.json").expect("a configuration");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("a configuration");
    for (key, value) in [
        ("hidden_size", 512),
        ("intermediate_size", 1024),
        ("num_hidden_layers", 1),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("head_dim", 64),
    ] {
        config[key] = value.into();
    }
    let (mut header, mut bytes, mut state) = (serde_json::Map::new(), Vec::<u8>::new(), 1u32);
    let mut put = |name: &str, shape: &[usize], spread: f32| {
        let from = bytes.len();
        for _ in 0..shape.iter().product() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let uniform = (state >> 8) as f32 / 8_388_608.0 - 1.0;
            let value = if spread == 0.0 { 1.0 } else { spread * uniform };
            bytes.extend(((value.to_bits() >> 16) as u16).to_le_bytes());
        }
        let tensor = serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [from, bytes.len()]});
        header.insert(name.into(), tensor);
    };
    put("model.embed_tokens.weight", &[512, 512], 1.0);
    put("lm_head.weight", &[512, 512], 0.3);
    put("model.norm.weight", &[512], 0.0);
    for (name, n, k) in [
        ("self_attn.q_proj", 512, 512),
        ("self_attn.k_proj", 256, 512),
        ("self_attn.v_proj", 256, 512),
        ("self_attn.o_proj", 512, 512),
        ("mlp.gate_proj", 1024, 512),
        ("mlp.up_proj", 1024, 512),
        ("mlp.down_proj", 512, 1024),
    ] {
        put(&format!("model.layers.0.{name}.weight"), &[n, k], 0.08);
    }
    put("model.layers.0.input_layernorm.weight", &[512], 0.0);
    put("model.layers.0.post_attention_layernorm.weight", &[512], 0.0);
    std::fs::write(folder.join("config.json"), config.to_string()).expect("room for a configuration");
    let header = serde_json::Value::Object(header).to_string();
    let mut all = (header.len() as u64).to_le_bytes().to_vec();
    all.extend(header.bytes());
    all.extend(bytes);
    std::fs::write(folder.join("model.safetensors"), all).expect("room for weights");
    folder
}

#[test]
fn sums_in_runs_are_those_of_the_cores() {
    let model = wide();
    let model = model.to_str().expect("a path");
    for more in [&[][..], &["-q", "q8_0-weight-only"], &["-q", "q4_0-weight-only"]] {
        let flags = |device| [&["--device", device, "--dtype", "bf16"][..], more].concat();
        let whole = likeliest(model, &flags("cuda"));
        let found = apart(&likeliest(model, &flags("cpu")), &whole);
        assert!(found < 0.05, "{more:?}: {found}");
        let few = [flags("cuda"), vec!["--max-num-batched-tokens", "5"]].concat();
        assert_eq!(whole, likeliest(model, &few), "{more:?}");
    }
}

/// The largest difference of a token that both have.
fn apart(a: &Likeliest, b: &Likeliest) -> f64 {
    let both = a.iter().zip(b).flat_map(|(a, b)| a.iter().filter_map(|(token, value)| Some((value, b.get(token)?))));
    let apart: Vec<f64> = both.map(|(a, b)| (a.as_f64().expect("a") - b.as_f64().expect("b")).abs()).collect();
    assert!(apart.len() >= 6, "{a:?} and {b:?} have too little in common");
    apart.into_iter().fold(0.0, f64::max)
}

#[test]
fn quantised_weights_give_what_they_give_on_the_cores() {
    // Tied, so that a lookup reads blocks; 96 terms of the second are no pairs of blocks and stay plain.
    for model in ["tests/conformance/qwen3", "tests/conformance/llama"] {
        let plain = likeliest(model, &["--device", "cuda"]);
        for method in ["q8_0-weight-only", "q4_0-weight-only"] {
            let [cores, gpu] = ["cpu", "cuda"].map(|device| likeliest(model, &["--device", device, "-q", method]));
            // Activations are rounded to bf16 before a product, on a GPU alone.
            assert!(apart(&cores, &gpu) < 0.05, "{model} {method}: {cores:?} and {gpu:?}");
            assert!(apart(&plain, &gpu) > 0.0, "{model} {method}: as if nothing were quantised");
        }
    }
}

#[test]
fn what_is_computed_on_the_cores_alone_is_refused_before_a_weight_is_read() {
    for (model, flags, message) in [
        ("mixtral", ["-q", "q8_0-weight-only"], "stage 0: experts in q8_0 have no kernel on GPUs"),
        (
            "llama",
            ["-q", "q4_0"],
            "stage 0: integer arithmetic is made on the cores alone; use --quantization q4_0-weight-only",
        ),
        ("llama", ["--numerics", "tree"], "stage 0: sums in a tree are made on the cores alone"),
    ] {
        let model = format!("tests/conformance/{model}");
        let mut command = millstream(&["plan", "--device", "cuda", "--model", &model]);
        let output = command.args(flags).output().expect("the binary runs");
        assert!(output.status.code() == Some(78) && said(&output).contains(message), "{}", said(&output));
    }
}

#[test]
fn a_pipeline_may_mix_gpus_and_cores() {
    for devices in ["cuda:0,cpu:0", "cpu:0,cuda:0"] {
        let flags = ["parity", "--model", "tests/conformance/qwen3", "-pp", "2", "--devices", devices];
        let output = millstream(&flags).output().expect("the binary runs");
        assert!(output.status.success(), "{devices}: {}", said(&output));
    }
}

#[test]
fn memory_that_a_gpu_lacks_is_named() {
    let flags = ["generate", "x", "--device", "cuda", "--kv-cache-memory-bytes", "100000000"];
    let output = millstream(&flags).env("FAKE_CUDA_BYTES", "20000000").output().expect("the binary runs");
    assert!(!output.status.success() && said(&output).contains("cuda:0"), "{}", said(&output));
}

/// The binary on a machine without a driver: where no library can be found.
fn without(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(arguments).env_remove("LD_LIBRARY_PATH").stdin(Stdio::null()).output().expect("the binary runs")
}

#[test]
fn without_a_driver_cuda_is_refused_and_auto_says_what_it_does() {
    let there = Path::new("/dev/nvidia0").exists();
    let refused = without(&["generate", "x", "--device", "cuda", "--max-tokens", "1"]);
    let auto = without(&["generate", "x", "--max-tokens", "1"]);
    assert!(auto.status.success(), "{}", said(&auto));
    if there {
        return;
    }
    let why = "millstream: --device cuda: no libcuda.so.1: there is no NVIDIA driver here; --device cpu computes on the cores, \
               --device auto on what there is\n";
    assert_eq!((refused.status.code(), said(&refused).as_str()), (Some(78), why));
    let note = "note: device: the cores (no libcuda.so.1: there is no NVIDIA driver here)";
    assert!(said(&auto).contains(note), "{}", said(&auto));
    let named = without(&["generate", "x", "--devices", "cuda:0"]);
    let wanted = "no GPU: no libcuda.so.1: there is no NVIDIA driver here";
    assert!(named.status.code() == Some(78) && said(&named).contains(wanted), "{}", said(&named));
}
