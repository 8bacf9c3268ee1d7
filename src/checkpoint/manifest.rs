//! `BLAKE3SUMS`: the hashes of a model folder's files, in the form that `b3sum` writes and checks. A flipped bit leaves the shape of
//! a weight file as it was; only its hash tells.
//!
//! It guards against damage, not against whoever can write to the folder: he can write the hashes too.

use super::folder::TEXT_FILES;
use super::{Checkpoint, CheckpointError, Shard, folder};
use crate::error::{Error, ExitCode, Shown, read_exit_code};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tracing::info_span;

/// The manifest's name in a model folder.
pub const MANIFEST: &str = "BLAKE3SUMS";
/// Bytes of a manifest that are read: a hundred thousand shards take fewer.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// Digits of a hash.
const HASH_DIGITS: usize = 64;
/// Files of a folder, beside its weights, that a manifest is written for and held against.
const SMALL_FILES: [&str; 3] = ["config.json", "generation_config.json", folder::INDEX];

/// Why a model folder is not what its manifest says, or a manifest cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A manifest that is too long.
    #[error("{}: {bytes} bytes, over the limit of {MANIFEST_BYTES_MAX}; a manifest has a line a file", .file.display())]
    TooLarge {
        /// The manifest.
        file: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// A line that is not one of `b3sum`'s.
    #[error(
        "{}:{line}: {got} is no line of b3sum: wanted 64 hexadecimal digits, two spaces and a file name; write it again with \
         b3sum or with millstream models --manifest", .file.display()
    )]
    Line {
        /// The manifest.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        got: Shown,
    },
    /// A file with two hashes.
    #[error("{}:{line}: {name} has a line above already; one of the two hashes is wrong", .file.display())]
    Twice {
        /// The manifest.
        file: PathBuf,
        /// The second line, from 1.
        line: usize,
        /// The file.
        name: Shown,
    },
    /// A weight file that the manifest does not have.
    #[error(
        "{}: has no hash of {name}, which holds weights; write it again if the file is sound (millstream models --manifest)",
        .file.display()
    )]
    Absent {
        /// The manifest.
        file: PathBuf,
        /// The weight file.
        name: Shown,
    },
    /// A file of another hash.
    #[error(
        "{}: BLAKE3 is {got}, {MANIFEST} has {want}; the file is damaged or another one: fetch it again, or write the manifest \
         again if the file is sound", .file.display()
    )]
    Mismatch {
        /// The file.
        file: PathBuf,
        /// By the manifest.
        want: blake3::Hash,
        /// Of what was read.
        got: blake3::Hash,
    },
    /// A manifest that is there already.
    #[error(
        "{}: exists; what it says is kept. Remove it to write the hashes of the files as they are now", .file.display()
    )]
    Exists {
        /// The manifest.
        file: PathBuf,
    },
    /// A manifest that cannot be written.
    #[error("{}: cannot be written: {source}", .file.display())]
    Write {
        /// The manifest.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl ManifestError {
    /// What a command exits with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ManifestError::Io { source, .. } => read_exit_code(source),
            ManifestError::TooLarge { .. }
            | ManifestError::Line { .. }
            | ManifestError::Twice { .. }
            | ManifestError::Absent { .. }
            | ManifestError::Mismatch { .. } => ExitCode::Data,
            ManifestError::Exists { .. } | ManifestError::Write { .. } => ExitCode::CannotCreate,
        }
    }
}

/// What is known of a checkpoint's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Integrity {
    /// So many files have the hashes that the folder's manifest gives them.
    Held {
        /// Files that were hashed.
        files: usize,
    },
    /// The folder has no manifest.
    Unknown,
    /// There is no folder: the model is part of the program, or its weights are made up.
    Inherent,
}

/// Hashes by file name.
type Hashes = BTreeMap<String, blake3::Hash>;

/// The manifest of a folder; `None` where it has none.
fn read(dir: &Path) -> Result<Option<Hashes>, ManifestError> {
    let file = dir.join(MANIFEST);
    let failed = |source| ManifestError::Io { file: file.clone(), source };
    let open = match File::open(&file) {
        Ok(open) => open,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let bytes = open.metadata().map_err(failed)?.len();
    if bytes > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge { file, bytes });
    }
    let mut text = vec![];
    open.take(MANIFEST_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    parse(&file, &text).map(Some)
}

/// The lines of a manifest; `file` is what messages call it.
fn parse(file: &Path, text: &[u8]) -> Result<Hashes, ManifestError> {
    let mut hashes = Hashes::new();
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let wrong = || {
            let got = Shown::quoted(&String::from_utf8_lossy(line));
            ManifestError::Line { file: file.into(), line: index + 1, got }
        };
        let (digits, name) = line.split_at_checked(HASH_DIGITS).ok_or_else(wrong)?;
        let name =
            name.strip_prefix(b"  ").or(name.strip_prefix(b" *")).and_then(|name| std::str::from_utf8(name).ok());
        let name = name.map(|name| name.strip_prefix("./").unwrap_or(name)).filter(|name| !name.is_empty());
        let (hash, name) = blake3::Hash::from_hex(digits).ok().zip(name).ok_or_else(wrong)?;
        if hashes.insert(name.to_string(), hash).is_some() {
            return Err(ManifestError::Twice { file: file.into(), line: index + 1, name: Shown::quoted(name) });
        }
    }
    Ok(hashes)
}

