//! The results so far, kept in a file by case and peer.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::load::Measure;

/// Values by case, then by peer.
pub(super) type ByCase<T> = BTreeMap<String, BTreeMap<String, T>>;

/// All results.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Results {
    /// The machine of the last run.
    pub(super) machine: Machine,
    /// The peers that were missing in the last run, and the reasons.
    #[serde(default)]
    pub(super) missing: BTreeMap<String, String>,
    /// Results of timed runs.
    #[serde(default)]
    pub(super) timed: ByCase<Timed>,
    /// Results of counted runs.
    #[serde(default)]
    pub(super) counted: ByCase<Counted>,
}

/// The rounds of a peer in a case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Timed {
    /// The start of the run. Rounds of two peers form pairs if their dates are equal.
    pub(super) date: String,
    /// The rounds.
    pub(super) rounds: Vec<Round>,
    /// Why there are no rounds, or fewer than intended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// One round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Round {
    /// The figures.
    pub(super) measure: Measure,
    /// The figures of the companion load, if the case has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) companion: Option<Measure>,
}

/// Counts of a peer in a case, per message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counted {
    /// The date of the run.
    pub(super) date: String,
    /// Instructions in user space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instructions: Option<f64>,
    /// System calls by name.
    #[serde(default)]
    pub(super) calls: BTreeMap<String, f64>,
    /// Why something is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

impl Results {
    /// Reads the file; returns empty results if it does not exist.
    pub(super) fn read(file: &Path) -> Result<Self> {
        match fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is not what it was", file.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the file.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        fs::write(file, self.to_text()?).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Renders JSON with one line per peer of a case, so that diffs are legible.
    fn to_text(&self) -> Result<String> {
        let mut out = String::from("{\n");
        let machine = serde_json::to_string_pretty(&self.machine)?.replace('\n', "\n  ");
        writeln!(out, "  \"machine\": {machine},")?;
        let missing = serde_json::to_string(&self.missing)?;
        writeln!(out, "  \"missing\": {missing},")?;
        write_cases(&mut out, "timed", &self.timed)?;
        out.push_str(",\n");
        write_cases(&mut out, "counted", &self.counted)?;
        out.push_str("\n}\n");
        Ok(out)
    }
}

fn write_cases<T: Serialize>(out: &mut String, name: &str, cases: &ByCase<T>) -> Result<()> {
    write!(out, "  \"{name}\": {{")?;
    for (number, (case, peers)) in cases.iter().enumerate() {
        let comma = if number > 0 { "," } else { "" };
        write!(out, "{comma}\n    \"{case}\": {{")?;
        for (number, (peer, entry)) in peers.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            let entry = serde_json::to_string(entry)?;
            write!(out, "{comma}\n      \"{peer}\": {entry}")?;
        }
        out.push_str("\n    }");
    }
    out.push_str("\n  }");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut results = Results::default();
        let text = results.to_text().unwrap();
        assert!(serde_json::from_str::<Results>(&text).is_ok());
        let timed = Timed {
            date: "today".into(),
            rounds: vec![Round::default(); 2],
            note: Some("slow".into()),
        };
        for (case, peer) in [("a", "x"), ("a", "y"), ("b", "x")] {
            let peers = results.timed.entry(case.into()).or_default();
            peers.insert(peer.into(), timed.clone());
        }
        let text = results.to_text().unwrap();
        let read: Results = serde_json::from_str(&text).unwrap();
        assert_eq!(read.timed, results.timed);
        assert_eq!(text.matches("\"rounds\"").count(), 3);
    }
}
