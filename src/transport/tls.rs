//! TLS by rustls over a non-blocking socket, in large reads and gathered writes.
//!
//! ```text
//!          one recv              read_tls, 4 KiB a piece           reader
//! kernel ------------> scratch ---------------------------> rustls -------> plain
//!
//!          one writev, up to 64 records             writer, up to BUFFERED bytes
//! kernel <------------------------------------ rustls <------------------------- bufs
//! ```
//!
//! `scratch` is empty again when a read returns: all of it was fed to rustls. rustls never refuses
//! a piece, because no more ciphertext is received than `plain` has room for. See [`Tls::read`].
//!
//! Between two calls, [`Tls::wants_write`] means that the kernel refused ciphertext, so a writable
//! event will follow; the caller then calls [`Tls::flush`].
//!
//! `ConnectionCommon::complete_io` is never called, because a peer can make it loop forever
//! (RUSTSEC-2024-0336). Each iteration of a loop here uses up input or room. rustls bounds the work
//! that yields no bytes: 32 empty records or key updates in a row, one renegotiation, four
//! warnings, 64 KiB of handshake message.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use super::Received;
use crate::reasons::TlsFailure;

/// The configuration that all sessions of a listener share.
pub(crate) type TlsConfig = Arc<ServerConfig>;

/// The server's side of a TLS session.
pub(crate) struct Tls {
    session: ServerConnection,
    /// Whether the server's close_notify is sent or queued: nothing may follow it.
    closed: bool,
    /// Bytes of ciphertext that the kernel accepted, and those of them that were reported.
    written: u64,
    told: u64,
    /// The first byte received, which shows whether the peer uses TLS.
    first: Option<u8>,
    /// Whether the header of the PROXY protocol is still expected, without TLS.
    preceded: bool,
    /// The bytes that followed it in the same read.
    early: Vec<u8>,
    /// Whether the peer sends HTTP without TLS: no TLS is read from it or sent to it.
    plain_http: bool,
}

