//! Every interleaving of the ports' protocol, at most three threads. Empty without `--cfg loom`:
//! `RUSTFLAGS="--cfg loom" cargo test -p millstream-actors --test loom_port --release --target-dir target-loom`
#![cfg(loom)]

use actors::port::{Bell, Delivery, Inbox, Outbox, channel};
use loom::model::Builder;
use loom::thread;

/// Explores `model` with at most `preemptions` forced switches, which bounds the time of the larger models.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Waits as a lane does: look, arm, look again, park.
fn receive<T>(inbox: &mut Inbox<T>, bell: &Bell) -> Option<Delivery<T>> {
    loop {
        if let Some(delivery) = inbox.try_recv() {
            return Some(delivery);
        }
        if inbox.is_closed() {
            return None;
        }
        bell.sleep_unless(|| inbox.depth() > 0 || inbox.is_closed());
    }
}

/// Waits for a credit as a lane does and sends `value`.
fn send(outbox: &mut Outbox<u32>, bell: &Bell, value: u32) {
    loop {
        if let Some(mut slot) = outbox.try_slot() {
            *slot = value;
            slot.send();
            return;
        }
        bell.sleep_unless(|| outbox.free() > 0);
    }
}

fn bound_pair(credits: usize) -> (Outbox<u32>, Bell, Inbox<u32>, Bell) {
    let (mut outbox, mut inboxes) = channel(vec![0u32; credits], 1);
    let mut inbox = inboxes.pop().expect("one reader");
    let (writer, reader) = (Bell::thread(), Bell::thread());
    outbox.bind_writer(writer.clone());
    inbox.bind_reader(reader.clone());
    (outbox, writer, inbox, reader)
}

#[test]
fn a_message_wakes_a_sleeping_reader() {
    explore(4, || {
        let (mut outbox, _writer, mut inbox, reader) = bound_pair(1);
        let receiver = thread::spawn(move || {
            reader.attach();
            assert_eq!(*receive(&mut inbox, &reader).expect("one message is sent"), 7);
        });
        let mut slot = outbox.try_slot().expect("the only credit is home");
        *slot = 7;
        slot.send();
        receiver.join().expect("the reader returns");
    });
}

#[test]
fn a_credit_that_comes_home_wakes_a_sleeping_writer() {
    explore(3, || {
        let (mut outbox, writer, mut inbox, reader) = bound_pair(1);
        let receiver = thread::spawn(move || {
            reader.attach();
            for wanted in 0..2 {
                assert_eq!(*receive(&mut inbox, &reader).expect("two messages are sent"), wanted);
            }
        });
        writer.attach();
        for value in 0..2 {
            send(&mut outbox, &writer, value);
        }
        receiver.join().expect("the reader returns");
        assert_eq!(outbox.free(), 1);
    });
}

#[test]
fn one_buffer_never_has_two_writers_and_two_readers_share_it_till_the_last_drop() {
    explore(3, || {
        let (mut outbox, mut inboxes) = channel(vec![0u32], 2);
        let writer = Bell::thread();
        outbox.bind_writer(writer.clone());
        let readers: Vec<_> = inboxes
            .drain(..)
            .map(|mut inbox| {
                thread::spawn(move || {
                    // Loom's cell faults if this read is not ordered before the second write below.
                    if let Some(delivery) = inbox.try_recv() {
                        let copy = delivery.clone();
                        drop(delivery);
                        assert!(*copy == 1 || *copy == 2);
                    }
                    inbox
                })
            })
            .collect();
        writer.attach();
        send(&mut outbox, &writer, 1);
        if let Some(mut slot) = outbox.try_slot() {
            *slot = 2;
            slot.send();
        }
        for reader in readers {
            let mut inbox = reader.join().expect("a reader returns");
            while let Some(delivery) = inbox.try_recv() {
                drop(delivery);
            }
        }
        assert_eq!(outbox.free(), 1, "the last drop over both readers sent the buffer home");
    });
}

#[test]
fn a_delivery_dropped_on_another_thread_hands_its_buffer_to_the_next_writer() {
    explore(4, || {
        let (mut outbox, writer, mut inbox, _reader) = bound_pair(1);
        send(&mut outbox, &writer, 1);
        let first = inbox.try_recv().expect("one message was sent");
        let second = first.clone();
        let one = thread::spawn(move || assert_eq!(*first, 1));
        let two = thread::spawn(move || assert_eq!(*second, 1));
        writer.attach();
        send(&mut outbox, &writer, 2);
        assert_eq!(*inbox.try_recv().expect("the second message was sent"), 2);
        one.join().expect("a reader returns");
        two.join().expect("a reader returns");
    });
}

#[test]
fn an_unsent_slot_wakes_the_writer_too() {
    explore(4, || {
        let (mut outbox, writer, mut inbox, _reader) = bound_pair(1);
        let mut slot = outbox.try_slot().expect("the only credit is home");
        *slot = 9;
        let dropper = thread::spawn(move || drop(slot));
        writer.attach();
        send(&mut outbox, &writer, 1);
        assert_eq!(*inbox.try_recv().expect("one message was sent"), 1);
        assert!(inbox.try_recv().is_none(), "the unsent slot is no message");
        dropper.join().expect("the dropper returns");
    });
}

#[test]
fn closing_wakes_a_sleeping_reader_after_the_last_message() {
    explore(4, || {
        let (mut outbox, writer, mut inbox, reader) = bound_pair(1);
        let receiver = thread::spawn(move || {
            reader.attach();
            let mut seen = 0;
            while let Some(delivery) = receive(&mut inbox, &reader) {
                seen += *delivery;
            }
            assert_eq!(seen, 5);
        });
        send(&mut outbox, &writer, 5);
        drop(outbox);
        receiver.join().expect("the reader returns");
    });
}

#[test]
fn a_message_on_its_way_to_a_reader_that_leaves_comes_home() {
    explore(4, || {
        let (mut outbox, writer, inbox, _reader) = bound_pair(1);
        let leaver = thread::spawn(move || drop(inbox));
        send(&mut outbox, &writer, 1);
        leaver.join().expect("the reader leaves");
        assert_eq!(outbox.free(), 1);
    });
}

#[test]
fn two_ringers_of_one_bell_lose_no_wake_up() {
    explore(3, || {
        let bell = Bell::thread();
        let mut inboxes = Vec::new();
        let mut senders = Vec::new();
        for value in 1..=2u32 {
            let (mut outbox, mut one) = channel(vec![0u32], 1);
            let mut inbox = one.pop().expect("one reader");
            inbox.bind_reader(bell.clone());
            inboxes.push(inbox);
            senders.push(thread::spawn(move || {
                let mut slot = outbox.try_slot().expect("the only credit is home");
                *slot = value;
                slot.send();
            }));
        }
        bell.attach();
        let mut sum = 0;
        while sum < 3 {
            for inbox in &mut inboxes {
                sum += inbox.try_recv().map_or(0, |delivery| *delivery);
            }
            if sum < 3 {
                bell.sleep_unless(|| inboxes.iter().any(|inbox| inbox.depth() > 0));
            }
        }
        senders.into_iter().for_each(|sender| sender.join().expect("a sender returns"));
    });
}
