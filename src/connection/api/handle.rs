//! The interface of the server for other threads.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::Waker;

use super::connection::ConnectionId;
use super::hub::Hub;
use super::topics::ToTopic;
use crate::connection::adoption::Adoption;
use crate::connection::log_lines::log_of_thread;
use crate::connection::shared::Order;
use crate::error::SendError;
use crate::protocol::{CloseCode, CloseFrame, Prepared};

/// A handle to a server, for use on any thread. It is cheap to clone, and harmless once the server
/// has ended.
///
/// Each call queues a command and wakes the event loop. The loop executes the commands in its next
/// turn, in the order in which they were given. If a command fails there, for instance because its
/// connection is gone, the failure is logged at level debug; use [`run`](Self::run) where the
/// result matters. The queue is limited by memory only: the program fills it, never a peer.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut server = wsloop::Server::builder().listen("127.0.0.1:0").build()?;
/// let handle = server.handle();
/// std::thread::spawn(move || handle.shutdown());
/// server.start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    mailbox: Arc<Mailbox>,
}

/// The flag and the waker by which the event loop learns of commands.
struct Mailbox {
    waker: Waker,
    /// Whether the loop was woken and has not read the commands yet. One wake-up is enough.
    woken: AtomicBool,
}

/// A command of another thread to the event loop.
pub(crate) enum Command {
    Adopt(Box<Adoption>),
    Broadcast(Prepared),
    Publish(Box<ToTopic>),
    Disconnect(ConnectionId, CloseCode, Box<str>),
    Run(Box<dyn FnOnce(&mut Hub<'_>) + Send>),
    Send(ConnectionId, Prepared),
    Stop(CloseCode),
    /// An order that another loop of the process, or a handle to all of them, has given to each.
    Order(Order),
    /// Returns duplicates of the listening sockets.
    Listeners(mpsc::Sender<io::Result<Vec<OwnedFd>>>),
}

impl Handle {
    /// Creates a handle that wakes the loop with `waker`, and the receiver that the loop reads.
    pub(crate) fn new(waker: Waker) -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel();
        let mailbox = Arc::new(Mailbox {
            waker,
            woken: AtomicBool::new(false),
        });
        (Self { commands, mailbox }, receiver)
    }

    /// Sends a text message to one connection.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended.
    pub fn send_utf8(&self, id: ConnectionId, text: &str) -> Result<(), SendError> {
        self.command(Command::Send(id, Prepared::text(text)))
    }

    /// Sends a binary message to one connection.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended.
    pub fn send_binary(&self, id: ConnectionId, bytes: &[u8]) -> Result<(), SendError> {
        self.command(Command::Send(id, Prepared::binary(bytes)))
    }

    /// Sends a prepared message to one connection.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended.
    pub fn send_prepared(&self, id: ConnectionId, prepared: Prepared) -> Result<(), SendError> {
        self.command(Command::Send(id, prepared))
    }

    /// Sends a prepared message to several connections, as [`Hub::send_to`] does.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended.
    pub fn send_to(
        &self,
        ids: impl IntoIterator<Item = ConnectionId>,
        prepared: Prepared,
    ) -> Result<(), SendError> {
        let ids: Vec<_> = ids.into_iter().collect();
        self.run(move |hub| {
            if let Err(error) = hub.send_to(ids, &prepared) {
                log_of_thread(None, "message", &error);
            }
        })
    }

    /// Sends a text message to all connections that are ready.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended.
    pub fn broadcast_utf8(&self, text: &str) -> Result<(), SendError> {
        self.command(Command::Broadcast(Prepared::text(text)))
    }

    /// Sends a binary message to all connections that are ready.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended.
    pub fn broadcast_binary(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.command(Command::Broadcast(Prepared::binary(bytes)))
    }

    /// Sends a prepared message to all connections that are ready.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended.
    pub fn broadcast_prepared(&self, prepared: Prepared) -> Result<(), SendError> {
        self.command(Command::Broadcast(prepared))
    }

    /// Starts the closing handshake of one connection, as
    /// [`Connection::disconnect`](crate::Connection::disconnect) does.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::BadCloseCode`] for a code that must not be sent,
    /// [`SendError::ControlTooLong`] for a reason of more than 123 bytes, and [`SendError::Gone`]
    /// if the server has ended.
    #[doc(alias = "close_connection")]
    pub fn disconnect(
        &self,
        id: ConnectionId,
        code: impl Into<CloseCode>,
        reason: &str,
    ) -> Result<(), SendError> {
        let code = code.into();
        CloseFrame { code, reason }.encode(&mut Vec::new())?;
        self.command(Command::Disconnect(id, code, reason.into()))
    }

    /// Runs a closure on the event loop, where it can do everything that a handler can.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended; the closure is dropped.
    pub fn run(&self, action: impl FnOnce(&mut Hub<'_>) + Send + 'static) -> Result<(), SendError> {
        self.command(Command::Run(Box::new(action)))
    }

    /// Shuts the server down, as [`Hub::shutdown`] does.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended.
    pub fn shutdown(&self) -> Result<(), SendError> {
        self.command(Command::Stop(CloseCode::GOING_AWAY))
    }

    /// Shuts the server down with a close code other than 1001, as [`Hub::stop`] does.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::BadCloseCode`] for a code that must not be sent, and
    /// [`SendError::Gone`] if the server has ended.
    pub fn stop(&self, code: impl Into<CloseCode>) -> Result<(), SendError> {
        let code = code.into().sendable()?;
        self.command(Command::Stop(code))
    }

    /// Leaves the listeners to another process that holds the same sockets, as
    /// [`Hub::hand_over_listeners`] does.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended.
    pub fn hand_over_listeners(&self) -> Result<(), SendError> {
        self.run(|hub| hub.hand_over_listeners())
    }

    /// Closes the listeners and keeps the connections, as [`Hub::stop_listening`] does.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended.
    pub fn stop_listening(&self) -> Result<(), SendError> {
        self.run(|hub| hub.stop_listening())
    }

    /// Listens again, as [`Hub::start_listening`] does.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended.
    pub fn start_listening(&self) -> Result<(), SendError> {
        self.run(|hub| hub.start_listening())
    }

    /// Runs a closure on the event loop, as [`run`](Self::run) does, and returns a receiver for its
    /// result. If the closure panics, or the server ends before it runs the closure, receiving
    /// fails.
    ///
    /// Do not wait for the result on the loop's own thread: the wait would never end.
    ///
    /// ```
    /// # fn clients(handle: &wsloop::Handle) -> Result<usize, Box<dyn std::error::Error>> {
    /// let ids = handle.ask(|hub| hub.ids())?.recv()?;
    /// # Ok(ids.len())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended; the closure is dropped.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Hub<'_>) -> T + Send + 'static,
    ) -> Result<mpsc::Receiver<T>, SendError> {
        let (sender, answer) = mpsc::channel();
        // The receiver may have been dropped.
        self.run(move |hub| _ = sender.send(question(hub)))?;
        Ok(answer)
    }

    /// Returns duplicates of the sockets that the server listens on, to hand them over to a
    /// successor: see [`hand_over_listeners`](Self::hand_over_listeners). Receiving fails if the
    /// server ends before it answers.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended. The receiver yields the error of dup(2)
    /// otherwise, for instance because the process has too many descriptors.
    pub fn listeners(&self) -> Result<mpsc::Receiver<io::Result<Vec<OwnedFd>>>, SendError> {
        let (sender, answer) = mpsc::channel();
        self.command(Command::Listeners(sender))?;
        Ok(answer)
    }

    /// Marks the commands as seen: the next command wakes the loop again. The loop calls this
    /// before it reads commands.
    pub(crate) fn acknowledge(&self) {
        self.mailbox.woken.store(false, Ordering::SeqCst);
    }

    pub(super) fn command(&self, command: Command) -> Result<(), SendError> {
        self.offer(command).map_err(|_| SendError::Gone)
    }

    /// Queues a command; returns it if the loop has ended.
    pub(super) fn offer(&self, command: Command) -> Result<(), Command> {
        self.commands.send(command).map_err(|refused| refused.0)?;
        self.wake();
        Ok(())
    }

    /// Wakes the loop, unless it was woken already and has not read the commands yet.
    pub(crate) fn wake(&self) {
        if !self.mailbox.woken.swap(true, Ordering::SeqCst) {
            self.mailbox.waker.wake_by_ref();
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
