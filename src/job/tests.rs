use super::*;

const VOCABULARY: u32 = 512;

fn parse(line: &str) -> Result<Request, Refused> {
    LineParser::new(VOCABULARY).parse(line.as_bytes())
}

/// This line gives this message.
fn refuse(line: &str, expect: &str) {
    assert_eq!(parse(line).expect_err(line).error.to_string(), expect, "{line}");
}

/// A line of these fields beside a name and a prompt gives this message.
fn refuse_field(fields: &str, expect: &str) {
    refuse(&format!(r#"{{"custom_id": "a", "prompt": "x", {fields}}}"#), expect);
}

/// A request that says nothing.
fn silent() -> Request {
    Request {
        custom_id: String::new(),
        prompt: Prompt::Text(String::new()),
        max_tokens: None,
        sampling: SamplingFields::default(),
        n: 1,
        stop_token_ids: vec![],
        ignore_eos: false,
        stops: StopFields::default(),
        rules: RuleFields::default(),
        logprobs: None,
        prompt_logprobs: None,
    }
}

#[test]
fn both_forms_give_the_same_request() {
    let fields = r#""prompt": "x", "max_tokens": 3, "temperature": 0.5, "top_k": 4, "top_p": 0.9, "min_p": 0.1,
        "seed": 18446744073709551615, "n": 2, "stop_token_ids": [1, 511], "ignore_eos": true"#;
    let simple = parse(&format!(r#"{{"custom_id": "a", {fields}}}"#)).unwrap();
    let batch = format!(
        r#"{{"custom_id": "a", "method": "POST", "url": "/v1/completions",
            "body": {{"model": "m", "user": "u", "echo": false, "stop": null, {fields}}}}}"#
    );
    assert_eq!(parse(&batch).unwrap(), simple);
    let sampling = SamplingFields {
        temperature: Some(0.5),
        top_k: Some(4),
        top_p: Some(0.9),
        min_p: Some(0.1),
        seed: Some(u64::MAX),
    };
    let expect = Request {
        custom_id: "a".into(),
        prompt: Prompt::Text("x".into()),
        max_tokens: Some(3),
        sampling,
        n: 2,
        stop_token_ids: vec![1, 511],
        ignore_eos: true,
        ..silent()
    };
    assert_eq!(simple, expect);
    let bare = parse(r#"{"custom_id": "b", "token_ids": [0, 511]}"#).unwrap();
    let sampling = SamplingFields::default();
    let (prompt, stop_token_ids) = (Prompt::TokenIds(vec![0, 511]), vec![]);
    let expect = Request { custom_id: "b".into(), prompt, sampling, stop_token_ids, ..silent() };
    assert_eq!(bare, expect);
    assert_eq!(parse(r#"{"custom_id": "b", "prompt": [0, 511]}"#).unwrap(), expect);
    assert_eq!(parse(r#"{"custom_id": "b", "prompt": "x", "top_k": -1}"#).unwrap().sampling.top_k, Some(0));
}

#[test]
fn j44_token_ids_are_named_by_their_place() {
    for bad in ["-1", "512", "9223372036854775808", "1.5", "\"7\"", "null", "true"] {
        refuse(
            &format!(r#"{{"custom_id": "a", "token_ids": [3, {bad}]}}"#),
            &format!("token_ids[1] is {bad}, must be a token id from 0 to 511"),
        );
    }
    refuse(r#"{"custom_id": "a", "prompt": [-1]}"#, "prompt[0] is -1, must be a token id from 0 to 511");
    refuse_field(r#""stop_token_ids": [512]"#, "stop_token_ids[0] is 512, must be a token id from 0 to 511");
    let many = vec!["1"; 65].join(",");
    refuse_field(&format!(r#""stop_token_ids": [{many}]"#), "stop_token_ids is 65, must be at most 64 token ids");
}

#[test]
fn j48_lines_that_are_not_json_objects() {
    refuse("{\"a\": ", "not JSON: column 6: EOF while parsing a value");
    refuse("[1]", "is a list, must be an object");
    refuse("\"x\"", "is a string, must be an object");
    let refused = LineParser::new(VOCABULARY).parse(b"{\"custom_id\": \"\xff\"}").unwrap_err();
    assert_eq!(refused.error.to_string(), "not JSON: column 16: byte 0xff is not UTF-8");
}

#[test]
fn j51_names_that_cannot_name_a_result() {
    let check = |id: &str, shown: &str| {
        let rest = "must be a string of 1 to 256 bytes without control characters";
        refuse(&format!(r#"{{"custom_id": {id}, "prompt": "x"}}"#), &format!("custom_id is {shown}, {rest}"));
    };
    check("null", "null");
    check("7", "7");
    check("\"\"", "\"\"");
    check("\"a\\nb\"", "\"a\\nb\"");
    check(&format!("\"{}\"", "i".repeat(257)), &format!("\"{}…\"", "i".repeat(80)));
    assert!(parse(&format!(r#"{{"custom_id": "{}", "prompt": "x"}}"#, "i".repeat(256))).is_ok());
    let absent = "custom_id is null, must be a string of 1 to 256 bytes without control characters";
    refuse(r#"{"prompt": "x"}"#, absent);
}

#[test]
fn j52_a_typo_is_an_error_and_other_names_are_told_once() {
    refuse_field(r#""max_token": 3"#, "\"max_token\" is not a field; did you mean \"max_tokens\"");
    refuse_field(r#""temprature": 1"#, "\"temprature\" is not a field; did you mean \"temperature\"");
    refuse_field(r#""topk": 1"#, "\"topk\" is not a field; did you mean \"top_k\"");
    refuse(r#"{"custom_id": "a", "body": {"promt": "x"}}"#, "\"promt\" is not a field; did you mean \"prompt\"");
    let mut parser = LineParser::new(VOCABULARY);
    for _ in 0..3 {
        parser.parse(br#"{"custom_id": "a", "prompt": "x", "topic": 1, "id": 2, "difficulty": "hard"}"#).unwrap();
    }
    assert_eq!(parser.unknown().collect::<Vec<_>>(), ["difficulty", "id", "topic"]);
}

#[test]
fn j53_a_key_twice() {
    let line = r#"{"custom_id": "a", "prompt": "x", "prompt": "y"}"#;
    refuse(line, "not JSON: column 42: duplicate key \"prompt\"");
}

#[test]
fn j54_a_prompt_too_long_or_empty_or_of_the_wrong_kind() {
    let error = LineError::PromptTooLong { tokens: 300, limit: 255 };
    let expect = "the prompt has 300 tokens, the limit is 255: max_model_len 256 less one to generate";
    assert_eq!((error.code(), error.to_string()), ("prompt_too_long", expect.to_string()));
    refuse(r#"{"custom_id": "a", "token_ids": []}"#, "the prompt has no tokens; at least one is needed");
    refuse(r#"{"custom_id": "a"}"#, "no prompt; give prompt (text), messages or token_ids");
    refuse(r#"{"custom_id": "a", "prompt": "x", "token_ids": [1]}"#, "both prompt and token_ids; give one");
    refuse(
        r#"{"custom_id": "a", "prompt": ["x", "y"]}"#,
        "prompt is [\"x\",\"y\"], must be a text or a list of token ids; one prompt a line",
    );
    refuse(
        r#"{"custom_id": "a", "prompt": 3}"#,
        "prompt is 3, must be a text or a list of token ids; one prompt a line",
    );
    let refused = parse(r#"{"custom_id": "a", "messages": [{"role": "user", "content": "x"}]}"#).unwrap_err();
    assert_eq!(refused.custom_id.as_deref(), Some("a"));
    assert_eq!(refused.error.to_string(), "messages: the model has no chat template; give prompt (text) or token_ids");
}

#[test]
fn j64_values_of_the_wrong_type_or_out_of_range() {
    let deep = format!(r#"{{"custom_id": "a", "prompt": {}}}"#, "[".repeat(10_000));
    refuse(&deep, "not JSON: column 157: nested deeper than 128 levels");
    refuse_field(r#""temperature": 1e400"#, "not JSON: column 54: number out of range");
    refuse_field(r#""temperature": NaN"#, "not JSON: column 50: expected value");
    let warm = "must be 0, or a number from 0.00001 to 100";
    for bad in ["\"0.7\"", "-1", "1e-9", "101", "true"] {
        refuse_field(&format!(r#""temperature": {bad}"#), &format!("temperature is {bad}, {warm}"));
    }
    let seeds = "must be a whole number from 0 to 18446744073709551615";
    refuse_field(r#""seed": 18446744073709551616"#, &format!("seed is 1.8446744073709552e+19, {seeds}"));
    refuse_field(r#""seed": -1"#, &format!("seed is -1, {seeds}"));
    for bad in ["0", "1.1", "-0.5"] {
        refuse_field(&format!(r#""top_p": {bad}"#), &format!("top_p is {bad}, must be a number over 0, up to 1"));
    }
    refuse_field(r#""min_p": 1.5"#, "min_p is 1.5, must be a number from 0 to 1");
    refuse_field(r#""top_k": -2"#, "top_k is -2, must be a whole number from 0 to 4294967295 (0 keeps all)");
    for bad in ["0", "-1", "2147483648", "1.5", "\"9\""] {
        let allowed = "a whole number from 1 to 2147483647";
        refuse_field(&format!(r#""max_tokens": {bad}"#), &format!("max_tokens is {bad}, must be {allowed}"));
    }
    refuse_field(
        r#""max_tokens": 1, "max_completion_tokens": 1"#,
        "both max_tokens and max_completion_tokens; give one",
    );
    refuse_field(r#""n": 1000000000"#, "n is 1000000000, must be a whole number from 1 to 128");
    refuse_field(r#""ignore_eos": 1"#, "ignore_eos is 1, must be true or false");
    refuse_field(r#""echo": true"#, "echo: not supported; leave it out");
    refuse_field(r#""best_of": 2"#, "best_of: not supported; leave it out");
    assert!(parse(r#"{"custom_id": "a", "prompt": "x", "echo": false, "best_of": 1}"#).is_ok());
    refuse(r#"{"custom_id": "a", "method": "GET", "body": {"prompt": "x"}}"#, "method is \"GET\", must be \"POST\"");
    refuse(
        r#"{"custom_id": "a", "url": "/v1/embeddings", "body": {"prompt": "x"}}"#,
        "url is \"/v1/embeddings\", must be \"/v1/completions\" or \"/v1/chat/completions\"",
    );
    refuse(r#"{"custom_id": "a", "body": 1}"#, "body is 1, must be an object");
}

#[test]
fn j47_line_ends_of_both_kinds_and_none() {
    let line = r#"{"custom_id": "a", "prompt": "x"}"#;
    let text = format!("\u{feff}{line}\r\n\n{}", line.replace("\"a\"", "\"b\""));
    let mut reader = LineReader::new(text.as_bytes());
    let mut seen = Vec::new();
    while let Some(raw) = reader.next_line().unwrap() {
        let request = line_request(&mut LineParser::new(VOCABULARY), &raw).unwrap();
        seen.push((raw.number, raw.offset, request.custom_id));
    }
    assert_eq!(seen, [(1, 0, "a".to_string()), (3, 39, "b".to_string())]);
}

#[test]
fn j49_a_huge_line_is_passed_over() {
    // Twice the limit, made as it is read.
    let huge = std::io::Read::take(std::io::repeat(b'x'), 2 * LINE_BYTES_MAX);
    let source = std::io::Read::chain(std::io::Read::chain(&b"{}\n"[..], huge), &b"\n{\"custom_id\": \"b\"}\n"[..]);
    let mut reader = LineReader::new(std::io::BufReader::new(source));
    assert_eq!(reader.next_line().unwrap().unwrap().text, Some(&b"{}"[..]));
    let line = reader.next_line().unwrap().unwrap();
    assert_eq!((line.number, line.offset, line.text), (2, 3, None));
    let refused = line_request(&mut LineParser::new(VOCABULARY), &line).unwrap_err();
    let expect = "33554432 bytes from byte 3 of the file on, over the limit of 16777216; skipped";
    assert_eq!((refused.error.code(), refused.error.to_string()), ("line_too_long", expect.to_string()));
    let last = reader.next_line().unwrap().unwrap();
    assert_eq!((last.number, last.offset), (3, 3 + 2 * LINE_BYTES_MAX + 1));
    assert!(reader.next_line().unwrap().is_none());
}

#[test]
fn result_lines_have_the_form_of_batch_results() {
    let mut out = Vec::new();
    let choices = [Choice {
        index: 0,
        text: Some("é\n".into()),
        token_ids: vec![1, 2],
        finish_reason: FinishReason::Length,
        stop_reason: None,
        logprobs: None,
        prompt_logprobs: None,
    }];
    let line = ResultLine {
        line: 7,
        custom_id: "a",
        model: "m",
        created: 5,
        form: Form::Completion,
        choices: &choices,
        usage: Usage::new(3, 2),
    };
    line.write(&mut out).unwrap();
    parse("{}").unwrap_err().write(8, &mut out).unwrap();
    let expect = [
        r#"{"id":"batch_req_7","custom_id":"a","response":{"status_code":200,"request_id":"req-7","body":{"id":"cmpl-7","#,
        r#""object":"text_completion","created":5,"model":"m","choices":[{"index":0,"text":"é\n","token_ids":[1,2],"#,
        r#""finish_reason":"length","stop_reason":null,"logprobs":null}],"usage":{"prompt_tokens":3,"completion_tokens":2,"#,
        r#""total_tokens":5}}},"error":null}"#,
        "\n",
        r#"{"id":"batch_req_8","custom_id":null,"response":null,"error":{"code":"invalid_custom_id","message":"#,
        r#""custom_id is null, must be a string of 1 to 256 bytes without control characters","line":8}}"#,
        "\n",
    ];
    assert_eq!(String::from_utf8(out).unwrap(), expect.concat());
}
