//! The process of a job and its parent, through the binary: what ends them, what they say of it, and what becomes of the job.

mod failing_calls;
#[path = "../common/random.rs"]
mod random;
mod resources;
mod signals;
mod supervised;

use random::next;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// A folder of one test's own, with a job in it.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn new(name: &str, job: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("processes").join(name);
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir_all(&dir).expect("room for a folder");
        std::fs::write(dir.join("job.jsonl"), job).expect("room for a small file");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `run job.jsonl -o OUTPUT` with these flags.
    fn run(&self, output: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.arg("run").arg(self.path("job.jsonl")).arg("-o").arg(self.path(output)).args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// What a run that nothing happens to gives.
    fn calm(&self) -> String {
        let done = self.run("calm.jsonl", &[]).output().expect("the binary runs");
        assert_eq!(done.status.code(), Some(0), "{}", said(&done));
        self.results("calm.jsonl")
    }

    /// The results without the time that the job was begun at.
    fn results(&self, output: &str) -> String {
        let text = std::fs::read_to_string(self.path(output)).expect("results");
        let parts = text.split("\"created\":");
        parts.map(|part| part.trim_start_matches(char::is_numeric)).collect::<Vec<_>>().join("\"created\":")
    }

    /// Goes on with the job until it is done.
    #[track_caller]
    fn finish(&self, output: &str) -> String {
        let done = self.run(output, &["--resume"]).output().expect("the binary runs");
        assert_eq!(done.status.code(), Some(0), "{}", said(&done));
        self.results(output)
    }

    /// Waits until the journal has this many bytes.
    fn wait_for_journal(&self, output: &str, bytes: u64) {
        let journal = self.path(&format!("{output}.journal"));
        wait_until(|| std::fs::metadata(&journal).map_or(0, |there| there.len()) >= bytes);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Looks every few milliseconds until it is so.
fn wait_until(mut so: impl FnMut() -> bool) {
    // Nobody sends: what is waited for is the time.
    let (_keep, moment) = channel::<()>();
    while !so() {
        assert!(moment.recv_timeout(Duration::from_millis(3)).is_err());
    }
}

/// Waits this long.
fn pass(time: Duration) {
    let started = Instant::now();
    wait_until(|| started.elapsed() >= time);
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill is there");
    assert!(sent.success(), "{name} to {pid}");
}

/// The process under a parent, once it is there.
fn child_of(parent: &Child) -> u32 {
    let (pid, mut found) = (parent.id(), None);
    wait_until(|| {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        found = children.split_whitespace().next().and_then(|child| child.parse().ok());
        found.is_some()
    });
    found.expect("it was waited for")
}

/// Whether a process runs: a zombie does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// A job of `lines` lines.
fn job(lines: usize) -> String {
    let line = |number: usize| {
        let sampled = if number.is_multiple_of(4) { ", \"temperature\": 0.8, \"n\": 2" } else { "" };
        let tokens = 6 + number % 19;
        format!(
            "{{\"custom_id\": \"id{number}\", \"prompt\": \"A vector of {number}\", \"max_tokens\": {tokens}{sampled}}}\n"
        )
    };
    (0..lines).map(line).collect()
}
