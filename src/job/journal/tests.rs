use super::memory::Memory;
use super::record::HEAD_BYTES;
use super::*;
use proptest::prelude::*;
use serde_json::{Map, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FILE: &str = "out.jsonl.journal";

fn header() -> Header {
    let parameters = json!({"seed": 0, "model": {"name": "m"}}).as_object().cloned().unwrap_or_else(Map::new);
    let input = InputFingerprint { bytes: 10, lines: 3, blake3: "00".into() };
    Header { created: 5, input: Some(input), parameters }
}

/// What a test appends: an item and what becomes of it.
#[derive(Clone, Debug)]
enum Deed {
    Admit(u64),
    Result(u64, Vec<u8>),
    Error(u64, Vec<u8>),
    Fault,
    Commit,
}

fn act(writer: &mut Writer, deed: &Deed) {
    match deed {
        Deed::Admit(item) => drop(writer.append(&Record::Admitted { item: *item, attempt: 1 }).unwrap()),
        Deed::Result(item, line) => {
            writer.append_result(&Record::Result { item: *item, tokens: 2, line }, Instant::now()).map(drop).unwrap();
        }
        Deed::Error(item, line) => {
            writer.append_result(&Record::Error { item: *item, line }, Instant::now()).map(drop).unwrap();
        }
        Deed::Fault => drop(writer.append(&Record::Fault { what: "signal 11" }).unwrap()),
        Deed::Commit => writer.commit().unwrap(),
    }
}

fn contents(memory: &Memory) -> Result<Option<Contents>, JournalError> {
    read(memory.open(Path::new(FILE), Mode::Read).unwrap().as_ref(), Path::new(FILE))
}

/// The message for a journal of these bytes.
fn refused(bytes: &[u8]) -> String {
    let memory = Memory::default();
    memory.put(Path::new(FILE), bytes);
    contents(&memory).expect_err("it is refused").to_string()
}

/// A journal of so many results, committed in groups of `group`, and where each record ends.
fn written(items: u64, group: u64) -> (Vec<u8>, Vec<u64>) {
    let memory = Memory::default();
    let mut writer = Writer::create(Arc::new(memory.clone()), Path::new(FILE), &header(), &[1, 2, 3]).unwrap();
    let mut ends = vec![];
    for item in 0..items {
        act(&mut writer, &Deed::Admit(item));
        let line = format!("{{\"custom_id\":\"{item}\"}}{}\n", "x".repeat(item as usize * 37 % 300));
        act(&mut writer, &Deed::Result(item, line.clone().into_bytes()));
        writer.write().unwrap();
        ends.push(memory.bytes(Path::new(FILE)).unwrap().len() as u64);
        if item % group == group - 1 {
            writer.commit().unwrap();
        }
    }
    writer.commit().unwrap();
    writer.write().unwrap();
    (memory.bytes(Path::new(FILE)).unwrap(), ends)
}

#[test]
fn a_journal_cut_at_any_byte_of_its_last_64_kib_keeps_every_whole_result() {
    let (bytes, ends) = written(272, 16);
    assert!(bytes.len() > 65 << 10, "{}", bytes.len());
    let memory = Memory::default();
    for cut in bytes.len() - (64 << 10)..=bytes.len() {
        memory.put(Path::new(FILE), &bytes[..cut]);
        let found = contents(&memory).unwrap().expect("the header is far before the cut");
        let whole = ends.iter().take_while(|&&end| end <= cut as u64).count() as u64;
        assert_eq!(found.results, whole, "cut at {cut}");
        assert_eq!(found.end + found.torn_bytes, cut as u64);
        assert!((0..whole).all(|item| found.index.get(item).is_some()));
        assert!(found.torn_bytes < 500, "at most one record is torn");
    }
}

#[test]
fn a_journal_cut_within_its_header_was_never_begun() {
    let (bytes, _) = written(1, 1);
    let memory = Memory::default();
    let first = HEAD_BYTES + u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
    for cut in 0..first {
        memory.put(Path::new(FILE), &bytes[..cut]);
        assert_eq!(contents(&memory).unwrap(), None, "cut at {cut}");
    }
}

#[test]
fn a_flip_in_the_last_result_loses_that_one_only() {
    // Without the record behind the last commit, which would say that the result had been durable.
    let (bytes, ends) = written(5, 100);
    let bytes = &bytes[..ends[4] as usize];
    let memory = Memory::default();
    let last = bytes.windows(4).rposition(|window| window == record::MARK).unwrap();
    for at in last..bytes.len() {
        for bit in [1, 0x80] {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= bit;
            memory.put(Path::new(FILE), &flipped);
            let found = contents(&memory).unwrap().unwrap();
            assert_eq!((found.results, found.end), (4, last as u64), "flip at {at}");
            assert_eq!(found.torn_bytes, (bytes.len() - last) as u64);
            assert!(found.in_flight.contains_key(&4), "it runs again");
        }
    }
}

#[test]
fn a_flip_in_what_was_durable_is_an_error_that_names_the_place() {
    let (bytes, ends) = written(5, 1);
    for at in ends[1] as usize..ends[2] as usize {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        let message = refused(&flipped);
        assert!(message.starts_with("out.jsonl.journal: record "), "{message}");
        assert!(message.contains("it had been safe on the disk"), "{message}");
    }
    let mut flipped = bytes.clone();
    flipped[ends[1] as usize + 3] ^= 4;
    let message = refused(&flipped);
    let place =
        format!("out.jsonl.journal: record 8 at byte {} is damaged: the mark of a record is not there", ends[1]);
    assert!(message.starts_with(&place), "{message}\n{place}");
    // Of the header too.
    let mut flipped = bytes.clone();
    flipped[HEAD_BYTES + 9] ^= 4;
    assert!(refused(&flipped).starts_with("out.jsonl.journal: record 0 at byte 0 is damaged: its checksum"));
}

#[test]
fn a_good_record_at_another_place_is_a_bad_one() {
    let (bytes, ends) = written(3, 100);
    let (one, two) = (ends[0] as usize, ends[1] as usize);
    let moved = [&bytes[..one], &bytes[one..two], &bytes[one..two]].concat();
    let memory = Memory::default();
    memory.put(Path::new(FILE), &moved);
    let found = contents(&memory).unwrap().unwrap();
    assert_eq!((found.results, found.end), (2, two as u64));
}

#[test]
fn j65_other_versions_and_other_files_are_refused() {
    let mut bytes = vec![];
    Record::Header { version: 9, text: "{}" }.frame(0, &mut bytes).unwrap();
    let expect = "out.jsonl.journal: journal of version 9, this program reads version 1; finish the job with the program that \
                  began it, or name another output";
    assert_eq!(refused(&bytes), expect);
    let expect = "out.jsonl.journal: is no journal of this program, and is left as it is; name another output";
    assert_eq!(refused(b"my notes\n"), expect);
}

#[test]
fn two_results_of_a_line_must_be_the_same() {
    let memory = Memory::default();
    let mut writer = Writer::create(Arc::new(memory.clone()), Path::new(FILE), &header(), &[]).unwrap();
    for deed in [Deed::Result(0, b"a\n".into()), Deed::Result(0, b"a\n".into()), Deed::Commit] {
        act(&mut writer, &deed);
    }
    assert_eq!(contents(&memory).unwrap().unwrap().results, 1);
    act(&mut writer, &Deed::Result(0, b"b\n".into()));
    writer.commit().unwrap();
    let message = contents(&memory).unwrap_err().to_string();
    assert!(message.contains("item 0 has two results that differ, at bytes "), "{message}");
}

#[test]
fn a_record_of_an_item_that_cannot_be_yet_takes_no_memory() {
    let memory = Memory::default();
    let mut writer = Writer::create(Arc::new(memory.clone()), Path::new(FILE), &header(), &[]).unwrap();
    act(&mut writer, &Deed::Result(1 << 50, b"a\n".into()));
    writer.commit().unwrap();
    assert_eq!(contents(&memory).unwrap().unwrap().results, 0);
}

#[test]
fn faults_count_against_what_ran_then() {
    let memory = Memory::default();
    let mut writer = Writer::create(Arc::new(memory.clone()), Path::new(FILE), &header(), &[]).unwrap();
    for deed in [Deed::Admit(0), Deed::Admit(1), Deed::Admit(2), Deed::Result(1, b"a\n".into()), Deed::Fault] {
        act(&mut writer, &deed);
    }
    writer.commit().unwrap();
    let found = contents(&memory).unwrap().unwrap();
    assert_eq!(found.in_flight.keys().collect::<Vec<_>>(), [&0, &2]);
    assert_eq!((found.in_flight[&0].faults, found.in_flight[&0].company), (1, 2));
    drop(writer);
    let mut writer = Writer::resume(Arc::new(memory.clone()), Path::new(FILE), &found).unwrap();
    act(&mut writer, &Deed::Admit(2));
    act(&mut writer, &Deed::Fault);
    writer.commit().unwrap();
    let found = contents(&memory).unwrap().unwrap();
    assert_eq!((found.in_flight[&0].faults, found.in_flight[&2].faults), (1, 2), "0 did not run");
    assert_eq!(found.in_flight[&2].company, 1);
}

#[test]
fn a_group_is_due_by_number_age_and_size() {
    let policy = GroupPolicy::default();
    let second = Duration::from_secs(1);
    assert!(!policy.due(0, 1 << 30, 100 * second), "nothing waits");
    assert!(!policy.due(255, 1 << 20, second / 2));
    assert!(policy.due(256, 0, Duration::ZERO));
    assert!(policy.due(1, 0, second));
    assert!(policy.due(1, 8 << 20, Duration::ZERO));
    let memory = Memory::default();
    let mut writer = Writer::create(Arc::new(memory.clone()), Path::new(FILE), &header(), &[]).unwrap();
    let (begin, before) = (Instant::now(), writer.committed());
    writer.append_result(&Record::Error { item: 0, line: b"a\n" }, begin).unwrap();
    assert!(!writer.tick(begin).unwrap());
    assert_eq!(writer.committed(), before);
    assert!(writer.tick(begin + second).unwrap());
    assert!(writer.committed() > before);
}

#[test]
fn j116_a_sync_that_failed_is_never_taken_for_one_that_succeeds_later() {
    let memory = Memory::default();
    let mut writer = Writer::create(Arc::new(memory.clone()), Path::new(FILE), &header(), &[]).unwrap();
    act(&mut writer, &Deed::Result(0, b"a\n".into()));
    // One write, then the sync.
    memory.fail(Some(memory::Failure { operation: 2, errno: libc::EIO, lasting: false }));
    writer.commit().expect("the records are written again to the file opened anew");
    memory.crash();
    assert_eq!(contents(&memory).unwrap().unwrap().results, 1);
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let line = || proptest::collection::vec(any::<u8>(), 0..200);
    let deed = prop_oneof![
        (0..40u64).prop_map(Deed::Admit),
        (0..40u64, line()).prop_map(|(item, line)| Deed::Result(item, line)),
        (0..40u64, line()).prop_map(|(item, line)| Deed::Error(item, line)),
        Just(Deed::Fault),
        Just(Deed::Commit),
    ];
    proptest::collection::vec(deed, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is written, what is read is the first result of each item, and a crash loses nothing that was committed.
    #[test]
    fn what_is_read_is_what_was_written(deeds in deeds()) {
        let memory = Memory::default();
        let file = Path::new(FILE);
        let mut writer = Writer::create(Arc::new(memory.clone()), file, &header(), &[7; 3]).unwrap();
        // Items are told of in order before anything else, as a job does.
        for item in 0..40 {
            act(&mut writer, &Deed::Admit(item));
        }
        let mut wanted = std::collections::BTreeMap::new();
        let mut durable = wanted.clone();
        for deed in &deeds {
            if let Deed::Result(item, line) | Deed::Error(item, line) = deed {
                if wanted.contains_key(item) {
                    continue;
                }
                wanted.insert(*item, line.clone());
            }
            act(&mut writer, deed);
            if matches!(deed, Deed::Commit) {
                durable = wanted.clone();
            }
        }
        let check = |wanted: &std::collections::BTreeMap<u64, Vec<u8>>| {
            let found = contents(&memory).unwrap().unwrap();
            prop_assert_eq!(found.done(), wanted.len() as u64);
            prop_assert_eq!(&found.line_hashes, &[7; 3]);
            let handle = memory.open(file, Mode::Read).unwrap();
            for (item, line) in wanted {
                let offset = found.index.get(*item).expect("it was written");
                prop_assert_eq!(&read_output(handle.as_ref(), file, offset).unwrap(), line);
            }
            Ok(())
        };
        writer.write().unwrap();
        check(&wanted)?;
        memory.crash();
        check(&durable)?;
    }
}
