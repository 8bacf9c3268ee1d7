"""Rates of transformers' `generate` on a shape of benches/shapes with random weights, bf16, on this GPU: a JSON line for each batch and for
prefill; with `--compiled` with a static cache and a compiled forward pass. The engine's own rates on the same shape are those of `run.py`'s
stage `rates`."""

import json
import statistics
import sys
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM

TOKENS = 64


def median_seconds(function, repeats=2):
    times = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        function()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def main():
    compiled = "--compiled" in sys.argv
    config = AutoConfig.from_pretrained(sys.argv[1])
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    vocabulary = config.vocab_size
    with torch.inference_mode():
        for batch in (1, 64) if compiled else (1, 8, 64):
            ids = torch.randint(0, vocabulary, (batch, 1), device="cuda")

            def generate():
                more = {"cache_implementation": "static"} if compiled else {}
                model.generate(ids, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, pad_token_id=0, **more)

            rate = batch * TOKENS / median_seconds(generate)
            name = "transformers, compiled," if compiled else "transformers"
            print(json.dumps({"test": f"{name} tg{TOKENS} batch {batch}", "median_ts": rate}), flush=True)
        for tokens in () if compiled else (2048, 8192):
            ids = torch.randint(0, vocabulary, (1, tokens), device="cuda")
            rate = tokens / median_seconds(lambda: model(ids, logits_to_keep=1))
            print(json.dumps({"test": f"transformers pp{tokens}", "median_ts": rate}), flush=True)


if __name__ == "__main__":
    main()
