//! The cursor that a handler holds.

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
use crate::protocol::{CloseCode, CloseFrame, Compress, OpCode, Prepared};
use crate::stats::ConnectionStats;

/// The number of a connection: unique in the process and never used again, so one that is kept
/// beyond its connection's life is harmless.
///
/// It counts up, so it is no secret.
#[derive(Clone, Copy, Debug, Eq)]
pub struct ConnectionId {
    pub(crate) serial: u64,
    /// Where the reactor finds it, unless it is gone.
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

/// A connection, for the time of one call: what a handler acts on.
///
/// Nothing here blocks. What is sent to the connection whose handler runs leaves when the handler
/// has returned, all of it together; only large payloads, and what has come together to 64 KiB,
/// are offered to the kernel at once. What is sent to others leaves at the end of the turn. The
/// order is kept.
pub struct Connection<'s> {
    pub(super) core: &'s mut Core,
    pub(super) slot: usize,
}

impl<'s> Connection<'s> {
    /// Only for a slot that is occupied; nothing is removed while a cursor lives.
    pub(crate) fn new(core: &'s mut Core, slot: usize) -> Self {
        Self { core, slot }
    }

    /// Sends a text message.
    ///
    /// # Errors
    ///
    /// [`SendError::NotReady`] before `Ready`, [`SendError::Closing`] after a close began,
    /// [`SendError::TooBig`] above `max_send_size`, [`SendError::BacklogFull`] if the peer does
    /// not read, [`SendError::MessageUnderWay`] between the parts of another message. Nothing was
    /// sent then.
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

    /// Sends a message or a control frame by its kind, as `send` of the Perl servers did.
    ///
    /// # Errors
    ///
    /// As [`send_utf8`](Self::send_utf8); [`SendError::ControlTooLong`] for a ping or pong above
    /// 125 bytes; [`SendError::BadUtf8`] for text that is not UTF-8. A Close frame's payload is
    /// parsed and given to [`disconnect`](Self::disconnect). [`SendError::BadFrame`] for a
    /// continuation, or for a Close frame that cannot be parsed.
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

    /// Sends a message that was framed once for many.
    ///
    /// # Errors
    ///
    /// As [`send_utf8`](Self::send_utf8).
    pub fn send_prepared(&mut self, prepared: &Prepared) -> Result<Sent, SendError> {
        self.entry().send_prepared(prepared).map(Sent::one)
    }

    /// Sends a ping with a payload of at most 125 bytes; the peer answers with a pong that
    /// carries the same (RFC 6455, 5.5.2).
    ///
    /// # Errors
    ///
    /// As [`send_utf8`](Self::send_utf8), and [`SendError::ControlTooLong`].
    pub fn ping(&mut self, payload: impl AsRef<[u8]>) -> Result<Sent, SendError> {
        let sent = self.core.send(self.slot, OpCode::Ping, payload.as_ref());
        sent.map(Sent::one)
    }

