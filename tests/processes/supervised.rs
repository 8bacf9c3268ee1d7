//! Processes that end in the middle of a job: started again, named, blamed, and never left behind.

use super::*;

/// A token that the model is never seen to draw here.
const POISON: u32 = 4001;
/// Ends the process whenever the token is fed to the model.
const FAULT: (&str, &str) = ("FAILPOINTS", "feed_poison=return(4001)");

/// A job whose lines at `bad` have the poison in their prompts.
fn poisoned(lines: usize, bad: impl Fn(usize) -> bool) -> String {
    let line = |number: usize| {
        let last = if bad(number) { POISON } else { 300 + number as u32 };
        format!("{{\"custom_id\": \"id{number}\", \"token_ids\": [40, 7, {last}], \"max_tokens\": 5}}\n")
    };
    (0..lines).map(line).collect()
}

#[test]
fn p28_a_request_that_ends_the_process_is_quarantined_and_the_rest_is_done() {
    let place = Place::new("p28", &poisoned(40, |number| number == 23));
    let calm = place.calm();
    let fed = format!("{POISON}");
    assert!(!calm.contains(&format!("[{fed}")) && !calm.contains(&format!(",{fed}")), "nobody else is fed with it");
    let done = place.run("out.jsonl", &[]).env(FAULT.0, FAULT.1).output().expect("the binary runs");
    let said = said(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    let again = "note: the process ended by SIGABRT, which it sent itself, while feed acted on step ";
    assert!(said.contains(again) && said.contains("3 of at most 5 times in 60 s"), "{said}");
    assert!(!said.contains("4 of at most 5"), "blamed by the third fault: {said}");
    for (number, (line, expect)) in place.results("out.jsonl").lines().zip(calm.lines()).enumerate() {
        if number == 23 {
            let code = "\"error\":{\"code\":\"quarantined\",\"message\":\"quarantined after 3 attempts, the last of which ended with: \
                        the process ended by SIGABRT, which it sent itself, while feed acted on step ";
            assert!(line.contains(code), "{line}");
        } else {
            assert_eq!(line, expect);
        }
    }
}

#[test]
fn p27_a_storm_of_restarts_pauses_the_job() {
    let place = Place::new("p27", &poisoned(40, |_| true));
    let done = place.run("out.jsonl", &[]).env(FAULT.0, FAULT.1).output().expect("the binary runs");
    let said = said(&done);
    assert_eq!(done.status.code(), Some(75), "{said}");
    let nth = |nth: usize| said.contains(&format!("{nth} of at most 5 times in 60 s"));
    assert!((1..=5).all(nth) && !nth(6), "{said}");
    let end = said.lines().rev().nth(1).expect("two lines");
    assert!(
        end.starts_with("millstream: paused: the process ended by SIGABRT, which it sent itself, while feed"),
        "{said}"
    );
    assert!(end.contains(", and 5 restarts within 60 s were not enough. "), "{said}");
    assert!(end.ends_with(" of 40 lines are done; the same command with --resume goes on:"), "{said}");
    let command = said.lines().last().expect("a last line").trim();
    assert!(command.contains(" run --resume ") && command.ends_with("out.jsonl"), "{command}");
    // What it says is what goes on.
    let done = Command::new("sh").args(["-c", command]).output().expect("a shell");
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(place.results("out.jsonl").lines().count(), 40);
}

#[test]
fn an_engine_that_gives_up_pauses_the_job_when_starting_it_again_does_not_help() {
    let place = Place::new("engine", &job(6));
    let always = |flags: &[&str]| {
        let done = place.run("out.jsonl", flags).env("FAILPOINTS", "layer_shard=panic(planted)").output();
        let done = done.expect("the binary runs");
        assert_eq!(done.status.code(), Some(75), "{}", said(&done));
        said(&done)
    };
    let alone = always(&["--no-supervise"]);
    let what = "the engine has ended: cpu:0: stage 0: step ";
    let why = ": panicked: planted; 5 restarts within 60 s were not enough";
    assert!(alone.contains(&format!("millstream: paused: {what}")) && alone.contains(why), "{alone}");
    assert!(alone.contains("0 of 6 lines are done; the same command with --resume goes on:"), "{alone}");
    let supervised = always(&["--resume"]);
    assert_eq!(supervised.matches(what).count(), 6, "{supervised}");
    assert!(supervised.contains("paused: the process ended by the end of its engine, and 5 restarts"), "{supervised}");
    assert_eq!(place.finish("out.jsonl").lines().count(), 6);
}

#[test]
fn p1_a_process_killed_under_its_parent_is_started_again_and_the_results_are_the_same() {
    let place = Place::new("p1", &job(120));
    let calm = place.calm();
    let parent = place.run("out.jsonl", &["-pp", "2"]).spawn().expect("the binary runs");
    let mut met = vec![];
    for (nth, name) in ["KILL", "SEGV", "BUS"].into_iter().enumerate() {
        wait_until(|| !met.contains(&child_of(&parent)));
        let child = child_of(&parent);
        place.wait_for_journal("out.jsonl", 3000 * (nth as u64 + 1));
        signal(name, child);
        met.push(child);
    }
    let done = parent.wait_with_output().expect("it was started");
    let said = said(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    for words in
        ["by SIGKILL", "(sent from outside, or for want of memory: the limit of ", "by SIGSEGV, ", "by SIGBUS, "]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(place.results("out.jsonl") == calm);
}

#[test]
fn p6_no_process_outlives_its_parent() {
    let place = Place::new("p6", &job(400));
    let mut parent = place.run("out.jsonl", &[]).stderr(Stdio::null()).spawn().expect("the binary runs");
    let child = child_of(&parent);
    place.wait_for_journal("out.jsonl", 3000);
    assert!(runs(child));
    parent.kill().expect("it runs");
    parent.wait().expect("it was started");
    wait_until(|| !runs(child));
    // Whoever goes on at once waits for it.
    let mut second = place.run("out.jsonl", &["--resume"]).spawn().expect("the binary runs");
    wait_until(|| second.try_wait().expect("it was started").is_some() || runs(child_of(&second)));
    signal("INT", second.id());
    let done = second.wait_with_output().expect("it was started");
    assert_eq!(done.status.code(), Some(75), "{}", said(&done));
}

#[test]
fn a_pipe_that_cannot_be_read_again_is_said_to_be() {
    let place = Place::new("pipe", &poisoned(10, |number| number == 3));
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(["run", "-", "-o"]).arg(place.path("out.jsonl")).env(FAULT.0, FAULT.1);
    let input = std::fs::File::open(place.path("job.jsonl")).expect("it was written");
    let done = command.stdin(input).output().expect("the binary runs");
    assert_eq!(done.status.code(), Some(70), "{}", said(&done));
    assert!(said(&done).contains("; its input is a pipe, which cannot be read again: "), "{}", said(&done));
}
