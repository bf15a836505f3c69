//! Taking over connections that another HTTP server of the process has accepted.

use super::handle::{Command, Handle};
use super::hub::Hub;
use crate::connection::adoption::Adoption;
use crate::error::SendError;
use crate::handshake::Request;
use crate::transport::StreamSocket;

impl Hub<'_> {
    /// Takes over a connection that was accepted elsewhere, before its opening handshake.
    /// `bytes_read` is the data that was read from it so far: a request or a part of one. From then
    /// on it is like a connection of a listener: `Accept` and `Connect` follow when the loop
    /// continues.
    ///
    /// At `max_connections`, or while the server shuts down, the client gets a 503 and the socket
    /// is closed, without an event. A socket that cannot be used is closed and logged.
    #[doc(alias = "upgrade_connection")]
    pub fn adopt(&mut self, stream: impl Into<StreamSocket>, bytes_read: impl Into<Vec<u8>>) {
        let adoption = Adoption::opening(stream, bytes_read);
        self.core.shared.adoptions.push(adoption);
    }

    /// Takes over a connection whose opening handshake is done. The other server has checked the
    /// request ([`Request::accept_key`] does so), has sent the 101, and has agreed on `subprotocol`
    /// or on none, and on no extension. `bytes_read` is the data that was read after the request.
    ///
    /// `Accept`, `Connect` and `Ready` follow when the loop continues. There is no `Origin` and no
    /// `Handshake` event, and the lists of `hosts` and `origins` are not consulted. A refusal in
    /// `Connect` closes the connection with 1008. At `max_connections`, or while the server shuts
    /// down, the client gets a Close frame with 1013 and the socket is closed, without an event.
    #[doc(alias = "upgrade_connection")]
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
    /// Takes over a connection that was accepted elsewhere, as [`Hub::adopt`] does.
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
    /// Returns [`SendError::Gone`] if the server has ended; the socket is closed.
    pub fn adopt(
        &self,
        stream: impl Into<StreamSocket>,
        bytes_read: impl Into<Vec<u8>>,
    ) -> Result<(), SendError> {
        let adoption = Adoption::opening(stream, bytes_read);
        self.command(Command::Adopt(Box::new(adoption)))
    }

    /// Takes over a connection whose opening handshake is done, as [`Hub::adopt_upgraded`] does.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended; the socket is closed.
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
