//! Messages come back unchanged.

use crate::support;
use crate::support::Running;

#[test]
fn text_and_binary_come_back() {
    let server = Running::echo();
    let mut client = server.ready();
    client.send_text("Grüße");
    client.expect_text("Grüße");
    client.send_frame(0x82, [0, 255, 7]);
    client.expect_frame(0x82, [0, 255, 7]);
    client.send_text("");
    client.expect_text("");
}

#[test]
fn sizes_around_every_encoding_come_back() {
    let server = Running::start(|builder| {
        support::echo(builder.max_recv_size(1 << 20).max_send_size(1 << 20))
    });
    let mut client = server.ready();
    for size in [
        0,
        1,
        125,
        126,
        127,
        8191,
        8192,
        65_535,
        65_536,
        65_537,
        600_000,
        1 << 20,
    ] {
        let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        client.send_frame(0x82, &payload);
        client.expect_frame(0x82, &payload);
        let text: String = "aé€𝄞".chars().cycle().take(size / 4).collect();
        client.send_text(&text);
        client.expect_text(&text);
    }
}

#[test]
fn fragments_come_back_as_one_message() {
    let server = Running::echo();
    let mut client = server.ready();
    client.send_frame(0x01, "He");
    client.send_frame(0x89, "are you there?");
    client.expect_frame(0x8a, "are you there?");
    client.send_frame(0x00, "");
    client.send_frame(0x80, "llo");
    client.expect_text("Hello");
}

#[test]
fn bytes_may_come_one_by_one() {
    let server = Running::echo();
    let mut client = server.client();
    for byte in support::REQUEST.as_bytes() {
        client.send_raw([*byte]);
    }
    assert_eq!(client.response().status, 101);
    for byte in support::frame(0x81, "slow €".as_bytes()) {
        client.send_raw([byte]);
    }
    client.expect_text("slow €");
}

#[test]
fn many_messages_in_one_segment_are_answered_in_order() {
    let server = Running::echo();
    let mut client = server.ready();
    let texts: Vec<String> = (0..5000).map(|at| format!("message {at}")).collect();
    let bytes: Vec<u8> = texts
        .iter()
        .flat_map(|text| support::frame(0x81, text.as_bytes()))
        .collect();
    client.send_raw(bytes);
    for text in &texts {
        client.expect_text(text);
    }
}
