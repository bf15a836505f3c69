//! permessage-deflate (RFC 7692) over real sockets: the negotiation, the choice of messages to
//! compress, and the treatment of invalid compressed data.

use crate::support::{Client, Frame, Running, echo, frame, log, request_with};
use socket2::SockRef;
use wsloop::event::{Binary, Connect, Disconnect, Handshake, Ready, Utf8};
use wsloop::protocol::deflate::{Context, Deflater, InflateLimits, Inflater};
use wsloop::{
    Builder, Compress, ConnectionId, DeflateConfig, Hub, OpCode, Outgoing, Prepared, Published,
    SlowConsumer, Topic,
};

/// A client that has negotiated compression, with both directions of it.
pub(crate) struct Peer {
    pub(crate) client: Client,
    deflater: Deflater,
    pub(crate) inflater: Inflater,
    /// The extension in the server's response.
    pub(crate) agreed: String,
}

impl Peer {
    pub(crate) fn of(server: &Running, offer: &str) -> Self {
        let mut client = server.client();
        let line = format!("Sec-WebSocket-Extensions: {offer}\r\n");
        let response = client.request(request_with(&line));
        assert_eq!(response.status, 101);
        Self {
            client,
            deflater: Deflater::new(6, 15),
            inflater: Inflater::new(),
            agreed: response
                .header("sec-websocket-extensions")
                .unwrap_or_default()
                .to_owned(),
        }
    }

    pub(crate) fn compressed(&mut self, payload: &[u8], takeover: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let context = match takeover {
            true => Context::Keep,
            false => Context::Reset,
        };
        assert!(self.deflater.message(payload, context, &mut bytes));
        bytes
    }

    /// Sends a compressed message in one frame.
    pub(crate) fn send(&mut self, first: u8, payload: &[u8], takeover: bool) {
        let bytes = self.compressed(payload, takeover);
        self.client.send_frame(first | 0x40, bytes);
    }

    /// Reads a message; returns its first byte, its size on the wire and its content.
    #[track_caller]
    pub(crate) fn read(&mut self) -> (u8, usize, Vec<u8>) {
        let Frame { first, payload } = self.client.read_frame();
        let size = payload.len();
        if first & 0x40 == 0 {
            return (first, size, payload);
        }
        let mut room = Vec::new();
        let message = self
            .inflater
            .message(
                &payload,
                Context::Keep,
                InflateLimits::new(1 << 24, usize::MAX),
                &mut room,
            )
            .expect("it is compressed");
        (first, size, message.to_vec())
    }
}

pub(crate) fn deflating(config: DeflateConfig) -> Running {
    Running::start(move |builder| echo(builder).deflate(config))
}

/// Returns pseudo-random numbers.
pub(crate) fn noise(seed: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(seed), |last| {
        Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
    })
    .map(|number| number >> 16)
    .skip(1)
}

/// Returns text that can be compressed, and more so when it is repeated.
pub(crate) fn text(size: usize, seed: u32) -> Vec<u8> {
    let mut text: String = noise(seed)
        .take(size / 8 + 1)
        .map(|number| format!("caf\u{e9}: {number}, "))
        .collect();
    while text.len() > size {
        text.pop();
    }
    let mut text = text.into_bytes();
    text.resize(size, b'.');
    text
}

pub(crate) const OFFER: &str = "permessage-deflate; client_max_window_bits";

#[test]
fn without_it_nothing_is_agreed_on() {
    let server = Running::echo();
    let mut peer = Peer::of(&server, OFFER);
    assert_eq!(peer.agreed, "");
    peer.send(0x81, b"hello", true);
    assert_eq!(
        peer.client.expect_close(1002),
        "reserved bits 0b100 are set"
    );
}

