//! Work that was captured once and is enqueued as a whole.

use super::Device;
use super::error::{DriverFault, Named};
use cudarc::driver::{result, sys};
use std::sync::Arc;

/// A captured piece of work, ready to run.
#[derive(Debug)]
pub(crate) struct Graph {
    device: Arc<Device>,
    captured: sys::CUgraph,
    pub(super) ready: sys::CUgraphExec,
}

// SAFETY: the driver's functions on a graph may be called from any thread that has its context bound.
unsafe impl Send for Graph {}

impl Graph {
    pub(super) fn new(device: &Arc<Device>, captured: sys::CUgraph) -> Result<Self, DriverFault> {
        // SAFETY: `captured` was just ended, and is ours.
        let ready = unsafe { result::graph::instantiate(captured, sys::CUgraphInstantiate_flags(0)) };
        let ready = ready.named("cuGraphInstantiate", || format!("make a graph of {} ready", device.name()));
        match ready {
            Ok(ready) => Ok(Self { device: device.clone(), captured, ready }),
            Err(fault) => {
                // SAFETY: ours, and destroyed once.
                let _ = unsafe { result::graph::destroy(captured) };
                Err(fault)
            }
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: made in `new`, each destroyed once; the driver waits for a run in progress itself.
            let _ = unsafe { result::graph::exec_destroy(self.ready) };
            // SAFETY: as above.
            let _ = unsafe { result::graph::destroy(self.captured) };
        }
    }
}
