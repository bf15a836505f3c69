//! The limits on messages apply exactly, to the byte and to the frame, for the server and for a
//! connection.

mod support;

use support::client_frames::{frame, header};
use support::{REQUEST, Running, log};
use wsloop::event::{Binary, Connect, Ready, Utf8};
use wsloop::{Connection, Prepared, SendError, Sent};

#[test]
fn received_messages_in_one_frame() {
    for limit in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let server = Running::start(move |builder| {
            let builder = support::echo(builder).max_send_size(1 << 20);
            // This is the default.
            if limit == 65_536 {
                builder
            } else {
                builder.max_recv_size(limit)
            }
        });
        let mut client = server.ready();
        for first in [0x81, 0x82] {
            for size in [limit, limit / 2] {
                let payload = vec![b'x'; size];
                client.send_frame(first, &payload);
                let echo = client.read_frame();
                assert!(echo.first == first && echo.payload == payload, "{size}");
            }
        }
        for (first, size) in [(0x81, limit + 1), (0x82, limit + 1), (0x01, limit + 1)] {
            // The header alone exceeds the limit; the payload is never sent.
            let mut client = server.ready();
            client.send_raw(header(first, size as u64));
            client.expect_close(1009);
            client.expect_eof();
        }
        // The limit does not apply to control frames.
        client.send_frame(0x89, "a ping");
        client.expect_frame(0x8a, "a ping");
    }
}

#[test]
fn received_messages_in_fragments() {
    let server = Running::start(|builder| support::echo(builder).max_recv_size(1000));
    for sizes in [
        &[500, 500][..],
        &[1000, 0],
        &[0, 1000],
        &[999, 1],
        &[1, 999],
        &[0, 0, 1000, 0, 0],
        &[1; 1000],
    ] {
        let mut client = server.ready();
        let mut message = Vec::new();
        for (at, size) in sizes.iter().enumerate() {
            let first = if at == 0 { 0x02 } else { 0x00 };
            message.extend(frame(first, &vec![7; *size]));
        }
        let whole = [&message[..], &frame(0x80, b"")].concat();
        client.send_raw(&whole);
        let echo = client.read_frame();
        assert!(echo.payload == [7; 1000], "{sizes:?}");
        // Each message counts from zero.
        client.send_raw(&whole);
        assert!(client.read_frame().payload == [7; 1000], "{sizes:?}");
        // One byte more, which is announced and never sent.
        client.send_raw([&message[..], &header(0x00, 1)].concat());
        client.expect_close(1009);
        client.expect_eof();
        // The sum of the lengths overflows.
        let mut client = server.ready();
        client.send_raw([&message[..], &header(0x80, i64::MAX as u64)].concat());
        client.expect_close(1009);
        client.expect_eof();
    }
    server.ready().expect_alive();
}

#[test]
fn a_connection_s_own_limit_of_what_it_receives() {
    let server = Running::start(|builder| {
        builder
            .max_recv_size(100)
            .on(Connect, |conn, ()| {
                assert_eq!(conn.max_recv_size(), 100);
                conn.set_max_recv_size(50);
            })
            .on(Ready, |conn, ()| {
                assert_eq!(conn.max_recv_size(), 50);
                if conn.request().and_then(|request| request.query()) == Some("large") {
                    conn.set_max_recv_size(200_000);
                }
            })
            .on(Binary, |conn, data| conn.send_utf8(&data.len().to_string()))
            .on(Utf8, |conn, text| {
                let size = text.parse().unwrap_or(0);
                conn.set_max_recv_size(size);
                assert_eq!(conn.max_recv_size(), size);
            })
    });
    let mut small = server.ready();
    let mut large = server.client();
    large.send_raw(REQUEST.replace("room=7", "large"));
    assert_eq!(large.response().status, 101);
    // The limits of the two connections are independent.
    for size in [200_000, 50] {
        large.send_frame(0x82, vec![0; size]);
        large.expect_text(&size.to_string());
    }
    small.send_frame(0x82, [0; 50]);
    small.expect_text("50");
    // A handler changes the limit between two messages of the same segment.
    small.send_raw([frame(0x81, b"60"), frame(0x82, &[0; 60])].concat());
    small.expect_text("60");
    small.send_raw([frame(0x81, b"10"), frame(0x82, &[0; 11])].concat());
    small.expect_close(1009);
    small.expect_eof();
    large.send_raw(header(0x82, 200_001));
    large.expect_close(1009);
    large.expect_eof();
    let mut next = server.ready();
    next.send_raw(header(0x82, 51));
    next.expect_close(1009);
}

