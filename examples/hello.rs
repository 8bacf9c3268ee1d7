//! Continues one prompt with the embedded model: `cargo run --release --example hello`.

use millstream::{Checkpoint, Engine, Generation, Output};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder(Checkpoint::embedded()).build()?;
    let tokenizer = engine.tokenizer().ok_or("the embedded model has a tokenizer")?;
    let mut text = engine.text().ok_or("the embedded model has a tokenizer")?;
    let prompt = tokenizer.encode("Ownership is")?;
    for output in engine.submit(Generation::greedy(prompt, 48)) {
        match output {
            Output::Token { token, .. } => print!("{}", text.push(token)?),
            Output::Prompt { .. } | Output::Ended(_) => {}
        }
    }
    println!("{}", text.finish()?);
    Ok(())
}
