//! Counts instructions and system calls. The counts are the difference between a long run and a
//! short one, so that the start of the server and the opening handshakes cancel out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::slice;

use anyhow::{Context, Result, bail};

use super::Setup;
use super::cases::{self, Case};
use super::peers::Peer;
use super::process::{self, Server, Started};
use super::results::{Counted, Results};

/// The counting of one case.
struct Count {
    case: &'static str,
    /// Whether instructions are counted, besides system calls.
    instructions: bool,
    /// The rounds of the short run.
    short: u64,
    /// The rounds of the long run.
    long: u64,
}

const fn count(case: &'static str, instructions: bool, short: u64, long: u64) -> Count {
    Count {
        case,
        instructions,
        short,
        long,
    }
}

const COUNTS: &[Count] = &[
    count("echo-20-text", true, 20, 120),
    count("echo-125-binary", true, 20, 120),
    count("echo-1k-text", true, 20, 120),
    count("echo-16k-binary", false, 10, 60),
    count("echo-64k-text", true, 5, 25),
    count("echo-1m-binary", false, 4, 24),
    count("pipelined-32", true, 5, 45),
    count("handshake", false, 5, 45),
    count("tls-1k-text", false, 20, 120),
    count("tls-16k-text", false, 10, 60),
    count("broadcast-64-depth-1", false, 2, 12),
    count("broadcast-64-depth-16", false, 2, 12),
    count("topic-64-depth-1", false, 2, 12),
    count("topic-64-depth-16", true, 2, 12),
    count("topics-8-depth-16", true, 10, 110),
    count("topics-8-depth-16-deflate-shared", true, 10, 60),
];

/// Calls with a smaller number per message are not reported.
const RARE: f64 = 0.0005;