#[test]
fn a_client_that_does_not_offer_it_has_none() {
    let server = deflating(DeflateConfig::default().threshold(0));
    let mut client = server.ready();
    client.send_text("hello");
    client.expect_text("hello");
    client.send_frame(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    client.expect_close(1002);
}

#[test]
fn a_malformed_offer_is_declined() {
    let server = deflating(DeflateConfig::default());
    for value in [
        "",
        "permessage-deflate; =",
        "a b",
        "\"",
        "permessage-deflate; \u{e9}",
    ] {
        let line = format!("Sec-WebSocket-Extensions: {value}\r\n");
        let response = server.client().request(request_with(&line));
        assert_eq!(response.status, 101, "{value}");
        assert_eq!(response.header("sec-websocket-extensions"), None, "{value}");
    }
    // A malformed extension does not affect a valid one after it.
    let peer = Peer::of(&server, "a b, permessage-deflate; =, permessage-deflate");
    assert_eq!(peer.agreed, "permessage-deflate");
    // An offer that the server cannot satisfy is declined.
    let peer = Peer::of(&server, "permessage-deflate; server_max_window_bits=8");
    assert_eq!(peer.agreed, "");
}

#[test]
fn messages_are_compressed_both_ways() {
    for (config, keeps) in [
        (DeflateConfig::shared(), false),
        (DeflateConfig::dedicated(), true),
    ] {
        let server = deflating(config);
        let mut peer = Peer::of(&server, OFFER);
        // The response does not contain parameters that were not offered.
        assert_eq!(peer.agreed, "permessage-deflate");
        let mut sizes = Vec::new();
        for at in 0..4 {
            let payload = text(5000, 0);
            peer.send(0x81, &payload, at % 2 == 0);
            let (first, size, message) = peer.read();
            assert_eq!((first, message), (0xc1, payload));
            sizes.push(size);
        }
        assert!(sizes[0] < 3000, "{sizes:?}");
        assert_eq!(sizes[3] < sizes[0] / 3, keeps, "{sizes:?}");
    }
}

#[test]
fn small_and_binary_messages_are_not_compressed_by_default() {
    let server = deflating(DeflateConfig::default());
    let mut peer = Peer::of(&server, OFFER);
    for (first, size, compressed) in [
        (0x81, 0, false),
        (0x81, 1409, false),
        (0x81, 1410, true),
        (0x82, 5000, false),
        (0x81, 65_536, true),
        (0x82, 65_536, false),
    ] {
        let payload = text(size, 1);
        peer.send(first, &payload, true);
        let (answer, _, message) = peer.read();
        assert_eq!(answer, first | if compressed { 0x40 } else { 0 }, "{size}");
        assert!(message == payload, "{size}");
        // Uncompressed messages are echoed as well.
        peer.client.send_frame(first, &payload);
        assert!(peer.read().2 == payload, "{size}");
    }
    let all = DeflateConfig::default().threshold(0).compress_binary(true);
    let server = deflating(all);
    let mut peer = Peer::of(&server, OFFER);
    for size in [30, 300, 30_000] {
        peer.client.send_frame(0x82, text(size, 1));
        assert_eq!(peer.read().0, 0xc2, "{size}");
    }
}

#[test]
fn what_gains_nothing_is_sent_as_it_is() {
    let noise: Vec<u8> = noise(9).map(|number| number as u8).take(3000).collect();
    let config = DeflateConfig::shared().compress_binary(true).level(9);
    let server = deflating(config);
    let mut peer = Peer::of(&server, OFFER);
    peer.client.send_frame(0x82, &noise);
    assert!(peer.read() == (0x82, 3000, noise));
}

#[test]
fn a_message_may_say_itself() {
    let server = Running::start(|builder| {
        builder
            .deflate(DeflateConfig::dedicated())
            .on(Utf8, |conn, text| {
                assert!(
                    !conn.should_deflate(OpCode::Text, 10)
                        && conn.should_deflate(OpCode::Text, 1410)
                );
                conn.send_message(Outgoing::text(text).compress(Compress::Yes))?;
                conn.send_message(Outgoing::binary(text.as_bytes()).compress(Compress::Yes))?;
                conn.send_message(Outgoing::text(text).compress(Compress::No))?;
                conn.send_message(Outgoing::text(text).compress(Compress::Auto))?;
                let wrong = conn.send_message(
                    Outgoing::parts(OpCode::Text, &[b"\xff"]).compress(Compress::Yes),
                );
                assert_eq!(wrong, Err(wsloop::SendError::BadUtf8));
                let wrong = conn
                    .send_message(Outgoing::parts(OpCode::Ping, &[b""]).compress(Compress::Yes));
                assert_eq!(wrong, Err(wsloop::SendError::BadFrame));
                Ok::<_, wsloop::SendError>(())
            })
    });
    let mut peer = Peer::of(&server, OFFER);
    peer.client.send_text("short");
    for first in [0xc1, 0xc2, 0x81, 0x81] {
        let (answer, _, message) = peer.read();
        assert_eq!((answer, &message[..]), (first, &b"short"[..]));
    }
    // Without negotiation nothing is compressed, whatever the program requests.
    let mut client = server.client();
    client.upgrade();
    client.send_text("short");
    // The assertion on `should_deflate` fails in the handler, which closes the connection.
    client.expect_close(1011);
}

#[test]
fn fragments_and_control_frames_come_as_ever() {
    let server = deflating(DeflateConfig::default());
    let mut peer = Peer::of(&server, OFFER);
    let payload = text(9000, 2);
    for round in 0..3 {
        let bytes = peer.compressed(&payload, true);
        let cut = bytes.len() / (2 + round);
        peer.client.send_frame(0x41, &bytes[..cut]);
        peer.client.send_frame(0x89, b"now");
        peer.client.expect_frame(0x8a, b"now");
        peer.client.send_frame(0x00, b"");
        // The rest arrives one byte at a time.
        let rest = frame(0x80, &bytes[cut..]);
        for byte in &rest {
            peer.client.send_raw([*byte]);
        }
        let (first, _, message) = peer.read();
        assert_eq!((first, message), (0xc1, payload.clone()));
    }
}

#[test]
fn the_bit_is_for_first_frames_of_messages_alone() {
    let server = deflating(DeflateConfig::default());
    for wrong in [
        [frame(0x41, b"\xf2"), frame(0x40, b"\x48"), Vec::new()],
        [frame(0x01, b"a"), frame(0xc0, b"b"), Vec::new()],
        [frame(0xc9, b"ping"), Vec::new(), Vec::new()],
        [frame(0xc8, b""), Vec::new(), Vec::new()],
        [frame(0xa1, b""), Vec::new(), Vec::new()],
        [frame(0xd1, b""), Vec::new(), Vec::new()],
        [frame(0xf1, b""), Vec::new(), Vec::new()],
    ] {
        let mut peer = Peer::of(&server, OFFER);
        peer.client.send_raw(wrong.concat());
        let reason = peer.client.expect_close(1002);
        assert!(reason.starts_with("reserved bits "), "{reason}");
    }
}

#[test]
fn bad_compression_ends_its_connection_alone() {
    let server = deflating(DeflateConfig::default());
    let mut good = Peer::of(&server, OFFER);
    let cases: [(&[u8], u16); 3] = [
        (b"\x07", 1002),
        (b"\x00\x05\x00\xfb\xff\x48", 1002),
        // "\xff" in a stored block.
        (b"\x00\x01\x00\xfe\xff\xff\x00", 1007),
    ];
    for (bytes, code) in cases {
        let mut peer = Peer::of(&server, OFFER);
        peer.client.send_frame(0xc1, bytes);
        peer.client.expect_close(code);
    }
    let payload = text(2000, 3);
    good.send(0x81, &payload, true);
    assert_eq!(good.read().2, payload);
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    // CVE-2018-1000518, CVE-2016-10544: both the compressed and the decompressed size are limited.
    let server = Running::start(|builder| {
        echo(builder)
            .deflate(DeflateConfig::default())
            .max_recv_size(100_000)
            .max_send_size(100_000)
    });
    let mut peer = Peer::of(&server, OFFER);
    peer.send(0x82, &vec![0; 100_000], false);
    assert_eq!(peer.read().2.len(), 100_000);
    peer.send(0x82, &vec![0; 100_001], false);
    let reason = peer.client.expect_close(1009);
    assert_eq!(
        reason,
        "message of 100001 bytes exceeds max_recv_size of 100000"
    );
    // In fragments, and with only the header of a large frame.
    let mut peer = Peer::of(&server, OFFER);
    let bomb = peer.compressed(&vec![0; 8 << 20], false);
    assert!(bomb.len() < 10_000, "it is small as it comes");
    for (at, chunk) in bomb.chunks(1000).enumerate() {
        peer.client
            .send_frame(if at == 0 { 0x42 } else { 0 }, chunk);
    }
    peer.client.send_frame(0x80, b"");
    peer.client.expect_close(1009);
    let mut peer = Peer::of(&server, OFFER);
    peer.client.send_raw(&frame(0xc2, &vec![0; 120_000])[..14]);
    peer.client.expect_close(1009);
    // The ratio alone.
    let server = Running::start(|builder| {
        echo(builder)
            .deflate(DeflateConfig::default().max_ratio(100))
            .max_recv_size(1 << 24)
    });
    let mut peer = Peer::of(&server, OFFER);
    peer.send(0x82, &vec![0; 1 << 20], false);
    let reason = peer.client.expect_close(1009);
    assert_eq!(reason, "compressed message expands beyond max_ratio of 100");
}

#[test]
fn windows_are_what_was_agreed_on() {
    let server = deflating(DeflateConfig::dedicated().level(6));
    let mut peer = Peer::of(&server, "permessage-deflate; server_max_window_bits=9");
    assert_eq!(peer.agreed, "permessage-deflate; server_max_window_bits=9");
    // A repetition after more than 512 bytes is not found with this window.
    let half: Vec<u8> = (0..1500u32)
        .map(|at| b' ' + ((at * at / 7 + at) % 90) as u8)
        .collect();
    let twice = [&half[..], &half].concat();
    peer.client.send_frame(0x81, &twice);
    let small = peer.read();
    assert_eq!(small.2, twice);
    let mut wide = Peer::of(&server, "permessage-deflate");
    wide.client.send_frame(0x81, &twice);
    let large = wide.read();
    assert!(large.1 * 4 < small.1 * 3, "{} and {}", large.1, small.1);
}

#[test]
fn contexts_are_kept_as_agreed() {
    let offers = [
        ("permessage-deflate; server_no_context_takeover", false),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            false,
        ),
        ("permessage-deflate; client_no_context_takeover", true),
    ];
    for (offer, keeps) in offers {
        let server = deflating(DeflateConfig::dedicated().server_max_window_bits(15));
        let mut peer = Peer::of(&server, offer);
        assert_eq!(peer.agreed, offer);
        let client_keeps = !offer.contains("client_no");
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let payload = text(4000, 5);
            peer.send(0x81, &payload, client_keeps);
            let (_, size, message) = peer.read();
            assert_eq!(message, payload);
            sizes.push(size);
        }
        assert_eq!(sizes[2] < sizes[0] / 3, keeps, "{offer} {sizes:?}");
    }
}

