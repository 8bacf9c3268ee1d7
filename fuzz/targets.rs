//! Readers of what comes from outside, each as a function of bytes that may return nothing and must not panic.
//!
//! The fuzzer's targets and the test that replays their corpus (`tests/fuzz_corpus.rs`) share this file.

use graph::models::describe;
use graph::plan::{Plan, explain::explain};
use millstream::checkpoint::{GenerationDefaults, parse_config, read_shard_header, remote_code};
use millstream::job::journal::{Handle, Record, VERSION, read};
use millstream::job::{LineParser, LineReader, line_request};
use millstream::text::Tokenizer;
use millstream::trace::{Summary, Words, read_chrome};
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// A reader, by the name of its corpus.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: [Target; 7] = [
    ("safetensors", safetensors),
    ("config", config),
    ("tokenizer", tokenizer),
    ("job_line", job_line),
    ("journal", journal),
    ("plan", plan),
    ("trace", trace),
];

/// Logits of the model that job lines are read for.
const VOCABULARY: u32 = 512;

/// A weight file. What is accepted lies in the file, tensor by tensor, and covers it.
fn safetensors(input: &[u8]) {
    let Ok(entries) = read_shard_header(Path::new("fuzz"), input) else { return };
    let mut end = entries.first().map_or(input.len(), |entry| entry.begin);
    for entry in &entries {
        assert!(entry.begin == end && entry.end >= end, "{entry:?} begins where the one before it ends, at {end}");
        end = entry.end;
    }
    assert_eq!(end, input.len(), "the tensors end with the file");
}

/// A `config.json` and, of the same bytes, a `generation_config.json`, up to the model that it describes.
fn config(input: &[u8]) {
    let Ok(map) = parse_config(Path::new("fuzz"), input) else { return };
    drop(remote_code(&map).map(|note| note.to_string()));
    if let Ok(found) = GenerationDefaults::resolve(Path::new("fuzz"), &map, Some(&map), VOCABULARY) {
        found.notes.iter().for_each(|note| drop(note.to_string()));
    }
    match describe(&map) {
        Ok(architecture) => assert!(architecture.model.vocabulary() > 0, "a model has logits"),
        Err(faults) => faults.iter().for_each(|fault| drop(fault.to_string())),
    }
}

/// A `tokenizer.json`. What is loaded reads a text and its own ids.
fn tokenizer(input: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_bytes(Path::new("fuzz"), input) else { return };
    let last = tokenizer.vocabulary_len().saturating_sub(1);
    drop(tokenizer.decode(&[0, last, u32::MAX]));
    drop(tokenizer.spelling(last));
    if let Ok(ids) = tokenizer.encode("An owner, a borrower\u{0} и 💧") {
        assert!(ids.iter().all(|id| *id < tokenizer.vocabulary_len()), "an id that the tokenizer does not have");
        drop(tokenizer.decode(&ids));
    }
}

/// A job file: its lines, each read as a request.
fn job_line(input: &[u8]) {
    let (mut lines, mut parser) = (LineReader::new(input), LineParser::new(VOCABULARY));
    let mut at = 0;
    while let Some(line) = lines.next_line().expect("memory can be read") {
        assert!(line.offset >= at && line.offset + line.bytes <= input.len() as u64, "{line:?} lies in the file");
        at = line.offset + line.bytes;
        match line_request(&mut parser, &line) {
            Ok(request) => assert!((1..=256).contains(&request.custom_id.len()), "a request has a name"),
            Err(refused) => drop(refused.error.to_string()),
        }
    }
}

/// A journal: as it is, and as the content of frames whose checksums hold.
fn journal(input: &[u8]) {
    replay(input);
    replay(&sealed(input));
}

fn replay(bytes: &[u8]) {
    match read(&Bytes(bytes), Path::new("fuzz")) {
        Ok(None) => {}
        Ok(Some(contents)) => {
            assert_eq!(contents.end + contents.torn_bytes, bytes.len() as u64, "every byte is good or torn");
            assert!(contents.done() <= contents.records, "a result is a record");
        }
        Err(error) => drop(error.to_string()),
    }
}

/// A journal of a good header and of `input` as records: a kind, a length, as many bytes. A kind over 15 breaks the frame.
fn sealed(mut input: &[u8]) -> Vec<u8> {
    let mut journal = vec![];
    let text = r#"{"created":5,"input":{"bytes":1,"lines":1,"blake3":"00"},"parameters":{"seed":0}}"#;
    Record::Header { version: VERSION, text }.frame(0, &mut journal).expect("a small record");
    while let Some(([kind, length], rest)) = input.split_first_chunk::<2>() {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let (offset, begin) = (journal.len() as u64, journal.len());
        journal.extend([0xf5, b'M', b'S', b'J']);
        journal.extend((payload.len() as u32).to_le_bytes());
        journal.push(kind & 15);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&offset.to_le_bytes()).update(&(payload.len() as u32).to_le_bytes());
        hasher.update(&[kind & 15]).update(payload);
        journal.extend(&hasher.finalize().as_bytes()[..16]);
        journal.extend(payload);
        if *kind > 15 {
            journal[begin + usize::from(*kind) % 25] ^= kind;
        }
        input = rest;
    }
    journal
}

/// A file in memory that is only read.
#[derive(Debug)]
struct Bytes<'a>(&'a [u8]);

impl Handle for Bytes<'_> {
    fn bytes(&self) -> Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> Result<usize> {
        Err(Error::from(ErrorKind::ReadOnlyFilesystem))
    }

    fn truncate(&self, _bytes: u64) -> Result<()> {
        Err(Error::from(ErrorKind::ReadOnlyFilesystem))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> Result<bool> {
        Ok(true)
    }
}

/// A plan. What is accepted can be told, written and read again.
fn plan(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Plan::from_json(text) {
        Ok(plan) => {
            drop(explain(&plan));
            assert_eq!(Plan::from_json(&plan.to_json()).expect("what was written is read"), plan);
        }
        Err(faults) => faults.iter().for_each(|fault| drop(fault.to_string())),
    }
}

/// A trace, up to the words of its summary.
fn trace(input: &[u8]) {
    match read_chrome(input) {
        Ok(found) => {
            let summary = Summary::of(&found.recording);
            drop(Words::new(&summary, &found.recording).lines());
        }
        Err(fault) => drop(fault.to_string()),
    }
}
