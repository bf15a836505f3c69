//! The simulated network: the bytes on their way to the server, the reports to it, and the random
//! faults of its calls.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::rc::Rc;
use std::time::Duration;

use mio::Token;

use super::line::{self, Edge, Line};
use super::random::Random;
use super::world::{Happening, World};
use crate::transport::{Delivery, Wire};

/// A unit that a client sends.
pub(super) enum Parcel {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// The state of a connection outside the kernels' buffers.
#[derive(Default)]
pub(super) struct Way {
    /// Data that the client has sent, and when it arrives.
    parcels: VecDeque<(Duration, Parcel)>,
    last_arrival: Duration,
    /// The last write was short.
    pub(super) is_behind: bool,
    /// A write was short since this was cleared.
    pub(super) was_full: bool,
    /// It is planned when the client reads.
    pub(super) read_is_due: bool,
    /// When the server last read data, and when a write last succeeded after a short one.
    pub(super) read_at: Duration,
    pub(super) progress_at: Duration,
    /// When the client last read data.
    pub(super) taken_at: Duration,
}

/// The faults of calls and reports; each happens so many times in a thousand.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) interrupted: usize,
    /// More data arrives during a read.
    pub(super) short_read: usize,
    /// A write takes less than there is room for, or nothing.
    pub(super) short_write: usize,
    /// A report without a change.
    pub(super) spurious: usize,
    /// A report of a closed socket.
    pub(super) stale: usize,
    /// The event list is full.
    pub(super) full_list: usize,
    /// A connection is aborted in the queue, or accepting fails for lack of memory.
    pub(super) accept: usize,
    /// A socket cannot be registered.
    pub(super) register: usize,
    /// The loop stalls.
    pub(super) stall: usize,
}

/// The faults of one call, drawn at random.
struct Drawn<'w> {
    faults: Faults,
    random: &'w mut Random,
}

impl line::Faults for Drawn<'_> {
    fn fails(&mut self) -> Option<ErrorKind> {
        let interrupted = self.random.chance(self.faults.interrupted);
        interrupted.then_some(ErrorKind::Interrupted)
    }

    fn reads(&mut self, most: usize) -> usize {
        match most > 1 && self.random.chance(self.faults.short_read) {
            true => self.random.within(1..=most - 1),
            false => most,
        }
    }

    fn writes(&mut self, most: usize) -> usize {
        match self.random.chance(self.faults.short_write) {
            true => self.random.below(most + 1),
            false => most,
        }
    }

    fn write_after_reset(&mut self) -> ErrorKind {
        match self.random.chance(500) {
            true => ErrorKind::ConnectionReset,
            false => ErrorKind::BrokenPipe,
        }
    }
}

impl World {
    /// Sends data from a client to the server, behind the data that is on its way.
    pub(super) fn post(&mut self, client: usize, delay: Duration, parcel: Parcel) {
        let now = self.now;
        let way = &mut self.ways[client];
        let at = way.last_arrival.max(now + delay);
        way.last_arrival = at;
        way.parcels.push_back((at, parcel));
        self.plan(at, Happening::Arrival(client));
    }

    /// Delivers to the server's kernel the data that has arrived, as far as there is room.
    pub(super) fn arrive(&mut self, client: usize) {
        let now = self.now;
        let (line, way) = (&mut self.lines[client], &mut self.ways[client]);
        while let Some((at, parcel)) = way.parcels.front_mut() {
            if *at > now || line.reset {
                return;
            }
            match parcel {
                Parcel::Bytes(bytes) => {
                    let size = line.arrive(bytes);
                    bytes.drain(..size);
                    if !bytes.is_empty() {
                        return;
                    }
                }
                Parcel::Fin => line.arrive_fin(),
                Parcel::Reset => line.arrive_reset(),
            }
            way.parcels.pop_front();
        }
    }

    /// Returns the line of a client for a call of the server, and the faults of that call.
    fn call_of(&mut self, client: usize) -> (&mut Line, Drawn<'_>) {
        let drawn = Drawn {
            faults: self.faults,
            random: &mut self.random,
        };
        (&mut self.lines[client], drawn)
    }

    /// Returns whether there is something to report.
    pub(super) fn has_news(&self) -> bool {
        self.is_woken()
            || (self.port.woken && self.port.is_open)
            || self
                .lines
                .iter()
                .any(|line| line.woken && line.token.is_some() && !line.closed)
    }

    /// Returns the reports of a turn.
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
            // The rest of the list reports connections that never existed.
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

impl Wire for Plug {
    fn receive(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let world = &mut *self.world.borrow_mut();
        let client = self.client;
        let (line, mut drawn) = world.call_of(client);
        let size = line.read(buffers, &mut drawn)?;
        world.progress += 1;
        if size > 0 {
            world.ways[client].read_at = world.now;
            world.totals.bytes += size as u64;
            world.note("read", client, size);
            // There is room for more data of the client.
            world.arrive(client);
        }
        Ok(size)
    }

    fn transmit(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let world = &mut *self.world.borrow_mut();
        let client = self.client;
        let (line, mut drawn) = world.call_of(client);
        let done = line.write(buffers, &mut drawn);
        let is_full = line.is_full;
        let size = match &done {
            Ok(size) => *size,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return done,
        };
        let way = &mut world.ways[client];
        if std::mem::replace(&mut way.is_behind, is_full) && size > 0 {
            way.progress_at = world.now;
        }
        way.was_full |= is_full;
        world.note("write", client, size);
        if is_full {
            // If there was room after all, an edge reports it soon.
            let at = world.now + world.random.micros(10..=3000);
            world.plan(at, Happening::Room(client));
        }
        if size > 0 {
            world.totals.bytes += size as u64;
            world.progress += 1;
            world.look(client);
        }
        done
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let world = &mut *self.world.borrow_mut();
        world.lines[self.client].shutdown_write()?;
        world.note("fin", self.client, 0);
        world.look(self.client);
        Ok(())
    }

    fn delivery(&self) -> Option<Delivery> {
        let world = self.world.borrow();
        let line = &world.lines[self.client];
        world.settings.tells.then(|| line.delivery())
    }

    fn register(&mut self, token: Token) -> io::Result<()> {
        let world = &mut *self.world.borrow_mut();
        if world.random.chance(world.faults.register) {
            world.note("unregistered", self.client, 0);
            world.clients[self.client].seen.unregistered = true;
            return Err(ErrorKind::OutOfMemory.into());
        }
        world.lines[self.client].register(token);
        Ok(())
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        let world = &mut *self.world.borrow_mut();
        world.lines[self.client].close();
        world.note("closed", self.client, 0);
        world.look(self.client);
    }
}
