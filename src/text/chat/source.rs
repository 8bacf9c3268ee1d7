//! A template's source before it is compiled: what it writes of tokens becomes marks, and `{% generation %}` a block of its own.
//!
//! Only texts and string constants are rewritten, and only those that are written: a constant that text is compared with or split at
//! stays as it is, so that a template decides what it decides elsewhere.

use std::ops::Range;

/// Names of what looks for its arguments in a text: methods, filters and tests.
const LOOKING: [&str; 28] = [
    "split",
    "rsplit",
    "startswith",
    "endswith",
    "replace",
    "find",
    "rfind",
    "index",
    "rindex",
    "count",
    "strip",
    "lstrip",
    "rstrip",
    "trim",
    "removeprefix",
    "removesuffix",
    "partition",
    "rpartition",
    "get",
    "attr",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "eq",
    "equalto",
    "ne",
    "sameas",
];

/// A part of a source that is written as it stands: text, or the inside of a string constant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Literal<'s> {
    /// It.
    pub(super) text: &'s str,
    /// The source before it.
    pub(super) before: &'s str,
    /// The source behind it.
    pub(super) after: &'s str,
}

/// The literals of a source, by their bytes; `looked_for` says which are only compared with.
pub(super) struct Literals {
    /// In order.
    pub(super) written: Vec<Range<usize>>,
    /// In order.
    pub(super) looked_for: Vec<Range<usize>>,
}

/// The source with each written literal replaced by what `rewrite` makes of it, and generation blocks made plain.
pub(super) fn rewritten<E>(
    source: &str,
    mut rewrite: impl FnMut(Literal<'_>) -> Result<String, E>,
) -> Result<String, E> {
    let (literals, tags) = scan(source);
    let mut out = String::with_capacity(source.len());
    let mut from = 0;
    let mut edits: Vec<(Range<usize>, Option<&str>)> =
        literals.written.into_iter().map(|range| (range, None)).collect();
    edits.extend(tags.into_iter().map(|(range, with)| (range, Some(with))));
    edits.sort_by_key(|(range, _)| range.start);
    for (range, with) in edits {
        out.push_str(&source[from..range.start]);
        match with {
            Some(with) => out.push_str(with),
            None => {
                let (before, after) = (&source[..range.start], &source[range.end..]);
                out.push_str(&rewrite(Literal { text: &source[range.clone()], before, after })?);
            }
        }
        from = range.end;
    }
    out.push_str(&source[from..]);
    Ok(out)
}

/// All texts and string constants of a source.
pub(super) fn literals(source: &str) -> Literals {
    scan(source).0
}

/// Words to be put in the place of others.
type Replaced = Vec<(Range<usize>, &'static str)>;

fn scan(source: &str) -> (Literals, Replaced) {
    let mut scanner =
        Scanner { source, at: 0, literals: Literals { written: vec![], looked_for: vec![] }, tags: Vec::new() };
    scanner.texts();
    (scanner.literals, scanner.tags)
}

/// Goes through a source once. A source that ends in the middle of something is left to the compiler, which says where.
struct Scanner<'s> {
    source: &'s str,
    at: usize,
    literals: Literals,
    tags: Replaced,
}

impl<'s> Scanner<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    /// Moves behind the next `end`, or to the end of the source.
    fn skip(&mut self, end: &str) {
        self.at = self.rest().find(end).map_or(self.source.len(), |found| self.at + found + end.len());
    }

    fn texts(&mut self) {
        while self.at < self.source.len() {
            let begin = self.at;
            let open = self.rest().match_indices('{').map(|(at, _)| at);
            let tag = open.map(|at| begin + at).find(|&at| self.source[at + 1..].starts_with(['{', '%', '#']));
            let end = tag.unwrap_or(self.source.len());
            if begin < end {
                self.literals.written.push(begin..end);
            }
            self.at = (end + 2).min(self.source.len());
            match self.source.as_bytes()[end..].get(1) {
                Some(b'#') => self.skip("#}"),
                Some(b'%') => self.block(),
                Some(_) => self.code("}}"),
                None => {}
            }
        }
    }

    /// A block tag, behind its opening.
    fn block(&mut self) {
        let inside = self.rest().trim_start_matches(['-', '+']).trim_start();
        let begin = self.source.len() - inside.len();
        let word = &inside[..inside.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inside.len())];
        match word {
            "raw" => return self.raw(),
            // A block of its own scope that writes what it holds.
            "generation" => self.tags.push((begin..begin + word.len(), "with")),
            "endgeneration" => self.tags.push((begin..begin + word.len(), "endwith")),
            _ => {}
        }
        self.code("%}");
    }

    /// A raw block, in its opening tag.
    fn raw(&mut self) {
        self.skip("%}");
        let begin = self.at;
        while self.at < self.source.len() {
            self.skip("{%");
            let tag = self.at.saturating_sub(2);
            if self.rest().trim_start_matches(['-', '+']).trim_start().starts_with("endraw") {
                self.literals.written.push(begin..tag);
                return self.skip("%}");
            }
        }
    }

    /// The inside of a tag, up to `end` outside of all brackets.
    fn code(&mut self, end: &str) {
        // Whether what stands in an open bracket is only looked for.
        let mut open: Vec<bool> = Vec::new();
        let begin = self.at;
        while let Some(next) = self.rest().chars().next() {
            if open.is_empty() && self.rest().starts_with(end) {
                self.at += end.len();
                return;
            }
            match next {
                '\'' | '"' => self.constant(next, begin, open.last().copied().unwrap_or(false)),
                '(' | '[' | '{' => {
                    let looked_for = opens_a_search(&self.source[begin..self.at], next);
                    let inherited =
                        open.last().copied().unwrap_or(false) && !ends_in_a_name(&self.source[begin..self.at]);
                    open.push(looked_for || inherited);
                    self.at += 1;
                }
                ')' | ']' | '}' => {
                    open.pop();
                    self.at += 1;
                }
                _ => self.at += next.len_utf8(),
            }
        }
    }

    /// A string constant, at its quote, in the tag that begins at `tag`.
    fn constant(&mut self, quote: char, tag: usize, in_search: bool) {
        let begin = self.at + 1;
        let mut escape = false;
        let close = |c: char| {
            let ends = c == quote && !escape;
            escape = c == '\\' && !escape;
            ends
        };
        let end = self.source[begin..].find(close).map_or(self.source.len(), |found| begin + found);
        self.at = (end + 1).min(self.source.len());
        let looked_for = in_search || is_compared(&self.source[tag..begin - 1], self.rest());
        let list = if looked_for { &mut self.literals.looked_for } else { &mut self.literals.written };
        if begin < end {
            list.push(begin..end);
        }
    }
}

