//! One replica of an engine: its control thread, its text lane and the lanes of its devices.

use super::EngineError;
use super::captures::Captures;
use super::conductor::{Conductor, Order, Signal};
use super::detokenizer::{Bulletin, Detokenizer};
use super::supervision::{Lanes, Supervisor};
use crate::text::Tokenizer;
use actix::Actor as _;
use actors::dispatcher::Dispatcher;
use actors::lane::{Down, Lane, LaneHandle, LaneSpec};
use actors::port::{Bell, channel};
use actors::stage::{Input, Output as StageOutput};
use actors::trace::Trace;
use actors::wiring::Wiring;
use crossbeam::channel::{Receiver, Sender, bounded};
use graph::plan::Plan;
use kernels::Team;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Records that each lane keeps: about a minute of a small model's steps.
pub(super) const TRACE_RECORDS: usize = 1 << 16;
/// How long a lane polls before it sleeps, where it has a core of its own.
const SPIN: Duration = Duration::from_micros(50);
/// Bulletins between the conductor and the detokeniser: one written, one read, two on their way.
pub(super) const BULLETINS: usize = 4;
/// Orders that wait for the conductor.
pub(super) const ORDERS: usize = 256;
/// Sequences whose text has ended that wait to be given up: the conductor takes them all in every turn.
pub(super) const CANCELS: usize = 4096;

/// A control thread and lanes, to be ended together.
pub(super) type Running = (Control, Vec<LaneHandle>);

/// Starts all actors of a plan that is wired, on a lane each device.
pub(super) fn start(
    plan: &Plan,
    wiring: Wiring,
    (teams, spin): (&[Arc<Team>], bool),
    (tokenizer, captures): (Option<Tokenizer>, Captures),
    trace: &Trace,
) -> Result<Running, EngineError> {
    let Wiring { lanes, dispatcher } = wiring;
    let (outbox, mut inboxes) = channel((0..BULLETINS).map(|_| Bulletin::default()).collect(), 1);
    let track = trace.track("text", "detokenizer");
    let edge = trace.edge("tokens", dispatcher.track(), track);
    trace.does(track, "turns tokens into text and tells the streams");
    trace.buffers(edge, BULLETINS as u32, 0);
    trace.by_turn(edge);
    // Room for all: nobody faults again before he has been restarted.
    let (report, downs) = bounded(plan.data().actors.len() + 1);
    let running = Lanes::default();
    let supervisor = Supervisor::new(running.clone());
    let bulletins_out = StageOutput { outbox, edges: vec![edge] };
    let control = Control::start(dispatcher, bulletins_out, (downs, supervisor))?;
    let bulletins = Input { inbox: inboxes.remove(0), edge };
    let back = (control.cancels.clone(), control.bell.clone());
    let detokenizer = Detokenizer::new(track, (tokenizer, captures), bulletins, back);
    let text = lane("text".into(), Duration::ZERO, trace, (&report, &control.bell));
    let mut handles = vec![Lane::spawn(text, vec![Box::new(detokenizer)]).map_err(EngineError::Thread)?];
    for ((actors, device), team) in lanes.into_iter().zip(&plan.data().devices).zip(teams) {
        let team = team.clone();
        let spin = if spin { SPIN } else { Duration::ZERO };
        let spec = LaneSpec {
            // A core that is not ours to use is no reason to stop: the lane runs where it may.
            prepare: Some(Box::new(move || drop(team.pin_caller()))),
            ..lane(device.name.clone(), spin, trace, (&report, &control.bell))
        };
        handles.push(Lane::spawn(spec, actors).map_err(EngineError::Thread)?);
    }
    let names = std::iter::once("text").chain(plan.data().devices.iter().map(|device| device.name.as_str()));
    let orders = names.zip(&handles).map(|(name, lane)| (name.to_owned(), lane.orders().clone()));
    running.set(orders.collect()).expect("set once, here");
    Ok((control, handles))
}

/// A lane whose faults the conductor hears of.
fn lane(name: String, spin: Duration, trace: &Trace, (report, bell): (&Sender<Down>, &Bell)) -> LaneSpec {
    let (report, bell) = (report.clone(), bell.clone());
    let on_down = move |down| {
        // There is room, and where the conductor is gone so is everybody who waits.
        drop(report.try_send(down));
        bell.ring();
    };
    let recorder = trace.recorder(TRACE_RECORDS);
    LaneSpec { name, prepare: None, spin, recorder, on_down: Box::new(on_down) }
}

/// The control thread of an engine.
pub(super) struct Control {
    pub(super) orders: async_channel::Sender<Order>,
    pub(super) cancels: Sender<u64>,
    pub(super) bell: Bell,
    pub(super) thread: Option<std::thread::JoinHandle<()>>,
    /// Set once: the conductor ends at the next ring.
    pub(super) stop: Arc<AtomicBool>,
    /// Why the engine failed, once it has.
    pub(super) fault: Arc<OnceLock<String>>,
}

impl Control {
    fn start(
        dispatcher: Dispatcher,
        bulletins: StageOutput<Bulletin>,
        supervision: (Receiver<Down>, Supervisor),
    ) -> Result<Self, EngineError> {
        let (orders, receiver) = async_channel::bounded(ORDERS);
        let (cancels, cancelled) = bounded(CANCELS);
        let (hand, taken) = bounded::<()>(1);
        let stop: Arc<AtomicBool> = Arc::default();
        let stopped = stop.clone();
        let target: Arc<OnceLock<actix::Addr<Conductor>>> = Arc::default();
        let wake = target.clone();
        let bell = Bell::callback(Box::new(move || {
            if let Some(addr) = wake.get() {
                // Full of other signals, each of which makes the conductor look at everything.
                drop(addr.try_send(Signal::Turn));
            }
        }));
        let own = bell.clone();
        let fault: Arc<OnceLock<String>> = Arc::default();
        let failed = fault.clone();
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || {
            let system = actix::System::new();
            system.block_on(async {
                let addr =
                    Conductor::new(dispatcher, (receiver, cancelled), (own, stopped), bulletins, (supervision, failed))
                        .start();
                let _ = target.set(addr);
                let _ = hand.send(());
            });
            if let Err(fault) = system.run() {
                eprintln!("control thread: {fault}");
            }
        })?;
        taken.recv().map_err(|_| EngineError::Ended(None))?;
        Ok(Self { orders, cancels, bell, thread: Some(thread), stop, fault })
    }
}
