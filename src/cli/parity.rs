//! `parity`: the model against `expected.json` and `expected.safetensors` of its folder.

use super::tell::tell;
use super::{Failure, args, reference};
use crate::engine::{Ended, Engine, Generation, Output, Token};
use crate::{Capture, Checkpoint, Error};
use actors::trace::Trace;
use graph::DType;
use graph::plan::{Program, WeightSpec};
use serde_json::{Value, json};

/// Reference of one prompt.
struct Case {
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    logits: Vec<f32>,
}

/// What one prompt gave.
#[derive(Default)]
struct Found {
    largest: f32,
    /// Position and token of the first logit past the tolerance.
    diverges: Option<(usize, usize)>,
    tokens: usize,
    /// The first token that differs: its place, wanted, got.
    token: Option<(usize, u32, u32)>,
}

/// Compares every logit and every greedy token, or the edges of another reference.
pub(super) fn parity(args: &args::Parity, trace: &Trace) -> Result<(), Failure> {
    if let Some(file) = &args.reference {
        return reference::compare(args, file, trace);
    }
    let cases = cases(args)?;
    let builder = args.deploy.builder()?.trace(trace).capture_logits();
    let checkpoint = builder.checkpoint().clone();
    let engine = builder.build()?;
    let tolerance = args.tolerance.unwrap_or(if rounds(&engine, &checkpoint) { 0.15 } else { 2e-4 });
    let mut failed = false;
    let mut rows = vec![];
    for (number, case) in cases.iter().enumerate() {
        let found = compare(&engine, case, tolerance)?;
        failed |= found.diverges.is_some() || found.token.is_some();
        if args.json {
            rows.push(json!({"case": number, "positions": case.prompt.len(), "largest_error": found.largest,
                "tokens": case.greedy.len(), "tokens_equal": found.tokens}));
            continue;
        }
        tell!(
            "case {number}: {} positions, largest error {:.2e}; {} of {} greedy tokens equal",
            case.prompt.len(),
            found.largest,
            found.tokens,
            case.greedy.len()
        );
        if let Some((position, token)) = found.diverges {
            tell!("  first past the tolerance at position {position}, logit of token {token}");
        }
        if let Some((at, wanted, got)) = found.token {
            tell!("  greedy token {at}: wanted {wanted}, got {got}");
        }
    }
    if args.json {
        tell!("{}", json!({"tolerance": tolerance, "passed": !failed, "cases": rows}));
    } else {
        tell!("tolerance {tolerance:.1e}: {}", if failed { "failed" } else { "passed" });
    }
    if failed { Err(Failure::Check("the model differs from its reference".into())) } else { Ok(()) }
}

/// Whether anything is rounded that the reference does not round: weights to fewer bits than they are stored in, or keys and values.
/// (bf16 weights are exact in f32, and recurrent states are f32 always.)
pub(super) fn rounds(engine: &Engine, checkpoint: &Checkpoint) -> bool {
    let narrowed = |weight: &WeightSpec| {
        checkpoint
            .weight_dtype(&weight.name)
            .is_some_and(|stored| weight.dtype.plain().is_none_or(|dtype| stored.bytes() > dtype.bytes()))
    };
    let narrows = |program: &Program| {
        program.caches.iter().any(|cache| cache.dtype != DType::F32) || program.weights.iter().any(narrowed)
    };
    engine.plan().data().programs().any(narrows)
}

fn compare(engine: &Engine, case: &Case, tolerance: f32) -> Result<Found, Failure> {
    let capture = Capture::All;
    let ignore_eos = true;
    let generation =
        Generation { capture, ignore_eos, ..Generation::greedy(case.prompt.clone(), case.greedy.len() as u32) };
    let vocabulary = case.logits.len() / case.prompt.len();
    let mut found = Found::default();
    let mut tokens = vec![];
    let mut row = |position: usize, logits: &[f32]| {
        let wanted = &case.logits[position * vocabulary..][..vocabulary];
        for (token, (got, wanted)) in logits.iter().zip(wanted).enumerate() {
            let error = (got - wanted).abs();
            // A NaN is past every tolerance.
            if error.is_nan() || error > tolerance {
                found.diverges.get_or_insert((position, token));
            }
            found.largest = found.largest.max(error);
        }
    };
    for output in engine.submit(generation) {
        match output {
            Output::Prompt(told) => row(told.position as usize, &told.logits.unwrap_or_default()),
            Output::Token(Token { token, logits, .. }) => {
                // The first token is drawn from the last row of the prompt.
                if let Some(logits) = logits.filter(|_| tokens.is_empty()) {
                    row(case.prompt.len() - 1, &logits);
                }
                tokens.push(token);
            }
            Output::Ended(Ended::Failed(failure)) => {
                return Err(Failure::Reference { what: "parity".into(), why: failure.to_string() });
            }
            Output::Ended(Ended::Stop { .. } | Ended::Length | Ended::Cancelled) => break,
        }
    }
    found.tokens = tokens.iter().zip(&case.greedy).take_while(|(got, wanted)| got == wanted).count();
    if found.tokens < case.greedy.len() {
        let got = tokens.get(found.tokens).copied().unwrap_or(u32::MAX);
        found.token = Some((found.tokens, case.greedy[found.tokens], got));
    }
    Ok(found)
}

fn cases(args: &args::Parity) -> Result<Vec<Case>, Failure> {
    let read = |name: &str, embedded: &'static [u8]| match &args.deploy.model {
        None => Ok(embedded.to_vec()),
        Some(dir) => std::fs::read(dir.join(name)).map_err(Failure::io(dir.join(name).display())),
    };
    let json = read("expected.json", include_bytes!("../../models/demo/expected.json"))?;
    let tensors = read("expected.safetensors", include_bytes!("../../models/demo/expected.safetensors"))?;
    let bad = |why: String| Failure::Reference { what: "expected.json, expected.safetensors".into(), why };
    let json: Value = serde_json::from_slice(&json).map_err(|e| bad(e.to_string()))?;
    let tensors = safetensors::SafeTensors::deserialize(&tensors).map_err(|e| bad(e.to_string()))?;
    let ids = |value: &Value, field: &str| -> Result<Vec<u32>, Failure> {
        let list = value[field].as_array().ok_or_else(|| bad(format!("a case has no {field}")))?;
        let id = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
        list.iter().map(id).collect::<Option<_>>().ok_or_else(|| bad(format!("{field} holds what is no token id")))
    };
    let list = json["cases"].as_array().ok_or_else(|| bad("there are no cases".into()))?;
    let mut cases = vec![];
    for (number, case) in list.iter().enumerate() {
        let name = format!("logits.{number}");
        let view = tensors.tensor(&name).map_err(|e| bad(e.to_string()))?;
        let logits: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let prompt = ids(case, "prompt")?;
        if prompt.is_empty() || view.dtype() != safetensors::Dtype::F32 || view.shape()[0] != prompt.len() {
            return Err(bad(format!("{name}: wanted f32 [{}, vocabulary], got {:?}", prompt.len(), view.shape())));
        }
        cases.push(Case { prompt, greedy: ids(case, "greedy")?, logits });
    }
    Ok(cases)
}

impl From<safetensors::SafeTensorError> for Failure {
    fn from(error: safetensors::SafeTensorError) -> Self {
        Failure::Reference { what: "expected.safetensors".into(), why: error.to_string() }
    }
}

impl From<crate::engine::EngineError> for Failure {
    fn from(error: crate::engine::EngineError) -> Self {
        Failure::Library(Error::Engine(error))
    }
}
