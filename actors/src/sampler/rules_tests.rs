//! Rules and log-probabilities against values computed by hand, and against a plain second writing of the same thing.

use super::*;
use crate::ticket::{Admission, Samples};
use proptest::prelude::*;
use std::sync::Arc;

const VOCAB: u32 = 12;

fn spec() -> SamplerSpec {
    SamplerSpec { vocab: VOCAB, allowed: VOCAB, sampled_rows_max: 4, captured_rows_max: 0, captured_width: 0, slots: 2 }
}

fn admission(rules: LogitRules, prompt: &[u32], output: &[u32], epoch: u32) -> Admission {
    let tokens: Vec<u32> = [prompt, output].concat();
    let (prompt_len, tokens_max) = (prompt.len() as u32, prompt.len() as u32 + 40);
    Admission { slot: 1, sequence: 7, epoch, rules: Arc::new(rules), tokens: tokens.into(), prompt_len, tokens_max }
}

/// The row that a token is drawn from after these tokens.
fn shaped(rules: &LogitRules, prompt: &[u32], output: &[u32], raw: &[f32]) -> Vec<f32> {
    let mut history = History::default();
    history.begin(&admission(rules.clone(), prompt, output, 0));
    let mut row = vec![9.0; 3];
    rules.apply(raw, &history, &mut row);
    row
}

#[test]
fn penalties_are_those_of_a_hand_calculation() {
    let raw = [2.0, -2.0, 4.0, -4.0, 0.0, 1.0];
    let repetition = LogitRules { repetition_penalty: 2.0, ..LogitRules::default() };
    assert_eq!(shaped(&repetition, &[0, 1], &[3, 4, 3], &raw), [1.0, -4.0, 4.0, -8.0, 0.0, 1.0]);
    let frequency = LogitRules { frequency_penalty: 0.5, ..LogitRules::default() };
    assert_eq!(shaped(&frequency, &[0, 1], &[3, 4, 3], &raw), [2.0, -2.0, 4.0, -5.0, -0.5, 1.0]);
    let presence = LogitRules { presence_penalty: -1.5, ..LogitRules::default() };
    assert_eq!(shaped(&presence, &[0, 1], &[3, 4, 3], &raw), [2.0, -2.0, 4.0, -2.5, 1.5, 1.0]);
    let all =
        LogitRules { presence_penalty: 1.0, frequency_penalty: 0.5, bias: vec![(0, 6.0), (2, -1.0)], ..repetition };
    // Bias first, then repetition, then frequency and presence of the output alone: 8 / 2; 3; -8 - 1 - 1.
    assert_eq!(shaped(&all, &[0], &[3, 3], &raw), [4.0, -2.0, 3.0, -10.0, 0.0, 1.0]);
}

#[test]
fn masks_leave_what_is_allowed() {
    let none = f32::NEG_INFINITY;
    let raw = [1.0, 2.0, 3.0, 4.0];
    let allowed =
        LogitRules { allowed: Some(vec![3, 1, 99]), bias: vec![(0, 50.0), (1, 1.0)], ..LogitRules::default() };
    assert_eq!(shaped(&allowed, &[0], &[], &raw), [none, 3.0, none, 4.0]);
    let words = LogitRules { bad_words: vec![vec![2], vec![0, 1], vec![3, 0, 3]], ..LogitRules::default() };
    assert_eq!(shaped(&words, &[0], &[], &raw), [1.0, 2.0, none, 4.0], "the prompt is not looked back on");
    assert_eq!(shaped(&words, &[0], &[0], &raw), [1.0, none, none, 4.0]);
    assert_eq!(shaped(&words, &[0], &[1, 3, 0], &raw), [1.0, none, none, none]);
    let least = LogitRules { min_tokens: 2, end_token_ids: vec![0, 3, 77], ..LogitRules::default() };
    assert_eq!(shaped(&least, &[0], &[1], &raw), [none, 2.0, 3.0, none]);
    assert_eq!(shaped(&least, &[0], &[1, 1], &raw), raw);
}

#[test]
fn huge_logits_stay_finite_and_masked_ones_masked() {
    let raw = [f32::MAX, f32::MIN, 1.0];
    let rules = LogitRules {
        repetition_penalty: 0.01,
        bias: vec![(0, 100.0), (1, -100.0)],
        bad_words: vec![vec![2]],
        ..LogitRules::default()
    };
    assert_eq!(shaped(&rules, &[0, 2], &[], &raw), [f32::MAX, f32::MIN, f32::NEG_INFINITY]);
}

