//! Attacks with compressed messages and with offers of compression.

use wsloop::DeflateConfig;
use wsloop::event::{Handshake, Utf8};
use wsloop::protocol::deflate::{Context, Deflater};

use crate::support::{Client, Response, Running, echo, frame, request_with};

fn deflating(limit: usize) -> Running {
    Running::start(move |builder| {
        echo(builder)
            .deflate(DeflateConfig::default())
            .max_recv_size(limit)
            .max_send_size(usize::MAX)
    })
}

fn offer(server: &Running, extensions: &str) -> (Client, Response) {
    let mut client = server.client();
    let line = format!("Sec-WebSocket-Extensions: {extensions}\r\n");
    let response = client.request(request_with(&line));
    (client, response)
}

/// Connects a client that has negotiated compression.
fn agreed(server: &Running) -> Client {
    let (client, response) = offer(server, "permessage-deflate; server_no_context_takeover");
    assert_eq!(response.status, 101);
    assert!(response.header("sec-websocket-extensions").is_some());
    client
}

fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(Deflater::new(9, 15).message(payload, Context::Reset, &mut bytes));
    bytes
}

#[test]
fn a_bomb_stops_at_the_limit_however_it_comes() {
    const LIMIT: usize = 256 << 10;
    let server = deflating(LIMIT);
    for (size, code) in [
        (LIMIT - 1, None),
        (LIMIT, None),
        (LIMIT + 1, Some(1009)),
        (2 * LIMIT, Some(1009)),
        (32 * LIMIT, Some(1009)),
    ] {
        let bomb = compressed(&vec![0; size]);
        assert!(bomb.len() < size / 900, "a thousand times smaller");
        for pieces in [1, 2, 100] {
            let mut client = agreed(&server);
            let part = bomb.len().div_ceil(pieces);
            let last = bomb.chunks(part).count() - 1;
            for (at, chunk) in bomb.chunks(part).enumerate() {
                let first = if at == 0 { 0x42 } else { 0x00 };
                let fin = if at == last { 0x80 } else { 0x00 };
                client.send_frame(first | fin, chunk);
            }
            match code {
                None => assert_eq!(client.read_frame().payload.len(), size),
                Some(code) => {
                    let reason = client.expect_close(code);
                    assert!(reason.contains("max_recv_size of 262144"), "{reason}");
                    client.expect_eof();
                }
            }
        }
    }
    agreed(&server).expect_alive();
}

#[test]
fn what_is_larger_than_the_limit_as_it_comes_is_refused_at_the_header() {
    let server = deflating(1_000);
    let mut client = agreed(&server);
    // Empty stored blocks, which decompress to nothing.
    let empty = b"\x00\x00\x00\xff\xff".repeat(400);
    client.send_raw(&frame(0xc2, &empty)[..8]);
    client.expect_close(1009);
    let mut client = agreed(&server);
    client.send_frame(0x42, &empty[..600]);
    client.send_raw(&frame(0x80, &empty[..1_000])[..8]);
    client.expect_close(1009);
}

#[test]
fn window_bits_of_every_value_and_form_are_agreed_on_or_declined() {
    let server = deflating(65_536);
    let mut offers: Vec<(String, bool)> = Vec::new();
    for bits in 0..100u32 {
        let server = (9..16).contains(&bits);
        let client = (8..16).contains(&bits);
        offers.push((format!("; server_max_window_bits={bits}"), server));
        offers.push((format!("; client_max_window_bits={bits}"), client));
        offers.push((format!("; server_max_window_bits=\"{bits}\""), server));
    }
    for value in [
        "=",
        "=\"\"",
        "=-9",
        "=+9",
        "=09",
        "= 9 9",
        "=9.0",
        "=0x9",
        "=9\t;",
        "=\"9",
        "=9\"",
        "=\"\\\"",
        "=4294967305",
        "=18446744073709551625",
        "=\u{661}\u{665}",
        "==9",
        "=,9",
        "; =9",
        "=9=9",
        "=\"9\"9",
    ] {
        offers.push((format!("; server_max_window_bits{value}"), false));
        offers.push((format!("; client_max_window_bits{value}"), false));
    }
    for name in [
        "server_max_window_bits=10",
        "client_max_window_bits=10",
        "client_max_window_bits",
        "server_no_context_takeover",
        "client_no_context_takeover",
    ] {
        // Twice, together with an unknown parameter, and in upper case.
        offers.push((format!("; {name}; {name}"), false));
        offers.push((format!("; {name}; unknown"), false));
        offers.push((format!("; {}", name.to_uppercase()), false));
    }
    offers.push(("; server_max_window_bits".into(), false));
    offers.push(("; server_no_context_takeover=1".into(), false));
    for (parameters, good) in offers {
        let (mut client, response) = offer(&server, &format!("permessage-deflate{parameters}"));
        if good {
            assert_eq!(response.status, 101, "{parameters}");
        }
        if response.status == 400 {
            client.expect_eof();
            continue;
        }
        let answer = response.header("sec-websocket-extensions");
        assert_eq!(answer.is_some(), good, "{parameters}: {answer:?}");
        client.expect_alive();
    }
}

