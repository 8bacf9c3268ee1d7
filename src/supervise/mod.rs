//! A job's process under a small parent, which passes signals on, says what ended the process, and starts it again within limits.
//!
//! The parent decides in [`policy`], a pure state machine; everything around it is thin. It holds two things that the process has the
//! other ends of: a *lifeline*, a pipe that carries orders and whose end tells the process that its parent is gone, and a [`sheet`] of
//! memory that says what the process's actors do. It knows nothing of engines, and of jobs only where their journal lies.

mod child;
mod ending;
mod intensity;
mod memory;
mod parent;
mod policy;
mod sheet;
mod signals;
mod wishes;

pub(crate) use child::Child;
pub(crate) use ending::ENGINE_FAILED;
pub(crate) use intensity::{Intensity, RESTARTS_MAX, WINDOW};
pub(crate) use parent::{Again, Handles, Paused, Setup, supervise};
pub(crate) use policy::Order;
pub(crate) use signals::{Heard, listen};
pub(crate) use wishes::{Ask, Level, Wishes};

/// What bounds the address space of this process, behind what could not be had; empty where nothing does.
pub(crate) fn address_space() -> String {
    memory::System::default().address_space().map_or_else(String::new, |limit| format!("; {limit}"))
}
