use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

fn single<T>(buffers: Vec<T>) -> (Outbox<T>, Inbox<T>) {
    let (outbox, mut inboxes) = channel(buffers, 1);
    (outbox, inboxes.remove(0))
}

fn send(outbox: &mut Outbox<u64>, value: u64) {
    let mut slot = outbox.try_slot().expect("a credit is home");
    *slot = value;
    slot.send();
}

#[test]
fn a_credit_comes_home_only_after_the_last_reader() {
    let (mut outbox, mut inboxes) = channel(vec![0u64], 2);
    send(&mut outbox, 7);
    let first = inboxes[0].try_recv().unwrap();
    let second = inboxes[1].try_recv().unwrap();
    let copy = second.clone();
    drop(first);
    drop(second);
    assert!(outbox.try_slot().is_none());
    assert_eq!(*copy, 7);
    drop(copy);
    drop(outbox.try_slot().unwrap());
    assert_eq!(outbox.free(), 1, "an unsent slot gives its credit back");
}

#[test]
fn a_channel_closes_after_the_outbox_the_slots_and_the_messages() {
    let (mut outbox, mut inbox) = single(vec![0u64; 2]);
    let slot = outbox.try_slot().unwrap();
    drop(outbox);
    assert!(!inbox.is_closed(), "a slot is still out");
    slot.send();
    assert!(!inbox.is_closed(), "a message is still to be received");
    drop(inbox.try_recv().unwrap());
    assert!(inbox.is_closed());
}

#[test]
fn a_reader_that_left_holds_no_credit() {
    let (mut outbox, mut inboxes) = channel(vec![0u64], 2);
    drop(inboxes.pop());
    send(&mut outbox, 1);
    drop(inboxes[0].try_recv().unwrap());
    assert_eq!(outbox.free(), 1);
    send(&mut outbox, 2);
    assert!(!outbox.is_deserted());
    drop(inboxes);
    assert!(outbox.is_deserted());
    assert_eq!(outbox.free(), 1);
}

#[test]
fn a_callback_is_called_once_until_it_is_armed_again() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let (mut outbox, mut inbox) = single(vec![0u64; 4]);
    let bell = Bell::callback(Box::new(|| {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }));
    inbox.bind_reader(bell.clone());
    send(&mut outbox, 1);
    send(&mut outbox, 2);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    bell.arm();
    send(&mut outbox, 3);
    assert_eq!(CALLS.load(Ordering::Relaxed), 2);
}

#[test]
#[should_panic(expected = "bound to one bell for good")]
fn an_end_cannot_change_its_bell() {
    let (mut outbox, _inbox) = single(vec![0u64]);
    let bell = Bell::thread();
    outbox.bind_writer(bell.clone());
    outbox.bind_writer(bell);
    outbox.bind_writer(Bell::thread());
}

#[test]
fn a_hundred_thousand_messages_cross_threads_in_order() {
    let (mut outbox, mut inbox) = single(vec![0u64; 3]);
    let (writer, reader) = (Bell::thread(), Bell::thread());
    outbox.bind_writer(writer.clone());
    inbox.bind_reader(reader.clone());
    let receiver = thread::spawn(move || {
        reader.attach();
        let mut wanted = 0;
        while !inbox.is_closed() {
            match inbox.try_recv() {
                Some(delivery) => {
                    assert_eq!(*delivery, wanted);
                    wanted += 1;
                }
                None => {
                    reader.sleep_unless(|| inbox.depth() > 0 || inbox.is_closed());
                }
            }
        }
        wanted
    });
    writer.attach();
    for value in 0..100_000 {
        while outbox.free() == 0 {
            writer.sleep_unless(|| outbox.free() > 0);
        }
        send(&mut outbox, value);
    }
    drop(outbox);
    assert_eq!(receiver.join().unwrap(), 100_000);
}

/// What a test may do next; numbers choose among what is there.
#[derive(Clone, Copy, Debug)]
enum Move {
    Take,
    Send(usize),
    Discard(usize),
    Receive(usize),
    Copy(usize, usize),
    Drop(usize, usize),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => Just(Move::Take),
        3 => any::<usize>().prop_map(Move::Send),
        1 => any::<usize>().prop_map(Move::Discard),
        4 => any::<usize>().prop_map(Move::Receive),
        1 => any::<(usize, usize)>().prop_map(|(reader, which)| Move::Copy(reader, which)),
        3 => any::<(usize, usize)>().prop_map(|(reader, which)| Move::Drop(reader, which)),
    ]
}

/// The channel under test beside the plainest model of it: what was sent, in order, a queue a reader.
struct Harness {
    outbox: Outbox<u64>,
    inboxes: Vec<Inbox<u64>>,
    slots: Vec<Slot<u64>>,
    held: Vec<Vec<(Delivery<u64>, u64)>>,
    expected: Vec<VecDeque<u64>>,
    next: u64,
}

impl Harness {
    fn new(credits: usize, readers: usize) -> Self {
        let (outbox, inboxes) = channel(vec![0; credits], readers);
        let held = (0..readers).map(|_| Vec::new()).collect();
        Self { outbox, inboxes, slots: vec![], held, expected: vec![VecDeque::new(); readers], next: 1 }
    }

    fn apply(&mut self, step: Move) {
        match step {
            Move::Take => self.slots.extend(self.outbox.try_slot()),
            Move::Send(which) if !self.slots.is_empty() => {
                let mut slot = self.slots.remove(which % self.slots.len());
                *slot = self.next;
                slot.send();
                self.expected.iter_mut().for_each(|queue| queue.push_back(self.next));
                self.next += 1;
            }
            Move::Discard(which) if !self.slots.is_empty() => {
                drop(self.slots.remove(which % self.slots.len()));
            }
            Move::Receive(reader) => {
                let reader = reader % self.inboxes.len();
                let got = self.inboxes[reader].try_recv();
                let wanted = self.expected[reader].pop_front();
                assert_eq!(got.as_deref().copied(), wanted);
                self.held[reader].extend(got.zip(wanted));
            }
            Move::Copy(reader, which) => {
                let held = &mut self.held[reader % self.inboxes.len()];
                if let Some((delivery, value)) = held.get(which % held.len().max(1)) {
                    let copy = (delivery.clone(), *value);
                    held.push(copy);
                }
            }
            Move::Drop(reader, which) => {
                let held = &mut self.held[reader % self.inboxes.len()];
                if !held.is_empty() {
                    drop(held.swap_remove(which % held.len()));
                }
            }
            Move::Send(_) | Move::Discard(_) => {}
        }
        for (delivery, value) in self.held.iter().flatten() {
            assert_eq!(**delivery, *value, "nobody wrote into a buffer on loan");
        }
    }

    /// Lets everything go; every credit must be home then.
    fn settle(mut self) {
        self.slots.clear();
        self.held.iter_mut().for_each(Vec::clear);
        for (inbox, expected) in self.inboxes.iter_mut().zip(&mut self.expected) {
            while let Some(delivery) = inbox.try_recv() {
                assert_eq!(Some(*delivery), expected.pop_front());
            }
            assert!(expected.is_empty(), "nothing is lost");
        }
        assert_eq!(self.outbox.free(), self.outbox.credits(), "an idle channel has all its credits home");
    }
}

proptest! {
    #[test]
    fn any_interleaving_keeps_order_loses_nothing_and_brings_all_credits_home(
        credits in 1usize..5,
        readers in 1usize..4,
        steps in prop::collection::vec(moves(), 0..200),
    ) {
        let mut harness = Harness::new(credits, readers);
        steps.into_iter().for_each(|step| harness.apply(step));
        harness.settle();
    }
}
