//! The detokeniser: an actor between the conductor and the streams, so that neither the batcher nor a slow reader decodes text.
//!
//! It hears of every turn of the conductor by a port, whose credits are the only bound between the two. What it tells a stream always
//! has room there. The text of a sequence is what the decode of all its tokens would be, without the token that stopped it, cut before
//! the first stop text. A sequence whose text is stopped is given up with the batcher; tokens drawn ahead of that are told to nobody, so
//! that its last token is the one that completed the stop.

use super::captures::Captures;
use super::stream::Outlet;
use super::{Ended, Failure, Output, PromptRow, StopReason, Token, TokenLogprob};
use crate::text::{Searched, StopSearch, StopTexts, TextStream, Tokenizer, TokenizerError};
use actors::batcher::Finish;
use actors::lane::{Actor, Fault, LaneContext, Turn};
use actors::port::Bell;
use actors::stage::Input;
use actors::ticket::RowFault;
use actors::trace::{Event, Recorder, Track, Wait};
use crossbeam::channel::Sender;
use std::collections::HashMap;
use std::sync::Arc;

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
    Begun { id: u64, listener: Listener },
    /// What was asked for of a prompt row.
    Prompt { id: u64, position: u32, captured: Option<Vec<f32>>, logprob: Option<TokenLogprob> },
    /// The next token.
    Token { id: u64, token: u32, captured: Option<Vec<f32>>, logprob: Option<TokenLogprob> },
    /// The end of a sequence, known from a step; nothing follows under its id.
    Ended { id: u64, reason: Finish, step: u64 },
    /// The end of all sequences.
    Failed { why: String },
}

/// Who hears of a sequence, and where its text ends.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// Has room for everything that can be told.
    pub(super) outlet: Outlet,
    /// Texts that end it.
    pub(crate) stops: StopTexts,
    /// Whether its text has what ended it as well.
    pub(crate) include_stop: bool,
    /// Tokens in which no stop text counts.
    pub(crate) min_tokens: u32,
    /// The model's own end tokens, unless they are ignored.
    pub(crate) end_tokens: Arc<[u32]>,
}

/// A listener and the text of its sequence so far.
struct Reader {
    listener: Listener,
    text: Option<TextStream>,
    search: Option<StopSearch>,
    /// Tokens so far.
    tokens: u32,
    times: Times,
}

/// When a sequence was told what, in the time of the trace.
#[derive(Clone, Copy, Debug)]
struct Times {
    begun_ns: u64,
    /// The first token and the last one.
    told_ns: Option<(u64, u64)>,
    gap_ns: u64,
}

impl Times {
    fn begin(now_ns: u64) -> Self {
        Self { begun_ns: now_ns, told_ns: None, gap_ns: 0 }
    }

    fn token(&mut self, now_ns: u64) {
        let (first_ns, last_ns) = self.told_ns.unwrap_or((now_ns, now_ns));
        self.gap_ns = self.gap_ns.max(now_ns.saturating_sub(last_ns));
        self.told_ns = Some((first_ns, now_ns));
    }
}

/// Where the ends of requests are recorded, at one moment.
#[derive(Clone, Copy)]
struct Pen<'a> {
    recorder: &'a Recorder,
    track: Track,
    now_ns: u64,
}

impl Pen<'_> {
    fn ended(&self, request: u64, reader: &Reader) {
        let Times { begun_ns, told_ns, gap_ns } = reader.times;
        let first_ns = told_ns.map_or(0, |(first_ns, _)| first_ns.saturating_sub(begun_ns));
        let event = Event::Request { request, tokens: reader.tokens, first_ns, gap_ns };
        self.recorder.span(self.track, begun_ns, self.now_ns, event);
    }
}

/// Turns tokens into text and tells the streams.
pub(crate) struct Detokenizer {
    track: Track,
    tokenizer: Option<Tokenizer>,
    captures: Captures,
    bulletins: Input<Bulletin>,
    readers: HashMap<u64, Reader>,
    /// Where a sequence that has heard enough is given up.
    cancels: Sender<u64>,
    bell: Bell,
}

impl Detokenizer {
    pub(crate) fn new(
        track: Track,
        (tokenizer, captures): (Option<Tokenizer>, Captures),
        bulletins: Input<Bulletin>,
        (cancels, bell): (Sender<u64>, Bell),
    ) -> Self {
        Self { track, tokenizer, captures, bulletins, readers: HashMap::new(), cancels, bell }
    }

    /// The logits of a captured row, and its row of each edge.
    fn split(&self, captured: Option<&[f32]>) -> (Option<Vec<f32>>, Vec<Vec<f32>>) {
        match captured.map(|row| self.captures.split(row)) {
            Some((logits, edges)) => (Some(logits), edges),
            None => (None, vec![]),
        }
    }

