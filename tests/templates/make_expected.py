"""Render the conversations of cases.json with every template here, as transformers does, and write expected.json.

usage: make_expected.py            (needs transformers and jinja2; no torch)

For each template and conversation: the text of `apply_chat_template`, and the ids with the tokenizer that TOKENIZERS names; or what was
raised. `strftime_now` says 2026-11-26 12:00:00. In conversations that are `spelled` the texts spell special tokens: the text of
transformers still counts, its ids do not.
"""
import datetime, json, os, shutil, tempfile
import transformers.utils.chat_template_utils as chat_template_utils
from transformers import PreTrainedTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
TOKENIZERS = {"llama3": "byte_level", "qwen3": "byte_level", "mistral": "sentencepiece", "gemma": "sentencepiece_plain", "phi": "byte_level",
              "deepseek": "byte_level", "harmony": "byte_level", "command_r": "byte_level", "chatml": "byte_level", "granite": "unigram"}
KINDS = ["byte_level", "sentencepiece", "sentencepiece_plain", "unigram"]


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 11, 26, 12, 0, 0)


chat_template_utils.datetime = Clock


def main():
    cases = json.load(open(os.path.join(HERE, "cases.json"), encoding="utf-8"))
    expected = {}
    for name, kind in TOKENIZERS.items():
        with tempfile.TemporaryDirectory() as folder:
            for file in ["tokenizer.json", "tokenizer_config.json"]:
                shutil.copy(os.path.join(HERE, "..", "tokenizers", kind, file), folder)
            shutil.copy(os.path.join(HERE, name + ".jinja"), os.path.join(folder, "chat_template.jinja"))
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        results = {}
        for case in cases:
            arguments = dict(tools=case.get("tools"), documents=case.get("documents"), **case.get("chat_template_kwargs", {}),
                             add_generation_prompt=case.get("add_generation_prompt", True),
                             continue_final_message=case.get("continue_final_message", False))
            try:
                text = tokenizer.apply_chat_template(case["messages"], tokenize=False, **arguments)
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                results[case["name"]] = {"text": text} if case.get("spelled") else {"text": text, "ids": ids}
            except Exception as error:
                results[case["name"]] = {"raised": type(error).__name__ + ": " + str(error)[:120].split("\n")[0]}
        expected[name] = {"tokenizer": kind, "results": results}
        print(name, sum("text" in r for r in results.values()), "of", len(results))
    with open(os.path.join(HERE, "expected.json"), "w", encoding="utf-8") as out:
        json.dump(expected, out, ensure_ascii=False, indent=0)
        out.write("\n")


main()
