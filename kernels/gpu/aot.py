"""Compiles the variants of variants.toml to cubins, without a GPU, and writes manifest.json. README.md beside this says how to run it.

A variant fails that spills registers, needs more shared memory than a block can have, needs scratch memory, or lacks the instructions
that its row expects.
"""

import argparse
import ast
import concurrent.futures
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import catalogue

# What a block may have on sm_90.
SHARED_MAX = 227 * 1024
TRITON = "3.6.0"
TYPES = {"f32": "fp32", "f64": "fp64", "bf16": "bf16", "f16": "fp16", "i32": "i32", "i64": "i64", "u8": "u8", "i8": "i8", "f8": "fp8e4nv"}


class Failed(Exception):
    """A variant that must not be shipped."""


def promised(variant, name, kind):
    """Whether a parameter is promised to be a multiple of 16: pointers to activations, weights and pages, and what the row names."""
    return name in variant.div16 or (kind.startswith("ptr:") and kind != "ptr:i32")


def with_head(kernel):
    """Has a kernel begin with `catalogue.HEAD`; once."""
    from triton.language.extra.cuda import gdc

    lines = kernel.src.splitlines(keepends=True)
    if any(catalogue.HEAD[0] in line for line in lines):
        return
    (function,) = ast.parse(kernel.src).body
    marked = [at for at, line in enumerate(lines) if line.strip() == catalogue.BEGINS]
    is_documented = isinstance(function.body[0], ast.Expr) and isinstance(function.body[0].value, ast.Constant)
    first = function.body[1 if is_documented else 0]
    head = [" " * first.col_offset + statement + "\n" for statement in catalogue.HEAD]
    at = marked[0] if marked else first.lineno - 1
    lines[at:at] = head
    kernel.fn.__globals__.update(gdc_wait=gdc.gdc_wait, gdc_launch_dependents=gdc.gdc_launch_dependents)
    kernel._unsafe_update_src("".join(lines))


def compiled(variant):
    """The entry of the manifest and the cubin. Runs in a process of its own, with line info off: it would name this machine's folders."""
    sys.path.insert(0, str(catalogue.SOURCES))
    import importlib

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas_version
    from triton.compiler import ASTSource

    if triton.__version__ != TRITON:
        raise Failed(f"triton is {triton.__version__}, cubins are made with {TRITON}")
    kernel = getattr(importlib.import_module(f"ops.{variant.op}.triton"), variant.kernel)
    with_head(kernel)
    typed = variant.typed()
    names = [name for name in kernel.arg_names if name not in variant.constexprs]
    if set(names) != set(typed) or len(names) + len(variant.constexprs) != len(kernel.arg_names):
        raise Failed(f"{variant.id}: parameters are {kernel.arg_names}, the table has {[*typed, *variant.constexprs]}")
    signature = {name: "constexpr" for name in variant.constexprs}
    for name, kind in typed.items():
        pointer, _, element = kind.rpartition(":")
        signature[name] = ("*" if pointer else "") + TYPES[element]
    signature = {name: signature[name] for name in kernel.arg_names}
    attrs = {
        (at,): [["tt.divisibility", 16]]
        for at, name in enumerate(kernel.arg_names)
        if name in typed and promised(variant, name, typed[name])
    }
    made = triton.compile(
        ASTSource(fn=kernel, constexprs=variant.constexprs, signature=signature, attrs=attrs),
        target=GPUTarget("cuda", int(re.search(r"\d+", variant.arch)[0]), 32),
        options={"num_warps": variant.warps, "num_stages": variant.stages},
    )
    cubin, ptx, about = made.asm["cubin"], made.asm["ptx"], made.metadata
    used = resources(triton, cubin)
    check(variant, about, ptx, used)
    if (count := len(re.findall(r"\.param \.", re.search(r"\.entry[^)]*\)", ptx)[0]))) != len(names) + 2:
        raise Failed(f"{variant.id}: {count} parameters came out, not {len(names)} and two of scratch")
    ptxas = re.search(r"release [\d.]+, V([\d.]+)", get_ptxas_version(90))[1]
    entry = {
        "id": variant.id,
        "kernel": about.name,
        "op": variant.op,
        "dtype": variant.dtype or None,
        "source": variant.source,
        "source_sha256": variant.sha256(),
        "arch": variant.arch,
        "cubin": f"{variant.arch}/{variant.id}.cubin",
        "cubin_sha256": hashlib.sha256(cubin).hexdigest(),
        "grid": variant.grid,
        "num_warps": about.num_warps,
        "num_ctas": about.num_ctas,
        "shared": about.shared,
        "params": [{"name": n, "type": typed[n], "div16": promised(variant, n, typed[n])} for n in names],
        "constexprs": variant.constexprs,
        "regs": used["REG"],
        "mma": sorted(set(re.findall(r"(?:wgmma\.mma_async\S*?|mma\.sync\S*?)\.(m\d+n\d+k\d+)", ptx))),
        "toolchain": f"triton {TRITON}, ptxas {ptxas}",
    }
    return entry, cubin


