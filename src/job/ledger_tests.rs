//! A job's files under every failure of every operation, and outputs that somebody has changed.

use super::*;
use crate::job::journal::memory::{Failure, Memory};
use crate::job::journal::{Disk, InputFingerprint};
use crate::job::output::{Edited, rebuild};
use serde_json::Map;

/// Items of the job.
const ITEMS: u64 = 12;

fn places() -> Places {
    Places::of(Path::new("nowhere/out.jsonl"))
}

fn open(memory: &Memory, resume: bool) -> Result<(Ledger, Begun), JobError> {
    let input = Some(InputFingerprint { bytes: 100, lines: ITEMS, blake3: "00".into() });
    let header = Header { created: 5, input, parameters: Map::new() };
    let files = Arc::new(memory.clone());
    Ledger::open(Opening {
        files,
        places: places(),
        header,
        line_hashes: &[1, 2],
        input: Path::new("job.jsonl"),
        resume,
        holder: None,
    })
}

fn line(item: u64) -> Vec<u8> {
    format!("{{\"custom_id\":\"id{item}\",\"text\":\"{}\"}}\n", "y".repeat(item as usize * 7)).into_bytes()
}

/// Does what is left, out of order; notes what was committed.
fn work(ledger: &mut Ledger, committed: &mut Vec<u64>) -> Result<(), JournalError> {
    let now = Instant::now();
    for four in (0..ITEMS).collect::<Vec<_>>().chunks(4) {
        let open: Vec<u64> = four.iter().copied().filter(|&item| !ledger.has(item)).collect();
        for &item in &open {
            ledger.admit(item)?;
        }
        ledger.write()?;
        for &item in open.iter().rev() {
            match item % 5 {
                0 => ledger.error(item, &line(item), now)?,
                _ => ledger.result(item, 3, &line(item), now)?,
            }
        }
        ledger.commit()?;
        committed.extend(&open);
    }
    ledger.close()
}

fn calm() -> Vec<u8> {
    (0..ITEMS).flat_map(line).collect()
}

/// A run in which this fails, a crash, and a run in which nothing does. Whether the failure was met.
fn survives(failure: Failure) -> bool {
    let memory = Memory::default();
    let mut committed = vec![];
    memory.fail(Some(failure));
    let first = open(&memory, false).and_then(|(mut ledger, _)| Ok(work(&mut ledger, &mut committed)?));
    let met = memory.operations() >= failure.operation;
    if let Err(error) = &first {
        let said = error.to_string();
        assert!(said.contains("nowhere/out.jsonl") || said.starts_with("nowhere: "), "{failure:?}: {said}");
        assert!([75, 73].contains(&error.exit_code().code()), "{failure:?}: {said}");
    }
    memory.fail(None);
    memory.crash();
    let (mut ledger, begun) = open(&memory, true).unwrap_or_else(|error| panic!("{failure:?}: {error}"));
    for &item in &committed {
        assert!(ledger.has(item), "{failure:?}: item {item} was committed");
    }
    if !matches!(begun, Begun::Finished(_)) {
        work(&mut ledger, &mut committed).unwrap();
    }
    assert_eq!(memory.bytes(&places().output).as_deref(), Some(calm().as_slice()), "{failure:?}");
    assert_eq!(ledger.tally(), Tally { done: ITEMS, errors: 3, tokens: 27 });
    met
}

#[test]
fn j115_j116_j117_every_operation_fails_once_or_for_good_and_nothing_committed_is_lost() {
    for errno in [libc::ENOSPC, libc::EDQUOT, libc::EIO, libc::EMFILE] {
        for lasting in [false, true] {
            let met = (1..).take_while(|&operation| survives(Failure { operation, errno, lasting })).count();
            assert!(met > 15, "{met} operations");
        }
    }
}

#[test]
fn a_full_disk_pauses_with_its_file_and_words() {
    let memory = Memory::default();
    let (mut ledger, _) = open(&memory, false).unwrap();
    memory.fail(Some(Failure { operation: 1, errno: libc::ENOSPC, lasting: true }));
    let error = work(&mut ledger, &mut vec![]).unwrap_err();
    assert!(error.pauses());
    assert_eq!(error.exit_code().code(), 75);
    let expect = "nowhere/out.jsonl.journal: cannot be written: No space left on device (os error 28)";
    // The file is opened anew first, and that has failed too.
    assert_eq!(error.to_string().replace("opened", "written"), expect);
}

