//! What tells one model from another, without reading all of its weights.

use super::Checkpoint;
use super::folder::TEXT_FILES;
use serde_json::{Map, Value};
use std::io::Read;
use std::path::Path;

/// Bytes of a weight file that are hashed whole: its header is among the first of them.
const WHOLE_BYTES: usize = 16 << 20;
/// Places of a larger file that are looked at.
const SAMPLES: usize = 256;
/// Bytes at each of them.
const SAMPLE_BYTES: usize = 4096;
/// Bytes of such a file that are hashed: no reader takes more of one.
const TEXT_BYTES_MAX: u64 = 512 << 20;

impl Checkpoint {
    /// Hashes of everything that changes what the model computes, by name. Of weight files over 16 MiB the length, the first 16 MiB
    /// and 256 places of 4 KiB: enough to tell checkpoints apart, not to find a flipped bit.
    pub fn fingerprint(&self) -> Map<String, Value> {
        let mut found = Map::new();
        let mut put = |name: &str, hash: blake3::Hash| found.insert(name.into(), hash.to_hex().to_string().into());
        put("config.json", json_hash(self.config()));
        if let Some(generation) = self.generation_config() {
            put("generation_config.json", json_hash(generation));
        }
        match self.0.tokenizer {
            Some(bytes) => drop(put("tokenizer.json", blake3::hash(bytes))),
            None => {
                for name in TEXT_FILES {
                    if let Some(hash) = file_hash(&self.0.dir.join(name)) {
                        put(name, hash);
                    }
                }
                for name in more_templates(&self.0.dir) {
                    if let Some(hash) = file_hash(&self.0.dir.join(&name)) {
                        put(&name, hash);
                    }
                }
            }
        }
        let mut weights = blake3::Hasher::new();
        for shard in self.0.shards.iter() {
            sample(&shard.contents, &mut weights);
        }
        put("weights", weights.finalize());
        found
    }
}

/// Chat templates beside the default one, in order.
fn more_templates(dir: &Path) -> Vec<String> {
    const FOLDER: &str = "additional_chat_templates";
    let entries = std::fs::read_dir(dir.join(FOLDER)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".jinja")).map(|name| format!("{FOLDER}/{name}")).collect();
    names.sort_unstable();
    names
}

fn json_hash(map: &Map<String, Value>) -> blake3::Hash {
    blake3::hash(Value::Object(map.clone()).to_string().as_bytes())
}

/// The hash of a small file; `None` where there is none, which whoever needs it will say.
fn file_hash(file: &Path) -> Option<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(file).ok()?.take(TEXT_BYTES_MAX)).ok()?;
    Some(hasher.finalize())
}

/// Hashes the length and the parts of a weight file.
fn sample(bytes: &[u8], hasher: &mut blake3::Hasher) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(&bytes[..bytes.len().min(WHOLE_BYTES)]);
    if bytes.len() > WHOLE_BYTES {
        let room = bytes.len() - SAMPLE_BYTES;
        for place in 1..=SAMPLES {
            let at = room / SAMPLES * place;
            hasher.update(&bytes[at..at + SAMPLE_BYTES]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_one_fingerprint_and_another_model_another() {
        let demo = Checkpoint::embedded();
        assert_eq!(demo.fingerprint(), Checkpoint::embedded().fingerprint());
        assert!(["config.json", "tokenizer.json", "weights"].iter().all(|name| demo.fingerprint().contains_key(*name)));
        let hash = |bytes: &[u8]| {
            let mut hasher = blake3::Hasher::new();
            sample(bytes, &mut hasher);
            hasher.finalize()
        };
        let mut bytes = vec![7; WHOLE_BYTES + 3 * SAMPLE_BYTES];
        let before = hash(&bytes);
        *bytes.last_mut().expect("not empty") = 8;
        assert_ne!(hash(&bytes), before, "the end is looked at");
        assert_ne!(hash(&bytes[..bytes.len() - 1]), before);
    }
}