def resources(triton, cubin):
    """Registers, stack and local memory of the only function of a cubin, as ptxas left them."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}


def check(variant, about, ptx, used):
    """What a variant must hold."""
    faults = []
    if used["STACK"] or used["LOCAL"]:
        faults.append(f"{used['REG']} registers spill: {used['STACK']} bytes of stack, {used['LOCAL']} local")
    if about.shared > SHARED_MAX:
        faults.append(f"{about.shared} bytes of shared memory, a block has {SHARED_MAX}")
    if about.global_scratch_size or about.profile_scratch_size:
        faults.append("it needs scratch memory")
    head = ["griddepcontrol.wait", "griddepcontrol.launch_dependents"]
    faults += [f"it has no {wanted}" for wanted in [*variant.expect, *head] if wanted not in ptx]
    if faults:
        raise Failed(f"{variant.id}: " + "; ".join(faults))


def outcome(variant):
    """The entry and the cubin, or what is wrong."""
    try:
        return variant, compiled(variant), None
    except Exception as error:  # noqa: BLE001  (one variant's fault is told beside those of the others)
        return variant, None, f"{variant.id}: {error!r}" if not isinstance(error, Failed) else str(error)


def compile_all(wanted, processes):
    """Entries and cubins by id, and faults."""
    made, faults = {}, []
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"TRITON_DISABLE_LINE_INFO": "1", "TRITON_CACHE_DIR": cache, "TRITON_INTERPRET": "0"}
        with concurrent.futures.ProcessPoolExecutor(processes) as pool:
            for number, (variant, result, fault) in enumerate(pool.map(outcome, wanted)):
                if fault:
                    faults.append(fault)
                    print(f"FAILED {fault}", flush=True)
                    continue
                made[variant.id] = result
                entry = result[0]
                about = f"{entry['regs']} regs, {entry['shared']} shared, {len(result[1])} bytes, {' '.join(entry['mma'])}"
                print(f"{number + 1}/{len(wanted)} {variant.id}: {about}", flush=True)
    return made, faults


def build(everything, processes):
    """Compiles what is new or has changed (or everything), and writes the manifest without what is no longer in the table."""
    wanted, manifest = catalogue.variants(), catalogue.read_manifest()
    known = {entry["id"]: entry for entry in manifest["kernels"] if entry["id"] in wanted}
    stale = [v for v in wanted.values() if everything or not is_current(known.get(v.id), v)]
    made, faults = compile_all(stale, processes)
    for id_, (entry, cubin) in made.items():
        path = catalogue.GPU / entry["cubin"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(cubin)
        known[id_] = entry
    for fault in faults:
        known.pop(fault.split(":")[0], None)
    manifest["kernels"] = [known[id_] for id_ in sorted(known)]
    catalogue.write_manifest(manifest)
    named = {catalogue.GPU / entry["cubin"] for entry in known.values()}
    for path in catalogue.GPU.glob("sm_*/*.cubin"):
        if path not in named:
            path.unlink()
    size = sum(path.stat().st_size for path in named)
    print(f"{len(made)} compiled, {len(known)} of {len(wanted)} in the manifest, {size / 1e6:.2f} MB, {len(faults)} failed")
    return 1 if faults else 0


def is_current(entry, variant):
    """Whether an entry is of these sources and its cubin is there."""
    return entry is not None and entry["source_sha256"] == variant.sha256() and fault_of_cubin(entry) is None


def fault_of_cubin(entry):
    """What is wrong with the file of an entry."""
    path = catalogue.GPU / entry["cubin"]
    if not path.exists():
        return f"{entry['cubin']} is missing"
    if hashlib.sha256(path.read_bytes()).hexdigest() != entry["cubin_sha256"]:
        return f"{entry['cubin']} is not the one of the manifest"
    return None


def stale_faults():
    """Where the manifest, the cubins, the table and the sources disagree. Needs no Triton."""
    wanted, manifest = catalogue.variants(), catalogue.read_manifest()
    known = {entry["id"]: entry for entry in manifest["kernels"]}
    faults = [f"{id_} is in variants.toml, not in the manifest: run aot.py" for id_ in wanted.keys() - known.keys()]
    faults += [f"{id_} is in the manifest, not in variants.toml: run aot.py" for id_ in known.keys() - wanted.keys()]
    for id_ in wanted.keys() & known.keys():
        if known[id_]["source_sha256"] != wanted[id_].sha256():
            faults.append(f"{id_}: {known[id_]['source']} has changed since it was compiled: run aot.py")
        faults += [fault for fault in [fault_of_cubin(known[id_])] if fault]
    named = {catalogue.GPU / entry["cubin"] for entry in manifest["kernels"]}
    faults += [f"{path.name} is in no manifest" for path in catalogue.GPU.glob("sm_*/*.cubin") if path not in named]
    return sorted(faults)


def untested_faults():
    """Kernel files that have changed since their tests passed. Needs no Triton."""
    tested = catalogue.read_manifest()["tested"]
    return [
        f"{name} or its tests have changed since they passed: run test.py"
        for path in catalogue.kernel_sources()
        if tested.get(name := str(path.relative_to(catalogue.ROOT))) != catalogue.tested_sha256(path)
    ]


def rebuild_sample(count, processes):
    """Compiles some variants again, other ones whenever a source changes, and compares bytes."""
    entries = sorted(catalogue.read_manifest()["kernels"], key=lambda entry: entry["cubin_sha256"])[:count]
    wanted = catalogue.variants()
    made, faults = compile_all([wanted[entry["id"]] for entry in entries], processes)
    for entry in entries:
        cubin = made.get(entry["id"], (None, b""))[1]
        if hashlib.sha256(cubin).hexdigest() != entry["cubin_sha256"]:
            faults.append(f"{entry['id']}: another {len(cubin)} bytes came out than are committed")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="compile everything, changed or not")
    parser.add_argument("--check", action="store_true", help="compare hashes; needs no Triton")
    parser.add_argument("--tested", action="store_true", help="with --check: the hashes of what was tested as well")
    parser.add_argument("--rebuild-sample", type=int, default=0, metavar="N", help="with --check: compile N again, compare bytes")
    parser.add_argument("-j", type=int, default=2, help="processes")
    args = parser.parse_args()
    if not args.check:
        return build(args.all, args.j)
    faults = stale_faults() + (untested_faults() if args.tested else [])
    if not faults and args.rebuild_sample:
        faults = rebuild_sample(args.rebuild_sample, args.j)
    print("\n".join(faults) or f"{len(catalogue.variants())} kernels are as their sources")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