#[test]
fn broadcasts_are_compressed_once_and_do_not_disturb() {
    let server = Running::start(|builder| {
        let prepared =
            |size| Prepared::text(std::str::from_utf8(&text(size, 6)).expect("it is text"));
        builder
            .deflate(DeflateConfig::dedicated())
            .on(Utf8, move |conn, text| match text.strip_prefix("all ") {
                Some(size) => {
                    let prepared = prepared(size.parse().expect("a number"));
                    conn.server().broadcast_prepared(&prepared).map(|_| ())
                }
                None => conn.send_utf8(text).map(|_| ()),
            })
    });
    let mut peers = [
        Peer::of(&server, OFFER),
        Peer::of(&server, "permessage-deflate; server_max_window_bits=10"),
        Peer::of(&server, "permessage-deflate; server_no_context_takeover"),
        Peer::of(&server, "none"),
    ];
    for round in 0..3 {
        // Each context continues between the broadcasts.
        for peer in &mut peers {
            let payload = text(3000, round);
            peer.client.send_frame(0x81, &payload);
            assert_eq!(peer.read().2, payload);
        }
        peers[round as usize].client.send_text("all 6000");
        for peer in &mut peers {
            let (first, size, message) = peer.read();
            assert_eq!(message, text(6000, 6));
            assert_eq!(first & 0x40 != 0, !peer.agreed.is_empty());
            assert!(peer.agreed.is_empty() || size < 3600, "{size}");
        }
    }
}

