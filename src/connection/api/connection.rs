//! The cursor that a handler receives.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use http::Uri;

use super::hub::Hub;
use super::sent::Sent;
#[cfg(feature = "deflate")]
use crate::connection::Deflate;
use crate::connection::core::{Core, OCCUPIED};
use crate::connection::entry::PeerMut;
use crate::connection::event::{Cause, ConnectionEvent, Outcome};
use crate::connection::peer::{Peer, Phase};
use crate::error::{AnswerError, SendError};
use crate::handshake::{Refusal, Request};
use crate::protocol::{CloseCode, CloseFrame, OpCode, Prepared};
use crate::stats::ConnectionStats;
use crate::topics::Place;

/// The number of a connection. It is unique in the process and never reused, so an id that outlives
/// its connection is harmless.
///
/// Ids count up; they are not secret.
#[derive(Clone, Copy, Debug, Eq)]
pub struct ConnectionId {
    pub(crate) serial: u64,
    /// The position in the reactor's list, while the connection exists.
    pub(crate) slot: u32,
}

impl ConnectionId {
    /// Returns the number.
    pub const fn as_u64(self) -> u64 {
        self.serial
    }
}

impl PartialEq for ConnectionId {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl Ord for ConnectionId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.serial.cmp(&other.serial)
    }
}

impl PartialOrd for ConnectionId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl std::hash::Hash for ConnectionId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.serial.hash(state);
    }
}

impl From<ConnectionId> for u64 {
    fn from(id: ConnectionId) -> Self {
        id.serial
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serial.fmt(f)
    }
}

/// A connection, for the duration of one call: the object that a handler acts on.
///
/// No method blocks. Messages to the connection whose handler is running leave together when the
/// handler has returned; only large payloads, and collected data of 64 KiB, are offered to the
/// kernel at once. Messages to other connections leave at the end of the turn. Messages to one
/// connection keep their order.
pub struct Connection<'s> {
    pub(super) core: &'s mut Core,
    pub(super) slot: usize,
}

impl<'s> Connection<'s> {
    /// The slot has to be occupied; no connection is removed while a cursor exists.
    pub(crate) fn new(core: &'s mut Core, slot: usize) -> Self {
        Self { core, slot }
    }

    /// Sends a text message.
    ///
    /// # Errors
    ///
    /// If an error is returned, nothing was sent:
    ///
    /// * [`SendError::NotReady`] before `Ready`;
    /// * [`SendError::Closing`] after a close has begun;
    /// * [`SendError::TooBig`] above `max_send_size`;
    /// * [`SendError::BacklogFull`] if the peer does not read;
    /// * [`SendError::NoMemory`] if `memory_budget` is nearly used up;
    /// * [`SendError::MessageUnderWay`] between the parts of another message.
    #[doc(alias = "send_text")]
    #[inline]
    pub fn send_utf8(&mut self, text: &str) -> Result<Sent, SendError> {
        let sent = self.core.send(self.slot, OpCode::Text, text.as_bytes());
        sent.map(Sent::one)
    }

    /// Sends a binary message.
    ///
    /// # Errors
    ///
    /// As [`send_utf8`](Self::send_utf8).
    #[doc(alias = "send_bytes")]
    #[inline]
    pub fn send_binary(&mut self, bytes: &[u8]) -> Result<Sent, SendError> {
        let sent = self.core.send(self.slot, OpCode::Binary, bytes);
        sent.map(Sent::one)
    }

    /// Sends a message or a control frame of the given kind, like `send` of the Perl servers.
    ///
    /// # Errors
    ///
    /// As [`send_utf8`](Self::send_utf8). Also [`SendError::ControlTooLong`] for a ping or pong
    /// above 125 bytes, [`SendError::BadUtf8`] for text that is not UTF-8, and
    /// [`SendError::BadFrame`] for a continuation. The payload of a Close frame is parsed and
    /// passed to [`disconnect`](Self::disconnect); if it is malformed, the error is
    /// [`SendError::BadFrame`].
    #[doc(alias = "send_control")]
    pub fn send(&mut self, opcode: OpCode, payload: &[u8]) -> Result<Sent, SendError> {
        match opcode {
            OpCode::Text => {
                let text = simdutf8::basic::from_utf8(payload).map_err(|_| SendError::BadUtf8)?;
                self.send_utf8(text)
            }
            OpCode::Binary | OpCode::Ping | OpCode::Pong => {
                let sent = self.core.send(self.slot, opcode, payload);
                sent.map(Sent::one)
            }
            OpCode::Close if !self.is_ready() => Err(self.phase().unsendable()),
            OpCode::Close => {
                let frame = CloseFrame::parse(payload).map_err(|_| SendError::BadFrame)?;
                self.disconnect(frame.code, frame.reason)
            }
            OpCode::Continuation => Err(SendError::BadFrame),
        }
    }

