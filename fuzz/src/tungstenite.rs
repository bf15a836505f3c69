//! Streams of frames: the receiver and tungstenite's server must find the same messages in the same
//! bytes, and reject the same streams, except for the differences in [`differs`].

use std::io::{self, Read, Write};

use ::tungstenite::protocol::{Role, WebSocketConfig};
use ::tungstenite::{Error, Message as Theirs, WebSocket};
use wsloop::protocol::{Message, Receiver};
use wsloop::{Limits, ProtocolError};

use crate::client::client_bytes;
use crate::input::{Input, cuts};

/// Settings (1 byte), cuts (2 bytes), then the client's bytes, or choices for its frames.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let settings = input.byte();
    let seed = input.short();
    let bytes = &*client_bytes(&mut input, settings & 0x80 != 0);
    // At least 125, because tungstenite applies the limit to control frames as well.
    let limit = [64 << 10, 200, 125, 128 << 10][usize::from(settings & 3)];

    let (ours, refused) = receive(bytes, limit);
    let [_, _, random] = cuts(seed, bytes.len());
    let mut socket = Peer::new(bytes, random, limit);
    let (theirs, ending) = socket.receive();
    let Some(error) = refused else {
        assert!(
            !matches!(ending, Ending::Refused(_)),
            "tungstenite refuses: {ending:?}"
        );
        assert_eq!(ours, theirs);
        return;
    };
    assert!(theirs.starts_with(&ours), "{error}: {ours:?} {theirs:?}");
    let more = &theirs[ours.len()..];
    if !more.is_empty() {
        differs(error, more);
    } else if ending == Ending::Pending {
        // The receiver fails at the first wrong byte, tungstenite at the end of the frame.
        // tungstenite must not find a message when the rest of the frame arrives.
        socket.0.get_mut().bytes.extend(vec![b'x'; limit + 14]);
        let (late, _) = socket.receive();
        if !late.is_empty() {
            differs(error, &late);
        }
    }
}

/// Checks an error for streams that tungstenite accepts and wsloop rejects by design.
fn differs(error: ProtocolError, theirs: &[Found]) {
    match error {
        // RFC 6455, 5.2: "the minimal number of bytes MUST be used to encode the length".
        // tungstenite does not check this, and the rest of the stream cannot be compared.
        ProtocolError::LengthNotMinimal => {}
        // A longer length of a control frame is never minimal; wsloop reports it as too long.
        ProtocolError::ControlTooLong => assert!(
            matches!(
                &theirs[0],
                Found::Ping(_) | Found::Pong(_) | Found::Close(_)
            ),
            "{theirs:?}"
        ),
        // RFC 6455, 7.4.2: endpoints must not send these codes. tungstenite reports a protocol
        // violation as if the client had sent that code.
        ProtocolError::BadCloseCode(_) => {
            let made_up = Found::Close(Some((1002, "Protocol violation".to_owned())));
            assert_eq!(theirs, [made_up]);
        }
        error => panic!("tungstenite goes on after {error}: {theirs:?}"),
    }
}

/// A message, as either side finds it.
#[derive(Debug, Eq, PartialEq)]
enum Found {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

fn receive(bytes: &[u8], limit: usize) -> (Vec<Found>, Option<ProtocolError>) {
    let mut limits = Limits::default();
    limits.max_recv_size = limit;
    limits.max_fragments = usize::MAX;
    let mut receiver = Receiver::new(&limits);
    let mut bytes = bytes.to_vec();
    let mut rest = &mut bytes[..];
    let mut found = Vec::new();
    loop {
        found.push(match receiver.next(&mut rest) {
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
            Ok(Some(Message::Text(text))) => Found::Text(text.to_owned()),
            Ok(Some(Message::Binary(bytes))) => Found::Binary(bytes.to_vec()),
            Ok(Some(Message::Ping(bytes))) => Found::Ping(bytes.to_vec()),
            Ok(Some(Message::Pong(bytes))) => Found::Pong(bytes.to_vec()),
            Ok(Some(Message::Close(frame))) => {
                let code = frame.code.as_u16();
                // 1014 (bad gateway) was registered later; tungstenite considers it invalid.
                Found::Close(match code {
                    1005 => None,
                    1014 => Some((1002, "Protocol violation".to_owned())),
                    _ => Some((code, frame.reason.to_owned())),
                })
            }
            Ok(Some(message)) => panic!("not asked for: {message:?}"),
        });
    }
}

/// How tungstenite ends.
#[derive(Debug, Eq, PartialEq)]
enum Ending {
    Closed,
    Pending,
    Refused(String),
}

/// tungstenite's server, and the bytes of its client.
struct Peer(WebSocket<Pipe>);

impl Peer {
    fn new(bytes: &[u8], mut cuts: Vec<usize>, limit: usize) -> Self {
        cuts.reverse();
        let pipe = Pipe {
            bytes: bytes.to_vec(),
            at: 0,
            cuts,
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(4 << 10)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        Self(WebSocket::from_raw_socket(pipe, Role::Server, Some(config)))
    }

    fn receive(&mut self) -> (Vec<Found>, Ending) {
        let mut found = Vec::new();
        loop {
            found.push(match self.0.read() {
                Ok(Theirs::Text(text)) => Found::Text(text.as_str().to_owned()),
                Ok(Theirs::Binary(bytes)) => Found::Binary(bytes.to_vec()),
                Ok(Theirs::Ping(bytes)) => Found::Ping(bytes.to_vec()),
                Ok(Theirs::Pong(bytes)) => Found::Pong(bytes.to_vec()),
                Ok(Theirs::Close(frame)) => Found::Close(
                    frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned())),
                ),
                Ok(message) => panic!("not asked for: {message:?}"),
                Err(Error::ConnectionClosed) => return (found, Ending::Closed),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return (found, Ending::Pending);
                }
                Err(error) => return (found, Ending::Refused(error.to_string())),
            });
        }
    }
}

/// A stream that always has more bytes available, or none; discards what is written to it.
struct Pipe {
    bytes: Vec<u8>,
    at: usize,
    /// The sizes of the reads; the last one is used next.
    cuts: Vec<usize>,
}

impl Read for Pipe {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let rest = &self.bytes[self.at..];
        let most = self.cuts.pop().unwrap_or(usize::MAX);
        let size = rest.len().min(room.len()).min(most);
        if size == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        room[..size].copy_from_slice(&rest[..size]);
        self.at += size;
        Ok(size)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
