//! Flows of closures: order, exactly once, bounds, failures by name, and journals cut anywhere.

use super::{Flow, StepJob};
use crate::job::journal::memory::Memory;
use crate::job::journal::{Files, Mode, Places, read};
use crate::job::{Interrupt, Pause, Progress, Tally, Unwatched};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

const OUTPUT: &str = "out.jsonl";

#[derive(Clone, Serialize, Deserialize)]
struct Line {
    custom_id: String,
    n: u64,
}

/// What closures were called for: step and name.
type Calls = Arc<Mutex<Vec<(&'static str, String)>>>;

/// An input of this many lines, which goes with the test.
struct Input(PathBuf);

impl Input {
    fn new(name: &str, lines: u64) -> Self {
        let dir = std::env::temp_dir().join(format!("millstream-steps-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let file = dir.join(format!("{name}.jsonl"));
        let line = |n| format!("{{\"custom_id\": \"i-{n}\", \"n\": {n}}}\n");
        std::fs::write(&file, (0..lines).map(line).collect::<String>()).expect("room for a file");
        Self(file)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Parts, sums, filters, failures and panics, by the number of the line.
fn flow(input: &Input, calls: &Calls, memory: &Memory) -> StepJob {
    let told = |step: &'static str| {
        let calls = calls.clone();
        move |name: &str| calls.lock().expect("no test panics with it").push((step, name.to_owned()))
    };
    let (parts, square, sum, check) = (told("parts"), told("square"), told("sum"), told("check"));
    Flow::<Line>::read(&input.0)
        .fan_out("parts", move |line: Line| {
            parts(&line.custom_id);
            (0..line.n % 4 + 1).map(|part| (line.clone(), part)).collect()
        })
        .map("square", move |(line, part): (Line, u64)| {
            square(&format!("{}/{part}", line.custom_id));
            let square = (line.n + part) * (line.n + part);
            (line, square)
        })
        .filter("odd", |(_, square)| square % 5 != 4)
        .fan_in("sum", move |parts: Vec<(Line, u64)>| {
            let name = parts.first().map_or(String::new(), |(line, _)| line.custom_id.clone());
            if !name.is_empty() {
                sum(&name);
            }
            (name, parts.iter().map(|(_, square)| *square as f64 / 3.0).sum::<f64>(), parts.len())
        })
        .filter("keep", |(_, _, parts)| *parts > 0)
        .try_map("check", move |(name, sum, parts)| {
            check(&name);
            assert!(!name.ends_with("13"), "unlucky {name}");
            if name.ends_with("17") {
                Err("not this one")
            } else {
                Ok(serde_json::json!({ "sum": sum, "parts": parts }))
            }
        })
        .write(OUTPUT)
        .files(Arc::new(memory.clone()))
        .items_max(7)
}

fn output(memory: &Memory) -> String {
    String::from_utf8(memory.bytes(Path::new(OUTPUT)).unwrap_or_default()).expect("UTF-8")
}

fn run(job: StepJob) -> crate::job::Summary {
    job.open().expect("it opens").run(&Interrupt::default(), &mut Unwatched).expect("it runs")
}

#[test]
fn every_item_has_one_line_in_its_place_whatever_became_of_it() {
    let (input, calls, memory) = (Input::new("order", 120), Calls::default(), Memory::default());
    let summary = run(flow(&input, &calls, &memory));
    assert_eq!((summary.tally.done, summary.pause), (120, None));
    let text = output(&memory);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 120);
    let mut errors = 0;
    for (n, line) in (0u64..).zip(&lines) {
        assert_eq!(line["custom_id"], format!("i-{n}"));
        let squares: Vec<u64> = (0..n % 4 + 1).map(|part| (n + part) * (n + part)).filter(|s| s % 5 != 4).collect();
        if squares.is_empty() {
            assert_eq!((&line["filtered"], &line["response"]), (&Value::from(true), &Value::Null));
        } else if n % 100 == 13 {
            assert_eq!(line["error"]["code"], "step_panicked");
            assert_eq!(line["error"]["message"], format!("step check: panicked: unlucky i-{n}"));
            errors += 1;
        } else if n % 100 == 17 {
            assert_eq!(line["error"]["message"], "step check: not this one");
            errors += 1;
        } else {
            let sum: f64 = squares.iter().map(|square| *square as f64 / 3.0).sum();
            assert_eq!(line["response"]["body"], serde_json::json!({ "sum": sum, "parts": squares.len() }));
        }
    }
    assert_eq!(summary.tally.errors, errors);
    assert!(lines.iter().any(|line| line["filtered"] == true));
}

#[test]
fn a_journal_cut_anywhere_goes_on_to_the_same_output_and_redoes_no_step() {
    let (input, memory) = (Input::new("cuts", 40), Memory::default());
    run(flow(&input, &Calls::default(), &memory));
    let (wanted, places) = (output(&memory), Places::of(Path::new(OUTPUT)));
    let journal = memory.bytes(&places.journal).expect("a journal");
    let mut state = 11u64;
    for _ in 0..150 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let cut = (state >> 33) as usize % journal.len();
        let (memory, calls) = (Memory::default(), Calls::default());
        memory.put(&places.journal, &journal[..cut]);
        let handle = memory.open(&places.journal, Mode::Read).expect("it is there");
        let known = read(handle.as_ref(), &places.journal).expect("a cut is no damage");
        drop(handle);
        run(flow(&input, &calls, &memory).resume());
        assert_eq!(output(&memory), wanted, "cut at byte {cut}");
        let calls = calls.lock().expect("no test panics with it");
        let once: BTreeSet<_> = calls.iter().collect();
        assert_eq!(once.len(), calls.len(), "cut at byte {cut}: nothing is done twice");
        let Some(known) = known else { continue };
        for (step, name) in calls.iter() {
            let number =
                |step: &str| ["parts", "square", "odd", "sum", "keep", "check"].iter().position(|s| *s == step);
            let (item, part) = name.split_once('/').unwrap_or((name, "0"));
            let item: u64 = item.trim_start_matches("i-").parse().unwrap_or(u64::MAX);
            let place = (item, number(step).expect("a step") as u32, part.parse().expect("a number"));
            assert!(known.index.get(item).is_none(), "cut at byte {cut}: {name} has its result");
            assert!(!known.steps.contains_key(&place), "cut at byte {cut}: {step} of {name} was done");
        }
    }
}

#[test]
fn a_disk_that_fails_at_any_operation_leaves_a_job_that_goes_on() {
    let (input, memory) = (Input::new("disk", 12), Memory::default());
    run(flow(&input, &Calls::default(), &memory));
    let wanted = output(&memory);
    for operation in 1..40 {
        let memory = Memory::default();
        let failure = crate::job::journal::memory::Failure { operation, errno: libc::ENOSPC, lasting: true };
        memory.fail(Some(failure));
        let opened = flow(&input, &Calls::default(), &memory).open();
        let failed = opened.and_then(|open| open.run(&Interrupt::default(), &mut Unwatched)).is_err();
        memory.fail(None);
        memory.crash();
        let summary = run(flow(&input, &Calls::default(), &memory).resume());
        assert_eq!(
            (output(&memory), summary.tally.done),
            (wanted.clone(), 12),
            "operation {operation}, failed {failed}"
        );
    }
}

#[test]
fn no_more_items_are_under_way_than_there_is_room_for() {
    let (input, memory) = (Input::new("bound", 300), Memory::default());
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (into, out) = (now.clone(), now);
    let peak = most.clone();
    let job = Flow::<Line>::read(&input.0)
        .map("in", move |line: Line| {
            peak.fetch_max(into.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            line
        })
        .fan_out("parts", |line: Line| vec![line; 9])
        .fan_in("group", |lines: Vec<Line>| lines.len())
        .map("out", move |count: usize| {
            out.fetch_sub(1, Ordering::SeqCst);
            count
        })
        .write(OUTPUT)
        .files(Arc::new(memory.clone()))
        .items_max(3);
    assert_eq!(run(job).tally.done, 300);
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

#[test]
fn a_step_works_on_one_item_while_the_next_step_works_on_another() {
    let (input, memory) = (Input::new("beside", 2), Memory::default());
    let (begun, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let job = Flow::<Line>::read(&input.0)
        .map("first", move |line: Line| {
            if line.n == 1 {
                begun.send(()).expect("the other step waits");
            }
            line
        })
        .map("second", move |line: Line| {
            // The first item is here until the second one is in the step before.
            if line.n == 0 {
                wait.lock().expect("no test panics with it").recv().expect("it comes");
            }
            line.n
        })
        .write(OUTPUT)
        .files(Arc::new(memory.clone()));
    assert_eq!(run(job).tally.done, 2);
}

/// Asks to end once some items are done.
struct AsksAt(u64, Interrupt, u8);

impl Progress for AsksAt {
    fn begun(&mut self, _total: Option<u64>, _tally: Tally) {}
    fn advanced(&mut self, tally: Tally, _tokens_per_second: f64) {
        while tally.done >= self.0 && self.2 > 0 {
            self.2 -= 1;
            self.1.ask();
        }
    }
    fn note(&mut self, _note: &str) {}
    fn over(&mut self) {}
}

#[test]
fn a_job_that_is_asked_to_end_goes_on_later() {
    let (input, memory) = (Input::new("asked", 90), Memory::default());
    run(flow(&input, &Calls::default(), &memory));
    let wanted = output(&memory);
    for times in [1, 2] {
        let (memory, interrupt) = (Memory::default(), Interrupt::default());
        let open = flow(&input, &Calls::default(), &memory).open().expect("it opens");
        let summary = open.run(&interrupt, &mut AsksAt(5, interrupt.clone(), times)).expect("it pauses");
        if summary.tally.done < 90 {
            let asked = matches!(summary.pause, Some(Pause::Interrupted | Pause::Stopped { .. }));
            assert!(asked && wanted.starts_with(&output(&memory)), "{summary:?}");
        }
        assert_eq!(run(flow(&input, &Calls::default(), &memory).resume()).tally.done, 90);
        assert_eq!(output(&memory), wanted);
    }
}

#[test]
fn steps_that_do_not_fit_together_are_all_named() {
    let input = Input::new("faults", 1);
    let open = Flow::<Line>::read(&input.0).map("a", |line: Line| line.n).map("a", |n: u64| n);
    let error = open.fan_out("b", |n| vec![n]).write(OUTPUT).open().expect_err("it is refused").to_string();
    assert_eq!(
        error,
        "step \"a\": its name is that of another step, or empty\n1 fan_out without its fan_in; close each before write"
    );
    let alone = Flow::<Line>::read(&input.0).fan_in("c", |lines: Vec<Line>| lines.len()).write(OUTPUT).open();
    assert_eq!(alone.expect_err("it is refused").to_string(), "step \"c\": fan_in without a fan_out before it");
}
