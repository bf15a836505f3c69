//! The interface of several loops for other threads.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};

use super::connection::{Connection, ConnectionId};
use super::handle::{Command, Handle};
use super::hub::Hub;
use super::outgoing::Outgoing;
use super::sent::Sent;
use super::topics::ToTopic;
use super::wind_down::WindDown;
use crate::connection::log_lines::log_of_thread;
use crate::connection::shared::Order;
use crate::error::SendError;
use crate::protocol::{CloseCode, CloseFrame, Prepared};
use crate::stats::Stats;

/// A handle to all loops of a [`Loops`](crate::Loops), for use on any thread. It is cheap to clone,
/// and harmless once the loops have ended.
///
/// Most calls queue a command for each loop, as [`Handle`] does for one. Handlers get it from
/// [`Hub::loops`]; [`Loops::spawn`](crate::Loops::spawn) returns it, too.
#[derive(Clone)]
pub struct LoopsHandle(Arc<All>);

struct All {
    /// Set when all loops are built.
    handles: OnceLock<Box<[Handle]>>,
}

/// The place of a loop among others.
#[derive(Clone)]
pub(crate) struct Siblings {
    pub(crate) loops: LoopsHandle,
    pub(crate) number: usize,
}

impl LoopsHandle {
    /// Creates a handle without loops.
    pub(crate) fn new() -> Self {
        Self(Arc::new(All {
            handles: OnceLock::new(),
        }))
    }

    /// Sets the handles of the loops.
    pub(crate) fn set(&self, handles: Vec<Handle>) {
        let is_new = self.0.handles.set(handles.into()).is_ok();
        debug_assert!(is_new, "the loops are built once");
    }

    /// Returns the handle of each loop, by its number; none before all loops are built.
    pub fn each(&self) -> &[Handle] {
        self.0.handles.get().map_or(&[], |handles| handles)
    }

    /// Returns the number of loops.
    pub fn len(&self) -> usize {
        self.each().len()
    }

    /// Returns whether the loops are still being built. No handler is called before all are.
    pub fn is_empty(&self) -> bool {
        self.each().is_empty()
    }

    /// Publishes a message to all subscribers of a topic on all loops. The messages that handles
    /// publish to a topic arrive in the order of the calls.
    ///
    /// # Errors
    ///
    /// As [`Handle::publish`]; [`SendError::Gone`] if all loops have ended.
    pub fn publish<'m>(
        &self,
        topic: &str,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<(), SendError> {
        let message = ToTopic::new(topic, message.into())?;
        // One loop passes it on to the others: the first that has not ended.
        let mut command = Command::Publish(Box::new(message));
        for handle in self.each() {
            match handle.offer(command) {
                Ok(()) => return Ok(()),
                Err(refused) => command = refused,
            }
        }
        Err(SendError::Gone)
    }

    /// Sends a text message to all connections of all loops that are ready.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if all loops have ended.
    pub fn broadcast_utf8(&self, text: &str) -> Result<(), SendError> {
        self.broadcast_prepared(&Prepared::text(text))
    }

    /// Sends a binary message to all connections of all loops that are ready.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if all loops have ended.
    pub fn broadcast_binary(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.broadcast_prepared(&Prepared::binary(bytes))
    }

    /// Sends a prepared message to all connections of all loops that are ready.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if all loops have ended.
    pub fn broadcast_prepared(&self, prepared: &Prepared) -> Result<(), SendError> {
        let prepared = prepared.clone().sharing();
        self.command(|| Command::Broadcast(prepared.clone()))
    }

    /// Sends a prepared message to one connection, whichever loop it is on.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if all loops have ended.
    pub fn send_prepared(&self, id: ConnectionId, prepared: &Prepared) -> Result<(), SendError> {
        let prepared = prepared.clone();
        self.run_on(id, "message", move |conn| conn.send_prepared(&prepared))
    }

    /// Starts the closing handshake of one connection, whichever loop it is on.
    ///
    /// # Errors
    ///
    /// As [`Handle::disconnect`].
    pub fn disconnect(
        &self,
        id: ConnectionId,
        code: impl Into<CloseCode>,
        reason: &str,
    ) -> Result<(), SendError> {
        let code = code.into();
        CloseFrame { code, reason }.encode(&mut Vec::new())?;
        let reason: Box<str> = reason.into();
        self.run_on(id, "close", move |conn| conn.disconnect(code, &reason))
    }

