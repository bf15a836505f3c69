//! The types that handlers and other threads use.

mod adoption;
mod answer;
pub(crate) mod connection;
mod flow;
pub(crate) mod handle;
pub(crate) mod hub;
pub(super) mod loops;
mod multipart;
pub(crate) mod outgoing;
pub(crate) mod sent;
mod settings;
mod timers;
mod topics;
mod watch;
pub(crate) mod wind_down;
