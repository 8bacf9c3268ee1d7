//! The shape of the tree, held by a test: who may know whom, where `unsafe` may stand, how long a file may be, and what a model
//! file may not say.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 500;
/// Places that may hold `unsafe`.
const UNSAFE: [&str; 6] = [
    "kernels/src/",
    "actors/src/port/",
    "src/checkpoint/map/",
    "src/supervise/sheet/",
    "actors/tests/alloc_",
    "kernels/tests/alloc_",
];
/// Words of a deployment, which a model file must not name.
const DEPLOYMENT: [&str; 12] = [
    "device",
    "shard",
    "rank",
    "tensor_parallel",
    "pipeline",
    "batch",
    "page",
    "cache",
    "cuda",
    "gpu",
    "thread",
    "numa",
];
/// What stands left of each crate.
const CHAIN: [(&str, &[&str]); 3] = [("graph", &[]), ("kernels", &["graph"]), ("actors", &["graph", "kernels"])];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of the tree").map(|e| e.expect("an entry").path()) {
        let name = entry.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_string();
        if entry.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
            files(&entry, ending, found);
        } else if name.ends_with(ending) {
            found.push(entry);
        }
    }
}

/// Path below the root, and text, of every Rust file.
fn sources() -> Vec<(String, String)> {
    let mut found = vec![];
    for dir in ["graph", "kernels", "actors", "src", "tests", "examples"] {
        files(&root().join(dir), ".rs", &mut found);
    }
    let below = |path: &PathBuf| path.strip_prefix(root()).expect("below the root").display().to_string();
    found.iter().map(|path| (below(path), fs::read_to_string(path).expect("text"))).collect()
}

/// Lines of code: what is no comment.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

#[test]
fn each_crate_knows_only_those_left_of_it() {
    for (name, allowed) in CHAIN {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        for (other, _) in CHAIN.iter().filter(|(other, _)| !allowed.contains(other)) {
            let names = |line: &str| line.starts_with(&format!("{other}.")) || line.starts_with(&format!("{other} "));
            assert!(!manifest.lines().any(names), "{name} must not depend on {other}");
        }
        assert!(!manifest.lines().any(|line| line.starts_with("millstream ")), "{name} must not depend on the facade");
    }
}

#[test]
fn unsafe_stands_only_where_it_is_listed() {
    let word = ["uns", "afe "].concat();
    for (path, text) in sources() {
        let used = code(&text).any(|line| line.contains(&word) && !line.contains('"') && !line.contains("deny("));
        assert!(!used || UNSAFE.iter().any(|place| path.starts_with(place)), "{path} must not hold {word}");
    }
}

#[test]
fn no_file_is_longer_than_a_concept() {
    for (path, text) in sources().into_iter().filter(|(path, _)| !path.contains("tests")) {
        let own = text.split("\n#[cfg(test)]\nmod tests {").next().expect("a split has a first part").lines().count();
        assert!(own <= FILE_LINES_MAX, "{path} has {own} lines; at most {FILE_LINES_MAX}");
    }
}

#[test]
fn a_model_file_names_no_deployment() {
    for (path, text) in sources().into_iter().filter(|(path, _)| path.starts_with("graph/src/models/")) {
        for line in code(&text) {
            let named = DEPLOYMENT.iter().find(|word| line.to_lowercase().contains(*word));
            assert!(named.is_none(), "{path} names {named:?}: {line}");
        }
    }
}

#[test]
fn every_dependency_says_why_it_is_there() {
    for manifest in ["Cargo.toml", "graph/Cargo.toml", "kernels/Cargo.toml", "actors/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).expect("a manifest");
        let (mut section, mut before) = ("", "");
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let external = section.contains("dependencies") && line.contains('=') && !line.contains("workspace = true");
            let own = line.contains("path = ");
            let said = line.contains(".workspace") || before.starts_with('#') || before.contains('=');
            assert!(!external || own || said || line.starts_with('#'), "{manifest}: {line} has no reason above it");
            before = line;
        }
    }
}

#[test]
fn nothing_is_left_undone_or_asleep() {
    let banned =
        [["do", "_send("], ["todo", "!("], ["dbg", "!("], ["#[ign", "ore"], ["unbound", "ed("]].map(|w| w.concat());
    let asleep = ["thread::sl", "eep("].concat();
    for (path, text) in sources() {
        for line in code(&text) {
            let found = banned.iter().chain([&asleep]).find(|word| line.contains(*word));
            assert!(found.is_none(), "{path}: {line}");
        }
    }
}
