//! The tables of the report.

use super::aims;
use super::cases::{Basis, CASES, Case, Companion, Figure, Part};
use super::peers::{self, RAW, SOCKETIO, UWS, title};
use super::results::{Counted, Results, Timed};
use super::spread::{self, PERCENTILES, Spread, Value, cpu, figure, ratio};

/// A Markdown table, built row by row.
struct Table {
    text: String,
}

impl Table {
    /// Starts a table. The first `words` columns contain words, the others numbers.
    fn new<S: AsRef<str>>(words: usize, head: &[S]) -> Self {
        let mut table = Self {
            text: String::new(),
        };
        table.row(head);
        let rule = head
            .iter()
            .enumerate()
            .map(|(n, _)| if n < words { "---" } else { "---:" });
        table.row(&rule.collect::<Vec<_>>());
        table
    }

    fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        for cell in cells {
            self.text.push_str("| ");
            self.text.push_str(cell.as_ref());
            self.text.push(' ');
        }
        self.text.push_str("|\n");
    }
}

/// Returns the table of the aims and their results.
pub(super) fn aims(results: &Results) -> String {
    let mut table = Table::new(2, &["case", "aim", "measured", ""]);
    for outcome in aims::outcomes(results) {
        let measured = outcome.measured.map(|m| match outcome.aim.ends_with(" B") {
            true => grouped(m),
            false => format!("{m:.0$}", aims::digits(outcome.at_most) as usize),
        });
        let met = match outcome.met() {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "not measured",
        };
        table.row(&[outcome.case, &outcome.aim, &or_dash(measured), met]);
    }
    table.text
}

/// Returns the table of CPU time relative to the basis, with one row per case about CPU time.
pub(super) fn summary(results: &Results) -> String {
    let columns: Vec<_> = peers::PEERS
        .iter()
        .filter(|peer| peer.variant == peers::Variant::None && !matches!(peer.id, RAW | SOCKETIO))
        .filter(|peer| results.timed.values().any(|of| has_rounds(of.get(peer.id))))
        .collect();
    let mut head = vec!["case", "basis"];
    head.extend(columns.iter().map(|peer| peer.title));
    let mut table = Table::new(1, &head);
    for case in CASES {
        if !matches!(case.figure, Figure::Cpu | Figure::CpuOfCompanion) || !is_there(results, case)
        {
            continue;
        }
        let basis = basis(case);
        let mut row = vec![case.id.to_owned(), basis_name(basis).to_owned()];
        row.extend(columns.iter().map(|peer| {
            let ratio = ratio(&results.timed, case.id, peer.id, basis, cpu);
            or_dash(ratio.map(|spread| format!("{:.2}", spread.median)))
        }));
        table.row(&row);
    }
    table.text
}

/// Returns the section of one case, or `None` if there are no results.
pub(super) fn case(results: &Results, case: &Case) -> Option<String> {
    let timed = results.timed.get(case.id)?;
    let mut names: Vec<_> = timed.keys().map(String::as_str).collect();
    names.sort_by_key(|name| peers::position(name));
    let present: Vec<_> = names
        .iter()
        .copied()
        .filter(|n| has_rounds(timed.get(*n)))
        .collect();
    let level = match case.part() {
        Part::OneLoop => "###",
        Part::Loops | Part::Engines => "####",
    };
    let mut text = format!("{level} {}\n\n", case.title);
    if !present.is_empty() {
        text.push_str(&match case.figure {
            Figure::Cpu => cpu_table(results, case, &present, None),
            Figure::CpuOfCompanion => cpu_table(results, case, &present, case.companion),
            Figure::Latency => latency_table(results, case, &present),
            Figure::Memory => memory_table(results, case, &present),
            Figure::Subscription => subscription_table(results, case, &present),
            Figure::Sides => sides_table(results, case, &present),
            Figure::Processes => processes_table(results, case, &present),
        });
    }
    text.push_str(&remarks(case, timed, &names, &present));
    Some(text)
}