    /// Runs a closure with a connection, on the loop that has it. A failure is logged as that of
    /// `what`.
    fn run_on(
        &self,
        id: ConnectionId,
        what: &'static str,
        action: impl Fn(&mut Connection<'_>) -> Result<Sent, SendError> + Clone + Send + 'static,
    ) -> Result<(), SendError> {
        self.run(move |_, hub| {
            if let Some(mut conn) = hub.get(id)
                && let Err(error) = action(&mut conn)
            {
                log_of_thread(Some(id), what, &error);
            }
        })
    }

    /// Runs a closure on each loop, which gets the number of the loop.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if all loops have ended.
    pub fn run(
        &self,
        action: impl Fn(usize, &mut Hub<'_>) + Clone + Send + 'static,
    ) -> Result<(), SendError> {
        let mut number = 0;
        self.command(|| {
            let (action, this) = (action.clone(), number);
            number += 1;
            Command::Run(Box::new(move |hub| action(this, hub)))
        })
    }

    /// Runs a closure on each loop and waits for the results, in the order of the loops; those of
    /// loops that have ended are missing. Do not call it on the thread of a loop: the wait would
    /// never end.
    ///
    /// ```
    /// # fn clients(loops: &wsloop::LoopsHandle) -> usize {
    /// loops.ask(|_, hub| hub.len()).iter().sum()
    /// # }
    /// ```
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(usize, &mut Hub<'_>) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let loops = self.each().iter().enumerate();
        // All are asked before the first answer is waited for.
        let asked: Vec<_> = loops
            .filter_map(|(number, handle)| {
                let question = question.clone();
                handle.ask(move |hub| question(number, hub)).ok()
            })
            .collect();
        asked
            .iter()
            .filter_map(|answer| answer.recv().ok())
            .collect()
    }

    /// Returns the counters of each loop. Waits as [`ask`](Self::ask) does; [`Stats`] can be
    /// summed.
    pub fn stats(&self) -> Vec<Stats> {
        self.ask(|_, hub| hub.stats())
    }

    /// Shuts all loops down, as [`Hub::shutdown`] does.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if all loops have ended.
    pub fn shutdown(&self) -> Result<(), SendError> {
        self.order(Order::Stop(CloseCode::GOING_AWAY))
    }

    /// Shuts all loops down with a close code other than 1001, as [`Hub::stop`] does.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::BadCloseCode`] for a code that must not be sent, and
    /// [`SendError::Gone`] if all loops have ended.
    pub fn stop(&self, code: impl Into<CloseCode>) -> Result<(), SendError> {
        let code = code.into().sendable()?;
        self.order(Order::Stop(code))
    }

    /// Shuts all loops down gracefully, as [`Hub::wind_down`] does. The spread and the deadline
    /// hold for the connections of all loops together.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub fn wind_down(&self, how: WindDown) -> Result<(), SendError> {
        self.order(Order::WindDown(how.plan()?))
    }

    /// Leaves the listeners of all loops to another process that holds the same sockets, as
    /// [`Hub::hand_over_listeners`] does.
    ///
    /// Call [`ask`](Self::ask) before [`wind_down`](Self::wind_down), so that all loops have
    /// obeyed: a client that one loop closes may otherwise reconnect to another that still accepts.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if all loops have ended.
    pub fn hand_over_listeners(&self) -> Result<(), SendError> {
        self.order(Order::HandOver)
    }

    /// Closes the listeners of all loops, as [`Hub::stop_listening`] does. A Unix socket, which the
    /// loops share, is not closed: its clients wait.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if all loops have ended.
    pub fn stop_listening(&self) -> Result<(), SendError> {
        self.order(Order::StopListening)
    }

    /// Listens again on all loops, as [`Hub::start_listening`] does.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if all loops have ended.
    pub fn start_listening(&self) -> Result<(), SendError> {
        self.order(Order::StartListening)
    }

    /// Returns duplicates of the sockets that the loops listen on, to hand them over to a
    /// successor: see [`hand_over_listeners`](Self::hand_over_listeners). Each loop has its own
    /// socket for a TCP address, with its own queue of clients, so a successor needs all of them;
    /// a socket that loops share is returned once. Waits as [`ask`](Self::ask) does.
    ///
    /// # Errors
    ///
    /// Returns the error of dup(2), for instance because the process has too many descriptors.
    pub fn listeners(&self) -> io::Result<Vec<OwnedFd>> {
        let asked = self
            .each()
            .iter()
            .filter_map(|handle| handle.listeners().ok());
        let (mut all, mut known) = (Vec::new(), HashSet::new());
        for answer in asked.collect::<Vec<_>>() {
            for socket in answer.recv().unwrap_or_else(|_| Ok(Vec::new()))? {
                let socket = File::from(socket);
                let inode = socket.metadata()?.ino();
                if known.insert(inode) {
                    all.push(OwnedFd::from(socket));
                }
            }
        }
        Ok(all)
    }

    pub(crate) fn order(&self, order: Order) -> Result<(), SendError> {
        self.command(|| Command::Order(order))
    }

    /// Gives a command to each loop. Fails only if none of them is left.
    fn command(&self, mut command: impl FnMut() -> Command) -> Result<(), SendError> {
        let mut result = Err(SendError::Gone);
        for handle in self.each() {
            if handle.command(command()).is_ok() {
                result = Ok(());
            }
        }
        result
    }
}

impl Siblings {
    /// Passes an order of a handler of this loop on to the other loops.
    pub(crate) fn tell(&self, order: Order) {
        let others = self.loops.each().iter().enumerate();
        for (_, handle) in others.filter(|(number, _)| *number != self.number) {
            // A loop that has ended needs no order.
            let _ = handle.command(Command::Order(order));
        }
    }
}

impl Hub<'_> {
    /// Returns a handle to all loops, if this server is one of several: see
    /// [`Loops`](crate::Loops).
    pub fn loops(&self) -> Option<LoopsHandle> {
        let siblings = self.core.shared.siblings.as_ref()?;
        Some(siblings.loops.clone())
    }

    /// Returns the number of this loop, from 0 on; 0 if it is the only one.
    pub fn loop_number(&self) -> usize {
        let siblings = self.core.shared.siblings.as_ref();
        siblings.map_or(0, |siblings| siblings.number)
    }
}

impl fmt::Debug for LoopsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopsHandle")
            .field("loops", &self.len())
            .finish_non_exhaustive()
    }
}
