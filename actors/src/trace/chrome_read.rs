//! Reads a trace file back into a recording. The file may come from anywhere: every number in it is held against its table, every
//! length against its bound, and what is not of this format is stepped over and counted.

use super::chrome::FORMAT;
use super::chrome_fields::{Field, Fields, Scalar};
use super::chrome_tables::{Head, one_of};
use super::record::{Cause, Counter, Edge, Event, Name, Record, Track, Wait};
use super::recording::Recording;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Nanoseconds that a time may have: 292 years.
const TIME_MAX: f64 = i64::MAX as f64;

/// Why a file is no trace of ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChromeFault {
    /// It is not the JSON that was asked for.
    #[error("line {line}, column {column}: {what}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        what: String,
    },
    /// Something in it is not what it should be.
    #[error("{place}: wanted {wanted}, got {got}")]
    Field {
        /// Where, as a path of keys.
        place: String,
        /// What may stand there.
        wanted: String,
        /// What does.
        got: String,
    },
}

/// A file as it was understood.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChromeRead {
    /// What it holds.
    pub recording: Recording,
    /// Messages that had lost one end before the file was written.
    pub lonely: u64,
    /// Events that are not of this format, stepped over.
    pub skipped: u64,
}

impl From<serde_json::Error> for ChromeFault {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default().to_owned();
        Self::Syntax { line: error.line(), column: error.column(), what }
    }
}

/// Reads the file whose whole text is `text`, as [`super::write_chrome`] writes it.
///
/// # Errors
/// The first thing that cannot be believed, and where.
pub fn read_chrome(text: &[u8]) -> Result<ChromeRead, ChromeFault> {
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(field("the file", "an object with otherData and traceEvents", "something else"));
    }
    let other = serde_json::from_slice::<Head>(text)?.other.unwrap_or_default();
    if other.format != FORMAT {
        let got = Scalar::Text(other.format.into()).to_string();
        return Err(field("otherData.format", &format!("\"{FORMAT}\""), &got));
    }
    let mut read = ChromeRead { lonely: other.lonely_ends, recording: other.tables()?, skipped: 0 };
    // Tables first and events in a second pass: an object has no order, and a record is checked as it is read.
    let (mut records, mut fault) = (vec![], None);
    let body = Body { tables: &read.recording, records: &mut records, skipped: &mut read.skipped, fault: &mut fault };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let found = body.deserialize(&mut reader);
    if let Some(fault) = fault {
        return Err(fault);
    }
    if !found? {
        return Err(field("traceEvents", "a list", "nothing"));
    }
    read.recording.records = records;
    read.recording.records.sort_unstable();
    Ok(read)
}

/// The file as an object; says whether it has events.
struct Body<'t> {
    tables: &'t Recording,
    records: &'t mut Vec<Record>,
    skipped: &'t mut u64,
    /// What serde's own errors cannot carry.
    fault: &'t mut Option<ChromeFault>,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(key) = entries.next_key::<Cow<'_, str>>()? {
            if key == "traceEvents" {
                entries.next_value_seed(Events(&mut self))?;
                found = true;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// The list of events.
struct Events<'b, 't>(&'b mut Body<'t>);

impl<'de> DeserializeSeed<'de> for Events<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Events<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Body { tables, records, skipped, fault } = self.0;
        let mut index = 0;
        while let Some(fields) = items.next_element::<Fields<'de>>()? {
            match (Entry { fields: &fields, index, tables }).understand() {
                Ok(Understood::Record(record)) => records.push(record),
                Ok(Understood::Told) => {}
                Ok(Understood::Foreign) => **skipped += 1,
                Err(found) => {
                    **fault = Some(found);
                    return Err(A::Error::custom("an event"));
                }
            }
            index += 1;
        }
        Ok(())
    }
}

/// What an event turned out to be.
enum Understood {
    Record(Record),
    /// It names a process or a thread, or ends a request: another place has said that.
    Told,
    Foreign,
}

/// An event with its place in the file and the tables its numbers count.
struct Entry<'a> {
    fields: &'a Fields<'a>,
    index: usize,
    tables: &'a Recording,
}

