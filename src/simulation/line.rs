//! A simulated socket: the bytes that the kernel holds for it in each direction, its end, and its
//! readiness. The simulation draws the faults of its calls at random ([`Faults`]); the examples in
//! `src/reactor/tests` list them.
//!
//! Readiness is edge-triggered as in epoll(7): a socket is reported when something changes for it
//! (bytes, a FIN or a reset have come, there is room again after a write that was not taken whole),
//! with its full state at that time, and not again before the next change. A server that stops
//! reading or writing too early therefore waits forever, as it would over a real network.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};

use mio::Token;

use crate::connection::Readiness;
use crate::reactor::SocketEvent;
use crate::server::event_queue::Report;
use crate::transport::Delivery;

/// A connection, as the kernels of both sides hold it.
pub(crate) struct Line {
    /// The token of its reports, once the server has registered it.
    pub(crate) token: Option<Token>,
    /// It has changed since the last report.
    pub(crate) woken: bool,
    /// Data that arrived and was not read, and the most that there may be.
    pub(crate) incoming: VecDeque<u8>,
    room_in: usize,
    /// The client has sent FIN, or a reset.
    pub(crate) fin: bool,
    pub(crate) reset: bool,
    /// A call of the server failed because of the reset.
    pub(crate) reset_told: bool,
    /// The server has read the FIN.
    pub(crate) fin_read: bool,
    /// Number of bytes that the server has read.
    pub(crate) read: usize,
    /// All data that the server has written, how much of it the client has read, and the most that
    /// may be unread.
    pub(crate) sent: Vec<u8>,
    pub(crate) taken: usize,
    room_out: usize,
    /// The last write was short: an edge will report room.
    pub(crate) is_full: bool,
    pub(crate) server_fin: bool,
    /// The server has closed its socket, and whether data was unread then.
    pub(crate) closed: bool,
    pub(crate) closed_unread: bool,
}

/// Faults of the server's calls. By default there are none.
pub(crate) trait Faults {
    /// Returns the error of a call that fails before it does anything.
    fn fails(&mut self) -> Option<ErrorKind> {
        None
    }

    /// Returns how many of the `most` bytes that are there a read gets, at least one. The others
    /// come as soon as these have been read.
    fn reads(&mut self, most: usize) -> usize {
        most
    }

    /// Returns how many of the `most` bytes that there is room for a write takes.
    fn writes(&mut self, most: usize) -> usize {
        most
    }

    /// Returns the error of a write after a reset.
    fn write_after_reset(&mut self) -> ErrorKind {
        ErrorKind::ConnectionReset
    }
}

/// What the kernel reports of a socket.
#[derive(Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) token: Token,
    pub(crate) readable: bool,
    pub(crate) hangup: bool,
}

/// The client's side.
impl Line {
    /// Returns a connection whose kernels hold so many bytes in each direction.
    pub(crate) fn new(room_in: usize, room_out: usize) -> Self {
        Self {
            token: None,
            woken: false,
            incoming: VecDeque::new(),
            room_in,
            fin: false,
            reset: false,
            reset_told: false,
            fin_read: false,
            read: 0,
            sent: Vec::new(),
            taken: 0,
            room_out,
            is_full: false,
            server_fin: false,
            closed: false,
            closed_unread: false,
        }
    }

    /// Data of the client arrives; returns how many bytes there was room for.
    pub(crate) fn arrive(&mut self, bytes: &[u8]) -> usize {
        let room = self.room_in.saturating_sub(self.incoming.len());
        let size = bytes.len().min(room);
        self.incoming.extend(&bytes[..size]);
        self.woken |= size > 0;
        // The kernel answers data for a closed socket with a reset.
        self.closed_unread |= self.closed && size > 0;
        size
    }

    /// The client's FIN arrives.
    pub(crate) fn arrive_fin(&mut self) {
        self.fin = true;
        self.woken = true;
    }

    /// The client's reset arrives.
    pub(crate) fn arrive_reset(&mut self) {
        self.reset = true;
        self.incoming.clear();
        self.woken = true;
    }

    /// Returns whether the client has ended its side.
    pub(crate) fn has_ended(&self) -> bool {
        self.fin || self.reset
    }

