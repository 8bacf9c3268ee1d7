//! From a plan to actors with their ports: the one place where channels are made.

use crate::batcher::{Batcher, BatcherSpec};
use crate::communicator::{Collective, LocalCommunicator};
use crate::dispatcher::Dispatcher;
use crate::lane::Actor;
use crate::pool::PoolSpec;
use crate::port::{Inbox, Outbox, channel};
use crate::sampler::{Sampler, SamplerSpec};
use crate::sampling_actor::{Rows, SamplingActor};
use crate::shard::LayerShard;
use crate::stage::{Cell, Input, Output};
use crate::tensor::Tensor;
use crate::ticket::{Samples, Ticket};
use crate::token_feed::TokenFeed;
use crate::trace::{CONTROL_LANE, Edge, Held, LaneName, Trace, Track};
use graph::plan::explain::{does, heading};
use graph::plan::{ActorPlan, CapturePlan, Carries, Channel, CollectivePlan, End, PAGE_ROWS, Plan, Role, RowSet};
use kernels::Execute;
use std::collections::BTreeMap;

/// What a plan does not say and its actors need.
pub struct Fittings<'a> {
    /// The executor of each stage, by its place among the plan's actors.
    pub executors: BTreeMap<usize, Box<dyn Execute>>,
    /// Tokens that may be drawn: the tokenizer's length.
    pub allowed: u32,
    /// Whether room is made for the logits of every sampled row.
    pub capture: bool,
    /// Whether prompts share pages.
    pub prefix_caching: bool,
    /// Sequences that wait at most.
    pub max_waiting: u32,
    /// Where the actors get their tracks.
    pub trace: &'a Trace,
    /// Records that the batcher's ring holds.
    pub trace_records: usize,
}

/// The actors of each device, in the plan's order, and the dispatcher that drives them.
pub struct Wiring {
    /// By device.
    pub lanes: Vec<Vec<Box<dyn Actor>>>,
    /// The control plane's end.
    pub dispatcher: Dispatcher,
}

/// Makes the channels of `plan` and the actors over them.
///
/// # Panics
/// When `fittings` lacks the executor of a stage, or has bounds that the plan's check refuses.
pub fn wire(plan: &Plan, mut fittings: Fittings<'_>) -> Wiring {
    let data = plan.data();
    let batcher = Batcher::new(batcher_spec(plan, &fittings)).expect("a checked plan has no bound of zero");
    let sampler = sampler(plan, &fittings);
    let Named { tracks, edges } = name(plan, fittings.trace);
    let mut ports = Ports::default();
    for (channel, edges) in data.channels.iter().zip(edges) {
        ports.make(channel, edges, (&batcher, &sampler));
    }
    let mut lanes: Vec<Vec<Box<dyn Actor>>> = data.devices.iter().map(|_| vec![]).collect();
    let mut sampler = Some(sampler);
    for (number, actor) in data.actors.iter().enumerate() {
        let mut seat = Seat { plan: actor, number: number as u32, track: tracks[number], ports: &mut ports };
        let built: Box<dyn Actor> = match &actor.role {
            Role::Batcher | Role::Pool { .. } => continue,
            Role::Feed => seat.feed(data.settings.max_num_seqs),
            Role::Stage { output_widths, input_widths, .. } => {
                let executor = fittings.executors.remove(&number).expect("every stage has an executor");
                seat.stage(executor, input_widths.len(), output_widths.len())
            }
            Role::Communicator { collectives, .. } => seat.communicator(collectives),
            Role::Sampler { vocabulary, captures } => {
                seat.sampler(sampler.take().expect("a plan has one sampler"), *vocabulary, captures)
            }
        };
        let device = actor.device.expect("a checked plan places these roles");
        lanes[device.index()].push(built);
    }
    let batcher_at = data.actors.iter().position(|a| a.role == Role::Batcher).expect("a plan has a batcher") as u32;
    let track = tracks[batcher_at as usize];
    let mut host = Seat { plan: &data.actors[batcher_at as usize], number: batcher_at, track, ports: &mut ports };
    let (tickets, samples) = (host.ticket_output(), host.samples_input(0));
    let pen = (fittings.trace, fittings.trace.recorder(fittings.trace_records), host.track);
    Wiring { lanes, dispatcher: Dispatcher::new(batcher, tickets, samples, pen) }
}

