//! Weights of the right form with wrong bytes: held against a manifest, and looked at while they are loaded.

mod common;
#[path = "common/random.rs"]
mod random;

use common::{millstream, refuses};
use millstream::checkpoint::{Integrity, LoadFormat, MANIFEST, WEIGHT_MAX, write_manifest};
use millstream::{Checkpoint, Engine, Error};
use random::next;
use std::path::{Path, PathBuf};

/// Bits that are flipped, one at a time.
const FLIPS: usize = 1000;
/// Lengths that the file is cut to, one at a time.
const CUTS: usize = 1000;

/// A copy of a fixture's model, in a folder of this test's own.
fn model(name: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/llama");
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("damaged_weights").join(name);
    drop(std::fs::remove_dir_all(&to));
    std::fs::create_dir_all(&to).expect("room for a folder");
    for name in ["config.json", "generation_config.json", "model.safetensors"] {
        std::fs::copy(from.join(name), to.join(name)).expect("room for a small file");
    }
    to
}

/// Opens the folder and loads it, as far as that goes; notes of what was loaded.
fn load(dir: &Path) -> Result<Vec<String>, Error> {
    let engine = Engine::builder(Checkpoint::open(dir, LoadFormat::Read)?).threads(1).build()?;
    Ok(engine.notes().to_vec())
}

/// What loading says, by the library and by the binary, with the folder's path left out.
fn refusal(dir: &Path) -> (u8, String) {
    let error = load(dir).expect_err("must be refused");
    let path = dir.to_str().expect("ASCII");
    refuses(&["generate", "x", "--model", path], error.exit_code().code(), &error.to_string());
    (error.exit_code().code(), error.to_string().replace(&format!("{path}/"), ""))
}

#[test]
fn w13_every_flipped_bit_and_every_cut_is_refused_by_the_manifest() {
    let dir = model("w13-many");
    let (_, files) = write_manifest(&dir).expect("a sound folder");
    assert_eq!(files, 3);
    let file = dir.join("model.safetensors");
    let sound = std::fs::read(&file).expect("it was copied");
    let refused = || match Checkpoint::open(&dir, LoadFormat::Read) {
        Ok(checkpoint) => checkpoint.verify().is_err(),
        Err(_) => true,
    };
    assert!(!refused(), "nothing is damaged yet");
    let mut state = 13;
    for _ in 0..FLIPS {
        let mut bytes = sound.clone();
        let bit = next(&mut state) as usize % (8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&file, &bytes).expect("room for a small file");
        assert!(refused(), "bit {bit}");
    }
    for _ in 0..CUTS {
        let length = next(&mut state) as usize % sound.len();
        std::fs::write(&file, &sound[..length]).expect("room for a small file");
        assert!(refused(), "cut to {length} bytes");
    }
}

#[test]
fn w13_a_shard_of_another_hash_is_named_with_both() {
    let dir = model("w13");
    write_manifest(&dir).expect("a sound folder");
    assert_eq!(load(&dir).unwrap().iter().filter(|note| note.contains(MANIFEST)).count(), 0);
    let file = dir.join("model.safetensors");
    let mut bytes = std::fs::read(&file).expect("it was copied");
    let want = blake3::hash(&bytes);
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&file, &bytes).expect("room for a small file");
    let got = blake3::hash(&bytes);
    let fix = "the file is damaged or another one: fetch it again, or write the manifest again if the file is sound";
    let shard = format!("model.safetensors: BLAKE3 is {got}, BLAKE3SUMS has {want}; {fix}");
    assert_eq!(refusal(&dir), (65, shard.clone()));
    // All faults at once: a configuration that changed too.
    let config = std::fs::read_to_string(dir.join("config.json")).expect("it was copied") + "\n";
    std::fs::write(dir.join("config.json"), &config).expect("room for a small file");
    let (code, message) = refusal(&dir);
    assert_eq!((code, message.lines().count()), (65, 2));
    assert!(message.starts_with(&shard) && message.contains("\nconfig.json: BLAKE3 is "), "{message}");
}

#[test]
fn w13_a_manifest_that_is_none_or_lacks_a_shard() {
    let dir = model("w13-manifest");
    std::fs::write(dir.join(MANIFEST), "").expect("room for a small file");
    let expect = "BLAKE3SUMS: has no hash of \"model.safetensors\", which holds weights; write it again if the file is sound \
                  (millstream models --manifest)";
    assert_eq!(refusal(&dir), (65, expect.to_string()));
    std::fs::write(dir.join(MANIFEST), "\u{1b}[2J\n").expect("room for a small file");
    let expect = "BLAKE3SUMS:1: \"\\u{1b}[2J\" is no line of b3sum: wanted 64 hexadecimal digits, two spaces and a file name; \
                  write it again with b3sum or with millstream models --manifest";
    assert_eq!(refusal(&dir), (65, expect.to_string()));
    std::fs::remove_file(dir.join(MANIFEST)).expect("it was written");
    std::fs::create_dir(dir.join(MANIFEST)).expect("room for a folder");
    assert_eq!(refusal(&dir).0, 74);
}

