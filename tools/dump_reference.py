#!/usr/bin/env python3
"""Write what every module of a transformers model gives for one prompt, for `millstream parity --reference FILE`.

usage: dump_reference.py MODEL -o FILE (--tokens 5,17,3 | --prompt TEXT | --case N) [--only PATTERN]...

FILE is a safetensors file: `token_ids` [rows] in i64, `logits` [rows, vocabulary], and under the path of each module
(model.layers.3.self_attn.o_proj) its rows [rows, width] in f32. It needs torch and transformers, runs on the CPU in f32 with eager
attention, and executes no code of the model's folder.
"""
import argparse
import fnmatch
import json
import os

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def rows_of(output, rows):
    """The output of a module as [rows, width], if it is such: one sequence, or heads before positions."""
    if isinstance(output, (tuple, list)):
        output = output[0] if output else None
    if not torch.is_tensor(output) or not output.is_floating_point():
        return None
    if output.ndim == 2 and output.shape[0] == rows:
        return output
    if output.ndim >= 3 and output.shape[0] == 1:
        if output.shape[1] == rows:
            return output[0].reshape(rows, -1)
        if output.ndim == 4 and output.shape[2] == rows:
            return output[0].transpose(0, 1).reshape(rows, -1)
    return None


def dump(model, token_ids):
    """What each module gave, by its path. A module that was called more than once is left out: its rows have no one meaning."""
    found, calls = {}, {}

    def keep(path):
        def hook(_module, _inputs, output):
            calls[path] = calls.get(path, 0) + 1
            rows = rows_of(output, len(token_ids))
            if rows is not None:
                found[path] = rows.detach().float().contiguous().clone()

        return hook

    hooks = [module.register_forward_hook(keep(path)) for path, module in model.named_modules() if path]
    with torch.no_grad():
        logits = model(torch.tensor([token_ids]), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    found = {path: rows for path, rows in found.items() if calls[path] == 1}
    found["logits"] = logits.float().contiguous().clone()
    return found


def tokens(args):
    if args.tokens:
        return [int(token) for token in args.tokens.split(",")]
    if args.case is not None:
        with open(os.path.join(args.model, "expected.json")) as file:
            return json.load(file)["cases"][args.case]["prompt"]
    return AutoTokenizer.from_pretrained(args.model, trust_remote_code=False)(args.prompt).input_ids


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder in Hugging Face layout")
    parser.add_argument("-o", "--output", required=True, help="the safetensors file to write")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--tokens", help="token ids, with commas between them")
    given.add_argument("--prompt", help="a text for the model's tokenizer")
    given.add_argument("--case", type=int, help="the prompt of a case of the folder's expected.json")
    parser.add_argument("--only", action="append", help="paths to write, * for any text; all unless given")
    args = parser.parse_args()
    token_ids = tokens(args)
    if len(token_ids) < 2:
        parser.error("at least 2 tokens are needed, so that positions can be told from a sequence")
    model = AutoModelForCausalLM.from_pretrained(
        args.model, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
    ).eval()
    found = dump(model, token_ids)
    if args.only:
        found = {path: rows for path, rows in found.items() if any(fnmatch.fnmatch(path, only) for only in args.only)}
    found["token_ids"] = torch.tensor(token_ids, dtype=torch.int64)
    save_file(found, args.output)
    print(f"{len(found) - 1} edges of {len(token_ids)} rows in {args.output}")


if __name__ == "__main__":
    main()