/// The word at the end of some code, and what stands before it.
fn last_word(code: &str) -> (&str, &str) {
    let code = code.trim_end();
    let begin = code
        .rfind(|c: char| !c.is_alphanumeric() && c != '_')
        .map_or(0, |at| at + code[at..].chars().next().map_or(1, char::len_utf8));
    (&code[begin..], &code[..begin])
}

fn ends_in_a_name(code: &str) -> bool {
    !last_word(code).0.is_empty()
}

/// Whether what stands in this bracket is looked for: arguments of a search, a list behind `in`, a key.
fn opens_a_search(before: &str, bracket: char) -> bool {
    let (word, _) = last_word(before);
    match bracket {
        '(' => word == "in" || LOOKING.contains(&word),
        // Behind a value it is a key, else a list.
        '[' => word == "in" || !word.is_empty() || before.trim_end().ends_with([')', ']']),
        _ => false,
    }
}

/// Whether a constant between these is one that something is compared with.
fn is_compared(before: &str, after: &str) -> bool {
    let before = before.trim_end();
    let (word, _) = last_word(before);
    let after = after.trim_start();
    let negated = after.strip_prefix("not").map_or(after, str::trim_start);
    let searched = negated.strip_prefix("in").is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()));
    let key = after.starts_with(':') && before.ends_with(['{', ',']);
    word == "in"
        || LOOKING.contains(&word)
        || before.ends_with("==")
        || before.ends_with("!=")
        || after.starts_with("==")
        || after.starts_with("!=")
        || searched
        || key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written and what is looked for.
    fn check(source: &str, written: &[&str], looked_for: &[&str]) {
        let found = literals(source);
        let texts = |ranges: Vec<Range<usize>>| ranges.into_iter().map(|range| &source[range]).collect::<Vec<_>>();
        assert_eq!(texts(found.written), written, "written in {source}");
        assert_eq!(texts(found.looked_for), looked_for, "looked for in {source}");
    }

    #[test]
    fn texts_and_constants_are_found() {
        check("<s>{{ '[A]' + m }}b{# '<c>' #}\n", &["<s>", "[A]", "b", "\n"], &[]);
        check(
            r#"{%- set x = "a\"}}" ~ '%}' -%}z"#,
            &[r#"a\""#.to_owned().as_str(), "%}", "z"].map(|s| if s == "a\\\"" { "a\\\"}}" } else { s }),
            &[],
        );
        check("{{ {'k': {'j': '<v>'}} }}t", &["<v>", "t"], &["k", "j"]);
        check("{% raw %}{{ '<a>' }}{% endraw %}b", &["{{ '<a>' }}", "b"], &[]);
        check("a{{", &["a"], &[]);
        check("a{% if 'x", &["a", "x"], &[]);
        check("{ {a} }", &["{ {a} }"], &[]);
    }

    #[test]
    fn what_is_compared_with_stays() {
        check("{% if '</t>' in c and c != '<a>' and '<b>' == c %}", &[], &["</t>", "<a>", "<b>"]);
        check("{% if '<n>' not in c %}", &[], &["<n>"]);
        check("{{ c.split('</t>')[-1].lstrip('\\n') + '</t>' }}", &["</t>"], &["</t>", "\\n"]);
        check("{{ c | replace('<a>', '<b>') }}{{ f('<c>') }}", &["<c>"], &["<a>", "<b>"]);
        check("{% if c.startswith(('<a>', '<b>')) %}", &[], &["<a>", "<b>"]);
        check("{% if r in ['<a>', '<b>'] %}{{ ['<c>'] }}", &["<c>"], &["<a>", "<b>"]);
        check("{{ m['role'] + '<e>' }}", &["<e>"], &["role"]);
        check("{{ f(c.get('<k>'), '<v>') }}", &["<v>"], &["<k>"]);
        check("{{ c.replace('x', g('<y>')) }}", &["<y>"], &["x"]);
        check("{% if x is eq '<a>' %}{{ '<b>' if inside else '<c>' }}", &["<b>", "<c>"], &["<a>"]);
    }

    #[test]
    fn generation_becomes_a_block() {
        let same = |literal: Literal<'_>| Ok::<_, ()>(literal.text.to_uppercase());
        let source = "a{%- generation -%}b{{ 'c' }}{% endgeneration %}";
        assert_eq!(rewritten(source, same).unwrap(), "A{%- with -%}B{{ 'C' }}{% endwith %}");
    }
}
