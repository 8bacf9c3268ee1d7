//! What a job is: the first record of its journal.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a job was begun with. Two jobs with equal input and parameters give equal results.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Seconds since 1970 when it was begun; part of every result.
    pub created: u64,
    /// The file that was read; `None` for a pipe, which cannot be read again.
    pub input: Option<InputFingerprint>,
    /// Every setting that changes results.
    pub parameters: Map<String, Value>,
}

/// What tells one input from another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InputFingerprint {
    /// Its length.
    pub bytes: u64,
    /// Its lines that are not blank.
    pub lines: u64,
    /// BLAKE3 of all its bytes, in hexadecimal.
    pub blake3: String,
}

/// A setting that is not what it was.
#[derive(Clone, PartialEq, Debug)]
pub struct Difference {
    /// Its name; a field of a group has the group's name and a point before it.
    pub field: String,
    /// What the journal has.
    pub before: Option<Value>,
    /// What it is now.
    pub now: Option<Value>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |value: &Option<Value>| {
            value.as_ref().map_or("absent".into(), |v| crate::error::Shown::json(v).to_string())
        };
        write!(f, "{}: was {}, is {}", self.field, show(&self.before), show(&self.now))
    }
}

impl Header {
    /// The parameters that differ from `now`, by name.
    pub fn differences(&self, now: &Map<String, Value>) -> Vec<Difference> {
        let (before, now) = (flat(&self.parameters), flat(now));
        let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let changed = names.into_iter().filter(|name| before.get(*name) != now.get(*name));
        changed
            .map(|name| Difference {
                field: name.clone(),
                before: before.get(name).map(|&value| value.clone()),
                now: now.get(name).map(|&value| value.clone()),
            })
            .collect()
    }
}

/// The leaves of nested objects under their paths.
fn flat(map: &Map<String, Value>) -> BTreeMap<String, &Value> {
    let mut leaves = BTreeMap::new();
    let mut open: Vec<(String, &Map<String, Value>)> = vec![(String::new(), map)];
    while let Some((path, map)) = open.pop() {
        for (name, value) in map {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match value.as_object() {
                Some(group) => open.push((path, group)),
                None => {
                    leaves.insert(path, value);
                }
            }
        }
    }
    leaves
}
