//! The reader of a job of steps: lines in, items out, no more than there is room for.

use super::books::{Books, Halt};
use super::flow::{Crew, QUEUE_ITEMS, Record};
use super::item::{Denied, Gate, Item, Message, Outcome, Verdict};
use crate::job::journal::InFlight;
use crate::job::{JobError, LineParser, LineReader, RawLine};
use async_channel::{Receiver, Sender};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Faults after which an item that ran alone is not tried again.
const FAULTS_MAX: u32 = 2;

/// Reads the items of `input` on a thread of their own.
pub(super) fn read<T: Record>(crew: &mut Crew, input: PathBuf) -> Receiver<Message<T>> {
    let (output, items) = async_channel::bounded(QUEUE_ITEMS);
    let reader = Reader {
        books: crew.books.clone(),
        gate: crew.gate.clone(),
        verdicts: crew.verdicts.clone(),
        parser: LineParser::new(u32::MAX),
    };
    crew.threads.push(("read".into(), Box::new(move || reader.run(&input, &output))));
    items
}

struct Reader {
    books: Arc<Books>,
    gate: Arc<Gate>,
    verdicts: crossbeam::channel::Sender<Verdict>,
    parser: LineParser,
}

impl Reader {
    fn run<T: Record>(self, input: &Path, output: &Sender<Message<T>>) {
        if let Err(error) = self.each_line(input, output) {
            self.books.halt(Halt::Job(error));
        }
    }

    fn each_line<T: Record>(&self, input: &Path, output: &Sender<Message<T>>) -> Result<(), JobError> {
        let failed = |source| JobError::Io { file: input.into(), source };
        let mut lines = LineReader::new(BufReader::with_capacity(1 << 16, File::open(input).map_err(failed)?));
        let mut number = 0;
        while let Some(line) = lines.next_line().map_err(failed)? {
            let own = number;
            number += 1;
            if self.books.is_draining() {
                return Ok(());
            }
            if self.books.ledger().has(own) {
                continue;
            }
            match self.value::<T>(&line, own) {
                Ok((custom_id, value)) => self.begin((own, line.number), custom_id, value, output)?,
                Err((custom_id, denied)) => {
                    let outcome = Outcome::Failed(denied);
                    let verdict = Verdict { item: own, line: line.number, custom_id, tokens: 0, outcome };
                    drop(self.verdicts.send(verdict));
                }
            }
        }
        Ok(())
    }

    /// The item of a line, or its error record.
    fn value<T: Record>(&self, line: &RawLine<'_>, item: u64) -> Result<(String, T), (Option<String>, Denied)> {
        let Some(text) = line.text else {
            let message = format!("{} bytes, over the limit of {}; skipped", line.bytes, crate::job::LINE_BYTES_MAX);
            return Err((None, Denied { code: "line_too_long", message }));
        };
        let refused = |refused: crate::job::Refused| {
            (refused.custom_id, Denied { code: refused.error.code(), message: refused.error.to_string() })
        };
        let (map, custom_id) = self.parser.object(text).map_err(refused)?;
        let ledger = self.books.ledger();
        if let Some(own) = ledger.in_flight(item).filter(|own| own.faults >= FAULTS_MAX && own.company == 1) {
            let what = ledger.last_fault().unwrap_or("the process ended");
            let message = format!("quarantined after {} attempts, the last of which ended with: {what}", own.faults);
            return Err((Some(custom_id), Denied { code: "quarantined", message }));
        }
        drop(ledger);
        match serde_json::from_value(serde_json::Value::Object(map)) {
            Ok(value) => Ok((custom_id, value)),
            Err(error) => Err((Some(custom_id), Denied { code: "invalid_value", message: error.to_string() })),
        }
    }

    /// Waits for room, notes that the item is begun, and hands it on.
    fn begin<T: Record>(
        &self,
        (number, line): (u64, u64),
        custom_id: String,
        value: T,
        output: &Sender<Message<T>>,
    ) -> Result<(), JobError> {
        let suspect = |own: InFlight| (own.faults > 0).then(|| (own.company as usize / 2).max(1));
        let company = self.books.ledger().in_flight(number).and_then(suspect);
        let permit = self.gate.enter(company);
        if self.books.is_draining() {
            return Ok(());
        }
        let mut ledger = self.books.ledger();
        ledger.admit(number)?;
        ledger.write()?;
        drop(ledger);
        let item = Arc::new(Item::new((number, line), custom_id, self.verdicts.clone(), permit));
        // Nobody listens only when the run is over.
        drop(output.send_blocking(Message { item, part: 0, sizes: vec![], value: Some(value) }));
        Ok(())
    }
}
