//! The charts of the report, as SVG on white, legible with light and dark page backgrounds.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::cases;
use super::peers::{PEERS, Peer, RAW, Variant};
use super::results::Results;
use super::spread::{PERCENTILES, cpu, figure, memory, ratio};

/// Larger ratios are cut off and labelled with their value.
const CLIP: f64 = 3.0;

/// The cases of the first chart.
const MAIN_CASES: [(&str, &str); 8] = [
    ("echo-20-text", "20 B"),
    ("echo-1k-text", "1 KiB"),
    ("echo-16k-binary", "16 KiB"),
    ("echo-64k-text", "64 KiB"),
    ("echo-64k-utf8", "64 KiB UTF-8"),
    ("echo-1m-binary", "1 MiB"),
    ("pipelined-32", "16 at once"),
    ("many-500", "500 conn."),
];

/// Colours that are distinct with most forms of colour blindness; wsloop has the first.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x8c, 0x6d, 0x31),
    RGBColor(0x7f, 0x7f, 0x7f),
    RGBColor(0xc0, 0xb0, 0x20),
    RGBColor(0x40, 0x40, 0x40),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the charts that there are results for; returns their file names and captions.
pub(super) fn draw(results: &Results, folder: &Path) -> Result<Vec<(&'static str, &'static str)>> {
    let mut drawn = Vec::new();
    std::fs::create_dir_all(folder)?;
    let mut add = |name, shows, result: Result<bool>| -> Result<()> {
        if result? {
            drawn.push((name, shows));
        }
        Ok(())
    };
    let shows = "CPU time per message of an echo, in terms of a bare TCP echo";
    add("cpu.svg", shows, ratios(results, &folder.join("cpu.svg")))?;
    let shows = "Latency by percentile, 1 connection, 5,000 messages a second";
    add(
        "latency.svg",
        shows,
        latency(results, &folder.join("latency.svg")),
    )?;
    let shows = "Memory of an idle connection after one echo";
    add(
        "memory.svg",
        shows,
        idle(results, &folder.join("memory.svg")),
    )?;
    Ok(drawn)
}

fn colour(peer: &Peer) -> RGBColor {
    let plain = PEERS
        .iter()
        .filter(|p| p.variant == Variant::None && p.id != RAW);
    let place = plain.take_while(|p| p.id != peer.id).count();
    match peer.id {
        RAW => BLACK,
        _ => COLOURS[place % COLOURS.len()],
    }
}

/// Returns the peers that have a figure, without variants.
fn present(has: impl Fn(&str) -> bool) -> Vec<&'static Peer> {
    let plain = PEERS.iter().filter(|peer| peer.variant == Variant::None);
    plain.filter(|peer| has(peer.id)).collect()
}

fn canvas<'a>(file: &'a Path, size: (u32, u32), title: &str) -> Result<Area<'a>> {
    let area = SVGBackend::new(file, size).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    label(&area, title, (size.0 as i32 / 2, 8), 18, HPos::Center)?;
    Ok(area)
}

fn label(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, align: HPos) -> Result<()> {
    let style = ("sans-serif", size).into_text_style(area);
    let style = style.pos(Pos::new(align, VPos::Top));
    area.draw_text(text, &style, at).map_err(failed)
}

fn bar(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
    let bar = Rectangle::new([from, to], colour.filled());
    area.draw(&bar).map_err(failed)
}

fn line(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
    let line = PathElement::new([from, to], colour.stroke_width(1));
    area.draw(&line).map_err(failed)
}

/// Draws names and colours, from left to right and row by row.
fn legend(area: &Area<'_>, peers: &[&Peer], top: i32, left: i32, columns: i32) -> Result<()> {
    for (number, peer) in (0..).zip(peers) {
        let (x, y) = (left + number % columns * 210, top + number / columns * 20);
        bar(area, (x, y), (x + 12, y + 12), colour(peer))?;
        label(area, peer.title, (x + 18, y), 13, HPos::Left)?;
    }
    Ok(())
}

