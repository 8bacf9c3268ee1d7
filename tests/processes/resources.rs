//! Bad inputs 115 to 126: what the machine does not have enough of.

use super::*;

/// A small disk, mounted for one test; `None` where this user may not mount.
struct Disk {
    at: PathBuf,
}

impl Disk {
    fn mount(place: &Place, options: &str) -> Option<Self> {
        let at = place.path("disk");
        std::fs::create_dir_all(&at).expect("room for a folder");
        let mut mount = Command::new("mount");
        let tried = mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).stderr(Stdio::null()).status();
        if tried.is_ok_and(|status| status.success()) {
            return Some(Self { at });
        }
        println!("skipped: this user may not mount a disk");
        None
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.at).status();
        assert!(done.is_ok_and(|status| status.success()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.at).status());
    }
}

/// The job of a place under limits that a shell sets.
fn limited(place: &Place, limits: &str, flags: &[&str]) -> Output {
    let run = place.run("out.jsonl", flags);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits}; exec \"$@\""), "sh"]).arg(run.get_program()).args(run.get_args());
    command.stdin(Stdio::null()).output().expect("a shell")
}

#[test]
fn r115_a_full_disk_pauses_the_job_which_goes_on_when_there_is_space() {
    let place = Place::new("r115", &job(200));
    let Some(disk) = Disk::mount(&place, "size=64k") else { return };
    let calm = place.calm();
    let done = place.run("disk/out.jsonl", &[]).output().expect("the binary runs");
    assert_eq!(done.status.code(), Some(75), "{}", said(&done));
    assert!(
        said(&done).contains("disk/out.jsonl") && said(&done).contains("No space left on device"),
        "{}",
        said(&done)
    );
    disk.remount("size=64m");
    assert!(place.finish("disk/out.jsonl") == calm);
}

#[test]
fn r61_r126_a_disk_that_is_only_read_is_said_before_the_weights_are_loaded() {
    let place = Place::new("r126", &job(3));
    let Some(disk) = Disk::mount(&place, "size=1m,ro") else { return };
    let done = place.run("disk/out.jsonl", &[]).output().expect("the binary runs");
    assert_eq!(done.status.code(), Some(73), "{}", said(&done));
    let words = "disk/out.jsonl.journal: cannot be made: Read-only file system";
    assert!(said(&done).contains(words), "{}", said(&done));
    disk.remount("rw");
    assert_eq!(place.run("disk/out.jsonl", &[]).output().expect("the binary runs").status.code(), Some(0));
}

#[test]
fn r117_few_open_files_are_raised_or_refused_with_both_numbers() {
    let place = Place::new("r117", &job(3));
    for flags in [&[][..], &["--no-supervise"]] {
        let done = limited(&place, "ulimit -n 20", flags);
        assert_eq!(done.status.code(), Some(75), "{}", said(&done));
        let words = "open files are limited to 20 (ulimit -n), a run needs 64; raise the limit";
        assert!(said(&done).contains(words), "{}", said(&done));
        let done = limited(&place, "ulimit -Sn 20", flags);
        assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    }
    // Fewer than even a parent needs.
    for limit in 3..12 {
        let done = limited(&place, &format!("ulimit -n {limit}"), &[]);
        let code = done.status.code();
        assert!(matches!(code, Some(70..=78 | 126 | 127)), "{limit}: {code:?}: {}", said(&done));
        assert!(!said(&done).contains("panicked"), "{limit}: {}", said(&done));
    }
}

#[test]
fn r119_a_small_address_space_is_named() {
    let place = Place::new("r119", &job(3));
    let done = limited(&place, "ulimit -v 300000", &[]);
    let said = said(&done);
    assert!(matches!(done.status.code(), Some(75 | 78)), "{said}");
    assert!(said.contains("the address space (ulimit -v) is 0.29 GiB"), "{said}");
    assert!(place.finish("out.jsonl").lines().count() == 3);
}

#[test]
fn r125_p30_a_trace_that_cannot_be_written_harms_nothing() {
    let place = Place::new("r125", &job(30));
    let calm = place.calm();
    let done = place.run("out.jsonl", &["--trace", "/dev/full"]).output().expect("the binary runs");
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let words =
        "note: the trace is not whole, and nothing else is the worse for it: /dev/full: No space left on device";
    assert!(said(&done).contains(words), "{}", said(&done));
    assert!(place.results("out.jsonl") == calm);
}

#[test]
fn r126_nothing_is_wanted_of_the_environment() {
    let place = Place::new("r126-env", &job(3));
    let done = place.run("out.jsonl", &[]).env_clear().output().expect("the binary runs");
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
}

#[test]
fn every_queue_has_its_bounds_printed() {
    let place = Place::new("explain", &job(3));
    let done = place.run("out.jsonl", &["--explain"]).output().expect("the binary runs");
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let names = [
        "tickets: batcher → ",
        "queues and buffers of the process",
        "requests on their way to the batcher: 256 requests, ",
        "requests that wait in the batcher: 256 requests, ",
        "bulletins to the detokeniser: 4 bulletins, ",
        "mailbox of the conductor: 18 signals, ",
        "orders on their way to lanes: 32 orders, ",
        "results that wait for their sync: 256 results, or one that is larger, 8.0 MiB",
        "index of the job: 1 line, each, 24 B",
    ];
    for name in names {
        assert!(said(&done).contains(name), "{name}: {}", said(&done));
    }
}
