//! What handlers act on: [`Connection`], [`Hub`] and [`Handle`], their events, and the state behind
//! them.
//!
//! Handlers write to memory, and the reactor sends the data after the handler has returned. The one
//! exception is a payload so large that a copy would cost more than a system call (decision 4).
//!
//! The state of a connection is a [`Peer`], composed of features that do not know each other.
//! [`Core`] holds the peers and the state that they [share](shared); a step that changes both goes
//! through a `PeerMut`.

mod adoption;
mod api;
mod callbacks;
mod core;
mod data;
mod deflate;
mod entry;
pub mod event;
mod limits;
mod log_lines;
mod peer;
mod recoveries;
mod send;
mod shared;
mod timers;
mod watch;

pub(crate) use self::adoption::{Adoption, Upgraded};
pub use self::api::connection::{Connection, ConnectionId};
pub(crate) use self::api::handle::Command;
pub use self::api::handle::Handle;
pub use self::api::hub::Hub;
pub use self::api::loops::LoopsHandle;
pub(crate) use self::api::loops::Siblings;
pub use self::api::outgoing::{Awaited, Outgoing};
pub use self::api::sent::Sent;
pub use self::api::wind_down::WindDown;
pub(crate) use self::callbacks::Done;
pub(crate) use self::core::{Core, NOBODY};
#[cfg(feature = "deflate")]
pub(crate) use self::deflate::Deflate;
pub(crate) use self::entry::PeerMut;
pub(crate) use self::limits::{Held, Metered, Turn};
pub(crate) use self::log_lines::{
    Clean, Hint, Line, Matter, Shown, Topic, Who, drop_guarded, log_of_thread, target,
};
pub use self::peer::Phase;
pub(crate) use self::peer::{Ending, Peer};
pub(crate) use self::recoveries::Outcome;
#[cfg(test)]
pub(crate) use self::send::Outbox;
pub(crate) use self::shared::{LameDuck, Leaving, Order, Plan};
pub(crate) use self::timers::Action;
pub use self::timers::TimerId;
pub use self::watch::{Descriptor, WatchId, Watched};
pub(crate) use self::watch::{Readiness, Registrar, Watcher, watcher};