/// Where the actors and channels of a plan stand in a trace.
pub struct Named {
    /// By actor.
    pub tracks: Vec<Track>,
    /// By channel: an edge a reader.
    pub edges: Vec<Vec<Edge>>,
}

/// Names everything of `plan` in `trace`: its devices, its actors and what they do, its channels and their buffers.
pub fn name(plan: &Plan, trace: &Trace) -> Named {
    let data = plan.data();
    heading(plan).iter().for_each(|line| trace.about(line));
    for device in &data.devices {
        let held = |(what, bytes): (&str, u64)| (bytes > 0).then(|| Held { what: what.into(), bytes });
        let holds = [
            ("weights", device.weight_bytes),
            ("key/value cache", device.cache_bytes),
            ("recurrent state", device.state_bytes),
            ("buffers", device.buffer_bytes),
        ];
        let holds = holds.into_iter().filter_map(held).collect();
        trace.lane(LaneName { lane: device.name.clone(), bytes: device.memory_bytes, holds });
    }
    let track = |actor: &ActorPlan| {
        let lane = actor.device.map_or(CONTROL_LANE, |d| &data.devices[d.index()].name);
        let track = trace.track(lane, &actor.name);
        trace.does(track, &does(actor));
        track
    };
    let tracks: Vec<Track> = data.actors.iter().map(track).collect();
    let edge = |channel: &Channel, end: &End| {
        let edge = trace.edge(&channel.name, tracks[channel.from.actor.index()], tracks[end.actor.index()]);
        trace.buffers(edge, channel.credits, channel.bytes);
        edge
    };
    let edges = data.channels.iter().map(|channel| channel.to.iter().map(|end| edge(channel, end)).collect()).collect();
    Named { tracks, edges }
}

fn batcher_spec(plan: &Plan, fittings: &Fittings<'_>) -> BatcherSpec {
    let settings = &plan.data().settings;
    BatcherSpec {
        max_num_seqs: settings.max_num_seqs,
        max_num_batched_tokens: settings.max_num_batched_tokens,
        max_model_len: settings.max_model_len,
        in_flight: settings.in_flight,
        groups: plan.data().pipeline,
        sampled_rows_max: settings.sampled_rows_max,
        max_waiting: fittings.max_waiting,
        pool: PoolSpec {
            pages: plan.pages(),
            page_rows: PAGE_ROWS,
            prefix_caching: fittings.prefix_caching,
            two_forms: plan.has_two_forms(),
            states: plan.states(),
            windows: plan.windows(),
            weights_version: 0,
        },
    }
}

fn sampler(plan: &Plan, fittings: &Fittings<'_>) -> Sampler {
    let (settings, vocab) = (&plan.data().settings, plan.data().vocabulary);
    let spec = SamplerSpec {
        vocab,
        allowed: fittings.allowed.min(vocab),
        sampled_rows_max: settings.sampled_rows_max,
        captured_rows_max: if fittings.capture { settings.sampled_rows_max } else { 0 },
        captured_width: plan.captures().iter().map(|capture| capture.width).sum(),
        slots: settings.max_num_seqs,
    };
    Sampler::new(spec).expect("a vocabulary has a token")
}

/// The ends of all channels that no actor has taken yet.
#[derive(Default)]
struct Ports {
    ticket_in: BTreeMap<End, Input<Ticket>>,
    ticket_out: BTreeMap<End, Output<Ticket>>,
    samples_in: BTreeMap<End, Input<Samples>>,
    samples_out: BTreeMap<End, Output<Samples>>,
    tensor_in: BTreeMap<End, Input<Tensor>>,
    tensor_out: BTreeMap<End, Output<Tensor>>,
}

impl Ports {
    fn make(&mut self, plan: &Channel, edges: Vec<Edge>, (batcher, sampler): (&Batcher, &Sampler)) {
        match plan.carries {
            Carries::Ticket => {
                let ends = open(plan, edges, &|| batcher.ticket());
                keep(plan, ends, &mut self.ticket_out, &mut self.ticket_in);
            }
            Carries::Samples => {
                let ends = open(plan, edges, &|| sampler.samples());
                keep(plan, ends, &mut self.samples_out, &mut self.samples_in);
            }
            Carries::Ids | Carries::Tensor { .. } => {
                let ends = open(plan, edges, &|| Tensor::zeroed(plan.bytes));
                keep(plan, ends, &mut self.tensor_out, &mut self.tensor_in);
            }
        }
    }
}

