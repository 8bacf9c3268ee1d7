//! `generate`: one prompt, streamed to the terminal.

use super::tell::{part, tell};
use super::{Failure, args, say};
use crate::Sampling;
use crate::engine::{Ended, Generation, Output, RequestError};
use crate::text::Conversation;
use actors::trace::Trace;
use std::io::Read;

/// Continues one prompt.
pub(super) fn generate(args: &args::Generate, trace: &Trace) -> Result<(), Failure> {
    let mut prompt = args.prompt.clone();
    if prompt == "-" {
        prompt.clear();
        std::io::stdin().read_to_string(&mut prompt).map_err(Failure::io("standard input"))?;
    }
    let engine = args.deploy.builder()?.trace(trace).build()?;
    engine.notes().iter().for_each(|note| say(format!("note: {note}")));
    if engine.tokenizer().is_none() {
        let (what, why) = (engine.name().to_string(), "has no tokenizer.json; use `run` with token_ids".to_string());
        return Err(Failure::Reference { what, why });
    }
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        seed: args.seed,
        ..Sampling::GREEDY
    };
    let refused = |error: RequestError| Failure::Reference { what: "generate".into(), why: error.to_string() };
    let prompt = match args.chat {
        true => engine.encode_chat(&conversation(args.system.as_deref(), &prompt)),
        false => engine.encode(&prompt),
    };
    let prompt = prompt.map_err(refused)?;
    let generation = Generation { sampling, ..Generation::greedy(prompt, args.max_tokens) };
    for output in engine.validate(generation).map_err(refused)?.submit() {
        match output {
            Output::Prompt(_) => {}
            Output::Token(token) => part(format_args!("{}", token.text)),
            Output::Ended(Ended::Failed(failure)) => {
                return Err(Failure::Reference { what: "generate".into(), why: failure.to_string() });
            }
            Output::Ended(Ended::Stop { .. } | Ended::Length | Ended::Cancelled) => break,
        }
    }
    tell!("");
    Ok(())
}

/// One message of a user, behind one of the system if there is any.
fn conversation(system: Option<&str>, prompt: &str) -> Conversation {
    let mut conversation = Conversation::of_user(prompt);
    if let Some(text) = system {
        let message = [("role".to_owned(), "system".into()), ("content".to_owned(), text.into())];
        conversation.messages.insert(0, message.into_iter().collect());
    }
    conversation
}