impl Checkpoint {
    /// Holds every weight file, and what else of the folder the manifest names, against [`MANIFEST`]. Weights are hashed as they
    /// were opened, so that what is hashed is what will be read; it takes the time of reading them once.
    ///
    /// # Errors
    /// All files that differ, a weight file that the manifest does not have, a manifest that cannot be read.
    pub fn verify(&self) -> Result<Integrity, Error> {
        if self.0.shards.is_empty() || self.0.tokenizer.is_some() {
            return Ok(Integrity::Inherent);
        }
        let _span = info_span!("weights verify").entered();
        let Some(hashes) = read(&self.0.dir).map_err(CheckpointError::from)? else { return Ok(Integrity::Unknown) };
        let mut faults: Vec<Error> = vec![];
        let mut fault = |fault: ManifestError| faults.push(CheckpointError::from(fault).into());
        let mut files = 0;
        for (Shard { file, .. }, got) in self.0.shards.iter().zip(shard_hashes(&self.0.shards)) {
            // Names in the index are relative to the folder.
            let name = file.strip_prefix(&self.0.dir).unwrap_or(file).display().to_string();
            files += 1;
            match hashes.get(&name) {
                Some(&want) if want == got => {}
                Some(&want) => fault(ManifestError::Mismatch { file: file.clone(), want, got }),
                None => fault(ManifestError::Absent { file: self.0.dir.join(MANIFEST), name: Shown::quoted(&name) }),
            }
        }
        for name in SMALL_FILES.into_iter().chain(TEXT_FILES) {
            let Some(&want) = hashes.get(name) else { continue };
            let file = self.0.dir.join(name);
            files += 1;
            match file_hash(&file) {
                Ok(got) if want == got => {}
                Ok(got) => fault(ManifestError::Mismatch { file, want, got }),
                Err(source) => fault(ManifestError::Io { file, source }),
            }
        }
        Error::all(faults)?;
        Ok(Integrity::Held { files })
    }
}

/// The hash of each shard, several at once.
fn shard_hashes(shards: &[Shard]) -> Vec<blake3::Hash> {
    let next = AtomicUsize::new(0);
    let hashes = Mutex::new(vec![blake3::Hash::from_bytes([0; 32]); shards.len()]);
    let work = || {
        while let Some((at, shard)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            shards.get(at).map(|shard| (at, shard))
        } {
            let hash = blake3::hash(&shard.contents);
            hashes.lock().expect("no thread panics with it")[at] = hash;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(shards.len());
    std::thread::scope(|scope| {
        // The caller is one of them, so that a system without threads left only takes longer.
        for _ in 1..threads {
            drop(std::thread::Builder::new().spawn_scoped(scope, work));
        }
        work();
    });
    hashes.into_inner().expect("no thread panics with it")
}

fn file_hash(file: &Path) -> std::io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(file)?)?;
    Ok(hasher.finalize())
}

/// Writes the manifest of a model folder: the hashes of its weights, configurations, tokenizer and templates. Returns the file and
/// how many others it names.
///
/// # Errors
/// A folder without weights, files that cannot be read, a manifest that is there already or cannot be written.
pub fn write_manifest(dir: &Path) -> Result<(PathBuf, usize), Error> {
    let listing = folder::list(dir)?;
    let file = dir.join(MANIFEST);
    if file.symlink_metadata().is_ok() {
        return Err(CheckpointError::from(ManifestError::Exists { file }).into());
    }
    let mut names: Vec<String> = listing.shards.into_iter().map(|(name, _)| name).collect();
    let there = |name: &&str| dir.join(name).is_file();
    names.extend(SMALL_FILES.into_iter().chain(TEXT_FILES).filter(there).map(String::from));
    let mut text = String::new();
    for name in &names {
        let of = dir.join(name);
        let hash = file_hash(&of).map_err(|source| CheckpointError::from(ManifestError::Io { file: of, source }))?;
        text += &format!("{}  {name}\n", hash.to_hex());
    }
    // Whole or not at all: half a manifest would accuse sound files.
    let fresh = dir.join(format!("{MANIFEST}.tmp"));
    let written = File::create(&fresh).and_then(|mut out| {
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        std::fs::rename(&fresh, &file)
    });
    written.map_err(|source| CheckpointError::from(ManifestError::Write { file: file.clone(), source }))?;
    Ok((file, names.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_b3sum() {
        let hash = blake3::hash(b"").to_hex().to_string();
        let read = parse(Path::new("B"), format!("{hash}  a b\r\n\n{hash} *./c\n{hash}  d/e").as_bytes()).unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), ["a b", "c", "d/e"]);
        let refuse = |text: &str, expect: &str| {
            assert_eq!(parse(Path::new("B"), text.as_bytes()).unwrap_err().to_string(), expect)
        };
        let rest = "is no line of b3sum: wanted 64 hexadecimal digits, two spaces and a file name; write it again with b3sum or \
                    with millstream models --manifest";
        for bad in ["x", &hash, &format!("{hash}  "), &format!("{hash} a"), &format!("g{}  a", &hash[1..])] {
            let shown: String = bad.chars().take(80).collect();
            refuse(&format!("{hash}  a\n{bad}"), &format!("B:2: \"{shown}\" {rest}"));
        }
        refuse(
            &format!("{hash}  a\n{hash}  ./a"),
            "B:2: \"a\" has a line above already; one of the two hashes is wrong",
        );
    }
}
