//! The command line of the comparison.

use std::path::PathBuf;

use anyhow::{Result, bail};
use lexopt::prelude::*;

use super::cases::{self, Case};
use super::peers::{self, Peer};
use super::timing::Effort;

/// The usage text.
pub(super) const USAGE: &str = "\
compare [OPTIONS]

  --cases A,B     only these cases
  --peers X,Y     only these peers
  --rounds N      rounds of each case (5)
  --seconds S     counted seconds of a run (1.5)
  --warmup S      seconds before that (1)
  --counted       count instructions and system calls instead; needs valgrind and strace
  --report-only   measure nothing, render what was measured before
  --smoke         one short round of a few cases, write no files, fail if anything fails
  --list          list cases and peers
  --results FILE  where results are kept (benches/peers/results.json)
  --report FILE   the document (docs/performance.md); pictures go to a folder of its name
";

/// The task to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Time,
    Count,
    Report,
    Smoke,
    List,
}

/// All settings.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) task: Task,
    cases: Vec<String>,
    peers: Vec<String>,
    pub(super) effort: Effort,
    pub(super) results: Option<PathBuf>,
    pub(super) report: Option<PathBuf>,
}

impl Options {
    /// Parses a command line; returns `None` if it asks for the usage.
    pub(super) fn parse(args: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            task: Task::Time,
            cases: Vec::new(),
            peers: Vec::new(),
            effort: Effort {
                rounds: 5,
                warmup: 1.0,
                seconds: 1.5,
                smoke: false,
            },
            results: None,
            report: None,
        };
        let mut parser = lexopt::Parser::from_iter(args);
        while let Some(arg) = parser.next()? {
            match arg {
                Long("cases") => options.cases = words(&parser.value()?.string()?),
                Long("peers") => options.peers = words(&parser.value()?.string()?),
                Long("rounds") => options.effort.rounds = parser.value()?.parse()?,
                Long("seconds") => options.effort.seconds = parser.value()?.parse()?,
                Long("warmup") => options.effort.warmup = parser.value()?.parse()?,
                Long("counted") => options.task = Task::Count,
                Long("report-only") => options.task = Task::Report,
                Long("smoke") => options.task = Task::Smoke,
                Long("list") => options.task = Task::List,
                Long("results") => options.results = Some(parser.value()?.into()),
                Long("report") => options.report = Some(parser.value()?.into()),
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected().into()),
            }
        }
        for case in &options.cases {
            if cases::find(case).is_none() {
                bail!("there is no case {case}; --list lists them");
            }
        }
        for peer in &options.peers {
            if peers::find(peer).is_none() {
                bail!("there is no peer {peer}; --list lists them");
            }
        }
        if options.task == Task::Smoke {
            options.effort = Effort {
                rounds: 1,
                warmup: 0.05,
                seconds: 0.2,
                smoke: true,
            };
        }
        Ok(Some(options))
    }

    /// Returns whether a case is selected.
    pub(super) fn wants_case(&self, case: &Case) -> bool {
        match self.cases.is_empty() {
            true => self.task != Task::Smoke || case.smoke,
            false => self.cases.iter().any(|wanted| wanted == case.id),
        }
    }

    /// Returns whether a peer is selected.
    pub(super) fn wants_peer(&self, peer: &Peer) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|wanted| wanted == peer.id)
    }
}

fn words(list: &str) -> Vec<String> {
    list.split(',')
        .filter(|word| !word.is_empty())
        .map(String::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let parse = |line: &str| Options::parse(line.split(' ').map(String::from));
        assert!(parse("compare --cases echo-20").is_err());
        assert!(parse("compare --peers nobody").is_err());
        let options = parse("compare --cases echo-20-text,handshake --peers raw").unwrap();
        let options = options.unwrap();
        assert!(options.wants_case(cases::find("handshake").unwrap()));
        assert!(!options.wants_case(cases::find("many-500").unwrap()));
        assert!(!options.wants_peer(peers::find("uws").unwrap()));
    }
}