    fn tell(&mut self, notice: &Notice, next: Option<&Notice>, pen: Pen<'_>) {
        match notice {
            Notice::Begun { id, listener } => {
                let text = self.tokenizer.as_ref().map(TextStream::new);
                let search = Some(StopSearch::new(&listener.stops)).filter(|_| !listener.stops.is_empty());
                let reader =
                    Reader { listener: listener.clone(), text, search, tokens: 0, times: Times::begin(pen.now_ns) };
                self.readers.insert(*id, reader);
            }
            Notice::Prompt { id, position, captured, logprob } => {
                let Some(reader) = self.readers.get(id) else { return };
                let (logits, edges) = self.split(captured.as_deref());
                let (position, logprob) = (*position, logprob.clone());
                if !reader.tell(Output::Prompt(PromptRow { position, logits, logprob, edges })) {
                    self.give_up(*id, Ended::Cancelled, pen);
                }
            }
            Notice::Token { id, token, captured, logprob } => {
                let (logits, edges) = self.split(captured.as_deref());
                let Some(reader) = self.readers.get_mut(id) else { return };
                reader.times.token(pen.now_ns);
                // The end of a sequence stands right behind its last token.
                let end = next.and_then(|next| match next {
                    Notice::Ended { id: ended, reason, .. } if ended == id => Some(*reason),
                    Notice::Begun { .. }
                    | Notice::Prompt { .. }
                    | Notice::Token { .. }
                    | Notice::Ended { .. }
                    | Notice::Failed { .. } => None,
                });
                let (text, stopped) = match reader.text_of(*token, end) {
                    Ok((text, stop)) => (text, stop.map(|stop| Ended::Stop { reason: StopReason::Text(stop) })),
                    Err(error) => {
                        return self.give_up(*id, Ended::Failed(Failure::Text { why: error.to_string() }), pen);
                    }
                };
                let (token, logprob) = (*token, logprob.clone());
                let heard = reader.tell(Output::Token(Token { token, text, logits, logprob, edges }));
                if let Some(ended) = stopped {
                    self.give_up(*id, ended, pen);
                } else if !heard && end.is_none() {
                    self.give_up(*id, Ended::Cancelled, pen);
                }
            }
            Notice::Ended { id, reason, step } => {
                if let Some(reader) = self.readers.remove(id) {
                    pen.ended(*id, &reader);
                    reader.tell(Output::Ended(reader.ended(*reason, *step)));
                }
            }
            Notice::Failed { why } => self.fail_all(why, pen),
        }
    }

    fn fail_all(&mut self, why: &str, pen: Pen<'_>) {
        for (id, reader) in self.readers.drain() {
            pen.ended(id, &reader);
            reader.tell(Output::Ended(Ended::Failed(Failure::Engine { what: why.to_owned() })));
        }
    }

    /// Ends a sequence here, before the batcher knows.
    fn give_up(&mut self, id: u64, ended: Ended, pen: Pen<'_>) {
        if let Some(reader) = self.readers.remove(&id) {
            pen.ended(id, &reader);
            reader.tell(Output::Ended(ended));
        }
        // Where the queue is full the sequence runs to its end unheard.
        if self.cancels.try_send(id).is_ok() {
            self.bell.ring();
        }
    }
}

impl Reader {
    /// A stream has room for everything that its sequence can be told; says whether anybody heard it.
    fn tell(&self, output: Output) -> bool {
        self.listener.outlet.tell(output)
    }

    /// The text that a token completes, with what was held back where the token is the last; and the stop that this text ends with.
    fn text_of(&mut self, token: u32, end: Option<Finish>) -> Result<(String, Option<String>), TokenizerError> {
        self.tokens += 1;
        let Listener { include_stop, min_tokens, .. } = self.listener;
        let silent = matches!(end, Some(Finish::Stop { .. })) && !include_stop;
        let Some(stream) = &mut self.text else { return Ok((String::new(), None)) };
        let mut text = if silent { String::new() } else { stream.push(token)? };
        if let (Some(_), Some(stream)) = (end, self.text.take_if(|_| end.is_some())) {
            text.push_str(&stream.finish()?);
        }
        let Some(search) = &mut self.search else { return Ok((text, None)) };
        match search.push(&text, self.tokens > min_tokens) {
            Searched::Stopped { mut before, stop } => {
                if include_stop {
                    before.push_str(&stop);
                }
                Ok((before, Some(stop)))
            }
            Searched::On(mut given) => {
                if let Some(search) = self.search.take_if(|_| end.is_some()) {
                    given.push_str(&search.finish());
                }
                Ok((given, None))
            }
        }
    }

    /// The end of the sequence as its stream hears it.
    fn ended(&self, reason: Finish, step: u64) -> Ended {
        match reason {
            Finish::Stop { token } if self.listener.end_tokens.contains(&token) => {
                Ended::Stop { reason: StopReason::EndToken(token) }
            }
            Finish::Stop { token } => Ended::Stop { reason: StopReason::Token(token) },
            Finish::Length => Ended::Length,
            Finish::Cancelled => Ended::Cancelled,
            Finish::Fault { fault: RowFault::NonFinite, position } => {
                Ended::Failed(Failure::NonFinite { step, position })
            }
            Finish::Fault { fault: RowFault::NothingAllowed, position } => {
                Ended::Failed(Failure::NothingAllowed { position })
            }
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
                let recorder = context.recorder();
                let pen = Pen { recorder, track: self.track, now_ns: recorder.now_ns() };
                self.fail_all("the engine was stopped", pen);
                return Ok(Turn::Finished);
            }
            return Ok(Turn::Waiting(Wait::Input(self.bulletins.edge)));
        };
        let (edge, step) = (self.bulletins.edge, bulletin.turn);
        let start_ns = context.begin(step);
        context.recorder().point(self.track, start_ns, Event::Receive { edge, step });
        for (place, notice) in bulletin.notices.iter().enumerate() {
            let pen = Pen { recorder: context.recorder(), track: self.track, now_ns: start_ns };
            self.tell(notice, bulletin.notices.get(place + 1), pen);
        }
        context.finish(self.track, bulletin.notices.len() as u32, 0);
        Ok(Turn::Fired)
    }
}