/// Draws a group of bars for each case, with one bar per peer. The line at 1 is the bare echo.
fn ratios(results: &Results, file: &Path) -> Result<bool> {
    let of = |case: &str, peer: &str| ratio(&results.timed, case, peer, RAW, cpu).map(|s| s.median);
    let cases: Vec<_> = MAIN_CASES
        .iter()
        .filter(|(case, _)| {
            PEERS
                .iter()
                .any(|p| p.id != RAW && of(case, p.id).is_some())
        })
        .collect();
    let peers = present(|peer| peer != RAW && cases.iter().any(|c| of(c.0, peer).is_some()));
    if cases.is_empty() {
        return Ok(false);
    }
    const WIDTH: i32 = 1100;
    let (left, top, bottom) = (50, 60, 400);
    let area = canvas(
        file,
        (WIDTH as u32, 490),
        "CPU time per message / bare TCP echo",
    )?;
    let height = |ratio: f64| bottom - ((bottom - top) as f64 * ratio.min(CLIP) / CLIP) as i32;
    for step in 0..=6 {
        let at = f64::from(step) / 2.0;
        let grey = if step == 2 { 0x40 } else { 0xdd };
        let colour = RGBColor(grey, grey, grey);
        line(&area, (left, height(at)), (WIDTH - 20, height(at)), colour)?;
        label(
            &area,
            &format!("{at:.1}"),
            (left - 6, height(at) - 7),
            12,
            HPos::Right,
        )?;
    }
    let group = (WIDTH - 20 - left) / cases.len() as i32;
    let each = ((group - 14) / peers.len() as i32).clamp(3, 30);
    for (number, (case, name)) in (0..).zip(&cases) {
        let start = left + number * group + (group - each * peers.len() as i32) / 2;
        let mut cut_off = 0;
        for (place, peer) in (0..).zip(&peers) {
            let Some(ratio) = of(case, peer.id) else {
                continue;
            };
            let x = start + place * each;
            bar(
                &area,
                (x, height(ratio)),
                (x + each - 2, bottom),
                colour(peer),
            )?;
            if ratio > CLIP {
                let figure = match ratio {
                    ..9.95 => format!("{ratio:.1}"),
                    _ => format!("{ratio:.0}"),
                };
                // Neighbouring labels have different heights, so that they do not overlap.
                let y = top - 14 - cut_off % 2 * 11;
                label(&area, &figure, (x + each / 2, y), 11, HPos::Center)?;
                cut_off += 1;
            }
        }
        let middle = left + number * group + group / 2;
        label(&area, name, (middle, bottom + 8), 14, HPos::Center)?;
    }
    legend(&area, &peers, bottom + 36, left, 5)?;
    area.present().map_err(failed)?;
    Ok(true)
}

/// Draws a line per peer over the percentiles, with latency on a logarithmic scale.
fn latency(results: &Results, file: &Path) -> Result<bool> {
    let of = |peer: &str, value| figure(&results.timed, "latency-1-rate", peer, value);
    let peers = present(|peer| of(peer, PERCENTILES[0].1).is_some());
    if peers.is_empty() {
        return Ok(false);
    }
    let lines: Vec<Vec<f64>> = peers
        .iter()
        .map(|peer| {
            let values = PERCENTILES.iter().filter_map(|(_, v)| of(peer.id, *v));
            values.map(|s| s.median / 1000.0).collect()
        })
        .collect();
    let all = || lines.iter().flatten().copied();
    let scale = Scale::around(all(), 60, 380);
    let (left, right) = (70, 760);
    let area = canvas(
        file,
        (800, 490),
        "Latency at 5,000 messages a second, microseconds",
    )?;
    scale.grid(&area, left, right)?;
    let step = (right - left - 60) / (PERCENTILES.len() as i32 - 1);
    for (place, (name, _)) in (0..).zip(&PERCENTILES) {
        label(
            &area,
            name,
            (left + 30 + place * step, 390),
            14,
            HPos::Center,
        )?;
    }
    for (peer, values) in peers.iter().zip(&lines) {
        let points = (0..)
            .zip(values)
            .map(|(p, v)| (left + 30 + p * step, scale.at(*v)));
        let points: Vec<_> = points.collect();
        for point in &points {
            let dot = Circle::new(*point, 3, colour(peer).filled());
            area.draw(&dot).map_err(failed)?;
        }
        let line = PathElement::new(points, colour(peer).stroke_width(2));
        area.draw(&line).map_err(failed)?;
    }
    legend(&area, &peers, 420, left, 3)?;
    area.present().map_err(failed)?;
    Ok(true)
}