#[test]
fn what_is_too_large_to_send_is_an_error_and_nothing_is_sent() {
    let server = Running::start(|builder| {
        builder
            .max_send_size(1000)
            .on(Connect, |conn, ()| assert_eq!(conn.max_send_size(), 1000))
            .on(Utf8, |conn, _| {
                expect_limit(conn, 1000);
                conn.set_max_send_size(2000);
                expect_limit(conn, 2000);
                conn.set_max_send_size(10);
                expect_limit(conn, 10);
                // The connection stays open.
                conn.send_utf8("done")
            })
    });
    for _ in 0..2 {
        let mut client = server.ready();
        client.send_text("try");
        for limit in [1000, 2000, 10] {
            client.expect_frame(0x82, vec![b'x'; limit]);
            client.expect_frame(0x81, vec![b'x'; limit]);
            client.expect_frame(0x82, vec![b'x'; limit]);
        }
        client.expect_text("done");
        // The limit does not apply to control frames.
        client.send_frame(0x89, "longer than 10 bytes");
        client.expect_frame(0x8a, "longer than 10 bytes");
    }
}

/// Sends a message of the largest allowed size, and tries larger ones.
fn expect_limit(conn: &mut Connection<'_>, limit: usize) {
    assert_eq!(conn.max_send_size(), limit);
    let over = "x".repeat(limit + 1);
    let exact = &over[1..];
    let too_big = Err(SendError::TooBig {
        size: limit + 1,
        limit,
    });
    let head = if limit > 125 { 4 } else { 2 };
    assert_eq!(conn.send_utf8(&over).map(Sent::bytes), too_big);
    assert_eq!(
        conn.send_binary(exact.as_bytes()).map(Sent::bytes),
        Ok(limit + head)
    );
    assert_eq!(conn.send_binary(over.as_bytes()).map(Sent::bytes), too_big);
    assert_eq!(conn.send_utf8(exact).map(Sent::bytes), Ok(limit + head));
    assert_eq!(
        conn.send_prepared(&Prepared::text(&over)).map(Sent::bytes),
        too_big
    );
    let prepared = Prepared::binary(exact.as_bytes());
    assert_eq!(
        conn.send_prepared(&prepared).map(Sent::bytes),
        Ok(limit + head)
    );
}

#[test]
fn pings_and_pongs_have_at_most_125_bytes() {
    let server = Running::start(|builder| {
        builder.on(Utf8, |conn, _| {
            let too_long = Err(SendError::ControlTooLong { size: 126 });
            assert_eq!(conn.ping([0; 126]), too_long);
            assert_eq!(conn.pong([0; 126]), too_long);
            conn.ping([1; 125])?;
            conn.pong([2; 125])
        })
    });
    let mut client = server.ready();
    client.send_text("x");
    client.expect_frame(0x89, [1; 125]);
    client.expect_frame(0x8a, [2; 125]);
    // The longest ping that a client may send.
    client.send_frame(0x89, [3; 125]);
    client.expect_frame(0x8a, [3; 125]);
}

