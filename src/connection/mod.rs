//! What handlers reach: the cursors [`Connection`] and [`Hub`], and the state behind them.
//!
//! Handlers write to memory: the reactor sends it after the handler returned. The one exception is
//! a payload so large that a copy would cost more than a system call (decision 4).

mod addresses;
mod adoption;
mod backlog;
mod budget;
#[cfg(feature = "deflate")]
mod compression;
#[cfg(not(feature = "deflate"))]
#[path = "no_compression.rs"]
mod compression;
mod core;
mod counts;
mod cursor;
mod data;
mod deferral;
pub mod event;
mod gather;
mod handle;
mod hub;
mod journal;
mod meters;
mod names;
mod outbox;
mod parts;
mod peer;
mod proxied;
mod reading;
mod sending;
mod sent;
mod settings;
mod timers;
mod watch;

pub(crate) use self::adoption::{Adoption, Upgraded};
pub(crate) use self::budget::{Held, Turn};
pub(crate) use self::core::{Core, LameDuck, Leaving, NOBODY, Order, Plan};
pub use cursor::{Connection, ConnectionId};
pub(crate) use deferral::Decision;
pub(crate) use handle::Command;
pub use handle::Handle;
pub use hub::Hub;
pub(crate) use journal::{Clean, Hint, Line, Matter, Shown, Topic, Who, target, tell_of_thread};
pub(crate) use meters::Metered;
#[cfg(test)]
pub(crate) use outbox::Outbox;
pub(crate) use peer::{Ending, Peer, Phase};
pub(crate) use sending::Done;
pub(crate) use timers::Action;
pub use timers::TimerId;
pub use watch::{Descriptor, WatchId, Watched};
pub(crate) use watch::{Readiness, Registrar, Watcher, watcher};
