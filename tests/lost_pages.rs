//! A weight file that gets shorter while it is mapped: the process ends with the file's name and exit code 74, not with a crash.

use millstream::checkpoint::{Checkpoint, LoadFormat, report_lost_pages};
use millstream::{Engine, ExitCode};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The argument under which this test runs itself once more, in a process that may end.
const CHILD: &str = "lost_pages_child";

fn model() -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/llama");
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shrinking-model");
    std::fs::create_dir_all(&to).expect("room for a small folder");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(name), to.join(name)).expect("room for a small file");
    }
    to
}

fn child(dir: &Path) {
    report_lost_pages().expect("signals can be handled");
    let checkpoint = Checkpoint::open(dir, LoadFormat::Mmap).expect("the file is still whole");
    let file = std::fs::OpenOptions::new().write(true).open(dir.join("model.safetensors")).expect("the same file");
    file.set_len(4096).expect("files can be cut");
    drop(Engine::builder(checkpoint).build());
    panic!("the weights were read from a file that is gone");
}

#[test]
fn w09_a_file_that_shrinks_while_it_is_mapped_is_named() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shrinking-model");
    if std::env::args().any(|argument| argument == CHILD) {
        return child(&dir);
    }
    model();
    let name = "w09_a_file_that_shrinks_while_it_is_mapped_is_named";
    let arguments = [name, CHILD, "--exact", "--nocapture"];
    let output =
        Command::new(std::env::current_exe().expect("this program")).args(arguments).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(ExitCode::Io.code())), "{said}");
    let file = dir.join("model.safetensors").display().to_string();
    assert!(said.contains(&format!("millstream: {file}: byte ")), "{said}");
    assert!(said.contains("use --load-format read"), "{said}");
}
