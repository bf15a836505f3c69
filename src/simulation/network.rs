//! The simulated network: what the kernel does for sockets, as the server sees it.
//!
//! Readiness is edge-triggered as in epoll(7): a socket is reported when something changes for it
//! (bytes, a FIN or a reset have come, there is room again after a write that was not taken whole),
//! with all that holds for it by then, and not again before the next change. So a server that does
//! not read or write on by itself where it has to waits for ever, as it would in earnest.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use mio::Token;

use super::world::{Happening, World};
use crate::connection::Readiness;
use crate::reactor::SocketEvent;
use crate::server::event_queue::Report;
use crate::transport::{Delivery, Wire};

/// What a client sends at a time.
pub(super) enum Parcel {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// A connection, as the kernels of both sides have it.
pub(super) struct Line {
    /// What reports of it carry, once the server has registered it.
    pub(super) token: Option<Token>,
    /// It has changed since it was reported last.
    pub(super) woken: bool,
    /// What has come and was not read, and how much of that there may be.
    pub(super) incoming: VecDeque<u8>,
    room_in: usize,
    /// What the client has sent, and when it comes.
    on_way: VecDeque<(Duration, Parcel)>,
    last_arrival: Duration,
    pub(super) fin: bool,
    pub(super) reset: bool,
    /// The server was told of the reset, by a call that failed.
    pub(super) reset_told: bool,
    /// The server has read the FIN.
    pub(super) fin_read: bool,
    /// All that the server has written, how much of it the client has taken, and how much may lie
    /// in between.
    pub(super) sent: Vec<u8>,
    pub(super) taken: usize,
    room_out: usize,
    /// A write was not taken whole: there is an edge to come.
    pub(super) is_full: bool,
    /// The last write was not taken whole.
    pub(super) is_behind: bool,
    /// One was not taken whole since this was cleared.
    pub(super) was_full: bool,
    pub(super) server_fin: bool,
    /// The server has dropped its socket, and whether bytes were left unread then.
    pub(super) closed: bool,
    pub(super) closed_unread: bool,
    /// The client looks for what was sent to it, at some time that is fixed already.
    pub(super) read_is_due: bool,
    /// How many bytes the server has read, when the last of them, and when the client was last
    /// seen to read after it had not.
    pub(super) read: usize,
    pub(super) read_at: Duration,
    pub(super) progress_at: Duration,
    /// When the client last took something that had been written.
    pub(super) taken_at: Duration,
}

impl Line {
    pub(super) fn new(room_in: usize, room_out: usize) -> Self {
        Self {
            token: None,
            woken: false,
            incoming: VecDeque::new(),
            room_in,
            on_way: VecDeque::new(),
            last_arrival: Duration::ZERO,
            fin: false,
            reset: false,
            reset_told: false,
            fin_read: false,
            sent: Vec::new(),
            taken: 0,
            room_out,
            is_full: false,
            is_behind: false,
            was_full: false,
            server_fin: false,
            closed: false,
            closed_unread: false,
            read_is_due: false,
            read: 0,
            read_at: Duration::ZERO,
            progress_at: Duration::ZERO,
            taken_at: Duration::ZERO,
        }
    }

    /// Returns what a report says now.
    fn edge(&self) -> Option<Edge> {
        let hangup = self.fin || self.reset;
        let readable = hangup || !self.incoming.is_empty();
        Some(Edge {
            token: self.token?,
            readable,
            hangup,
        })
    }

    fn free(&self) -> usize {
        self.room_out.saturating_sub(self.sent.len() - self.taken)
    }

    /// Returns whether nothing of the client's will ever come any more.
    pub(super) fn has_ended(&self) -> bool {
        self.fin || self.reset
    }

