//! Data that is not TLS, and TLS in unusual records: the connection ends in time, and the next
//! client is served.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::time::{Duration, Instant};

use wsloop::Server;

use crate::support::events::record;
use crate::support::tls::Identity;
use crate::support::{Client, PATIENCE, Running, echo, log};

fn start(identity: &Identity) -> (Running, crate::support::Log) {
    let (sender, log) = log();
    let tls = identity.server.clone();
    let server = Running::start_on(move || {
        record(Server::builder().listen_tls("127.0.0.1:0", tls), &sender)
    });
    (server, log)
}

/// Returns a ClientHello in one record.
fn hello(identity: &Identity) -> Vec<u8> {
    let mut bytes = Vec::new();
    while identity.session().wants_write() && bytes.is_empty() {
        identity.session().write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn record_of(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    [&[kind, 3, 3], &len[..], payload].concat()
}

/// Sends bytes and a FIN; returns the bytes that the server sends.
fn said(server: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut client = server.client();
    // The server may end the connection while the client sends.
    let _ = client.stream.write_all(bytes);
    let _ = client.stream.shutdown(std::net::Shutdown::Write);
    client.read_to_end()
}

#[test]
fn odd_records_end_their_own_connection_alone() {
    let identity = Identity::new();
    let (server, log) = start(&identity);
    let hello = hello(&identity);
    let message = &hello[5..];
    let mut inputs: Vec<Vec<u8>> = vec![
        Vec::new(),
        // Empty records of each type, in large numbers.
        record_of(0x16, b"").repeat(5_000),
        record_of(0x17, b"").repeat(5_000),
        record_of(0x14, b"\x01").repeat(5_000),
        // Warnings and meaningless alerts.
        record_of(0x15, b"\x01\x5a").repeat(5_000),
        record_of(0x15, b"\xff\xff"),
        record_of(0x15, b"\x01"),
        // Application data, heartbeats and unknown types before a handshake.
        record_of(0x17, &[7; 1_000]),
        record_of(0x18, b"\x01\x40\x00"),
        record_of(0x80, b"x"),
        record_of(0xff, &[0xff; 16_384]),
        // Records that are too long by one byte or by many, and incomplete ones.
        record_of(0x16, &[1; (1 << 14) + 2_049]),
        record_of(0x16, &[1; 65_535]),
        vec![0x16, 3, 1, 0x48, 0x01],
        vec![0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff],
        // SSL 2, and versions that do not exist.
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec(),
        [&[0x16, 0xff, 0xff], &hello[3..]].concat(),
        // A second ClientHello after the first one, and one that announces 16 MiB, in pieces.
        hello.repeat(2),
        [
            &record_of(0x16, b"\x01\xff\xff\xff")[..],
            &record_of(0x16, &[0; 16_000]).repeat(20),
        ]
        .concat(),
        // Pieces of one byte that never form a message.
        [
            &record_of(0x16, b"\x01\x00\xff\x00")[..],
            &record_of(0x16, b"x").repeat(20_000),
        ]
        .concat(),
    ];
    for at in (0..hello.len()).step_by(3) {
        inputs.push(hello[..at].to_vec());
        let mut flipped = hello.clone();
        flipped[at] ^= 0xff;
        inputs.push(flipped);
    }
    let count = inputs.len();
    for bytes in &inputs {
        let answer = said(&server, bytes);
        // The server sends nothing or TLS, but never plain text.
        assert!(
            answer.is_empty() || (0x14..=0x17).contains(&answer[0]),
            "{}",
            answer.escape_ascii()
        );
    }
    // A ClientHello in records of one byte is valid.
    let pieces: Vec<u8> = message
        .chunks(1)
        .flat_map(|byte| record_of(0x16, byte))
        .collect();
    assert_eq!(said(&server, &pieces).first(), Some(&0x16));
    identity.ready(server.addr);
    server.stop();
    let entries = log.rest();
    let counted = |what: &str| {
        entries
            .iter()
            .filter(|entry| entry.starts_with(what))
            .count()
    };
    assert_eq!(counted("connect"), count + 2);
    assert_eq!(counted("disconnect"), count + 2);
    assert_eq!(counted("ready"), 1);
}

#[test]
fn a_handshake_of_tls_that_drips_does_not_put_its_end_off() {
    const SHORT: Duration = Duration::from_millis(100);
    let identity = Identity::new();
    let tls = identity.server.clone();
    let server = Running::start_on(move || {
        echo(Server::builder().listen_tls("127.0.0.1:0", tls)).handshake_timeout(SHORT)
    });
    let endless = record_of(0x16, b"").repeat(10_000);
    for bytes in [hello(&identity), [hello(&identity), endless].concat()] {
        let mut client: Client = server.client();
        let started = Instant::now();
        // The loop ends when the server cuts the connection, or when all bytes are sent.
        for byte in bytes {
            if client.stream.write_all(&[byte]).is_err() {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "it is never cut");
            std::thread::sleep(Duration::from_millis(1));
        }
        client.read_to_end();
    }
    let mut good = identity.ready(server.addr);
    good.expect_alive();
}
