//! Connections that another HTTP server of the process has accepted.

use crate::handshake::Request;
use crate::transport::StreamSocket;

/// A connection to be adopted.
pub(crate) struct Adoption {
    pub(crate) stream: StreamSocket,
    /// Bytes that were read from it and not used.
    pub(crate) bytes: Vec<u8>,
    /// The opening handshake, if another server has completed it.
    pub(crate) upgraded: Option<Box<Upgraded>>,
}

/// An opening handshake that another server answered with 101.
pub(crate) struct Upgraded {
    pub(crate) request: Request,
    pub(crate) subprotocol: Option<Box<str>>,
}

impl Adoption {
    pub(super) fn upgraded(
        stream: impl Into<StreamSocket>,
        bytes: impl Into<Vec<u8>>,
        request: impl Into<Request>,
        subprotocol: Option<&str>,
    ) -> Self {
        Self {
            upgraded: Some(Box::new(Upgraded {
                request: request.into(),
                subprotocol: subprotocol.map(Box::from),
            })),
            ..Self::opening(stream, bytes)
        }
    }

    pub(super) fn opening(stream: impl Into<StreamSocket>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            stream: stream.into(),
            bytes: bytes.into(),
            upgraded: None,
        }
    }
}
