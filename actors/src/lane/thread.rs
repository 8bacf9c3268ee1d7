//! The thread under a lane: polls round-robin, spins briefly, then sleeps until its bell rings.

use super::actor::{Actor, Down, LaneContext, Turn};
use super::seat::Seat;
use crate::port::Bell;
use crate::trace::{Recorder, Wait};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use kernels::STACK_BYTES;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Orders a lane may have pending; they are rare, and it looks at them once a pass.
pub const ORDERS_MAX: usize = 16;
/// How long a lane sleeps while an actor waits for something no bell announces.
const OUTSIDE_SLEEP: Duration = Duration::from_micros(50);

/// How a lane runs.
pub struct LaneSpec {
    /// Its name, for the thread and for faults.
    pub name: String,
    /// Runs first on the lane's thread: pins it to its cores, sets its priority.
    pub prepare: Option<Box<dyn FnOnce() + Send>>,
    /// How long to poll on when nobody can fire. Zero where lanes outnumber cores: spinning would take a core from work.
    pub spin: Duration,
    /// The lane's pen in the trace.
    pub recorder: Recorder,
    /// Hears of each actor that faults, on the lane's thread; must not block.
    pub on_down: Box<dyn FnMut(Down) + Send>,
}

/// A lane that is not running yet; see [`Lane::spawn`].
pub struct Lane {
    name: String,
    seats: Vec<Seat>,
    context: LaneContext,
    bell: Bell,
    spin: Duration,
    on_down: Box<dyn FnMut(Down) + Send>,
    orders: Receiver<Order>,
    gauge: LaneGauge,
    stop: Arc<AtomicBool>,
}

type Successor = Box<dyn FnOnce(Box<dyn Actor>) -> Box<dyn Actor> + Send>;

struct Order {
    seat: usize,
    make: Successor,
}

/// A running lane. Dropped, it tells the lane to stop and does not wait for it.
pub struct LaneHandle {
    thread: Option<JoinHandle<Vec<Box<dyn Actor>>>>,
    bell: Bell,
    orders: LaneOrders,
    gauge: LaneGauge,
    stop: Arc<AtomicBool>,
}

/// Gives a running lane orders, from any thread and for as long as anybody likes.
#[derive(Clone)]
pub struct LaneOrders {
    bell: Bell,
    orders: Sender<Order>,
}

impl std::fmt::Debug for LaneOrders {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LaneOrders").field("pending", &self.orders.len()).finish()
    }
}

/// Whether a lane makes progress, readable from any thread: busy with a beat that stands still is stalled.
#[derive(Clone, Debug, Default)]
pub struct LaneGauge {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    beat: AtomicU64,
    /// The seat being polled plus one; 0 between polls.
    polled: AtomicU32,
    sleeps: AtomicU64,
}

impl LaneGauge {
    /// Firings so far.
    pub fn beat(&self) -> u64 {
        self.counts.beat.load(Ordering::Relaxed)
    }

    /// The seat that is being polled now.
    pub fn polled_seat(&self) -> Option<usize> {
        (self.counts.polled.load(Ordering::Relaxed) as usize).checked_sub(1)
    }

    /// How often the lane has gone to sleep.
    pub fn sleeps(&self) -> u64 {
        self.counts.sleeps.load(Ordering::Relaxed)
    }

    /// Only the lane writes, so a load and a store do: no locked instruction on the way.
    fn bump(count: &AtomicU64) {
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Why a lane could not take an order.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// Too many at once.
    #[error("a lane holds at most {ORDERS_MAX} orders it has not carried out")]
    Full,
    /// The lane has ended.
    #[error("the lane has ended")]
    Ended,
}

/// What a round over all seats came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pass {
    Moved,
    Waiting { outside: bool },
    Finished,
}

