//! Jobs through the binary: killed at random moments and resumed, fed by a pipe, ended by signals.

#[path = "common/random.rs"]
mod random;

use millstream::job::journal::{Disk, Places, Writer, read};
use random::next;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Kills of one test run; `tests/killed_jobs.sh` does more.
const KILLS: usize = 20;
/// Requests of the job that is killed.
const REQUESTS: usize = 300;

/// A folder of this test's own, empty.
fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("resume").join(name);
    drop(std::fs::remove_dir_all(&dir));
    std::fs::create_dir_all(&dir).expect("room for a folder");
    dir
}

fn command(job: &Path, output: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.arg("run").arg(job).arg("-o").arg(output).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ends a process after `time`, if it has not ended by itself; says how it ended.
fn kill_after(mut child: Child, time: Duration) -> ExitStatus {
    // Nobody sends: what is waited for is the time.
    let (_keep, moment) = channel::<()>();
    let started = Instant::now();
    while started.elapsed() < time && child.try_wait().expect("it was started").is_none() {
        let left = time.saturating_sub(started.elapsed()).min(Duration::from_millis(2));
        assert!(moment.recv_timeout(left).is_err());
    }
    drop(child.kill());
    child.wait().expect("it was started")
}

/// A line of the job: greedy and sampled ones, some with two continuations, some bad.
fn line(number: usize) -> String {
    match number % 10 {
        3 => format!("{{\"custom_id\": \"bad{number}\", \"prompt\": 7}}\n"),
        5 => format!(
            "{{\"custom_id\": \"id{number}\", \"prompt\": \"fn f{number}(\", \"max_tokens\": 9, \"temperature\": 0.9, \"n\": 2}}\n"
        ),
        _ => format!(
            "{{\"custom_id\": \"id{number}\", \"prompt\": \"A `Vec` of {number}\", \"max_tokens\": {}}}\n",
            4 + number % 24
        ),
    }
}

#[test]
fn a_job_killed_at_random_moments_ends_as_the_calm_one_did() {
    let dir = scratch("killed");
    let (job, calm, output) = (dir.join("job.jsonl"), dir.join("calm.jsonl"), dir.join("out.jsonl"));
    std::fs::write(&job, (0..REQUESTS).map(line).collect::<String>()).expect("room for a file");
    let started = Instant::now();
    let done = command(&job, &calm, &[]).output().expect("the binary runs");
    assert!(done.status.success(), "{}", said(&done));
    let time = started.elapsed();
    let wanted = std::fs::read(&calm).expect("results");
    assert_eq!(wanted.iter().filter(|&&byte| byte == b'\n').count(), REQUESTS);

    // The killed job has the calm one's header, and with it the time that is part of every result.
    let handle = std::fs::File::open(Places::of(&calm).journal).expect("a journal");
    let contents = read(&handle, &calm).expect("a good journal").expect("a header");
    let (mut state, mut kills) = (7, 0);
    while kills < KILLS {
        let places = Places::of(&output);
        drop(std::fs::remove_file(&output));
        drop(
            Writer::create(Arc::new(Disk), &places.journal, &contents.header, &contents.line_hashes)
                .expect("a journal"),
        );
        let mut finished = false;
        while !finished {
            if kills == KILLS {
                let done = command(&job, &output, &["--resume"]).output().expect("the binary runs");
                assert!(done.status.success(), "{}", said(&done));
                break;
            }
            // Up to the time of a whole run, so that some kills meet the loading of the model, and some the end.
            let moment = time.mul_f64(next(&mut state) as f64 / u64::MAX as f64);
            let child = command(&job, &output, &["--resume"]).stderr(Stdio::null()).spawn().expect("the binary runs");
            let status = kill_after(child, moment);
            finished = status.success();
            assert!(finished || status.code().is_none(), "it was killed, and nothing else: {status}");
            kills += usize::from(!finished);
            let prefix = std::fs::read(&output).unwrap_or_default();
            assert!(wanted.starts_with(&prefix), "what is there is the beginning of the results");
        }
        assert_eq!(std::fs::read(&output).expect("results"), wanted);
    }
}

#[test]
fn j63_a_pipe_is_run_and_cannot_be_resumed() {
    let dir = scratch("pipe");
    let (job, output) = (dir.join("job.jsonl"), dir.join("out.jsonl"));
    let twice = line(1);
    std::fs::write(&job, line(0) + &twice + &twice + &line(2)).expect("room for a file");
    let from = |flags: &[&str]| {
        let mut command = command(Path::new("-"), &output, flags);
        command.stdin(std::fs::File::open(&job).expect("it was written")).output().expect("the binary runs")
    };
    let done = from(&[]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let results = std::fs::read_to_string(&output).expect("results");
    assert_eq!(results.lines().count(), 4);
    let third = results.lines().nth(2).expect("a third line");
    assert!(third.contains("\"code\":\"duplicate_id\""), "{third}");
    let refused = from(&["--resume"]);
    let words = "-: --resume reads the input again from its beginning, which a pipe does not have; put it in a file";
    assert_eq!((refused.status.code(), said(&refused).contains(words)), (Some(64), true), "{}", said(&refused));
    let refused = from(&["--strict"]);
    assert_eq!((refused.status.code(), said(&refused).contains("--strict reads the input before")), (Some(64), true));
    let refused = from(&[]);
    assert_eq!((refused.status.code(), said(&refused).contains("the input")), (Some(73), true), "{}", said(&refused));
}

#[test]
fn j67_lines_that_are_all_the_same_each_have_a_record() {
    let dir = scratch("same");
    let (job, output) = (dir.join("job.jsonl"), dir.join("out.jsonl"));
    std::fs::write(&job, line(0).repeat(20_000)).expect("room for a file");
    let refused = command(&job, &output, &[]).output().expect("the binary runs");
    assert_eq!(refused.status.code(), Some(65), "from a file they are refused at once");
    let mut piped = command(Path::new("-"), &output, &[]);
    let done = piped.stdin(std::fs::File::open(&job).expect("it was written")).output().expect("the binary runs");
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let results = std::fs::read_to_string(&output).expect("results");
    assert_eq!(results.lines().count(), 20_000);
    assert_eq!(results.matches("duplicate_id").count(), 19_999);
}

#[test]
fn j60_the_second_of_two_processes_is_told_who_the_first_is() {
    let dir = scratch("two");
    let (job, output) = (dir.join("job.jsonl"), dir.join("out.jsonl"));
    std::fs::write(&job, (0..3000).map(line).collect::<String>()).expect("room for a file");
    let mut first = command(&job, &output, &[]).stderr(Stdio::null()).spawn().expect("the binary runs");
    let journal = Places::of(&output).journal;
    while std::fs::metadata(&journal).map_or(0, |there| there.len()) < 100 {
        assert!(first.try_wait().expect("it was started").is_none(), "it runs");
        std::thread::yield_now();
    }
    let second = command(&job, &output, &["--resume"]).output().expect("the binary runs");
    let words = format!("another process works on this job: process {} on ", first.id());
    assert_eq!((second.status.code(), said(&second).contains(&words)), (Some(75), true), "{}", said(&second));
    first.kill().expect("it runs");
    first.wait().expect("it was started");
    let third = command(&job, &output, &["--resume"]).spawn().expect("the lock ended with its process");
    kill_after(third, Duration::ZERO);
}

#[test]
fn a_signal_drains_with_exit_75_and_the_job_goes_on() {
    let dir = scratch("signal");
    let (job, output) = (dir.join("job.jsonl"), dir.join("out.jsonl"));
    std::fs::write(&job, (0..3000).map(line).collect::<String>()).expect("room for a file");
    let first = command(&job, &output, &[]).spawn().expect("the binary runs");
    let journal = Places::of(&output).journal;
    while std::fs::metadata(&journal).map_or(0, |there| there.len()) < 40_000 {
        std::thread::yield_now();
    }
    let interrupted = Command::new("kill").args(["-INT", &first.id().to_string()]).status().expect("kill is there");
    assert!(interrupted.success());
    let done = first.wait_with_output().expect("it was started");
    assert_eq!(done.status.code(), Some(75), "{}", said(&done));
    assert!(said(&done).contains("paused: interrupted. ") && said(&done).contains(" of 3000 lines are done"));
    assert!(said(&done).contains("the same command with --resume goes on"));
    let handle = std::fs::File::open(&journal).expect("a journal");
    let contents = read(&handle, &journal).expect("a good journal").expect("a header");
    assert!(contents.in_flight.is_empty() && contents.done() > 0, "what was in flight is done");
    let results = std::fs::read_to_string(&output).expect("results");
    assert_eq!(results.lines().count() as u64, contents.done());
}