#[test]
fn fragments_at_the_limit_and_beyond() {
    for limit in [1, 2, 3, 1000, 131_072] {
        let server = Running::start(move |builder| {
            let builder = support::echo(builder);
            // This is the default.
            if limit == 131_072 {
                builder
            } else {
                builder.max_fragments(limit)
            }
        });
        // Empty fragments count; control frames between them do not.
        let mut client = server.ready();
        let start = [frame(0x01, b""), frame(0x00, b"").repeat(limit - 1)].concat();
        let mut whole = start.clone();
        let last = start.len() - 6;
        whole[last] |= 0x80;
        for _ in 0..2 {
            client.send_raw(&whole);
            client.expect_text("");
        }
        client.send_raw([&start[..], &frame(0x89, b""), &frame(0x8a, b"")].concat());
        client.expect_frame(0x8a, "");
        client.send_raw(header(0x80, 0));
        client.expect_close(1008);
        client.expect_eof();
        server.ready().expect_alive();
    }
}

#[test]
fn a_million_tiny_fragments() {
    const COUNT: usize = 1_000_000;
    for (size, limit) in [(0, usize::MAX), (1, usize::MAX), (0, 131_072), (1, 131_072)] {
        let server = Running::start(move |builder| {
            builder
                .max_fragments(limit)
                .max_recv_size(COUNT)
                .on(Binary, |conn, data| conn.send_utf8(&data.len().to_string()))
        });
        let mut other = server.ready();
        let mut client = server.ready();
        client.send_frame(0x02, "");
        let some = frame(0x00, &vec![7; size]).repeat(1000);
        for _ in 0..COUNT / 1000 {
            client.send_raw(&some);
        }
        client.send_frame(0x80, "");
        if limit == usize::MAX {
            client.expect_text(&(size * COUNT).to_string());
        } else {
            client.expect_close(1008);
            client.expect_eof();
        }
        other.send_frame(0x82, "abc");
        other.expect_text("3");
    }
}

#[test]
fn memory_follows_what_came_and_not_what_was_announced() {
    let server = Running::start(|builder| support::echo(builder).max_recv_size(usize::MAX));
    let mut other = server.ready();
    let before = peak();
    let mut stay = Vec::new();
    for len in [1 << 30, 1 << 40, 1 << 62, i64::MAX as u64] {
        for _ in 0..50 {
            let mut client = server.ready();
            client.send_raw(header(0x82, len));
            client.send_raw([0; 1000]);
            stay.push(client);
            let mut client = server.ready();
            // As a second frame, where the sum of the lengths overflows.
            client.send_raw([frame(0x02, b"x"), header(0x80, len), vec![0; 1000]].concat());
            stay.push(client);
        }
        other.expect_alive();
    }
    // The announced lengths are 400 GiB or more.
    let more = peak() - before;
    assert!(more < 16 << 30, "{more} bytes more");
    drop(stay);
    other.expect_alive();
}

/// Returns the peak address space of this process in bytes, or 0 if the system does not report it.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmPeak:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kib.unwrap_or(0u64) << 10
}

#[test]
fn the_limit_that_was_hit_is_named() {
    let (sender, log) = log();
    let server = Running::start(move |builder| {
        support::recorded(builder, &sender)
            .max_recv_size(100)
            .max_fragments(2)
    });
    let mut client = server.ready();
    client.send_raw(header(0x82, 101));
    let reason = client.expect_close(1009);
    assert!(
        reason.contains("101") && reason.contains("max_recv_size of 100"),
        "{reason}"
    );
    log.expect(&["connect", "ready", &format!("error: {reason}")]);
    log.expect(&[&format!("disconnect 1009 ({reason}) {reason}")]);
    let mut client = server.ready();
    client.send_raw([frame(0x02, b""), frame(0x00, b""), frame(0x80, b"")].concat());
    let reason = client.expect_close(1008);
    assert!(reason.contains("max_fragments of 2"), "{reason}");
    log.expect(&["connect", "ready", &format!("error: {reason}")]);
    log.expect(&[&format!("disconnect 1008 ({reason}) {reason}")]);
}