impl Lane {
    /// Binds the actors to a bell of their own and starts the thread that runs them.
    pub fn spawn(spec: LaneSpec, mut actors: Vec<Box<dyn Actor>>) -> std::io::Result<LaneHandle> {
        let LaneSpec { name, prepare, spin, recorder, on_down } = spec;
        let bell = Bell::thread();
        actors.iter_mut().for_each(|actor| actor.bind(&bell));
        let (sender, orders) = bounded(ORDERS_MAX);
        let (gauge, stop) = (LaneGauge::default(), Arc::new(AtomicBool::new(false)));
        let lane = Lane {
            name: name.clone(),
            seats: actors.into_iter().map(Seat::new).collect(),
            context: LaneContext::new(recorder),
            bell: bell.clone(),
            spin,
            on_down,
            orders,
            gauge: gauge.clone(),
            stop: stop.clone(),
        };
        let thread = Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
            if let Some(prepare) = prepare {
                prepare();
            }
            lane.run()
        })?;
        let orders = LaneOrders { bell: bell.clone(), orders: sender };
        Ok(LaneHandle { thread: Some(thread), bell, orders, gauge, stop })
    }

    /// Runs until told to stop or until every actor has finished; gives the others back.
    fn run(mut self) -> Vec<Box<dyn Actor>> {
        self.bell.attach();
        let mut idle_since: Option<Instant> = None;
        while !self.stop.load(Ordering::Relaxed) {
            match self.pass() {
                Pass::Moved => idle_since = None,
                Pass::Finished => break,
                Pass::Waiting { .. } if self.spins_on(&mut idle_since) => std::hint::spin_loop(),
                Pass::Waiting { .. } => {
                    self.sleep();
                    idle_since = None;
                }
            }
        }
        for seat in &mut self.seats {
            seat.close(&self.context);
        }
        self.seats.into_iter().filter_map(Seat::into_actor).collect()
    }

    fn spins_on(&self, idle_since: &mut Option<Instant>) -> bool {
        !self.spin.is_zero() && idle_since.get_or_insert_with(Instant::now).elapsed() < self.spin
    }

    /// Arms the bell, looks at everything once more, and parks.
    fn sleep(&mut self) {
        self.bell.arm();
        if self.stop.load(Ordering::Relaxed) {
            return self.bell.disarm();
        }
        match self.pass() {
            Pass::Moved | Pass::Finished => self.bell.disarm(),
            Pass::Waiting { outside } => {
                LaneGauge::bump(&self.gauge.counts.sleeps);
                if outside {
                    self.bell.park_at_most(OUTSIDE_SLEEP);
                } else {
                    self.bell.park();
                }
            }
        }
    }

    /// Carries out orders, then polls every actor once.
    fn pass(&mut self) -> Pass {
        let (mut moved, mut outside) = (self.obey(), false);
        for index in 0..self.seats.len() {
            self.gauge.counts.polled.store(index as u32 + 1, Ordering::Relaxed);
            match self.seats[index].poll(&mut self.context) {
                None => {}
                Some(Ok(Turn::Fired)) => {
                    LaneGauge::bump(&self.gauge.counts.beat);
                    moved = true;
                }
                Some(Ok(Turn::Finished)) => moved = true,
                Some(Ok(Turn::Waiting(Wait::Outside(_)))) => outside = true,
                Some(Ok(Turn::Waiting(Wait::Input(_) | Wait::Credit(_)))) => {}
                Some(Err(fault)) => (self.on_down)(Down { lane: self.name.clone(), seat: index, fault }),
            }
        }
        self.gauge.counts.polled.store(0, Ordering::Relaxed);
        if moved {
            Pass::Moved
        } else if self.seats.iter().all(Seat::is_finished) {
            Pass::Finished
        } else {
            Pass::Waiting { outside }
        }
    }

    /// Whether there was an order.
    fn obey(&mut self) -> bool {
        let mut moved = false;
        while let Ok(Order { seat, make }) = self.orders.try_recv() {
            if let Some(actor) = self.seats.get_mut(seat).and_then(Seat::take_down) {
                let mut successor = make(actor);
                successor.bind(&self.bell);
                self.seats[seat] = Seat::new(successor);
            }
            moved = true;
        }
        moved
    }
}

impl LaneOrders {
    /// Replaces the actor that faulted in `seat` by what `make` makes of it, on the lane's thread: the successor can take
    /// over its ports, or be the same actor, which then acts its step again. Does nothing if nobody is down there.
    ///
    /// # Errors
    /// The lane has ended, or has more orders pending than it takes.
    pub fn replace(
        &self,
        seat: usize,
        make: impl FnOnce(Box<dyn Actor>) -> Box<dyn Actor> + Send + 'static,
    ) -> Result<(), OrderError> {
        match self.orders.try_send(Order { seat, make: Box::new(make) }) {
            Ok(()) => {
                self.bell.ring();
                Ok(())
            }
            Err(TrySendError::Full(_)) => Err(OrderError::Full),
            Err(TrySendError::Disconnected(_)) => Err(OrderError::Ended),
        }
    }
}

impl LaneHandle {
    /// Tells the lane to stop after the polls it is in; returns at once.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    /// Waits until the lane has ended; gives back the actors that had not finished, with whatever they hold.
    pub fn join(mut self) -> Vec<Box<dyn Actor>> {
        match self.thread.take().expect("only join takes the thread").join() {
            Ok(actors) => actors,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    /// Whether the caller is the lane's own thread.
    pub fn is_current(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| thread.thread().id() == std::thread::current().id())
    }

    /// Whether the lane's thread has ended.
    pub fn is_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Where the lane takes orders.
    pub fn orders(&self) -> &LaneOrders {
        &self.orders
    }

    /// The lane's progress.
    pub fn gauge(&self) -> LaneGauge {
        self.gauge.clone()
    }
}

impl Drop for LaneHandle {
    fn drop(&mut self) {
        self.stop();
    }
}