fn cpu_table(
    results: &Results,
    case: &Case,
    names: &[&str],
    companion: Option<Companion>,
) -> String {
    let basis = basis(case);
    let timed = &results.timed;
    let any = |value: Value| {
        let mut names = names.iter();
        names.any(|name| figure(timed, case.id, name, value).is_some())
    };
    let (sizes, growths) = (any(spread::reply_ratio), any(spread::growth));
    // Small figures are shown in nanoseconds, so that digits are not lost.
    let smallest = names
        .iter()
        .filter_map(|n| Some(figure(timed, case.id, n, cpu)?.median));
    let (scale, time) = match smallest.fold(f64::MAX, f64::min) {
        ..1000.0 => (1.0, "ns"),
        _ => (1000.0, "us"),
    };
    let show = |spread: Option<Spread>| or_dash(spread.map(|s| decimals(s.median / scale)));
    let mut head = vec!["peer".to_owned()];
    head.push(format!("CPU per {} ({time})", case.unit));
    head.push("min..max".into());
    head.push(format!("/ {}", basis_name(basis)));
    head.push("min..max".into());
    if let Some(Companion { title, .. }) = companion {
        head.push(format!("/ {title}"));
        head.push("min..max".into());
    }
    head.push(format!("user ({time})"));
    head.push(format!("{} per s", plural(case.unit)));
    if sizes {
        head.push("reply size".into());
    }
    if growths {
        head.push("memory growth (KiB)".into());
    }
    head.push("p50 (us)".into());
    head.push("p99 (us)".into());
    if let Some(Companion { title, .. }) = companion {
        head.push(format!("p99 / {title}"));
    }
    head.push("waited".into());
    let mut table = Table::new(1, &head);
    for name in names {
        let of = |value: Value| figure(timed, case.id, name, value);
        let used = of(cpu);
        let over = ratio(timed, case.id, name, basis, cpu);
        let mut row = vec![title(name).to_owned(), show(used)];
        row.push(or_dash(used.map(|s| {
            format!("{}..{}", decimals(s.min / scale), decimals(s.max / scale))
        })));
        row.extend(ratio_cells(over));
        if companion.is_some() {
            row.extend(ratio_cells(of(spread::cpu_of_companion)));
        }
        row.push(show(of(spread::user)));
        row.push(or_dash(of(spread::throughput).map(|s| grouped(s.median))));
        if sizes {
            row.push(or_dash(
                of(spread::reply_ratio).map(|s| format!("{:.2}", s.median)),
            ));
        }
        if growths {
            row.push(or_dash(
                of(spread::growth).map(|s| grouped(s.median / 1024.0)),
            ));
        }
        row.push(or_dash(
            of(spread::p50).map(|s| decimals(s.median / 1000.0)),
        ));
        row.push(or_dash(
            of(spread::p99).map(|s| decimals(s.median / 1000.0)),
        ));
        if companion.is_some() {
            let over = of(spread::p99_of_companion);
            row.push(or_dash(over.map(|s| format!("{:.2}", s.median))));
        }
        row.push(or_dash(
            of(spread::wait).map(|s| format!("{:.0} %", s.median * 100.0)),
        ));
        table.row(&row);
    }
    table.text
}

fn latency_table(results: &Results, case: &Case, names: &[&str]) -> String {
    let timed = &results.timed;
    let mut head = vec!["peer, all in us".to_owned()];
    for (name, _) in PERCENTILES {
        head.push(name.into());
        if name == "p50" {
            head.push("min..max".into());
        }
    }
    let basis = basis(case);
    head.push(format!("{} per s", plural(case.unit)));
    head.push(format!("CPU / {}", basis_name(basis)));
    let mut table = Table::new(1, &head);
    for name in names {
        let mut row = vec![title(name).to_owned()];
        for (percentile, value) in PERCENTILES {
            let spread = figure(timed, case.id, name, value);
            row.push(or_dash(spread.map(|s| decimals(s.median / 1000.0))));
            if percentile == "p50" {
                row.push(or_dash(spread.map(|s| {
                    format!("{}..{}", decimals(s.min / 1000.0), decimals(s.max / 1000.0))
                })));
            }
        }
        let done = figure(timed, case.id, name, spread::throughput);
        row.push(or_dash(done.map(|s| grouped(s.median))));
        let over = ratio(timed, case.id, name, basis, cpu);
        row.push(or_dash(over.map(|s| format!("{:.2}", s.median))));
        table.row(&row);
    }
    table.text
}

fn sides_table(results: &Results, case: &Case, names: &[&str]) -> String {
    let part = if case.engine().is_some() {
        "process"
    } else {
        "loop"
    };
    let mut head = vec!["peer, all in us".to_owned()];
    for column in ["same PART, p50", "p99", "other PART, p50", "p99"] {
        head.push(column.replace("PART", part));
    }
    for column in ["added p50", "min..max", "added p99", "min..max"] {
        head.push(column.into());
    }
    if case.engine().is_some() {
        head.extend(processes_head(case));
    }
    let mut table = Table::new(1, &head);
    for name in names {
        let of = |value: Value| figure(&results.timed, case.id, name, value);
        let mut row = vec![title(name).to_owned()];
        for value in [
            spread::near_p50,
            spread::near_p99,
            spread::far_p50,
            spread::far_p99,
        ] {
            row.push(or_dash(of(value).map(|s| decimals(s.median / 1000.0))));
        }
        for value in [spread::added_p50, spread::added_p99] {
            row.extend(micros_cells(of(value)));
        }
        if case.engine().is_some() {
            row.extend(processes_cells(results, case, name));
        }
        table.row(&row);
    }
    table.text
}

