//! A plan of a small model, wired, with its dispatcher as one more actor: for tests that drive everything by hand.

use actors::batcher::{Capture, Finish, SequenceSpec, Update};
use actors::dispatcher::Dispatcher;
use actors::lane::{Actor, Fault, LaneContext, Turn};
use actors::port::Bell;
use actors::sampler::LogitRules;
use actors::ticket::{Samples, Sampling};
use actors::trace::{Trace, Track};
use actors::wiring::{Fittings, wire};
use graph::DType;
use graph::models::{self, Architecture};
use graph::plan::{Bounds, Deployment, DeviceSpec, Numerics, Plan, Role, WeightSpec, compile};
use kernels::{Execute, Executor, Isa, Limits, RowSource, Team, TeamSpec, Weight};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Tokens of the vocabulary.
pub(crate) const VOCABULARY: u32 = 64;

/// What was heard of a sequence: its tokens, the bits of their logits, its end.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) tokens: Vec<u32>,
    pub(crate) logits: Vec<u32>,
    /// Bits of the log-probabilities of tokens and of the likeliest ones beside them.
    pub(crate) logprobs: Vec<u32>,
    pub(crate) end: Option<Finish>,
}

/// Fails with the first place where two runs differ, not with all their bits.
#[track_caller]
pub(crate) fn assert_same(found: &BTreeMap<u64, Heard>, wanted: &BTreeMap<u64, Heard>, run: &str) {
    assert!(found.keys().eq(wanted.keys()), "{run}: heard of {:?}, wanted {:?}", found.keys(), wanted.keys());
    for (id, wanted) in wanted {
        let found = &found[id];
        assert_eq!(found.tokens, wanted.tokens, "{run}: tokens of sequence {id}");
        let differs = found.logits.iter().zip(&wanted.logits).position(|(found, wanted)| found != wanted);
        assert_eq!(
            differs,
            None,
            "{run}: sequence {id}: logits of token {:?}",
            differs.map(|at| at / VOCABULARY as usize)
        );
        assert_eq!(found, wanted, "{run}: sequence {id}");
    }
}

/// What was heard of all sequences, and how often one had to give way.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) heard: BTreeMap<u64, Heard>,
    pub(crate) preemptions: u64,
}

/// The notes, while they are taken.
pub(crate) type Ledger = Arc<Mutex<Notes>>;

/// The conductor's part without actix: submits what there is room for and notes what it hears.
pub(crate) struct Control {
    dispatcher: Dispatcher,
    requests: VecDeque<SequenceSpec>,
    ledger: Ledger,
}

impl Actor for Control {
    fn name(&self) -> &str {
        "control"
    }

    fn track(&self) -> Track {
        self.dispatcher.track()
    }

    fn bind(&mut self, bell: &Bell) {
        self.dispatcher.bind(bell);
    }

    fn poll(&mut self, _: &mut LaneContext) -> Result<Turn, Fault> {
        let mut moved = false;
        while self.dispatcher.batcher().room() > 0
            && let Some(request) = self.requests.pop_front()
        {
            self.dispatcher.batcher().submit(request).expect("the request fits");
            moved = true;
        }
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let mut note = |update: &Update, samples: &Samples| match update {
            Update::Prompt { .. } => {}
            Update::Token { id, token, logits: range, score, .. } => {
                let heard = ledger.heard.entry(*id).or_default();
                heard.tokens.push(*token);
                let told = score.iter().flat_map(|s| samples.top_of(s).iter().map(|top| top.1).chain([s.logprob]));
                heard.logprobs.extend(told.map(f32::to_bits));
                heard.logits.extend(range.iter().flat_map(|r| &samples.logits[r.clone()]).map(|l| l.to_bits()));
            }
            Update::Finished { id, reason } => ledger.heard.entry(*id).or_default().end = Some(*reason),
        };
        moved |= self.dispatcher.turn(&mut note).expect("samples come in order");
        ledger.preemptions = self.dispatcher.batcher().counters().preemptions;
        if self.dispatcher.batcher().is_idle() && self.requests.is_empty() {
            let batcher = self.dispatcher.batcher();
            assert_eq!(batcher.pool().used(), 0, "an idle pool has every page back");
        }
        Ok(if moved { Turn::Fired } else { Turn::Waiting(self.dispatcher.waits_for()) })
    }
}

/// The small model.
pub(crate) fn model(layers: u32) -> Architecture {
    let config = json!({
        "model_type": "qwen3", "hidden_size": 16, "intermediate_size": 24, "vocab_size": VOCABULARY,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "rms_norm_eps": 1e-6, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": true, "max_position_embeddings": 256
    });
    models::describe(config.as_object().expect("an object")).expect("a known family")
}

