//! Weights that are damaged or hostile: each is refused before a tensor is read, with a message that says what to mend.

mod common;

use millstream::checkpoint::{CheckpointError, LoadFormat, TensorRows};
use millstream::{Checkpoint, Error};
use std::path::{Path, PathBuf};

/// A fresh folder of this name with a small configuration.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad_weights").join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).expect("a folder of an earlier run");
    }
    std::fs::create_dir_all(&dir).expect("a folder under target");
    std::fs::write(dir.join("config.json"), r#"{"model_type": "llama"}"#).expect("a small file");
    dir
}

/// A file in the format: header, then data.
fn shard(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// What opening says, the same for both ways to load and by the binary, with the folder's path left out.
fn refusal(dir: &Path) -> (u8, String) {
    let open = |format| Checkpoint::open(dir, format).expect_err("must be refused");
    let (mapped, read) = (open(LoadFormat::Mmap), open(LoadFormat::Read));
    assert_eq!(mapped.to_string(), read.to_string());
    let path = dir.to_str().expect("ASCII");
    common::refuses(&["plan", "--model", path], mapped.exit_code().code(), &mapped.to_string());
    let message =
        mapped.to_string().replace(&format!("{}/", dir.display()), "").replace(&dir.display().to_string(), "DIR");
    (mapped.exit_code().code(), message)
}

/// One file of these bytes gives this message, and exit code 65.
fn check(name: &str, bytes: &[u8], expect: &str) {
    let dir = folder(name);
    std::fs::write(dir.join("model.safetensors"), bytes).expect("a small file");
    assert_eq!(refusal(&dir), (65, expect.to_string()), "{name}");
}

/// As [`check`], of a header and so many bytes of data.
fn check_header(name: &str, header: &str, data: usize, expect: &str) {
    check(name, &shard(header, data), expect);
}

#[test]
fn w01_a_file_too_short_for_its_header_length() {
    check("empty", b"", "model.safetensors: header length needs 8 bytes, file has 0; fetch the file again");
    check("seven", &[0; 7], "model.safetensors: header length needs 8 bytes, file has 7; fetch the file again");
}

#[test]
fn w02_a_header_length_that_cannot_be() {
    let mut bytes = 1000u64.to_le_bytes().to_vec();
    bytes.push(b'{');
    check("long", &bytes, "model.safetensors: byte 0: header length is 1000, file has 9 bytes; fetch the file again");
    let over = "model.safetensors: byte 0: header length is";
    check(
        "over",
        &100_000_001u64.to_le_bytes(),
        &format!("{over} 100000001, over the limit of 100000000 bytes; fetch the file again"),
    );
    check(
        "max",
        &[0xff; 8],
        &format!("{over} 18446744073709551615, over the limit of 100000000 bytes; fetch the file again"),
    );
}

#[test]
fn w03_a_header_that_is_not_one_json_object() {
    let mut bytes = shard("{\"a", 0);
    bytes[9] = 0xff;
    check("utf8", &bytes, "model.safetensors byte 9: the header is not UTF-8; fetch the file again");
    check_header("none", "", 0, "model.safetensors byte 8: the header must begin with {; fetch the file again");
    check_header("space", " {}", 0, "model.safetensors byte 8: the header must begin with {; fetch the file again");
    check_header("trailing", "{} x", 0, "model.safetensors byte 11: trailing characters; fetch the file again");
    check_header("cut", "{\"a\": ", 0, "model.safetensors byte 13: EOF while parsing a value; fetch the file again");
    check_header(
        "fields",
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#,
        4,
        "model.safetensors byte 63: a: unknown field `x`, expected one of `dtype`, `shape`, `data_offsets`; fetch the file again",
    );
    check_header(
        "negative",
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        4,
        "model.safetensors byte 38: a: invalid value: integer `-1`, expected u64; fetch the file again",
    );
    check_header(
        "dtype",
        r#"{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#,
        4,
        r#"model.safetensors byte 13: a: dtype "F31" is not one of the format's; fetch the file again"#,
    );
}

#[test]
fn w04_one_name_twice() {
    let one = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let two = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#;
    check_header(
        "twice",
        &format!("{{{one},{two}}}"),
        8,
        "tensor a is there twice: model.safetensors byte 13 and model.safetensors byte 66; a reader could take either: fetch the file again",
    );
    let dir = folder("twice-shards");
    std::fs::write(dir.join("1.safetensors"), shard(&format!("{{{one}}}"), 4)).unwrap();
    std::fs::write(dir.join("2.safetensors"), shard(&format!("{{{one}}}"), 4)).unwrap();
    let index = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
    std::fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
    let expect = "tensor a is there twice: 1.safetensors byte 13 and 2.safetensors byte 13; a reader could take either: fetch the file again";
    assert_eq!(refusal(&dir), (65, expect.to_string()));
}

/// A header of two f32 vectors with these ranges.
fn two(a: (u64, u64), b: (u64, u64)) -> String {
    let tensor = |name: &str, (begin, end): (u64, u64)| {
        let len = end.saturating_sub(begin) / 4;
        format!(r#""{name}":{{"dtype":"F32","shape":[{len}],"data_offsets":[{begin},{end}]}}"#)
    };
    format!("{{{},{}}}", tensor("a", a), tensor("b", b))
}

#[test]
fn w05_ranges_that_share_bytes_or_leave_some_out() {
    check_header(
        "overlap",
        &two((0, 8), (4, 12)),
        12,
        "model.safetensors: a and b overlap: one ends at byte 8 of the data, the other begins at 4; fetch the file again",
    );
    check_header(
        "hole",
        &two((0, 4), (8, 12)),
        12,
        "model.safetensors: a hole of 4 bytes between a and b; fetch the file again",
    );
    check_header(
        "hole-first",
        &two((4, 8), (8, 12)),
        12,
        "model.safetensors: a hole of 4 bytes between the start of the data and a; fetch the file again",
    );
    check_header(
        "reversed",
        &two((0, 4), (8, 4)),
        8,
        "model.safetensors: b: data_offsets [8, 4] end before they begin; fetch the file again",
    );
    check_header(
        "empty-shares",
        &two((0, 0), (0, 4)),
        4,
        "model.safetensors: a has no elements and shares offset 0 with b; fetch the file again",
    );
}

#[test]
fn w06_a_shape_whose_product_wraps() {
    check_header(
        "wraps",
        r#"{"a":{"dtype":"F32","shape":[4194305,4194305,211106198978564],"data_offsets":[0,16]}}"#,
        16,
        "model.safetensors: a: the product of shape [4194305, 4194305, 211106198978564] does not fit 64 bits; fetch the file again",
    );
    check_header(
        "offsets",
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615]}}"#,
        16,
        "model.safetensors: a: the product of shape [1] does not fit 64 bits; fetch the file again",
    );
}

