//! Weights that are quantised when they are loaded: the law of determinism on bits, how far logits move, and what stays as it is.

#[path = "common/families.rs"]
mod families;
#[path = "common/told.rs"]
mod told;

use families::{Kind, families};
use graph::WeightType;
use graph::plan::{Quantization, WeightSpec};
use millstream::{Capture, Checkpoint, Engine, EngineBuilder, Generation};
use told::{Bits, bits, builder, engine, prompt, rows, run_parity};

fn quantised(name: &str, quantization: Quantization) -> EngineBuilder {
    builder(name).quantization(quantization)
}

fn request(seed: u32, length: u32) -> Generation {
    let greedy = Generation::greedy(prompt(seed, length), 12);
    Generation { capture: Capture::Generated, ignore_eos: true, ..greedy }
}

fn alone(builder: EngineBuilder) -> Bits {
    bits(builder.bounds(rows(256)).threads(1).build().expect("an engine builds").submit(request(1, 75)))
}

#[test]
fn quantised_weights_keep_the_law_in_every_family() {
    for name in families(&[Kind::Dense, Kind::Experts, Kind::Recurrent]) {
        for quantization in Quantization::ALL {
            let gold = alone(quantised(name, quantization));
            assert!(gold != bits(engine(name).submit(request(1, 75))), "{name}: as if nothing were quantised");
            for (chunk, threads, stages) in [(5, 2, 1), (16, 2, 2)] {
                let batched = quantised(name, quantization).bounds(rows(chunk)).threads(threads);
                let engine = batched.pipeline_parallel_size(stages).build().expect("an engine builds");
                let others: Vec<_> = (2..5).map(|seed| engine.submit(request(seed, 3 + seed * 9))).collect();
                let found = bits(engine.submit(request(1, 75)));
                others.into_iter().for_each(|other| drop(bits(other)));
                assert_eq!(found, gold, "{name} {} in steps of {chunk}, {stages} stages", quantization.name());
            }
        }
    }
}

#[test]
fn eight_bits_give_the_tokens_of_the_reference() {
    for method in ["q8_0", "q8_0-weight-only"] {
        for layout in [&[][..], &["-tp", "2"], &["-pp", "2"], &["--numerics", "tree", "-tp", "2"]] {
            run_parity("granite", &[&["-q", method, "--tolerance", "0.01"], layout].concat());
        }
    }
}

/// The weights of a plan.
fn weights(builder: &EngineBuilder) -> Vec<WeightSpec> {
    let (_, plan) = builder.plan().expect("a plan");
    plan.data().programs().flat_map(|program| program.weights.clone()).collect()
}

#[test]
fn contractions_are_quantised_and_nothing_else() {
    let weights = weights(&quantised("qwen3_moe", Quantization::Q4_0WeightOnly));
    let of = |end: &str| weights.iter().find(|spec| spec.name.ends_with(end)).unwrap_or_else(|| panic!("{end}")).dtype;
    for end in ["q_proj.weight", "o_proj.weight", "lm_head.weight"] {
        assert_eq!(of(end), WeightType::Q4_0, "{end}");
    }
    assert_eq!(of("mlp.gate.weight"), WeightType::F32, "a router");
    assert_eq!(of("embed_tokens.weight"), WeightType::F32, "a table");
    assert_eq!(of("input_layernorm.weight"), WeightType::F32, "a vector");
    // 48 terms are no whole blocks.
    assert_eq!(of("experts.{}.down_proj.weight"), WeightType::F32);
    let mut tied = self::weights(&quantised("qwen3", Quantization::Q8_0WeightOnly).pipeline_parallel_size(2));
    tied.retain(|spec| spec.name.ends_with("embed_tokens.weight"));
    assert!(
        tied.len() == 2 && tied.iter().all(|spec| spec.dtype == WeightType::Q8_0),
        "both stages read the same values"
    );
}

/// The perplexity of this repository's documentation under the embedded model.
fn perplexity(quantization: Option<Quantization>) -> f64 {
    let mut builder = Engine::builder(Checkpoint::embedded()).threads(2);
    if let Some(quantization) = quantization {
        builder = builder.quantization(quantization);
    }
    let engine = builder.build().expect("an engine builds");
    let text = include_str!("../docs/library.md");
    millstream::score::perplexity(&engine, text, None, false).expect("a text").token_perplexity()
}

#[test]
fn eight_bits_cost_next_to_nothing_and_four_bits_a_little() {
    let plain = perplexity(None);
    for quantization in Quantization::ALL {
        let found = perplexity(Some(quantization)) / plain;
        println!("{}: {found}", quantization.name());
        let wanted = if quantization.weights() == WeightType::Q8_0 { 0.99..1.01 } else { 1.0..1.05 };
        assert!(wanted.contains(&found), "{}: {found}", quantization.name());
    }
}
