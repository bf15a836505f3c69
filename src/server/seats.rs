//! The listening sockets of several loops.
//!
//! The first loop opens the places of its builder. For a TCP address that it binds, each other loop
//! binds a socket of its own (`SO_REUSEPORT`, socket(7)), so the kernel distributes the clients.
//! All other sockets are shared: a Unix socket, and those that were given or inherited. If several
//! inherited sockets have the same address, as after a restart, the loops share them out.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use super::inherited::Inherited;

/// A listener of the first loop, for another one to open.
pub(super) enum Seat {
    Bind(SocketAddr, Option<bool>),
    Tcp(TcpListener),
    Unix(UnixListener),
    Inherited(Inherited),
}

/// The sockets of one loop.
#[derive(Default)]
pub(super) struct Seats {
    /// The name and the sockets of each place, in the order of the builder.
    places: VecDeque<(String, Vec<Seat>)>,
    /// Whether the loop has a place that the first one does not have.
    is_other: bool,
}

/// Where a loop gets its sockets.
pub(super) enum Seating<'s> {
    /// It is the only loop.
    Alone,
    /// It opens the sockets, and fills the seats of the others.
    First(&'s mut [Seats]),
    /// It takes what the first loop has left.
    Other(Seats),
}

impl Seating<'_> {
    /// Returns the seats of the next place for a loop that is not the first.
    pub(super) fn next_place(&mut self, name: &str) -> Option<Vec<Seat>> {
        let Self::Other(seats) = self else {
            return None;
        };
        match seats.places.pop_front() {
            Some((first, sockets)) if first == name => Some(sockets),
            _ => {
                seats.is_other = true;
                Some(Vec::new())
            }
        }
    }

    /// Returns whether another loop follows.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::First(others) if !others.is_empty())
    }

    /// Begins a place: each other loop gets a list for it.
    pub(super) fn begin_place(&mut self, name: &str) {
        if let Self::First(others) = self {
            for seats in others.iter_mut() {
                seats.places.push_back((name.to_owned(), Vec::new()));
            }
        }
    }

    /// Gives each other loop a seat of the current place.
    pub(super) fn offer(&mut self, seat: impl Fn() -> io::Result<Seat>) -> io::Result<()> {
        if let Self::First(others) = self {
            for seats in others.iter_mut() {
                seats.give(seat()?);
            }
        }
        Ok(())
    }

    /// Shares inherited sockets out; returns those of this loop, the first.
    pub(super) fn share_out(&mut self, sockets: Vec<Inherited>) -> io::Result<Vec<Inherited>> {
        let Self::First(others) = self else {
            return Ok(sockets);
        };
        let loops = others.len() + 1;
        let mut groups: Vec<(Address, Vec<Inherited>)> = Vec::new();
        for socket in sockets {
            let address = address(&socket)?;
            match groups.iter_mut().find(|(known, _)| *known == address) {
                Some((_, group)) => group.push(socket),
                None => groups.push((address, vec![socket])),
            }
        }
        let mut own = Vec::new();
        for (_, group) in groups {
            for number in group.len()..loops {
                // There are fewer sockets than loops.
                let socket = duplicate(&group[number % group.len()])?;
                others[number - 1].give(Seat::Inherited(socket));
            }
            for (at, socket) in group.into_iter().enumerate() {
                match at % loops {
                    0 => own.push(socket),
                    number => others[number - 1].give(Seat::Inherited(socket)),
                }
            }
        }
        Ok(own)
    }
}

impl Seats {
    fn give(&mut self, seat: Seat) {
        if let Some((_, sockets)) = self.places.back_mut() {
            sockets.push(seat);
        }
    }

    /// Returns whether the loop had other places than the first one.
    pub(super) fn differ(&self) -> bool {
        self.is_other || !self.places.is_empty()
    }
}

#[derive(PartialEq)]
enum Address {
    Tcp(SocketAddr),
    Unix(String),
}

fn address(socket: &Inherited) -> io::Result<Address> {
    Ok(match socket {
        Inherited::Tcp(socket) => Address::Tcp(socket.local_addr()?),
        Inherited::Unix(socket) => Address::Unix(format!("{:?}", socket.local_addr()?)),
    })
}

fn duplicate(socket: &Inherited) -> io::Result<Inherited> {
    Ok(match socket {
        Inherited::Tcp(socket) => Inherited::Tcp(socket.try_clone()?),
        Inherited::Unix(socket) => Inherited::Unix(socket.try_clone()?),
    })
}