/// Draws a bar per peer, from left to right, on a logarithmic scale; TLS comes last.
fn idle(results: &Results, file: &Path) -> Result<bool> {
    let mut bars = Vec::new();
    for (case, suffix) in [
        ("idle-plain", ""),
        ("idle-deflate-shared", ", compression"),
        ("idle-tls", ", TLS"),
    ] {
        debug_assert!(cases::find(case).is_some());
        for peer in present(|peer| peer != RAW) {
            if let Some(spread) = figure(&results.timed, case, peer.id, memory) {
                bars.push((peer, format!("{}{suffix}", peer.title), spread.median));
            }
        }
    }
    if bars.is_empty() {
        return Ok(false);
    }
    let height = 60 + 24 * bars.len() as i32 + 40;
    let area = canvas(
        file,
        (800, height as u32),
        "Bytes of an idle connection after one echo",
    )?;
    let (left, right) = (260, 720);
    let most = bars.iter().map(|bar| bar.2).fold(1000.0, f64::max);
    // The scale starts at 10 bytes, so that small figures are visible.
    let decades = (most / 10.0).log10().ceil();
    let x = |bytes: f64| {
        let share = (bytes.max(10.0) / 10.0).log10() / decades;
        left + ((right - left) as f64 * share) as i32
    };
    for decade in 0..=decades as i32 {
        let at = 10_f64.powi(decade + 1);
        line(
            &area,
            (x(at), 45),
            (x(at), height - 40),
            RGBColor(0xdd, 0xdd, 0xdd),
        )?;
        let name = super::tables::grouped(at);
        label(&area, &name, (x(at), height - 34), 12, HPos::Center)?;
    }
    for (number, (peer, name, bytes)) in (0..).zip(&bars) {
        let y = 52 + number * 24;
        bar(
            &area,
            (left, y),
            (x(*bytes).max(left + 2), y + 16),
            colour(peer),
        )?;
        label(&area, name, (left - 8, y + 1), 13, HPos::Right)?;
        let figure = super::tables::grouped(*bytes);
        label(&area, &figure, (x(*bytes) + 6, y + 1), 12, HPos::Left)?;
    }
    area.present().map_err(failed)?;
    Ok(true)
}

/// A logarithmic scale from bottom to top.
struct Scale {
    low: i32,
    high: i32,
    top: i32,
    bottom: i32,
}

impl Scale {
    fn around(values: impl Iterator<Item = f64>, top: i32, bottom: i32) -> Self {
        let logs: Vec<_> = values.map(|value| value.max(0.001).log10()).collect();
        let low = logs.iter().copied().fold(f64::MAX, f64::min).floor() as i32;
        let high = logs.iter().copied().fold(f64::MIN, f64::max).ceil() as i32;
        Self {
            low,
            high: high.max(low + 1),
            top,
            bottom,
        }
    }

    fn at(&self, value: f64) -> i32 {
        let share =
            (value.max(0.001).log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.bottom - (f64::from(self.bottom - self.top) * share) as i32
    }

    /// Draws a line and a number at 1, 2 and 5 of each decade.
    fn grid(&self, area: &Area<'_>, left: i32, right: i32) -> Result<()> {
        for decade in self.low..=self.high {
            for (factor, grey) in [(1.0, 0xbb), (2.0, 0xe6), (5.0, 0xe6)] {
                let at = 10_f64.powi(decade) * factor;
                let y = self.at(at);
                if y < self.top {
                    continue;
                }
                line(area, (left, y), (right, y), RGBColor(grey, grey, grey))?;
                let name = super::tables::grouped(at);
                label(area, &name, (left - 6, y - 7), 12, HPos::Right)?;
            }
        }
        Ok(())
    }
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a picture cannot be drawn: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_reaches_from_decade_to_decade() {
        let scale = Scale::around([20.0, 3000.0].into_iter(), 0, 300);
        assert_eq!(scale.at(10.0), 300);
        assert_eq!(scale.at(10_000.0), 0);
        assert_eq!(scale.at(100.0), 200);
    }

    #[test]
    fn main_cases_are_cases() {
        assert!(
            MAIN_CASES
                .iter()
                .all(|(case, _)| cases::find(case).is_some())
        );
    }
}
