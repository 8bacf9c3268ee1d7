"""Times candidates for the rows of variants.toml on a GPU, and holds each against the bits of the first of its case.

`tune.py build FOLDER` compiles the candidates without a GPU; `tune.py run FOLDER [--only NAME]` launches them where there is one: a line each with
its time and its share of what the device reads or multiplies (given by --read and --flops, as measured by benches/gpu).
"""

import argparse
import concurrent.futures
import json
import os
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import catalogue

DIV = ["k", "part", "n0", "n1", "n2"]
PAGE = 16


@dataclass
class Candidate:
    """A variant, and for which case."""

    case: str
    variant: catalogue.Variant

    @property
    def id(self):
        v = self.variant
        return f"{v.id}-w{v.warps}-s{v.stages}"


def of(name, **changes):
    """The first variant of a kernel, changed."""
    found = next(v for v in catalogue.variants().values() if v.kernel == name and v.dtype in ("bf16", ""))
    constants = found.constexprs | {k: v for k, v in changes.items() if k.isupper()}
    types = found.types | changes.get("types", {})
    div16 = changes.get("div16", found.div16)
    return replace(found, constexprs=constants, types=types, div16=div16, warps=changes["warps"], stages=changes["stages"])


# Output widths of the weights that share x, and terms.
SHAPES = {
    "1b qkv": ((2048, 512, 512), 2048), "1b o": ((2048,), 2048), "1b up": ((8192, 8192), 2048), "1b down": ((2048,), 8192),
    "8b qkv": ((4096, 1024, 1024), 4096), "8b o": ((4096,), 4096), "8b up": ((14336, 14336), 4096), "8b down": ((4096,), 14336),
    "head": ((128256,), 2048),
}  # fmt: skip
FEW = ["1b qkv", "1b o", "1b up", "1b down", "8b qkv", "8b up", "8b down"]


def candidates():
    """All of them."""
    for shape in [*FEW, "head"]:
        for bn, bk, stages in [(64, 64, 8), (64, 64, 5), (64, 128, 4), (128, 64, 5)]:
            for parted in (0, 2):
                v = of("contract", PARTED=parted, EVEN=1, EARLY=0, BLOCK_N=bn, BLOCK_R=16, BLOCK_K=bk, warps=4, stages=stages, div16=DIV)
                yield Candidate(f"decode {shape}", v)
    for shape in ["1b qkv", "1b o", "1b up", "1b down", "8b up", "8b down"]:
        for bn, br, warps, stages in [(64, 64, 4, 6), (64, 64, 4, 4), (128, 64, 8, 4), (128, 64, 4, 4)]:
            for parted in (0, 2):
                v = of(
                    "contract", types={"x": "ptr:W"}, PARTED=parted, EVEN=1, EARLY=0, BLOCK_N=bn, BLOCK_R=br, BLOCK_K=64, warps=warps, stages=stages, div16=DIV
                )
                yield Candidate(f"batch {shape}", v)
    for shape in ["1b qkv", "1b up", "8b qkv", "8b up", "8b down"]:
        for bn, br, bk, warps, stages in [(128, 128, 64, 8, 4), (128, 128, 64, 4, 4), (128, 256, 64, 8, 3), (128, 256, 64, 8, 4), (256, 128, 64, 8, 3), (64, 256, 64, 4, 4)]:
            for parted in (0, 1):
                if parted and (bn * br > 128 * 128 or shape not in ("1b qkv", "8b down")):
                    continue
                v = of(
                    "contract", types={"x": "ptr:W"}, PARTED=parted, EVEN=1, EARLY=0, BLOCK_N=bn, BLOCK_R=br, BLOCK_K=bk, warps=warps, stages=stages, div16=DIV
                )
                yield Candidate(f"prompt {shape}", v)
    for d in (64, 128):
        for bm, bp, warps, stages in [(128, 64, 8, 3), (128, 64, 8, 2), (128, 128, 8, 2), (64, 64, 4, 3), (64, 64, 4, 2), (64, 128, 4, 2), (128, 64, 4, 3), (64, 64, 8, 2), (128, 32, 8, 3), (64, 32, 4, 4)]:
            for loops in (1, 3):
                v = of("prompt", D=d, TAIL=0, CAPPED=0, LOOPS=loops, BLOCK_M=bm, BLOCK_P=bp, warps=warps, stages=stages, div16=["head_dim"])
                yield Candidate(f"attend prompt {d}", v)
        for bp, warps, stages in [(64, 4, 3), (32, 4, 4), (128, 4, 2), (64, 2, 3), (64, 4, 4), (128, 8, 2)]:
            v = of("generated", D=d, TAIL=0, CAPPED=0, GROUP=16, BLOCK_P=bp, warps=warps, stages=stages, div16=["head_dim"])
            yield Candidate(f"attend generated {d}", v)
    for bits in (8, 4):
        for shape in ["1b qkv", "1b up", "8b up", "8b down"]:
            for at_once, bn, stages, warps in [(256, 64, 3, 4), (128, 64, 4, 4), (128, 64, 6, 4), (256, 64, 2, 4), (128, 128, 4, 4)]:
                for parted in (1, 2):
                    types = {f"w{i}": "ptr:i8" if bits == 8 else "ptr:u8" for i in range(3)}
                    v = of(
                        "contract_blocks", types=types, BITS=bits, GROUP=32, PARTED=parted, AT_ONCE=at_once, BLOCK_N=bn, BLOCK_R=16,
                        warps=warps, stages=stages, div16=DIV,
                    )  # fmt: skip
                    yield Candidate(f"int{bits} {shape}", v)