/// Counts all wanted cases, for all peers that are binaries.
pub(super) fn run(
    setup: &Setup,
    wanted: impl Fn(&Case) -> bool,
    peers: &[&'static Peer],
    results: &mut Results,
    mut save: impl FnMut(&Results) -> Result<()>,
) -> Result<()> {
    for count in COUNTS {
        let case = cases::find(count.case).context("counted cases are cases")?;
        if !wanted(case) {
            continue;
        }
        let date = super::machine::now();
        for &peer in peers {
            if !peer.is_binary() || !case.includes(peer) {
                continue;
            }
            let counted = count.of(setup, case, peer, &date);
            eprintln!("{} {}: {}", case.id, peer.id, describe(&counted));
            let kept = results.counted.entry(case.id.into()).or_default();
            kept.insert(peer.id.into(), counted);
        }
        save(results)?;
    }
    Ok(())
}

fn describe(counted: &Counted) -> String {
    let calls: f64 = counted.calls.values().sum();
    let instructions = counted
        .instructions
        .map(|i| format!("{i:.0} instructions, "));
    let note = counted.note.as_ref().map(|note| format!(" ({note})"));
    format!(
        "{}{calls:.4} calls{}",
        instructions.unwrap_or_default(),
        note.unwrap_or_default()
    )
}

impl Count {
    fn of(&self, setup: &Setup, case: &Case, peer: &Peer, date: &str) -> Counted {
        let mut counted = Counted {
            date: date.into(),
            ..Counted::default()
        };
        let (calls, instructions) = (self.calls(setup, case, peer), || {
            self.instructions(setup, case, peer)
        });
        match calls {
            Ok(calls) => counted.calls = calls,
            Err(error) => {
                counted.note = Some(format!("{error:#}"));
                return counted;
            }
        }
        if self.instructions {
            match instructions() {
                Ok(instructions) => counted.instructions = Some(instructions),
                Err(error) => counted.note = Some(format!("{error:#}")),
            }
        }
        counted
    }

    fn calls(&self, setup: &Setup, case: &Case, peer: &Peer) -> Result<BTreeMap<String, f64>> {
        let file = setup.certificate.beside("strace");
        let tool = ["strace", "-f", "-c", "-U", "name,calls", "-o"].map(String::from);
        let tool = [&tool[..], &[file.display().to_string()]].concat();
        let (short, few) = under(setup, &tool, case, peer, self.short, &file)?;
        let (long, many) = under(setup, &tool, case, peer, self.long, &file)?;
        let (short, long) = (parse_strace(&short), parse_strace(&long));
        let per = |(name, calls): (&String, &u64)| {
            let more = *calls as f64 - short.get(name).copied().unwrap_or(0) as f64;
            let each = more / (many - few) as f64;
            let digits = (each * 1e4).round() / 1e4;
            (each > RARE).then(|| (name.clone(), digits))
        };
        Ok(long.iter().filter_map(per).collect())
    }

    fn instructions(&self, setup: &Setup, case: &Case, peer: &Peer) -> Result<f64> {
        let file = setup.certificate.beside("callgrind");
        let log = setup.certificate.beside("valgrind");
        let tool = [
            "valgrind".into(),
            "--tool=callgrind".into(),
            format!("--callgrind-out-file={}", file.display()),
            format!("--log-file={}", log.display()),
        ];
        let (short, few) = under(setup, &tool, case, peer, self.short, &file)?;
        let (long, many) = under(setup, &tool, case, peer, self.long, &file)?;
        let (short, long) = (parse_callgrind(&short)?, parse_callgrind(&long)?);
        let each = (long - short) as f64 / (many - few) as f64;
        Ok((each * 10.0).round() / 10.0)
    }
}

/// Runs a server under a tool, with `rounds` rounds of load. Returns the tool's output and the
/// number of messages.
fn under(
    setup: &Setup,
    tool: &[String],
    case: &Case,
    peer: &Peer,
    rounds: u64,
    file: &Path,
) -> Result<(String, u64)> {
    // The file of an earlier run must not be taken for the result of this one.
    let _ = fs::remove_file(file);
    let tls = &setup.certificate;
    let command = setup.command(peer).map_err(anyhow::Error::msg)?;
    let server_args = case.server_args(peer, &tls.certificate, &tls.key);
    let server = match Server::start(tool, &command, &server_args)? {
        Started::Running(server) => server,
        Started::Unsupported(why) => bail!("not supported: {why}"),
    };
    let mut args = case.load_args(case.load, peer, &tls.certificate);
    args.extend(["--rounds".into(), rounds.to_string()]);
    let measure = process::load(&setup.load, slice::from_ref(&server), None, &args)?;
    server.finish()?;
    let text = fs::read_to_string(file).context("the tool has counted nothing")?;
    Ok((text, measure.messages))
}

/// Returns the calls by name, from the table of `strace -c -U name,calls`.
fn parse_strace(table: &str) -> BTreeMap<String, u64> {
    let lines = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, calls) = (words.next()?, words.next()?.parse().ok()?);
        (name != "total" && words.next().is_none()).then(|| (name.to_owned(), calls))
    });
    lines.collect()
}

/// Returns the total of instructions in callgrind's file.
fn parse_callgrind(file: &str) -> Result<u64> {
    let total = |name| {
        file.lines()
            .filter_map(move |line: &str| line.strip_prefix(name))
    };
    total("totals: ")
        .chain(total("summary: "))
        .filter_map(|number| number.trim().parse().ok())
        .max()
        .context("callgrind has written no total")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_strace_are_read() {
        let table = "syscall              calls\n---------------- ---------\n\
                     recvfrom              1024\nsendto                1023\n\
                     ---------------- ---------\ntotal                 2047\n";
        let calls = parse_strace(table);
        assert_eq!(calls.len(), 2);
        assert_eq!(calls["recvfrom"], 1024);
    }

    #[test]
    fn totals_of_callgrind_are_read() {
        assert_eq!(
            parse_callgrind("events: Ir\nsummary: 12\n\ntotals: 34\n").unwrap(),
            34
        );
        assert!(parse_callgrind("events: Ir\n").is_err());
    }

    #[test]
    fn counted_cases_are_cases() {
        assert!(COUNTS.iter().all(|count| cases::find(count.case).is_some()));
        assert!(COUNTS.iter().all(|count| count.long > count.short));
    }
}
