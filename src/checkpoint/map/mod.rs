//! The bytes of a file: mapped, or copied into memory. The only place of this crate that maps.

mod lost;

pub use lost::report_lost_pages;

use super::LoadFormat;
use memmap2::Mmap;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// The bytes of one file, as long as its length was when it was opened.
pub(crate) enum Contents {
    /// In the page cache; a page is read when it is first touched.
    Mapped { map: Mmap, _remembered: Option<lost::Remembered> },
    /// In memory of this process.
    Copied(Vec<u8>),
    /// In the program itself.
    Embedded(&'static [u8]),
}

impl Contents {
    /// The first `len` bytes of `file`, where `len` is its length; messages call it `name`.
    pub(crate) fn of(file: &File, name: &Path, len: usize, format: LoadFormat) -> Result<Self> {
        match format {
            LoadFormat::Read => {
                let mut bytes = Vec::new();
                bytes.try_reserve_exact(len).map_err(|error| Error::new(ErrorKind::OutOfMemory, error))?;
                file.take(len as u64).read_to_end(&mut bytes)?;
                if bytes.len() == len {
                    Ok(Self::Copied(bytes))
                } else {
                    Err(Error::new(ErrorKind::UnexpectedEof, "the file got shorter while it was read"))
                }
            }
            LoadFormat::Mmap => {
                // SAFETY: the mapping is read-only and private to this type, and all reads go through slices of it that
                // are checked against its length, which is the file's. What cannot be checked is that nobody shortens or
                // rewrites the file meanwhile: that is documented at `LoadFormat::Mmap`, and `LoadFormat::Read` is the way
                // out.
                let map = unsafe { Mmap::map(file) }?;
                if map.len() >= len {
                    let _remembered = lost::remember(&map, name);
                    Ok(Self::Mapped { map, _remembered })
                } else {
                    Err(Error::new(ErrorKind::UnexpectedEof, "the file got shorter while it was opened"))
                }
            }
        }
    }
}

impl std::ops::Deref for Contents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Contents::Mapped { map, .. } => map,
            Contents::Copied(bytes) => bytes,
            Contents::Embedded(bytes) => bytes,
        }
    }
}