#[test]
fn a_second_process_is_told_who_has_the_job() {
    let memory = Memory::default();
    let (ledger, _) = open(&memory, false).unwrap();
    let error = open(&memory, true).unwrap_err();
    let (said, own) =
        (error.to_string(), format!("another process works on this job: process {} on ", std::process::id()));
    assert!(said.contains(&own) && said.contains(", since 20"), "{said}");
    assert_eq!(error.exit_code().code(), 75);
    ledger.release();
    assert!(memory.bytes(&places().note).is_none());
    assert!(matches!(open(&memory, true), Ok((_, Begun::Resumed(..)))));
}

/// A finished job whose output is then made this; what was mended.
fn mended(output: &[u8]) -> Mended {
    let memory = Memory::default();
    let (mut ledger, _) = open(&memory, false).unwrap();
    work(&mut ledger, &mut vec![]).unwrap();
    drop(ledger);
    memory.put(&places().output, output);
    let (_, begun) = open(&memory, true).unwrap();
    assert_eq!(memory.bytes(&places().output).as_deref(), Some(calm().as_slice()));
    match begun {
        Begun::Finished(mended) => mended,
        begun @ (Begun::New | Begun::Anew | Begun::Resumed(..)) => panic!("{begun:?}"),
    }
}

#[test]
fn j58_a_torn_last_line_is_cut_and_written_again() {
    let calm = calm();
    for cut in 0..=calm.len() {
        let whole = calm[..cut].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let torn_bytes = (cut - whole) as u64;
        assert_eq!(mended(&calm[..cut]), Mended { torn_bytes, ..Mended::default() }, "cut at {cut}");
    }
}

#[test]
fn j59_an_edited_output_is_told_line_by_line_and_written_again() {
    let edited = |line: u64| Edited { line, custom_id: Some(format!("id{}", line - 1)) };
    let text = String::from_utf8(calm()).unwrap();
    let found = mended(text.replace("id3", "id\u{1b}3").replace("id7", "x").as_bytes());
    assert_eq!((found.edited.clone(), found.edited_count), (vec![edited(4), edited(8)], 2));
    assert_eq!(found.notes()[0], "line 4 (\"id3\") of the output was not what the journal has, and was written again");
    let found = mended(format!("{text}more\n").as_bytes());
    assert_eq!(found, Mended { surplus: 1, ..Mended::default() });
    assert_eq!(mended("x\n".repeat(12).as_bytes()).notes().last().unwrap(), "and 2 more lines of the output");
}

#[test]
fn an_output_is_made_again_from_the_journal_alone() {
    let memory = Memory::default();
    let (mut ledger, _) = open(&memory, false).unwrap();
    work(&mut ledger, &mut vec![]).unwrap();
    drop(ledger);
    memory.put(&places().output, b"nothing of it");
    assert_eq!(rebuild(&memory, &places()).unwrap(), ITEMS);
    assert_eq!(memory.bytes(&places().output).as_deref(), Some(calm().as_slice()));
}

#[test]
fn a_second_result_is_dropped_if_it_is_the_same_and_an_error_if_not() {
    let memory = Memory::default();
    let (mut ledger, _) = open(&memory, false).unwrap();
    let now = Instant::now();
    ledger.result(0, 1, b"a\n", now).unwrap();
    ledger.result(0, 1, b"a\n", now).unwrap();
    ledger.commit().unwrap();
    ledger.result(0, 1, b"a\n", now).unwrap();
    assert_eq!(ledger.tally().done, 1);
    let error = ledger.result(0, 1, b"b\n", now).unwrap_err();
    assert!(error.to_string().contains("item 0 has two results that differ"), "{error}");
}

#[test]
fn j60_a_note_that_was_left_without_a_lock_is_taken_over() {
    let dir = std::env::temp_dir().join(format!("millstream-ledger-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let places = Places::of(&dir.join("out.jsonl"));
    std::fs::write(&places.note, r#"{"pid": 7, "host": "elsewhere", "boot": "another", "since": 0}"#).unwrap();
    let hold = Hold::take(&Disk, &places.journal, &places.note).unwrap();
    assert_eq!(hold.left().unwrap().to_string(), "process 7 on elsewhere, since 1970-01-01 00:00:00 UTC");
    let other = Hold::take(&Disk, &places.journal, &places.note).unwrap_err();
    assert!(other.to_string().contains(&format!("process {} on ", std::process::id())), "{other}");
    hold.release(&Disk, &places.note);
    assert!(Hold::take(&Disk, &places.journal, &places.note).unwrap().left().is_none());
    std::fs::remove_dir_all(&dir).unwrap();
}
