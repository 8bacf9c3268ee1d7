//! The same actors on one thread, by hand: every interleaving is a seed.

use super::actor::{Actor, Down, LaneContext, Turn};
use super::seat::Seat;
use crate::trace::{Clock, Recorder};
use std::sync::atomic::Ordering;

/// How long a poll that fires takes in virtual time.
const ACT_NS: u64 = 1_000;

/// Polls actors in an order drawn from a seed.
pub struct Simulator {
    seats: Vec<Seat>,
    context: LaneContext,
    random: u64,
    /// Seats that have waited since the last firing; all of them: nothing will move without an event from outside.
    stale: Vec<bool>,
    downs: Vec<Down>,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idle {
    /// Nobody can fire; after this many polls.
    After(u64),
    /// Somebody still could at the limit.
    Never,
}

impl Simulator {
    /// Seats the actors. `recorder` may be of a simulated trace: then time passes only by firing and by
    /// [`Simulator::advance`].
    pub fn new(actors: Vec<Box<dyn Actor>>, seed: u64, recorder: Recorder) -> Self {
        let stale = vec![false; actors.len()];
        let seats = actors.into_iter().map(Seat::new).collect();
        Self { seats, context: LaneContext::new(recorder), random: seed, stale, downs: Vec::new() }
    }

    /// Polls one actor of those that have not waited since the last firing; says what it did. `None` if nobody is left.
    pub fn step(&mut self) -> Option<Turn> {
        let ready = self.stale.iter().filter(|stale| !**stale).count();
        if ready == 0 {
            self.stale.fill(false);
            return None;
        }
        let drawn = (self.draw() % ready as u64) as usize;
        let mut candidates = (0..self.stale.len()).filter(|seat| !self.stale[*seat]);
        let seat = candidates.nth(drawn).expect("drawn below their number");
        match self.seats[seat].poll(&mut self.context) {
            Some(Ok(Turn::Fired)) => {
                self.stale.fill(false);
                self.advance(ACT_NS);
                Some(Turn::Fired)
            }
            Some(Ok(Turn::Finished)) => {
                // Its ports have closed, which others may be waiting for.
                self.stale.fill(false);
                self.stale[seat] = true;
                Some(Turn::Finished)
            }
            Some(Ok(turn @ Turn::Waiting(_))) => {
                self.stale[seat] = true;
                Some(turn)
            }
            Some(Err(fault)) => {
                self.stale[seat] = true;
                self.downs.push(Down { lane: "simulator".to_owned(), seat, fault });
                Some(Turn::Finished)
            }
            None => {
                self.stale[seat] = true;
                Some(Turn::Finished)
            }
        }
    }

    /// Steps until nobody can fire, at most `limit` times.
    pub fn run_until_idle(&mut self, limit: u64) -> Idle {
        self.stale.fill(false);
        for polls in 0..limit {
            if self.step().is_none() {
                return Idle::After(polls);
            }
        }
        Idle::Never
    }

    /// Lets virtual time pass; does nothing to a real clock.
    pub fn advance(&self, by_ns: u64) {
        match self.context.recorder().clock() {
            Clock::Real(_) => {}
            Clock::Virtual(time) => {
                time.fetch_add(by_ns, Ordering::Relaxed);
            }
        }
    }

    /// The faults so far.
    pub fn downs(&self) -> &[Down] {
        &self.downs
    }

    /// Replaces the actor that faulted in `seat` by what `make` makes of it. Says whether there was one.
    pub fn replace(&mut self, seat: usize, make: impl FnOnce(Box<dyn Actor>) -> Box<dyn Actor>) -> bool {
        let down = self.seats.get_mut(seat).and_then(Seat::take_down);
        let replaced = down.is_some();
        if let Some(actor) = down {
            self.seats[seat] = Seat::new(make(actor));
        }
        self.stale.fill(false);
        replaced
    }

    /// splitmix64 (Steele, Lea & Flood 2014): one multiply-xor chain a number, every seed a full period.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