#[test]
fn w07_a_range_that_does_not_fit_its_shape() {
    check_header(
        "length",
        r#"{"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,24]}}"#,
        24,
        "model.safetensors: a: BF16 [2, 3] takes 12 bytes, data_offsets give 24; fetch the file again",
    );
}

#[test]
fn w08_a_file_of_the_wrong_length() {
    let header = two((0, 4), (4, 16));
    let needed = 8 + header.len() + 16;
    for short in [1, 16] {
        check_header(
            "short",
            &header,
            16 - short,
            &format!(
                "model.safetensors: missing {short} bytes: its header needs {needed}, file has {}; fetch the file again",
                needed - short
            ),
        );
    }
    let large = r#"{"a":{"dtype":"F32","shape":[75000000],"data_offsets":[0,300000000]}}"#;
    let (bytes, whole) = (8 + large.len(), 300_000_008 + large.len());
    check_header(
        "short-by-all",
        large,
        0,
        &format!(
            "model.safetensors: missing 300000000 bytes: its header needs {whole}, file has {bytes}; fetch the file again"
        ),
    );
    check_header(
        "surplus",
        &header,
        19,
        &format!(
            "model.safetensors: 3 bytes behind the last tensor: its header needs {needed}, file has {}; fetch the file again",
            needed + 3
        ),
    );
}

/// An index that names this shard gives this message.
fn check_index(name: &str, shard: &str, expect: &str) {
    let dir = folder(name);
    let index = format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
    std::fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
    assert_eq!(refusal(&dir), (65, format!("model.safetensors.index.json: {expect}")), "{name}");
}