#[test]
fn the_handshake_handler_decides() {
    let server = Running::start(|builder| {
        echo(builder)
            .deflate(DeflateConfig::default().threshold(0))
            .on(Handshake, |_, upgrade| {
                assert!(upgrade.deflate().is_some());
                upgrade.set_deflate(None);
            })
            .on(Ready, |conn, ()| assert!(conn.deflate().is_none()))
    });
    let mut peer = Peer::of(&server, OFFER);
    assert_eq!(peer.agreed, "");
    peer.client.send_text("hello hello hello hello hello");
    assert_eq!(peer.read().0, 0x81);
}

#[test]
fn max_send_size_counts_what_it_is_before() {
    let (sender, log) = log();
    let server = Running::start(move |builder: Builder| {
        echo(builder)
            .deflate(DeflateConfig::default())
            .max_send_size(5000)
            .on(Disconnect, move |_, why| sender.send(why.to_string()))
    });
    let mut peer = Peer::of(&server, OFFER);
    for size in [100, 5000] {
        let payload = text(size, 7);
        peer.client.send_frame(0x81, &payload);
        assert_eq!(peer.read().2, payload);
    }
    peer.client.send_frame(0x81, text(5001, 7));
    peer.client.expect_close(1011);
    peer.client.send_close(1011, "");
    log.expect(&["1011 (a handler failed)"]);
}

