//! The two ends of a generation's stream: what it is told by, and what its caller reads, by waiting or by polling.

use super::{Completion, Ended, Engine, Failure, Output, RequestError};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use futures_core::Stream as AsyncStream;
use futures_util::task::AtomicWaker;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// What both ends know.
#[derive(Debug, Default)]
struct Shared {
    /// The task that polls the stream.
    waker: AtomicWaker,
    /// Whether the reader is gone.
    abandoned: AtomicBool,
}

/// The end that a stream is told by. Clones tell the same one.
#[derive(Clone, Debug)]
pub(super) struct Outlet(Arc<Teller>);

#[derive(Debug)]
struct Teller {
    outputs: Sender<Output>,
    /// Behind the sender, which has to be gone when the reader looks again.
    shared: WakesWhenDropped,
}

#[derive(Debug)]
struct WakesWhenDropped(Arc<Shared>);

impl Drop for WakesWhenDropped {
    fn drop(&mut self) {
        self.0.waker.wake();
    }
}

impl Outlet {
    /// Both ends of the stream of a sequence that can be told `outputs_max` things.
    pub(super) fn open(engine: Engine, id: u64, outputs_max: usize) -> (Self, Stream) {
        let (outputs, told) = bounded(outputs_max);
        let shared = Arc::<Shared>::default();
        let outlet = Self(Arc::new(Teller { outputs, shared: WakesWhenDropped(shared.clone()) }));
        (outlet, Stream { engine, id, told, shared, over: false })
    }

    /// Tells the reader, for whom there is always room; says whether it is still there.
    pub(super) fn tell(&self, output: Output) -> bool {
        let heard = self.0.outputs.try_send(output).is_ok();
        self.0.shared.0.waker.wake();
        heard
    }

    /// Whether nobody reads any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.shared.0.abandoned.load(Ordering::Relaxed)
    }
}

/// What becomes of one generation, as it happens. Dropping it gives the generation up.
///
/// It is an iterator, which waits, and a [`futures_core::Stream`], which does not; both end behind [`Output::Ended`].
pub struct Stream {
    engine: Engine,
    id: u64,
    told: Receiver<Output>,
    shared: Arc<Shared>,
    over: bool,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).field("over", &self.over).finish_non_exhaustive()
    }
}

/// Nothing was told in the time given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotYet;

impl Stream {
    /// The stream of a request that is never begun.
    pub(super) fn refused(engine: Engine, error: RequestError) -> Self {
        let (outlet, stream) = Outlet::open(engine, u64::MAX, 1);
        outlet.tell(Output::Ended(Ended::Failed(Failure::Refused(error))));
        stream
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The next output if it comes within `wait`, else [`NotYet`]; `None` behind the end.
    pub fn next_within(&mut self, wait: Duration) -> Result<Option<Output>, NotYet> {
        if self.over {
            return Ok(None);
        }
        match self.told.recv_timeout(wait) {
            Ok(output) => Ok(Some(self.heard(output))),
            Err(RecvTimeoutError::Timeout) => Err(NotYet),
            Err(RecvTimeoutError::Disconnected) => Ok(Some(self.cut())),
        }
    }

    /// Waits for the end, and gives all of it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn wait(self) -> Result<Completion, Failure> {
        let mut whole = Completion::begin();
        for output in self {
            whole.take(output)?;
        }
        Ok(whole)
    }

    /// Gives all of it once it has ended. Dropping the future gives the generation up.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn completion(mut self) -> Result<Completion, Failure> {
        let mut whole = Completion::begin();
        while let Some(output) = std::future::poll_fn(|context| Pin::new(&mut self).poll_next(context)).await {
            whole.take(output)?;
        }
        Ok(whole)
    }

    fn heard(&mut self, output: Output) -> Output {
        self.over = matches!(output, Output::Ended(_));
        output
    }

    /// What is heard when the other end is gone, which only happens when the engine is.
    fn cut(&mut self) -> Output {
        let what = self.engine.ended(self.id).to_owned();
        self.heard(Output::Ended(Ended::Failed(Failure::Engine { what })))
    }
}

impl Iterator for Stream {
    type Item = Output;

    /// Waits for the next output; `None` behind the end.
    fn next(&mut self) -> Option<Output> {
        if self.over {
            return None;
        }
        match self.told.recv() {
            Ok(output) => Some(self.heard(output)),
            Err(_) => Some(self.cut()),
        }
    }
}

impl AsyncStream for Stream {
    type Item = Output;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Output>> {
        let stream = self.get_mut();
        if stream.over {
            return Poll::Ready(None);
        }
        // Looked at again behind the registration: what was told between the two looks rang for nobody.
        for registered in [false, true] {
            match stream.told.try_recv() {
                Ok(output) => return Poll::Ready(Some(stream.heard(output))),
                Err(TryRecvError::Disconnected) => return Poll::Ready(Some(stream.cut())),
                Err(TryRecvError::Empty) if registered => {}
                Err(TryRecvError::Empty) => stream.shared.waker.register(context.waker()),
            }
        }
        Poll::Pending
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.over {
            self.shared.abandoned.store(true, Ordering::Relaxed);
            self.engine.give_up(self.id);
        }
    }
}
