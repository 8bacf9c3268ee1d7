//! The words of a command line before clap reads them.

use std::ffi::OsString;

/// vLLM's two-letter flags, which clap would read as bundles of one-letter ones.
const SHORT: [(&str, &str); 4] = [
    ("-tp", "--tensor-parallel-size"),
    ("-pp", "--pipeline-parallel-size"),
    ("-ep", "--expert-parallel-size"),
    ("-dp", "--data-parallel-size"),
];

/// Spells the two-letter flags out: `-tp 2` and `-tp=2` become `--tensor-parallel-size 2`.
pub(super) fn normalise(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut plain = false;
    let spell = |word: OsString| {
        plain = plain || word == "--";
        let Some(text) = word.to_str().filter(|_| !plain) else { return vec![word] };
        let long = |(short, long): &(&str, &str)| match text.strip_prefix(short)? {
            "" => Some(vec![OsString::from(long)]),
            rest => rest.strip_prefix('=').map(|value| vec![OsString::from(long), OsString::from(value)]),
        };
        SHORT.iter().find_map(long).unwrap_or_else(|| vec![word.clone()])
    };
    argv.into_iter().flat_map(spell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_letter_flags_are_spelled_out_and_others_left_alone() {
        let cases = [
            (
                "bench -tp 2 -pp=3 -p 512 -n 128",
                "bench --tensor-parallel-size 2 --pipeline-parallel-size 3 -p 512 -n 128",
            ),
            ("run a.jsonl -o b -tp=2", "run a.jsonl -o b --tensor-parallel-size 2"),
            ("plan -tp 2 -ep 2", "plan --tensor-parallel-size 2 --expert-parallel-size 2"),
            ("plan -ep=4 --explain", "plan --expert-parallel-size 4 --explain"),
            ("bench -dp 2 -p 512", "bench --data-parallel-size 2 -p 512"),
            ("generate -- -tp", "generate -- -tp"),
            ("bench -p 7 -r 2", "bench -p 7 -r 2"),
        ];
        for (given, wanted) in cases {
            let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
            assert_eq!(normalise(words(given)), words(wanted));
        }
    }
}