#[test]
fn w10_an_index_that_points_elsewhere() {
    check_index(
        "absent",
        "gone.safetensors",
        r#""gone.safetensors" no such file in the model folder; the download is incomplete"#,
    );
    check_index(
        "absolute",
        "/etc/passwd",
        r#""/etc/passwd" an absolute path; a shard lies in the model folder, name it relative to that"#,
    );
    check_index("parent", "../x", r#""../x" has `..` in it; a shard lies in the model folder"#);
    check_index("folder", ".", r#""." is not a regular file"#);
    let dir = folder("link");
    let outside = folder("link-outside").join("w.safetensors");
    std::fs::write(&outside, shard("{}", 0)).unwrap();
    std::os::unix::fs::symlink(&outside, dir.join("w.safetensors")).unwrap();
    std::fs::write(dir.join("model.safetensors.index.json"), r#"{"weight_map": {"a": "w.safetensors"}}"#).unwrap();
    let expect = "model.safetensors.index.json: \"w.safetensors\" leads out of the model folder by a link; copy the file \
                  into the folder";
    assert_eq!(refusal(&dir), (65, expect.to_string()));
}

#[test]
fn w10_an_index_that_is_not_one() {
    let check = |name: &str, index: &str, expect: &str| {
        let dir = folder(name);
        std::fs::write(dir.join("1.safetensors"), shard("{}", 0)).unwrap();
        std::fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
        assert_eq!(refusal(&dir), (65, format!("model.safetensors.index.json: {expect}")), "{name}");
    };
    check("index-json", "{", "line 1, column 1: EOF while parsing an object");
    check("index-map", "{}", "weight_map is null, must be an object of tensor name to file name");
    check("index-value", r#"{"weight_map": {"a": 1}}"#, r#"weight_map["a"] is 1, must be a file name"#);
    check(
        "index-twice",
        r#"{"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}}"#,
        "line 1, column 41: duplicate key \"a\"",
    );
    check(
        "index-lies",
        r#"{"weight_map": {"a": "1.safetensors"}}"#,
        "a should be in 1.safetensors, which has no such tensor; fetch the file again",
    );
}

#[test]
fn a_folder_of_the_hub_cache_is_links_to_its_blobs() {
    let home = folder("models--x--y");
    let snapshot = home.join("snapshots/0123");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(home.join("blobs")).unwrap();
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    std::fs::write(home.join("blobs/w"), shard(header, 4)).unwrap();
    std::fs::rename(home.join("config.json"), home.join("blobs/c")).unwrap();
    std::os::unix::fs::symlink("../../blobs/w", snapshot.join("model.safetensors")).unwrap();
    std::os::unix::fs::symlink("../../blobs/c", snapshot.join("config.json")).unwrap();
    let checkpoint = Checkpoint::open(&snapshot, LoadFormat::Mmap).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn folders_without_weights() {
    let dir = folder("bare");
    let expect = "DIR: has neither model.safetensors nor model.safetensors.index.json; name a folder with one of them";
    assert_eq!(refusal(&dir), (66, expect.into()));
    std::fs::write(dir.join("pytorch_model.bin"), b"").unwrap();
    let (code, message) = refusal(&dir);
    assert_eq!(code, 65);
    assert!(message.starts_with(
        "DIR: only pytorch_model.bin here, a pickle, which can run code when it is read and is never opened; convert it: "
    ));
    let expect = "DIR: no such folder; name a model folder in Hugging Face layout";
    assert_eq!(refusal(&dir.join("gone")).1, expect.replace("DIR", "gone").replace("gone", "DIR"));
}

/// A good checkpoint of `a [4, 6]`, `b [3]`, `ids [2]` of integers, and a buffer.
fn good(name: &str) -> Checkpoint {
    let dir = folder(name);
    let header = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"BF16","shape":[3],"data_offsets":[96,102]},
        "a":{"dtype":"F32","shape":[4,6],"data_offsets":[0,96]},
        "ids":{"dtype":"I64","shape":[2],"data_offsets":[102,118]},
        "layers.0.rotary_emb.inv_freq":{"dtype":"F32","shape":[1],"data_offsets":[118,122]}}   "#;
    let mut bytes = shard(header, 122);
    let data = bytes.len() - 122;
    for element in 0..24u8 {
        bytes[data + 4 * usize::from(element)..][..4].copy_from_slice(&f32::from(element).to_le_bytes());
    }
    std::fs::write(dir.join("model.safetensors"), bytes).unwrap();
    Checkpoint::open(&dir, LoadFormat::Mmap).expect("a good checkpoint, whatever the order of its header")
}

fn params(list: &[(&str, &[u32])]) -> Vec<(String, Vec<u32>)> {
    list.iter().map(|(name, dims)| (name.to_string(), dims.to_vec())).collect()
}

/// What a comparison says, with the folder's path left out.
fn mismatch(checkpoint: &Checkpoint, list: &[(&str, &[u32])]) -> String {
    let error = checkpoint.check_against(&params(list)).expect_err("must be refused");
    assert_eq!(error.exit_code().code(), 65);
    let dir = checkpoint.dir().display().to_string();
    error.to_string().replace(&format!("{dir}/"), "").replace(&dir, "DIR")
}

#[test]
fn w11_tensors_missing_or_unexpected() {
    let checkpoint = good("w11");
    assert_eq!(
        mismatch(&checkpoint, &[("a", &[4, 6]), ("b", &[3]), ("c", &[1])]),
        "DIR: tensors missing: 1 (c); tensors that the model does not have: 1 (ids)"
    );
    let many: Vec<String> = (0..12).map(|index| format!("m{index}")).collect();
    let list: Vec<(&str, &[u32])> = many.iter().map(|name| (name.as_str(), &[1u32][..])).collect();
    assert_eq!(
        mismatch(&checkpoint, &list),
        "DIR: tensors missing: 12 (m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, …); tensors that the model does not have: \
         3 (a, b, ids)"
    );
}

#[test]
fn w12_shape_and_element_type_against_the_configuration() {
    let checkpoint = good("w12");
    assert_eq!(
        mismatch(&checkpoint, &[("a", &[2, 2, 5]), ("b", &[3]), ("ids", &[2])]),
        "model.safetensors: a: want [2, 2, 5] by config.json, got [4, 6]\n\
         model.safetensors: ids: want f32, bf16 or f16, got I64"
    );
    let list = params(&[("a", &[2, 2, 6]), ("b", &[3])]);
    assert!(matches!(checkpoint.check_against(&list).unwrap_err(), Error::Checkpoint(CheckpointError::Tensors { .. })));
}

#[test]
fn w11_w12_a_checkpoint_that_is_not_the_configurations() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/llama");
    let dir = folder("w11-binary");
    std::fs::copy(from.join("model.safetensors"), dir.join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(from.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    (config["num_hidden_layers"], config["vocab_size"]) = (4.into(), 500.into());
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let (path, layer) = (dir.to_str().expect("ASCII"), "model.layers.3");
    let expect = format!(
        "{path}: tensors missing: 9 ({layer}.input_layernorm.weight, {layer}.self_attn.q_proj.weight, \
         {layer}.self_attn.k_proj.weight, {layer}.self_attn.v_proj.weight, {layer}.self_attn.o_proj.weight, \
         {layer}.post_attention_layernorm.weight, {layer}.mlp.gate_proj.weight, {layer}.mlp.up_proj.weight, \
         {layer}.mlp.down_proj.weight); tensors that the model does not have: 0\n\
         {path}/model.safetensors: model.embed_tokens.weight: want [500, 64] by config.json, got [512, 64]\n\
         {path}/model.safetensors: lm_head.weight: want [500, 64] by config.json, got [512, 64]"
    );
    common::refuses(&["plan", "--model", path], 65, &expect);
}

#[test]
fn a_rank_reads_its_rows() {
    use graph::plan::{Cut, WeightSpec, WeightUse};
    let checkpoint = good("rows");
    let cut = Some(Cut { dim: 1, from: 1, len: 1 });
    let (name, used, dtype) = ("a".to_string(), WeightUse::Panels, graph::WeightType::F32);
    let spec = WeightSpec {
        name,
        dims: vec![2, 2, 6],
        stored: None,
        cut,
        used,
        n: 2,
        k: 6,
        sum_parts: 1,
        dtype,
        integer: false,
    };
    let rows = TensorRows::new(&checkpoint, &spec).unwrap();
    let mut row = [0; 24];
    rows.copy_row(1, &mut row);
    let values: Vec<f32> = row.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(values, [18.0, 19.0, 20.0, 21.0, 22.0, 23.0]);
    let missing = WeightSpec { name: "z".into(), ..spec };
    assert_eq!(
        TensorRows::new(&checkpoint, &missing).map(|_| ()).unwrap_err().to_string(),
        "z: the plan's part ([2, 2, 6]) does not fit the tensor: the checkpoint has no such tensor"
    );
}

#[test]
fn the_embedded_model_is_sound() {
    let checkpoint = Checkpoint::embedded();
    assert_eq!(checkpoint.config()["model_type"], "qwen3");
    assert_eq!(checkpoint.generation_defaults(4096).unwrap().eos, [0]);
    let sizes = checkpoint.names().map(|name| checkpoint.tensor(name).expect("bf16").bytes.len() as u64);
    assert_eq!(checkpoint.bytes(), sizes.sum::<u64>());
    let tokenizer = checkpoint.tokenizer().unwrap().expect("it has one");
    tokenizer.check_rows(4096).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode("fn main() {}").unwrap()).unwrap(), "fn main() {}");
}
