//! Jobs that are not begun: names that two lines have, and bad lines where there are to be none.

use millstream::Error;
use millstream::job::{LineParser, Scan, scan};
use std::path::{Path, PathBuf};

/// A file of this text.
struct Job(PathBuf);

impl Job {
    fn of(name: &str, text: &[u8]) -> Self {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bad-job-{name}.jsonl"));
        std::fs::write(&file, text).expect("room for a small file");
        Self(file)
    }

    fn scan(&self) -> Result<Scan, String> {
        scan(&self.0, None).map_err(|error| error.to_string().replace(&self.0.display().to_string(), "job.jsonl"))
    }
}

#[test]
fn j46_an_empty_job_has_no_lines() {
    assert_eq!(Job::of("empty", b"").scan().unwrap(), Scan::default());
    assert_eq!(Job::of("blank", b"\n \r\n\n").scan().unwrap().lines, 0);
}

#[test]
fn j50_names_that_two_lines_have() {
    let line = |id: &str| format!("{{\"custom_id\": \"{id}\", \"prompt\": \"x\"}}\n");
    let text: String = ["a", "b", "a", "c", "a"].map(line).concat() + "{bad\n" + &line("b");
    let expect = "job.jsonl:3: custom_id \"a\" is that of line 1 too; each names one result\n\
                  job.jsonl:5: custom_id \"a\" is that of line 1 too; each names one result\n\
                  job.jsonl:7: custom_id \"b\" is that of line 2 too; each names one result";
    assert_eq!(Job::of("twice", text.as_bytes()).scan(), Err(expect.to_string()));
    let many: String = (0..30).map(|index| line(&format!("id{}", index % 15))).collect();
    let message = Job::of("many", many.as_bytes()).scan().unwrap_err();
    assert_eq!((message.lines().count(), message.lines().last()), (11, Some("and 5 more")));
    let good: String = (0..30).map(|index| line(&format!("id{index}"))).collect();
    assert_eq!(Job::of("good", good.as_bytes()).scan().unwrap().lines, 30);
}

#[test]
fn j48_a_strict_job_stops_before_it_starts() {
    let job = Job::of("strict", b"{\"custom_id\": \"a\", \"prompt\": \"x\"}\n{bad\n{}\n");
    let error = scan(&job.0, Some(&mut LineParser::new(512))).unwrap_err();
    assert_eq!(Error::from(error).to_string().lines().count(), 2);
    assert_eq!(job.scan().unwrap().lines, 3, "without it they are records");
    let gone = scan(&job.0.with_extension("gone"), None).unwrap_err();
    assert_eq!(gone.exit_code().code(), 66);
}