#[test]
fn a_manifest_is_written_once_by_the_command_and_read_by_b3sum_alike() {
    let dir = model("write");
    let path = dir.to_str().expect("ASCII");
    let done = millstream(&["models", "--manifest", path]);
    assert_eq!(String::from_utf8_lossy(&done.stdout), format!("{path}/BLAKE3SUMS: 3 files\n"));
    let text = std::fs::read_to_string(dir.join(MANIFEST)).expect("it was written");
    let names: Vec<&str> = text.lines().filter_map(|line| line.split_once("  ")).map(|(_, name)| name).collect();
    assert_eq!(names, ["model.safetensors", "config.json", "generation_config.json"]);
    let checkpoint = Checkpoint::open(&dir, LoadFormat::Mmap).expect("a sound folder");
    assert_eq!(checkpoint.verify().unwrap(), Integrity::Held { files: 3 });
    let exists = format!(
        "{path}/BLAKE3SUMS: exists; what it says is kept. Remove it to write the hashes of the files as they are now"
    );
    refuses(&["models", "--manifest", path], 73, &exists);
    let nowhere = "/nowhere/at/all: no such folder; name a model folder in Hugging Face layout";
    refuses(&["models", "--manifest", "/nowhere/at/all"], 66, nowhere);
    assert_eq!(Checkpoint::embedded().verify().unwrap(), Integrity::Inherent);
}

#[test]
fn w14_without_a_manifest_that_is_said_once() {
    let dir = model("w14");
    let path = dir.display();
    let expect = format!(
        "{path}: has no BLAKE3SUMS, so a flipped bit of its weights may go unnoticed; millstream models --manifest {path} writes one"
    );
    assert_eq!(load(&dir).unwrap().iter().filter(|note| **note == expect).count(), 1);
}

/// Where a tensor's elements begin in the file, by the header.
fn begin(bytes: &[u8], tensor: &str) -> usize {
    let (length, rest) = bytes.split_first_chunk::<8>().expect("a length");
    let length = u64::from_le_bytes(*length) as usize;
    let header: serde_json::Value = serde_json::from_slice(&rest[..length]).expect("a header");
    8 + length + header[tensor]["data_offsets"][0].as_u64().expect("an offset") as usize
}

#[test]
fn w14_elements_that_no_weight_can_have_are_refused_by_name_and_place() {
    let dir = model("w14-elements");
    let file = dir.join("model.safetensors");
    let sound = std::fs::read(&file).expect("it was copied");
    let matrix = "model.layers.1.mlp.down_proj.weight";
    let columns = 96;
    let fix = "the file is damaged: fetch it again, or take it as it is with --no-weight-scan";
    let limit = WEIGHT_MAX;
    let cases = [
        (matrix, 3 * columns + 5, f32::NAN, "[3, 5]", "NaN"),
        (matrix, 0, f32::NEG_INFINITY, "[0, 0]", "-inf"),
        ("model.norm.weight", 7, 2e6, "[7]", "2000000"),
        ("model.embed_tokens.weight", 64, -1e30, "[1, 0]", "-1000000000000000000000000000000"),
    ];
    for (tensor, element, value, place, shown) in cases {
        let mut bytes = sound.clone();
        let at = begin(&bytes, tensor) + 4 * element;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        std::fs::write(&file, &bytes).expect("room for a small file");
        let expect =
            format!("model.safetensors: {tensor}{place} is {shown}, must be finite and at most {limit} in size; {fix}");
        assert_eq!(refusal(&dir), (65, expect));
        let taken = Engine::builder(Checkpoint::open(&dir, LoadFormat::Mmap).unwrap()).threads(1);
        assert!(taken.without_weight_scan().build().is_ok(), "as it is");
    }
}

#[test]
fn w15_pickles_are_never_opened() {
    for name in ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "last.ckpt"] {
        let dir = model("w15");
        std::fs::remove_file(dir.join("model.safetensors")).expect("it was copied");
        // What would run code if anybody read it.
        std::fs::write(dir.join(name), b"cos\nsystem\n(S'exit 1'\ntR.").expect("room for a small file");
        let expect = format!(
            "{}: only {name} here, a pickle, which can run code when it is read and is never opened; convert it: python -c \"from \
             transformers import AutoModelForCausalLM as M; M.from_pretrained('.').save_pretrained('converted', \
             safe_serialization=True)\"",
            dir.display()
        );
        assert_eq!(refusal(&dir), (65, expect.clone()));
        let rest = expect.split_once("a pickle, ").expect("it says so").1;
        let expect = format!("{}: \"{name}\" is a pickle, {rest}", dir.join(name).display());
        refuses(&["plan", "--model", dir.join(name).to_str().expect("ASCII")], 65, &expect);
        // As one, named by an index.
        let index = format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#);
        std::fs::write(dir.join("model.safetensors.index.json"), index).expect("room for a small file");
        assert_eq!(refusal(&dir), (65, format!("model.safetensors.index.json: \"{name}\" is a pickle, {rest}")));
    }
}
