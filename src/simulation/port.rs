//! The simulated listener: the accept queue, and the results of accepting.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::network::Plug;
use super::world::World;
use crate::server::listener::Port;
use crate::transport::Socket;

/// The port that the server listens on.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) is_open: bool,
    /// Clients that are not accepted yet.
    pub(super) waiting: VecDeque<usize>,
    pub(super) woken: bool,
    /// Until then no descriptors are left.
    pub(super) starved_until: Duration,
    /// The client accepted last.
    pub(super) accepted: Option<usize>,
}

/// The server's end of the port.
pub(super) struct Door(pub(super) Rc<RefCell<World>>);

impl Port for Door {
    fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        let world = &mut *self.0.borrow_mut();
        if world.random.chance(world.faults.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        if world.now < world.port.starved_until {
            // Like Linux, which reserves a descriptor first.
            world.note("no descriptors", 0, 0);
            return Err(io::Error::from_raw_os_error(
                world.random.pick(&[EMFILE, ENFILE]),
            ));
        }
        let fails = world.random.chance(world.faults.accept);
        let Some(client) = world.port.waiting.pop_front() else {
            return Err(ErrorKind::WouldBlock.into());
        };
        if fails {
            if world.random.chance(500) {
                world.port.waiting.push_front(client);
                return Err(ErrorKind::OutOfMemory.into());
            }
            world.clients[client].is_over = true;
            world.note("aborted", client, 0);
            return Err(ErrorKind::ConnectionAborted.into());
        }
        world.progress += 1;
        world.port.accepted = Some(client);
        world.clients[client].seen.accepted_at = Some(world.now);
        world.note("accept", client, 0);
        world.arrive(client);
        let plug = Plug {
            world: self.0.clone(),
            client,
        };
        let addr = SocketAddr::from(([127, 0, 0, 1], 1024 + client as u16));
        Ok((Socket::Simulated(Box::new(plug)), Some(addr)))
    }

    fn listen(&self, on: bool) -> io::Result<()> {
        let world = &mut *self.0.borrow_mut();
        world.note("listen", 0, usize::from(on));
        world.port.is_open = on;
        world.port.woken = on;
        for client in world.port.waiting.drain(..) {
            // Closing a listener resets the connections in its queue.
            world.clients[client].is_over = true;
        }
        Ok(())
    }
}

/// Too many open files: in the process, in the system.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
