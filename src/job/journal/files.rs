//! The file system as a job sees it: few operations, each of which may fail, so that a test can fail any one of them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// To be read; it must be there.
    Read,
    /// To be read and written; it must be there.
    Update,
    /// To be read and written; made where it is missing, left as it is where it is there.
    Create,
}

/// What has a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lying {
    /// A file of so many bytes.
    File(u64),
    /// A symbolic link, whatever it leads to.
    Link,
    /// A folder, a pipe, a device.
    Other,
}

/// Where a job's files lie.
pub trait Files: Send + Sync + std::fmt::Debug {
    /// What lies at a path; nothing is followed or opened.
    fn look(&self, path: &Path) -> Result<Option<Lying>>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: Mode) -> Result<Box<dyn Handle>>;
    /// Gives a file another name, in place of the file that had it.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Takes a file's name away.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> Result<()>;
}

/// An open file.
pub trait Handle: Send + std::fmt::Debug {
    /// Its length in bytes.
    fn bytes(&self) -> Result<u64>;
    /// Reads what lies at `offset`; may read less than there is room for, and reads nothing only at the end.
    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize>;
    /// Writes at `offset`; may write less than it is given.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize>;
    /// Cuts the file to a length.
    fn truncate(&self, bytes: u64) -> Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> Result<()>;
    /// Takes the lock of the file, which ends with the handle; false where somebody else has it.
    fn try_lock(&self) -> Result<bool>;
}

/// The file system of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn look(&self, path: &Path) -> Result<Option<Lying>> {
        match std::fs::symlink_metadata(path) {
            Ok(there) if there.is_symlink() => Ok(Some(Lying::Link)),
            Ok(there) if !there.is_file() => Ok(Some(Lying::Other)),
            Ok(there) => Ok(Some(Lying::File(there.len()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path, mode: Mode) -> Result<Box<dyn Handle>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            Mode::Read => {}
            Mode::Update => {
                options.write(true);
            }
            Mode::Create => {
                options.write(true).create(true).truncate(false);
            }
        }
        Ok(Box::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        File::open(folder)?.sync_all()
    }
}

impl Handle for File {
    fn bytes(&self) -> Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> Result<()> {
        // The length is part of what has to last, so data alone is enough: it syncs what is needed to read the data back.
        self.sync_data()
    }

    fn try_lock(&self) -> Result<bool> {
        match File::try_lock(self) {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_all_at(handle: &dyn Handle, mut bytes: &[u8], mut offset: u64) -> Result<()> {
    while !bytes.is_empty() {
        match handle.write_at(bytes, offset) {
            Ok(0) => return Err(Error::from(ErrorKind::WriteZero)),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `into` from `offset` on, or fails with the end of the file.
pub(crate) fn read_all_at(handle: &dyn Handle, into: &mut [u8], mut offset: u64) -> Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        match handle.read_at(&mut into[filled..], offset) {
            Ok(0) => return Err(Error::from(ErrorKind::UnexpectedEof)),
            Ok(read) => {
                filled += read;
                offset += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a handle from a place on, to its end.
pub(crate) struct Cursor<'a> {
    handle: &'a dyn Handle,
    at: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(handle: &'a dyn Handle, at: u64) -> Self {
        Self { handle, at }
    }
}

impl std::io::Read for Cursor<'_> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let read = self.handle.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
