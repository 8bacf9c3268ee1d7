//! The compiled kernels, their parameters, and those of a device that are loaded.

use super::driver::{Address, Device, DriverFault, Function, Module};
use crate::error::KernelError;
use graph::DType;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Parameters a kernel may have, with the two addresses of scratch memory behind them.
const PARAMETERS_MAX: usize = 40;

/// One compiled kernel.
pub(crate) struct Variant {
    /// Its name in the manifest.
    pub(crate) id: &'static str,
    /// Its entry point.
    pub(crate) kernel: &'static str,
    /// Names and types of its parameters: `("w", "ptr:bf16")`.
    pub(crate) params: &'static [(&'static str, &'static str)],
    /// What was fixed when it was compiled.
    pub(crate) constants: &'static [(&'static str, i64)],
    /// Warps of a block.
    pub(crate) warps: u32,
    /// Bytes of dynamic shared memory.
    pub(crate) shared: u32,
    /// Which parameters were promised to be multiples of 16, a bit each.
    pub(crate) aligned: u64,
    /// Its code.
    pub(crate) cubin: &'static [u8],
}

impl Variant {
    /// What a constant was fixed to; 0 where it has none of this name.
    pub(crate) fn constant(&self, name: &str) -> i64 {
        self.constants.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
    }

    /// Whether a parameter was promised to be a multiple of 16.
    fn promised(&self, param: &str) -> bool {
        self.params.iter().position(|(name, _)| *name == param).is_some_and(|at| self.aligned >> at & 1 == 1)
    }

    /// Whether a pointer is to elements of this type.
    pub(crate) fn is(&self, param: &str, dtype: DType) -> bool {
        let wanted = match dtype {
            DType::F32 => "ptr:f32",
            DType::Bf16 => "ptr:bf16",
            DType::F16 => "ptr:f16",
            DType::U32 => "ptr:i32",
        };
        self.params.iter().any(|(name, kind)| *name == param && *kind == wanted)
    }
}

/// The parameters of a kernel, in the order of its signature.
pub(crate) trait Arguments {
    /// The kernel's entry point.
    const KERNEL: &'static str;

    /// Writes each, in order.
    fn write(&self, to: &mut Parameters);
}

/// Values of parameters, eight bytes each.
#[derive(Clone, Debug)]
pub(crate) struct Parameters {
    values: [u64; PARAMETERS_MAX],
    count: usize,
}

impl Parameters {
    pub(crate) fn of(arguments: &impl Arguments) -> Self {
        let mut this = Self { values: [0; PARAMETERS_MAX], count: 0 };
        arguments.write(&mut this);
        // Every compiled kernel takes two addresses of scratch memory behind its own parameters; none of ours uses any.
        this.pointer(Address::NULL);
        this.pointer(Address::NULL);
        this
    }

    fn push(&mut self, bits: u64) {
        self.values[self.count] = bits;
        self.count += 1;
    }

    pub(crate) fn pointer(&mut self, at: Address) {
        self.push(at.bits());
    }

    pub(crate) fn int(&mut self, value: i32) {
        self.push(u64::from(value as u32));
    }

    /// Changes a parameter.
    pub(crate) fn set_int(&mut self, at: usize, value: i32) {
        self.values[at] = u64::from(value as u32);
    }

    #[allow(dead_code, reason = "called by generated code, where a kernel has such a parameter")]
    pub(crate) fn long(&mut self, value: i64) {
        self.push(value as u64);
    }

    pub(crate) fn float(&mut self, value: f32) {
        self.push(u64::from(value.to_bits()));
    }

    /// The first parameter that breaks a promise of the variant, with its value.
    pub(crate) fn unaligned(&self, variant: &Variant) -> Option<(&'static str, u64)> {
        let broken = |at: &usize| variant.aligned >> at & 1 == 1 && !self.values[*at].is_multiple_of(16);
        let at = (0..variant.params.len()).find(broken)?;
        Some((variant.params[at].0, self.values[at]))
    }

