//! Lines with `messages`: what they may say, what they become, and the results they end as.

mod chat_folder;

use chat_folder::Folder;
use millstream::checkpoint::LoadFormat;
use millstream::job::{Interrupt, Job, LineParser, Prompt, Unwatched};
use millstream::text::Conversation;
use millstream::{Checkpoint, Engine};
use serde_json::{Value, json};
use std::path::Path;

/// The conversation of a line, or what is wrong with it.
fn parse(body: Value) -> Result<Conversation, String> {
    let mut line = body;
    line["custom_id"] = json!("a");
    let request = LineParser::new(512).chat().parse(line.to_string().as_bytes());
    match request.map_err(|refused| format!("{}: {}", refused.error.code(), refused.error))?.prompt {
        Prompt::Chat(conversation) => Ok(*conversation),
        other @ (Prompt::Text(_) | Prompt::PlainText(_) | Prompt::TokenIds(_)) => Err(format!("{other:?}")),
    }
}

fn user() -> Value {
    json!([{"role": "user", "content": "hi"}])
}

#[test]
fn j81_messages_that_are_none() {
    let check = |body: Value, expect: &str| assert_eq!(parse(body), Err(expect.to_string()));
    let of = |message: Value| json!({"messages": [{"role": "user", "content": "x"}, message]});
    check(json!({"messages": []}), "invalid_value: messages is \"a list of 0\", must be a list of 1 to 4096 messages");
    let many: Vec<Value> = vec![json!({"role": "user", "content": "x"}); 10_000];
    check(
        json!({"messages": many}),
        "invalid_value: messages is \"a list of 10000\", must be a list of 1 to 4096 messages",
    );
    check(json!({"messages": "hi"}), "invalid_value: messages is \"hi\", must be a list of 1 to 4096 messages");
    check(of(json!("x")), "invalid_value: messages[1] is \"x\", must be an object with role and content");
    check(
        of(json!({"role": "<|im_end|>", "content": "x"})),
        "invalid_value: messages[1].role is \"<|im_end|>\", must be system, developer, user, assistant or tool",
    );
    check(
        of(json!({"content": "x"})),
        "invalid_value: messages[1].role is null, must be system, developer, user, assistant or tool",
    );
    check(
        of(json!({"role": "user"})),
        "invalid_value: messages[1].content is null, must be a text or a list of text parts",
    );
    check(
        of(json!({"role": "user", "content": 7})),
        "invalid_value: messages[1].content is 7, must be a text or a list of text parts",
    );
    check(
        of(json!({"role": "assistant", "content": null})),
        "invalid_value: messages[1].content is null, must be a text or a list of text parts",
    );
    check(
        of(json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]})),
        "invalid_value: messages[1].content[0].type is \"image_url\", must be \"text\"; nothing but texts is read",
    );
    check(
        of(json!({"role": "user", "content": [{"type": "text"}]})),
        "invalid_value: messages[1].content[0].text is null, must be a text",
    );
    check(
        of(json!({"role": "user", "content": "x", "tool_calls": [{}]})),
        "invalid_value: messages[1].tool_calls is \"a list of 1\", must be in a message of the assistant",
    );
    check(
        of(json!({"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]})),
        "invalid_value: messages[1].tool_calls[0].function.name is null, must be a text",
    );
    check(
        of(json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{bad"}}]})),
        "invalid_value: messages[1].tool_calls[0].function.arguments is \"a text of 4 bytes\", must be an object, or one written as JSON",
    );
}

#[test]
fn what_a_template_is_told_is_checked() {
    let check = |field: &str, value: Value, expect: &str| {
        let mut body = json!({"messages": user()});
        body[field] = value;
        assert_eq!(parse(body), Err(expect.to_string()));
    };
    check("tools", json!({}), "invalid_value: tools is \"an object\", must be a list of at most 1024 functions");
    check("tools", json!([{"type": "web"}]), "invalid_value: tools[0].type is \"web\", must be \"function\"");
    check(
        "tools",
        json!([{"type": "function", "function": {"name": ""}}]),
        "invalid_value: tools[0].function.name is \"\", must be a text of 1 to 256 bytes",
    );
    check("tool_choice", json!("required"), "invalid_value: tool_choice is \"required\", must be \"auto\" or \"none\"");
    check("documents", json!(["x"]), "invalid_value: documents[0] is \"x\", must be an object");
    check(
        "chat_template_kwargs",
        json!({"raise_exception": 1}),
        "invalid_value: chat_template_kwargs.raise_exception is \"there\", must be left out: templates have it from elsewhere",
    );
    check(
        "continue_final_message",
        json!("role"),
        "invalid_value: continue_final_message is \"role\", must be true, false, \"content\" or \"reasoning_content\"",
    );
    check("parse_special", json!(false), "invalid_value: parse_special needs prompt beside it");
    let both = json!({"messages": user(), "add_generation_prompt": true, "continue_final_message": true});
    assert_eq!(
        parse(both),
        Err("invalid_value: both add_generation_prompt and continue_final_message; give one".into())
    );
    let both = json!({"messages": user(), "prompt": "x"});
    assert_eq!(parse(both), Err("invalid_value: both prompt and messages; give one".into()));
    let alone = json!({"prompt": "x", "tools": [{"type": "function", "function": {"name": "f"}}]});
    assert_eq!(parse(alone), Err("invalid_value: tools needs messages beside it".into()));
}

#[test]
fn a_line_says_all_that_a_template_may_be_told() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\": [1, null]}"}});
    let got = parse(json!({
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "x"}, {"role": "assistant", "reasoning": "r", "tool_calls": []},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}], "documents": [{"title": "t"}], "reasoning_effort": "low",
        "chat_template": "rag", "chat_template_kwargs": {"k": 1}, "continue_final_message": "reasoning",
    })).unwrap();
    assert_eq!(got.messages[1]["tool_calls"][0]["function"]["arguments"], json!({"a": [1, null]}), "calls are read");
    assert!(!got.messages[3].contains_key("tool_calls"));
    assert_eq!((got.tools.map(|tools| tools.len()), got.documents.map(|list| list.len())), (Some(1), Some(1)));
    assert_eq!(Value::Object(got.arguments), json!({"k": 1, "reasoning_effort": "low"}));
    assert_eq!((got.add_generation_prompt, got.continue_final_message.as_deref()), (false, Some("reasoning")));
    let got = parse(
        json!({"messages": user(), "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"}),
    );
    assert_eq!(got.map(|got| (got.tools, got.add_generation_prompt)), Ok((None, true)));
}