    /// The client reads at most so many bytes; returns how many.
    pub(crate) fn take(&mut self, most: usize) -> usize {
        let size = most.min(self.on_way());
        self.taken += size;
        self.make_room();
        size
    }

    /// Reports room for writes after a short one, if there is enough.
    pub(crate) fn make_room(&mut self) {
        // Like the kernel, which does not report every byte.
        if self.is_full && self.free() > self.room_out / 3 {
            self.is_full = false;
            self.woken = true;
        }
    }

    /// Sets how many more bytes the server can write.
    pub(crate) fn set_room(&mut self, room: usize) {
        self.room_out = self.on_way().saturating_add(room);
    }

    /// Returns how many bytes the client has not read.
    fn on_way(&self) -> usize {
        self.sent.len() - self.taken
    }

    fn free(&self) -> usize {
        self.room_out.saturating_sub(self.on_way())
    }

    /// Returns a report of the current state; `None` if the socket is not registered.
    pub(crate) fn edge(&self) -> Option<Edge> {
        let hangup = self.has_ended();
        let readable = hangup || !self.incoming.is_empty();
        Some(Edge {
            token: self.token?,
            readable,
            hangup,
        })
    }
}

/// The server's side.
impl Line {
    /// Returns the error of a call that fails at once: a planned fault, or that of a reset.
    fn begin_call<F: Faults>(
        &mut self,
        faults: &mut F,
        after_reset: impl Fn(&mut F) -> ErrorKind,
    ) -> io::Result<()> {
        if let Some(kind) = faults.fails() {
            return Err(kind.into());
        }
        if self.reset {
            self.reset_told = true;
            return Err(after_reset(faults).into());
        }
        Ok(())
    }

    /// Reads like readv(2).
    pub(crate) fn read(
        &mut self,
        buffers: &mut [IoSliceMut<'_>],
        faults: &mut impl Faults,
    ) -> io::Result<usize> {
        self.begin_call(faults, |_| ErrorKind::ConnectionReset)?;
        if self.incoming.is_empty() {
            if !self.fin {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.fin_read = true;
            return Ok(0);
        }
        let there = self.incoming.len();
        let most = faults.reads(there);
        // An edge reports the rest.
        self.woken |= most < there;
        let mut size = 0;
        for buffer in buffers {
            let part = buffer.len().min(most - size);
            for (place, byte) in buffer.iter_mut().zip(self.incoming.drain(..part)) {
                *place = byte;
            }
            size += part;
        }
        self.read += size;
        Ok(size)
    }

    /// Writes like writev(2).
    pub(crate) fn write<F: Faults>(
        &mut self,
        buffers: &[IoSlice<'_>],
        faults: &mut F,
    ) -> io::Result<usize> {
        self.begin_call(faults, F::write_after_reset)?;
        let offered: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut most = offered.min(self.free());
        if offered > 0 {
            most = faults.writes(most);
        }
        let mut left = most;
        for buffer in buffers {
            let part = buffer.len().min(left);
            self.sent.extend_from_slice(&buffer[..part]);
            left -= part;
        }
        self.is_full = most < offered;
        if most == 0 && offered > 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(most)
    }

    /// Sends FIN, like shutdown(2).
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        if self.reset {
            return Err(ErrorKind::NotConnected.into());
        }
        self.server_fin = true;
        Ok(())
    }

    /// Returns what the client has acknowledged.
    pub(crate) fn delivery(&self) -> Delivery {
        Delivery {
            acknowledged: self.taken as u64,
            waiting: self.on_way(),
        }
    }

    /// Registers the socket with this token.
    pub(crate) fn register(&mut self, token: Token) {
        self.token = Some(token);
        // There is room for writes, at least.
        self.woken = true;
    }

    /// Closes the socket.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        // tcp(7) and RFC 1122, 4.2.2.13: a close with bytes unread is a reset.
        self.closed_unread = !self.incoming.is_empty();
    }
}

impl Report for Edge {
    fn token(&self) -> Token {
        self.token
    }

    fn news(&self, tag: usize) -> SocketEvent {
        SocketEvent {
            tag,
            readable: self.readable,
            hangup: self.hangup,
        }
    }

    fn readiness(&self) -> Readiness {
        unreachable!("nothing foreign is watched in a simulation")
    }
}
