//! All public errors, and the only map from a fault to a close code or an HTTP status.
//!
//! There is one type for each kind of fault, because the reactions differ:
//!
//! | type | whose fault | reaction |
//! |---|---|---|
//! | [`ProtocolError`] | the peer broke RFC 6455 or a limit | close with [`ProtocolError::close_code`] |
//! | [`HandshakeError`] | the request cannot be upgraded | answer with [`HandshakeError::status`] |
//! | [`SendError`] | a message cannot be sent as asked for | returned to the caller |
//! | [`AnswerError`] | an HTTP answer cannot be given as asked for | returned to the caller |
//! | [`HandlerError`] | a handler failed | close with 1011 |
//! | [`BuildError`] | the configuration | the server does not start |
//! | [`io::Error`] | the network | the connection is dropped |
//!
//! The `Display` text of each error includes its causes, so `{error}` is enough for a log line.
//! `source()` continues after the causes in the text, so a report that walks the chain names each
//! cause once; `std::io::Error` does the same. The causes themselves are in the variants. `Debug`
//! of [`Error`] and [`BuildError`] is the same text, so a `main` that returns one of them prints a
//! readable line.

mod build;
mod call;
mod handshake;
mod protocol;

use std::fmt;
use std::io;

pub use build::{BuildError, PemProblem};
pub use call::{AnswerError, HandlerError, SendError};
pub use handshake::HandshakeError;
pub use protocol::ProtocolError;

/// The result of calls that can fail in more than one way.
pub type Result<T> = std::result::Result<T, Error>;