/// A folder of a model that chats: the weights of a fixture, a tokenizer, and this template.
fn model(name: &str, template: Option<&str>) -> Folder {
    let folder = Folder::new(name, "byte_level");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/qwen3");
    for file in ["config.json", "generation_config.json", "model.safetensors"] {
        std::fs::copy(fixture.join(file), folder.dir().join(file)).expect("a file of the fixture");
    }
    if let Some(template) = template {
        folder.write("chat_template.jinja", template);
    }
    folder
}

/// The results of these lines.
fn run(folder: &Folder, lines: &[Value]) -> Vec<Value> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    folder.write("job.jsonl", &text);
    let builder = Engine::builder(Checkpoint::open(folder.dir(), LoadFormat::Mmap).expect("a good folder")).threads(1);
    let job = Job::new(folder.dir().join("job.jsonl"), folder.dir().join("out.jsonl"));
    let open = job.open(&builder).expect("a good job");
    let engine = builder.build().expect("a small model");
    open.run(&engine, &Interrupt::default(), &mut Unwatched).expect("it runs");
    let out = std::fs::read_to_string(folder.dir().join("out.jsonl")).expect("its output");
    out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn results_have_the_form_of_chat_completions() {
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";
    let folder = model("results", Some(template));
    let tokenizer = folder.load();
    // Of the line end at the end of a template nothing is left, as in Jinja.
    let rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant";
    let ids = tokenizer.encode_bare(rendered).unwrap();
    let settings = json!({"max_tokens": 6, "temperature": 0, "ignore_eos": true, "logprobs": true, "top_logprobs": 2});
    let line = |id: &str, more: Value| {
        let mut line = settings.clone();
        line["custom_id"] = json!(id);
        more.as_object().expect("an object").iter().for_each(|(name, value)| line[name] = value.clone());
        line
    };
    let mut body = settings.clone();
    body["messages"] = user();
    let results = run(
        &folder,
        &[
            line("chat", json!({"messages": user()})),
            json!({"custom_id": "batch", "method": "POST", "url": "/v1/chat/completions", "body": body}),
            line("ids", json!({"token_ids": ids})),
            line("prompt", json!({"prompt": "<|im_end|>"})),
            line("plain", json!({"prompt": "<|im_end|>", "parse_special": false})),
            line("spelled", json!({"messages": [{"role": "user", "content": "<|im_end|>"}]})),
        ],
    );
    let choice = |at: usize| &results[at]["response"]["body"]["choices"][0];
    let (chat, completion) = (&results[0]["response"]["body"], choice(2));
    assert_eq!((&chat["object"], &chat["id"]), (&json!("chat.completion"), &json!("chatcmpl-1")));
    assert_eq!(choice(0)["message"], json!({"role": "assistant", "content": completion["text"], "refusal": null}));
    assert_eq!(choice(0)["token_ids"], completion["token_ids"], "the template's text is that prompt");
    assert_eq!(choice(0), choice(1), "both kinds of lines give the same");
    assert_eq!(chat["usage"]["prompt_tokens"], json!(ids.len()));
    let told = choice(0)["logprobs"]["content"].as_array().expect("a list");
    assert_eq!(told.len(), 6);
    for (token, logprob) in told.iter().zip(completion["logprobs"]["token_logprobs"].as_array().expect("a list")) {
        assert_eq!(token["logprob"], *logprob);
        assert_eq!(token["top_logprobs"].as_array().map(Vec::len), Some(2));
        assert_eq!(token["top_logprobs"][0]["token"], token["token"], "the likeliest was taken");
    }
    let prompt_tokens =
        |at: usize| results[at]["response"]["body"]["usage"]["prompt_tokens"].as_u64().expect("a count");
    assert_eq!((prompt_tokens(3), results[3]["response"]["body"]["object"].as_str()), (2, Some("text_completion")));
    assert!(prompt_tokens(4) > 3, "spelled out");
    assert_eq!(
        prompt_tokens(5) - prompt_tokens(0),
        prompt_tokens(4) - 1 - tokenizer.encode_bare("hi").unwrap().len() as u64
    );
}

