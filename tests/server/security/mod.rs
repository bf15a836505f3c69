//! Attacks that other servers have suffered, with a file for each part of `docs/security.md`.

#[cfg(feature = "deflate")]
mod compression;
mod handlers;
mod handshake;
mod injection;
mod lengths;
mod origins;
#[cfg(feature = "tls")]
mod tls;

/// Checks that the tests exist which the page names by file and function.
#[test]
fn every_test_that_the_record_names_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let record = std::fs::read_to_string(root.join("docs/security.md")).expect("the record");
    let mut count = 0;
    for (file, name) in record
        .split('`')
        .filter_map(|word| word.split_once(".rs::"))
    {
        let file = match file.starts_with("src/") || file.starts_with("tests/") {
            true => format!("{file}.rs"),
            false => format!("tests/server/{file}.rs"),
        };
        let text = std::fs::read_to_string(root.join(&file)).unwrap_or_default();
        assert!(text.contains(&format!("fn {name}(")), "{name} in {file}");
        count += 1;
    }
    assert!(count > 60, "{count} tests are named");
}
