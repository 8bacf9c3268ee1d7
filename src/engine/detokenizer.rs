//! The detokeniser: an actor between the conductor and the streams, so that neither the batcher nor a slow reader decodes text.
//!
//! It hears of every turn of the conductor by a port, whose credits are the only bound between the two. What it tells a stream always
//! has room there. The text of a sequence is what the decode of all its tokens would be, without the token that stopped it.

use super::conductor::Order;
use super::{Ended, Output};
use crate::text::{TextStream, Tokenizer, TokenizerError};
use actors::batcher::Finish;
use actors::lane::{Actor, Fault, LaneContext, Turn};
use actors::port::Bell;
use actors::stage::Input;
use actors::trace::{Event, Track, Wait};
use crossbeam::channel::Sender;
use std::collections::HashMap;

/// What became known of sequences in one turn of the conductor.
#[derive(Debug, Default)]
pub(crate) struct Bulletin {
    /// The turn's number.
    pub(crate) turn: u64,
    /// In the order they became known.
    pub(crate) notices: Vec<Notice>,
}

/// One thing that became known.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A sequence was taken in; its stream hears of it here.
    Begun { id: u64, stream: Sender<Output> },
    /// The logits of a prompt row.
    Prompt { id: u64, position: u32, logits: Vec<f32> },
    /// The next token.
    Token { id: u64, token: u32, logits: Option<Vec<f32>> },
    /// The end of a sequence; nothing follows under its id.
    Ended { id: u64, reason: Finish },
    /// The end of all sequences.
    Failed { why: String },
}

/// A stream and the text of its sequence so far.
struct Reader {
    stream: Sender<Output>,
    text: Option<TextStream>,
}

/// Turns tokens into text and tells the streams.
pub(crate) struct Detokenizer {
    track: Track,
    tokenizer: Option<Tokenizer>,
    bulletins: Input<Bulletin>,
    readers: HashMap<u64, Reader>,
    /// Where a sequence that cannot be decoded is given up.
    orders: Sender<Order>,
    bell: Bell,
}

impl Detokenizer {
    pub(crate) fn new(
        track: Track,
        tokenizer: Option<Tokenizer>,
        bulletins: Input<Bulletin>,
        (orders, bell): (Sender<Order>, Bell),
    ) -> Self {
        Self { track, tokenizer, bulletins, readers: HashMap::new(), orders, bell }
    }

    fn tell(&mut self, notice: &Notice, next: Option<&Notice>) {
        match notice {
            Notice::Begun { id, stream } => {
                let text = self.tokenizer.as_ref().map(TextStream::new);
                self.readers.insert(*id, Reader { stream: stream.clone(), text });
            }
            Notice::Prompt { id, position, logits } => {
                if let Some(reader) = self.readers.get(id) {
                    reader.tell(Output::Prompt { position: *position, logits: logits.clone() });
                }
            }
            Notice::Token { id, token, logits } => {
                let Some(reader) = self.readers.get_mut(id) else { return };
                // The end of a sequence stands right behind its last token.
                let end = next.and_then(|next| match next {
                    Notice::Ended { id: ended, reason } if ended == id => Some(*reason),
                    Notice::Begun { .. }
                    | Notice::Prompt { .. }
                    | Notice::Token { .. }
                    | Notice::Ended { .. }
                    | Notice::Failed { .. } => None,
                });
                match reader.text_of(*token, end) {
                    Ok(text) => reader.tell(Output::Token { token: *token, text, logits: logits.clone() }),
                    Err(error) => self.give_up(*id, &error),
                }
            }
            Notice::Ended { id, reason } => {
                if let Some(reader) = self.readers.remove(id) {
                    reader.tell(Output::Ended(ended(*reason)));
                }
            }
            Notice::Failed { why } => self.fail_all(why),
        }
    }

    fn fail_all(&mut self, why: &str) {
        for (_, reader) in self.readers.drain() {
            reader.tell(Output::Ended(Ended::Failed(why.to_owned())));
        }
    }

    fn give_up(&mut self, id: u64, error: &TokenizerError) {
        if let Some(reader) = self.readers.remove(&id) {
            reader.tell(Output::Ended(Ended::Failed(error.to_string())));
        }
        // Where the queue is full the sequence runs to its end unheard.
        if self.orders.try_send(Order::Cancel(id)).is_ok() {
            self.bell.ring();
        }
    }
}

impl Reader {
    /// A stream has room for everything that its sequence can be told; one that is gone needs nothing.
    fn tell(&self, output: Output) {
        drop(self.stream.try_send(output));
    }

    /// The text that a token completes; with what was held back where the token is the last.
    fn text_of(&mut self, token: u32, end: Option<Finish>) -> Result<String, TokenizerError> {
        let stop = matches!(end, Some(Finish::Stop { .. }));
        let Some(stream) = &mut self.text else { return Ok(String::new()) };
        let mut text = if stop { String::new() } else { stream.push(token)? };
        if let (Some(_), Some(stream)) = (end, self.text.take_if(|_| end.is_some())) {
            text.push_str(&stream.finish()?);
        }
        Ok(text)
    }
}

/// The end of a sequence as its stream hears it.
fn ended(reason: Finish) -> Ended {
    match reason {
        Finish::Stop { token } => Ended::Stop { token },
        Finish::Length => Ended::Length,
        Finish::Cancelled => Ended::Cancelled,
        Finish::NonFinite { position } => {
            Ended::Failed(format!("the logits of position {position} are not all finite"))
        }
    }
}

impl Actor for Detokenizer {
    fn name(&self) -> &str {
        "detokenizer"
    }

    fn track(&self) -> Track {
        self.track
    }

    fn bind(&mut self, bell: &Bell) {
        self.bulletins.inbox.bind_reader(bell.clone());
    }

    fn poll(&mut self, context: &mut LaneContext) -> Result<Turn, Fault> {
        let Some(bulletin) = self.bulletins.inbox.try_recv() else {
            if self.bulletins.inbox.is_closed() {
                self.fail_all("the engine was stopped");
                return Ok(Turn::Finished);
            }
            return Ok(Turn::Waiting(Wait::Input(self.bulletins.edge)));
        };
        let (edge, step) = (self.bulletins.edge, bulletin.turn);
        let start_ns = context.begin(step);
        context.recorder().point(self.track, start_ns, Event::Receive { edge, step });
        for (place, notice) in bulletin.notices.iter().enumerate() {
            self.tell(notice, bulletin.notices.get(place + 1));
        }
        context.finish(self.track, bulletin.notices.len() as u32, 0);
        Ok(Turn::Fired)
    }
}
