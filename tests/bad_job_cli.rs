//! Jobs that something is wrong with, as whoever runs them sees it: what is said, how the command ends, and what is left as it was.

mod common;

use common::{millstream, refuses};
use std::path::{Path, PathBuf};

/// A folder of this test's own, empty.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad_job_cli").join(name);
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir_all(&dir).expect("room for a folder");
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("ASCII").to_owned()
    }

    fn write(&self, name: &str, text: &[u8]) {
        std::fs::write(self.0.join(name), text).expect("room for a small file");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).expect("it is there")
    }

    /// Runs the job of this text; its code, what it said, and its results.
    fn run(&self, text: &[u8], flags: &[&str]) -> (Option<i32>, String, Vec<String>) {
        self.write("job.jsonl", text);
        let paths = [self.path("job.jsonl"), self.path("out.jsonl")];
        let done = millstream(&[&["run", &paths[0], "-o", &paths[1]], flags].concat());
        let results = std::fs::read_to_string(&paths[1]).unwrap_or_default();
        let said = String::from_utf8_lossy(&done.stderr).replace(&format!("{}/", self.0.display()), "");
        (done.status.code(), said, results.lines().map(str::to_owned).collect())
    }

    /// The job that is there is refused with this code, in these words.
    #[track_caller]
    fn refused(&self, flags: &[&str], code: u8, message: &str) {
        let paths = [self.path("job.jsonl"), self.path("out.jsonl")];
        refuses(
            &[&["run", &paths[0], "-o", &paths[1]], flags].concat(),
            code,
            &message.replace("DIR", &self.0.display().to_string()),
        );
    }
}

fn line(id: &str) -> String {
    format!("{{\"custom_id\": \"{id}\", \"prompt\": \"x\", \"max_tokens\": 1}}\n")
}

#[test]
fn j46_an_empty_job_is_done_at_once_and_warned_of() {
    for (name, text) in [("empty", &b""[..]), ("blank", b"\n \r\n\n")] {
        let (code, said, results) = Place::new(name).run(text, &[]);
        assert_eq!((code, results.len()), (Some(0), 0), "{said}");
        assert!(said.contains("note: job.jsonl has no lines\n") && said.contains("0 lines done"), "{said}");
    }
}

#[test]
fn j47_j48_j49_j53_j64_bad_lines_are_records_and_the_rest_runs() {
    let place = Place::new("lines");
    let mut text = line("crlf").replace('\n', "\r\n").into_bytes();
    text.extend(b"{bad\n");
    // Over the limit, without an end that anybody would wait for.
    text.extend(format!("{{\"custom_id\": \"huge\", \"prompt\": \"{}\"}}\n", "x".repeat(16 << 20)).bytes());
    text.extend(b"{\"custom_id\": \"twice\", \"prompt\": \"x\", \"prompt\": \"y\"}\n");
    text.extend(b"{\"custom_id\": \"warm\", \"prompt\": \"x\", \"temperature\": \"0.7\"}\n");
    text.extend(b"{\"custom_id\": \"hot\", \"prompt\": \"x\", \"temperature\": 1e400}\n");
    text.extend(b"{\"custom_id\": \"seed\", \"prompt\": \"x\", \"seed\": 18446744073709551616}\n");
    text.extend(format!("{{\"custom_id\": \"deep\", \"prompt\": {}\n", "[".repeat(10_000)).bytes());
    text.extend(line("last").trim_end().bytes());
    let (code, said, results) = place.run(&text, &[]);
    assert_eq!((code, results.len()), (Some(0), 9), "{said}");
    assert!(said.contains("9 lines done, 7 of them error records"), "{said}");
    let wanted = [
        "\"custom_id\":\"crlf\",\"response\":{\"status_code\":200",
        "{\"code\":\"invalid_json\",\"message\":\"not JSON: column 2: key must be a string\",\"line\":2}",
        "16777251 bytes from byte 60 of the file on, over the limit of 16777216; skipped\",\"line\":3}",
        "duplicate key \\\"prompt\\\"\",\"line\":4}",
        "\"custom_id\":\"warm\",\"response\":null,\"error\":{\"code\":\"invalid_value\",\"message\":\"temperature is \\\"0.7\\\", must be \
         0, or a number from 0.00001 to 100\",\"line\":5}",
        "number out of range\",\"line\":6}",
        "seed is 1.8446744073709552e+19, must be a whole number from 0 to 18446744073709551615\",\"line\":7}",
        "nested deeper than 128 levels\",\"line\":8}",
        "\"custom_id\":\"last\",\"response\":{\"status_code\":200",
    ];
    for (found, want) in results.iter().zip(wanted) {
        assert!(found.contains(want), "wanted {want} in\n{found}");
    }
    // The same, where no line may be bad: nothing is begun.
    let place = Place::new("strict");
    place.write("job.jsonl", &text);
    let (code, said, results) = place.run(&text, &["--strict"]);
    assert_eq!((code, results.len()), (Some(65), 0), "{said}");
    assert!(said.contains("job.jsonl:2: not JSON: column 2: ") && said.contains("\njob.jsonl:8: "), "{said}");
    assert!(!place.0.join("out.jsonl.journal").exists());
}

#[test]
fn j50_names_that_two_lines_have_are_refused_with_both_lines() {
    let place = Place::new("j50");
    place.write("job.jsonl", (line("a") + "\n" + &line("b") + &line("a")).as_bytes());
    let message = "DIR/job.jsonl:4: custom_id \"a\" is that of line 1 too; each names one result";
    place.refused(&[], 65, message);
    assert!(!place.0.join("out.jsonl").exists(), "nothing was made");
}

