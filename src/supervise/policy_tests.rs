//! The parent's decisions, event by event.

use super::*;
use crate::supervise::memory::Killer;
use signal_hook::consts::{SIGKILL, SIGSEGV, SIGTERM};

const DRAIN: Duration = Duration::from_secs(30);

fn signal(number: i32) -> Event {
    let killer = (number == SIGKILL).then_some(Killer::Unknown(None));
    Event::Ended(Ending::Signal { number, during: String::new(), killer })
}

fn crash() -> Event {
    signal(SIGSEGV)
}

/// What the commands are, without their words.
fn kinds(commands: &[Command]) -> Vec<&'static str> {
    let kind = |command: &Command| match command {
        Command::Tell(Order::Drain) => "drain",
        Command::Tell(Order::Stop) => "stop",
        Command::Tell(Order::Dump) => "dump",
        Command::Kill => "kill",
        Command::NoteFault(_) => "note",
        Command::Say(_) => "say",
        Command::Restart => "restart",
        Command::Pause(_) => "pause",
        Command::Exit(0) => "exit 0",
        Command::Exit(70) => "exit 70",
        Command::Exit(75) => "exit 75",
        Command::Exit(130) => "exit 130",
        Command::Exit(_) => "exit ?",
    };
    commands.iter().map(kind).collect()
}

/// Events at seconds, and what they lead to.
#[track_caller]
fn check(resumable: bool, events: &[(u64, Event, &[&str])]) {
    let mut policy = Policy::new(Wishes::new(DRAIN, false), resumable);
    for (second, event, expect) in events {
        let commands = policy.on(event.clone(), Duration::from_secs(*second));
        assert_eq!(kinds(&commands), *expect, "{event:?} at {second} s");
    }
}

#[test]
fn an_end_in_order_is_passed_on() {
    check(true, &[(0, Event::Ended(Ending::Code(0)), &["exit 0"])]);
    check(true, &[(0, Event::Ended(Ending::Code(75)), &["exit 75"])]);
    check(true, &[(0, Event::Asked(Ask::Interrupt), &["drain"]), (1, Event::Ended(Ending::Code(75)), &["exit 75"])]);
}

#[test]
fn five_crashes_within_a_minute_are_mended_and_the_sixth_pauses() {
    let again: &[&str] = &["note", "say", "restart"];
    let mut events: Vec<(u64, Event, &[&str])> = (0..5).map(|second| (second, crash(), again)).collect();
    events.push((30, crash(), &["note", "pause"]));
    check(true, &events);
    // Slower ones go on for ever.
    let slow: Vec<_> = (0..40).map(|nth| (nth * 13, crash(), again)).collect();
    check(true, &slow);
}

#[test]
fn nobody_is_blamed_for_what_came_from_outside() {
    check(true, &[(0, signal(SIGKILL), &["say", "restart"]), (1, signal(SIGTERM), &["say", "restart"])]);
    check(true, &[(0, Event::Ended(Ending::Engine), &["say", "restart"])]);
    let starved = Ending::Signal { number: SIGKILL, during: String::new(), killer: Some(Killer::Memory(None)) };
    check(true, &[(0, Event::Ended(starved), &["note", "say", "restart"])]);
    check(true, &[(0, Event::Ended(Ending::Panic { during: String::new() }), &["note", "say", "restart"])]);
}

#[test]
fn a_crash_while_it_ends_pauses() {
    check(true, &[(0, Event::Asked(Ask::Terminate), &["drain"]), (1, crash(), &["note", "pause"])]);
    check(true, &[(0, Event::Asked(Ask::Interrupt), &["drain"]), (1, signal(SIGKILL), &["pause"])]);
}

#[test]
fn a_pipe_is_not_begun_again() {
    check(false, &[(0, crash(), &["note", "say", "exit 70"])]);
    check(false, &[(0, signal(SIGKILL), &["say", "exit 70"])]);
}

#[test]
fn who_does_not_stop_in_time_is_stopped() {
    check(
        true,
        &[
            (0, Event::Asked(Ask::Terminate), &["drain"]),
            (29, Event::Passed, &[]),
            (30, Event::Passed, &["stop"]),
            (31, Event::Passed, &["kill"]),
            (31, signal(SIGKILL), &["pause"]),
        ],
    );
    check(
        true,
        &[
            (0, Event::Asked(Ask::Interrupt), &["drain"]),
            (1, Event::Asked(Ask::Interrupt), &["stop"]),
            (1, Event::Asked(Ask::Interrupt), &["kill"]),
            (1, signal(SIGKILL), &["exit 130"]),
        ],
    );
}

#[test]
fn a_dump_changes_nothing_and_a_process_that_cannot_start_pauses() {
    check(true, &[(0, Event::Dump, &["dump"]), (1, crash(), &["note", "say", "restart"])]);
    check(true, &[(0, crash(), &["note", "say", "restart"]), (0, Event::NotStarted("no room".into()), &["pause"])]);
}

#[test]
fn what_is_said_names_the_signal_the_place_and_the_limits() {
    let mut policy = Policy::new(Wishes::new(DRAIN, false), true);
    let ending = Ending::Signal { number: SIGSEGV, during: " while stage 1 acted on step 12".into(), killer: None };
    let commands = policy.on(Event::Ended(ending.clone()), Duration::ZERO);
    let what =
        "the process ended by SIGSEGV, an access to memory that it does not have, while stage 1 acted on step 12";
    assert_eq!(commands[0], Command::NoteFault(what.into()));
    assert_eq!(commands[1], Command::Say(format!("note: {what}; it is started again, 1 of at most 5 times in 60 s")));
    for _ in 0..4 {
        policy.on(Event::Ended(ending.clone()), Duration::ZERO);
    }
    let commands = policy.on(Event::Ended(ending), Duration::ZERO);
    assert_eq!(commands[1], Command::Pause(format!("{what}, and 5 restarts within 60 s were not enough")));
}
