//! Every family whose fixture is here, under every legal layout of up to four devices, through the binary.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The fixtures of families that are known.
fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let known: Vec<&str> = graph::models::FAMILIES.iter().flat_map(|family| family.model_types).copied().collect();
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the fixtures are part of the tree")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| known.contains(&name)))
        .collect();
    found.sort();
    found
}

#[test]
fn every_family_keeps_its_law_under_every_layout() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 2, "Llama and Qwen3 at least");
    for fixture in fixtures {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        let output = command.arg("shard-check").arg("--json").arg("--model").arg(&fixture).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let told: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}: {said}", fixture.display()));
        assert_eq!(told["passed"], true, "{}: {told:#}", fixture.display());
        assert_eq!(output.status.code(), Some(0), "{}: {said}", fixture.display());
        let layouts = told["layouts"].as_array().expect("a list");
        let legal = |layout: &&Value| layout["legal"] == true;
        let wide = |layout: &&Value| legal(layout) && layout["tensor_parallel_size"].as_u64() > Some(1);
        assert!(layouts.iter().filter(legal).count() >= 6, "{}: {told:#}", fixture.display());
        assert!(layouts.iter().any(|layout| wide(&layout)), "{}: {told:#}", fixture.display());
    }
}
