//! Publishes that reach subscribers elsewhere: on the other loops of the process, and in other
//! processes.
//!
//! A [`Backplane`] carries messages of topics between loops. [`Loops`](crate::Loops) connects the
//! loops of a process with one of its own. The crates `wsloop-redis` and `wsloop-nats` connect
//! processes. [`Builder::backplane`](crate::Builder::backplane) takes any implementation.
//!
//! # The contract
//!
//! * **At most once.** A subscriber receives a message once or never. What is lost is announced:
//!   see below.
//! * **Order.** The messages that one loop publishes to one topic arrive in the order of the
//!   publishes. There is no order between two publishing loops, nor between two topics.
//! * **Local delivery does not wait.** The subscribers of the publishing loop get their messages in
//!   the turn of the publish, whether the backplane works or not.
//! * **Interest.** A loop receives the messages of the topics that have a subscriber on it.
//!   [`Backplane::occupied`] and [`Backplane::vacated`] say which these are. Between processes, a
//!   subscription begins when the engine has confirmed the first one of the process, which takes
//!   about a round trip. What another process publishes before that is not announced as lost.
//! * **Loss is told.** A backplane that loses messages calls [`Inbox::lost`] or
//!   [`Inbox::lost_all`]. The loop then emits [`Gap`](crate::event::Gap), for each topic that has
//!   subscribers.
//! * **Bounded.** Messages that wait for a loop are limited by
//!   [`Builder::max_inbox`](crate::Builder::max_inbox). A backplane limits the messages that
//!   wait for its engine, drops the oldest, and announces the loss on the other side.
//!
//! # Writing one
//!
//! The loop owns its `Backplane` and calls it on its own thread, so the methods must not block. The
//! usual form is a small value that sends to a thread, and a thread that talks to an engine and
//! calls the [`Inbox`], which any thread may do. [`node`] has the parts that such a thread needs,
//! without I/O: the envelope, the detection of loss, the interest of all loops of a process, and a
//! bounded queue. This backplane copies everything to a channel of the standard library:
//!
//! ```
//! use std::io;
//! use std::sync::mpsc::Sender;
//! use wsloop::backplane::{Backplane, Inbox, Publish};
//!
//! /// Reports all publishes of a loop.
//! struct Tap(Sender<(String, Vec<u8>)>);
//!
//! impl Backplane for Tap {
//!     fn start(&mut self, _inbox: Inbox) -> io::Result<()> {
//!         Ok(()) // nothing comes back
//!     }
//!
//!     fn occupied(&mut self, _topic: &str) {}
//!
//!     fn vacated(&mut self, _topic: &str) {}
//!
//!     fn publish(&mut self, publish: &mut Publish<'_>) {
//!         // Fails only if the receiver was dropped.
//!         let _ = self.0.send((publish.topic().to_owned(), publish.payload().to_vec()));
//!     }
//! }
//!
//! let (sender, reports) = std::sync::mpsc::channel();
//! let mut server = wsloop::Server::builder()
//!     .listen("127.0.0.1:0")
//!     .backplane(Tap(sender))
//!     .build()?;
//! server.hub().publish("news", "it rains")?;
//! assert_eq!(reports.recv()?, ("news".to_owned(), b"it rains".to_vec()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod exchange;
mod inbox;
mod losses;
mod message;
pub mod node;
mod outlets;
#[cfg(test)]
mod tests;

use std::io;

pub(crate) use self::exchange::{Exchange, Port};
pub use self::inbox::Inbox;
pub(crate) use self::inbox::Item;
pub use self::message::{Publish, TopicMessage};
pub(crate) use self::outlets::Outlets;
pub use self::recovery::{Recover, Since};

mod recovery;

/// Carries the messages of topics between a loop and others. [The module](self) has the contract.
///
/// The loop calls all methods on its own thread; none of them may block. Dropping the value ends
/// the loop's interest in all topics: the loop has ended.
pub trait Backplane: 'static {
    /// Begins: called once, when the server is built, before all other methods. Messages for the
    /// loop go to `inbox`, from any thread.
    ///
    /// # Errors
    ///
    /// An error makes [`Builder::build`](crate::Builder::build) fail with
    /// [`BuildError::Backplane`](crate::BuildError::Backplane). An engine that is not available is
    /// not an error: the server works without it, and the backplane connects later.
    fn start(&mut self, inbox: Inbox) -> io::Result<()>;

    /// The topic has its first subscriber on this loop: its messages are wanted from now on. Called
    /// at once, before the subscriber can know of its subscription.
    fn occupied(&mut self, topic: &str);

    /// The topic has no subscriber on this loop any more. Called at the end of the turn.
    fn vacated(&mut self, topic: &str);

    /// A message was published on this loop. It may be kept until [`flush`](Self::flush), which
    /// follows at the end of the turn.
    fn publish(&mut self, publish: &mut Publish<'_>);

    /// Sends what was published in this turn. Called once at the end of each turn in which
    /// something was published. Default: nothing.
    fn flush(&mut self) {}

    /// Returns whether the backplane keeps the histories of topics, where all processes see them.
    /// Asked once, after [`start`](Self::start). The loop then keeps none, and
    /// [`recover`](Self::recover) is called for clients that come back. Default: no.
    fn keeps_history(&self) -> bool {
        false
    }

    /// Answers a client that comes back to a topic with a history, with the messages that it
    /// missed. The answer may come later, from any thread. Dropping the request answers with a gap,
    /// which is the default.
    fn recover(&mut self, request: Recover) {
        drop(request);
    }
}
