use super::*;
use kernels::Step;

const WARM: Sampling = Sampling { temperature: 1.0, seed: 3, request: 5, ..Sampling::GREEDY };

#[test]
fn the_random_numbers_never_change() {
    let number = |seed, request, sample, position| uniform(&Sampling { seed, request, sample, ..WARM }, position);
    // Computed by another implementation of ChaCha8, as numerators of 2^53.
    let golden: [((u64, u64, u32, u32), u64); 6] = [
        ((0, 0, 0, 0), 7538303010471392),
        ((1, 0, 0, 0), 3436151158611243),
        ((0, 1, 0, 0), 2249038049729260),
        ((0, 0, 1, 0), 6215034295280811),
        ((0, 0, 0, 1), 7108138380978545),
        ((u64::MAX, 123456789, 3, 4000000000), 2998932782087583),
    ];
    for ((seed, request, sample, position), numerator) in golden {
        let number = number(seed, request, sample, position) * (1_u64 << 53) as f64;
        assert_eq!(number, numerator as f64, "({seed}, {request}, {sample}, {position})");
    }
}

#[test]
fn every_part_of_the_key_changes_the_number() {
    let base = uniform(&WARM, 7);
    assert_eq!(base, uniform(&Sampling { temperature: 0.3, top_k: 4, ..WARM }, 7));
    assert_ne!(base, uniform(&Sampling { seed: 4, ..WARM }, 7));
    assert_ne!(base, uniform(&Sampling { request: 6, ..WARM }, 7));
    assert_ne!(base, uniform(&Sampling { sample: 1, ..WARM }, 7));
    assert_ne!(base, uniform(&WARM, 8));
}

#[test]
fn the_lowest_id_wins_among_equals() {
    assert_eq!(largest(&[1.0, 3.0, -2.0, 3.0]), 1);
    assert_eq!(largest(&[-0.0, 0.0]), 0);
    assert_eq!(largest(&[5.0]), 0);
    assert_eq!(draw(&[1.0, 3.0, 3.0], &Sampling::GREEDY, 0, &mut Scratch::default()), 1);
}

/// What vLLM's filters leave of softmax(logits / temperature), written as plainly as it can be said.
fn expected(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
    let max = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let mut weights: Vec<f64> =
        logits.iter().map(|&logit| ((f64::from(logit) - max) / f64::from(sampling.temperature)).exp()).collect();
    for weight in &mut weights {
        if *weight < f64::from(sampling.min_p) {
            *weight = 0.0;
        }
    }
    let mut ranked: Vec<usize> = (0..logits.len()).filter(|&id| weights[id] > 0.0).collect();
    ranked.sort_by(|&one, &other| logits[other].total_cmp(&logits[one]).then(one.cmp(&other)));
    if sampling.top_k > 0 {
        ranked.truncate(sampling.top_k as usize);
    }
    let total: f64 = ranked.iter().map(|&id| weights[id]).sum();
    let mut sum = 0.0;
    let last = ranked.iter().position(|&id| {
        sum += weights[id];
        sum >= f64::from(sampling.top_p) * total
    });
    if sampling.top_p < 1.0 {
        ranked.truncate(last.expect("a share below one is reached") + 1);
    }
    let total: f64 = ranked.iter().map(|&id| weights[id]).sum();
    (0..logits.len()).map(|id| if ranked.contains(&id) { weights[id] / total } else { 0.0 }).collect()
}

/// Logits without a pattern, a few of them equal.
fn row(len: u32, seed: u64) -> Vec<f32> {
    let number = |id| uniform(&Sampling { seed, request: 99, ..WARM }, id);
    (0..len).map(|id| ((number(id) * 40.0).round() / 8.0) as f32).collect()
}

#[test]
fn tokens_come_as_often_as_they_are_likely() {
    let settings = [
        WARM,
        Sampling { temperature: 0.5, ..WARM },
        Sampling { top_k: 5, ..WARM },
        Sampling { top_p: 0.7, ..WARM },
        Sampling { min_p: 0.2, ..WARM },
        Sampling { temperature: 1.5, top_k: 12, top_p: 0.9, min_p: 0.05, ..WARM },
    ];
    let draws = 40_000_u32;
    for (case, sampling) in settings.iter().enumerate() {
        let logits = row(40, case as u64);
        let probabilities = expected(&logits, sampling);
        let mut counts = vec![0_u32; logits.len()];
        let mut scratch = Scratch::new(40);
        for position in 0..draws {
            counts[draw(&logits, sampling, position, &mut scratch) as usize] += 1;
        }
        for (id, (&count, &probability)) in counts.iter().zip(&probabilities).enumerate() {
            let mean = f64::from(draws) * probability;
            // Five standard deviations; what was filtered out never comes.
            let bound = 5.0 * (mean * (1.0 - probability)).sqrt();
            assert!((f64::from(count) - mean).abs() <= bound, "case {case}, token {id}: {count} of {mean} +- {bound}");
        }
    }
}

#[test]
fn top_p_finds_its_set_however_flat_the_row_is() {
    for len in [1, 2, 255, 256, 257, 1024, 5000] {
        let logits = vec![0.5; len as usize];
        let sampling = Sampling { top_p: 0.9, ..WARM };
        let kept = (f64::from(sampling.top_p) * f64::from(len)).ceil() as u32;
        let mut scratch = Scratch::new(len);
        for position in 0..200 {
            assert!(draw(&logits, &sampling, position, &mut scratch) < kept, "the lowest ids of {len} equals are kept");
        }
    }
}