    /// Sends a message that was framed once for many connections.
    ///
    /// # Errors
    ///
    /// As [`send_utf8`](Self::send_utf8).
    pub fn send_prepared(&mut self, prepared: &Prepared) -> Result<Sent, SendError> {
        self.entry().send_prepared(prepared).map(Sent::one)
    }

    /// Sends a ping with a payload of at most 125 bytes. The peer answers with a pong that has the
    /// same payload (RFC 6455, 5.5.2).
    ///
    /// # Errors
    ///
    /// As [`send_utf8`](Self::send_utf8), and [`SendError::ControlTooLong`].
    #[doc(alias = "send_ping")]
    pub fn ping(&mut self, payload: impl AsRef<[u8]>) -> Result<Sent, SendError> {
        let sent = self.core.send(self.slot, OpCode::Ping, payload.as_ref());
        sent.map(Sent::one)
    }

    /// Sends an unsolicited pong with a payload of at most 125 bytes. The server answers pings by
    /// itself.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    #[doc(alias = "send_pong")]
    #[doc(alias = "do_pong")]
    pub fn pong(&mut self, payload: impl AsRef<[u8]>) -> Result<Sent, SendError> {
        let sent = self.core.send(self.slot, OpCode::Pong, payload.as_ref());
        sent.map(Sent::one)
    }

    /// Starts the closing handshake: sends the queued data and a Close frame, and waits for the
    /// peer's Close frame for `close_timeout`. From then on nothing can be sent, and data from the
    /// peer is not delivered. `Disconnect` follows, once.
    ///
    /// [`CloseCode::NO_STATUS`] with an empty reason sends a Close frame without a code. Before
    /// `Ready` the opening handshake is refused with 403 instead. If the connection is closing
    /// already, the call has no effect.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::BadCloseCode`] for a code that must not be sent (RFC 6455, 7.4), and
    /// [`SendError::ControlTooLong`] for a reason of more than 123 bytes. The connection is then
    /// unchanged.
    #[doc(alias = "close")]
    pub fn disconnect(
        &mut self,
        code: impl Into<CloseCode>,
        reason: &str,
    ) -> Result<Sent, SendError> {
        let sent = self.entry().disconnect(code.into(), reason, Cause::Local);
        sent.map(Sent::one)
    }

    /// Cuts the connection at once, without a Close frame. Data that the kernel has not accepted is
    /// lost. `Disconnect` follows.
    #[doc(alias = "shutdown")]
    pub fn abort(&mut self) {
        self.entry().abort();
    }

