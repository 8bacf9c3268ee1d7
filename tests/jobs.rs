//! Jobs that are begun where something is already, by the library: what is refused, in which words, and what goes on.

use millstream::job::journal::{Disk, Mode, Places, Record, Writer, read};
use millstream::job::{Begun, Interrupt, Job, Pause, Summary, Unwatched};
use millstream::{Checkpoint, Engine, EngineBuilder, Error};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// One engine for all tests, and the builder it came from.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| builder().build().expect("the embedded model"));

fn builder() -> EngineBuilder {
    Engine::builder(Checkpoint::embedded()).threads(1)
}

/// A folder of this test's own, empty.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("jobs").join(name);
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir_all(&dir).expect("room for a folder");
        let place = Self(dir);
        place.write("job.jsonl", &job(12));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("room for a small file");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("it is there")
    }

    fn job(&self) -> Job {
        Job::new(self.path("job.jsonl"), self.path("out.jsonl"))
    }

    fn places(&self) -> Places {
        Places::of(&self.path("out.jsonl"))
    }

    /// Words without the folder.
    fn said(&self, error: &Error) -> String {
        error.to_string().replace(&format!("{}/", self.0.display()), "")
    }

    /// The journal's first `results` results and nothing behind them: a job that was killed then.
    fn killed_after(&self, results: u64) {
        let places = self.places();
        let handle = std::fs::File::open(&places.journal).expect("a journal");
        let contents = read(&handle, &places.journal).expect("a good one").expect("with a header");
        let offsets = (0..).map_while(|item| contents.index.get(item));
        let mut ends: Vec<u64> = offsets.collect();
        ends.sort_unstable();
        let end = ends.get(results as usize).copied().unwrap_or(contents.end);
        let file = std::fs::File::options().write(true).open(&places.journal).expect("a journal");
        file.set_len(end).expect("it can be cut");
        let lines: String = self.read("out.jsonl").split_inclusive('\n').take(results as usize).collect();
        self.write("out.jsonl", &lines);
    }
}

fn job(lines: usize) -> String {
    (0..lines)
        .map(|line| format!("{{\"custom_id\": \"id{line}\", \"prompt\": \"Line {line}\", \"max_tokens\": 3}}\n"))
        .collect()
}

/// Runs a job to its end or its pause.
fn run(job: &Job) -> Result<Summary, Error> {
    job.open(&builder())?.run(&ENGINE, &Interrupt::default(), &mut Unwatched)
}

#[track_caller]
fn refused(place: &Place, job: &Job, builder: &EngineBuilder, code: u8, expect: &str) {
    let error = job.open(builder).map(drop).expect_err(expect);
    assert_eq!(place.said(&error), expect);
    assert_eq!(error.exit_code().code(), code, "{expect}");
}

#[test]
fn j55_an_input_that_changed_is_refused_with_its_first_changed_line() {
    let place = Place::new("j55");
    run(&place.job()).unwrap();
    place.killed_after(5);
    let begin = "job.jsonl: is not the input that the job was begun with: ";
    let end = ". Restore it, or name another output";
    let cases = [
        (job(12).replace("Line 7", "Line VII"), "request 8 (blank lines do not count) is the first that differs"),
        (job(11), "request 12 and what follows are gone"),
        (job(13), "there are requests behind request 12, which was the last"),
        (job(12).replace('\n', "\r\n"), "its requests are the same, but its blank lines or line ends are not"),
    ];
    for (text, change) in cases {
        place.write("job.jsonl", &text);
        refused(&place, &place.job().resume(), &builder(), 65, &format!("{begin}{change}{end}"));
    }
}

#[test]
fn j56_settings_that_changed_are_refused_one_by_one() {
    let place = Place::new("j56");
    run(&place.job()).unwrap();
    place.killed_after(5);
    let begin = "out.jsonl: was begun with other settings; the same ones go on, or name another output\n";
    refused(&place, &place.job().seed(3).resume(), &builder(), 78, &format!("{begin}  seed: was 0, is 3"));
    let other = builder().threads(2).kv_cache_dtype(graph::DType::F16).tensor_parallel_size(2);
    let differences = "  kv_cache_dtype: was \"auto\", is \"f16\"\n  tensor_parallel_size: was 1, is 2";
    refused(&place, &place.job().resume(), &other, 78, &format!("{begin}{differences}"));
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/llama");
    let other = Engine::builder(Checkpoint::open(&model, millstream::LoadFormat::Read).unwrap()).threads(1);
    let error = place.job().resume().open(&other).map(drop).unwrap_err().to_string();
    for field in ["model.weights: was \"", "model.name: was \"embedded:demo\", is \"", "model.config.json: was \""] {
        assert!(error.contains(field), "{error}");
    }
    // What leaves all bits as they are may change.
    let other = builder().threads(2).pipeline_parallel_size(2);
    other.plan().unwrap();
    assert!(place.job().resume().open(&other).is_ok());
}

