"""Stages of run.sh: each a function that records results. README.md beside this says what they are."""

import argparse
import collections
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = os.environ.get("PROGRAM", str(ROOT / "target/release/millstream"))
OUT = Path(os.environ.get("OUT", ROOT / "benches/gpu/out"))
RESULTS = OUT / "results.jsonl"
STAGE_SECONDS = 540
SHAPES = ["llama-3.2-1b", "llama-3.1-8b"]
DEVICE = ["--device", "cuda"]
# Programs that check at once: each leaves most of a GPU idle.
AT_ONCE = 8
WRITING = threading.Lock()


class Clock:
    """How long a stage, and all of them, may still take."""

    def __init__(self, seconds):
        self.end = time.time() + seconds

    def left(self):
        return max(0.0, self.end - time.time())


def known():
    """Results so far."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines() if line.strip()]


def record(stage, name, **fields):
    """One result, written at once."""
    with WRITING, RESULTS.open("a") as file:
        file.write(json.dumps({"stage": stage, "name": name, "at": round(time.time(), 1), **fields}) + "\n")
    print(f"{stage}: {name}: " + ", ".join(f"{key} {value}" for key, value in fields.items()), flush=True)


def is_known(stage, name):
    return any(result["stage"] == stage and result["name"] == name for result in known())


def call(command, clock, **more):
    """The exit code and everything a command said; 124 where it took too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(5, clock.left()), cwd=ROOT, **more)
        return done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired as late:
        return 124, (late.stdout or b"").decode(errors="replace") + "\ntoo long"
    except OSError as error:
        return 127, str(error)


def last(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def environment(clock):
    query = "name,driver_version,memory.total,clocks.max.sm,power.limit"
    code, text = call(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], clock)
    record("environment", "gpu", code=code, said=text.strip())
    code, text = call([PROGRAM, "--version"], clock)
    record("environment", "engine", code=code, said=text.strip())
    commit = os.environ.get("COMMIT") or call(["git", "rev-parse", "HEAD"], clock)[1].strip()
    record("environment", "commit", commit=commit)
    libraries = "import ctypes\nfor n in ['libcuda.so.1','libcublasLt.so.13','libnccl.so.2','libmpi.so.40']:\n try:\n  ctypes.CDLL(n); print(n)\n except OSError as e: pass"
    record("environment", "libraries", found=call([sys.executable, "-c", libraries], clock)[1].split())