fn processes_table(results: &Results, case: &Case, names: &[&str]) -> String {
    let mut head = vec![
        "peer".to_owned(),
        "messages per s".into(),
        "min..max".into(),
    ];
    head.extend(processes_head(case));
    let mut table = Table::new(1, &head);
    for name in names {
        let rate = figure(&results.timed, case.id, name, spread::published);
        let mut row = vec![title(name).to_owned()];
        row.push(or_dash(rate.map(|s| grouped(s.median))));
        row.push(or_dash(
            rate.map(|s| format!("{}..{}", grouped(s.min), grouped(s.max))),
        ));
        row.extend(processes_cells(results, case, name));
        table.row(&row);
    }
    table.text
}

/// Returns the heads of the columns about the CPU time of each process.
fn processes_head(case: &Case) -> Vec<String> {
    let engine = case.engine().map_or("", |engine| engine.program());
    vec![
        "CPU per message (us): publishing process".into(),
        "min..max".into(),
        format!("/ {}", basis_name(basis(case))),
        "min..max".into(),
        "receiving process".into(),
        engine.into(),
    ]
}

fn processes_cells(results: &Results, case: &Case, name: &str) -> Vec<String> {
    let of = |value: Value| figure(&results.timed, case.id, name, value);
    let over = ratio(
        &results.timed,
        case.id,
        name,
        basis(case),
        spread::publishing,
    );
    let mut cells = Vec::from(micros_cells(of(spread::publishing)));
    cells.extend(ratio_cells(over));
    for value in [spread::receiving, spread::relaying] {
        cells.push(or_dash(of(value).map(|s| decimals(s.median / 1000.0))));
    }
    cells
}

/// Returns two cells: the median in microseconds, and the range.
fn micros_cells(spread: Option<Spread>) -> [String; 2] {
    let micros = |nanos: f64| decimals(nanos / 1000.0);
    [
        or_dash(spread.map(|s| micros(s.median))),
        or_dash(spread.map(|s| format!("{}..{}", micros(s.min), micros(s.max)))),
    ]
}

fn memory_table(results: &Results, case: &Case, names: &[&str]) -> String {
    let mut table = Table::new(
        1,
        &[
            "peer",
            "process before (MiB)",
            "bytes per connection, open",
            "after one echo",
            "min..max",
        ],
    );
    for name in names {
        let of = |value: Value| figure(&results.timed, case.id, name, value);
        let before = of(spread::memory_before).map(|s| format!("{:.1}", s.median / 1048576.0));
        let echoed = of(spread::memory);
        table.row(&[
            title(name).to_owned(),
            or_dash(before),
            or_dash(of(spread::memory_open).map(|s| grouped(s.median))),
            or_dash(echoed.map(|s| grouped(s.median))),
            or_dash(echoed.map(|s| format!("{}..{}", grouped(s.min), grouped(s.max)))),
        ]);
    }
    table.text
}

fn subscription_table(results: &Results, case: &Case, names: &[&str]) -> String {
    let head = ["peer", "bytes per subscription", "min..max"];
    let mut table = Table::new(1, &head);
    for name in names {
        let bytes = figure(&results.timed, case.id, name, spread::subscription);
        table.row(&[
            title(name).to_owned(),
            or_dash(bytes.map(|s| decimals(s.median))),
            or_dash(bytes.map(|s| format!("{}..{}", decimals(s.min), decimals(s.max)))),
        ]);
    }
    table.text
}

/// Returns the remarks that the table of a case needs.
fn remarks(
    case: &Case,
    timed: &std::collections::BTreeMap<String, Timed>,
    names: &[&str],
    present: &[&str],
) -> String {
    let mut text = String::new();
    let mut dates: Vec<_> = present.iter().filter_map(|n| timed.get(*n)).collect();
    dates.sort_by_key(|timed| &timed.date);
    dates.dedup_by_key(|timed| &timed.date);
    match dates.as_slice() {
        [] => {}
        [one] => text.push_str(&format!("\n{} rounds, {}.\n", one.rounds.len(), one.date)),
        several => {
            let dates: Vec<_> = several.iter().map(|timed| timed.date.as_str()).collect();
            text.push_str(&format!(
                "\nOf several runs: {}. Ratios across runs are marked by ~.\n",
                dates.join(", ")
            ));
        }
    }
    let rate = present
        .iter()
        .find_map(|n| timed.get(*n)?.rounds.first()?.measure.rate);
    if let Some(rate) = rate {
        text.push_str(&format!("\nRate: {} messages a second.\n", grouped(rate)));
    }
    if case.server == super::cases::Ask::LargeEcho {
        text.push_str("\nThe bare echo and wsloop read 512 KiB at once here.\n");
    }
    let late: u64 = present
        .iter()
        .filter_map(|n| timed.get(*n))
        .flat_map(|timed| &timed.rounds)
        .map(|round| round.measure.unanswered)
        .sum();
    if late > 0 {
        text.push_str(&format!("\n{late} messages were not answered in time.\n"));
    }
    for name in names {
        if let Some(note) = timed.get(*name).and_then(|timed| timed.note.as_ref()) {
            text.push_str(&format!("\n{}: {note}.\n", title(name)));
        }
    }
    text
}