/// Both sides of one channel.
type Ends<T> = (Output<T>, Vec<Input<T>>);

fn open<T>(plan: &Channel, edges: Vec<Edge>, buffer: &dyn Fn() -> T) -> Ends<T> {
    let buffers = (0..plan.credits).map(|_| buffer()).collect();
    let (outbox, inboxes): (Outbox<T>, Vec<Inbox<T>>) = channel(buffers, plan.to.len());
    let inputs = inboxes.into_iter().zip(&edges).map(|(inbox, edge)| Input { inbox, edge: *edge }).collect();
    (Output { outbox, edges }, inputs)
}

fn keep<T>(
    plan: &Channel,
    (output, inputs): Ends<T>,
    outs: &mut BTreeMap<End, Output<T>>,
    ins: &mut BTreeMap<End, Input<T>>,
) {
    outs.insert(plan.from, output);
    ins.extend(plan.to.iter().copied().zip(inputs));
}

/// One actor of the plan, taking its ports.
struct Seat<'a> {
    plan: &'a ActorPlan,
    number: u32,
    track: Track,
    ports: &'a mut Ports,
}

impl Seat<'_> {
    fn end(&self, port: u16) -> End {
        End { actor: graph::plan::ActorId(self.number), port }
    }

    fn ticket_output(&mut self) -> Output<Ticket> {
        self.ports.ticket_out.remove(&self.end(0)).expect("a checked plan wires the batcher")
    }

    fn tickets(&mut self) -> Input<Ticket> {
        self.ports.ticket_in.remove(&self.end(0)).expect("a checked plan feeds every ticket port")
    }

    fn samples_input(&mut self, port: u16) -> Input<Samples> {
        self.ports.samples_in.remove(&self.end(port)).expect("a checked plan feeds every samples port")
    }

    fn input(&mut self, port: u16) -> Input<Tensor> {
        self.ports.tensor_in.remove(&self.end(port)).expect("a checked plan feeds every input")
    }

    fn output(&mut self, port: u16) -> Output<Tensor> {
        self.ports.tensor_out.remove(&self.end(port)).expect("a lowered plan has a channel for every output")
    }

    fn feed(&mut self, slots: u32) -> Box<dyn Actor> {
        let (tickets, samples, ids) = (self.tickets(), self.samples_input(1), self.output(0));
        Box::new(TokenFeed::new((&self.plan.name, self.track), slots, tickets, samples, ids))
    }

    fn stage(&mut self, executor: Box<dyn Execute>, inputs: usize, outputs: usize) -> Box<dyn Actor> {
        let tickets = self.tickets();
        let inputs = (0..inputs as u16).map(|port| self.input(port + 1)).collect();
        let shard = LayerShard::new(executor, outputs);
        let outputs = (0..outputs as u16).map(|port| self.output(port)).collect();
        Box::new(Cell::new(&self.plan.name, self.track, shard, tickets, inputs, outputs))
    }

    fn communicator(&mut self, plans: &[CollectivePlan]) -> Box<dyn Actor> {
        let collective = |plan: &CollectivePlan| {
            let inputs = plan.inputs.iter().map(|&port| self.input(port)).collect();
            let output = plan.output.map(|port| self.output(port));
            Collective::new(plan.how, (plan.width, plan.blocks), inputs, output)
        };
        let collectives = plans.iter().map(collective).collect();
        Box::new(LocalCommunicator::new(&self.plan.name, self.track, collectives))
    }

    fn sampler(&mut self, sampler: Sampler, vocabulary: u32, captures: &[CapturePlan]) -> Box<dyn Actor> {
        let tickets = self.tickets();
        let logits = Rows { input: self.input(1), width: vocabulary, rows: RowSet::Sampled };
        let captured = captures.iter().zip(2..);
        let captured =
            captured.map(|(plan, port)| Rows { input: self.input(port), width: plan.width, rows: plan.rows });
        let rows = std::iter::once(logits).chain(captured.collect::<Vec<_>>()).collect();
        let samples = self.ports.samples_out.remove(&self.end(0)).expect("a lowered plan has a channel for samples");
        Box::new(SamplingActor::new((&self.plan.name, self.track), sampler, tickets, rows, samples))
    }
}
