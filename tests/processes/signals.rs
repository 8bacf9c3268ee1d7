//! Bad inputs 127 to 137: signals to a job, to its process, to both.

use super::*;
use std::io::Read;

/// A job that takes seconds, at work.
fn at_work(name: &str, flags: &[&str]) -> (Place, Child) {
    let place = Place::new(name, &job(2000));
    let parent = place.run("out.jsonl", flags).spawn().expect("the binary runs");
    place.wait_for_journal("out.jsonl", 12_000);
    (place, parent)
}

#[test]
fn s127_the_first_interrupt_drains_the_second_stops_the_third_ends() {
    for flags in [&[][..], &["--no-supervise"]] {
        let (_, parent) = at_work("s127-stop", flags);
        signal("INT", parent.id());
        signal("INT", parent.id());
        let done = parent.wait_with_output().expect("it was started");
        // Two signals that come at the same moment are one.
        let words = ["paused: stopped with ", "paused: stopped; what was in flight", "paused: interrupted. "];
        assert_eq!(done.status.code(), Some(75), "{}", said(&done));
        assert!(words.iter().any(|words| said(&done).contains(words)), "{}", said(&done));
    }
    let (_, mut parent) = at_work("s127-exit", &[]);
    let mut code = None;
    wait_until(|| {
        signal("INT", parent.id());
        code = parent.try_wait().expect("it was started");
        code.is_some()
    });
    let code = code.and_then(|status| status.code());
    assert!(matches!(code, Some(75 | 130)), "{code:?}");
}

#[test]
fn s127_a_terminal_that_interrupts_both_processes_asks_once() {
    let (_, parent) = at_work("s127-both", &[]);
    let child = child_of(&parent);
    // What a terminal does: everybody hears of it.
    signal("INT", child);
    signal("INT", parent.id());
    let done = parent.wait_with_output().expect("it was started");
    assert_eq!(done.status.code(), Some(75), "{}", said(&done));
    assert!(said(&done).contains("paused: interrupted. "), "{}", said(&done));
}

#[test]
fn p23_s128_a_termination_at_any_moment_pauses_a_job_that_goes_on() {
    let place = Place::new("p23", &job(40));
    let started = Instant::now();
    let calm = place.calm();
    let time = started.elapsed();
    let times: usize = std::env::var("MILLSTREAM_TERMINATIONS").ok().and_then(|times| times.parse().ok()).unwrap_or(4);
    let (mut state, mut paused) = (11, 0);
    while paused < times {
        for name in ["out.jsonl", "out.jsonl.journal", "out.jsonl.lock"] {
            drop(std::fs::remove_file(place.path(name)));
        }
        loop {
            let process = place.run("out.jsonl", &["--resume"]).spawn().expect("the binary runs");
            pass(time.mul_f64(next(&mut state) as f64 / u64::MAX as f64));
            // Before it listens to signals, one ends it like any program; afterwards never.
            if runs(process.id()) {
                signal("TERM", process.id());
            }
            let done = process.wait_with_output().expect("it was started");
            match done.status.code() {
                Some(0) => break,
                Some(75) => {
                    assert!(said(&done).contains("the same command with --resume goes on"), "{}", said(&done));
                    paused += 1;
                }
                None => assert_eq!(said(&done), "", "it had not begun"),
                Some(code) => panic!("{code}: {}", said(&done)),
            }
            assert!(calm.starts_with(
                &std::fs::metadata(place.path("out.jsonl")).map_or(String::new(), |_| place.results("out.jsonl"))
            ));
            if paused >= times {
                place.finish("out.jsonl");
                break;
            }
        }
        assert!(place.results("out.jsonl") == calm);
    }
}

#[test]
fn s128_a_drain_that_takes_too_long_is_a_stop() {
    let (place, parent) = at_work("s128", &["--drain-seconds", "0"]);
    signal("TERM", parent.id());
    let done = parent.wait_with_output().expect("it was started");
    assert_eq!(done.status.code(), Some(75), "{}", said(&done));
    assert!(said(&done).contains("paused: stopped"), "{}", said(&done));
    let lines = place.results("out.jsonl").lines().count();
    assert!(lines < 2000, "{lines}");
}

