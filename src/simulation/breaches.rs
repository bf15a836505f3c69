//! Violations of the protocol. Each must end its connection.

use super::clients::{UPGRADE, frame};
use super::random::Random;
use super::settings::Settings;
use crate::client_frames::{self, Form};

/// Returns a request that every server must refuse.
pub(super) fn bad_request(random: &mut Random) -> Vec<u8> {
    match random.below(7) {
        0 => UPGRADE.replace("Version: 13", "Version: 12").into_bytes(),
        1 => UPGRADE.replace("Key: dGhl", "Key: dGh").into_bytes(),
        2 => UPGRADE.replace("GET /", "POST /").into_bytes(),
        3 => UPGRADE.replace("Host: h", "Host : h").into_bytes(),
        4 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        5 => UPGRADE
            .replace(
                "Host: h",
                &format!("Host: h\r\nX: {}", "x".repeat(17 << 10)),
            )
            .into_bytes(),
        _ => UPGRADE.replace("HTTP/1.1", "HTTP/3.0").into_bytes(),
    }
}

/// Returns frames, sent after complete messages, for which the server must fail the connection.
pub(super) fn bad_frame(random: &mut Random, settings: &Settings) -> Vec<u8> {
    let limits = &settings.config.limits;
    let unmasked = |first: u8| {
        let mut bytes = Vec::new();
        client_frames::append(&mut bytes, first, None, b"ab");
        bytes
    };
    match random.below(15) {
        // RFC 6455, 5.1: not masked.
        0 => unmasked(0x81),
        1 => unmasked(0x89),
        // 5.2: reserved bits, reserved opcodes.
        2 => frame(0xa1, b"reserved"),
        3 => frame(0x83, b"opcode"),
        4 => frame(0x8b, b"opcode"),
        // 5.4: a continuation without a message, a message within another.
        5 => frame(0x80, b"continuation"),
        6 => [frame(0x01, b"begun"), frame(0x81, b"another")].concat(),
        // 5.5: a fragmented control frame, and one that is too long.
        7 => frame(0x09, b"part"),
        8 => frame(0x89, &[b'l'; 126]),
        // 5.5.1 and 7.4: Close frames.
        9 => frame(0x88, b"1"),
        10 => frame(0x88, &1006_u16.to_be_bytes()),
        // 8.1: text that is not UTF-8.
        11 => frame(0x81, b"\xc0\x80"),
        // A length that is not in its shortest form.
        12 => {
            let mut bytes = Vec::new();
            client_frames::append_header(&mut bytes, 0x82, Form::Medium, 1, Some([1, 2, 3, 4]));
            bytes.push(0);
            bytes
        }
        // Too large, if messages are not delivered in pieces.
        13 if !settings.pieces => frame(0x82, &vec![b'x'; limits.max_recv_size + 1]),
        // Too many fragments, if messages are not delivered in pieces.
        _ => {
            let mut bytes = frame(0x01, b"");
            for _ in 0..limits.max_fragments {
                bytes.extend(frame(0x00, b""));
            }
            // This is a violation if they are.
            bytes.extend(frame(0x81, b"another"));
            bytes
        }
    }
}