    /// Answers the opening handshake with an HTTP error or any other refusal, and closes the
    /// connection.
    ///
    /// ```
    /// # use wsloop::{AnswerError, Connection, handshake::Refusal};
    /// # fn handler(conn: &mut Connection<'_>) -> Result<(), AnswerError> {
    /// conn.http_error(503)?;
    /// conn.http_error(Refusal::new(401).header("WWW-Authenticate", "Basic").body("log in first"))
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`AnswerError::HandshakeDone`] if the handshake is over or answered already, and
    /// otherwise the fault that [`Refusal::check`] finds.
    pub fn http_error(&mut self, refusal: impl Into<Refusal>) -> Result<(), AnswerError> {
        let peer = self.peer_mut();
        if peer.phase() != Phase::Opening || peer.is_refused() {
            return Err(AnswerError::HandshakeDone);
        }
        let refusal = refusal.into();
        refusal.check()?;
        peer.refuse(refusal);
        self.core.mark_dirty(self.slot);
        Ok(())
    }

    /// Registers a handler for this connection alone. From the next event on it replaces the
    /// server's handler.
    pub fn on<E: ConnectionEvent, R: Outcome<E::Output>>(
        &mut self,
        _event: E,
        handler: impl for<'t, 'p> FnMut(&mut Connection<'t>, E::Payload<'p>) -> R + 'static,
    ) {
        self.peer_mut().register().set_when_merged::<E, R>(handler);
    }

    /// Adds a handler for this connection alone, from the next event on. It is called after the
    /// connection's other handlers for the event, as with
    /// [`Builder::add_on`](crate::Builder::add_on). The first one replaces the server's handler, as
    /// with [`on`](Self::on).
    pub fn add_on<E: ConnectionEvent, R: Outcome<E::Output>>(
        &mut self,
        _event: E,
        handler: impl for<'t, 'p> FnMut(&mut Connection<'t>, E::Payload<'p>) -> R + 'static,
    ) {
        self.peer_mut().register().add_when_merged::<E, R>(handler);
    }

    /// Returns the connection's id.
    pub fn id(&self) -> ConnectionId {
        ConnectionId {
            serial: self.peer().serial,
            slot: self.slot as u32,
        }
    }

    /// Returns the hub of the server that the connection belongs to.
    #[doc(alias = "get_server")]
    pub fn server(&mut self) -> Hub<'_> {
        Hub::new(self.core)
    }

    /// Returns the connection's value of type `T`, created by `T::default()` on first use. It lives
    /// as long as the connection. The type is the key: use a type of your own, so that no other
    /// code uses the same.
    #[doc(alias = "metadata")]
    pub fn data<T: Default + 'static>(&mut self) -> &mut T {
        self.peer_mut().data()
    }

    /// Returns the server's value of type `T`, created by `T::default()` on first use.
    pub fn shared<T: Default + 'static>(&mut self) -> &mut T {
        self.core.shared.data.get()
    }

    /// Returns whether messages can be sent: the opening handshake is done, and neither side has
    /// closed.
    #[doc(alias = "connected")]
    pub fn is_ready(&self) -> bool {
        self.peer().phase() == Phase::Open
    }

    /// Returns the phase of the connection.
    ///
    /// The Perl servers have three methods for it. `connecting` is [`Phase::Opening`] here,
    /// `disconnecting` is [`Phase::Closing`], and `disconnected` is [`Phase::Lingering`] or later,
    /// which begins with `Disconnect`.
    #[doc(alias = "state")]
    #[doc(alias = "connecting")]
    #[doc(alias = "disconnecting")]
    #[doc(alias = "disconnected")]
    pub fn phase(&self) -> Phase {
        self.peer().phase()
    }

    /// Returns the client's address; `None` for a Unix socket. It stays available until the end.
    ///
    /// It is the address of the socket's peer, unless a trusted proxy supplies the client's: in the
    /// header of [`Place::proxy_protocol`](crate::Place::proxy_protocol), from `Connect` on, or in
    /// the header of [`Builder::client_address`](crate::Builder::client_address), from the `Origin`
    /// event on.
    pub fn ip(&self) -> Option<IpAddr> {
        self.peer().addr().ip()
    }

    /// Returns the client's port, from the same source as [`ip`](Self::ip); 0 if a proxy supplied
    /// the address alone.
    pub fn port(&self) -> Option<u16> {
        self.peer().addr().port()
    }

    /// Returns the client's address and port; see [`ip`](Self::ip) and [`port`](Self::port).
    #[doc(alias = "peeraddr")]
    #[doc(alias = "remote_addr")]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer().addr().socket_addr()
    }

    /// Returns the address of the socket's peer, which may be a proxy; `None` for a Unix socket.
    pub fn direct_peer_addr(&self) -> Option<SocketAddr> {
        self.peer().direct().socket_addr()
    }

    /// Returns the request's `Origin`, from the `Origin` event on; `None` if the request has none.
    pub fn origin(&self) -> Option<&str> {
        self.peer().identity().origin()
    }

    /// Returns the URI that the client requested, from the `Origin` event on: the scheme `ws` or
    /// `wss`, the `Host` header, path and query.
    pub fn request_uri(&self) -> Option<Uri> {
        self.peer().identity().uri().parse().ok()
    }

    /// Returns the request with its headers and cookies, from the `Origin` event until `Ready` has
    /// returned; with [`Builder::keep_requests`](crate::Builder::keep_requests) until the
    /// connection ends.
    #[doc(alias = "handshake")]
    pub fn request(&self) -> Option<&Request> {
        self.peer().request()
    }

    /// Returns the negotiated subprotocol, from `Ready` on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.peer().identity().subprotocol()
    }

    /// Returns the negotiated compression, from `Ready` on; `None` without compression.
    #[cfg(feature = "deflate")]
    #[doc(alias = "is_deflate_active")]
    #[doc(alias = "effective_deflate_config")]
    pub fn deflate(&self) -> Option<&crate::protocol::deflate::Agreement> {
        self.peer().deflate().map(Deflate::agreed)
    }

    /// Returns whether a message of this kind and size, in bytes, would be compressed.
    #[cfg(feature = "deflate")]
    pub fn should_deflate(&self, opcode: OpCode, size: usize) -> bool {
        self.peer().is_deflating()
            && self
                .core
                .shared
                .compressors
                .wants(opcode, size, crate::protocol::Compress::Auto)
    }

    /// Returns the local address that the peer connected to; `None` for a Unix socket.
    ///
    /// # Errors
    ///
    /// Those of `getsockname`.
    #[doc(alias = "sockaddr")]
    pub fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.peer().transport.socket().local_addr()
    }

    /// Returns whether the TLS handshake is still in progress, like `needs_ssl` of
    /// `WebSocket::Connection`. Whether the connection uses TLS at all is [`is_tls`](Self::is_tls).
    #[doc(alias = "needs_ssl")]
    pub fn is_tls_handshaking(&self) -> bool {
        self.peer().transport.is_handshaking()
    }

    /// Returns whether the connection is encrypted, or will be.
    #[doc(alias = "is_ssl")]
    pub fn is_tls(&self) -> bool {
        self.peer().transport.is_secure()
    }

    /// Returns whether the client uses TLS: with this server, or with a proxy that says so, in the
    /// header of the PROXY protocol or in the header that
    /// [`forwarded_scheme`](crate::Builder::forwarded_scheme) enables (then from the `Origin` event
    /// on).
    pub fn is_client_tls(&self) -> bool {
        self.peer().is_client_secure()
    }

    /// Returns whether the header of the PROXY protocol says that the client presented a
    /// certificate to the proxy and that the proxy has verified it (`PP2_TYPE_SSL`; HAProxy:
    /// `send-proxy-v2-ssl`). For TLS that this server terminates see
    /// [`peer_certificates`](Self::peer_certificates).
    pub fn is_verified_by_proxy(&self) -> bool {
        self.peer().is_verified_by_proxy()
    }

    /// Returns the certificates that the peer presented in the TLS handshake, each as DER (X.509),
    /// the peer's own first. There are none if the peer presented none or was not asked for any,
    /// see `ClientCertificates`. The server has verified them during the handshake. Available from
    /// the `Origin` event on.
    pub fn peer_certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.peer().transport.peer_certificates()
    }

    /// Returns the name that the peer requested in the TLS handshake (SNI, RFC 6066, 3), in lower
    /// case: the name whose certificate the server presented. The `Host` header may differ.
    /// Available from the `Origin` event on; `None` without TLS, and for a client that sends no
    /// name.
    pub fn server_name(&self) -> Option<&str> {
        self.peer().transport.server_name()
    }

    /// Returns the maximum size of a received message, in bytes.
    pub fn max_recv_size(&self) -> usize {
        self.peer().max_recv_size()
    }

    /// Sets the maximum size of a received message, in bytes, from the next frame on. Default: the
    /// server's limit. `usize::MAX` means no limit; the peer can then exhaust the memory.
    pub fn set_max_recv_size(&mut self, size: usize) {
        self.peer_mut().set_max_recv_size(size);
    }

    /// Returns the maximum size of a sent message, in bytes.
    pub fn max_send_size(&self) -> usize {
        self.peer().max_send_size()
    }

    /// Sets the maximum size of a sent message, in bytes. Default: the server's limit. `usize::MAX`
    /// means no limit.
    pub fn set_max_send_size(&mut self, size: usize) {
        self.peer_mut().set_max_send_size(size);
    }

    /// Returns how many bytes are queued for the peer because the kernel has not accepted them.
    /// Data that the running handler has sent may not be included yet;
    /// [`buffered_amount`](Self::buffered_amount) includes it.
    pub fn backlog(&self) -> usize {
        self.peer().backlog()
    }

    /// Returns the connection's counters and its age; `None` without
    /// [`Builder::connection_stats`](crate::Builder::connection_stats).
    #[doc(alias = "stats_counter")]
    pub fn stats(&self) -> Option<ConnectionStats> {
        self.peer().stats(self.core.shared.now)
    }

    /// Returns whether Nagle's algorithm is off (TCP_NODELAY); always true for a Unix socket.
    ///
    /// # Errors
    ///
    /// Those of `getsockopt`.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.peer().transport.socket().nodelay()
    }

    /// Switches Nagle's algorithm off or on. Default: the server's setting, off.
    ///
    /// # Errors
    ///
    /// Those of `setsockopt`.
    pub fn set_nodelay(&mut self, nodelay: bool) -> io::Result<()> {
        self.peer().transport.socket().set_nodelay(nodelay)
    }

    /// Returns the socket, for its options and properties. Reading from it or writing to it would
    /// corrupt the connection.
    #[doc(alias = "stream")]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.peer().transport.fd()
    }

    pub(super) fn peer(&self) -> &Peer {
        self.core.peers.get(self.slot).expect(OCCUPIED)
    }

    pub(super) fn peer_mut(&mut self) -> &mut Peer {
        self.core.peers.get_mut(self.slot).expect(OCCUPIED)
    }

    /// Sends a message that other connections are sent as well; nothing if it is refused.
    pub(super) fn send_to_many(&mut self, prepared: &Prepared, place: &mut Option<Place>) -> Sent {
        let sent = self.entry().send_to_many(prepared, place);
        sent.map(Sent::one).unwrap_or_default()
    }

    /// Returns the connection together with the state that all connections share.
    #[inline(always)]
    pub(super) fn entry(&mut self) -> PeerMut<'_> {
        self.core.occupied(self.slot)
    }
}

impl fmt::Debug for Connection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer();
        f.debug_struct("Connection")
            .field("id", &peer.serial)
            .field("addr", &peer.addr())
            .field("phase", &peer.phase())
            .finish_non_exhaustive()
    }
}
