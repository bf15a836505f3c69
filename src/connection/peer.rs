//! The half of a connection that handlers reach: its sender, its limits, its data.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

use super::data::Data;
use super::outbox::Outbox;
use crate::config::Limits;
use crate::event::{Cause, Handlers};
use crate::handshake::{Refusal, Request};
use crate::protocol::{CloseCode, Sender};
use crate::transport::Transport;

/// Where a connection stands; it only ever goes down this list.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Phase {
    /// TLS and the opening handshake.
    Opening,
    /// Messages go both ways.
    Open,
    /// Our Close frame is queued or sent, the peer's is awaited.
    Closing,
    /// `Disconnect` was delivered. What is queued leaves, FIN is sent, and what the peer still
    /// sends is thrown away until its FIN, so that no RST destroys what we sent last.
    Draining,
    /// To be removed at the end of the turn.
    Gone,
}

/// Why a connection ends, as its `Disconnect` will tell.
pub(crate) struct Ending {
    pub(crate) code: CloseCode,
    pub(crate) reason: Box<str>,
    pub(crate) cause: Cause,
}

impl Ending {
    pub(crate) fn new(code: CloseCode, reason: &str, cause: Cause) -> Box<Self> {
        Box::new(Self {
            code,
            reason: reason.into(),
            cause,
        })
    }
}

/// The half of a connection that handlers reach.
pub(crate) struct Peer {
    /// The connection's number in the process, never used again.
    pub(crate) serial: u64,
    pub(crate) transport: Transport,
    pub(crate) sender: Sender,
    pub(crate) phase: Phase,
    /// In `dirty` of the core, to be looked at before the turn ends.
    pub(super) dirty: bool,
    /// `shutdown` was called: no frame, no drain.
    pub(crate) cut: bool,
    /// The kernel did not take everything; a `Drain` is due when it has.
    pub(super) blocked: bool,
    /// Handlers set inside a handler; the reactor moves them into place before the next event.
    pub(crate) registered: Option<Box<Handlers>>,
    pub(super) outbox: Option<Box<Outbox>>,
    pub(super) max_recv_size: usize,
    pub(super) max_send_size: usize,
    /// Set from the end of the request to `Ready`, or for good with `keep_requests`.
    pub(crate) request: Option<Rc<Request>>,
    /// What outlives the request: its URI and, behind it, its origin.
    pub(super) address: Box<str>,
    pub(super) uri_len: u32,
    pub(super) has_origin: bool,
    pub(crate) subprotocol: Option<Box<str>>,
    pub(super) addr: Option<SocketAddr>,
    pub(super) data: Option<Box<Data>>,
    /// An HTTP answer that a handler gave.
    pub(crate) refusal: Option<Box<Refusal>>,
    /// Set when the connection began to end.
    pub(crate) ending: Option<Box<Ending>>,
    /// A write failed inside a handler; the reactor has not seen it yet.
    pub(crate) broken: Option<Box<io::Error>>,
}

impl Peer {
    pub(crate) fn new(
        serial: u64,
        transport: Transport,
        addr: Option<SocketAddr>,
        limits: &Limits,
    ) -> Self {
        Self {
            serial,
            transport,
            sender: Sender::default(),
            phase: Phase::Opening,
            dirty: false,
            cut: false,
            blocked: false,
            registered: None,
            outbox: None,
            max_recv_size: limits.max_recv_size,
            max_send_size: limits.max_send_size,
            request: None,
            address: "".into(),
            uri_len: 0,
            has_origin: false,
            subprotocol: None,
            addr,
            data: None,
            refusal: None,
            ending: None,
            broken: None,
        }
    }

    pub(crate) fn max_recv_size(&self) -> usize {
        self.max_recv_size
    }

    /// Bytes that the kernel has not taken.
    pub(crate) fn backlog(&self) -> usize {
        self.outbox.as_deref().map_or(0, Outbox::len)
    }

    /// Keeps the parts of the request that outlive it.
    pub(crate) fn remember(&mut self, request: Rc<Request>) {
        let scheme = if self.transport.is_secure() {
            "wss"
        } else {
            "ws"
        };
        let host = request.host().unwrap_or_default();
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let mut address = format!("{scheme}://{host}{target}");
        self.uri_len = address.len() as u32; // bounded by `max_handshake_size`
        if let Some(origin) = request.origin() {
            address.push_str(origin);
            self.has_origin = true;
        }
        self.address = address.into_boxed_str();
        self.request = Some(request);
    }

    /// Returns the request's URI and its origin.
    pub(super) fn addresses(&self) -> (&str, Option<&str>) {
        let (uri, origin) = self
            .address
            .split_at_checked(self.uri_len as usize)
            .unwrap_or_default();
        (uri, self.has_origin.then_some(origin))
    }

    /// Appends the bytes to what is queued.
    pub(crate) fn enqueue(&mut self, bytes: &[u8]) {
        self.outbox.get_or_insert_default().push(bytes);
    }

    /// Writes `slices` at once, if nothing is queued before them, and queues what is not taken.
    pub(crate) fn write_through(&mut self, slices: [&[u8]; 3]) {
        let mut taken = 0;
        if self.outbox.is_none() && self.broken.is_none() {
            let first = slices
                .iter()
                .position(|slice| !slice.is_empty())
                .unwrap_or(0);
            let io = slices.map(IoSlice::new);
            match self.transport.write(&io[first..]) {
                Ok(size) => taken = size,
                Err(error) => self.broken = Some(Box::new(error)),
            }
        }
        if self.broken.is_some() {
            return;
        }
        for slice in slices {
            let skip = taken.min(slice.len());
            taken -= skip;
            if skip < slice.len() {
                self.enqueue(&slice[skip..]);
                self.blocked = true;
            }
        }
    }

    /// Writes what is queued; returns whether nothing is left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        if let Some(error) = self.broken.take() {
            self.outbox = None;
            return Err(*error);
        }
        while let Some(outbox) = self.outbox.as_deref_mut() {
            let mut slices = [IoSlice::new(&[]); Outbox::SLICES];
            let count = outbox.slices(&mut slices);
            let slices = &slices[..count];
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let taken = self.transport.write(slices)?;
            outbox.consume(taken);
            if taken < offered {
                self.blocked = true;
                return Ok(false);
            }
            if outbox.len() == 0 {
                self.outbox = None;
            }
        }
        let flushed = self.transport.flush()?;
        self.blocked |= !flushed;
        Ok(flushed)
    }

    /// Returns whether a `Drain` is due: something was left over, and now nothing is.
    pub(crate) fn take_drained(&mut self) -> bool {
        std::mem::take(&mut self.blocked)
    }
}