#[test]
fn j57_what_is_there_is_never_overwritten() {
    let place = Place::new("j57");
    place.write("out.jsonl", "mine\n");
    let foreign = "out.jsonl: exists and is not this job's; it is left as it is. Name another output, or remove it";
    for job in [place.job(), place.job().resume()] {
        refused(&place, &job, &builder(), 73, foreign);
    }
    let input = Job::new(place.path("job.jsonl"), place.path("job.jsonl"));
    refused(&place, &input, &builder(), 73, &foreign.replace("out.jsonl", "job.jsonl"));
    assert!(!place.path("out.jsonl.journal").exists(), "nothing was made");
    assert_eq!(place.read("out.jsonl"), "mine\n");
    std::fs::remove_file(place.path("out.jsonl")).unwrap();
    run(&place.job()).unwrap();
    let results = place.read("out.jsonl");
    let other = "out.jsonl: holds the results of another job, which are left as they are. Name another output, or remove it and \
                 its .journal\n";
    refused(&place, &place.job().seed(3), &builder(), 73, &format!("{other}  seed: was 0, is 3"));
    place.write("job.jsonl", &job(3));
    refused(&place, &place.job(), &builder(), 73, &format!("{other}  the input"));
    place.write("job.jsonl", &job(12));
    place.killed_after(4);
    let unfinished = "out.jsonl: belongs to a job of which 4 lines are done; --resume goes on with it. To begin anew, name another \
                      output, or remove it and its .journal";
    refused(&place, &place.job(), &builder(), 73, unfinished);
    place.write("out.jsonl.journal", "");
    refused(&place, &place.job(), &builder(), 73, foreign);
    assert!(results.starts_with(&place.read("out.jsonl")));
}

#[test]
fn a_finished_job_resumed_has_nothing_to_do() {
    let place = Place::new("anew");
    run(&place.job()).unwrap();
    let results = place.read("out.jsonl");
    let open = place.job().resume().open(&builder()).unwrap();
    assert_eq!(open.finished().map(|tally| tally.done), Some(12));
    open.release();
    let summary = run(&place.job().resume()).unwrap();
    assert_eq!((summary.tally.done, summary.tokens, summary.pause), (12, 0, None));
    assert_eq!(place.read("out.jsonl"), results);
}

#[test]
fn a_finished_job_run_again_gives_the_same_results() {
    let place = Place::new("again");
    run(&place.job()).unwrap();
    let results = place.read("out.jsonl");
    let open = place.job().open(&builder()).unwrap();
    assert_eq!(open.begun(), &Begun::Anew);
    let summary = open.run(&ENGINE, &Interrupt::default(), &mut Unwatched).unwrap();
    assert_eq!((summary.tally.done, summary.tally.tokens, summary.pause), (12, 36, None));
    let created = |text: &str| {
        text.split("\"created\":").map(|part| part.trim_start_matches(char::is_numeric).to_string()).collect::<Vec<_>>()
    };
    assert_eq!(created(&place.read("out.jsonl")), created(&results));
    assert!(!place.path("out.jsonl.lock").exists());
}

#[test]
fn a_killed_job_goes_on_and_ends_byte_for_byte_the_same() {
    let place = Place::new("goes-on");
    run(&place.job()).unwrap();
    let (results, journal) = (place.read("out.jsonl"), std::fs::read(place.path("out.jsonl.journal")).unwrap());
    for done in 0..12 {
        std::fs::write(place.path("out.jsonl.journal"), &journal).unwrap();
        place.write("out.jsonl", &results);
        place.killed_after(done);
        let open = place.job().resume().open(&builder()).unwrap();
        match open.begun() {
            Begun::Resumed(resume, _) => assert_eq!(resume.done, done),
            begun @ (Begun::New | Begun::Anew | Begun::Finished(_)) => panic!("{begun:?}"),
        }
        let summary = open.run(&ENGINE, &Interrupt::default(), &mut Unwatched).unwrap();
        assert_eq!((summary.tally.done, summary.tokens), (12, 3 * (12 - done)));
        assert_eq!(place.read("out.jsonl"), results);
    }
}

#[test]
fn j61_places_that_take_no_output_are_said_before_the_weights_are_loaded() {
    let place = Place::new("j61");
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("out.jsonl")).unwrap();
    let link = "out.jsonl: is a symbolic link; name the file itself, so that its journal lies beside it";
    refused(&place, &place.job(), &builder(), 73, link);
    let folder = Job::new(place.path("job.jsonl"), &place.0);
    let said = place.said(&folder.open(&builder()).map(drop).unwrap_err());
    assert!(said.contains("is no regular file; results go to a file"), "{said}");
    let device = Job::new(place.path("job.jsonl"), "/dev/null");
    refused(
        &place,
        &device,
        &builder(),
        73,
        "/dev/null: is no regular file; results go to a file, with the job's journal beside it",
    );
    let nowhere = Job::new(place.path("job.jsonl"), place.path("no/such/out.jsonl"));
    let expect = "no/such/out.jsonl.journal: cannot be made: No such file or directory (os error 2)";
    refused(&place, &nowhere, &builder(), 73, expect);
}