/// Returns the table of instructions per message, or `None` if none were counted.
pub(super) fn instructions(results: &Results) -> Option<String> {
    counted(results, |counted| {
        counted.instructions.map(|i| grouped(i.round()))
    })
}

/// Returns the table of system calls per message, or `None` if none were counted.
pub(super) fn calls(results: &Results) -> Option<String> {
    counted(results, |counted| {
        let mut calls: Vec<_> = counted.calls.iter().collect();
        calls.sort_by(|a, b| b.1.total_cmp(a.1));
        let sum: f64 = counted.calls.values().sum();
        let names: Vec<_> = calls
            .iter()
            .filter(|(_, each)| **each >= 0.005)
            .map(|(name, each)| format!("{name} {}", short(**each)))
            .collect();
        (!calls.is_empty()).then(|| format!("{}: {}", short(sum), names.join(", ")))
    })
}

fn counted(results: &Results, cell: impl Fn(&Counted) -> Option<String>) -> Option<String> {
    let cases: Vec<_> = CASES
        .iter()
        .filter(|case| {
            let peers = results.counted.get(case.id);
            peers.is_some_and(|peers| peers.values().any(|counted| cell(counted).is_some()))
        })
        .collect();
    let named: Vec<_> = peers::PEERS
        .iter()
        .filter(|peer| {
            let of = |case: &&Case| cell(results.counted.get(case.id)?.get(peer.id)?);
            cases.iter().any(|case| of(case).is_some())
        })
        .collect();
    if named.is_empty() {
        return None;
    }
    let mut head = vec!["peer"];
    head.extend(cases.iter().map(|case| case.id));
    let mut table = Table::new(1, &head);
    for peer in named {
        let mut row = vec![peer.title.to_owned()];
        row.extend(cases.iter().map(|case| {
            let counted = results.counted.get(case.id).and_then(|p| p.get(peer.id));
            or_dash(counted.and_then(&cell))
        }));
        table.row(&row);
    }
    Some(table.text)
}

/// Returns two cells: the median of a ratio, and its range.
fn ratio_cells(spread: Option<Spread>) -> [String; 2] {
    let mark = |s: Spread| if s.across_runs { "~" } else { "" };
    [
        or_dash(spread.map(|s| format!("{}{:.2}", mark(s), s.median))),
        or_dash(spread.map(|s| format!("{:.2}..{:.2}", s.min, s.max))),
    ]
}

/// Returns the peer that is the basis of a case's ratios.
pub(super) fn basis(case: &Case) -> &'static str {
    match case.basis {
        Basis::Raw => RAW,
        Basis::Uws => UWS,
        Basis::SocketIo => SOCKETIO,
    }
}

fn basis_name(basis: &str) -> &'static str {
    match basis {
        RAW => "raw",
        SOCKETIO => "Socket.IO",
        _ => "uWS",
    }
}

fn is_there(results: &Results, case: &Case) -> bool {
    let peers = results.timed.get(case.id);
    peers.is_some_and(|peers| peers.values().any(|timed| has_rounds(Some(timed))))
}

fn has_rounds(timed: Option<&Timed>) -> bool {
    timed.is_some_and(|timed| !timed.rounds.is_empty())
}

fn plural(unit: &str) -> String {
    match unit.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{unit}s"),
    }
}

fn or_dash(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "-".into())
}

/// Formats a number with about three significant digits.
fn decimals(number: f64) -> String {
    match number.abs() {
        ..10.0 => format!("{number:.2}"),
        ..100.0 => format!("{number:.1}"),
        _ => grouped(number),
    }
}

/// Formats a number with up to three decimal places, without trailing zeros.
fn short(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Formats a whole number with separators, as in `1,234,567`.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut out = String::from(if number <= -0.5 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_can_be_read() {
        assert_eq!(grouped(0.4), "0");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(-1234567.0), "-1,234,567");
        assert_eq!(decimals(1.234), "1.23");
        assert_eq!(decimals(56.78), "56.8");
        assert_eq!(short(2.0), "2");
        assert_eq!(short(0.0625), "0.062");
        assert_eq!(plural("delivery"), "deliveries");
    }

    #[test]
    fn an_empty_report_is_no_error() {
        let results = Results::default();
        assert!(aims(&results).contains("not measured"));
        assert!(CASES.iter().all(|c| case(&results, c).is_none()));
        assert_eq!(instructions(&results), None);
    }
}