def timed(torch, function, bytes_or_flops):
    """Median rate over seven measurements of at least 20 ms, by events."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def once(count):
        begin.record()
        for _ in range(count):
            function()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / count

    once(3)
    count = max(1, int(0.02 / once(3)))
    return bytes_or_flops / statistics.median(once(count) for _ in range(7))


def ceilings(clock):
    import torch

    elements = 1 << 30
    source = torch.randint(0, 1000, (elements // 2,), device="cuda", dtype=torch.int32)
    target = torch.empty_like(source)
    record("ceilings", "copy", rate=timed(torch, lambda: target.copy_(source), 2 * source.nbytes), unit="B/s")
    record("ceilings", "read", rate=timed(torch, lambda: source.view(torch.float32).sum(), source.nbytes), unit="B/s")
    del source, target
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    record("ceilings", "bf16 product", rate=timed(torch, lambda: a @ b, 2 * n**3), unit="FLOP/s")


def kernels(clock):
    code, text = call([sys.executable, "kernels/gpu/prove.py"], clock)
    failed = [line for line in text.splitlines() if line.startswith("FAILED")]
    record("kernels", "all", code=code, failed=failed, said=last(text))


def reference(clock, name, dtype, bound):
    """A conformance model three times: its error, its greedy tokens, and whether all three say the same."""
    item = f"{name} {dtype}"
    if is_known("references", item) or clock.left() < 20:
        return
    flags = ["--dtype", dtype, "--kv-cache-dtype", dtype, "--tolerance", bound]
    command = [PROGRAM, "parity", "--model", f"tests/conformance/{name}", *DEVICE, *flags]
    runs = [call(command, clock) for _ in range(3)]
    errors = [float(e) for e in re.findall(r"largest error ([0-9.e+-]+);", runs[0][1])]
    greedy = [tuple(map(int, g)) for g in re.findall(r"(\d+) of (\d+) greedy", runs[0][1])]
    record(
        "references",
        item,
        code=runs[0][0],
        error=max(errors, default=None),
        greedy=f"{sum(a for a, _ in greedy)} of {sum(b for _, b in greedy)}",
        same=len({text for _, text in runs}) == 1,
        said="" if errors else last(runs[0][1]),
    )


def references(clock):
    folders = sorted(path.name for path in (ROOT / "tests/conformance").iterdir() if (path / "expected.json").exists())
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for dtype, bound in [("f32", "2e-4"), ("bf16", "2")]:
            for name in folders:
                pool.submit(reference, clock, name, dtype, bound)


def job():
    """Lines that share prompts, greedy and drawn, with log-probabilities."""
    prompts = ["A vector", "Ownership is one of the things that a reader of this book meets early on", "The compiler"]
    for number in range(200):
        line = {"custom_id": f"id{number}", "prompt": f"{prompts[number % 3]} {number % 7}", "max_tokens": 1 + number * 7 % 40}
        line |= {"temperature": 0.8} if number % 2 else {}
        line |= {"logprobs": 2} if number % 4 == 0 else {}
        yield json.dumps(line)


def bits(clock):
    settings = [
        [],
        ["--max-num-seqs", "1"],
        ["--max-num-seqs", "64", "--max-num-batched-tokens", "2048"],
        ["--max-num-batched-tokens", "16", "--max-num-seqs", "3"],
        ["--no-enable-prefix-caching"],
        ["--kv-cache-memory-bytes", "4194304"],
    ]
    with tempfile.TemporaryDirectory() as folder:
        lines, gold = Path(folder) / "job.jsonl", None
        lines.write_text("\n".join(job()) + "\n")
        for number, flags in enumerate(settings):
            out = Path(folder) / f"out-{number}.jsonl"
            code, text = call([PROGRAM, "run", str(lines), "-o", str(out), *DEVICE, *flags], clock)
            found = re.sub(r'"created":\d+', "", out.read_text()) if code == 0 else None
            gold = found if number == 0 else gold
            record("bits", " ".join(flags) or "defaults", code=code, same=found is not None and found == gold, said=last(text) if code else "")


def wide_model(folder):
    """A model with random weights whose sums are made in runs, as those of the conformance models are too short to be."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((ROOT / "tests/conformance/llama/config.json").read_text())
    config |= {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4}
    config |= {"head_dim": 64, "vocab_size": 512, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    random = torch.Generator().manual_seed(1)
    normal = lambda n, k: (torch.randn(n, k, generator=random) * k**-0.5).bfloat16()  # noqa: E731
    ones = lambda: torch.ones(512, dtype=torch.bfloat16)  # noqa: E731
    tensors = {"model.embed_tokens.weight": normal(512, 512) * 8, "model.norm.weight": ones(), "lm_head.weight": normal(512, 512) * 4}
    for layer in range(2):
        at = f"model.layers.{layer}."
        widths = {"self_attn.q_proj": (512, 512), "self_attn.k_proj": (256, 512), "self_attn.v_proj": (256, 512)}
        widths |= {"self_attn.o_proj": (512, 512), "mlp.gate_proj": (1024, 512), "mlp.up_proj": (1024, 512), "mlp.down_proj": (512, 1024)}
        tensors |= {f"{at}{name}.weight": normal(*shape) for name, shape in widths.items()}
        tensors |= {f"{at}{name}.weight": ones() for name in ("input_layernorm", "post_attention_layernorm")}
    save_file(tensors, folder / "model.safetensors")


def wide(clock):
    """The wide model on the GPU against the cores, and against itself in other company."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wide_model(folder)
        lines = folder / "job.jsonl"
        line = {"max_tokens": 16, "temperature": 0, "ignore_eos": True, "logprobs": 5}
        ids = lambda number: [1 + (number * 37 + i * 101) % 500 for i in range(3 + number * 5)]  # noqa: E731
        lines.write_text("".join(json.dumps({"custom_id": str(n), "token_ids": ids(n), **line}) + "\n" for n in range(40)))

        def run(number, flags):
            out = folder / f"out-{number}.jsonl"
            code, text = call([PROGRAM, "run", str(lines), "-o", str(out), "--model", name, "--dtype", "bf16", *flags], clock)
            if code:
                return code, last(text), "", {}
            told = re.sub(r'"created":\d+', '"created":0', out.read_text())
            results = {r["custom_id"]: r["response"]["body"]["choices"][0]["logprobs"] for r in map(json.loads, told.splitlines())}
            return code, "", told, results

        cores = run(0, ["--device", "cpu"])
        for more in ([], ["-q", "q8_0-weight-only"], ["-q", "q4_0-weight-only"]):
            against = cores if not more else run(f"cores {more[1]}", ["--device", "cpu", *more])
            first = run(f"gpu {more}", [*DEVICE, "--max-num-seqs", "64", *more])
            apart = [run(f"gpu {more} {flags}", [*DEVICE, *flags, *more]) for flags in (["--max-num-seqs", "1"], ["--max-num-batched-tokens", "48"])]
            tops = [(mine["top_logprobs"][0], against[3][key]["top_logprobs"][0]) for key, mine in first[3].items() if key in against[3]]
            far = max((abs(value - other[token]) for mine, other in tops for token, value in mine.items() if token in other), default=None)
            same = bool(first[2]) and all(first[2] == other[2] for other in apart)
            record("wide", " ".join(more) or "bf16", code=first[0] or against[0], far=far, same=same, said=first[1] or against[1])


def sanitizer(clock):
    for tool in ["memcheck", "racecheck", "initcheck"]:
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", PROGRAM, "generate", "A vector", "--max-tokens", "4", *DEVICE]
        code, text = call(command, clock)
        record("sanitizer", tool, code=code, said=last(text))


def bench(shape, flags):
    """The command that measures a shape with made-up weights."""
    more = ["--dtype", "bf16", "--kv-cache-dtype", "bf16", "--json", "-r", "3"]
    return [PROGRAM, "bench", "--dummy-weights", "--model", f"benches/shapes/{shape}", *DEVICE, *more, *flags]


def rates(clock):
    for shape in SHAPES:
        for name, flags in [
            ("plain", ["-p", "2048", "-n", "128", "--batch", "1,8,64", "--max-num-batched-tokens", "2048"]),
            ("q8_0", ["-p", "0", "-n", "64", "--batch", "1,8", "-q", "q8_0-weight-only"]),
            ("q4_0", ["-p", "0", "-n", "64", "--batch", "1,8", "-q", "q4_0-weight-only"]),
            ("chunk of 8192", ["-p", "8192", "-n", "0", "--max-num-batched-tokens", "8192"]),
        ]:
            item = f"{shape} {name}"
            if is_known("rates", item) or clock.left() < 20:
                continue
            code, text = call(bench(shape, flags), clock)
            found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
            record("rates", item, code=code, rows=found, said="" if found else last(text))


# Where a step's time goes: what is run, and how many launches are passed over until steps are all alike.
PROFILES = [("decode", ["-p", "0", "-n", "8"], 1200), ("decode batch 64", ["-p", "0", "-n", "8", "--batch", "64"], 1200)]
PROFILES += [("prefill 2048", ["-p", "2048", "-n", "0", "--max-num-batched-tokens", "2048"], 0)]


def profile(clock):
    """Time and bytes of each kernel, by Nsight Compute, over some steps' launches."""
    for shape in SHAPES:
        for name, flags, skipped in PROFILES:
            item = f"{shape} {name}"
            if is_known("profile", item) or clock.left() < 40:
                continue
            counters = "gpu__time_duration.sum,dram__bytes_read.sum"
            ncu = ["ncu", "--clock-control", "none", "--csv", "--page", "raw", "--metrics", counters]
            ncu += ["--launch-skip", str(skipped), "--launch-count", "500"]
            code, text = call([*ncu, *bench(shape, flags)], clock)
            lines = [line for line in text.splitlines() if line.startswith('"')]
            times = collections.defaultdict(lambda: [0, 0.0, 0.0])
            units = {}
            for row in csv.DictReader(lines):
                if not row["ID"]:
                    units = row
                    continue
                kernel = times[f"{row['Kernel Name'].split('(')[0]} {row['Grid Size']} {row['Block Size']}"]
                kernel[0] += 1
                kernel[1] += number(row, units, "gpu__time_duration.sum")
                kernel[2] += number(row, units, "dram__bytes_read.sum")
            kernels = [[kernel, *sums] for kernel, sums in sorted(times.items(), key=lambda item: -item[1][1])]
            record("profile", item, code=code, kernels=kernels, said="" if kernels else last(text))


def number(row, units, name):
    """A counter of a row, in bytes or microseconds."""
    scale = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6, "byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}
    return float(row[name].replace(",", "") or 0) * scale.get(units.get(name, ""), 1.0)


def peers(clock):
    script = ROOT / "benches/gpu/peers.py"
    for shape, flags in [(shape, []) for shape in SHAPES] + [(SHAPES[0], ["--compiled"])]:
        item = " ".join([shape, *flags])
        if is_known("peers", item) or clock.left() < 30:
            continue
        code, text = call([sys.executable, str(script), str(ROOT / "benches/shapes" / shape), *flags], clock)
        found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        record("peers", item, code=code, rows=found, said="" if found else last(text))


STAGES = [environment, ceilings, kernels, references, bits, wide, rates, profile, peers, sanitizer]


def table():
    """What there is, with shares of the ceilings of the same file."""
    results = known()
    limits = {result["name"]: result["rate"] for result in results if result["stage"] == "ceilings" and "rate" in result}
    print("\n| what | found | share |\n|---|---|---|")
    for result in results:
        if result["stage"] == "references":
            print(f"| {result['name']} | error {result['error']}, greedy {result['greedy']}, same bits {result['same']} | |")
        elif result["stage"] == "bits":
            print(f"| bits: {result['name']} | {'same' if result['same'] else 'DIFFERENT ' + result['said']} | |")
        for kernel, count, time_us, bytes_read in result.get("kernels", [])[:12]:
            print(f"| {result['name']}: {kernel} | {count} launches, {time_us / count:.1f} us each | {bytes_read / time_us * 1e6 / limits.get('read', 1e12):.0%} |")
        if result["stage"] == "wide":
            print(f"| wide model, {result['name']} | {result['far']} from the cores, same bits in other company {result['same']} | |")
        for row in result.get("rows", []):
            rate, share = row.get("median_ts"), ""
            of = [(row.get("bytes_per_token"), limits.get("read")), (row.get("flops_per_token"), limits.get("bf16 product"))]
            shares = [amount * rate / limit for amount, limit in of if amount and limit and rate]
            share = f"{max(shares):.0%}" if shares else ""
            print(f"| {result['stage']}: {result['name']}, {row.get('test')} | {rate} tokens/s | {share} |")
        if result.get("code"):
            print(f"| {result['stage']}: {result['name']} | failed, code {result['code']}: {result.get('said', '')} | |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", help="only these, by name, with commas between")
    parser.add_argument("--budget", type=float, default=2400, help="seconds for all stages")
    parser.add_argument("--table", action="store_true", help="print what there is and end")
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    names = args.stage.split(",") if args.stage else [stage.__name__ for stage in STAGES]
    unknown = set(names) - {stage.__name__ for stage in STAGES}
    if unknown:
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(stage.__name__ for stage in STAGES)}")
    if not args.table:
        whole = Clock(args.budget)
        for stage in STAGES:
            if stage.__name__ not in names or whole.left() < 10:
                continue
            try:
                stage(Clock(min(STAGE_SECONDS, whole.left())))
            except Exception as error:  # one stage's fault is a result, and the others go on
                record(stage.__name__, "fault", code=1, said=repr(error)[:300])
    table()


if __name__ == "__main__":
    main()
