//! The counters of the server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use crate::support;
use crate::support::{PATIENCE, REQUEST, Running, frame};
use wsloop::event::{Disconnect, Fragment, Utf8};
#[cfg(feature = "deflate")]
use wsloop::protocol::deflate::{Context, Deflater};

#[test]
fn messages_and_bytes_are_counted() {
    let server = Running::echo();
    let mut client = server.ready();
    // A short message, several at once, one that is cut, a large one, and control frames.
    let small = frame(0x81, b"hello");
    let bytes = [
        small.clone(),
        small.repeat(3),
        frame(0x82, &[7; 300]),
        frame(0x89, b"ping"),
        frame(0x82, &[7; 60_000]),
    ];
    let mut sent = REQUEST.len();
    for part in &bytes {
        sent += part.len();
        client.send_raw(&part[..part.len() - 1]);
        client.send_raw(&part[part.len() - 1..]);
    }
    let mut received = 0;
    for _ in 0..7 {
        let frame = client.read_frame();
        let head = match frame.payload.len() {
            0..126 => 2,
            _ => 4,
        };
        received += head + frame.payload.len();
    }
    sent += frame(0x88, &1000u16.to_be_bytes()).len();
    received += 4;
    client.send_close(1000, "");
    client.read_frame();
    client.expect_eof();
    let stats = server.stop();
    assert_eq!((stats.messages_in, stats.messages_out), (6, 6));
    assert_eq!(stats.bytes_in, sent as u64);
    let answer = stats.bytes_out - received as u64;
    assert!((100..400).contains(&answer), "the 101 has {answer} bytes");
}

#[test]
fn each_connection_is_counted_if_that_is_asked_for() {
    let (sender, log) = support::log();
    let server = Running::start(move |builder| {
        support::echo(builder)
            .connection_stats(true)
            .on(Utf8, |conn, text| {
                if text == "all" {
                    let _ = conn.server().broadcast_utf8("to all");
                }
                let stats = conn.stats().unwrap();
                conn.send_utf8(&format!("{} {}", stats.messages_in, stats.bytes_in))
            })
            .on(Disconnect, move |conn, _| {
                let stats = conn.stats().unwrap();
                let counts = (
                    stats.messages_in,
                    stats.messages_out,
                    stats.bytes_in,
                    stats.bytes_out,
                );
                sender.send(format!("{counts:?}"))
            })
    });
    let mut client = server.client();
    client.send_raw(REQUEST);
    let answer = client.response();
    assert_eq!(answer.status, 101);
    let head = answer.status_line.len()
        + answer
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum::<usize>()
        + 4;
    let mut other = server.ready();
    let mut sent = REQUEST.len();
    let mut expected = Vec::new();
    for (count, text) in ["a", "all"].iter().enumerate() {
        let frame = frame(0x81, text.as_bytes());
        sent += frame.len();
        client.send_raw(frame);
        if *text == "all" {
            client.expect_text("to all");
            expected.push("to all".to_owned());
        }
        let answer = format!("{} {sent}", count + 1);
        client.expect_text(&answer);
        expected.push(answer);
    }
    let large = frame(0x82, &[7; 60_000]);
    sent += large.len();
    client.send_raw(large);
    client.read_frame();
    let ping = frame(0x89, b"ping");
    sent += ping.len();
    client.send_raw(ping);
    client.expect_frame(0x8a, "ping");
    sent += frame(0x88, &1000u16.to_be_bytes()).len();
    client.send_close(1000, "");
    client.expect_close(1000);
    client.expect_eof();
    let texts: usize = expected.iter().map(|text| 2 + text.len()).sum();
    let received = head + texts + 60_004 + 6 + 4;
    assert_eq!(
        log.next(),
        format!("{:?}", (3, expected.len() + 1, sent, received))
    );
    // The other client received only the broadcast.
    other.expect_text("to all");
    other.send_close(1000, "");
    other.expect_close(1000);
    let sent = REQUEST.len() + 8;
    assert_eq!(log.next(), format!("{:?}", (0, 1, sent, head + 8 + 4)));
    let stats = server.stop();
    assert_eq!((stats.messages_in, stats.messages_out), (3, 5));
}

#[test]
fn without_it_there_are_none() {
    let server = Running::start(|builder| {
        builder.on(Utf8, |conn, _| {
            assert_eq!(conn.stats(), None);
            conn.send_utf8("none")
        })
    });
    let mut client = server.ready();
    client.send_text("?");
    client.expect_text("none");
}

#[test]
fn what_was_counted_is_fetched_once() {
    let server = Running::echo();
    let mut client = server.ready();
    client.expect_alive();
    let fetch = || {
        let answer = server.handle.ask(|hub| (hub.fetch_stats(), hub.stats()));
        answer.unwrap().recv_timeout(PATIENCE).unwrap()
    };
    let (first, all) = fetch();
    assert_eq!(first, all);
    assert!(all.messages_in > 0 && all.accepted == 1 && all.time > Duration::ZERO);
    let (second, still) = fetch();
    assert_eq!((second.messages_in, second.accepted), (0, 0));
    assert_eq!(second.time, still.time - all.time);
    client.send_text("hello");
    client.expect_text("hello");
    let (third, _) = fetch();
    assert_eq!((third.messages_in, third.messages_out), (1, 1));
    assert_eq!((third.bytes_in, third.bytes_out), (11, 7));
    assert!(third.rates().bytes_in > third.rates().bytes_out);
}

#[test]
fn a_message_in_pieces_is_one() {
    let server = Running::start(|builder| {
        builder
            .connection_stats(true)
            .on(Fragment, |conn, piece| match conn.stats() {
                Some(stats) if piece.last => conn
                    .send_utf8(&format!("{} {}", stats.messages_in, stats.bytes_in))
                    .map(|_| ()),
                _ => Ok(()),
            })
    });
    let mut client = server.ready();
    let mut sent = REQUEST.len();
    for count in 1..4 {
        for first in [0x01, 0x00, 0x80] {
            let part = frame(first, b"part");
            sent += part.len();
            client.send_raw(part);
        }
        client.expect_text(&format!("{count} {sent}"));
    }
    assert_eq!(server.stop().messages_in, 3);
}

#[cfg(feature = "deflate")]
#[test]
fn a_compressed_message_is_one() {
    let server = Running::start(|builder| {
        builder
            .connection_stats(true)
            .deflate(wsloop::DeflateConfig::shared())
            .on(Utf8, |conn, text| {
                let stats = conn.stats().unwrap();
                conn.send_utf8(&format!(
                    "{} {} {}",
                    text.len(),
                    stats.messages_in,
                    stats.bytes_in
                ))
            })
    });
    let mut client = server.client();
    let request = support::request_with("Sec-WebSocket-Extensions: permessage-deflate\r\n");
    assert_eq!(client.request(&request).status, 101);
    let mut sent = request.len();
    for count in 1..4 {
        let mut bytes = Vec::new();
        let mut deflater = Deflater::new(6, 15);
        assert!(deflater.message(&[b'a'; 1000], Context::Reset, &mut bytes));
        let bytes = frame(0xc1, &bytes);
        sent += bytes.len();
        client.send_raw(bytes);
        client.expect_text(&format!("1000 {count} {sent}"));
    }
    assert_eq!(server.stop().messages_in, 3);
}