    /// Notes that there may be room, and reports it if there is enough.
    pub(super) fn make_room(&mut self) {
        // As the kernel, which does not wake for every byte.
        if self.is_full && self.free() > self.room_out / 3 {
            self.is_full = false;
            self.woken = true;
        }
    }
}

/// What happens to calls and reports, each so many times in a thousand.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) interrupted: usize,
    /// More comes while a part is read.
    pub(super) short_read: usize,
    /// Less is taken than there is room for, or nothing.
    pub(super) short_write: usize,
    /// A report without a change.
    pub(super) spurious: usize,
    /// A report of a connection that is gone.
    pub(super) stale: usize,
    /// The list of reports comes back full.
    pub(super) full_list: usize,
    /// A connection is aborted in the queue, or accepting fails for want of memory.
    pub(super) accept: usize,
    /// A socket cannot be registered.
    pub(super) register: usize,
    /// The loop is held up.
    pub(super) stall: usize,
}

/// What is reported.
#[derive(Clone, Copy)]
pub(super) struct Edge {
    pub(super) token: Token,
    pub(super) readable: bool,
    pub(super) hangup: bool,
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

impl World {
    /// Puts something on the way from a client to the server, behind all that is on it.
    pub(super) fn post(&mut self, client: usize, delay: Duration, parcel: Parcel) {
        let now = self.now;
        let line = &mut self.lines[client];
        let at = line.last_arrival.max(now + delay);
        line.last_arrival = at;
        line.on_way.push_back((at, parcel));
        self.plan(at, Happening::Arrival(client));
    }

    /// Takes in what has come for the server, as far as there is room.
    pub(super) fn arrive(&mut self, client: usize) {
        let now = self.now;
        let line = &mut self.lines[client];
        while let Some((at, parcel)) = line.on_way.front_mut() {
            if *at > now || line.reset {
                return;
            }
            match parcel {
                Parcel::Bytes(bytes) => {
                    let room = line.room_in.saturating_sub(line.incoming.len());
                    let size = bytes.len().min(room);
                    line.incoming.extend(bytes.drain(..size));
                    line.woken |= size > 0;
                    if line.closed && size > 0 {
                        // Nobody will read it: the kernel answers with a reset.
                        line.closed_unread = true;
                    }
                    if !bytes.is_empty() {
                        return;
                    }
                }
                Parcel::Fin => {
                    line.fin = true;
                    line.woken = true;
                }
                Parcel::Reset => {
                    line.reset = true;
                    line.incoming.clear();
                    line.woken = true;
                }
            }
            line.on_way.pop_front();
        }
    }

    /// Returns whether the server has something to be told of.
    pub(super) fn has_news(&self) -> bool {
        self.is_woken()
            || (self.port.woken && self.port.is_open)
            || self
                .lines
                .iter()
                .any(|line| line.woken && line.token.is_some() && !line.closed)
    }

    /// Returns what is reported of now.
    pub(super) fn poll(&mut self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for at in 0..self.lines.len() {
            let line = &mut self.lines[at];
            if line.closed {
                let stale = self.random.chance(self.faults.stale);
                edges.extend(line.edge().filter(|_| stale));
            } else if line.token.is_some() && std::mem::take(&mut line.woken)
                || self.random.chance(self.faults.spurious)
            {
                edges.extend(self.lines[at].edge());
            }
        }
        if self.port.is_open
            && (std::mem::take(&mut self.port.woken) || self.random.chance(self.faults.spurious))
        {
            edges.push(self.edge_of_port());
        }
        if self.take_woken() || self.random.chance(self.faults.spurious) {
            edges.push(self.edge_of_waker());
        }
        if self.random.chance(self.faults.full_list) {
            // The others are of connections that are gone: which, does not matter.
            let nobody = Edge {
                token: Token(0x7fff_ffff_ffff),
                readable: true,
                hangup: false,
            };
            edges.resize(edges.len().max(crate::server::EVENTS), nobody);
        }
        self.random.shuffle(&mut edges);
        edges
    }
}

/// The server's end of a line.
pub(super) struct Plug {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) client: usize,
}

