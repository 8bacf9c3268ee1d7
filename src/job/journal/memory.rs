//! Files in memory that fail when they are told to, for tests: what was written is lost in a crash unless it was synced, and a
//! sync that failed forgets what it should have made durable, as disks do.

use super::files::{Files, Handle, Lying, Mode};
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Which operation fails, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// The operation, counted from 1.
    pub(crate) operation: u64,
    /// The system's number.
    pub(crate) errno: i32,
    /// Whether all operations behind it fail too, but reading.
    pub(crate) lasting: bool,
}

#[derive(Debug, Default)]
struct One {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Where the bytes begin that a failed sync forgot: no later sync makes them durable, unless they are written again.
    forgotten: Option<usize>,
    locked_by: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, One>,
    operations: u64,
    handles: u64,
    failure: Option<Failure>,
}

impl State {
    fn count(&mut self) -> Result<()> {
        self.operations += 1;
        let now = self.operations;
        match self.failure {
            Some(Failure { operation, errno, lasting }) if now == operation || (lasting && now > operation) => {
                Err(Error::from_raw_os_error(errno))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A folder in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with it")
    }

    /// Fails from now on as told, counting operations anew.
    pub(crate) fn fail(&self, failure: Option<Failure>) {
        let mut state = self.state();
        (state.failure, state.operations) = (failure, 0);
    }

    /// Operations since the count began.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Loses everything that no sync made durable.
    pub(crate) fn crash(&self) {
        for one in self.state().files.values_mut() {
            one.bytes = one.durable.clone();
            (one.forgotten, one.locked_by) = (None, None);
        }
    }

    /// What a file holds.
    pub(crate) fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        self.state().files.get(path).map(|one| one.bytes.clone())
    }

    /// Puts a file there.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let one = One { bytes: bytes.to_vec(), durable: bytes.to_vec(), ..One::default() };
        self.state().files.insert(path.into(), one);
    }
}

#[derive(Debug)]
struct Open {
    memory: Memory,
    path: PathBuf,
    number: u64,
}

impl Open {
    fn with<T>(&self, fallible: bool, act: impl FnOnce(&mut One, bool) -> Result<T>) -> Result<T> {
        let mut state = self.memory.state();
        let failed = if fallible { state.count().err() } else { None };
        let one = state.files.get_mut(&self.path).ok_or(ErrorKind::NotFound)?;
        let done = act(one, failed.is_some());
        failed.map_or(done, Err)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(one) = self.memory.state().files.get_mut(&self.path)
            && one.locked_by == Some(self.number)
        {
            one.locked_by = None;
        }
    }
}

impl Files for Memory {
    fn look(&self, path: &Path) -> Result<Option<Lying>> {
        Ok(self.state().files.get(path).map(|one| Lying::File(one.bytes.len() as u64)))
    }

    fn open(&self, path: &Path, mode: Mode) -> Result<Box<dyn Handle>> {
        let mut state = self.state();
        state.count()?;
        state.handles += 1;
        let number = state.handles;
        match mode {
            Mode::Create => drop(state.files.entry(path.into()).or_default()),
            Mode::Read | Mode::Update => drop(state.files.get(path).ok_or(ErrorKind::NotFound)?),
        }
        Ok(Box::new(Open { memory: self.clone(), path: path.into(), number }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state();
        state.count()?;
        let one = state.files.remove(from).ok_or(ErrorKind::NotFound)?;
        state.files.insert(to.into(), one);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        state.count()?;
        state.files.remove(path).map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn sync_folder(&self, _folder: &Path) -> Result<()> {
        self.state().count()
    }
}

impl Handle for Open {
    fn bytes(&self) -> Result<u64> {
        self.with(false, |one, _| Ok(one.bytes.len() as u64))
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.with(false, |one, _| {
            let rest = one.bytes.get(offset as usize..).unwrap_or_default();
            let read = rest.len().min(into.len());
            into[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        self.with(true, |one, failed| {
            // A write that fails has written some of it.
            let taken = if failed { &bytes[..bytes.len() / 2] } else { bytes };
            let end = offset as usize + taken.len();
            if one.bytes.len() < end {
                one.bytes.resize(end, 0);
            }
            one.bytes[offset as usize..end].copy_from_slice(taken);
            Ok(taken.len())
        })
    }

    fn truncate(&self, bytes: u64) -> Result<()> {
        self.with(true, |one, failed| {
            if !failed {
                one.bytes.resize(bytes as usize, 0);
                one.forgotten = one.forgotten.filter(|&at| at < bytes as usize);
            }
            Ok(())
        })
    }

    fn sync(&self) -> Result<()> {
        self.with(true, |one, failed| {
            let kept = one.bytes.iter().zip(&one.durable).take_while(|(now, before)| now == before).count();
            if failed {
                one.forgotten = Some(one.forgotten.map_or(kept, |at| at.min(kept)));
                return Ok(());
            }
            let good = one.forgotten.unwrap_or(one.bytes.len()).min(one.bytes.len());
            one.durable = one.bytes[..good].to_vec();
            // What was forgotten reads well until the crash.
            one.durable.resize(one.bytes.len(), 0);
            Ok(())
        })
    }

    fn try_lock(&self) -> Result<bool> {
        self.with(true, |one, failed| {
            let free = one.locked_by.is_none();
            if free && !failed {
                one.locked_by = Some(self.number);
            }
            Ok(free)
        })
    }
}
