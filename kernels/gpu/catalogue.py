"""What is compiled and of which sources: variants.toml, spelt out, and hashes. Knows no Triton."""

import hashlib
import itertools
import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

GPU = Path(__file__).resolve().parent
ROOT = GPU.parent.parent
SOURCES = GPU.parent / "src"
MANIFEST = GPU / "manifest.json"
TESTS = GPU / "tests"
# Helpers of tests, whose change is a change of every test.
HELPERS = [GPU / "interpreter.py", *(TESTS / name for name in ("conftest.py", "device.py", "buffers.py", "sequences.py"))]
# How every kernel begins when it is compiled: it waits for the kernel before it, which it may have been launched beside, and lets the next one
# be. Nothing may come before: who has waited knows that all that came earlier is done. A kernel that touches weights alone at first says where
# it begins.
BEGINS = "# The kernel begins here."
HEAD = ["gdc_wait()", "gdc_launch_dependents()"]
IMPORT = re.compile(r"^(?:from|import) (ops(?:\.\w+)+)", re.MULTILINE)


@dataclass
class Variant:
    """One cubin: a kernel with types, constants, promises and a launch shape."""

    op: str
    kernel: str
    dtype: str
    arch: str
    grid: str
    types: dict
    constexprs: dict
    div16: list
    warps: int
    stages: int
    expect: list = field(default_factory=list)

    @property
    def id(self):
        """op, kernel, type, constants, promises: unique, and the name of the cubin."""
        constants = [f"{name.lower()}{value}" for name, value in self.constexprs.items()]
        x = [f"x_{self.dtype}"] if self.types.get("x") == "ptr:W" and "ptr:W" in (self.types.get("w"), self.types.get("w0")) else []
        parts = [self.op, self.kernel, *([self.dtype] if self.dtype else []), *x, *constants]
        return "-".join(parts + ([] if self.div16 else ["any"]))

    @property
    def source(self):
        """The file the kernel is in, below the repository's root."""
        return str((SOURCES / "ops" / self.op / "triton.py").relative_to(ROOT))

    def typed(self):
        """The type of each parameter that is not a constant."""
        return {name: kind.replace("W", self.dtype) for name, kind in self.types.items()}

    def sha256(self):
        """Of all that decides what is compiled: the sources it comes from and this row of the table."""
        row = json.dumps([self.op, self.kernel, self.arch, self.typed(), self.constexprs, self.div16, self.warps, self.stages, HEAD])
        return digest(closure(ROOT / self.source), row)


def digest(paths, more=""):
    """Of the names and contents of files, and of a text."""
    sums = hashlib.sha256()
    for path in sorted(paths):
        sums.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    sums.update(more.encode())
    return sums.hexdigest()


def closure(path):
    """A file and the kernel files it imports, and theirs."""
    found, open_ = set(), [path]
    while open_:
        path = open_.pop()
        if path not in found:
            found.add(path)
            open_ += [SOURCES / (name.replace(".", "/") + ".py") for name in IMPORT.findall(path.read_text())]
    return found


def every(value):
    """A list as it is; anything else as the list of it."""
    return value if isinstance(value, list) else [value]


def variants():
    """All variants of the table, by id."""
    table = tomllib.loads((GPU / "variants.toml").read_text())
    found = {}
    for kernel in table["kernel"]:
        for row in kernel["variant"]:
            types = kernel["types"] | row.get("types", {})
            names = [name for name in row if name.isupper()]
            for dtype in every(row.get("dtype", "")):
                for values in itertools.product(*(every(row[name]) for name in names)):
                    variant = Variant(
                        op=kernel["op"],
                        kernel=kernel["name"],
                        dtype=dtype,
                        arch=table["arch"],
                        grid=kernel["grid"],
                        types=types,
                        constexprs=dict(zip(names, values)),
                        div16=row.get("div16", []),
                        warps=row["warps"],
                        stages=row["stages"],
                        expect=row.get("expect", []),
                    )
                    assert variant.id not in found, f"{variant.id} stands in variants.toml twice"
                    found[variant.id] = variant
    return dict(sorted(found.items()))


def kernel_sources():
    """All files of kernels."""
    return sorted((SOURCES / "ops").glob("*/triton.py"))


def tests_of(source):
    """The test files that import a kernel file, or one that imports it."""
    return [test for test in sorted(TESTS.glob("test_*.py")) if source in closure(test)]


def tested_sha256(source):
    """Of a kernel file with its imports, and of all that its tests are."""
    return digest({*closure(source), *tests_of(source), *HELPERS})


def read_manifest():
    """The manifest as it is, or an empty one."""
    return json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {"format": 1, "tested": {}, "kernels": []}


def write_manifest(manifest):
    """Entries one a line, so that a diff shows which kernels changed."""
    kernels = ",\n".join("  " + json.dumps(entry) for entry in manifest["kernels"])
    tested = ",\n".join(f"  {json.dumps(path)}: {json.dumps(sha)}" for path, sha in sorted(manifest["tested"].items()))
    MANIFEST.write_text(f'{{\n "format": 1,\n "tested": {{\n{tested}\n }},\n "kernels": [\n{kernels}\n ]\n}}\n')
