//! Every system call on a job's files fails once, the k-th of its kind for every k: a clear message, and a job that goes on.
//!
//! `strace` makes them fail; where it is not there, or may not trace, this is skipped: the library's own tests fail the same calls on
//! files in memory. With `MILLSTREAM_ALL_ERRORS=1` every call fails with every error, which takes minutes.

use super::*;

/// Calls, and with what they may fail.
const CALLS: [(&str, &[&str]); 6] = [
    ("pwrite64", &["ENOSPC", "EIO", "EDQUOT"]),
    ("fdatasync", &["EIO", "ENOSPC"]),
    ("openat", &["EMFILE", "EIO", "ENOSPC"]),
    ("ftruncate", &["EIO", "ENOSPC"]),
    ("flock", &["ENOLCK", "EIO"]),
    ("unlink", &["EIO"]),
];
/// More calls of one kind than the job makes.
const CALLS_MAX: usize = 200;

/// Runs the job with `inject` as `strace` takes it; says whether a call was met.
fn traced(place: &Place, call: &str, inject: &str) -> (Output, bool) {
    let job = place.run("out.jsonl", &[]);
    let log = place.path("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&log);
    for name in ["out.jsonl", "out.jsonl.journal", "out.jsonl.lock"] {
        command.arg("-P").arg(place.path(name));
    }
    command.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{inject}")]);
    command.arg(job.get_program()).args(job.get_args());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let done = command.output().expect("strace runs");
    let met = std::fs::read_to_string(&log).is_ok_and(|log| log.contains("(INJECTED)"));
    (done, met)
}

/// Whether calls can be made to fail here.
fn can_trace() -> bool {
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    let can = tried.is_ok_and(|done| done.status.success());
    if !can {
        println!("skipped: no strace here, or it may not trace");
    }
    can
}

fn forget(place: &Place) {
    for name in ["out.jsonl", "out.jsonl.journal", "out.jsonl.lock"] {
        drop(std::fs::remove_file(place.path(name)));
    }
}

#[test]
fn p4_any_call_that_fails_once_leaves_a_job_that_goes_on() {
    if !can_trace() {
        return;
    }
    let all = std::env::var_os("MILLSTREAM_ALL_ERRORS").is_some();
    let place = Place::new("p4", &job(5));
    let calm = place.calm();
    let mut failed = 0;
    for (call, errors) in CALLS {
        for nth in 1..CALLS_MAX {
            let chosen = if all { errors } else { &errors[nth % errors.len()..][..1] };
            let mut met = false;
            for error in chosen {
                forget(&place);
                let (done, hit) = traced(&place, call, &format!("error={error}:when={nth}"));
                met |= hit;
                failed += usize::from(hit);
                let (said, what) = (said(&done), format!("{call} {nth} {error}"));
                match done.status.code() {
                    // It was made good, or did not matter.
                    Some(0) => assert!(place.results("out.jsonl") == calm, "{what}: {said}"),
                    Some(73..=75) => {
                        let end = said.lines().find(|line| line.starts_with("millstream: ")).unwrap_or_default();
                        assert!(end.contains("out.jsonl") && end.contains("os error"), "{what}: {said}");
                    }
                    code => panic!("{what}: {code:?}: {said}"),
                }
                assert!(!said.contains("panicked"), "{what}: {said}");
                assert!(place.finish("out.jsonl") == calm, "{what}: {said}");
            }
            if !met {
                break;
            }
        }
    }
    println!("{failed} calls failed");
    assert!(failed > 20, "{failed} calls failed");
}

#[test]
fn r115_r116_a_disk_that_stays_broken_pauses_the_job_and_says_so() {
    if !can_trace() {
        return;
    }
    let place = Place::new("r116", &job(5));
    let calm = place.calm();
    let cases = [
        ("fdatasync", "error=EIO:when=2+", "Input/output error"),
        ("pwrite64", "error=ENOSPC:when=4+", "No space left on device"),
        ("pwrite64", "error=EDQUOT:when=4+", "quota exceeded"),
    ];
    for (call, inject, words) in cases {
        forget(&place);
        let (done, met) = traced(&place, call, inject);
        assert!(met, "{call} {inject}");
        assert_eq!(done.status.code(), Some(75), "{}", said(&done));
        assert!(said(&done).contains(words) && said(&done).contains("out.jsonl"), "{}", said(&done));
        assert!(place.finish("out.jsonl") == calm);
    }
    // Once is made good: the file is opened anew and written again.
    forget(&place);
    let (done, met) = traced(&place, "fdatasync", "error=EIO:when=2");
    assert!(met && done.status.code() == Some(0), "{}", said(&done));
    assert!(place.results("out.jsonl") == calm);
}
