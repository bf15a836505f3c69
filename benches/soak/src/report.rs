//! The report of a run.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::options::Options;
use crate::record::Why;
use crate::run::Outcome;
use crate::series::Phase;
use crate::topics::TOPICS;
use crate::verdict::{BLOCKS_MORE, BYTES_MORE, Level, RESIDENT_MORE};

/// Writes the tables and the chart of a run to its folder, and returns the tables.
///
/// # Errors
///
/// Fails if a file cannot be written.
pub(crate) fn write(options: &Options, outcome: &Outcome) -> Result<String> {
    crate::chart::draw(&outcome.samples, &options.out.join(PICTURE))?;
    let text = summary(options, outcome)?;
    let path = options.out.join(SUMMARY);
    fs::write(&path, &text).with_context(|| path.display().to_string())?;
    Ok(text)
}

/// Copies the tables and the chart of the last run into the documentation.
///
/// # Errors
///
/// Fails if there was no run, or if the document has no markers.
pub(crate) fn publish(from: &Path, docs: &Path) -> Result<()> {
    let summary = fs::read_to_string(from.join(SUMMARY)).context("there was no run")?;
    let page = docs.join("reliability.md");
    let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    fs::write(&page, spliced(&text, &summary)?)?;
    let folder = docs.join("reliability");
    fs::create_dir_all(&folder)?;
    fs::copy(from.join(PICTURE), folder.join(PICTURE))?;
    Ok(())
}

/// Returns the text with a new part between the markers.
fn spliced(text: &str, part: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).context("no mark of a beginning")?;
    let (_, after) = rest.split_once(END).context("no mark of an end")?;
    Ok(format!(
        "{before}{BEGIN}\n\n{}\n\n{END}{after}",
        part.trim()
    ))
}

fn summary(options: &Options, outcome: &Outcome) -> Result<String> {
    let mut out = String::new();
    let Options {
        minutes,
        connections,
        rate,
        churn,
        seed,
        ..
    } = options;
    let loaded = outcome.loaded.as_secs_f64() / 60.0;
    let took = outcome.took.as_secs_f64() / 60.0;
    writeln!(
        out,
        "The last run was `soak --minutes {minutes} --connections {connections} --rate {rate} \
         --churn {churn} --seed {seed}`: **{loaded:.1} minutes** of load,\n{took:.1} in all, on {}.\n",
        machine(),
    )?;
    match outcome.faults.count {
        0 => writeln!(out, "No check failed.\n")?,
        count => {
            writeln!(
                out,
                "**{} checks failed**, the first of them:\n",
                grouped(count)
            )?;
            for fault in outcome.faults.first.iter().take(10) {
                writeln!(out, "- `{}`", fault.replace('`', "'"))?;
            }
            writeln!(out)?;
        }
    }
    writeln!(
        out,
        "![Memory, connections, round trips and processors](reliability/{PICTURE})\n"
    )?;
    messages(&mut out, outcome)?;
    topics(&mut out, outcome)?;
    ends(&mut out, outcome)?;
    memory(&mut out, outcome)?;
    pace(&mut out, outcome)?;
    Ok(out)
}

fn messages(out: &mut String, outcome: &Outcome) -> Result<()> {
    let (totals, counts, stats) = (&outcome.totals, &outcome.counts, &outcome.stats);
    writeln!(
        out,
        "### Messages\n\n| | sent | received |\n| --- | ---: | ---: |"
    )?;
    for (what, sent, received) in [
        ("from clients", totals.sent, totals.received),
        ("back to their clients", totals.echoed, totals.echoes),
        (
            "to one client, by the server itself",
            totals.pushed,
            totals.pushes,
        ),
        (
            "to many clients, by the server itself",
            totals.news_out,
            totals.news_in,
        ),
    ] {
        writeln!(
            out,
            "| {what} | {} | {} |",
            grouped(sent),
            grouped(received)
        )?;
    }
    writeln!(
        out,
        "\nMessages sent and not received were in flight on connections that were cut, dropped or reset, \
         or that the server closed\nwhile its client was sending; on every other connection both \
         numbers are equal. Every received message was compared\nbyte by byte with the expected \
         one.\n"
    )?;
    writeln!(out, "| | |\n| --- | ---: |")?;
    let all = |number| grouped(number);
    for (what, number) in [
        (
            "MB of payload, from clients",
            all(counts.bytes_sent / 1_000_000),
        ),
        (
            "MB of payload, to clients",
            all(counts.bytes_received / 1_000_000),
        ),
        ("largest message, bytes", all(counts.largest)),
        (
            "messages in several frames, from and to clients",
            pair(counts.fragmented_sent, counts.fragmented_received),
        ),
        (
            "compressed messages, from and to clients",
            pair(counts.compressed_sent, counts.compressed_received),
        ),
        (
            "messages sent while a reply was outstanding",
            all(counts.pipelined),
        ),
        ("pings received from clients", all(totals.pings)),
        (
            "times that a client read slowly or not at all",
            all(counts.pauses),
        ),
        (
            "messages that the server refused to queue for slow clients",
            all(stats.refused),
        ),
        ("plain HTTP requests answered", all(totals.requests)),
    ] {
        writeln!(out, "| {what} | {number} |")?;
    }
    writeln!(out)?;
    Ok(())
}