#[test]
fn s129_a_lost_terminal_drains_or_is_nobodys_business() {
    // These tests may run under nohup themselves: what is not to inherit that says so.
    let listening = &["env", "--default-signal=HUP"][..];
    for (name, lines, flags, program, code) in [
        ("s129-drain", (2000, 12_000), &[][..], listening, 75),
        ("s129-detach", (60, 100), &["--on-hangup", "detach"], listening, 0),
        ("s129-nohup", (60, 100), &[], &["nohup"], 0),
    ] {
        let place = Place::new(name, &job(lines.0));
        let run = place.run("out.jsonl", flags);
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(run.get_program()).args(run.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let parent = command.spawn().expect("the binary runs");
        place.wait_for_journal("out.jsonl", lines.1);
        signal("HUP", parent.id());
        let done = parent.wait_with_output().expect("it was started");
        assert_eq!(done.status.code(), Some(code), "{name}: {}", said(&done));
    }
}

#[test]
fn s124_s130_nobody_who_listens_is_no_reason_to_end() {
    let place = Place::new("s130", &job(60));
    let calm = place.calm();
    for flags in [&[][..], &["--no-supervise"]] {
        let mut parent = place.run("out.jsonl", flags).spawn().expect("the binary runs");
        // Closed at once: whatever is said from now on fails with EPIPE.
        drop(parent.stderr.take());
        assert_eq!(parent.wait().expect("it was started").code(), Some(0), "{flags:?}");
        assert!(place.results("out.jsonl") == calm);
    }
}

#[test]
fn s131_a_process_that_was_stopped_goes_on_and_does_nothing_twice() {
    let place = Place::new("s131", &job(120));
    let calm = place.calm();
    let parent = place.run("out.jsonl", &[]).spawn().expect("the binary runs");
    place.wait_for_journal("out.jsonl", 6000);
    let child = child_of(&parent);
    for pid in [child, parent.id()] {
        signal("STOP", pid);
    }
    // Nobody takes its job meanwhile.
    let second = place.run("out.jsonl", &["--resume"]).output().expect("the binary runs");
    let words = format!("another process works on this job: process {} on ", parent.id());
    assert_eq!((second.status.code(), said(&second).contains(&words)), (Some(75), true), "{}", said(&second));
    for pid in [parent.id(), child] {
        signal("CONT", pid);
    }
    let done = parent.wait_with_output().expect("it was started");
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(place.results("out.jsonl") == calm);
}

/// What a quota of the processor looks like from inside: the process stands still again and again, wherever it is.
#[test]
fn r123_a_process_that_stands_still_again_and_again_is_slow_and_nothing_else() {
    let place = Place::new("r123", &job(120));
    let calm = place.calm();
    let mut parent = place.run("out.jsonl", &[]).spawn().expect("the binary runs");
    place.wait_for_journal("out.jsonl", 200);
    let child = child_of(&parent);
    let stands = || {
        let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        state.rsplit(')').next().is_none_or(|rest| !rest.trim_start().starts_with(['R', 'S', 'D']))
    };
    let mut stops = 0;
    while parent.try_wait().expect("it was started").is_none() {
        // It may have ended.
        let sent = |name: &str| Command::new("kill").args([name, &child.to_string()]).stderr(Stdio::null()).status();
        drop(sent("-STOP"));
        wait_until(stands);
        drop(sent("-CONT"));
        stops += 1;
    }
    let done = parent.wait_with_output().expect("it was started");
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(stops > 20 && !said(&done).contains("started again"), "{stops} stops: {}", said(&done));
    assert!(place.results("out.jsonl") == calm);
}

#[test]
fn s137_a_quit_prints_what_goes_on_and_the_job_goes_on() {
    for flags in [&["-pp", "2"][..], &["-pp", "2", "--no-supervise"]] {
        let place = Place::new("s137", &job(300));
        let mut parent = place.run("out.jsonl", flags).spawn().expect("the binary runs");
        place.wait_for_journal("out.jsonl", 6000);
        signal("QUIT", parent.id());
        let mut stderr = parent.stderr.take().expect("it is a pipe");
        let (mut text, mut piece) = (String::new(), [0; 4096]);
        while !text.contains("detokenizer") {
            let read = stderr.read(&mut piece).expect("a pipe can be read");
            assert!(read > 0, "it ended: {text}");
            text += &String::from_utf8_lossy(&piece[..read]);
        }
        for words in [
            "s after its start the process runs; ",
            " of 300 lines are done",
            "control: batcher ",
            "cpu:0: feed ",
            "cpu:0: stage 0 ",
            "cpu:1: stage 1 ",
            "cpu:1: sampler ",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(text.contains(" waits for ") || text.contains(" acts on step "), "{text}");
        signal("INT", parent.id());
        stderr.read_to_string(&mut text).expect("a pipe can be read");
        assert_eq!(parent.wait().expect("it was started").code(), Some(75), "{text}");
    }
}