#[test]
fn a_wide_row_is_filtered_as_a_narrow_one() {
    let logits = row(20_000, 1);
    for sampling in [Sampling { top_k: 50, top_p: 0.95, ..WARM }, Sampling { top_p: 0.5, ..WARM }] {
        let probabilities = expected(&logits, &sampling);
        let mut scratch = Scratch::new(20_000);
        for position in 0..200 {
            let token = draw(&logits, &sampling, position, &mut scratch);
            assert!(probabilities[token as usize] > 0.0, "{token} was filtered out");
        }
    }
}

#[test]
fn settings_that_are_no_draw_are_named() {
    let check = |sampling: Sampling| sampling.check().map_err(|fault| fault.to_string());
    assert_eq!(check(WARM), Ok(()));
    assert_eq!(
        check(Sampling { temperature: f32::NAN, ..WARM }),
        Err("temperature is NaN, it must be finite and at least 0".into())
    );
    assert_eq!(check(Sampling { top_p: 0.0, ..WARM }), Err("top_p is 0, it must be above 0 and at most 1".into()));
    assert_eq!(check(Sampling { min_p: 1.5, ..WARM }), Err("min_p is 1.5, it must be at least 0 and at most 1".into()));
}

fn asked(sequence: u64, position: u32, sampling: Option<Sampling>, capture: bool) -> Draw {
    let (ruled, next, logprobs) = (false, None, None);
    Draw { sequence, epoch: 1, slot: 2, position, sampling, ruled, next, logprobs, capture }
}

#[test]
fn a_row_is_drawn_alike_alone_and_in_company() {
    let spec =
        SamplerSpec { vocab: 50, allowed: 50, sampled_rows_max: 32, captured_rows_max: 4, captured_width: 0, slots: 3 };
    let mut sampler = Sampler::new(spec).expect("all tokens are allowed");
    let mut samples = sampler.samples();
    let settings = Sampling { temperature: 0.8, top_k: 20, top_p: 0.9, ..WARM };
    let rows: Vec<Vec<f32>> = (0..32).map(|seed| row(50, seed)).collect();
    let draws: Vec<Draw> =
        (0..32).map(|at| asked(at, at as u32, Some(Sampling { request: at, ..settings }), false)).collect();
    let together = Ticket { draws: draws.clone(), ..Ticket::default() };
    sampler.sample(&together, (&rows.concat(), &Drawn::default()), &(), &mut samples).expect("one row a draw");
    let tokens = samples.tokens.clone();
    for (at, draw) in draws.into_iter().enumerate() {
        let alone = Ticket { draws: vec![draw], ..Ticket::default() };
        sampler.sample(&alone, (&rows[at], &Drawn::default()), &(), &mut samples).expect("one row a draw");
        assert_eq!(samples.tokens[0], tokens[at]);
    }
}

#[test]
fn a_row_that_is_not_finite_fails_alone_and_padding_does_not_count() {
    let spec =
        SamplerSpec { vocab: 3, allowed: 2, sampled_rows_max: 4, captured_rows_max: 4, captured_width: 0, slots: 3 };
    let mut sampler = Sampler::new(spec).expect("two of three");
    let mut samples = sampler.samples();
    let (tokens_room, logits_room) = (samples.tokens.as_ptr(), samples.logits.as_ptr());
    let ticket = Ticket {
        step: Step { id: 4, ..Step::default() },
        draws: vec![
            asked(1, 0, Some(Sampling::GREEDY), true),
            asked(2, 5, Some(Sampling::GREEDY), false),
            asked(3, 6, None, true),
        ],
        ..Ticket::default()
    };
    let logits = [0.0, 1.0, 9.0, 0.0, f32::NAN, 0.0, 1.0, 0.0, f32::INFINITY];
    sampler.sample(&ticket, (&logits, &Drawn::default()), &(), &mut samples).expect("three rows");
    let seen: Vec<_> = samples.tokens.iter().map(|token| (token.token, token.fault, token.logits)).collect();
    assert_eq!(seen, [(Some(1), None, Some(0)), (None, Some(RowFault::NonFinite), None), (None, None, Some(3))]);
    assert_eq!((samples.step, &samples.logits[..]), (4, &[0.0, 1.0, 9.0, 1.0, 0.0, f32::INFINITY][..]));
    assert_eq!((samples.tokens.as_ptr(), samples.logits.as_ptr()), (tokens_room, logits_room));
    let fault = sampler
        .sample(&ticket, (&logits[1..], &Drawn::default()), &(), &mut samples)
        .expect_err("an element is missing");
    assert_eq!(fault.to_string(), "step 4: 8 logits arrived, 3 sampled rows of 3 were asked for");
    assert!(Sampler::new(SamplerSpec { allowed: 4, ..spec }).is_err());
}

/// The plan counts these bytes for each sampled row and each sequence of a step; it cannot see the types.
#[test]
fn buffers_are_as_large_as_the_plan_says() {
    use crate::ticket::Admission;
    assert_eq!((size_of::<Draw>(), size_of::<Token>(), size_of::<Admission>()), (88, 64, 48));
    assert_eq!(size_of::<(u32, f32)>() as u32 * LOGPROBS_MAX, 160);
}