/// A plan of the model with pages for a few sequences only.
pub(crate) fn plan(layers: u32, tensor: u32, pipeline: u32, bounds: Bounds) -> Plan {
    let architecture = model(layers);
    let device = |n| DeviceSpec { name: format!("cpu:{n}"), memory_bytes: 1 << 26 };
    let deployment = Deployment {
        family: architecture.family,
        tensor,
        pipeline,
        expert: 1,
        numerics: Numerics::Invariant,
        devices: (0..tensor * pipeline).map(device).collect(),
        layer_partition: None,
        bounds,
        max_positions: architecture.max_positions,
        weight_dtype: &|_| DType::F32,
        quantization: None,
        cache_dtype: DType::F32,
    };
    compile(&architecture.model, &deployment).expect("a lawful plan")
}

/// Rows of small numbers that depend on the weight's name and the row.
struct Rows(u64);

impl RowSource for Rows {
    fn dtype(&self) -> DType {
        DType::F32
    }

    fn copy_row(&self, row: usize, into: &mut [u8]) {
        let mut state = self.0 ^ (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for element in into.as_chunks_mut::<4>().0 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *element = ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5).to_le_bytes();
        }
    }
}

fn executors(plan: &Plan) -> BTreeMap<usize, Box<dyn Execute>> {
    let limits = Limits::of(plan);
    let load = |spec: &WeightSpec, team: &Team| {
        let name = spec.name.bytes().fold(7u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte));
        Weight::load(spec, &Rows(name), team).expect("finite weights")
    };
    let mut executors: BTreeMap<usize, Box<dyn Execute>> = BTreeMap::new();
    for (number, actor) in plan.data().actors.iter().enumerate() {
        let Role::Stage { program, .. } = &actor.role else { continue };
        let team = Arc::new(Team::new(TeamSpec { threads: 1, cores: None, spin: false }));
        let weights: Vec<Weight> = program.weights.iter().map(|spec| load(spec, &team)).collect();
        let executor = Executor::new(program.clone(), weights, limits, team, Isa::detect());
        executors.insert(number, Box::new(executor.expect("a lawful program")));
    }
    executors
}

/// All actors of a plan, the control last, and what it will have heard.
pub(crate) fn wired(plan: &Plan, requests: Vec<SequenceSpec>, trace: &Trace) -> (Vec<Box<dyn Actor>>, Ledger) {
    let fittings = Fittings {
        executors: executors(plan),
        allowed: VOCABULARY,
        capture: true,
        prefix_caching: true,
        max_waiting: 8,
        trace,
        trace_records: 1 << 12,
    };
    let wiring = wire(plan, fittings);
    let ledger = Ledger::default();
    let mut actors: Vec<Box<dyn Actor>> = wiring.lanes.into_iter().flatten().collect();
    let (requests, ledger_kept) = (requests.into(), ledger.clone());
    actors.push(Box::new(Control { dispatcher: wiring.dispatcher, requests, ledger: ledger_kept }));
    (actors, ledger)
}

fn rules(id: u64) -> LogitRules {
    LogitRules {
        repetition_penalty: 1.3,
        presence_penalty: 0.4,
        frequency_penalty: 0.2,
        bias: vec![(id as u32, 1.5)],
        bad_words: vec![vec![7, 9], vec![11]],
        min_tokens: 3,
        end_token_ids: vec![5],
        ..LogitRules::default()
    }
}

/// A sampled request of `length` tokens; every third one shares its prefix with the others.
pub(crate) fn request(id: u64, length: u32, max_tokens: u32) -> SequenceSpec {
    let salt = if id.is_multiple_of(3) { 0 } else { id as u32 };
    let sampling = Sampling { temperature: 0.8, top_k: 20, top_p: 0.95, min_p: 0.0, seed: 11, request: id, sample: 0 };
    SequenceSpec {
        id,
        prompt: (0..length).map(|i| (i * 7 + salt * 13 + 1) % VOCABULARY).collect(),
        max_tokens,
        stop_token_ids: vec![],
        sampling,
        // Three in four are penalised for what they said, and tell how likely that was.
        rules: (!id.is_multiple_of(4)).then(|| Arc::new(rules(id))),
        logprobs: (!id.is_multiple_of(4)).then_some(3),
        prompt_logprobs: None,
        prompt_logprobs_from: 0,
        generated_from: None,
        capture: Capture::Generated,
    }
}
