//! The shape of the tree, held by a test: who may know whom, where `unsafe` may stand, how long a file may be, and what a model
//! file may not say.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 500;
/// Lines of a model file.
const MODEL_LINES_MAX: usize = 150;
/// Places that may hold `unsafe`.
const UNSAFE: [&str; 7] = [
    "kernels/src/",
    "kernels/fake-cuda/src/",
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
    for dir in ["graph", "kernels", "actors", "src", "tests", "examples", "fuzz"] {
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
            // The rank of a matrix is a word of the maths.
            let line = line.to_lowercase().replace("lora_rank", "");
            let named = DEPLOYMENT.iter().find(|word| line.contains(*word));
            assert!(named.is_none(), "{path} names {named:?}: {line}");
        }
    }
}

/// A model file's own lines: without imports, comments, and the rows of the table of families.
fn own_lines(text: &str) -> Vec<&str> {
    let mut row = false;
    let own = |line: &&str| {
        row |= line.contains(": Family = Family {");
        let keep = !row && !line.starts_with("use ") && line.len() > 3;
        row &= *line != "};";
        keep
    };
    code(text).filter(own).collect()
}

#[test]
fn a_model_file_is_short_and_says_what_no_other_says() {
    let blocks = "graph/src/models/blocks/";
    let of_models =
        |path: &str| path.starts_with("graph/src/models/") && !path.starts_with(blocks) && !path.ends_with("mod.rs");
    let files: Vec<(String, String)> = sources().into_iter().filter(|(path, _)| of_models(path)).collect();
    // What most of them have is the frame of a model file.
    let frame =
        |line: &&str| files.iter().filter(|(_, text)| own_lines(text).contains(line)).count() * 2 <= files.len();
    let own = |text: &str| own_lines(text).into_iter().filter(frame).map(String::from).collect::<Vec<_>>();
    for (number, (path, text)) in files.iter().enumerate() {
        let lines = text.lines().count();
        assert!(lines <= MODEL_LINES_MAX, "{path} has {lines} lines; at most {MODEL_LINES_MAX}");
        for (other, theirs) in &files[number + 1..] {
            let (mine, theirs) = (own(text), own(theirs));
            let shared = mine.iter().filter(|line| theirs.contains(line)).count();
            let shorter = mine.len().min(theirs.len());
            assert!(
                shared * 3 <= shorter,
                "{path} and {other} share {shared} of {shorter} lines: one file and a parameter"
            );
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
fn nothing_reads_outside_the_checkout() {
    let mut found = vec![];
    for dir in ["tests", "benches", "examples", "graph", "kernels", "actors", "src", "fuzz", ".ci"] {
        for ending in [".rs", ".sh", "run"] {
            files(&root().join(dir), ending, &mut found);
        }
    }
    // Places that are one machine's own; what a test writes goes under the target folder or to the system's temporary one.
    let outside = [["/ho", "me/"], ["/ro", "ot/"], ["/wo", "rk/"], ["../sh", "ared"]].map(|word| word.concat());
    for path in found {
        let text = fs::read_to_string(&path).expect("text");
        let word = outside.iter().find(|word| text.contains(*word));
        assert!(word.is_none(), "{} names {word:?}", path.display());
    }
}

#[test]
fn what_the_documents_name_is_there() {
    let tests: String = sources().into_iter().map(|(_, text)| text).collect();
    let text = fs::read_to_string(root().join("docs/reliability.md")).expect("a document");
    let spans: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    assert!(spans.len() > 50, "it has a table of tests");
    for span in spans {
        let there = if span.contains('/') || span.ends_with(".rs") || span.ends_with(".sh") {
            root().join(span.split("::").next().expect("a path")).exists()
        } else {
            tests.contains(&format!("fn {span}("))
        };
        assert!(there, "docs/reliability.md names {span}, which is not there");
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
