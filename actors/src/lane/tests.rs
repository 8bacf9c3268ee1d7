use super::*;
use crate::port::{Bell, Inbox, Outbox, channel};
use crate::trace::{Edge, Recorder, Track, Wait};
use std::sync::mpsc;
use std::time::Duration;

/// Adds one to what comes in; panics on the number it is told to.
struct Increment {
    name: String,
    inbox: Inbox<u64>,
    outbox: Outbox<u64>,
    panics_on: Option<u64>,
}

impl Actor for Increment {
    fn name(&self) -> &str {
        &self.name
    }

    fn track(&self) -> Track {
        Track::default()
    }

    fn bind(&mut self, bell: &Bell) {
        self.inbox.bind_reader(bell.clone());
        self.outbox.bind_writer(bell.clone());
    }

    fn poll(&mut self, context: &mut LaneContext) -> Result<Turn, Fault> {
        if self.outbox.free() == 0 {
            return Ok(Turn::Waiting(Wait::Credit(Edge(1))));
        }
        let Some(delivery) = self.inbox.try_recv() else {
            return Ok(if self.inbox.is_closed() { Turn::Finished } else { Turn::Waiting(Wait::Input(Edge(0))) });
        };
        context.begin(*delivery);
        assert_ne!(self.panics_on, Some(*delivery), "told to panic");
        let mut slot = self.outbox.try_slot().expect("checked above");
        *slot = *delivery + 1;
        slot.send();
        Ok(Turn::Fired)
    }
}

/// A chain of `actors` increments with `credits` a channel, its first outbox and its last inbox.
fn chain(actors: usize, credits: usize) -> (Outbox<u64>, Vec<Increment>, Inbox<u64>) {
    let (first, mut inboxes) = channel(vec![0; credits], 1);
    let mut chain = Vec::new();
    for number in 0..actors {
        let (outbox, next) = channel(vec![0; credits], 1);
        let inbox = std::mem::replace(&mut inboxes, next).remove(0);
        chain.push(Increment { name: format!("increment {number}"), inbox, outbox, panics_on: None });
    }
    (first, chain, inboxes.remove(0))
}

fn boxed(actors: Vec<Increment>) -> Vec<Box<dyn Actor>> {
    actors.into_iter().map(|actor| Box::new(actor) as Box<dyn Actor>).collect()
}

fn spec(name: &str, spin: Duration, downs: Option<mpsc::Sender<Down>>) -> LaneSpec {
    let on_down = Box::new(move |down| {
        if let Some(downs) = &downs {
            downs.send(down).expect("the test listens");
        }
    });
    LaneSpec { name: name.into(), prepare: None, spin, recorder: Recorder::detached(), on_down }
}

/// The test's own end of a pipeline, which sleeps on its bell like a lane.
struct Ends {
    outbox: Outbox<u64>,
    inbox: Inbox<u64>,
    bell: Bell,
}

impl Ends {
    fn new(mut outbox: Outbox<u64>, mut inbox: Inbox<u64>) -> Self {
        let bell = Bell::thread();
        bell.attach();
        outbox.bind_writer(bell.clone());
        inbox.bind_reader(bell.clone());
        Self { outbox, inbox, bell }
    }

    /// Sends `0..messages` and returns what comes out.
    fn pump(&mut self, messages: u64) -> Vec<u64> {
        let (mut sent, mut results) = (0, Vec::new());
        while (results.len() as u64) < messages {
            while sent < messages
                && let Some(mut slot) = self.outbox.try_slot()
            {
                *slot = sent;
                slot.send();
                sent += 1;
            }
            results.extend(self.inbox.try_recv().map(|delivery| *delivery));
            let (outbox, inbox) = (&self.outbox, &self.inbox);
            if results.len() as u64 != messages {
                self.bell.sleep_unless(|| inbox.depth() > 0 || (sent < messages && outbox.free() > 0));
            }
        }
        results
    }
}

