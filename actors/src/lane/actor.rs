//! What a lane runs, and what comes of a poll.

use crate::port::Bell;
use crate::trace::{Event, Recorder, Track, Wait};
use std::any::Any;
use std::error::Error;

/// A state machine on its lane: a stage, a communicator, a sampler.
///
/// `Any`, so that a supervisor that replaces an actor can take the old one, whose type it knows, apart for its ports.
pub trait Actor: Any + Send {
    /// The actor's name in faults and traces.
    fn name(&self) -> &str;

    /// The actor's track in the trace.
    fn track(&self) -> Track;

    /// Binds every port to the lane's bell; called once, before the first poll.
    fn bind(&mut self, bell: &Bell);

    /// Does one thing if it can, and says what it waits for if it cannot. Never blocks.
    fn poll(&mut self, context: &mut LaneContext) -> Result<Turn, Fault>;
}

/// What a poll did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It acted once.
    Fired,
    /// It can do nothing now.
    Waiting(Wait),
    /// It can do nothing ever again: an input has closed. The lane drops the actor, which closes its outputs in turn.
    Finished,
}

/// Why an actor stopped for good.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A stage refused a step.
    #[error("{actor}: step {step}: {cause}")]
    Refused {
        /// The actor.
        actor: String,
        /// The step.
        step: u64,
        /// What the kernels said.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The actor panicked in a step.
    #[error("{actor}: step {step}: panicked: {message}")]
    Panicked {
        /// The actor.
        actor: String,
        /// The step it had begun last.
        step: u64,
        /// The panic's message.
        message: String,
    },
    /// The actor panicked before it had begun a step.
    #[error("{actor}: panicked before its first step: {message}")]
    PanickedIdle {
        /// The actor.
        actor: String,
        /// The panic's message.
        message: String,
    },
}

impl Fault {
    /// The actor to blame.
    pub fn actor(&self) -> &str {
        match self {
            Fault::Refused { actor, .. } | Fault::Panicked { actor, .. } | Fault::PanickedIdle { actor, .. } => actor,
        }
    }

    /// The step it was in, if it had begun one.
    pub fn step(&self) -> Option<u64> {
        match self {
            Fault::Refused { step, .. } | Fault::Panicked { step, .. } => Some(*step),
            Fault::PanickedIdle { .. } => None,
        }
    }
}

/// A lane's report that one of its actors faulted and is no longer polled.
#[derive(Debug)]
pub struct Down {
    /// The lane.
    pub lane: String,
    /// The actor's place in the lane, for [`super::LaneHandle::replace`].
    pub seat: usize,
    /// What happened, with the actor's name and step.
    pub fault: Fault,
}

/// What a poll may use of its lane: the recorder, and a note of the step it is in.
#[derive(Debug)]
pub struct LaneContext {
    recorder: Recorder,
    /// Whose poll it is.
    pub(super) track: Track,
    /// The step begun in this poll, if any.
    pub(super) begun: Option<Begun>,
}

/// What the lane knows of the act that a poll began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) step: u64,
    pub(super) start_ns: u64,
    pub(super) end_ns: Option<u64>,
}

impl LaneContext {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, track: Track::default(), begun: None }
    }

    /// Where to record what the lane does not see.
    #[inline]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Notes that the actor now acts on `step`: a panic from here on names it. Returns the time.
    #[inline]
    pub fn begin(&mut self, step: u64) -> u64 {
        let start_ns = self.recorder.now_ns();
        self.begun = Some(Begun { step, start_ns, end_ns: None });
        self.recorder.board().acts(self.track, step, start_ns);
        start_ns
    }

    /// Records the act begun last as done. Call before sending what it made. Returns the time.
    #[inline]
    pub fn finish(&mut self, track: Track, rows: u32, bytes: u64) -> u64 {
        let end_ns = self.recorder.now_ns();
        if let Some(begun) = &mut self.begun {
            begun.end_ns = Some(end_ns);
            self.recorder.span(track, begun.start_ns, end_ns, Event::Act { step: begun.step, rows, bytes });
        }
        end_ns
    }
}
