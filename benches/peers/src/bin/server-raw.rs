//! Echoes bytes over TCP without any protocol: the lower bound for a server on epoll.
//!
//! For each event the server makes one `read` into a buffer that all connections share, and one
//! `write` of the bytes read. It reads again only if the buffer was filled.

use std::io::{self, ErrorKind, Read, Write};
use std::ops::ControlFlow;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use wsloop_peers::server::{Options, announce, listen};

fn main() -> io::Result<()> {
    let options = Options::of(&[]);
    let mut buffer = vec![0; options.read_buffer.unwrap_or(64 << 10)];
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::from_std(listen(&options)?);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    announce(listener.local_addr()?)?;

    let mut clients: Slab<Client> = Slab::new();
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut clients)?;
                continue;
            }
            let key = event.token().0;
            let Some(client) = clients.get_mut(key) else {
                continue;
            };
            if client.ready(&mut buffer, event.is_read_closed()).is_break() {
                clients.remove(key);
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, clients: &mut Slab<Client>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nodelay(true)?;
                let slot = clients.vacant_entry();
                let token = Token(slot.key());
                let client = slot.insert(Client {
                    stream,
                    rest: Vec::new(),
                });
                let both = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut client.stream, token, both)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => eprintln!("cannot accept: {error}"),
        }
    }
}

struct Client {
    stream: TcpStream,
    /// Bytes that were read but not yet written. The server does not read while there are any.
    rest: Vec<u8>,
}

impl Client {
    /// Echoes until the socket would block. Breaks at the end of the connection.
    fn ready(&mut self, buffer: &mut [u8], ending: bool) -> ControlFlow<()> {
        if !self.rest.is_empty() {
            let written = self.write_some(None)?;
            self.rest.drain(..written);
            if !self.rest.is_empty() {
                return ControlFlow::Continue(());
            }
            // A readable edge may have arrived in the meantime, so the loop below reads again.
        }
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => return ControlFlow::Break(()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return ControlFlow::Break(()),
            };
            let written = self.write_some(Some(&buffer[..read]))?;
            if written < read {
                self.rest.extend_from_slice(&buffer[written..read]);
                break;
            }
            // A short read has emptied the socket, and later bytes cause a new edge. An end of the
            // stream that came with these bytes does not, so the loop reads on in that case.
            if read < buffer.len() && !ending {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    /// Writes as much of `bytes`, or of the rest, as the kernel accepts; returns the count.
    fn write_some(&mut self, bytes: Option<&[u8]>) -> ControlFlow<(), usize> {
        let bytes = bytes.unwrap_or(&self.rest);
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(0) => return ControlFlow::Break(()),
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(written)
    }
}

const LISTENER: Token = Token(usize::MAX);