impl Tls {
    /// Makes a session that waits for the client's first message.
    ///
    /// # Errors
    ///
    /// Returns the errors of rustls about `config`.
    pub(crate) fn new(config: TlsConfig) -> io::Result<Self> {
        let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(BUFFERED));
        Ok(Self {
            session,
            closed: false,
            written: 0,
            told: 0,
            first: None,
            preceded: false,
            early: Vec::new(),
            plain_http: false,
        })
    }

    /// Makes the session expect the header of the PROXY protocol: until [`begin`](Self::begin),
    /// received bytes are returned without TLS.
    pub(super) fn wait_for_header(&mut self) {
        self.preceded = true;
    }

    /// Begins the session with the bytes that followed the header of the PROXY protocol.
    pub(super) fn begin(&mut self, early: &[u8]) {
        self.preceded = false;
        self.early = early.to_vec();
    }

    /// Returns whether the TLS handshake is under way. [`read`](Self::read) advances it.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Returns whether the client has sent any bytes.
    pub(super) fn has_begun(&self) -> bool {
        self.first.is_some()
    }

    /// Returns whether the client sent a plain HTTP request. Nothing has been sent to it, and no
    /// TLS will be.
    pub(super) fn is_plain_http(&self) -> bool {
        self.plain_http
    }

    /// Returns the reason of the TLS failure, if `error` is one.
    pub(super) fn failure(&self, error: &io::Error) -> Option<TlsFailure> {
        if self.plain_http {
            return Some(TlsFailure::PlainHttp);
        }
        let found = error.get_ref().and_then(|error| error.downcast_ref());
        let Some(found) = found else {
            // The network failed, not TLS.
            return (self.is_handshaking() && self.has_begun()).then_some(TlsFailure::Ended);
        };
        // RFC 8446, 5.1: the first record of a client is a handshake message.
        if self.is_handshaking() && self.first != Some(HANDSHAKE) {
            return Some(TlsFailure::NotTls);
        }
        Some(classify(found))
    }

    /// Returns the verified certificate chain of the client, its own certificate first.
    pub(super) fn peer_certificates(&self) -> impl Iterator<Item = &[u8]> {
        let chain = self.session.peer_certificates().unwrap_or_default();
        chain.iter().map(|certificate| &**certificate)
    }

    /// Returns the name that the client requested (RFC 6066, 3), in lower case. During the
    /// handshake it may not be known yet.
    pub(super) fn server_name(&self) -> Option<&str> {
        self.session.server_name()
    }

    /// Receives ciphertext once, through `scratch`, and decrypts it to `plain`. Neither may be
    /// empty. Sends handshake messages and alerts that result.
    ///
    /// A result that is neither `drained` nor `eof` requires another call: the kernel or rustls may
    /// hold more, and no event will announce it. `eof` is the end of the stream, with or without a
    /// close_notify: the Close frame of a WebSocket shows whether it is complete.
    ///
    /// After [`close_notify`](Self::close_notify), received bytes are discarded, and only the end
    /// of the socket is reported.
    ///
    /// # Errors
    ///
    /// Returns the errors of the socket, and [`io::ErrorKind::InvalidData`] with the
    /// [`rustls::Error`] if the peer violated the protocol; the alert was sent as far as the kernel
    /// accepted it. Plaintext from before the error is returned first, and the error by the next
    /// call.
    pub(crate) fn read<S: Read + Write>(
        &mut self,
        socket: &mut S,
        plain: &mut [u8],
        scratch: &mut [u8],
    ) -> io::Result<Received> {
        if plain.is_empty() || scratch.is_empty() {
            return Ok(Received::default());
        }
        if self.closed {
            return discard(socket, scratch);
        }
        if self.preceded {
            let result = receive(socket, plain)?;
            return Ok(Received {
                bytes: result.unwrap_or(0),
                drained: result.is_none_or(|size| size < plain.len()),
                eof: result == Some(0),
                blocked: result.is_none(),
            });
        }
        // Plaintext that did not fit into the last `plain` comes first.
        let mut got = Received {
            bytes: self.take(plain),
            ..Received::default()
        };
        if got.bytes > 0 {
            return Ok(got);
        }
        // No new bytes were fed: this returns an error or a close_notify that followed plaintext.
        if self.digest()? {
            (got.drained, got.eof) = (true, true);
            return Ok(got);
        }

        // rustls accepts a piece unless it holds more than 16 KiB of plaintext. It holds none now;
        // the record that it has a part of can become 16 KiB; and the bytes after that in `scratch`
        // decrypt to less than their own size, for which `plain` has the room.
        let room = plain.len().min(scratch.len());
        let early = room.min(self.early.len());
        let came = if early > 0 {
            // The socket may have more, so another call is due.
            scratch[..early].copy_from_slice(&self.early[..early]);
            self.early.drain(..early);
            Some(early)
        } else {
            self.early = Vec::new();
            receive(socket, &mut scratch[..room])?
        };
        let size = match came {
            Some(size @ 1..) => size,
            ended => {
                (got.drained, got.eof) = (true, ended.is_some());
                got.blocked = ended.is_none();
                return Ok(got);
            }
        };

        if self.first.is_none() {
            self.first = scratch.first().copied();
            // No TLS record begins with a letter, and every HTTP method does.
            if self.first.is_some_and(|byte| byte.is_ascii_uppercase()) {
                (self.plain_http, self.closed) = (true, true);
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        let blocked = self.wants_write();
        let fed = self.feed(&scratch[..size], plain, &mut got.bytes);
        // If older output is blocked, its writable event flushes this output, too.
        let flushed = match blocked {
            true => Ok(false),
            false => self.flush(socket),
        };
        match fed.and_then(|ended| flushed.map(|_| ended)) {
            // With `plain` full, rustls may hold more.
            Ok(ended) if got.bytes < plain.len() => {
                (got.drained, got.eof) = (ended || (size < room && early == 0), ended);
                Ok(got)
            }
            // rustls keeps its error, and a broken socket fails again.
            Err(error) if got.bytes == 0 => Err(error),
            _ => Ok(got),
        }
    }

    /// Encrypts and writes as much of `bufs` as rustls and the kernel accept; returns the number of
    /// bytes, `Ok(0)` if that is none at present. Accepted bytes count as written, though up to
    /// [`BUFFERED`] of them may still have to be [flushed](Self::flush).
    ///
    /// # Errors
    ///
    /// Returns the errors of the socket, the [`rustls::Error`] that a read found, and
    /// [`io::ErrorKind::BrokenPipe`] after [`close_notify`](Self::close_notify).
    pub(crate) fn write<S: Read + Write>(
        &mut self,
        socket: &mut S,
        bufs: &[io::IoSlice<'_>],
    ) -> io::Result<usize> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.is_handshaking() {
            return Ok(0); // rustls would queue it
        }
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut taken = 0;
        while self.flush(socket)? && taken < total {
            let before = taken;
            while let size @ 1.. = self.encrypt(bufs, taken)? {
                taken += size;
            }
            if taken == before {
                // rustls accepted nothing although it has room. It has no reason to, and would not
                // accept it later either.
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(taken)
    }

    /// Returns whether there is ciphertext that the kernel has not accepted.
    pub(crate) fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    /// Returns whether the kernel has accepted ciphertext since the last call.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::replace(&mut self.told, self.written) != self.written
    }

    /// Returns how many bytes of ciphertext the kernel has accepted.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Returns the approximate memory of the session, and that of its ciphertext, in bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        (SESSION, if self.wants_write() { BUFFERED } else { 0 })
    }

    /// Writes pending ciphertext until the socket would block; returns `Ok(true)` if none is left.
    ///
    /// # Errors
    ///
    /// Returns the errors of the socket.
    pub(crate) fn flush<S: Write>(&mut self, socket: &mut S) -> io::Result<bool> {
        while self.wants_write() {
            match self.session.write_tls(socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(size) => self.written += size as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Queues a close_notify, unless one or a fatal alert was queued before, and flushes.
    ///
    /// # Errors
    ///
    /// Returns the errors of the socket.
    pub(crate) fn close_notify<S: Write>(&mut self, socket: &mut S) -> io::Result<()> {
        // RFC 8446, 6.1: "Each party MUST send a "close_notify" alert before closing its write
        // side of the connection, unless it has already sent some error alert."
        self.closed = true;
        if self.plain_http || self.preceded {
            return Ok(());
        }
        self.session.send_close_notify();
        self.flush(socket).map(|_| ())
    }

    /// Feeds all of `cipher` to rustls, piece by piece, and moves plaintext to `plain`, counted in
    /// `bytes`. Returns whether the peer's close_notify was found.
    fn feed(&mut self, mut cipher: &[u8], plain: &mut [u8], bytes: &mut usize) -> io::Result<bool> {
        let mut ended = false;
        while !cipher.is_empty() && !ended {
            // RFC 8446, 6.1: "Any data received after a closure alert has been received MUST be
            // ignored." rustls reads 0 bytes then.
            ended = self.session.read_tls(&mut cipher)? == 0;
            let digested = self.digest();
            *bytes += self.take(&mut plain[*bytes..]);
            ended |= digested?;
        }
        // With nothing to read, rustls only trims its input buffer from the 32 KiB that one large
        // record leaves to 4 KiB.
        let _ = self.session.read_tls(&mut Blocked);
        Ok(ended)
    }

    /// Makes rustls process its input; returns whether the peer's close_notify has arrived.
    fn digest(&mut self) -> io::Result<bool> {
        match self.session.process_new_packets() {
            Ok(state) => Ok(state.peer_has_closed()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Moves decrypted bytes to `plain`.
    fn take(&mut self, plain: &mut [u8]) -> usize {
        // The only error is that there is no plaintext.
        self.session.reader().read(plain).unwrap_or(0)
    }

    /// Encrypts the bytes after the first `skip` bytes of `bufs`, as far as rustls accepts them:
    /// the rest of a partly written buffer, otherwise all further buffers.
    fn encrypt(&mut self, bufs: &[io::IoSlice<'_>], mut skip: usize) -> io::Result<usize> {
        for (index, buf) in bufs.iter().enumerate() {
            if skip == 0 {
                return self.session.writer().write_vectored(&bufs[index..]);
            }
            if let Some(rest) = buf.get(skip..).filter(|rest| !rest.is_empty()) {
                return self.session.writer().write(rest);
            }
            skip -= buf.len();
        }
        Ok(0)
    }
}

/// Maps an error of rustls to the reason for an operator.
fn classify(error: &rustls::Error) -> TlsFailure {
    use rustls::{AlertDescription as Alert, PeerIncompatible as Incompatible};

    match error {
        rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate,
        ) => TlsFailure::CertificateRefused,
        rustls::Error::AlertReceived(Alert::ProtocolVersion)
        | rustls::Error::PeerIncompatible(
            Incompatible::ServerDoesNotSupportTls12Or13
            | Incompatible::ServerTlsVersionIsDisabledByOurConfig
            | Incompatible::SupportedVersionsExtensionRequired
            | Incompatible::Tls12NotOffered
            | Incompatible::Tls12NotOfferedOrEnabled,
        ) => TlsFailure::NoCommonVersion,
        rustls::Error::AlertReceived(_) => TlsFailure::ClientAlert,
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            TlsFailure::ClientCertificate
        }
        rustls::Error::PeerIncompatible(
            Incompatible::NoCipherSuitesInCommon
            | Incompatible::NoEcPointFormatsInCommon
            | Incompatible::NoKxGroupsInCommon
            | Incompatible::NoSignatureSchemesInCommon,
        ) => TlsFailure::NoCommonCipher,
        // The error of rustls if the resolver finds no certificate, which has no variant of its
        // own.
        rustls::Error::General(text) if text.contains("certificate chain") => {
            TlsFailure::NoCertificate
        }
        _ => TlsFailure::Other,
    }
}

/// A socket that has nothing to read.
struct Blocked;

impl Read for Blocked {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Receives once; `None` when the socket would block.
fn receive(socket: &mut impl Read, buf: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match socket.read(buf) {
            Ok(size) => return Ok(Some(size)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Receives once, and discards the bytes.
///
/// They must not reach rustls: on an error after the server's close_notify it would send another
/// alert, which it asserts not to do (a panic with debug assertions).
fn discard(socket: &mut impl Read, scratch: &mut [u8]) -> io::Result<Received> {
    let size = receive(socket, scratch)?;
    Ok(Received {
        bytes: 0,
        drained: size.is_none_or(|size| size < scratch.len()),
        eof: size == Some(0),
        blocked: size.is_none(),
    })
}

/// The content type of a record with handshake messages (RFC 8446, 5.1).
const HANDSHAKE: u8 = 0x16;

/// Minimum memory of a session, in bytes: 8 KB when it is idle, and an incomplete record.
const SESSION: usize = 24 << 10;

/// Most bytes that are encrypted before they are written, and so the most ciphertext that a session
/// holds for a slow peer. A message of the default `max_send_size` with its frame header leaves in
/// one write; a longer one is encrypted and written within the processor's cache.
const BUFFERED: usize = 128 << 10;

#[cfg(test)]
mod tests;
