//! Replays the corpus of the fuzzer, `fuzz/corpus`: inputs that once reached new code, and all that once broke a reader. It is small and
//! stays so; millions of executions are the fuzzer's (`fuzz/README.md`).

#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

/// Bytes of a committed input.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// Inputs of a target: what is added is minimised first.
const INPUTS_MAX: usize = 400;

#[test]
fn what_the_fuzzer_found_is_read_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, read) in targets::TARGETS {
        let dir = corpus.join(name);
        let mut files: Vec<_> = std::fs::read_dir(&dir)
            .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        assert!((1..=INPUTS_MAX).contains(&files.len()), "{name} has {} inputs", files.len());
        for file in files {
            let input = std::fs::read(&file).expect("a file");
            assert!(input.len() <= INPUT_BYTES_MAX, "{}: {} bytes", file.display(), input.len());
            println!("{}", file.display());
            read(&input);
        }
    }
}
