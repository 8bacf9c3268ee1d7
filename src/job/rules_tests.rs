//! The fields that change draws, stop texts and ask for log-probabilities: what they may be, with a message for everything else.

use super::*;

const VOCABULARY: u32 = 512;

fn parse(fields: &str) -> Result<Request, String> {
    let line = format!(r#"{{"custom_id": "a", "prompt": "x", {fields}}}"#);
    LineParser::new(VOCABULARY).parse(line.as_bytes()).map_err(|refused| refused.error.to_string())
}

/// These fields beside a name and a prompt give this message.
#[track_caller]
fn refuse(fields: &str, expect: &str) {
    let cut: String = fields.chars().take(80).collect();
    assert_eq!(parse(fields).expect_err(&cut), expect, "{cut}");
}

#[test]
fn every_field_is_read() {
    let request = parse(
        r#""repetition_penalty": 1.2, "presence_penalty": -2, "frequency_penalty": 0.5, "min_tokens": 3,
        "logit_bias": {"511": -100, "0": 1.5}, "allowed_token_ids": [1, 511], "bad_words": ["x", " é"],
        "stop": ["\n\n", "🦀"], "include_stop_str_in_output": true, "logprobs": 5, "prompt_logprobs": 0"#,
    )
    .unwrap();
    let rules = RuleFields {
        repetition_penalty: Some(1.2),
        presence_penalty: -2.0,
        frequency_penalty: 0.5,
        logit_bias: vec![(511, -100.0), (0, 1.5)],
        allowed_token_ids: Some(vec![1, 511]),
        bad_words: vec!["x".into(), " é".into()],
        min_tokens: 3,
    };
    assert_eq!(request.rules, rules);
    assert_eq!(request.stops, StopFields { texts: vec!["\n\n".into(), "🦀".into()], include: true });
    assert_eq!((request.logprobs, request.prompt_logprobs), (Some(5), Some(0)));
    let chat = |fields: &str| parse(fields).unwrap().logprobs;
    assert_eq!(chat(r#""logprobs": true, "top_logprobs": 7"#), Some(7));
    assert_eq!(chat(r#""logprobs": true"#), Some(0));
    assert_eq!(chat(r#""logprobs": false, "top_logprobs": 0"#), None);
    assert_eq!(parse(r#""stop": "x""#).unwrap().stops.texts, ["x"]);
    let neutral = parse(
        r#""stop": [], "bad_words": [], "logit_bias": {}, "min_tokens": 0, "logprobs": null, "allowed_token_ids": null"#,
    );
    assert_eq!(neutral.unwrap(), parse(r#""n": 1"#).unwrap());
}

#[test]
fn j43_stop_texts() {
    refuse(r#""stop": """#, "stop[0] is \"\", must be a text of 1 to 1024 bytes");
    refuse(r#""stop": ["a", ""]"#, "stop[1] is \"\", must be a text of 1 to 1024 bytes");
    refuse(r#""stop": ["a", 7]"#, "stop[1] is 7, must be a text of 1 to 1024 bytes");
    refuse(r#""stop": 7"#, "stop is 7, must be a text or a list of at most 64 texts");
    let many = vec![r#""a""#; 1000].join(",");
    refuse(&format!(r#""stop": [{many}]"#), "stop is 1000, must be a text or a list of at most 64 texts");
    let long = "é".repeat(2050);
    let shown = format!("stop[0] is \"{}…\", must be a text of 1 to 1024 bytes", "é".repeat(80));
    refuse(&format!(r#""stop": ["{long}"]"#), &shown);
    assert!(parse(&format!(r#""stop": ["{}"]"#, "é".repeat(512))).is_ok());
    refuse(r#""include_stop_str_in_output": 1"#, "include_stop_str_in_output is 1, must be true or false");
}

#[test]
fn j44_j77_token_ids_of_lists_and_keys() {
    for bad in ["-1", "512", "9223372036854775808", "1.5", "\"7\""] {
        let rest = "must be a token id from 0 to 511";
        refuse(&format!(r#""allowed_token_ids": [3, {bad}]"#), &format!("allowed_token_ids[1] is {bad}, {rest}"));
    }
    for bad in ["-1", "512", "9223372036854775808", "1.5", "07", "+7", "x", ""] {
        let message = format!("logit_bias: key \"{bad}\" must be a token id from 0 to 511");
        refuse(&format!(r#""logit_bias": {{"{bad}": 1}}"#), &message);
    }
    for bad in ["100.5", "-101", "\"1\"", "null"] {
        let message = format!("logit_bias[7] is {bad}, must be a number from -100 to 100");
        refuse(&format!(r#""logit_bias": {{"7": {bad}}}"#), &message);
    }
    let keys: Vec<String> = (0..1025).map(|key| format!("\"{key}\": 1")).collect();
    let allowed = "an object of at most 1024 token ids and their biases";
    refuse(&format!(r#""logit_bias": {{{}}}"#, keys.join(",")), &format!("logit_bias is 1025, must be {allowed}"));
    refuse(r#""logit_bias": 1"#, &format!("logit_bias is 1, must be {allowed}"));
    let ids = vec!["1"; 1025].join(",");
    let allowed = "a list of 1 to 1024 token ids";
    refuse(&format!(r#""allowed_token_ids": [{ids}]"#), &format!("allowed_token_ids is 1025, must be {allowed}"));
    refuse(r#""allowed_token_ids": []"#, &format!("allowed_token_ids is 0, must be {allowed}"));
    refuse(r#""allowed_token_ids": 1"#, "allowed_token_ids is 1, must be a list of token ids");
    let words = vec![r#""a""#; 1025].join(",");
    refuse(&format!(r#""bad_words": [{words}]"#), "bad_words is 1025, must be a list of at most 1024 texts");
    refuse(r#""bad_words": ["a", ""]"#, "bad_words[1] is \"\", must be a text of 1 to 1024 bytes");
    refuse(r#""bad_words": "a""#, "bad_words is \"a\", must be a list of at most 1024 texts");
}

#[test]
fn j74_j75_counts() {
    for bad in ["-1", "2147483648", "1.5", "\"9\""] {
        let allowed = "a whole number from 0 to 2147483647";
        refuse(&format!(r#""min_tokens": {bad}"#), &format!("min_tokens is {bad}, must be {allowed}"));
    }
    for bad in ["1000000", "21", "-1", "1.5", "\"5\""] {
        let allowed = "a whole number from 0 to 20";
        refuse(&format!(r#""logprobs": {bad}"#), &format!("logprobs is {bad}, must be true, false or {allowed}"));
        refuse(&format!(r#""prompt_logprobs": {bad}"#), &format!("prompt_logprobs is {bad}, must be {allowed}"));
        let fields = format!(r#""logprobs": true, "top_logprobs": {bad}"#);
        refuse(&fields, &format!("top_logprobs is {bad}, must be {allowed}"));
    }
    refuse(r#""prompt_logprobs": true"#, "prompt_logprobs is true, must be a whole number from 0 to 20");
    refuse(r#""top_logprobs": 3"#, "top_logprobs needs \"logprobs\": true beside it");
    refuse(r#""logprobs": false, "top_logprobs": 3"#, "top_logprobs needs \"logprobs\": true beside it");
}

#[test]
fn j76_penalties() {
    for bad in ["0", "-1", "2.5", "1e30", "\"1\"", "true"] {
        let shown = if bad == "1e30" { "1e+30" } else { bad };
        let allowed = "a number over 0, up to 2";
        refuse(
            &format!(r#""repetition_penalty": {bad}"#),
            &format!("repetition_penalty is {shown}, must be {allowed}"),
        );
    }
    for name in ["presence_penalty", "frequency_penalty"] {
        for bad in ["-2.5", "1e30", "\"1\"", "[]"] {
            let shown = if bad == "1e30" { "1e+30" } else { bad };
            refuse(&format!(r#""{name}": {bad}"#), &format!("{name} is {shown}, must be a number from -2 to 2"));
        }
    }
}
