#!/usr/bin/env bash
# The law of determinism at its figure: 10,000 requests of the embedded model under 12 settings, and after a crash; greedy and drawn, with
# log-probabilities, with prompts that begin alike. Every output must be that of the first setting, byte for byte. Takes minutes, so it is
# no part of .ci/run; tests/engine.rs holds the same law there, on fewer requests and on every family.
#
# PROGRAM names a binary that is built already.
#
#   [PROGRAM=...] tests/same_bits.sh [REQUESTS]
set -euo pipefail
cd "$(dirname "$0")/.."
requests=${1:-10000}
[[ -n ${PROGRAM:-} ]] || cargo build --release --quiet
program=${PROGRAM:-target/release/millstream}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# A third begins with one of seven long texts; lengths, settings and stops are mixed.
awk -v n="$requests" 'BEGIN {
    split("Ownership|A vector|The compiler|Traits let|Each value|A reference|Closures", words, "|")
    long = " is one of the things that a reader of this book meets early on, and comes back to in almost every chapter"
    for (i = 0; i < n; i++) {
        word = words[1 + i % 7]
        prompt = i % 3 == 0 ? word long " " i : word " " i % 97 " and " i
        line = sprintf("{\"custom_id\": \"id%d\", \"prompt\": \"%s\", \"max_tokens\": %d", i, prompt, 1 + (i * 7) % 12)
        if (i % 2) line = line sprintf(", \"temperature\": %.1f, \"top_p\": 0.95", 0.5 + (i % 5) / 5)
        if (i % 11 == 0) line = line ", \"n\": 2"
        if (i % 4 == 0) line = line ", \"logprobs\": 2"
        if (i % 50 == 0) line = line ", \"prompt_logprobs\": 1"
        if (i % 13 == 0) line = line ", \"repetition_penalty\": 1.2"
        print line "}"
    }
}' > "$dir/job.jsonl"
tac "$dir/job.jsonl" > "$dir/reversed.jsonl"

# What two runs do not share: the time, and the number of a line in another order.
timeless() { sed -E 's/"created":[0-9]+/"created":0/; s/"(batch_req_|req-|cmpl-)[0-9]+"/"\1"/g' "$1"; }

settings=(
    ""
    "--max-num-batched-tokens 5"
    "--max-num-batched-tokens 16 --max-num-seqs 3"
    "--max-num-seqs 1"
    "--max-num-seqs 256 --max-num-batched-tokens 2048"
    "--no-enable-prefix-caching"
    "--kv-cache-memory-bytes 2097152"
    "--threads 1"
    "--pipeline-parallel-size 2"
    "--pipeline-parallel-size 3 --max-num-batched-tokens 33"
    "--pipeline-parallel-size 4 --no-enable-prefix-caching"
    "reversed"
)
for number in "${!settings[@]}"; do
    setting=${settings[$number]} input=$dir/job.jsonl
    [[ $setting = reversed ]] && input=$dir/reversed.jsonl setting=""
    rm -f "$dir"/out.jsonl*
    begun=$(date +%s%N)
    # shellcheck disable=SC2086
    "$program" run "$input" -o "$dir/out.jsonl" $setting 2> "$dir/said" || { cat "$dir/said"; exit 1; }
    took=$((($(date +%s%N) - begun) / 1000000))
    timeless "$dir/out.jsonl" > "$dir/found"
    if [[ $number = 0 ]]; then
        mv "$dir/found" "$dir/wanted"
        test "$(wc -l < "$dir/wanted")" = "$requests"
        test "$(grep -c '"error":null' "$dir/wanted")" = "$requests"
    elif [[ ${settings[$number]} = reversed ]]; then
        tac "$dir/found" | cmp - "$dir/wanted"
    else
        cmp "$dir/found" "$dir/wanted"
    fi
    echo "${settings[$number]:-the defaults}: $took ms, $(wc -c < "$dir/out.jsonl") bytes"
done

# Killed, and gone on with under other settings each time.
rm -f "$dir"/out.jsonl*
for setting in "--max-num-seqs 7" "--pipeline-parallel-size 2" "--threads 1" ""; do
    # shellcheck disable=SC2086
    "$program" run "$dir/job.jsonl" -o "$dir/out.jsonl" --resume --no-supervise $setting 2> "$dir/said" &
    process=$!
    [[ -z $setting ]] || { sleep 2; kill -KILL "$process" 2> /dev/null || true; }
    wait "$process" 2> /dev/null || true
done
timeless "$dir/out.jsonl" | cmp - "$dir/wanted"
echo "killed three times: the same"
echo "$requests requests under ${#settings[@]} settings and after kills: not a byte differs"