#[test]
fn j62_too_many_errors_pause() {
    let place = Place::new("j62");
    let bad = "{bad\n".repeat(150);
    place.write("job.jsonl", &(bad.clone() + &job(400)));
    let summary = run(&place.job()).unwrap();
    assert!(matches!(summary.pause, Some(Pause::AllErrors { done: 100..150 })), "{:?}", summary.pause);
    let words = "lines so far are error records; look at the first of them, or allow it with --max-error-rate 1";
    assert!(summary.pause.unwrap().to_string().ends_with(words));
    let summary = run(&place.job().resume().max_error_rate(1.0)).unwrap();
    assert_eq!((summary.tally.done, summary.tally.errors, summary.pause), (550, 150, None));
    // At the end, of few lines.
    let place = Place::new("j62-few");
    place.write("job.jsonl", &("{bad\n".repeat(3) + &job(5)));
    let summary = run(&place.job().max_error_rate(0.25)).unwrap();
    let expect =
        "3 of 8 lines are error records, more than --max-error-rate 0.25; mend the input, or give a higher rate";
    assert_eq!(summary.pause.unwrap().to_string(), expect);
    let summary = run(&place.job().resume().max_error_rate(0.5)).unwrap();
    assert_eq!((summary.tally.done, summary.tokens, summary.pause), (8, 0, None));
}

#[test]
fn an_interrupt_drains_and_a_second_one_stops() {
    let place = Place::new("interrupt");
    let interrupt = Interrupt::default();
    interrupt.ask();
    let open = place.job().open(&builder()).unwrap();
    let summary = open.run(&ENGINE, &interrupt, &mut Unwatched).unwrap();
    assert_eq!((summary.tally.done, summary.pause), (0, Some(Pause::Interrupted)));
    interrupt.ask();
    let open = place.job().resume().open(&builder()).unwrap();
    let summary = open.run(&ENGINE, &interrupt, &mut Unwatched).unwrap();
    assert_eq!(summary.pause, Some(Pause::Stopped { in_flight: 0 }));
    assert_eq!(run(&place.job().resume()).unwrap().tally.done, 12);
}

#[test]
fn j66_a_request_that_faults_alone_twice_is_quarantined_and_the_rest_goes_on() {
    let place = Place::new("j66");
    drop(place.job().open(&builder()).unwrap());
    // What a supervisor writes: all in flight at the first fault, halves and then one alone at those behind it.
    let places = place.places();
    for (session, running) in [0..8, 4..8, 4..6, 5..6].into_iter().enumerate() {
        let handle = std::fs::File::open(&places.journal).unwrap();
        let contents = read(&handle, &places.journal).unwrap().unwrap();
        let mut writer = Writer::resume(Arc::new(Disk), &places.journal, &contents).unwrap();
        for item in running {
            let attempt = contents.in_flight.get(&item).map_or(0, |own| own.attempts) + 1;
            assert!(attempt as usize <= session + 1);
            writer.append(&Record::Admitted { item, attempt }).unwrap();
        }
        writer.append(&Record::Fault { what: "signal 11 in stage 0" }).unwrap();
        writer.commit().unwrap();
    }
    let summary = run(&place.job().resume()).unwrap();
    assert_eq!((summary.tally.done, summary.tally.errors, summary.pause), (12, 1, None));
    let sixth = place.read("out.jsonl").lines().nth(5).unwrap().to_string();
    let message = "quarantined after 4 attempts, the last of which ended with: signal 11 in stage 0";
    let expect = format!(
        "{{\"id\":\"batch_req_6\",\"custom_id\":\"id5\",\"response\":null,\"error\":{{\"code\":\"quarantined\",\"message\":\
         \"{message}\",\"line\":6}}}}"
    );
    assert_eq!(sixth, expect);
}

#[test]
fn the_journal_of_an_open_job_is_a_file_that_others_can_read() {
    let place = Place::new("open");
    let open = place.job().open(&builder()).unwrap();
    let handle = millstream::job::journal::Files::open(&Disk, &place.places().journal, Mode::Read).unwrap();
    let contents = read(handle.as_ref(), &place.places().journal).unwrap().unwrap();
    assert_eq!((contents.header.input.map(|input| input.lines), contents.line_hashes.len()), (Some(12), 12));
    let second = place.job().open(&builder()).map(drop).unwrap_err();
    assert!(place.said(&second).contains("another process works on this job: process "), "{second}");
    assert_eq!(second.exit_code().code(), 75);
    open.release();
    assert!(!place.places().note.exists());
}
