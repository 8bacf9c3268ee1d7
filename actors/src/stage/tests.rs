use super::*;
use crate::lane::Simulator;
use crate::port::channel;
use crate::trace::Trace;

/// One buffer of the tests.
type Row = Vec<f32>;

struct Double;

impl Stage<Row> for Double {
    fn act(&mut self, firing: Firing<'_, Row>) -> Result<(), Refusal> {
        if firing.ticket.step.rows == 13 {
            return Err("13 rows are refused".into());
        }
        for (to, from) in firing.outputs[0].iter_mut().zip(firing.inputs[0].iter()) {
            *to = 2.0 * from;
        }
        Ok(())
    }
}

struct Bench {
    tickets: Outbox<Ticket>,
    feed: Outbox<Row>,
    result: Inbox<Row>,
    simulator: Simulator,
    trace: Trace,
}

fn bench(credits_out: usize) -> Bench {
    let trace = Trace::simulated();
    let (feeder, track, sink) =
        (trace.track("test", "feed"), trace.track("cpu:0", "double"), trace.track("test", "sink"));
    let (tickets, mut ticket_in) = channel(vec![Ticket::default(); 2], 1);
    let (feed, mut rows_in) = channel(vec![vec![0.0f32; 2]; 2], 1);
    let (outbox, mut result) = channel(vec![vec![0.0f32; 2]; credits_out], 1);
    let cell = Cell::new(
        "double",
        track,
        Double,
        Input { inbox: ticket_in.remove(0), edge: trace.edge("ticket", feeder, track) },
        vec![Input { inbox: rows_in.remove(0), edge: trace.edge("rows", feeder, track) }],
        vec![Output { outbox, edges: vec![trace.edge("rows", track, sink)] }],
    );
    let simulator = Simulator::new(vec![Box::new(cell)], 1, trace.recorder(64));
    Bench { tickets, feed, result: result.remove(0), simulator, trace }
}

impl Bench {
    fn send(&mut self, id: u64, rows: u32, value: f32) {
        let mut ticket = self.tickets.try_slot().expect("a ticket is home");
        (ticket.step.id, ticket.step.rows) = (id, rows);
        ticket.send();
        let mut row = self.feed.try_slot().expect("a row is home");
        row.fill(value);
        row.send();
    }
}

#[test]
fn a_cell_names_what_it_waits_for_and_fires_when_it_has_everything() {
    let mut bench = bench(1);
    let waits = |turn| match turn {
        Some(Turn::Waiting(wait)) => wait,
        other => panic!("wanted a wait, got {other:?}"),
    };
    let name = |bench: &Bench, wait| bench.trace.collect().wait(wait);
    let wait = waits(bench.simulator.step());
    assert_eq!(name(&bench, wait), "input from feed");
    bench.send(1, 1, 1.0);
    bench.send(2, 1, 3.0);
    bench.simulator.run_until_idle(100);
    let wait = waits(bench.simulator.step());
    assert_eq!(name(&bench, wait), "credit of sink");
    assert_eq!(*bench.result.try_recv().unwrap(), vec![2.0, 2.0]);
    bench.simulator.run_until_idle(100);
    assert_eq!(*bench.result.try_recv().unwrap(), vec![6.0, 6.0]);
    assert_eq!(bench.feed.free(), 2, "consumed inputs went home");
}

#[test]
fn a_refused_step_sends_nothing_names_itself_and_keeps_its_inputs() {
    let mut bench = bench(1);
    bench.send(7, 13, 1.0);
    bench.simulator.run_until_idle(100);
    let down = &bench.simulator.downs()[0];
    assert_eq!(down.fault.to_string(), "double: step 7: 13 rows are refused");
    assert_eq!((down.fault.actor(), down.fault.step()), ("double", Some(7)));
    assert_eq!(bench.result.depth(), 0);
    assert_eq!(bench.feed.free(), 1);
}

/// Copies, and refuses nothing.
struct Copies;

impl Stage<Row> for Copies {
    fn act(&mut self, firing: Firing<'_, Row>) -> Result<(), Refusal> {
        firing.outputs[0].copy_from_slice(&firing.inputs[0]);
        Ok(())
    }
}

#[test]
fn a_successor_takes_over_the_ports_and_the_step_that_failed() {
    let mut bench = bench(1);
    bench.send(7, 13, 5.0);
    bench.simulator.run_until_idle(100);
    let restaged = bench.simulator.replace(0, |old| {
        let old: Box<dyn std::any::Any> = old;
        Box::new(old.downcast::<Cell<Double, Row>>().expect("the cell of the test").restage(Copies))
    });
    assert!(restaged);
    bench.simulator.run_until_idle(100);
    assert_eq!(*bench.result.try_recv().unwrap(), vec![5.0, 5.0]);
}

#[test]
fn a_cell_whose_input_closed_finishes_and_closes_its_outputs() {
    let mut bench = bench(2);
    bench.send(1, 1, 1.0);
    drop((bench.tickets, bench.feed));
    bench.simulator.run_until_idle(100);
    assert!(!bench.result.is_closed(), "the last message is still to be received");
    drop(bench.result.try_recv().unwrap());
    assert!(bench.result.is_closed());
}
