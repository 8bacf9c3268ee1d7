#!/usr/bin/env bash
# Measures the engine on a machine with an NVIDIA GPU, in stages; see README.md beside this.
#
#   [PROGRAM=...] [OUT=...] benches/gpu/run.sh [--stage NAME[,NAME]] [--budget SECONDS] [--table]
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python3 benches/gpu/run.py "$@"
