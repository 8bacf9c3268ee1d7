"""What only a GPU can show: that the committed cubins are near f64, and that a row has the same bits whatever stands beside it.

One line a check, then how many failed. `--dry` launches nothing and checks arguments, alignment and grids on any machine.
"""

import argparse
import sys

import torch

from cubins import Dry, Gpu

DTYPE_NAMES = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
BOUND = {"f32": 1e-5, "bf16": 1e-2, "f16": 2e-3}
NO_WINDOW = 2**31 - 1


class Prover:
    """The checks, and their outcomes."""

    def __init__(self, gpu):
        self.gpu, self.failed, self.done = gpu, [], 0
        self.random = torch.Generator(gpu.device).manual_seed(1)

    def normal(self, *shape, dtype="f32"):
        return torch.randn(*shape, generator=self.random, device=self.gpu.device).to(DTYPES[dtype])

    def result(self, *shape):
        return torch.full(shape, float("nan"), device=self.gpu.device)

    def ints(self, values):
        return torch.tensor(values, dtype=torch.int32, device=self.gpu.device)

    def note(self, name, is_right, about=""):
        self.done += 1
        if self.gpu.is_dry:
            print(f"dry    {name}")
            return
        print(f"{'ok    ' if is_right else 'FAILED'} {name} {about}", flush=True)
        self.failed += [] if is_right else [name]

    def near(self, name, got, wanted, bound):
        self.gpu.synchronise()
        far = ((got.double() - wanted).norm() / wanted.norm().clamp(min=1e-30)).item()
        self.note(name, far <= bound, f"{far:.2e}")

    def same(self, name, got, wanted):
        self.gpu.synchronise()
        is_same = torch.equal(got.view(torch.int32), wanted.view(torch.int32)) and not torch.isnan(got).any()
        self.note(name, bool(is_same), "same bits" if is_same else f"{int((got != wanted).sum())} of {got.numel()} differ")

    # --- contractions

    def contracted(self, x, weights, block_r, part=0, apart=False, terms=None):
        """x times each weight, in one launch, by the variant for `block_r` rows."""
        alone = not isinstance(weights, list)
        weights = [weights] if alone else weights
        rows, (_, k), dtype = len(x), weights[0].shape, DTYPE_NAMES[weights[0].dtype]
        ns = [len(w) for w in weights]
        entry = self.variant(dtype, block_r, 2 if apart else int(part > 0), all(n % 16 == 0 for n in [*ns, k]), k % 16 == 0, k, terms)
        if entry["params"][1]["type"] != "ptr:f32":
            given, x = x, torch.empty_like(x, dtype=weights[0].dtype)
            self.gpu.launch(f"contract-round_rows-{dtype}-block1024", (rows, -(-k // 1024)), self.ints([rows]), given, x, k)
        block_n = entry["constexprs"]["BLOCK_N"]
        tiles, row_tiles, runs = sum(-(-n // block_n) for n in ns), -(-rows // block_r), -(-k // part) if part else 1
        ys = [self.result(rows, n) for n in ns]
        parts, arrived = self.result(tiles * row_tiles * runs * block_n * block_r), self.ints([0] * tiles * row_tiles)
        three = lambda values: [*values, *values[:1] * (3 - len(values))]  # noqa: E731
        grid = (tiles, row_tiles, runs if apart else 1)
        numbers = [*ns, *[0] * (3 - len(ns)), k, part]
        self.gpu.launch(entry["id"], grid, self.ints([rows]), x, *three(weights), *three(ys), parts, arrived, *numbers)
        return ys[0] if alone else ys

    def variant(self, dtype, block_r, parted, is_even, is_aligned, k, terms):
        """The entry that a launcher takes, or the one that takes so many terms at once."""
        for entry in self.gpu.entries.values():
            fixed = entry["constexprs"]
            if entry["kernel"] != "contract" or entry["dtype"] != dtype or (fixed["BLOCK_R"], fixed["PARTED"]) != (block_r, parted):
                continue
            promised = {param["name"] for param in entry["params"] if param["div16"]}
            wanted = {"n0", "k"} if dtype != "f32" and is_even else {"k"} if dtype == "f32" and is_aligned else set()
            if fixed["EARLY"] != (512 if fixed["EVEN"] and block_r <= 32 else 0):
                continue
            if wanted == promised & {"n0", "k"} and fixed["BLOCK_K"] == (terms or fixed["BLOCK_K"]) and (not fixed["EVEN"] or k % fixed["BLOCK_K"] == 0):
                return entry
        raise KeyError((dtype, block_r, parted, is_even))

    def contractions(self):
        for dtype in ("bf16", "f16", "f32"):
            for n, k in [(192, 64), (208, 80), (320, 1000), (256, 4096), (128, 14336)]:
                x, w = self.normal(128, k), self.normal(n, k, dtype=dtype)
                wanted = x.to(w.dtype).double() @ w.double().T
                is_even = k % 64 == 0
                if not is_even and dtype != "f32":
                    n -= 1
                    w, wanted = w[:n].contiguous(), wanted[:, :n]
                sizes = ([16, 64] if k % 16 == 0 else [16]) if dtype == "f32" else [16, 32, 64, 128, 256] if is_even else [16, 64]
                base = self.contracted(x, w, 16)
                # Sums of f32 in the order of k: their error grows with the number of terms.
                self.near(f"contract {dtype} {n}x{k}", base, wanted, 2e-6 * max(1, k / 512))
                for size in sizes:
                    self.same(f"contract {dtype} {n}x{k} tiles of {size}", self.contracted(x, w, size), base)
                if dtype != "f32" and k % 128 == 0:
                    self.same(f"contract {dtype} {n}x{k} fewer terms at once", self.contracted(x, w, 16, terms=64), base)
                for rows in (1, 15, 16, 17, 127):
                    for size in sizes:
                        own = self.contracted(x[5 : 5 + rows].contiguous(), w, size)
                        self.same(f"contract {dtype} {n}x{k} {rows} rows, tiles of {size}", own, base[5 : 5 + rows])
                if dtype != "f32" and k >= 4096:
                    in_turn = self.contracted(x, w, 128, k // 4)
                    self.near(f"contract {dtype} {n}x{k} in runs", in_turn, wanted, 1e-5)
                    self.same(f"contract {dtype} {n}x{k} in runs, 64", self.contracted(x, w, 64, k // 4), in_turn)
                    for size in (16, 32, 64):
                        # Who comes last is another one each time.
                        for turn in range(5):
                            apart = self.contracted(x, w, size, k // 4, apart=True)
                            self.same(f"contract {dtype} {n}x{k} runs apart, {size}, {turn}", apart, in_turn)
            if dtype != "f32":
                x, weights = self.normal(100, 1024), [self.normal(n, 1024, dtype=dtype) for n in (256, 64, 144)]
                for size, part, apart in [(16, 0, False), (64, 256, True), (128, 256, False)]:
                    for y, w in zip(self.contracted(x, weights, size, part, apart), weights, strict=True):
                        self.same(f"contract {dtype} side by side, {size}", y, self.contracted(x, w, size, part, apart))

    def blocks(self):
        """Weights in groups: near f64, and the same bits by one program and by several."""
        for bits in (8, 4):
            for n, k in [(192, 256), (256, 4096), (128, 8192)]:
                kind, low, high = (torch.int8, -128, 128) if bits == 8 else (torch.uint8, 0, 16)
                codes = torch.randint(low, high, (n, k), generator=self.random, device=self.gpu.device, dtype=kind)
                scales = torch.rand(k // 32, n, generator=self.random, device=self.gpu.device) + 0.5
                x = self.normal(64, k)
                halves = codes.view(n, k // 64, 2, 32)
                w = codes if bits == 8 else (halves[:, :, 0] | (halves[:, :, 1] << 4)).reshape(n, k // 2)
                values = (codes.double() - (0 if bits == 8 else 8)) * scales.double().T.repeat_interleave(32, 1)
                base = self.grouped(x, w, scales, bits, 16, k, False)
                self.near(f"blocks {bits} {n}x{k}", base, x.bfloat16().double() @ values.T, 2e-6 * max(1, k / 512))
                self.same(f"blocks {bits} {n}x{k} tiles of 64", self.grouped(x, w, scales, bits, 64, k, False), base)
                in_turn = self.grouped(x, w, scales, bits, 64, 256, False)
                for turn in range(3):
                    self.same(f"blocks {bits} {n}x{k} runs apart, {turn}", self.grouped(x, w, scales, bits, 16, 256, True), in_turn)

    def grouped(self, x, w, scales, bits, block_r, part, apart):
        (rows, k), n = x.shape, len(w)
        tiles, row_tiles, runs = -(-n // 64), -(-rows // block_r), -(-k // part)
        y, parts, arrived = self.result(rows, n), self.result(tiles * row_tiles * runs * 64 * block_r), self.ints([0] * tiles * row_tiles)
        name = f"quantised-contract_blocks-bits{bits}-group32-parted{1 + apart}-at_once128-block_n64-block_r{block_r}"
        grid = (tiles, row_tiles, runs if apart else 1)
        self.gpu.launch(name, grid, self.ints([rows]), x, w, w, w, scales, scales, scales, y, y, y, parts, arrived, n, 0, 0, k, part)
        return y

    def experts(self):
        rows, count, choices, n, k = 50, 8, 2, 192, 256
        gates = torch.zeros(rows, count, device=self.gpu.device)
        at = torch.rand(rows, count, generator=self.random, device=self.gpu.device).topk(choices).indices
        gates.scatter_(1, at, torch.rand(rows, choices, generator=self.random, device=self.gpu.device) + 0.1)
        at = at.sort(1).values
        for dtype in ("bf16", "f16", "f32"):
            x, w = self.normal(rows, k), self.normal(count, n, k, dtype=dtype)
            wanted = torch.stack([self.contracted(x, w[e], 16) for e in range(count)], 1)
            wanted = torch.stack([wanted[torch.arange(rows), at[:, c]] for c in range(choices)], 1)
            for tile in (16,) if dtype == "f32" else (16, 64):
                self.same(f"experts {dtype} tiles of {tile}", self.by_expert(x, gates, w, choices, tile, dtype), wanted)

    def by_expert(self, x, gates, w, choices, tile, dtype):
        (rows, k), (held, n, _) = x.shape, w.shape
        slots = rows * choices
        most = min(slots, slots // tile + held + 1)
        count, entry, gate = self.ints([rows]), self.ints([0] * slots), self.result(rows, choices)
        counts, listed, tile_entry, tiles = self.ints([0] * (held + 1)), self.ints([0] * most * tile), self.ints([0] * most), self.ints([0])
        self.gpu.launch("experts-choose-experts128-choices64-any", (rows,), count, gates, entry, gate, held, choices, 0, held)
        self.gpu.launch("experts-count-block1024-any", (held + 1,), count, entry, counts, choices, held)
        self.gpu.launch(
            "experts-place-entries2048-block1024-any", (held + 1,),
            count, entry, counts, listed, tile_entry, tiles, choices, held, tile,
        )  # fmt: skip
        y = self.result(rows, choices, n)
        block_n, block_k = 64 if tile == 16 else 128, 32 if dtype == "f32" else 64
        name = f"experts-experts-{dtype}-block_n{block_n}-block_r{tile}-block_k{block_k}"
        self.gpu.launch(name, (-(-n // block_n), most), tiles, tile_entry, listed, x, w, y, choices, 1, held, n, k)
        return y

    # --- attention

    def attention(self):
        for dtype, dims in [("bf16", (64, 128, 256, 576)), ("f16", (64, 128)), ("f32", (64, 128))]:
            for head_dim in dims:
                group, kv_heads = (16, 1) if head_dim == 576 else (4, 2)
                for window, sinks in [(NO_WINDOW, False), (100, True)]:
                    self.sequence(dtype, head_dim, kv_heads, group, window, sinks)

    def sequence(self, dtype, head_dim, kv_heads, group, window, has_sinks):
        """A prompt of 300 rows and 3 generated ones, in one step and cut."""
        rows, prompt, heads = 303, 300, kv_heads * group
        q, k, v = (self.normal(rows, h * head_dim) for h in (heads, kv_heads, kv_heads))
        sinks = self.normal(heads)
        name = f"attend {dtype} {head_dim}{' window' if window < NO_WINDOW else ''}"
        whole = self.attended((q, k, v, sinks), (dtype, head_dim, kv_heads, group, window, has_sinks), prompt, [rows])
        rounded = [part.to(DTYPES[dtype]).double().view(rows, kv_heads, head_dim).repeat_interleave(group, 1) for part in (k, v)]
        scores = torch.einsum("qhd,khd->hqk", q.double().view(rows, heads, head_dim), rounded[0]) * head_dim**-0.5
        at = torch.arange(rows, device=self.gpu.device)
        hidden = (at[None, :] > at[:, None]) | (at[None, :] <= at[:, None] - window)
        scores = scores.masked_fill(hidden, float("-inf"))
        if has_sinks:
            scores = torch.cat([scores, sinks.double()[:, None, None].expand(heads, rows, 1)], 2)
        shares = scores.softmax(2)[:, :, :rows]
        wanted = torch.einsum("hqk,khd->qhd", shares, rounded[1]).reshape(rows, -1)
        self.near(name, whole, wanted, BOUND[dtype])
        for cuts in ([1, 302], [15, 1, 287], [16, 287], [17, 286], [100, 100, 100, 1, 1, 1], [256, 44, 3]):
            part = self.attended((q, k, v, sinks), (dtype, head_dim, kv_heads, group, window, has_sinks), prompt, cuts)
            self.same(f"{name} cut {cuts}", part, whole)

    def attended(self, operands, shape, prompt, cuts):
        q, k, v, sinks = operands
        dtype, head_dim, kv_heads, group, window, has_sinks = shape
        heads, pages = kv_heads * group, -(-len(q) // 16)
        order = torch.randperm(pages, generator=self.random, device=self.gpu.device).int()
        keys, values = (self.result(pages, kv_heads, 16, head_dim).to(DTYPES[dtype]) for _ in range(2))
        y, start = self.result(*q.shape), 0
        d, tail = (512, 64) if head_dim == 576 else (head_dim, 0)
        tile = {64: 64, 128: 64, 256: 64, 512: 16}[d] if dtype != "f32" else 32
        block_p = {64: 128, 512: 32}.get(d, 64) if dtype != "f32" else (16 if d == 256 else 32)
        splits_p = (64 if d < 512 else 32) if dtype != "f32" else 32
        loops = 1 if d > 128 or dtype == "f32" else 3
        for count in cuts:
            own = [part[start : start + count].contiguous() for part in (q, k, v)]
            out, prompt_rows = self.result(count, heads * head_dim), max(0, min(prompt - start, count))
            one = lambda value: self.ints([value])  # noqa: E731
            rows, position = one(count), self.ints(list(range(start, start + count)))
            span, first_page = self.ints([0] * count), one(0)
            width = kv_heads * head_dim
            self.gpu.launch(
                f"attend-append-{dtype}-block1024", (count, -(-width // 1024)),
                rows, position, span, first_page, order, own[1], own[2], keys, values, kv_heads, head_dim,
            )  # fmt: skip
            tiles = list(range(0, prompt_rows, tile))
            if tiles:
                self.gpu.launch(
                    f"attend-prompt-{dtype}-d{d}-tail{tail}-capped0-loops{loops}-block_m{tile}-block_p{block_p}", (len(tiles), heads),
                    one(len(tiles)), self.ints([0] * len(tiles)), self.ints(tiles), one(0), rows, one(start), one(prompt), first_page,
                    order, own[0], keys, values, sinks, out, kv_heads, group, head_dim, window, int(has_sinks), head_dim**-0.5, 0.0,
                )  # fmt: skip
            if number := count - prompt_rows:
                splits = (start + count - 1) // 256 + 1
                m, l, o = self.result(number, heads, splits), self.result(number, heads, splits), self.result(number, heads, splits, head_dim)
                generated = self.ints(list(range(prompt_rows, count)))
                self.gpu.launch(
                    f"attend-generated-{dtype}-d{d}-tail{tail}-capped0-group16-block_p{splits_p}", (number, kv_heads * -(-group // 16), splits),
                    one(number), generated, position, span, first_page, order, own[0], keys, values, m, l, o, kv_heads, group, head_dim,
                    window, head_dim**-0.5, 0.0,
                )  # fmt: skip
                self.gpu.launch(
                    f"attend-merge_splits-d{1024 if d == 512 else d}-at_once8", (number, heads),
                    one(number), generated, position, m, l, o, sinks, out, splits, head_dim, window, int(has_sinks),
                )  # fmt: skip
            y[start : start + count] = out
            start += count
        return y


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="launch nothing, check arguments")
    parser.add_argument("--only", default="contractions,blocks,experts,attention", help="which of these, by comma")
    args = parser.parse_args()
    prover = Prover(Dry() if args.dry else Gpu())
    for name in args.only.split(","):
        getattr(prover, name)()
    print(f"{prover.done} checks, {len(prover.failed)} failed")
    return 1 if prover.failed else 0


if __name__ == "__main__":
    sys.exit(main())