impl Plug {
    fn read_to(&self, buffers: &mut [&mut [u8]]) -> io::Result<usize> {
        let world = &mut *self.world.borrow_mut();
        let client = self.client;
        if world.random.chance(world.faults.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let now = world.now;
        let line = &mut world.lines[client];
        if line.reset {
            line.reset_told = true;
            return Err(ErrorKind::ConnectionReset.into());
        }
        if line.incoming.is_empty() {
            if !line.fin {
                return Err(ErrorKind::WouldBlock.into());
            }
            line.fin_read = true;
            world.progress += 1;
            return Ok(0);
        }
        let mut most = line.incoming.len();
        if most > 1 && world.random.chance(world.faults.short_read) {
            // The rest comes as soon as this has been read: there is an edge for it.
            most = world.random.within(1..=most - 1);
            line.woken = true;
        }
        let mut size = 0;
        for buffer in buffers {
            let part = buffer.len().min(most - size);
            for place in &mut buffer[..part] {
                *place = line.incoming.pop_front().expect("there are as many");
            }
            size += part;
        }
        line.read += size;
        line.read_at = now;
        world.totals.bytes += size as u64;
        world.progress += 1;
        world.note("read", client, size);
        // There is room for what the client has sent besides.
        world.arrive(client);
        Ok(size)
    }

    fn write_from(&self, buffers: &[&[u8]]) -> io::Result<usize> {
        let world = &mut *self.world.borrow_mut();
        let client = self.client;
        if world.random.chance(world.faults.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let line = &mut world.lines[client];
        if line.reset {
            line.reset_told = true;
            let first = world.random.chance(500);
            return Err(match first {
                true => ErrorKind::ConnectionReset.into(),
                false => ErrorKind::BrokenPipe.into(),
            });
        }
        let offered: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut most = offered.min(line.free());
        if offered > 0 && world.random.chance(world.faults.short_write) {
            most = world.random.below(most + 1);
        }
        let mut left = most;
        for buffer in buffers {
            let part = buffer.len().min(left);
            line.sent.extend_from_slice(&buffer[..part]);
            left -= part;
        }
        line.is_full = most < offered;
        if std::mem::replace(&mut line.is_behind, line.is_full) && most > 0 {
            line.progress_at = world.now;
        }
        world.note("write", client, most);
        if most < offered {
            world.lines[client].was_full = true;
            // If it was not for want of room, that shows soon.
            let at = world.now + world.random.micros(10..=3000);
            world.plan(at, Happening::Room(client));
        }
        if most > 0 {
            world.totals.bytes += most as u64;
            world.progress += 1;
            world.look(client);
        } else if offered > 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(most)
    }
}

impl Read for Plug {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_to(&mut [buffer])
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut buffers: Vec<&mut [u8]> = buffers.iter_mut().map(|buffer| &mut **buffer).collect();
        self.read_to(&mut buffers)
    }
}

impl Write for Plug {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_from(&[bytes])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        self.write_from(&slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire for Plug {
    fn shutdown_write(&mut self) -> io::Result<()> {
        let world = &mut *self.world.borrow_mut();
        let line = &mut world.lines[self.client];
        if line.reset {
            return Err(ErrorKind::NotConnected.into());
        }
        line.server_fin = true;
        world.note("fin", self.client, 0);
        world.look(self.client);
        Ok(())
    }

    fn delivery(&self) -> Option<Delivery> {
        let world = self.world.borrow();
        let line = &world.lines[self.client];
        world.settings.tells.then(|| Delivery {
            acknowledged: line.taken as u64,
            waiting: line.sent.len() - line.taken,
        })
    }

    fn register(&mut self, token: Token) -> io::Result<()> {
        let world = &mut *self.world.borrow_mut();
        if world.random.chance(world.faults.register) {
            world.note("unregistered", self.client, 0);
            world.clients[self.client].seen.unregistered = true;
            return Err(ErrorKind::OutOfMemory.into());
        }
        let line = &mut world.lines[self.client];
        line.token = Some(token);
        // There is room to write, at least.
        line.woken = true;
        Ok(())
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let line = &mut world.lines[self.client];
        line.closed = true;
        // tcp(7) and RFC 1122, 4.2.2.13: who closes with bytes unread resets.
        line.closed_unread = !line.incoming.is_empty();
        world.note("closed", self.client, 0);
        world.look(self.client);
    }
}
