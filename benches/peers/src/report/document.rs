//! The generated part of the page on performance.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::cases::{CASES, Part};
use super::peers::Variant;
use super::results::Results;
use super::{charts, peers, tables};

const BEGIN: &str = "<!-- comparison: begin -->";
const END: &str = "<!-- comparison: end -->";

/// Renders the results into a document; the text around the generated part is kept.
pub(super) fn write(results: &Results, file: &Path) -> Result<()> {
    let before = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => "# Performance\n".into(),
        Err(error) => return Err(error.into()),
    };
    let folder = file.with_extension("");
    let pictures = charts::draw(results, &folder)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let pictures: Vec<_> = pictures
        .iter()
        .map(|(file, shows)| format!("![{shows}]({name}/{file})\n"))
        .collect();
    let text = replace(&before, &render(results, &pictures.join("\n")))?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Replaces the part between the markers, or appends it if there are none.
fn replace(before: &str, part: &str) -> Result<String> {
    let part = format!("{BEGIN}\n\n{}\n\n{END}", part.trim());
    match (before.find(BEGIN), before.find(END)) {
        (None, None) => Ok(format!("{}\n\n{part}\n", before.trim_end())),
        (Some(begin), Some(end)) if begin < end => {
            let after = &before[end + END.len()..];
            Ok(format!("{}{part}{after}", &before[..begin]))
        }
        _ => bail!("the markers of the comparison do not match"),
    }
}

fn render(results: &Results, pictures: &str) -> String {
    let mut parts = vec!["## Comparison with other servers".to_owned()];
    parts.push(METHOD.trim().to_owned());
    parts.push(machine(results));
    parts.push(pictures.to_owned());
    parts.push("### Aims".into());
    parts.push(tables::aims(results));
    parts.push("### Overview".into());
    parts.push(
        "CPU time per message relative to the basis: the bare TCP echo, or uWebSockets (uWS) \
         where a bare echo is not comparable."
            .into(),
    );
    parts.push(tables::summary(results));
    let intros = [
        (Part::OneLoop, ""),
        (Part::Loops, LOOPS),
        (Part::Engines, ENGINES),
    ];
    for (part, intro) in intros {
        let cases = CASES.iter().filter(|case| case.part() == part);
        let cases: Vec<_> = cases
            .filter_map(|case| tables::case(results, case))
            .collect();
        if !cases.is_empty() {
            parts.push(intro.to_owned());
            parts.extend(cases);
        }
    }
    if let Some(table) = tables::instructions(results) {
        parts.push("### Counted: instructions in user space per message".into());
        parts.push(
            "Counted by callgrind, as the difference between a long and a short run, in builds for \
             plain x86-64."
                .into(),
        );
        parts.push(table);
    }
    if let Some(table) = tables::calls(results) {
        parts.push("### Counted: system calls per message, delivery or handshake".into());
        parts.push("Counted by strace, in the same way.".into());
        parts.push(table);
    }
    parts.push(uncounted(results).join("\n\n"));
    let parts = parts.iter().map(|part| part.trim());
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("\n\n").replace("\n\n\n", "\n\n")
}

const METHOD: &str = "
`benches/peers/run` writes this part; [its README](../benches/peers/README.md) describes the method.
The server has one core and the load generator another, both on one machine. Every reply is checked
byte for byte. In each round each peer runs once, as a fresh process, so other load on the machine
affects all peers alike. A ratio is the median over the rounds of the quotients within a round, with
the smallest and the largest beside it. CPU is the scheduler's run time of the server's process; its
user part is sampled. \"waited\" is the share of time in which the server was runnable and another
process had its core: where it is large, throughput and latency mean little. \"batched\" marks a peer
whose application collects replies and sends them together.
";

const LOOPS: &str = "
### Several loops

A server with two loops on two threads, which share one core here: the figures are about the cost of
passing messages between loops, not about what a second core gains. uWebSockets runs one `App` for
each thread and passes a publish to the other thread with `Loop::defer`. The subscribers of a case
are on the publisher's loop (same loop), on the other one, or half on each; the server tells each
client the number of its loop.
";

const ENGINES: &str = "
### Several processes

Two server processes and the engine (`redis-server` or `nats-server`, without persistence) share one
core. A publisher is connected to the first process. Each topic has one subscriber at each process,
unless the title says otherwise. The added latency is that at the other process less that at the
publisher's. As fast as possible: 256 messages are on their way all the time, 16 in each write of the
publisher. CPU is per published message and includes the delivery to the subscribers of the process.
Socket.IO runs on Node.js with its Redis adapter and `bufferutil`, and WebSocket is its only transport.
";

/// Returns the peers and cases that could not be counted, with the reasons.
fn uncounted(results: &Results) -> Vec<String> {
    let each = results.counted.iter().flat_map(|(case, peers)| {
        peers.iter().filter_map(move |(peer, counted)| {
            let note = counted.note.as_ref()?;
            Some(format!("{case}, {}: {note}.", peers::title(peer)))
        })
    });
    each.collect()
}

/// Returns a paragraph in lines of at most 120 characters.
fn wrapped(text: &str) -> String {
    let (mut lines, mut width) = (String::new(), 0);
    for word in text.split(' ') {
        if width > 0 && width + 1 + word.len() > 120 {
            lines.push('\n');
            width = 0;
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += word.len();
    }
    lines.push('\n');
    lines
}

fn machine(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = wrapped(&format!(
        "Machine: {} x {}, {}, {}.",
        machine.cores, machine.processor, machine.kernel, machine.rustc
    ));
    let versions: Vec<_> = machine
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    text.push('\n');
    text.push_str(&wrapped(&format!("Versions: {}.", versions.join(", "))));
    let missing: Vec<_> = results
        .missing
        .iter()
        // A variant is available whenever its server is.
        .filter(|(name, _)| peers::find(name).is_none_or(|peer| peer.variant == Variant::None))
        .map(|(name, why)| format!("{}: {why}", peers::title(name)))
        .collect();
    if !missing.is_empty() {
        text.push_str(&format!(
            "\nLeft out of the last run: {}.\n",
            missing.join("; ")
        ));
    }
    if !machine.command.is_empty() {
        text.push_str(&format!("\nThe last run was\n`{}`.\n", machine.command));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_stays() {
        let before = format!("# Head\n\ntext\n\n{BEGIN}\nold\n{END}\n\n## More\n");
        let after = replace(&before, "new").unwrap();
        assert_eq!(
            after,
            format!("# Head\n\ntext\n\n{BEGIN}\n\nnew\n\n{END}\n\n## More\n")
        );
        assert_eq!(replace(&after, "new").unwrap(), after);
    }

    #[test]
    fn without_markers_it_comes_last() {
        let after = replace("# Head\n", "new").unwrap();
        assert_eq!(after, format!("# Head\n\n{BEGIN}\n\nnew\n\n{END}\n"));
    }

    #[test]
    fn a_lone_marker_is_an_error() {
        assert!(replace(BEGIN, "new").is_err());
        assert!(replace(&format!("{END} {BEGIN}"), "new").is_err());
    }
}
