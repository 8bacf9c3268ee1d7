"""Runs the kernels' tests in the interpreter, those whose sources have changed or all, and notes in the manifest the sources all of whose
tests passed."""

import argparse
import subprocess
import sys

import catalogue


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="all tests, changed or not")
    args = parser.parse_args()
    tested = catalogue.read_manifest()["tested"]
    sources = {str(path.relative_to(catalogue.ROOT)): path for path in catalogue.kernel_sources()}
    stale = {
        name: path for name, path in sources.items() if args.all or tested.get(name) != catalogue.tested_sha256(path)
    }
    untested = [name for name, path in stale.items() if not catalogue.tests_of(path)]
    if untested:
        sys.exit(f"no test imports {', '.join(untested)}")
    # What is noted is what was there before the run: a change meanwhile is not tested.
    hashes = {name: catalogue.tested_sha256(path) for name, path in stale.items()}
    waiting = {name: set(catalogue.tests_of(path)) for name, path in stale.items()}
    quiet = ["-W", "ignore::DeprecationWarning", "-W", "ignore::RuntimeWarning", "-p", "no:cacheprovider"]
    failed = []
    for file in sorted(set().union(*waiting.values())):
        print(file.name, flush=True)
        if subprocess.run([sys.executable, "-m", "pytest", "-q", *quiet, str(file)], check=False).returncode:
            failed.append(file.name)
            continue
        for name in stale:
            waiting[name].discard(file)
        manifest = catalogue.read_manifest()
        passed = {name: hashes[name] for name in stale if not waiting[name]}
        manifest["tested"] = {name: sha for name, sha in (manifest["tested"] | passed).items() if name in sources}
        catalogue.write_manifest(manifest)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    print(f"{len(stale)} of {len(sources)} kernel files tested")


if __name__ == "__main__":
    main()
