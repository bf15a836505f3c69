//! The chart of a run, as SVG on white, legible with light and dark page backgrounds.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::series::Sample;

/// Colours that are distinct with most forms of colour blindness.
const ORANGE: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const DARK_BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const GREEN: RGBColor = RGBColor(0x00, 0x9e, 0x73);
const GREY: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line of a panel.
struct Line {
    name: &'static str,
    colour: RGBColor,
    value: fn(&Sample) -> f64,
}

/// A panel of the chart, with its own scale.
struct Panel {
    title: &'static str,
    is_logarithmic: bool,
    lines: &'static [Line],
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "Memory, MB",
        is_logarithmic: false,
        lines: &[
            Line {
                name: "resident, servers",
                colour: ORANGE,
                value: |sample| sample.resident as f64 / 1e6,
            },
            Line {
                name: "allocated, servers",
                colour: DARK_BLUE,
                value: |sample| sample.heap as f64 / 1e6,
            },
            Line {
                name: "resident, load",
                colour: GREEN,
                value: |sample| sample.load_resident as f64 / 1e6,
            },
        ],
    },
    Panel {
        title: "Connections and descriptors",
        is_logarithmic: false,
        lines: &[
            Line {
                name: "descriptors of the servers",
                colour: ORANGE,
                value: |sample| sample.descriptors as f64,
            },
            Line {
                name: "open WebSockets",
                colour: DARK_BLUE,
                value: |sample| sample.open as f64,
            },
        ],
    },
    Panel {
        title: "Round trip, milliseconds",
        is_logarithmic: true,
        lines: &[
            Line {
                name: "longest",
                colour: ORANGE,
                value: |sample| sample.longest as f64 / 1e3,
            },
            Line {
                name: "99 of 100 within",
                colour: GREEN,
                value: |sample| sample.p99 as f64 / 1e3,
            },
            Line {
                name: "half within",
                colour: DARK_BLUE,
                value: |sample| sample.median as f64 / 1e3,
            },
        ],
    },
    Panel {
        title: "Processors",
        is_logarithmic: false,
        lines: &[
            Line {
                name: "waited for, both",
                colour: RGBColor(0x7f, 0x7f, 0x7f),
                value: |sample| sample.waited,
            },
            Line {
                name: "used by the servers",
                colour: ORANGE,
                value: |sample| sample.server_cpu,
            },
            Line {
                name: "used by the load",
                colour: GREEN,
                value: |sample| sample.load_cpu,
            },
        ],
    },
];

/// Draws the samples of a run.
///
/// # Errors
///
/// Fails if the file cannot be written.
pub(crate) fn draw(samples: &[Sample], file: &Path) -> Result<()> {
    let height = TOP + PANELS.len() as i32 * (PANEL + GAP) - 12;
    let area = SVGBackend::new(file, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let minutes = samples.last().map_or(1.0, |sample| sample.seconds / 60.0);
    let x =
        |sample: &Sample| LEFT + (f64::from(RIGHT - LEFT) * sample.seconds / 60.0 / minutes) as i32;
    for (number, panel) in (0..).zip(&PANELS) {
        let top = TOP + number * (PANEL + GAP);
        let scale = Scale::of(panel, samples, top, top + PANEL);
        label(&area, panel.title, (LEFT, top - 22), 15, HPos::Left)?;
        scale.grid(&area)?;
        let each = step(minutes);
        for mark in 0..=(minutes / each) as i32 {
            let at = f64::from(mark) * each;
            let x = LEFT + (f64::from(RIGHT - LEFT) * at / minutes) as i32;
            line(&area, &[(x, top), (x, top + PANEL)], GREY, 1)?;
            label(&area, &plain(at), (x, top + PANEL + 4), 12, HPos::Center)?;
        }
        for (place, shown) in (0..).zip(panel.lines) {
            // A sample without round trips has no value on a logarithmic scale.
            let is_there = |sample: &Sample| !panel.is_logarithmic || (shown.value)(sample) > 0.0;
            for part in samples.chunk_by(|a, b| is_there(a) && is_there(b)) {
                let part = part.iter().filter(|sample| is_there(sample));
                let points = part.map(|sample| (x(sample), scale.at((shown.value)(sample))));
                line(&area, &points.collect::<Vec<_>>(), shown.colour, 1)?;
            }
            let left = RIGHT - 190 * (panel.lines.len() as i32 - place);
            let sign = Rectangle::new(
                [(left, top - 18), (left + 12, top - 6)],
                shown.colour.filled(),
            );
            area.draw(&sign).map_err(failed)?;
            label(&area, shown.name, (left + 18, top - 20), 13, HPos::Left)?;
        }
    }
    label(&area, "minutes", (RIGHT, height - 16), 12, HPos::Right)?;
    area.present().map_err(failed)
}

/// A scale from bottom to top.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    high: f64,
    is_logarithmic: bool,
    top: i32,
    bottom: i32,
}

