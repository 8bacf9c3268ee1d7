//! Kernels that are launched with parameters of their own each time.

use super::driver::{Device, Function, Stream};
use super::kernels::{Arguments, Loaded, Parameters, Variant, Wanted};
use crate::error::KernelError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The kernels of an op without variants, loaded when they are first launched.
pub(crate) struct Launcher {
    op: &'static str,
    functions: BTreeMap<&'static str, (&'static Variant, Function)>,
    // Behind the functions, which are of its modules.
    loaded: Loaded,
}

impl Launcher {
    pub(crate) fn new(device: &Arc<Device>, op: &'static str) -> Self {
        Self { op, functions: BTreeMap::new(), loaded: Loaded::new(device) }
    }

    /// The only variant of a kernel.
    pub(crate) fn variant<A: Arguments>(&self) -> Result<&'static Variant, KernelError> {
        let wanted = Wanted { kernel: A::KERNEL, typed: None, fixed: &[], numbers: &[] };
        let missing = KernelError::Missing { op: self.op, dtype: "f32", device: "cuda" };
        wanted.variants().first().copied().ok_or(missing)
    }

    /// Enqueues a kernel over a grid.
    ///
    /// # Safety
    /// What the parameters name lives until the stream was waited for, and has the room that the kernel says.
    pub(crate) unsafe fn launch<A: Arguments>(
        &mut self,
        stream: &Stream,
        arguments: &A,
        grid: [u32; 3],
    ) -> Result<(), KernelError> {
        let (variant, function) = match self.functions.get(A::KERNEL) {
            Some(known) => *known,
            None => {
                let variant = self.variant::<A>()?;
                let function = self.loaded.function(variant)?;
                self.functions.insert(A::KERNEL, (variant, function));
                (variant, function)
            }
        };
        let mut parameters = Parameters::of(arguments);
        if let Some((param, value)) = parameters.unaligned(variant) {
            return Err(KernelError::Unaligned { call: 0, op: self.op, kernel: variant.id, param, value });
        }
        let (mut pointers, count) = parameters.pointers();
        // SAFETY: the parameters are those of the kernel's own type; the caller's promise for what they name.
        unsafe { stream.launch(&function, grid, &mut pointers[..count]) }?;
        Ok(())
    }
}
