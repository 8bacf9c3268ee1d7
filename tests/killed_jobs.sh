#!/usr/bin/env bash
# 200 kills of a job of 2,000 requests on the embedded model, each at a random moment, each resumed: every id once, and the output
# that of a job that nobody killed. Takes minutes, so it is no part of .ci/run; tests/resume.rs does 20 kills of 300 requests there.
#
# The parent of the job is killed, and its process with it; with WHO=child only the process, which its parent starts again.
# PROGRAM names a binary that is built already.
#
#   [WHO=child] [PROGRAM=...] tests/killed_jobs.sh [KILLS] [REQUESTS] [SEED]
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-200} requests=${2:-2000}
RANDOM=${3:-1}
who=${WHO:-parent}
[[ -n ${PROGRAM:-} ]] || cargo build --release --quiet
program=${PROGRAM:-target/release/millstream}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for ((i = 0; i < requests; i++)); do
    sampling=""
    ((i % 3)) || sampling=', "temperature": 0.8, "n": 2'
    echo "{\"custom_id\": \"id$i\", \"prompt\": \"A vector of $i\", \"max_tokens\": $((4 + i % 29))$sampling}"
done > "$dir/job.jsonl"

# The time a job was begun is part of its results, and the only part that two jobs do not share.
timeless() { sed 's/"created":[0-9]*/"created":0/' "$1"; }

begun=$(date +%s%N)
"$program" run "$dir/job.jsonl" -o "$dir/calm.jsonl" 2> /dev/null
calm_ms=$((($(date +%s%N) - begun) / 1000000))
timeless "$dir/calm.jsonl" > "$dir/wanted"
echo "calm: $calm_ms ms"

done_kills=0 jobs=0
while ((done_kills < kills)); do
    rm -f "$dir"/out.jsonl*
    while true; do
        "$program" run "$dir/job.jsonl" -o "$dir/out.jsonl" --resume 2> "$dir/said" &
        process=$!
        while ((done_kills < kills)) && kill -0 "$process" 2> /dev/null; do
            moment=$((RANDOM * 32768 + RANDOM))
            moment=$((moment % (calm_ms / 8 + 200)))
            sleep "$((moment / 1000)).$(printf %03d $((moment % 1000)))"
            if [[ $who = parent ]]; then
                kill -KILL "$process" 2> /dev/null || true
                break
            fi
            # Counted here: the parent does not end by it.
            victim=$(cat "/proc/$process/task/$process/children" 2> /dev/null || true)
            if [[ -n $victim ]] && kill -KILL $victim 2> /dev/null; then done_kills=$((done_kills + 1)); fi
        done
        code=0
        wait "$process" 2> /dev/null || code=$?
        case $code in
            0) break ;;
            75) [[ $who = child ]] ;; # Five restarts within a minute.
            137) done_kills=$((done_kills + 1)) ;;
            *) echo "exit $code: $(cat "$dir/said")"; exit 1 ;;
        esac
    done
    jobs=$((jobs + 1))
    timeless "$dir/out.jsonl" | cmp - "$dir/wanted"
    test "$(grep -o '"created":[0-9]*' "$dir/out.jsonl" | sort -u | wc -l)" = 1
    test "$(grep -o '"custom_id":"[^"]*"' "$dir/out.jsonl" | sort -u | wc -l)" = "$requests"
    echo "job $jobs: $done_kills kills so far, output as wanted"
done
echo "$done_kills kills over $jobs jobs of $requests requests: nothing lost, nothing twice, nothing different"
