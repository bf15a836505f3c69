//! Taking over connections that another HTTP server of the process has accepted.

use super::handle::{Command, Handle};
use super::hub::Hub;
use crate::connection::adoption::Adoption;
use crate::error::SendError;
use crate::handshake::Request;
use crate::transport::StreamSocket;

impl Hub<'_> {
    /// Takes over a connection that was accepted elsewhere, before its opening handshake:
    /// `bytes_read` is what was read of it so far, a request or a part of one. From now on it is
    /// like one that came by a listener: `Accept` and `Connect` follow when the loop has its turn.
    ///
    /// At `max_connections`, or when the server goes down, the client is answered with 503 and the
    /// socket closed, without an event. A socket that cannot be used is closed and logged.
    pub fn adopt(&mut self, stream: impl Into<StreamSocket>, bytes_read: impl Into<Vec<u8>>) {
        let adoption = Adoption::opening(stream, bytes_read);
        self.core.shared.adoptions.push(adoption);
    }

    /// Takes over a connection whose opening handshake is done: the 101 was sent by someone else,
    /// who checked the request ([`Request::accept_key`] does) and agreed on `subprotocol` or none,
    /// and on no extension. `bytes_read` is what was read behind the request.
    ///
    /// `Accept`, `Connect` and `Ready` follow when the loop has its turn, without `Origin` and
    /// `Handshake`, and without a look at the lists of `hosts` and `origins`; a refusal in `Connect` closes with 1008. At `max_connections`, or when the server
    /// goes down, the client is sent a Close frame with 1013 and the socket is closed, without an
    /// event.
    pub fn adopt_upgraded(
        &mut self,
        stream: impl Into<StreamSocket>,
        bytes_read: impl Into<Vec<u8>>,
        request: impl Into<Request>,
        subprotocol: Option<&str>,
    ) {
        let adoption = Adoption::upgraded(stream, bytes_read, request, subprotocol);
        self.core.shared.adoptions.push(adoption);
    }
}

impl Handle {
    /// Takes over a connection that was accepted elsewhere, as [`Hub::adopt`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut server = wsloop::Server::builder().headless(true).build()?;
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let _client = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// let handle = server.handle();
    /// let (stream, _) = listener.accept()?;
    /// handle.adopt(stream, *b"GET /chat HTTP/1.1\r\n")?;
    /// # handle.shutdown()?;
    /// # server.start()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone; the socket is closed.
    pub fn adopt(
        &self,
        stream: impl Into<StreamSocket>,
        bytes_read: impl Into<Vec<u8>>,
    ) -> Result<(), SendError> {
        let adoption = Adoption::opening(stream, bytes_read);
        self.command(Command::Adopt(Box::new(adoption)))
    }

    /// Takes over a connection whose opening handshake is done, as [`Hub::adopt_upgraded`].
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone; the socket is closed.
    pub fn adopt_upgraded(
        &self,
        stream: impl Into<StreamSocket>,
        bytes_read: impl Into<Vec<u8>>,
        request: impl Into<Request>,
        subprotocol: Option<&str>,
    ) -> Result<(), SendError> {
        let adoption = Adoption::upgraded(stream, bytes_read, request, subprotocol);
        self.command(Command::Adopt(Box::new(adoption)))
    }
}
