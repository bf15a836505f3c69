//! A value that an application passes on cannot split a response, whatever bytes it contains.

use wsloop::AnswerError;
use wsloop::event::{Handshake, Request};
use wsloop::handshake::Refusal;
use wsloop::plain_http::Response;

use crate::support::{REQUEST, Running, echo};

/// Returns strings with each ASCII character, and with some others.
fn texts() -> impl Iterator<Item = String> {
    let ascii = (0..128u8).map(|byte| format!("a{}b", char::from(byte)));
    ascii.chain(["a\u{85}b", "a\u{2028}b", "a\u{10d}b", "a\u{ff0d}b"].map(str::to_owned))
}

/// Returns whether a header value or a reason phrase may contain the text (RFC 9110, 5.5).
fn is_text(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

#[test]
fn every_byte_in_every_part_of_a_plain_answer() {
    let server = Running::start(|builder| {
        builder.on(Request, |_, request| {
            let part = request.query_param("part").unwrap_or_default();
            let text = request.query_param("text").unwrap_or_default();
            let answer = Response::new(200)
                .header("X-Last", "good")
                .body("\r\nX-Body: b");
            let answer = match &*part {
                "reason" => answer.reason(&text),
                "value" => answer.header("X-Part", &text),
                "name" => answer.header(&text, "b"),
                "cookie name" => answer.cookie(&text, "b", ""),
                "cookie value" => answer.cookie("b", &text, ""),
                _ => answer.cookie("b", "c", &text),
            };
            // Without this check the response is sent without the invalid part.
            let checked = answer.check().is_ok();
            answer.header("X-Checked", if checked { "yes" } else { "no" })
        })
    });
    let parts = [
        "reason",
        "value",
        "name",
        "cookie+name",
        "cookie+value",
        "cookie+attribute",
    ];
    for part in parts {
        for text in texts() {
            let mut query = String::new();
            for byte in text.bytes() {
                query += &format!("%{byte:02x}");
            }
            let mut client = server.client();
            let request = format!("GET /?part={part}&text={query} HTTP/1.1\r\nHost: a\r\n\r\n");
            let response = client.request(request);
            // An invalid part causes a 500, or is omitted.
            assert!([200, 500].contains(&response.status), "{part} {text:?}");
            let names: Vec<_> = response.headers.iter().map(|(name, _)| &**name).collect();
            assert!(!names.contains(&"x-body"), "{part} {text:?}");
            if response.status == 200 {
                assert_eq!(response.body, b"\r\nX-Body: b", "{part} {text:?}");
                let part = part == "value" || part == "reason";
                assert!(!part || is_text(&text), "{text:?}");
            } else {
                let good = is_text(&text) && part != "name" && !part.starts_with("cookie");
                assert!(!good, "{part} {text:?}");
            }
            // If the connection stays open, the next request is answered as usual.
            if response.header("connection").is_none() {
                let plain = "GET /?part=value&text=x HTTP/1.1\r\nHost: a\r\n\r\n";
                assert_eq!(client.request(plain).status, 200, "{part} {text:?}");
            }
        }
    }
}

#[test]
fn every_byte_in_every_part_of_an_answer_to_an_upgrade() {
    let server = Running::start(|builder| {
        echo(builder).on(Handshake, |_, upgrade| {
            for text in texts() {
                let good = is_text(&text);
                let tokens = text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
                assert_eq!(upgrade.header("X-Part", &text).is_ok(), good, "{text:?}");
                assert_eq!(upgrade.header(&text, "b").is_ok(), tokens, "{text:?}");
                let set = upgrade.set_subprotocol(&text);
                assert_eq!(set, Err(AnswerError::SubprotocolNotOffered), "{text:?}");
                let refusals = [
                    Refusal::new(403).reason(&text),
                    Refusal::new(403).header("X-Part", &text),
                ];
                for refusal in refusals {
                    assert_eq!(refusal.check().is_ok(), good, "{text:?}");
                }
                for refusal in [
                    Refusal::new(403).cookie(&text, "b", ""),
                    Refusal::new(403).cookie("b", &text, ""),
                    Refusal::new(403).cookie("b", "c", &text),
                ] {
                    assert!(good || refusal.check().is_err(), "{text:?}");
                }
            }
        })
    });
    let mut client = server.client();
    let response = client.request(REQUEST);
    assert_eq!(response.status, 101);
    // There is a line for each accepted value, 96 in ASCII and 4 others, and no other line of that
    // name.
    let values = response.headers.iter().filter(|(name, _)| name == "x-part");
    assert_eq!(values.count(), texts().filter(|text| is_text(text)).count());
    assert!(
        response
            .headers
            .iter()
            .all(|(name, _)| name != "b" && !name.is_empty())
    );
    client.expect_alive();
}
