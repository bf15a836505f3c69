//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use lexopt::{Arg, Parser, ValueExt};

/// The task to run.
#[derive(Debug)]
pub(crate) enum Task {
    Help,
    Publish { from: PathBuf, docs: PathBuf },
    Run(Options),
    Serve(Serve),
}

/// The options of a run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) minutes: f64,
    pub(crate) connections: usize,
    /// Messages per second, sent by all clients together.
    pub(crate) rate: f64,
    /// Clients per second that disconnect and are replaced.
    pub(crate) churn: f64,
    pub(crate) seed: u32,
    pub(crate) out: PathBuf,
}

/// The options of the servers.
#[derive(Clone, Debug)]
pub(crate) struct Serve {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The process ends after this time in any case.
    pub(crate) life: Duration,
    pub(crate) connections: usize,
    pub(crate) handshake_timeout: Duration,
    /// Connections per second that the servers close.
    pub(crate) closings: f64,
    pub(crate) seed: u64,
}

impl Task {
    /// Parses a command line.
    ///
    /// # Errors
    ///
    /// Fails if the command line is invalid.
    pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Self> {
        use Arg::Long;
        let mut options = Options {
            minutes: 60.0,
            connections: 10_000,
            rate: 4000.0,
            churn: 30.0,
            seed: 1,
            out: "target/soak".into(),
        };
        let (mut serves, mut publish) = (false, None);
        let (mut life, mut handshake) = (0, 10);
        let (mut certificate, mut key) = (PathBuf::new(), PathBuf::new());
        let mut parser = Parser::from_iter(args);
        while let Some(arg) = parser.next()? {
            match arg {
                Long("help") => return Ok(Self::Help),
                Long("minutes") => options.minutes = parser.value()?.parse()?,
                Long("connections") => options.connections = parser.value()?.parse()?,
                Long("rate") => options.rate = parser.value()?.parse()?,
                Long("churn") => options.churn = parser.value()?.parse()?,
                Long("seed") => options.seed = parser.value()?.parse()?,
                Long("out") => options.out = parser.value()?.into(),
                Long("publish") => publish = Some(PathBuf::from(parser.value()?)),
                Long("serve") => serves = true,
                Long("certificate") => certificate = parser.value()?.into(),
                Long("key") => key = parser.value()?.into(),
                Long("life") => life = parser.value()?.parse()?,
                Long("handshake") => handshake = parser.value()?.parse()?,
                _ => return Err(arg.unexpected().into()),
            }
        }
        let Options {
            minutes,
            connections,
            rate,
            churn,
            ..
        } = options;
        let is_good = |number: f64| number.is_finite() && number >= 0.0;
        if ![minutes, rate, churn].into_iter().all(is_good) || minutes > 10_000.0 {
            bail!("--minutes, --rate and --churn are numbers from 0 on");
        }
        if connections < 10 {
            bail!("--connections is 10 at least");
        }
        if serves {
            return Ok(Self::Serve(Serve {
                certificate,
                key,
                life: Duration::from_secs(life),
                connections,
                handshake_timeout: Duration::from_secs(handshake),
                closings: churn / 4.0,
                seed: options.seed.into(),
            }));
        }
        Ok(match publish {
            Some(docs) => Self::Publish {
                from: options.out,
                docs,
            },
            None => Self::Run(options),
        })
    }
}

/// The text that `--help` prints.
pub(crate) const USAGE: &str = "\
Keeps a server under load for a time, and accounts for every message.

soak [--minutes 60] [--connections 10000] [--rate 4000] [--churn 30] [--seed 1] [--out DIR]
    --minutes      how long the load lasts; before and after it some minutes are needed besides
    --connections  how many are open at once
    --rate         messages that the clients send in a second, all together
    --churn        clients that leave in a second
    --seed         other numbers have other messages and another course
    --out          where soak.csv, soak.svg and summary.md are written; default target/soak

soak --publish DOCS [--out DIR]
    puts the last run's picture and tables into DOCS/reliability.md
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Task> {
        Task::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn a_run_has_defaults_and_options() {
        let Task::Run(options) = parse("soak").unwrap() else {
            panic!("a run");
        };
        assert_eq!((options.minutes, options.connections), (60.0, 10_000));
        let line = "soak --minutes 0.2 --connections 300 --rate 800 --churn 9 --seed 7 --out x";
        let Task::Run(options) = parse(line).unwrap() else {
            panic!("a run");
        };
        assert_eq!((options.minutes, options.connections), (0.2, 300));
        assert_eq!((options.rate, options.churn, options.seed), (800.0, 9.0, 7));
        assert_eq!(options.out, PathBuf::from("x"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for line in [
            "soak --minutes -1",
            "soak --minutes inf",
            "soak --connections 1",
            "soak --rate fast",
            "soak --loud",
            "soak here",
        ] {
            parse(line).expect_err(line);
        }
    }
}