#[test]
fn dropped_messages_are_missed_by_no_other() {
    // The context of the connection is used before and after its oldest messages are dropped.
    let server = Running::start(|builder| {
        echo(builder)
            .deflate(DeflateConfig::default().threshold(0))
            .max_backlog(50_000)
            .on(Connect, |conn, ()| {
                let socket = conn.socket().expect("a socket");
                SockRef::from(&socket).set_send_buffer_size(16 << 10)
            })
            .on(Binary, |conn, policy| {
                conn.set_slow_consumer(match policy {
                    b"drop" => SlowConsumer::DropOldest,
                    _ => SlowConsumer::Error,
                });
            })
    });
    let mut peer = Peer::of(&server, OFFER);
    for _ in 0..2 {
        for seed in 0..3 {
            peer.send(0x81, &text(3_000, seed), true);
            assert_eq!(peer.read().2, text(3_000, seed));
        }
        peer.client.send_frame(0x82, "drop");
        peer.send(0x81, b"in force", true);
        assert_eq!(peer.read().2, b"in force");
        let flood = |hub: &mut Hub<'_>| {
            for id in hub.ids() {
                let Some(mut conn) = hub.get(id) else {
                    continue;
                };
                for seed in 0..1_000 {
                    let text = text(3_000, seed);
                    let text = String::from_utf8_lossy(&text);
                    assert!(conn.send_utf8(&text).is_ok_and(|sent| !sent.is_dropped()));
                }
            }
        };
        server.handle.run(flood).expect("the server runs");
        let mut next = 0;
        while next < 1_000 {
            let message = peer.read().2;
            let found = (next..1_000).find(|seed| text(3_000, *seed) == message);
            next = found.expect("in order") + 1;
        }
        peer.client.send_frame(0x82, "error");
    }
    assert!(server.stop().dropped_messages > 0);
}

#[test]
fn limits_may_change_while_compression_is_on() {
    let server = Running::start(|builder| {
        builder
            .deflate(DeflateConfig::default())
            .on(Ready, |conn, ()| conn.set_max_send_size(1 << 20))
            .on(Binary, |conn, _| {
                let large = text(300_000, 8);
                conn.send_utf8(std::str::from_utf8(&large).expect("it is text"))
            })
    });
    let mut peer = Peer::of(&server, OFFER);
    peer.client.send_frame(0x82, b"");
    let (first, size, message) = peer.read();
    assert_eq!((first, message.len()), (0xc1, 300_000));
    assert!(size < 150_000, "{size}");
}

/// A compressed message may take the place of one that is not compressed. Later messages with
/// context must not refer to data before it, since the distance in the client's window changed.
#[test]
fn a_replaced_message_does_not_move_the_window() {
    const LARGE: usize = 32 << 20;
    let server = Running::start(|builder| {
        builder
            .deflate(DeflateConfig::dedicated())
            .topics("latest", Topic::new().slow_consumer(SlowConsumer::Conflate))
            .max_send_size(LARGE)
            .max_backlog(4 * LARGE)
            .on(Ready, |conn, ()| conn.subscribe("latest").map(drop))
    });
    let mut peer = Peer::of(&server, "permessage-deflate");
    let words = "the same words again and again, ".repeat(20);
    let ask = |action: fn(&mut Hub<'_>, ConnectionId) -> Published| {
        let answer = server.handle.ask(move |hub| {
            let id = hub.ids()[0];
            action(hub, id)
        });
        let answer = answer.expect("the server runs");
        answer.recv().expect("the server answers")
    };
    fn send_words(hub: &mut Hub<'_>, id: ConnectionId) {
        let words = "the same words again and again, ".repeat(20);
        let message = Outgoing::text(&words).compress(Compress::Yes);
        let mut conn = hub.get(id).expect("it is open");
        conn.send_message(message).expect("it is open");
    }
    fn publish(hub: &mut Hub<'_>, text: &str, compress: Compress) -> Published {
        let message = Outgoing::text(text).compress(compress).key("a");
        hub.publish("latest", message).expect("a small message")
    }
    // The kernel does not accept all of this.
    ask(|hub, id| {
        let large = vec![7; LARGE];
        let message = Outgoing::binary(&large).compress(Compress::No);
        let mut conn = hub.get(id).expect("it is open");
        conn.send_message(message).expect("it is open");
        Published::default()
    });
    let first = ask(|hub, id| {
        send_words(hub, id);
        let published = publish(hub, "not compressed", Compress::No);
        send_words(hub, id);
        published
    });
    assert_eq!((first.queued, first.conflated), (1, 0));
    let second = ask(|hub, id| {
        let text = "compressed, compressed";
        let published = publish(hub, text, Compress::Yes);
        send_words(hub, id);
        published
    });
    assert_eq!((second.queued, second.conflated), (0, 1));
    assert_eq!(peer.read().1, LARGE);
    for text in [&words, "compressed, compressed", &words, &words] {
        assert_eq!(peer.read().2, text.as_bytes());
    }
}
