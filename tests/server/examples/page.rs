//! Checks that the names in docs/porting.md exist.

use std::collections::BTreeSet;
use std::path::Path;

const PAGE: &str = include_str!("../../../docs/porting.md");

/// Variables that stand before method names in the page, and types with methods, constants and
/// variants.
const OWNERS: [&str; 29] = [
    "conn",
    "hub",
    "server",
    "handle",
    "upgrade",
    "request",
    "ticks",
    "why",
    "watched",
    "CloseCode",
    "DeflateConfig",
    "Fault",
    "FrameHead",
    "HandshakeError",
    "Header",
    "Limits",
    "Listening",
    "Message",
    "OpCode",
    "Parser",
    "Place",
    "Prepared",
    "ProtocolError",
    "Receiver",
    "Refusal",
    "Request",
    "SendError",
    "Sender",
    "Stats",
];

/// Splits a text into words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(move |letter| !is_part(letter))
        .filter(|word| !word.is_empty())
}

/// Collects the names that the crate declares: functions, fields, types, constants and variants.
fn declared(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            declared(&path, names);
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let line = line.trim_start();
            let name = match line.strip_prefix("pub ") {
                Some(rest) => {
                    let keywords = ["const", "fn", "struct", "enum", "trait", "type"];
                    words(rest).find(|word| !keywords.contains(word))
                }
                None if line.starts_with(|letter: char| letter.is_ascii_uppercase()) => {
                    words(line).next()
                }
                None => None,
            };
            names.extend(name.map(str::to_owned));
        }
    }
}

#[test]
fn the_page_on_porting_names_what_there_is() {
    let mut names = BTreeSet::new();
    declared(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut names,
    );
    let spans = PAGE.split('`').skip(1).step_by(2);
    let mut checked = 0;
    // Names of Perl belong to a package, or have a sigil.
    for span in spans.filter(|span| !span.contains("WebSocket::") && !span.contains('$')) {
        for owner in OWNERS {
            for separator in [".", "::"] {
                for part in span.split(&format!("{owner}{separator}")).skip(1) {
                    let name = words(part).next().unwrap_or_default();
                    assert!(names.contains(name), "{name} in `{span}`");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 150, "{checked}");
}