#[test]
fn broken_streams_end_their_own_connection_and_never_panic() {
    let server = deflating(65_536);
    let mut good = agreed(&server);
    let text = "to be, or not to be: \u{e9} ".repeat(4);
    let whole = compressed(text.as_bytes());
    let mut streams = Vec::new();
    for at in 0..whole.len() {
        streams.push(whole[..at].to_vec());
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            streams.push(flipped);
        }
    }
    for stream in streams {
        let mut client = agreed(&server);
        client.send_frame(0xc1, &stream);
        let answer = client.read_frame();
        match answer.first {
            // The changed stream may still be a valid message.
            0x81 | 0xc1 => {}
            _ => {
                let code = u16::from_be_bytes([answer.payload[0], answer.payload[1]]);
                assert!([1002, 1007, 1009].contains(&code), "{code}");
                client.expect_eof();
            }
        }
    }
    good.expect_alive();
}

#[test]
fn compression_is_held_off_until_the_application_trusts_the_client() {
    let server = Running::start(|builder| {
        builder
            .deflate(DeflateConfig::default())
            .on(Handshake, |_, upgrade| {
                if upgrade.request().cookie("token") != Some("s3cret") {
                    upgrade.set_deflate(None);
                }
            })
            .on(Utf8, |conn, text| conn.send_utf8(text))
    });
    let bomb = frame(0xc1, &compressed(&[b'x'; 60_000]));
    let (mut client, response) = offer(&server, "permessage-deflate");
    assert_eq!(response.header("sec-websocket-extensions"), None);
    client.send_raw(&bomb);
    // The server does not decompress it.
    client.expect_close(1002);
    let mut client = server.client();
    let lines = "Sec-WebSocket-Extensions: permessage-deflate\r\nCookie: token=s3cret\r\n";
    let response = client.request(request_with(lines));
    assert!(response.header("sec-websocket-extensions").is_some());
    client.send_raw(&bomb);
    assert_eq!(client.read_frame().first, 0xc1);
}

#[test]
fn extension_tokens_of_every_length_are_bounded() {
    let server = Running::start(|builder| {
        echo(builder)
            .deflate(DeflateConfig::default())
            .max_handshake_size(128 << 10)
    });
    let default = deflating(65_536);
    for size in [
        1, 2, 63, 64, 65, 127, 128, 255, 256, 8_190, 8_191, 8_192, 8_193, 16_000, 65_535, 65_536,
    ] {
        let token = "x".repeat(size);
        for value in [
            token.clone(),
            format!("{token}; {token}={token}"),
            format!("permessage-deflate; {token}"),
            format!("permessage-deflate; server_max_window_bits={token}"),
            format!("permessage-deflate; server_max_window_bits=\"{token}\""),
            vec!["x"; size / 2 + 1].join(","),
            vec!["permessage-deflate"; size / 20 + 1].join(","),
        ] {
            let total = value.len();
            let (mut client, response) = offer(&server, &value);
            if total > 127 << 10 {
                assert_eq!(response.status, 431, "{size}");
                continue;
            }
            assert_eq!(response.status, 101, "{size}");
            client.expect_alive();
            if !(16_000..17_000).contains(&total) {
                let expected = if total < 16_000 { 101 } else { 431 };
                assert_eq!(offer(&default, &value).1.status, expected, "{size}");
            }
        }
    }
}
