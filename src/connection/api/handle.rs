//! The server for other threads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::Waker;

use super::connection::ConnectionId;
use super::hub::Hub;
use crate::connection::adoption::Adoption;
use crate::connection::log_lines::log_of_thread;
use crate::error::SendError;
use crate::protocol::{CloseCode, Prepared};

/// A handle to a server, for any thread: cheap to clone, harmless when the server is gone.
///
/// A call queues a command and wakes the event loop, which carries the commands out in the order
/// they were given, in its next turn. A command that fails there, for instance because the
/// connection has gone in the meantime, is logged (at level debug); use [`run`](Self::run) where
/// the outcome matters. The queue has no limit but the memory: it is filled by the program, never
/// by a peer.
///
/// ```
/// # fn main() -> wsloop::Result<()> {
/// # let mut server = wsloop::Server::builder().listen("127.0.0.1:0").build()?;
/// let handle = server.handle();
/// std::thread::spawn(move || handle.shutdown());
/// server.start()
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    mailbox: Arc<Mailbox>,
}

/// How the event loop learns of commands.
struct Mailbox {
    waker: Waker,
    /// The loop was woken and has not looked yet; one wake-up is enough.
    woken: AtomicBool,
}

/// What another thread asks of the loop.
pub(crate) enum Command {
    Adopt(Box<Adoption>),
    Broadcast(Prepared),
    Disconnect(ConnectionId, CloseCode, Box<str>),
    Run(Box<dyn FnOnce(&mut Hub<'_>) + Send>),
    Send(ConnectionId, Prepared),
    Stop(CloseCode),
}

impl Handle {
    /// Makes a handle that wakes the loop by `waker`, and the end that the loop reads.
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
    /// [`SendError::Gone`] if the server is gone.
    pub fn send_utf8(&self, id: ConnectionId, text: &str) -> Result<(), SendError> {
        self.command(Command::Send(id, Prepared::utf8(text)))
    }

    /// Sends a binary message to one connection.
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone.
    pub fn send_binary(&self, id: ConnectionId, bytes: &[u8]) -> Result<(), SendError> {
        self.command(Command::Send(id, Prepared::binary(bytes)))
    }

    /// Sends a message that was framed before to one connection.
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone.
    pub fn send_prepared(&self, id: ConnectionId, prepared: Prepared) -> Result<(), SendError> {
        self.command(Command::Send(id, prepared))
    }

    /// Sends a message that was framed before to these connections, as [`Hub::send_to`].
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone.
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

    /// Sends a text message to every connection that is ready.
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone.
    pub fn broadcast_utf8(&self, text: &str) -> Result<(), SendError> {
        self.command(Command::Broadcast(Prepared::utf8(text)))
    }

    /// Sends a binary message to every connection that is ready.
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone.
    pub fn broadcast_binary(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.command(Command::Broadcast(Prepared::binary(bytes)))
    }

    /// Sends a message that was framed before to every connection that is ready.
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone.
    pub fn broadcast_prepared(&self, prepared: Prepared) -> Result<(), SendError> {
        self.command(Command::Broadcast(prepared))
    }

    /// Starts the closing handshake of one connection, as
    /// [`Connection::disconnect`](crate::Connection::disconnect).
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone.
    pub fn disconnect(
        &self,
        id: ConnectionId,
        code: impl Into<CloseCode>,
        reason: &str,
    ) -> Result<(), SendError> {
        self.command(Command::Disconnect(id, code.into(), reason.into()))
    }

    /// Runs a closure on the event loop, where it may do what a handler may.
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone; the closure is dropped.
    pub fn run(&self, action: impl FnOnce(&mut Hub<'_>) + Send + 'static) -> Result<(), SendError> {
        self.command(Command::Run(Box::new(action)))
    }

    /// Ends the server, as [`Hub::shutdown`].
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone.
    pub fn shutdown(&self) -> Result<(), SendError> {
        self.command(Command::Stop(CloseCode::GOING_AWAY))
    }

    /// Ends the server with a close code other than 1001, as [`Hub::stop`].
    ///
    /// # Errors
    ///
    /// [`SendError::BadCloseCode`] for a code that must not be sent, [`SendError::Gone`] if the
    /// server is gone.
    pub fn stop(&self, code: impl Into<CloseCode>) -> Result<(), SendError> {
        let code = code.into().sendable()?;
        self.command(Command::Stop(code))
    }

    /// Leaves the listeners to another process that has their sockets, as
    /// [`Hub::hand_over_listeners`].
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone.
    pub fn hand_over_listeners(&self) -> Result<(), SendError> {
        self.run(|hub| hub.hand_over_listeners())
    }

    /// Closes the listeners and keeps the connections, as [`Hub::stop_listening`].
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone.
    pub fn stop_listening(&self) -> Result<(), SendError> {
        self.run(|hub| hub.stop_listening())
    }

    /// Listens again, as [`Hub::start_listening`].
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone.
    pub fn start_listening(&self) -> Result<(), SendError> {
        self.run(|hub| hub.start_listening())
    }

    /// Runs a closure on the event loop, as [`run`](Self::run), and returns where its answer will
    /// come. If the closure panics or the server ends before, there is none, and receiving fails.
    ///
    /// Not to be waited for on the loop's own thread.
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
    /// [`SendError::Gone`] if the server is gone; the closure is dropped.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Hub<'_>) -> T + Send + 'static,
    ) -> Result<mpsc::Receiver<T>, SendError> {
        let (sender, answer) = mpsc::channel();
        // Who asked may have gone on without the answer.
        self.run(move |hub| _ = sender.send(question(hub)))?;
        Ok(answer)
    }

    /// Called by the loop before it reads commands: from now on a new one wakes it again.
    pub(crate) fn acknowledge(&self) {
        self.mailbox.woken.store(false, Ordering::SeqCst);
    }

    pub(super) fn command(&self, command: Command) -> Result<(), SendError> {
        self.commands.send(command).map_err(|_| SendError::Gone)?;
        self.wake();
        Ok(())
    }

    /// Wakes the loop, unless that was done and it has not looked yet.
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