fn topics(out: &mut String, outcome: &Outcome) -> Result<()> {
    writeln!(
        out,
        "### Topics\n\n\
         | topic | policy | messages | receivers | queued | conflated | dropped | refused | evicted \
         | recovered | received |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )?;
    let received = outcome.totals.published;
    for ((line, topic), received) in outcome.topics.iter().zip(&TOPICS).zip(received) {
        let policy = topic.policy.unwrap_or_default();
        write!(out, "| `{}` | `{policy:?}` |", topic.name)?;
        for number in line.numbers() {
            write!(out, " {} |", grouped(number))?;
        }
        writeln!(out, " {} |", grouped(received))?;
    }
    writeln!(
        out,
        "\nFor the topics `thread` and `stay.*`, whose subscribers are always closed in order, the clients \
         received exactly the\nmessages that were queued and not evicted. The others lack those \
         that were in flight on connections that were cut,\ndropped or reset.\n"
    )?;
    Ok(())
}

fn ends(out: &mut String, outcome: &Outcome) -> Result<()> {
    let (totals, counts) = (&outcome.totals, &outcome.counts);
    writeln!(
        out,
        "### Connections\n\n{} connections ({} plain, {} with TLS), each with exactly one \
         `Disconnect`. How they ended, and the cause\nthat the server reported:\n\n\
         | end | cause | connections |\n| --- | --- | ---: |",
        grouped(totals.opened),
        grouped(counts.plain),
        grouped(counts.tls),
    )?;
    for (&(ending, why), &count) in &totals.endings {
        writeln!(
            out,
            "| {} | {} | {} |",
            ending.title(),
            named(why),
            grouped(count)
        )?;
    }
    writeln!(
        out,
        "\nClients that the server cut with a cause other than `Cut` did not read, and so did not answer \
         its Close frame in time.\n`Hub::wind_down` closed the last {}; connections cut during the \
         drain, because they did not read or never finished their\nhandshake: {}.\n",
        grouped(outcome.drained as u64),
        grouped(outcome.stats.cut),
    )?;
    Ok(())
}

fn memory(out: &mut String, outcome: &Outcome) -> Result<()> {
    let Outcome {
        pristine,
        warmed,
        after,
        samples,
        ..
    } = outcome;
    let loads = || samples.iter().filter(|sample| sample.phase == Phase::Load);
    let peak = loads().map(|sample| sample.resident).max().unwrap_or(0);
    let most = loads().map(|sample| sample.heap).max().unwrap_or(0);
    let held = loads().map(|sample| sample.descriptors).max().unwrap_or(0);
    writeln!(
        out,
        "### Memory and descriptors\n\n\
         These are figures of the servers' process. They are read while no client is connected, except \
         under load.\n\n\
         | | before the test | after the first load | maximum under load | after the long load |\n\
         | --- | ---: | ---: | ---: | ---: |"
    )?;
    let mut row = |what: &str, of: fn(&Level) -> String, most: String| {
        let (first, second, last) = (of(pristine), of(warmed), of(after));
        writeln!(out, "| {what} | {first} | {second} | {most} | {last} |")
    };
    row(
        "descriptors",
        |level| grouped(level.descriptors),
        grouped(held),
    )?;
    row("allocated, MB", |level| mega(level.heap), mega(most))?;
    row(
        "allocated, blocks",
        |level| grouped(level.blocks),
        String::new(),
    )?;
    row("resident, MB", |level| mega(level.resident), mega(peak))?;
    row(
        "resident after `malloc_trim`, MB",
        |level| mega(level.trimmed),
        String::new(),
    )?;
    writeln!(
        out,
        "\nThe run fails if more descriptors are open after the test than before, or if after the long \
         load there are {}\nblocks, {} MB allocated or {} MB resident (after `malloc_trim`) more \
         than after the first load.\n",
        grouped(BLOCKS_MORE),
        mega(BYTES_MORE),
        mega(RESIDENT_MORE),
    )?;
    Ok(())
}

fn pace(out: &mut String, outcome: &Outcome) -> Result<()> {
    let samples: Vec<_> = outcome
        .samples
        .iter()
        .filter(|sample| sample.phase == Phase::Load)
        .collect();
    let count = samples.len().max(1) as f64;
    let mean = |of: fn(&crate::series::Sample) -> f64| {
        samples.iter().map(|sample| of(sample)).sum::<f64>() / count
    };
    let least = samples.iter().map(|sample| sample.open).min().unwrap_or(0);
    let latency = &outcome.latency;
    let quantile = |q| milli(latency.value_at_quantile(q));
    writeln!(
        out,
        "### Throughput and latency\n\n| during the load | |\n| --- | ---: |"
    )?;
    for (what, figure) in [
        ("open WebSockets, minimum", grouped(least as u64)),
        (
            "open WebSockets, mean",
            grouped(mean(|sample| sample.open as f64) as u64),
        ),
        (
            "messages per second from clients, mean",
            grouped(mean(|sample| sample.sent) as u64),
        ),
        (
            "messages per second to clients, mean",
            grouped(mean(|sample| sample.received) as u64),
        ),
        ("round trip, median, ms", quantile(0.5)),
        ("round trip, 99th percentile, ms", quantile(0.99)),
        ("round trip, 99.9th percentile, ms", quantile(0.999)),
        ("round trip, maximum, ms", milli(latency.max())),
        (
            "processors used by the servers",
            format!("{:.2}", mean(|sample| sample.server_cpu)),
        ),
        (
            "processors used by the load",
            format!("{:.2}", mean(|sample| sample.load_cpu)),
        ),
        (
            "processors that both waited for",
            format!("{:.2}", mean(|sample| sample.waited)),
        ),
    ] {
        writeln!(out, "| {what} | {figure} |")?;
    }
    writeln!(
        out,
        "\nRound trips are measured on clients that read at once, from writing a message until its reply \
         is checked. They include\nthe time that either process waits for a processor: where the \
         last row is large, other programs used the machine, and\nthe round trips reflect their \
         load.\n"
    )?;
    Ok(())
}

/// Returns the processors and the kernel.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let (_, model) = model.unwrap_or(("", "an unknown processor"));
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} x {model}, Linux {}", kernel.trim())
}

/// Returns the name of a cause in `wsloop::event::Cause`.
fn named(why: Why) -> String {
    match why {
        Why::TimedOut => "`Handshake(TimedOut)`".into(),
        Why::Handshake => "`Handshake(..)`".into(),
        Why::Protocol => "`Protocol(..)`".into(),
        why => format!("`{why:?}`"),
    }
}

/// Formats a number with separators.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn pair(one: u64, other: u64) -> String {
    format!("{} and {}", grouped(one), grouped(other))
}

fn mega(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

fn milli(micros: u64) -> String {
    format!("{:.2}", micros as f64 / 1e3)
}

const PICTURE: &str = "soak.svg";
const SUMMARY: &str = "summary.md";
const BEGIN: &str = "<!-- soak: begin -->";
const END: &str = "<!-- soak: end -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_run_takes_the_place_of_the_one_before() {
        let text = format!("one\n\n{BEGIN}\n\nold\n\n{END}\n\ntwo\n");
        let expected = format!("one\n\n{BEGIN}\n\nnew\n\n{END}\n\ntwo\n");
        assert_eq!(spliced(&text, "\nnew\n").unwrap(), expected);
        assert!(spliced("no place", "new").is_err());
    }
}
