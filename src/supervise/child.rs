//! The process under a parent: shows what it does, hears orders, and does not outlive its parent.

use super::parent::{Handles, order};
use super::policy::Order;
use super::sheet::Shared;
use actors::trace::Board;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal};
use std::fs::File;
use std::io::{Read, Result};

/// This process, as its parent started it.
pub(crate) struct Child {
    lifeline: File,
    sheet: Shared,
}

impl Child {
    /// Takes up what the parent left open.
    ///
    /// # Errors
    /// What the system refused, or descriptors that are not what a parent leaves.
    pub(crate) fn new(handles: Handles) -> Result<Self> {
        // The system ends this process with its parent. A parent that is gone already has closed the lifeline, which is looked at next.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let open =
            |number: i32, write: bool| File::options().read(true).write(write).open(format!("/proc/self/fd/{number}"));
        let sheet = Shared::map(&open(handles.sheet, true)?)?;
        sheet.note_crashes()?;
        Ok(Self { lifeline: open(handles.lifeline, false)?, sheet })
    }

    /// Where the actors show what they do.
    pub(crate) fn board(&self) -> Board {
        self.sheet.board()
    }

    /// The process to signal.
    pub(crate) fn parent(&self) -> u32 {
        getppid().map_or(0, |parent| Pid::as_raw_nonzero(parent).get().unsigned_abs())
    }

    /// Hands orders on as they come, on a thread of its own; ends the process when the parent has ended.
    ///
    /// # Errors
    /// No thread could be started.
    pub(crate) fn obey(self, mut on: impl FnMut(Order) + Send + 'static) -> Result<()> {
        let mut lifeline = self.lifeline;
        let read = move || {
            let mut letter = [0];
            loop {
                match lifeline.read(&mut letter) {
                    Ok(0) => break,
                    Ok(_) => order(letter[0]).map_or((), &mut on),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            // The journal takes an end at any moment; whatever else would be done now nobody waits for.
            let _ = kill_process(getpid(), Signal::KILL);
        };
        std::thread::Builder::new().name("lifeline".into()).spawn(read)?;
        Ok(())
    }
}