#[test]
fn a_template_that_refuses_is_an_error_of_its_line() {
    let template = "{% if messages[0].role == 'system' %}{{ raise_exception('No system message, please') }}{% endif %}a{{ messages[0].x.y }}";
    let folder = model("refusals", Some(template));
    let line =
        |id: &str, role: &str| json!({"custom_id": id, "messages": [{"role": role, "content": "hi"}], "max_tokens": 2});
    let results = run(
        &folder,
        &[line("a", "system"), line("b", "user"), json!({"custom_id": "c", "prompt": "x", "max_tokens": 2})],
    );
    let error = |at: usize| (results[at]["error"]["code"].as_str(), results[at]["error"]["message"].as_str());
    let refused = "the chat template refuses the messages: No system message, please (chat_template.jinja:1)";
    assert_eq!(error(0), (Some("refused_by_template"), Some(refused)));
    let failed = "chat_template.jinja:1: undefined value: `messages[0].x` is undefined; the chat template cannot render these messages";
    assert_eq!(error(1), (Some("chat_template"), Some(failed)));
    assert_eq!(results[2]["error"], Value::Null);
    let folder = model("no-template", None);
    let results = run(&folder, &[line("a", "user"), json!({"custom_id": "c", "prompt": "x", "max_tokens": 2})]);
    let message = "messages: the model has no chat template; give prompt (text) or token_ids";
    assert_eq!(results[0]["error"]["code"], "no_chat_template");
    assert!(results[0]["error"]["message"].as_str().is_some_and(|said| said.starts_with(message)));
}

/// The date of a template is that of the job, so a line that runs again on another day has the same prompt.
#[test]
fn the_date_is_that_of_the_job() {
    let folder = model("dates", Some("{{ strftime_now('%Y-%m-%d %H:%M:%S') }}"));
    let line = json!({"custom_id": "a", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "prompt_logprobs": 0});
    let results = run(&folder, &[line]);
    let body = &results[0]["response"]["body"];
    let told = body["choices"][0]["prompt_logprobs"].as_array().expect("a list");
    let token =
        |told: &Value| told.as_object().and_then(|map| map.values().next()).map(|told| told["decoded_token"].clone());
    let spelled: String = told.iter().filter_map(token).filter_map(|text| text.as_str().map(String::from)).collect();
    let now = chrono::DateTime::from_timestamp(body["created"].as_i64().expect("a time"), 0).expect("in range");
    let expect = now.format("%Y-%m-%d %H:%M:%S").to_string();
    assert!(expect.ends_with(&spelled) && spelled.len() + 4 > expect.len(), "{spelled} and not {expect}");
}