impl Scale {
    /// Returns a scale that covers all values of a panel.
    fn of(panel: &Panel, samples: &[Sample], top: i32, bottom: i32) -> Self {
        let values = || {
            let each = panel.lines.iter();
            let values = each.flat_map(|line| samples.iter().map(|sample| (line.value)(sample)));
            values.filter(|value| *value > 0.0)
        };
        let most = values().fold(f64::MIN_POSITIVE, f64::max);
        let (low, high) = match panel.is_logarithmic {
            true => {
                let least = values().fold(most, f64::min).max(most / 1e6);
                let low = least.log10().floor();
                (low, most.log10().ceil().max(low + 1.0))
            }
            false => (0.0, most * 1.05),
        };
        Self {
            low,
            high,
            is_logarithmic: panel.is_logarithmic,
            top,
            bottom,
        }
    }

    fn at(&self, value: f64) -> i32 {
        let value = match self.is_logarithmic {
            true => value.max(f64::MIN_POSITIVE).log10(),
            false => value,
        };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.bottom - (f64::from(self.bottom - self.top) * share) as i32
    }

    /// Draws horizontal lines with numbers.
    fn grid(&self, area: &Area<'_>) -> Result<()> {
        let marks: Vec<f64> = match self.is_logarithmic {
            true => (self.low as i32..=self.high as i32)
                .map(|decade| 10_f64.powi(decade))
                .collect(),
            false => {
                let each = step(self.high);
                (0..=(self.high / each) as i32)
                    .map(|mark| f64::from(mark) * each)
                    .collect()
            }
        };
        for mark in marks {
            let y = self.at(mark);
            line(area, &[(LEFT, y), (RIGHT, y)], GREY, 1)?;
            label(area, &plain(mark), (LEFT - 6, y - 7), 12, HPos::Right)?;
        }
        Ok(())
    }
}

/// Returns the distance between marks, so that there are at most eight.
fn step(most: f64) -> f64 {
    let decade = 10_f64.powf((most / 5.0).log10().floor());
    let fits = |factor: &f64| most / (decade * factor) <= 8.0;
    let factor = [1.0, 2.0, 5.0].into_iter().find(fits);
    decade * factor.unwrap_or(10.0)
}

/// Formats a number without trailing zeros.
fn plain(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn label(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, align: HPos) -> Result<()> {
    let style = ("sans-serif", size).into_text_style(area);
    let style = style.pos(Pos::new(align, VPos::Top));
    area.draw_text(text, &style, at).map_err(failed)
}

fn line(area: &Area<'_>, points: &[(i32, i32)], colour: RGBColor, width: u32) -> Result<()> {
    let line = PathElement::new(points.to_vec(), colour.stroke_width(width));
    area.draw(&line).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the picture cannot be drawn: {error}")
}

const WIDTH: i32 = 1000;
const LEFT: i32 = 70;
const RIGHT: i32 = 980;
const TOP: i32 = 34;
const PANEL: i32 = 170;
const GAP: i32 = 52;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_neither_few_nor_many() {
        for most in [0.3, 1.0, 2.4, 7.0, 61.0, 480.0, 10_710.0] {
            let marks = most / step(most);
            assert!((2.0..=8.0).contains(&marks), "{most}: {marks}");
        }
        assert_eq!(plain(0.05), "0.05");
        assert_eq!(plain(10.0), "10");
    }

    #[test]
    fn a_scale_reaches_from_decade_to_decade() {
        let scale = Scale {
            low: 0.0,
            high: 3.0,
            is_logarithmic: true,
            top: 0,
            bottom: 300,
        };
        assert_eq!(
            (scale.at(1.0), scale.at(1000.0), scale.at(10.0)),
            (300, 0, 200)
        );
        assert_eq!(scale.at(0.0), 300);
    }
}
