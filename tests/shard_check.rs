//! Every family whose fixture is here, under every legal layout of up to four devices, through the binary; and the tables of them in
//! `docs/models.md`, which `MILLSTREAM_WRITE_TABLES=1` writes anew.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is said around the table in the document.
const BEGIN: &str = "<!-- layouts: written by tests/shard_check.rs -->\n";
const END: &str = "<!-- end of layouts -->\n";

/// The fixtures of families that are known.
fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let known: Vec<&str> = graph::models::FAMILIES.iter().flat_map(|family| family.model_types).copied().collect();
    // Configurations that are no JSON (a bare `Infinity`) count by the name of their folder.
    let kind = |path: &Path| {
        let text = std::fs::read(path.join("config.json")).ok()?;
        let config: Option<Value> = serde_json::from_slice(&text).ok();
        let named = config.and_then(|config| config["model_type"].as_str().map(str::to_owned));
        named.or_else(|| path.file_name()?.to_str().map(str::to_owned))
    };
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the fixtures are part of the tree")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| kind(path).is_some_and(|kind| known.contains(&kind.as_str())))
        .collect();
    found.sort();
    found
}

/// What the binary tells of one fixture.
fn checked(fixture: &Path, numerics: &str) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(["shard-check", "--json", "--numerics", numerics, "--model"]).arg(fixture);
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}: {said}", fixture.display()));
    assert_eq!(told["passed"], true, "{}: {told:#}", fixture.display());
    assert_eq!(output.status.code(), Some(0), "{}: {said}", fixture.display());
    let layouts = told["layouts"].as_array().expect("a list").clone();
    let legal = |layout: &&Value| layout["legal"] == true;
    let wide = |layout: &&Value| legal(layout) && layout["tensor_parallel_size"].as_u64() > Some(1);
    assert!(layouts.iter().filter(legal).count() >= 6, "{}: {told:#}", fixture.display());
    assert!(layouts.iter().any(|layout| wide(&layout)), "{}: {told:#}", fixture.display());
    layouts
}

/// What a layout was held to.
fn cell(layout: &Value) -> &str {
    match (&layout["legal"], &layout["held_to"]) {
        (Value::Bool(true), Value::String(held)) => held,
        _ => "refused",
    }
}

/// A row a fixture, a column a layout.
fn table(checked: &[(String, Vec<Value>)]) -> String {
    let name = |layout: &Value| layout["layout"].as_str().expect("a name").to_string();
    let longest = checked.iter().max_by_key(|(_, layouts)| layouts.len()).expect("a fixture");
    let columns: Vec<String> = longest.1.iter().map(name).collect();
    let mut text = format!("| fixture | {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len() + 1));
    for (fixture, layouts) in checked {
        let of = |column: &String| layouts.iter().find(|layout| name(layout) == *column).map_or("", cell);
        let cells: Vec<&str> = columns.iter().map(of).collect();
        text.push_str(&format!("| {fixture} | {} |\n", cells.join(" | ")));
    }
    text
}

#[test]
fn every_family_keeps_its_law_under_every_layout() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 2, "Llama and Qwen3 at least");
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_string();
    let tables = ["invariant", "tree"].map(|numerics| {
        let checked: Vec<_> = fixtures.iter().map(|path| (name(path), checked(path, numerics))).collect();
        format!("`--numerics {numerics}`:\n\n{}", table(&checked))
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/models.md");
    let document = std::fs::read_to_string(&path).expect("the document is part of the tree");
    let (before, rest) = document.split_once(BEGIN).expect("the document has a place for the table");
    let (found, after) = rest.split_once(END).expect("the table ends");
    let wanted = tables.join("\n");
    if found != wanted && std::env::var_os("MILLSTREAM_WRITE_TABLES").is_some() {
        std::fs::write(&path, [before, BEGIN, &wanted, END, after].concat()).expect("the document is written");
        return;
    }
    let how = "MILLSTREAM_WRITE_TABLES=1 cargo test --test shard_check writes it";
    assert!(found == wanted, "the table of layouts in docs/models.md is another; {how}:\n{wanted}");
}
