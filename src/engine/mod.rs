//! An engine: a plan that runs. Requests go in, streams of tokens come out.

mod builder;
mod captures;
mod conductor;
mod detokenizer;
pub(crate) mod devices;
mod error;
mod executors;
mod fingerprint;
mod limits;
mod output;
mod replica;
mod request;
mod stream;
mod supervision;

pub use builder::EngineBuilder;
pub use captures::CapturedEdges;
pub use devices::DeviceKind;
pub(crate) use devices::gpu_model;
pub use error::EngineError;
pub use limits::limits;
pub(crate) use limits::window;
pub use output::{Completion, Ended, Failure, Output, PromptRow, StopReason, Token, TokenLogprob};
pub use request::{Generation, RequestError, ValidRequest};
pub use stream::{NotYet, Stream};

use crate::checkpoint::{Checkpoint, GenerationDefaults};
use crate::text::Tokenizer;
use actors::batcher::BatcherSpec;
use actors::trace::{Recording, Trace};
use captures::Captures;
use conductor::Order;
use graph::plan::Plan;
use graph::{Edge, Labels};
use replica::{Control, Running};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A plan that runs. Clones are handles of the same engine, for any thread; it ends with the last of them and of its streams.
#[derive(Clone)]
pub struct Engine(Arc<Core>);

/// What the handles of an engine share.
struct Core {
    builder: EngineBuilder,
    name: String,
    plan: Plan,
    tokenizer: Option<Tokenizer>,
    defaults: GenerationDefaults,
    notes: Vec<String>,
    limits: RequestLimits,
    captures: Captures,
    /// The replicas; a request belongs to the one of its number.
    replicas: Vec<Running>,
    trace: Trace,
    next_id: AtomicU64,
}

/// What requests are checked against.
struct RequestLimits {
    batcher: BatcherSpec,
    /// Tokens of the model.
    vocabulary: u32,
    /// Whether there is room for logits.
    captures: bool,
    /// What its logits are scores of, where they are not the next token's.
    labels: Option<Arc<Labels>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine for `checkpoint`.
    pub fn builder(checkpoint: Checkpoint) -> EngineBuilder {
        EngineBuilder::new(checkpoint)
    }

    /// What the model is called.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How often it runs its plan, beside each other.
    pub fn replicas(&self) -> usize {
        self.0.replicas.len()
    }

    /// Sequences to keep under way on all replicas together.
    pub(crate) fn window(&self) -> usize {
        window(self.plan()) * self.replicas()
    }

    /// The plan it runs; of several replicas that of the first.
    pub fn plan(&self) -> &Plan {
        &self.0.plan
    }

    /// The model's tokenizer; `None` where the checkpoint has none.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.0.tokenizer.as_ref()
    }

    /// The labels of a classifier or reward model, which can be asked by [`Engine::classify`] only; `None` of a model that continues texts.
    pub fn labels(&self) -> Option<&Arc<Labels>> {
        self.0.limits.labels.as_ref()
    }

    /// What a person should hear before it runs: sources that disagree, settings that were lowered, code that is not run.
    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// What ends a text.
    pub fn defaults(&self) -> &GenerationDefaults {
        &self.0.defaults
    }

    /// The edges that rows are captured of, in the order of [`PromptRow::edges`]; see [`EngineBuilder::capture_edges`].
    pub fn edges(&self) -> &[Edge] {
        self.0.captures.edges()
    }

    /// Everything recorded since the last call.
    pub fn recording(&self) -> Recording {
        self.0.trace.collect()
    }

    /// Every setting and file that changes results; see [`EngineBuilder::fingerprint`].
    ///
    /// # Errors
    /// A file that can no longer be read.
    pub fn fingerprint(&self) -> Result<serde_json::Map<String, serde_json::Value>, crate::Error> {
        self.0.builder.fingerprint()
    }

    /// What ended the engine, or one of its replicas, once something has: every generation there fails then, whatever it asked for.
    pub fn fault(&self) -> Option<&str> {
        self.0.replicas.iter().find_map(|(control, _)| control.fault.get()).map(String::as_str)
    }

    /// The whole of a generation. Dropping the future gives it up.
    ///
    /// # Errors
    /// Why it was refused, or failed.
    pub async fn generate(&self, generation: Generation) -> Result<Completion, Failure> {
        self.validate(generation)?.submit_async().await.completion().await
    }

    /// As [`Engine::generate`], waiting for it on this thread.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn generate_blocking(&self, generation: Generation) -> Result<Completion, Failure> {
        self.validate(generation)?.submit().wait()
    }

    /// What ended the replica of this request, for whoever finds it gone.
    fn ended(&self, id: u64) -> &str {
        self.control(id).fault.get_or_init(|| "the engine has ended".into())
    }

    /// The control of the replica that a request is dealt to: one after the other, by number.
    fn control(&self, id: u64) -> &Control {
        &self.0.replicas[(id % self.0.replicas.len() as u64) as usize].0
    }

    fn batcher(&self) -> &BatcherSpec {
        &self.0.limits.batcher
    }

    fn vocabulary(&self) -> u32 {
        self.0.limits.vocabulary
    }

    fn captures(&self) -> bool {
        self.0.limits.captures
    }

    fn next_id(&self) -> u64 {
        self.0.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands an order to the conductor; waits for room. It is refused only when the control thread has ended: then the order's
    /// stream is closed with it, which its reader is told.
    fn order(&self, order: Order) {
        let control = self.control(order.spec.id);
        if control.orders.send_blocking(order).is_ok() {
            control.bell.ring();
        }
    }

    /// As [`Engine::order`], for a task.
    async fn order_async(&self, order: Order) {
        let control = self.control(order.spec.id);
        if control.orders.send(order).await.is_ok() {
            control.bell.ring();
        }
    }

    /// Asks that a sequence be given up. Never waits: where the queue is full, the next thing that the sequence is told finds its
    /// reader gone, and gives it up then.
    fn give_up(&self, id: u64) {
        let control = self.control(id);
        if control.cancels.try_send(id).is_ok() {
            control.bell.ring();
        }
    }
}

impl Drop for Core {
    /// Ends the control threads, whose dropped ports end the lanes one after the other. The last handle may be dropped by a waker on
    /// one of these threads; nobody waits for himself.
    fn drop(&mut self) {
        for (control, _) in &self.replicas {
            control.stop.store(true, Ordering::Release);
            control.bell.ring();
        }
        let me = std::thread::current().id();
        for (control, lanes) in &mut self.replicas {
            if let Some(thread) = control.thread.take().filter(|thread| thread.thread().id() != me) {
                // A panic of the control thread has been reported by the streams it left open.
                drop(thread.join());
            }
            for lane in lanes.drain(..) {
                lane.stop();
                if !lane.is_current() {
                    drop(lane.join());
                }
            }
        }
    }
}
