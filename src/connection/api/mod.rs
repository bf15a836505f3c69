//! What handlers and other threads hold.

mod adoption;
mod answer;
mod completions;
pub(crate) mod connection;
mod flow;
pub(crate) mod handle;
pub(crate) mod hub;
mod multipart;
mod settings;
mod timers;
mod watch;