impl Entry<'_> {
    fn understand(&self) -> Result<Understood, ChromeFault> {
        let event = match (self.fields.text(Field::Phase), self.fields.text(Field::Category)) {
            ("X", "act") => Event::Act {
                step: self.whole(Field::Step)?,
                rows: self.small(Field::Rows)?,
                bytes: self.whole(Field::Bytes)?,
            },
            ("X", "wait") => Event::Wait(self.wait()?),
            ("X" | "i", "mark") => {
                Event::Mark { name: Name(self.entry(Field::Mark, self.tables.names.len(), "names")?) }
            }
            ("b", "request") => Event::Request {
                request: self.whole(Field::Request)?,
                tokens: self.small(Field::Tokens)?,
                first_ns: self.nanoseconds(Field::First)?,
                gap_ns: self.nanoseconds(Field::Gap)?,
            },
            // The beginning has said it all.
            ("e", "request") => return Ok(Understood::Told),
            ("s", "edge") => Event::Send { edge: self.edge()?, step: self.whole(Field::Step)? },
            ("f", "edge") => Event::Receive { edge: self.edge()?, step: self.whole(Field::Step)? },
            ("C", "depth") => Event::Depth { edge: self.edge()?, messages: self.small(Field::Messages)? },
            ("C", "count") => {
                let counter = Counter(self.entry(Field::Counter, self.tables.counters.len(), "counters")?);
                Event::Count { counter, value: self.whole(Field::Value)? }
            }
            ("M", _) => return Ok(Understood::Told),
            _ => return Ok(Understood::Foreign),
        };
        let (start_ns, track) = (self.nanoseconds(Field::Start)?, self.track()?);
        let spans = ["X", "b"].contains(&self.fields.text(Field::Phase));
        let end_ns = start_ns + if spans { self.nanoseconds(Field::Duration)? } else { 0 };
        Ok(Understood::Record(Record { start_ns, end_ns, track, event }))
    }

    fn wait(&self) -> Result<Wait, ChromeFault> {
        match self.fields.text(Field::Cause) {
            "input" => Ok(Wait::Input(self.edge()?)),
            "credit" => Ok(Wait::Credit(self.edge()?)),
            "outside" => Ok(Wait::Outside(Cause(self.entry(Field::Outside, self.tables.causes.len(), "causes")?))),
            _ => Err(self.wrong(Field::Cause, "input, credit or outside")),
        }
    }

    fn edge(&self) -> Result<Edge, ChromeFault> {
        Ok(Edge(self.entry(Field::Edge, self.tables.edges.len(), "edges")?))
    }

    /// Tracks count from 1 in the file.
    fn track(&self) -> Result<Track, ChromeFault> {
        let length = self.tables.tracks.len();
        let number = self.whole(Field::Thread)?.checked_sub(1).filter(|number| *number < length as u64);
        let number = number.and_then(|number| u16::try_from(number).ok());
        number.map(Track).ok_or_else(|| self.wrong(Field::Thread, &format!("1 to {length}, a track")))
    }

    /// The number of an entry of a table.
    fn entry(&self, field: Field, length: usize, what: &str) -> Result<u16, ChromeFault> {
        let number = self.whole(field)?;
        let number = u16::try_from(number).ok().filter(|number| usize::from(*number) < length);
        number.ok_or_else(|| self.wrong(field, &one_of(length, what)))
    }

    fn small(&self, field: Field) -> Result<u32, ChromeFault> {
        u32::try_from(self.whole(field)?).map_err(|_| self.wrong(field, "a number of 32 bits"))
    }

    fn whole(&self, field: Field) -> Result<u64, ChromeFault> {
        match self.fields.get(field) {
            Scalar::Whole(number) => Ok(*number),
            Scalar::Absent | Scalar::Number(_) | Scalar::Text(_) | Scalar::Other(_) => {
                Err(self.wrong(field, "a whole number"))
            }
        }
    }

    /// A time in microseconds, whole or with a fraction.
    fn nanoseconds(&self, field: Field) -> Result<u64, ChromeFault> {
        let micros = match self.fields.get(field) {
            Scalar::Whole(number) => *number as f64,
            Scalar::Number(number) => *number,
            Scalar::Absent | Scalar::Text(_) | Scalar::Other(_) => f64::NAN,
        };
        // Exact to the nanosecond for three days: 53 bits hold 2^48 thousandths and the rounding of the parser.
        let nanoseconds = (micros * 1000.0).round();
        let fits = (0.0..TIME_MAX).contains(&nanoseconds);
        if fits { Ok(nanoseconds as u64) } else { Err(self.wrong(field, "microseconds from 0 to 292 years")) }
    }

    fn wrong(&self, at: Field, wanted: &str) -> ChromeFault {
        let place = format!("traceEvents[{}].{}", self.index, at.key());
        field(&place, wanted, &self.fields.get(at).to_string())
    }
}

pub(super) fn field(place: &str, wanted: &str, got: &str) -> ChromeFault {
    ChromeFault::Field { place: place.into(), wanted: wanted.into(), got: got.into() }
}
