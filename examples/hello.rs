//! Continues one prompt with the embedded model: `cargo run --release --example hello`.

use millstream::{Checkpoint, Engine, Generation, Output};
use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder(Checkpoint::embedded()).build()?;
    let prompt = "Ownership is";
    print!("{prompt}");
    for output in engine.submit(Generation::greedy(engine.encode(prompt)?, 48)) {
        if let Output::Token(token) = output {
            print!("{}", token.text);
            std::io::stdout().flush()?;
        }
    }
    println!();
    Ok(())
}