#[test]
fn j52_names_that_nobody_knows_are_told_once_a_job() {
    let place = Place::new("j52");
    let text =
        line("a").replace("prompt", "topic\": 1, \"prompt") + &line("b").replace("prompt", "topic\": 2, \"prompt");
    let (code, said, _) = place.run(text.as_bytes(), &[]);
    assert_eq!((code, said.matches("ignored fields: topic\n").count()), (Some(0), 1), "{said}");
}

#[test]
fn j55_j56_j57_j65_what_is_not_this_job_is_left_as_it_is() {
    let place = Place::new("other");
    let (code, said, results) = place.run((line("a") + &line("b")).as_bytes(), &[]);
    assert_eq!((code, results.len()), (Some(0), 2), "{said}");
    let before = place.read("out.jsonl");
    let begun = "DIR/out.jsonl: was begun with other settings; the same ones go on, or name another output\n  seed: was 0, is 3";
    place.refused(&["--resume", "--seed", "3"], 78, begun);
    let other = "DIR/out.jsonl: holds the results of another job, which are left as they are. Name another output, or remove it \
                 and its .journal\n  seed: was 0, is 3";
    place.refused(&["--seed", "3"], 73, other);
    place.write("job.jsonl", (line("a") + &line("c")).as_bytes());
    let changed = "DIR/job.jsonl: is not the input that the job was begun with: request 2 (blank lines do not count) is the first \
                   that differs. Restore it, or name another output";
    place.refused(&["--resume"], 65, changed);
    assert_eq!(place.read("out.jsonl"), before);
    // A journal of another version, and one that is none.
    let journal = std::fs::read(place.0.join("out.jsonl.journal")).expect("a journal");
    let mut newer = journal.clone();
    newer[25] = 9;
    let seal = blake3::Hasher::new()
        .update(&0u64.to_le_bytes())
        .update(&newer[4..8])
        .update(&newer[8..9])
        .update(&newer[25..25 + u32::from_le_bytes([newer[4], newer[5], newer[6], newer[7]]) as usize])
        .finalize();
    newer[9..25].copy_from_slice(&seal.as_bytes()[..16]);
    place.write("out.jsonl.journal", &newer);
    let version = "DIR/out.jsonl.journal: journal of version 9, this program reads version 1; finish the job with the program that \
                   began it, or name another output";
    place.refused(&["--resume"], 65, version);
    place.write("out.jsonl.journal", b"my notes\n");
    let none = "DIR/out.jsonl.journal: is no journal of this program, and is left as it is; name another output";
    place.refused(&["--resume"], 65, none);
    assert_eq!(place.read("out.jsonl.journal"), "my notes\n");
    std::fs::remove_file(place.0.join("out.jsonl.journal")).expect("it was written");
    let foreign = "DIR/out.jsonl: exists and is not this job's; it is left as it is. Name another output, or remove it";
    place.refused(&[], 73, foreign);
    assert_eq!(place.read("out.jsonl"), before);
}

#[test]
fn j58_j59_an_output_that_was_cut_or_edited_is_made_again_and_told() {
    let place = Place::new("edited");
    let text = line("a") + &line("b") + &line("c");
    place.run(text.as_bytes(), &[]);
    let whole = place.read("out.jsonl");
    let edits = [
        (whole[..whole.len() - 9].to_owned(), "bytes of the output were not a whole line and were written again"),
        (
            whole.replace("\"b\"", "\"B\""),
            "note: line 2 (\"b\") of the output was not what the journal has, and was written again",
        ),
        (format!("{whole}more\n"), "note: 1 lines of the output belonged to no result and were cut"),
    ];
    for (edited, words) in edits {
        place.write("out.jsonl", edited.as_bytes());
        let (code, said, _) = place.run(text.as_bytes(), &["--resume"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(words) && said.contains("nothing to do: all 3 lines are done"), "{said}");
        assert_eq!(place.read("out.jsonl"), whole);
    }
}

#[test]
fn j61_places_that_take_no_output_end_with_73() {
    let place = Place::new("j61");
    place.write("job.jsonl", line("a").as_bytes());
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("out.jsonl")).expect("a link");
    let link = "DIR/out.jsonl: is a symbolic link; name the file itself, so that its journal lies beside it";
    place.refused(&[], 73, link);
    // A folder in which nobody may make a file, whoever runs this.
    let nobody = "/proc/self/out.jsonl";
    let said = millstream(&["run", &place.path("job.jsonl"), "-o", nobody]);
    assert_eq!(said.status.code(), Some(73), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(String::from_utf8_lossy(&said.stderr).contains("/proc/self/out.jsonl.journal: cannot be made: "));
}

#[test]
fn j62_too_many_errors_end_with_75_and_say_how_to_go_on() {
    let place = Place::new("j62");
    let text = "{bad\n".repeat(3) + &line("a");
    let (code, said, _) = place.run(text.as_bytes(), &["--max-error-rate", "0.5"]);
    assert_eq!(code, Some(75), "{said}");
    let words = "3 of 4 lines are error records, more than --max-error-rate 0.5; mend the input, or give a higher rate. 4 of 4 lines are \
                 done; the same command with --resume goes on";
    assert!(said.contains(words), "{said}");
    let (code, said, _) = place.run(text.as_bytes(), &["--resume", "--max-error-rate", "1"]);
    assert_eq!(code, Some(0), "{said}");
}