    /// Sends a pong that no ping asked for, at most 125 bytes. Pings are answered without it.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub fn pong(&mut self, payload: impl AsRef<[u8]>) -> Result<Sent, SendError> {
        let sent = self.core.send(self.slot, OpCode::Pong, payload.as_ref());
        sent.map(Sent::one)
    }

    /// Starts the closing handshake: sends what is queued and a Close frame, and waits for the
    /// peer's for `close_timeout`. From now on nothing can be sent, and nothing that the peer sends
    /// is delivered; `Disconnect` follows, once.
    ///
    /// [`CloseCode::NO_STATUS`] with no reason sends a Close frame without a code. Before `Ready`
    /// the opening handshake is refused with 403 instead. Does nothing if the connection is
    /// closing already.
    ///
    /// # Errors
    ///
    /// [`SendError::BadCloseCode`] for a code that must not be sent (RFC 6455, 7.4),
    /// [`SendError::ControlTooLong`] for a reason of more than 123 bytes; then nothing was done.
    #[doc(alias = "close")]
    pub fn disconnect(
        &mut self,
        code: impl Into<CloseCode>,
        reason: &str,
    ) -> Result<Sent, SendError> {
        let mut conn = self.entry();
        let queued = conn.unsent();
        conn.disconnect(code.into(), reason, Cause::Local)?;
        Ok(Sent::one(conn.unsent().saturating_sub(queued)))
    }

    /// Cuts the connection at once: no Close frame, and what the kernel has not taken is not sent.
    /// `Disconnect` follows.
    #[doc(alias = "shutdown")]
    pub fn abort(&mut self) {
        self.entry().abort();
    }

    /// Answers the opening handshake with an HTTP error, or any other refusal, and closes.
    ///
    /// ```
    /// # use wsloop::{AnswerError, Connection, handshake::Refusal};
    /// # fn handler(conn: &mut Connection<'_>) -> Result<(), AnswerError> {
    /// conn.http_error(503)?;
    /// conn.http_error(Refusal::new(401).header("WWW-Authenticate", "Basic").body("who is it?"))
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AnswerError::HandshakeDone`] after the handshake or an answer to it,
    /// [`AnswerError::Malformed`] for a malformed answer: no refusal's status, or a header or
    /// reason phrase with bytes that would break the message apart.
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

    /// Sets a handler of this connection alone; it serves from the next event on, in place of the
    /// server's.
    pub fn on<E: ConnectionEvent, R: Outcome<E::Output>>(
        &mut self,
        _event: E,
        handler: impl for<'t, 'p> FnMut(&mut Connection<'t>, E::Payload<'p>) -> R + 'static,
    ) {
        self.peer_mut().register().set_when_merged::<E, R>(handler);
    }

    /// Adds a handler of this connection alone: it is called after those that the connection has of
    /// its own, as with [`Builder::add_on`](crate::Builder::add_on), from the next event on. The
    /// first one takes the place of the server's, as with [`on`](Self::on).
    pub fn add_on<E: ConnectionEvent, R: Outcome<E::Output>>(
        &mut self,
        _event: E,
        handler: impl for<'t, 'p> FnMut(&mut Connection<'t>, E::Payload<'p>) -> R + 'static,
    ) {
        self.peer_mut().register().add_when_merged::<E, R>(handler);
    }

    /// Returns the connection's number.
    pub fn id(&self) -> ConnectionId {
        ConnectionId {
            serial: self.peer().serial,
            slot: self.slot as u32,
        }
    }

    /// Returns the server that the connection belongs to.
    pub fn server(&mut self) -> Hub<'_> {
        Hub::new(self.core)
    }

    /// Returns the connection's own value of type `T`, made by `T::default()` on first use. It
    /// lives as long as the connection. The type is the key: use one of your own, so that no one
    /// else's is the same.
    #[doc(alias = "metadata")]
    pub fn data<T: Default + 'static>(&mut self) -> &mut T {
        self.peer_mut().data()
    }

    /// Returns the server's one value of type `T`, made by `T::default()` on first use.
    pub fn shared<T: Default + 'static>(&mut self) -> &mut T {
        self.core.shared.data.get()
    }

    /// Returns whether the opening handshake is done and nobody has closed yet: whether messages
    /// can be sent.
    pub fn is_ready(&self) -> bool {
        self.peer().phase() == Phase::Open
    }

    /// Returns where the connection stands.
    ///
    /// `connecting` of the Perl servers is [`Phase::Opening`], `disconnecting` is [`Phase::Closing`],
    /// `disconnected` is [`Phase::Lingering`] or later: in its `Disconnect`.
    #[doc(alias = "connecting")]
    #[doc(alias = "disconnecting")]
    #[doc(alias = "disconnected")]
    pub fn phase(&self) -> Phase {
        self.peer().phase()
    }

    /// Returns the client's address; `None` for a Unix socket. Known until the end.
    ///
    /// It is the address of the socket's peer, unless a proxy tells the client's:
    /// [`Place::proxy_protocol`](crate::Place::proxy_protocol) has it from `Connect` on,
    /// [`Builder::client_address`](crate::Builder::client_address) from the `Origin` event on.
    pub fn ip(&self) -> Option<IpAddr> {
        self.peer().addr().ip()
    }

    /// Returns the client's port, as [`ip`](Self::ip) does its address; 0 if a proxy told the
    /// address alone.
    pub fn port(&self) -> Option<u16> {
        self.peer().addr().port()
    }

    /// Returns the client's address and port; see [`ip`](Self::ip) and [`port`](Self::port).
    #[doc(alias = "remote_addr")]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer().addr().socket_addr()
    }

    /// Returns the address of the socket's own peer, which may be a proxy; `None` for a Unix
    /// socket.
    pub fn direct_peer_addr(&self) -> Option<SocketAddr> {
        self.peer().direct().socket_addr()
    }

    /// Returns the request's `Origin`, if it has one, from the `Origin` event on.
    pub fn origin(&self) -> Option<&str> {
        self.peer().identity().origin()
    }

    /// Returns the URI that the client asked for, from the `Origin` event on: scheme `ws` or
    /// `wss`, the `Host` header, path and query.
    pub fn request_uri(&self) -> Option<Uri> {
        self.peer().identity().uri().parse().ok()
    }

    /// Returns the request, with its headers and cookies, from the `Origin` event to the end of
    /// `Ready`; with [`Builder::keep_requests`](crate::Builder::keep_requests) for good.
    pub fn request(&self) -> Option<&Request> {
        self.peer().request()
    }

    /// Returns the subprotocol that was agreed on, from `Ready` on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.peer().identity().subprotocol()
    }

    /// Returns what was agreed on about compression, from `Ready` on; `None` for none.
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
                .wants(opcode, size, Compress::Auto)
    }

    /// Returns the address that the peer connected to; `None` for a Unix socket.
    ///
    /// # Errors
    ///
    /// As `getsockname`.
    pub fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.peer().transport.socket().local_addr()
    }

    /// Returns whether the TLS handshake is still to be done.
    ///
    /// `needs_ssl` of the Perl servers asks whether the connection is to be encrypted: that is
    /// [`is_tls`](Self::is_tls).
    pub fn is_tls_handshaking(&self) -> bool {
        self.peer().transport.needs_ssl()
    }

    /// Returns whether the connection is encrypted, or will be.
    #[doc(alias = "is_ssl")]
    #[doc(alias = "needs_ssl")]
    pub fn is_tls(&self) -> bool {
        self.peer().transport.is_secure()
    }

    /// Returns whether the client speaks TLS: with this server, or with a proxy that tells it (by
    /// the PROXY protocol, or by a header that
    /// [`forwarded_scheme`](crate::Builder::forwarded_scheme) asks for; then known from the
    /// `Origin` event on).
    pub fn is_client_tls(&self) -> bool {
        self.peer().is_client_secure()
    }

    /// Returns whether the header of the PROXY protocol says that the client showed the proxy a
    /// certificate, and that it was found good (`PP2_TYPE_SSL`; HAProxy: `send-proxy-v2-ssl`). For
    /// TLS that ends here see [`peer_certificates`](Self::peer_certificates).
    pub fn is_verified_by_proxy(&self) -> bool {
        self.peer().is_verified_by_proxy()
    }

    /// Returns the certificates that the peer showed in the TLS handshake, its own first, each as
    /// DER (X.509); none if it showed none or was not asked, see `ClientCertificates`. They were
    /// found good when it came. Known from the `Origin` event on.
    pub fn peer_certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.peer().transport.peer_certificates()
    }

    /// Returns the name that the peer asked for in the TLS handshake (SNI, RFC 6066, 3), in lower
    /// case, and so the one whose certificate it was shown. The `Host` header may say another.
    /// Known from the `Origin` event on; `None` without TLS, and for a client that does not say.
    pub fn server_name(&self) -> Option<&str> {
        self.peer().transport.server_name()
    }

    /// Returns the size of the largest message accepted, in bytes.
    pub fn max_recv_size(&self) -> usize {
        self.peer().max_recv_size()
    }

    /// Sets the size of the largest message accepted, in bytes, from the next frame on. Default
    /// as the server's. `usize::MAX` means none, and lets the peer fill the memory.
    pub fn set_max_recv_size(&mut self, size: usize) {
        self.peer_mut().set_max_recv_size(size);
    }

    /// Returns the size of the largest message that can be sent, in bytes.
    pub fn max_send_size(&self) -> usize {
        self.peer().max_send_size()
    }

    /// Sets the size of the largest message that can be sent, in bytes. Default as the server's.
    /// `usize::MAX` means none.
    pub fn set_max_send_size(&mut self, size: usize) {
        self.peer_mut().set_max_send_size(size);
    }

    /// Returns the bytes that were sent to the peer before and that the kernel has not taken. What
    /// is sent in the handler that is running may not be counted yet; it is by
    /// [`buffered_amount`](Self::buffered_amount).
    pub fn backlog(&self) -> usize {
        self.peer().backlog()
    }

    /// Returns what was counted of the connection and how old it is; `None` without
    /// [`Builder::connection_stats`](crate::Builder::connection_stats).
    pub fn stats(&self) -> Option<ConnectionStats> {
        self.peer().stats(self.core.shared.now)
    }

    /// Returns whether Nagle's algorithm is off (TCP_NODELAY); always so for a Unix socket.
    ///
    /// # Errors
    ///
    /// As `getsockopt`.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.peer().transport.socket().nodelay()
    }

    /// Switches Nagle's algorithm off, or on. Default as the server's: off.
    ///
    /// # Errors
    ///
    /// As `setsockopt`.
    pub fn set_nodelay(&mut self, nodelay: bool) -> io::Result<()> {
        self.peer().transport.socket().set_nodelay(nodelay)
    }

    /// Returns the socket, to set options of or to ask it. Reading from it or writing to it would
    /// break the connection.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.peer().transport.fd()
    }

    pub(super) fn peer(&self) -> &Peer {
        self.core.peers.get(self.slot).expect(OCCUPIED)
    }

    pub(super) fn peer_mut(&mut self) -> &mut Peer {
        self.core.peers.get_mut(self.slot).expect(OCCUPIED)
    }

    /// Returns the connection together with what all share.
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