#[test]
fn rules_that_are_none_are_named() {
    let check = |rules: LogitRules| rules.check().map_err(|fault| fault.to_string());
    let neutral = LogitRules::default();
    assert!(neutral.is_neutral() && check(neutral.clone()).is_ok());
    let message = |rules| check(rules).expect_err("a value out of range");
    for got in [0.0, -1.0, 2.5, f32::NAN, 1e30] {
        let rules = LogitRules { repetition_penalty: got, ..neutral.clone() };
        assert_eq!(message(rules), format!("repetition_penalty is {got}, it must be above 0 and at most 2"));
    }
    let rules = LogitRules { presence_penalty: -2.5, ..neutral.clone() };
    assert_eq!(message(rules), "presence_penalty is -2.5, it must be from -2 to 2");
    let rules = LogitRules { bias: vec![(1, 0.0), (4, f32::INFINITY)], ..neutral.clone() };
    assert_eq!(message(rules), "logit_bias of token 4 is inf, it must be from -100 to 100");
    let rules = LogitRules { allowed: Some(vec![]), ..neutral.clone() };
    assert_eq!(message(rules), "allowed_token_ids is empty, at least 1 token must be allowed");
    let rules = LogitRules { allowed: Some(vec![1; 1025]), ..neutral.clone() };
    assert_eq!(message(rules), "allowed_token_ids has 1025 entries, at most 1024 are looked at");
    let rules = LogitRules { bad_words: vec![vec![1], vec![]], ..neutral };
    assert_eq!(message(rules), "a bad word has 0 tokens, it must have 1 to 2048");
}

fn draw_of(position: u32, epoch: u32, sampling: Sampling) -> Draw {
    let (next, logprobs, capture) = (None, Some(3), false);
    Draw { sequence: 7, epoch, slot: 1, position, sampling: Some(sampling), ruled: true, next, logprobs, capture }
}

fn sample(sampler: &mut Sampler, ticket: &Ticket, logits: &[f32]) -> Result<(Token, Samples), SamplerFault> {
    let mut samples = sampler.samples();
    sampler.sample(ticket, (logits, &Drawn::default()), &(), &mut samples)?;
    sampler.remember(&samples);
    Ok((samples.tokens[0], samples))
}

#[test]
fn a_draw_needs_its_admission_and_something_to_draw() {
    let mut sampler = Sampler::new(spec()).expect("all tokens are allowed");
    let logits = [0.0; VOCAB as usize];
    let mut ticket = Ticket { draws: vec![draw_of(3, 0, Sampling::GREEDY)], ..Ticket::default() };
    let fault = sample(&mut sampler, &ticket, &logits).expect_err("nobody was admitted");
    assert_eq!(fault.to_string(), "step 0: slot 1 draws for sequence 7 in epoch 0, which was not admitted to it");
    let rules = LogitRules { allowed: Some(vec![2]), bad_words: vec![vec![2]], ..LogitRules::default() };
    ticket.admissions.push(admission(rules, &[1, 2, 3], &[], 0));
    let (token, _) = sample(&mut sampler, &ticket, &logits).expect("one row");
    assert_eq!((token.token, token.fault, token.score), (None, Some(RowFault::NothingAllowed), None));
    ticket.admissions.clear();
    ticket.draws[0].epoch = 1;
    assert!(sample(&mut sampler, &ticket, &logits).is_err(), "another epoch");
}

#[test]
fn log_probabilities_are_those_of_a_hand_calculation() {
    let logits: Vec<f32> = [1.0_f64, 2.0, 4.0, 2.0, 1.0].iter().map(|weight| weight.ln() as f32).collect();
    let mut top = vec![(9, 9.0)];
    let score = logprob::score(&logits, 3, 4, &mut top);
    assert_eq!((score.token, score.rank, score.first, score.count), (3, 3, 1, 4));
    assert!((score.logprob - 0.2_f32.ln()).abs() < 1e-6);
    let ids: Vec<u32> = top[1..].iter().map(|&(id, _)| id).collect();
    assert_eq!(ids, [2, 1, 3, 0], "the lowest id first among equals");
    assert!((top[1].1 - 0.4_f32.ln()).abs() < 1e-6 && (top[4].1 - 0.1_f32.ln()).abs() < 1e-6);
    let none = logprob::score(&logits, 2, 0, &mut top);
    assert_eq!((none.rank, none.count, top.len()), (1, 0, 5));
}

/// Logits, tokens of a prompt and of an output, and any rules.
fn any_case() -> impl Strategy<Value = (Vec<f32>, Vec<u32>, Vec<u32>, LogitRules)> {
    let ids = |most| prop::collection::vec(0..VOCAB + 2, 0..most);
    let rules = (
        0.1_f32..2.0,
        -2.0_f32..2.0,
        -2.0_f32..2.0,
        prop::collection::btree_map(0..VOCAB + 2, -100.0_f32..100.0, 0..4),
        prop::option::of(prop::collection::vec(0..VOCAB, 1..12)),
        prop::collection::vec(prop::collection::vec(0..4_u32, 1..4), 0..3),
        (0..6_u32, ids(4)),
    );
    let logits = prop::collection::vec(-8.0_f32..8.0, VOCAB as usize..=VOCAB as usize);
    let rules =
        rules.prop_map(|(repetition, presence, frequency, bias, allowed, bad_words, (least, ends))| LogitRules {
            repetition_penalty: repetition,
            presence_penalty: presence,
            frequency_penalty: frequency,
            bias: bias.into_iter().collect(),
            allowed,
            bad_words,
            min_tokens: least,
            end_token_ids: ends,
        });
    let some = |most| prop::collection::vec(0..4_u32, 0..most);
    (logits, prop::collection::vec(0..VOCAB, 1..9), some(9), rules)
}