    /// A pointer to each.
    pub(crate) fn pointers(&mut self) -> ([*mut std::ffi::c_void; PARAMETERS_MAX], usize) {
        let mut pointers = [std::ptr::null_mut(); PARAMETERS_MAX];
        for (pointer, value) in pointers.iter_mut().zip(&mut self.values) {
            *pointer = std::ptr::from_mut(value).cast();
        }
        (pointers, self.count)
    }
}

/// The kernels that a device has loaded, by the variant's name.
pub(crate) struct Loaded {
    device: Arc<Device>,
    modules: BTreeMap<&'static str, Module>,
}

impl Loaded {
    pub(crate) fn new(device: &Arc<Device>) -> Self {
        Self { device: device.clone(), modules: BTreeMap::new() }
    }

    /// The kernel of a variant.
    pub(crate) fn function(&mut self, variant: &'static Variant) -> Result<Function, DriverFault> {
        if !self.modules.contains_key(variant.id) {
            self.modules.insert(variant.id, Module::load(&self.device, variant.id, variant.cubin)?);
        }
        self.modules[variant.id].function(variant.kernel, 32 * variant.warps, variant.shared)
    }
}

/// Which variants of a kernel may be taken for a launch.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The kernel.
    pub(crate) kernel: &'static str,
    /// A pointer and what it has to point to.
    pub(crate) typed: Option<(&'static str, DType)>,
    /// Constants that must have these values.
    pub(crate) fixed: &'a [(&'static str, i64)],
    /// Values of the numbers of which a variant may be promised that 16 divides them.
    pub(crate) numbers: &'a [(&'static str, u32)],
}

impl Wanted<'_> {
    /// Those that may be taken: of them the ones with the most promises.
    pub(crate) fn variants(&self) -> Vec<&'static Variant> {
        self.fitting(|_| true)
    }

    /// The same, of those that `fits` says.
    pub(crate) fn fitting(&self, fits: impl Fn(&Variant) -> bool) -> Vec<&'static Variant> {
        let fits = |variant: &&'static Variant| {
            variant.kernel == self.kernel
                && fits(variant)
                && self.typed.is_none_or(|(param, dtype)| variant.is(param, dtype))
                && self.fixed.iter().all(|(name, value)| variant.constant(name) == *value)
                && self.numbers.iter().all(|(name, value)| value % 16 == 0 || !variant.promised(name))
        };
        let found: Vec<_> = VARIANTS.iter().filter(fits).collect();
        let most = found.iter().map(|variant| variant.aligned.count_ones()).max().unwrap_or(0);
        found.into_iter().filter(|variant| variant.aligned.count_ones() == most).collect()
    }

    /// The one whose constant `name` is the least of at least `length`.
    pub(crate) fn covering(&self, name: &'static str, length: u32) -> Option<&'static Variant> {
        let variants = self.variants().into_iter().filter(|variant| variant.constant(name) >= i64::from(length));
        variants.min_by_key(|variant| variant.constant(name))
    }

    /// The one that covers `length`, or the one that goes over it in the largest blocks.
    pub(crate) fn blocks(&self, name: &'static str, length: u32) -> Option<&'static Variant> {
        let largest = || self.variants().into_iter().max_by_key(|variant| variant.constant(name));
        self.covering(name, length).or_else(largest)
    }
}

/// That a kernel of this type is not compiled.
pub(crate) fn missing(op: &'static str, dtype: &'static str) -> KernelError {
    KernelError::Missing { op, dtype, device: "cuda" }
}

/// Made of the manifest; a kernel that no call launches yet stands here too.
#[allow(dead_code, reason = "some kernels wait for those who launch them: sums over ranks")]
mod made {
    use super::{Address, Arguments, Parameters, Variant};

    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

pub(crate) use made::*;
