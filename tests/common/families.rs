//! The fixtures of all families, found in their folder: who adds a family adds a folder there, and every test has it.

use graph::plan::Call;
use millstream::checkpoint::{Checkpoint, LoadFormat};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// What the layers of a family have beside attention and MLPs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Nothing.
    Dense,
    /// Experts.
    Experts,
    /// States that go from row to row; experts perhaps too.
    Recurrent,
}

/// The folder of a fixture.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name)
}

static FOUND: LazyLock<Vec<(String, Kind)>> = LazyLock::new(|| {
    let entries = std::fs::read_dir(fixture("")).expect("the fixtures are part of the tree");
    let names = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.join("expected.json").exists());
    let name = |path: PathBuf| path.file_name().and_then(|name| name.to_str()).expect("a name in ASCII").to_owned();
    let mut found: Vec<_> = names.map(name).map(|name| (name.clone(), kind(&name))).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
});

fn kind(name: &str) -> Kind {
    let checkpoint = Checkpoint::open(&fixture(name), LoadFormat::Mmap).expect("a fixture opens");
    let (_, plan) = millstream::Engine::builder(checkpoint).plan().expect("a plan");
    let routes =
        plan.data().programs().flat_map(|program| &program.calls).any(|call| matches!(call, Call::Route { .. }));
    match (plan.slots() > 0, routes) {
        (true, _) => Kind::Recurrent,
        (false, true) => Kind::Experts,
        (false, false) => Kind::Dense,
    }
}

/// The names of all families of these kinds.
pub(crate) fn families(kinds: &[Kind]) -> impl Iterator<Item = &'static str> {
    let found: &'static [(String, Kind)] = &FOUND;
    found.iter().filter(move |(_, kind)| kinds.contains(kind)).map(|(name, _)| name.as_str())
}