#[test]
fn two_lanes_pass_every_message_in_order_whether_they_spin_or_sleep() {
    for spin in [Duration::ZERO, Duration::from_micros(50)] {
        let (first, mut actors, last) = chain(6, 2);
        let second = actors.split_off(3);
        let lanes = [
            Lane::spawn(spec("lane 0", spin, None), boxed(actors)).unwrap(),
            Lane::spawn(spec("lane 1", spin, None), boxed(second)).unwrap(),
        ];
        let mut ends = Ends::new(first, last);
        assert_eq!(ends.pump(2_000), (6..2_006).collect::<Vec<_>>());
        assert_eq!(lanes[0].gauge().beat(), 6_000);
        drop(ends.outbox);
        let left: usize = lanes.into_iter().map(|lane| lane.join().len()).sum();
        assert_eq!(left, 0, "closing the first port finishes every actor and ends the lanes");
    }
}

#[test]
fn a_stopped_lane_gives_its_actors_back() {
    let (_first, actors, _last) = chain(3, 1);
    let lane = Lane::spawn(spec("lane", Duration::ZERO, None), boxed(actors)).unwrap();
    lane.stop();
    assert_eq!(lane.join().len(), 3);
}

#[test]
fn a_panic_ends_its_actor_and_no_other_and_a_successor_carries_on() {
    let (first, mut actors, last) = chain(2, 1);
    let (other_first, other, other_last) = chain(1, 1);
    actors[1].panics_on = Some(3);
    actors.extend(other);
    let (sender, downs) = mpsc::channel();
    let lane = Lane::spawn(spec("lane", Duration::ZERO, Some(sender)), boxed(actors)).unwrap();
    let mut ends = Ends::new(first, last);
    assert_eq!(ends.pump(2), [2, 3]);
    let mut slot = ends.outbox.try_slot().expect("the pipeline is empty");
    *slot = 2;
    slot.send();
    let down = downs.recv().expect("the lane reports");
    assert_eq!((down.lane.as_str(), down.seat), ("lane", 1));
    assert_eq!((down.fault.actor(), down.fault.step()), ("increment 1", Some(3)));
    assert!(down.fault.to_string().contains("step 3: panicked") && down.fault.to_string().contains("told to panic"));
    assert_eq!(Ends::new(other_first, other_last).pump(3), [1, 2, 3], "the lane goes on with the other actors");
    lane.orders()
        .replace(1, |old| {
            let old: Box<dyn std::any::Any> = old;
            let old = *old.downcast::<Increment>().expect("the actor of the test");
            Box::new(Increment { panics_on: None, ..old })
        })
        .expect("the lane runs");
    assert_eq!(ends.pump(2), [2, 3], "the message it panicked on was consumed; the next ones arrive");
    lane.stop();
    lane.join();
}

/// Sends `0..messages` into a simulated chain, whichever way the seed turns it.
fn simulate(seed: u64, messages: u64) -> Vec<u64> {
    let (mut first, actors, mut last) = chain(4, 2);
    let mut simulator = Simulator::new(boxed(actors), seed, Recorder::detached());
    let (mut sent, mut results) = (0, Vec::new());
    while (results.len() as u64) < messages {
        if sent < messages
            && let Some(mut slot) = first.try_slot()
        {
            *slot = sent;
            slot.send();
            sent += 1;
        }
        assert_ne!(simulator.run_until_idle(1_000), Idle::Never, "seed {seed}");
        results.extend(last.try_recv().map(|delivery| *delivery));
    }
    drop(first);
    simulator.run_until_idle(1_000);
    assert!(last.is_closed(), "seed {seed}");
    results
}

#[test]
fn every_seed_gives_the_same_results() {
    for seed in 0..200 {
        assert_eq!(simulate(seed, 20), (4..24).collect::<Vec<_>>(), "seed {seed}");
    }
}