def build(folder, processes):
    """Cubins and their entries."""
    import tempfile

    import aot

    folder.mkdir(parents=True, exist_ok=True)
    wanted = {c.id: c.variant for c in candidates()}
    known = json.loads((folder / "entries.json").read_text()) if (folder / "entries.json").exists() else {}
    missing = [id_ for id_, v in wanted.items() if known.get(id_, {}).get("source_sha256") != v.sha256()]
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"TRITON_DISABLE_LINE_INFO": "1", "TRITON_CACHE_DIR": cache, "TRITON_INTERPRET": "0"}
        with concurrent.futures.ProcessPoolExecutor(processes) as pool:
            for id_, (_, result, fault) in zip(missing, pool.map(aot.outcome, [replace(wanted[i], expect=[]) for i in missing])):
                known.pop(id_, None)
                if fault:
                    print(f"left out: {fault[:150]}", flush=True)
                    continue
                entry, cubin = result
                (folder / f"{id_}.cubin").write_bytes(cubin)
                known[id_] = entry | {"id": id_, "cubin": f"{id_}.cubin", "source_sha256": wanted[id_].sha256()}
    known = {id_: entry for id_, entry in known.items() if id_ in wanted}
    (folder / "entries.json").write_text(json.dumps(known))
    print(f"{len(known)} of {len(wanted)} candidates")


