//! What a kernel was launched with, by the names of its parameters.

use crate::catalogue::Variant;
use crate::state::Allocations;
use crate::wrong;
use half::{bf16, f16};

/// The parameters of one launch.
pub(crate) struct Arguments<'a> {
    pub(crate) variant: &'static Variant,
    pub(crate) values: &'a [u64],
    pub(crate) memory: &'a Allocations,
}

impl Arguments<'_> {
    fn at(&self, name: &str) -> (usize, &'static str) {
        let at = self.variant.params.iter().position(|param| param.name == name);
        let at = at.unwrap_or_else(|| wrong(&format!("{} has no parameter {name}", self.variant.id)));
        (at, &self.variant.params[at].kind)
    }

    pub(crate) fn int(&self, name: &str) -> usize {
        let value = self.signed(name);
        usize::try_from(value).unwrap_or_else(|_| wrong(&format!("{}: {name} is {value}", self.variant.id)))
    }

    pub(crate) fn signed(&self, name: &str) -> i64 {
        let (at, kind) = self.at(name);
        if kind == "i64" { self.values[at] as i64 } else { i64::from(self.values[at] as u32 as i32) }
    }

    pub(crate) fn float(&self, name: &str) -> f32 {
        f32::from_bits(self.values[self.at(name).0] as u32)
    }

    pub(crate) fn constant(&self, name: &str) -> usize {
        let found = self.variant.constants.iter().find(|(known, _)| known == name);
        found
            .map_or_else(|| wrong(&format!("{} has no constant {name}", self.variant.id)), |(_, value)| *value as usize)
    }

    /// What a pointer points to, up to the end of its allocation.
    pub(crate) fn buffer(&self, name: &str) -> Buffer {
        let (at, kind) = self.at(name);
        let start = self.values[at];
        let bytes = self.memory.behind(start).unwrap_or_else(|| {
            wrong(&format!("{}: {name} is {start:#x}, where nothing is allocated", self.variant.id))
        });
        Buffer { start, bytes, kind: &kind[4..], name: format!("{}: {name}", self.variant.id) }
    }
}

/// Elements in the device's memory.
pub(crate) struct Buffer {
    start: u64,
    bytes: u64,
    kind: &'static str,
    name: String,
}

impl Buffer {
    fn address(&self, index: usize, size: u64) -> u64 {
        let end = (index as u64 + 1) * size;
        if end > self.bytes {
            wrong(&format!("{}[{index}] lies behind its allocation, of {} bytes from here on", self.name, self.bytes));
        }
        self.start + end - size
    }

    fn read<T: Copy>(&self, index: usize) -> T {
        let at = self.address(index, size_of::<T>() as u64) as *const T;
        // SAFETY: the address lies in an allocation (Self::address), of initialised bytes; kernels run one after the other.
        unsafe { at.read_unaligned() }
    }

    fn write<T>(&self, index: usize, value: T) {
        let at = self.address(index, size_of::<T>() as u64) as *mut T;
        // SAFETY: as in read.
        unsafe { at.write_unaligned(value) };
    }

    pub(crate) fn get(&self, index: usize) -> f32 {
        match self.kind {
            "f32" => self.read(index),
            "bf16" => bf16::from_bits(self.read(index)).to_f32(),
            "f16" => f16::from_bits(self.read(index)).to_f32(),
            kind => wrong(&format!("{} holds {kind}", self.name)),
        }
    }

    pub(crate) fn set(&self, index: usize, value: f32) {
        match self.kind {
            "f32" => self.write(index, value),
            "bf16" => self.write(index, bf16::from_f32(value).to_bits()),
            "f16" => self.write(index, f16::from_f32(value).to_bits()),
            kind => wrong(&format!("{} holds {kind}", self.name)),
        }
    }

    /// As an element of this buffer holds it.
    pub(crate) fn rounded(&self, value: f32) -> f32 {
        match self.kind {
            "f32" => value,
            "bf16" => bf16::from_f32(value).to_f32(),
            "f16" => f16::from_f32(value).to_f32(),
            kind => wrong(&format!("{} holds {kind}", self.name)),
        }
    }

    pub(crate) fn int(&self, index: usize) -> i64 {
        i64::from(self.read::<i32>(index))
    }

    pub(crate) fn byte(&self, index: usize) -> u8 {
        self.read(index)
    }

    pub(crate) fn put_int(&self, index: usize, value: i32) {
        self.write(index, value);
    }
}