/// The same rules, one token at a time, as plainly as they can be said.
fn plainly(rules: &LogitRules, prompt: &[u32], output: &[u32], raw: &[f32]) -> Vec<f32> {
    let shaped = |(id, &logit): (usize, &f32)| {
        let id = id as u32;
        let count = output.iter().filter(|&&token| token == id).count();
        let mut logit = logit;
        if rules.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&id)) {
            return f32::NEG_INFINITY;
        }
        let completes = |word: &Vec<u32>| {
            word.last() == Some(&id) && [output, &[id]].concat().windows(word.len()).next_back() == Some(&word[..])
        };
        if rules.bad_words.iter().any(completes) {
            return f32::NEG_INFINITY;
        }
        if (output.len() as u32) < rules.min_tokens && rules.end_token_ids.contains(&id) {
            return f32::NEG_INFINITY;
        }
        logit += rules.bias.iter().find(|(token, _)| *token == id).map_or(0.0, |(_, bias)| *bias);
        if prompt.contains(&id) || count > 0 {
            let penalty = rules.repetition_penalty;
            logit = if logit > 0.0 { logit / penalty } else { logit * penalty };
            logit -= rules.frequency_penalty * count as f32;
            logit -= if count > 0 { rules.presence_penalty } else { 0.0 };
        }
        logit
    };
    raw.iter().enumerate().map(shaped).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]

    #[test]
    fn rules_are_what_they_say((raw, prompt, output, rules) in any_case()) {
        prop_assert_eq!(shaped(&rules, &prompt, &output, &raw), plainly(&rules, &prompt, &output, &raw));
    }

    /// Drawn on from the prompt, and from an admission in the middle, the tokens and log-probabilities are the same.
    #[test]
    fn an_admission_in_the_middle_changes_nothing((raw, prompt, _, mut rules) in any_case(), cut in 0_usize..12) {
        rules.allowed = None;
        let sampling = Sampling { temperature: 1.3, seed: 5, ..Sampling::GREEDY };
        let mut drawn: Vec<u32> = vec![];
        let mut told = vec![];
        let mut run = |from: usize, drawn: &mut Vec<u32>| {
            let mut sampler = Sampler::new(spec()).expect("all tokens are allowed");
            let mut ticket = Ticket::default();
            ticket.admissions.push(admission(rules.clone(), &prompt, &drawn[..from], 2));
            drawn.truncate(from);
            told.truncate(from);
            for step in from..12 {
                let turned: Vec<f32> = (0..raw.len()).map(|at| raw[(at + step) % raw.len()]).collect();
                ticket.draws = vec![draw_of((prompt.len() + step) as u32, 2, sampling)];
                let (token, samples) = sample(&mut sampler, &ticket, &turned).expect("admitted");
                ticket.admissions.clear();
                let Some(id) = token.token else { break };
                drawn.push(id);
                let score = token.score.expect("it was asked for");
                told.push((score.logprob.to_bits(), score.rank, samples.top));
            }
            (drawn.clone(), told.clone())
        };
        let whole = run(0, &mut drawn);
        let cut = cut.min(drawn.len());
        prop_assert_eq!(run(cut, &mut drawn), whole);
    }

    #[test]
    fn probabilities_sum_to_one_and_ranks_count_those_before(
        logits in prop::collection::vec(prop_oneof![-30.0_f32..30.0, Just(1.0), Just(-0.5)], 1..20),
        count in 0_u32..20,
    ) {
        let mut ranked: Vec<u32> = (0..logits.len() as u32).collect();
        ranked.sort_by(|&one, &other| logits[other as usize].total_cmp(&logits[one as usize]).then(one.cmp(&other)));
        let mut sum = 0.0;
        for token in 0..logits.len() as u32 {
            let mut top = vec![];
            let score = logprob::score(&logits, token, count, &mut top);
            sum += f64::from(score.logprob).exp();
            prop_assert_eq!(ranked[score.rank as usize - 1], token);
            let ids: Vec<u32> = top.iter().map(|&(id, _)| id).collect();
            prop_assert_eq!(&ids[..], &ranked[..(count as usize).min(logits.len())]);
            prop_assert!(top.iter().all(|&(id, logprob)| id != token || logprob == score.logprob));
        }
        prop_assert!((sum - 1.0).abs() < 1e-5, "the sum is {}", sum);
    }
}