class Bench:
    """Launches candidates and times them."""

    def __init__(self, folder, limits):
        import torch
        from cubins import Gpu

        self.torch, self.gpu, self.limits = torch, Gpu(), limits
        entries = json.loads((folder / "entries.json").read_text())
        self.gpu.entries = {id_: e | {"id": id_, "cubin": str((folder / e["cubin"]).resolve())} for id_, e in entries.items()}
        self.first = {}

    def median(self, launches):
        """Microseconds a launch, of a graph over all of `launches`, each of which is a call."""
        torch = self.torch
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for launch in launches:
                launch()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                for launch in launches:
                    launch()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            times = []
            for _ in range(7):
                begin.record()
                graph.replay()
                end.record()
                end.synchronize()
                times.append(begin.elapsed_time(end) * 1e3 / len(launches))
        return statistics.median(times[1:])

    def tell(self, case, candidate, micros, bytes_read, flops, y, about=""):
        torch = self.torch
        whole = torch.cat([part.flatten() for part in y])
        key = (case, candidate.variant.constexprs.get("BLOCK_P"))
        first = self.first.setdefault(key, whole.clone())
        same = torch.equal(first.view(torch.int32), whole.view(torch.int32))
        share = max(bytes_read / micros * 1e6 / self.limits[0], flops / micros * 1e6 / self.limits[1])
        print(f"{case} | {candidate.id} {about} | {micros:.1f} us | {share:.0%} | {'same' if same else 'OTHER BITS'}", flush=True)

    def parts_of(self, ns, k):
        """Terms of a run, as the launcher takes them."""
        tiles = sum(-(-n // 64) for n in ns)
        parts = max(1, min(264 // tiles, k // 256))
        return k if parts == 1 else -(-(-(-k // parts)) // 256) * 256

    def contraction(self, candidate, rows, bits=16):
        torch, v = self.torch, candidate.variant
        ns, k = SHAPES[candidate.case.split(" ", 1)[1]]
        c = v.constexprs
        bn, br, parted = c["BLOCK_N"], c["BLOCK_R"], c["PARTED"]
        auto = self.parts_of(ns, k)
        # Of runs apart also twice as many; a case of one run has nothing to part.
        lengths = {0: [k], 1: [auto], 2: sorted({auto, max(256, -(-auto // 512) * 256)})}[parted]
        count = max(2, min(24, int(3e8 / (sum(ns) * k * bits / 8)) + 1))
        gen = torch.Generator("cuda").manual_seed(1)
        x = torch.randn(rows, k, generator=gen, device="cuda")
        x = x.bfloat16() if v.types["x"] == "ptr:W" else x
        sets = []
        for _ in range(count):
            if bits == 16:
                ws = [(torch.randn(n, k, generator=gen, device="cuda") * k**-0.5).bfloat16() for n in ns]
                extra = []
            else:
                kind = torch.int8 if bits == 8 else torch.uint8
                low, high = (-128, 128) if bits == 8 else (0, 256)
                ws = [torch.randint(low, high, (n, k * bits // 8), generator=gen, device="cuda", dtype=kind) for n in ns]
                extra = [torch.rand(k // 32, n, generator=gen, device="cuda") for n in ns]
            sets.append((ws, extra))
        tiles, row_tiles = sum(-(-n // bn) for n in ns), -(-rows // br)
        rows_at = torch.tensor([rows], dtype=torch.int32, device="cuda")
        for part in lengths:
            if part >= k and parted == 2:
                continue
            runs = -(-k // part)
            parts = torch.empty(row_tiles * tiles * runs * bn * br if parted == 2 else 4, device="cuda")
            arrived = torch.zeros(row_tiles * tiles, dtype=torch.int32, device="cuda")
            ys = [torch.full((rows, n), float("nan"), device="cuda") for n in ns]
            three = lambda xs: [*xs, *xs[:1] * (3 - len(xs))]  # noqa: E731
            numbers = [*ns, *[0] * (3 - len(ns))]

            def launch(ws, extra, part=part, runs=runs, ys=ys, parts=parts, arrived=arrived):
                grid = (tiles, row_tiles, runs if parted == 2 else 1)
                scales = three(extra) if extra else []
                self.gpu.launch(candidate.id, grid, rows_at, x, *three(ws), *scales, *three(ys), parts, arrived, *numbers, k, part)

            launch(*sets[0])
            torch.cuda.synchronize()
            kept = [y.clone() for y in ys]
            micros = self.median([lambda s=s: launch(*s) for s in sets])
            bytes_read = sum(ns) * k * bits / 8 * (1.125 if bits == 8 else 1.25 if bits == 4 else 1)
            case = candidate.case + (f" runs of {part}" if part < k else "")
            self.tell(case, candidate, micros, bytes_read, 2 * rows * sum(ns) * k if rows > 32 else 0, kept, f"part {part}")

    def pages(self, tokens, d, gen):
        torch = self.torch
        count = tokens // PAGE
        order = torch.randperm(count, generator=gen, device="cuda").int()
        return order, *(torch.randn(count, 8, PAGE, d, generator=gen, device="cuda").bfloat16() for _ in range(2))

    def prompt(self, candidate, d):
        torch, c = self.torch, candidate.variant.constexprs
        heads, gen = 32, torch.Generator("cuda").manual_seed(2)
        ints = lambda values: torch.tensor(values, dtype=torch.int32, device="cuda")  # noqa: E731
        for rows in (2048, 8192):
            order, keys, values = self.pages(rows, d, gen)
            q, y = torch.randn(rows, heads * d, generator=gen, device="cuda"), torch.full((rows, heads * d), float("nan"), device="cuda")
            tiles = list(range(0, rows, c["BLOCK_M"]))
            args = [ints([len(tiles)]), ints([0] * len(tiles)), ints(tiles), ints([0]), ints([rows]), ints([0]), ints([rows]), ints([0]), order, q]
            args += [keys, values, None, y, 8, 4, d, 2**30, 0, d**-0.5, 0.0]
            launch = lambda: self.gpu.launch(candidate.id, (len(tiles), heads), *args)  # noqa: E731, B023
            micros = self.median([launch] * 4)
            self.tell(f"{candidate.case} {rows}", candidate, micros, 0, 2 * rows * rows * heads * d, [y[: 1 << 11]])

    def generated(self, candidate, d):
        torch, gen, batch, context = self.torch, self.torch.Generator("cuda").manual_seed(3), 64, 4096
        heads, splits = 32, context // 256
        ints = lambda values: torch.tensor(values, dtype=torch.int32, device="cuda")  # noqa: E731
        order, keys, values = self.pages(batch * context, d, gen)
        q = torch.randn(batch, heads * d, generator=gen, device="cuda")
        m, l = (torch.full((batch, heads, splits), float("nan"), device="cuda") for _ in range(2))
        o = torch.full((batch, heads, splits, d), float("nan"), device="cuda")
        each = ints(list(range(batch)))
        args = [ints([batch]), each, ints([context - 1] * batch), each, each * (context // PAGE), order, q, keys, values, m, l, o, 8, 4, d, 2**30, d**-0.5, 0.0]
        launch = lambda: self.gpu.launch(candidate.id, (batch, 8, splits), *args)  # noqa: E731
        micros = self.median([launch] * 4)
        self.tell(candidate.case, candidate, micros, 2 * batch * context * 8 * d * 2, 0, [o])

    def run(self, candidate):
        if candidate.id not in self.gpu.entries:
            return
        kind, *more = candidate.case.split(" ")
        if kind == "attend":
            return getattr(self, more[0])(candidate, int(more[1]))
        rows = {"decode": 1, "batch": 64, "prompt": 2048}.get(kind, 1)
        return self.contraction(candidate, rows, {"int8": 8, "int4": 4}.get(kind, 16))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["build", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-j", type=int, default=2, help="processes")
    parser.add_argument("--only", default="", help="cases that begin so, by comma")
    parser.add_argument("--read", type=float, default=3.1e12, help="bytes a second")
    parser.add_argument("--flops", type=float, default=7.13e14, help="operations a second")
    args = parser.parse_args()
    if args.what == "build":
        return build(args.folder, args.j)
    bench = Bench(args.folder, (args.read, args.flops))
    for candidate in candidates():
        if candidate.case.startswith(tuple(args.only.split(","))):
            try:
                bench.run(candidate)
            except Exception as error:  # noqa: BLE001  (one candidate's fault is told beside those of the others)
                print(f"{candidate.case} | {candidate.id} | {error!r}"[:250], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