/// Any error that this crate returns to its caller. `Debug` prints the same text as `Display`.
#[non_exhaustive]
pub enum Error {
    /// The server could not be built.
    Build(BuildError),
    /// A system call of the event loop failed.
    Io(io::Error),
    /// A message could not be sent.
    Send(SendError),
    /// An HTTP response could not be given.
    Answer(AnswerError),
    /// One of several [`Loops`](crate::Loops) failed, and the others were shut down.
    Loop {
        /// The number of the loop, from 0 on.
        number: usize,
        /// The reason.
        source: Box<Self>,
    },
    /// One of several [`Loops`](crate::Loops) panicked, and the others were shut down. No handler
    /// can cause it, but the closure that makes the builders can.
    LoopPanicked {
        /// The number of the loop, from 0 on.
        number: usize,
        /// The text of the panic.
        text: Box<str>,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
            Self::Answer(error) => error.fmt(f),
            Self::Loop { number, source } => write!(f, "loop {number}: {source}"),
            Self::LoopPanicked { number, text } => write!(f, "loop {number} {text}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Build(error) => error.source(),
            Self::Io(error) => error.source(),
            Self::Send(error) => error.source(),
            Self::Answer(error) => error.source(),
            Self::Loop { source, .. } => source.source(),
            Self::LoopPanicked { .. } => None,
        }
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<AnswerError> for Error {
    fn from(error: AnswerError) -> Self {
        Self::Answer(error)
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

/// The failure of one connection, in the `Error` event.
#[non_exhaustive]
#[derive(Debug)]
pub enum Fault {
    /// A handler returned an error or panicked.
    Handler(HandlerError),
    /// The opening handshake was refused.
    Handshake(HandshakeError),
    /// Reading or writing failed; this includes TLS errors.
    Io(io::Error),
    /// The server's [`memory_budget`](crate::Builder::memory_budget) is used up, and the connection
    /// held more than others.
    NoMemory,
    /// The peer violated the protocol or exceeded a limit.
    Protocol(ProtocolError),
    /// The peer reads too slowly and [`SlowConsumer::Close`](crate::SlowConsumer::Close) is set.
    SlowConsumer,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler(error) => write!(f, "handler failed: {error}"),
            Self::Handshake(error) => write!(f, "handshake refused: {error}"),
            Self::Io(error) => error.fmt(f),
            Self::NoMemory => f.write_str("memory_budget is used up"),
            Self::Protocol(error) => error.fmt(f),
            Self::SlowConsumer => f.write_str("max_backlog exceeded"),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Handler(error) => error.source(),
            Self::Handshake(error) => error.source(),
            Self::Io(error) => error.source(),
            Self::Protocol(error) => error.source(),
            Self::NoMemory | Self::SlowConsumer => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close_code::CloseCode;

    #[test]
    fn faults_map_to_their_codes_and_statuses() {
        let big = ProtocolError::MessageTooBig {
            size: 70_000,
            limit: 65_536,
        };
        assert_eq!(big.close_code(), CloseCode::MESSAGE_TOO_BIG);
        assert_eq!(
            big.to_string(),
            "message of 70000 bytes exceeds max_recv_size of 65536"
        );
        assert_eq!(
            ProtocolError::BadUtf8.close_code(),
            CloseCode::INVALID_PAYLOAD
        );
        assert_eq!(
            ProtocolError::Unmasked.close_code(),
            CloseCode::PROTOCOL_ERROR
        );
        assert_eq!(
            ProtocolError::TooManyFragments { limit: 1 }.close_code(),
            CloseCode::POLICY_VIOLATION
        );
        assert_eq!(HandshakeError::TooManyHeaders { limit: 100 }.status(), 431);
        assert_eq!(HandshakeError::HttpVersion.status(), 505);
        assert_eq!(HandshakeError::UnsupportedVersion.status(), 426);
    }

    /// An error below all others, with a text of its own.
    #[derive(Debug)]
    struct Cause(&'static str, Option<Box<Self>>);

    impl fmt::Display for Cause {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Cause {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    /// An error whose text leaves out its own cause, as many crates do it.
    fn cause() -> Box<Cause> {
        Box::new(Cause("the cause", Some(Box::new(Cause("its root", None)))))
    }

    fn io() -> io::Error {
        io::Error::other(cause())
    }

    /// All variants that have a cause, and the error that each is wrapped in.
    fn with_causes() -> Vec<Error> {
        let pem = |problem| BuildError::Pem {
            path: "chain.pem".into(),
            problem,
        };
        let listen = BuildError::Listen {
            address: "localhost:1".into(),
            source: io(),
        };
        vec![
            Error::Build(BuildError::EventLoop(io())),
            Error::Build(listen),
            Error::Build(pem(PemProblem::Malformed(cause()))),
            Error::Build(pem(PemProblem::Unreadable(io()))),
            Error::Build(pem(PemProblem::Unusable(cause()))),
            Error::Build(BuildError::Provider(cause())),
            Error::Build(BuildError::Watch(io())),
            Error::Io(io()),
        ]
    }

    /// Returns the text that a program prints when it walks the chain of causes.
    fn report(error: &dyn std::error::Error) -> String {
        let chain = std::iter::successors(Some(error), |error| error.source());
        let texts: Vec<String> = chain.map(ToString::to_string).collect();
        texts.join(": ")
    }

    #[test]
    fn a_report_names_every_cause_once_and_the_text_alone_is_useful() {
        let once = |error: &dyn std::error::Error| {
            let report = report(error);
            for text in ["the cause", "its root"] {
                assert_eq!(report.matches(text).count(), 1, "{report}");
            }
            assert!(error.to_string().contains("the cause"), "{error}");
        };
        for error in with_causes() {
            once(&error);
            if let Error::Build(error) = &error {
                once(error);
                if let BuildError::Pem { problem, .. } = error {
                    once(problem);
                }
            }
        }
        once(&Fault::Io(io()));
        // The report of an error without a cause is its own text.
        for fault in [
            Fault::Handler(HandlerError::new(&"a reason")),
            Fault::Handshake(HandshakeError::BadKey),
            Fault::NoMemory,
            Fault::Protocol(ProtocolError::BadUtf8),
            Fault::SlowConsumer,
        ] {
            assert_eq!(report(&fault), fault.to_string());
        }
        let send = Error::Send(SendError::Gone);
        assert_eq!(report(&send), send.to_string());
    }

    #[test]
    fn a_main_that_returns_an_error_ends_with_a_line_that_can_be_read() {
        for error in with_causes() {
            assert_eq!(format!("{error:?}"), error.to_string());
            assert_eq!(format!("{error:#?}"), error.to_string());
        }
        let text = format!("{:?}", BuildError::NoListener);
        assert_eq!(text, BuildError::NoListener.to_string());
    }

    #[test]
    fn a_file_that_may_not_be_read_has_its_remedy() {
        let denied = PemProblem::Unreadable(io::ErrorKind::PermissionDenied.into());
        assert!(denied.to_string().contains("server's user"), "{denied}");
        let missing = PemProblem::Unreadable(io::ErrorKind::NotFound.into());
        assert!(!missing.to_string().contains("server's user"), "{missing}");
    }

    #[test]
    fn panic_texts_are_kept() {
        assert_eq!(
            HandlerError::from_panic(&"boom").to_string(),
            "panicked: boom"
        );
        assert_eq!(
            HandlerError::from_panic(&"bang".to_owned()).to_string(),
            "panicked: bang"
        );
        assert_eq!(
            HandlerError::from_panic(&7).to_string(),
            "panicked: (no message)"
        );
    }
}
