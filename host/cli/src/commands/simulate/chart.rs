//! The chart: two panels over one axis of time, in SVG. Above, how long those granted had waited; below, how much was in
//! use, with each concurrency limit as a dashed line.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use weir_limiter::Counts;

use super::report::{KeyReport, Report};
use super::tally::{Point, SLICES};

/// What is charted: for each key, a point for each slice.
pub(crate) type Lines = BTreeMap<String, Vec<Point>>;

type Drawn<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Area<'b> = DrawingArea<SVGBackend<'b>, Shift>;
type Panel<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

const SIZE: (u32, u32) = (1_120, 720);
const LEGEND_WIDTH: u32 = 200;
const LEGEND_CHARACTERS: usize = 22;
/// As many lines as can be told apart.
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
    RGBColor(23, 150, 170),
];
const GRID: RGBColor = RGBColor(225, 225, 225);
/// Font sizes. plotters writes them a fifth smaller.
const CAPTION: (&str, u32) = ("sans-serif", 20);
const LABEL: (&str, u32) = ("sans-serif", 16);

/// A key, its points and its colour.
type Line<'a> = (&'a KeyReport, &'a [Point], RGBColor);

/// Draws the keys that matter most.
pub(crate) fn svg(report: &Report, lines: &Lines) -> Drawn<String> {
    let (keys, left_out) = choose(report);
    let line = |(key, colour): (_, RGBColor)| {
        let key: &KeyReport = key;
        lines.get(&key.key).map(|points| (key, &**points, colour))
    };
    let lines: Vec<Line<'_>> = keys.into_iter().zip(COLOURS).filter_map(line).collect();
    let more = if left_out > 0 { format!(" ({left_out} more keys are not drawn)") } else { String::new() };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (panels, beside) = root.split_horizontally(SIZE.0 - LEGEND_WIDTH);
        let (above, below) = panels.split_vertically(SIZE.1 / 2);
        waits(&above, &more, report, &lines)?;
        usage(&below, report, &lines)?;
        legend(&beside, &lines)?;
        root.present()?;
    }
    Ok(svg)
}

/// Those with a rule before those without, then the busiest; and how many are left out. What has no rule and is only the
/// sum of the keys below it says nothing of its own.
fn choose(report: &Report) -> (Vec<&KeyReport>, usize) {
    let above =
        |key: &KeyReport| key.key.match_indices('/').map(|(end, _)| key.key[..end].to_owned()).collect::<Vec<_>>();
    let sums: HashSet<String> = report.keys.iter().flat_map(above).collect();
    let mut keys: Vec<&KeyReport> =
        report.keys.iter().filter(|key| key.pattern.is_some() || !sums.contains(&key.key)).collect();
    keys.sort_by_key(|key| (key.pattern.is_none(), Reverse(key.arrivals)));
    let left_out = keys.len().saturating_sub(COLOURS.len());
    keys.truncate(COLOURS.len());
    (keys, left_out)
}

fn waits(area: &Area<'_>, more: &str, report: &Report, lines: &[Line<'_>]) -> Drawn<()> {
    let all = lines.iter().flat_map(|(_, points, _)| *points).filter_map(|point| point.wait);
    let highest = all.max().unwrap_or(0) as f64 / 1e9;
    let scale = Scale::of(highest);
    let caption = format!("wait of those granted, 99th percentile{more}");
    let mut panel = panel(area, &caption, report, highest / scale.seconds, scale.unit)?;
    for (_, points, colour) in lines {
        let points = points.iter().map(|point| point.wait.map(|wait| wait as f64 / 1e9 / scale.seconds));
        draw(&mut panel, report, points, *colour)?;
    }
    Ok(())
}

fn usage(area: &Area<'_>, report: &Report, lines: &[Line<'_>]) -> Drawn<()> {
    let limit = |key: &KeyReport| key.in_use.limit.map_or(0.0, |limit| f64::from(limit.0.limit));
    let used = |key: &KeyReport, point: &Point| match key.in_use.limit.map(|limit| limit.0.counts) {
        Some(Counts::Cost) => point.used.1,
        _ => point.used.0,
    };
    let all = lines.iter().flat_map(|(key, points, _)| points.iter().map(|point| used(key, point)));
    let peak = all.fold(0.0, f64::max);
    // A limit far above all usage would press the lines to the ground.
    let highest = lines.iter().map(|(key, ..)| limit(key)).filter(|limit| *limit <= peak * 3.0).fold(peak, f64::max);
    let mut panel = panel(area, "in use, mean (dashed: the limit)", report, highest, "")?;
    for (key, points, colour) in lines {
        let limit = limit(key);
        if limit > 0.0 && limit <= highest {
            let ends = [(0.0, limit), (report.seconds / Scale::of(report.seconds).seconds, limit)];
            panel.draw_series(DashedLineSeries::new(ends, 6, 5, ShapeStyle::from(colour).stroke_width(1)))?;
        }
        draw(&mut panel, report, points.iter().map(|point| Some(used(key, point))), *colour)?;
    }
    Ok(())
}

/// A unit of time in which an axis has short labels.
#[derive(Debug, Clone, Copy)]
struct Scale {
    seconds: f64,
    unit: &'static str,
}

impl Scale {
    /// For an axis of so many seconds.
    fn of(length: f64) -> Self {
        let (seconds, unit) = match length {
            length if length > 2.0 * 86_400.0 => (86_400.0, "d"),
            length if length > 2.0 * 3_600.0 => (3_600.0, "h"),
            length if length > 2.0 * 60.0 => (60.0, "min"),
            length if length >= 1.0 => (1.0, "s"),
            length if length >= 1e-3 || length == 0.0 => (1e-3, "ms"),
            _ => (1e-6, "us"),
        };
        Self { seconds, unit }
    }
}

fn panel<'a, 'b>(area: &'a Area<'b>, caption: &str, report: &Report, highest: f64, unit: &str) -> Drawn<Panel<'a, 'b>> {
    let top = if highest > 0.0 { highest * 1.08 } else { 1.0 };
    let time = Scale::of(report.seconds);
    let mut panel = ChartBuilder::on(area)
        .caption(caption, CAPTION)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(28)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..report.seconds / time.seconds, 0.0..top)?;
    let mut mesh = panel.configure_mesh();
    mesh.light_line_style(TRANSPARENT).bold_line_style(GRID).x_labels(12).y_labels(6);
    mesh.label_style(LABEL);
    mesh.x_label_formatter(&|x| amount(*x, time.unit)).y_label_formatter(&|y| amount(*y, unit)).draw()?;
    Ok(panel)
}

/// Draws a line, with a gap wherever there is no point.
fn draw(
    panel: &mut Panel<'_, '_>,
    report: &Report,
    points: impl Iterator<Item = Option<f64>>,
    colour: RGBColor,
) -> Drawn<()> {
    // A slice is shown by its middle.
    let width = report.seconds / Scale::of(report.seconds).seconds / SLICES as f64;
    let at = |(slice, y): (usize, Option<f64>)| y.map(|y| ((slice as f64 + 0.5) * width, y));
    let points: Vec<Option<(f64, f64)>> = points.enumerate().map(at).collect();
    let style = ShapeStyle::from(colour).stroke_width(2);
    for part in points.split(Option::is_none).filter(|part| !part.is_empty()) {
        if let [Some(alone)] = part {
            panel.draw_series([Circle::new(*alone, 2, colour.filled())])?;
        } else {
            panel.draw_series(LineSeries::new(part.iter().copied().flatten(), style))?;
        }
    }
    Ok(())
}

/// Beside the panels, where it covers nothing.
fn legend(area: &Area<'_>, lines: &[Line<'_>]) -> Drawn<()> {
    for (index, (key, _, colour)) in lines.iter().enumerate() {
        let y = 48 + 24 * index as i32;
        area.draw(&PathElement::new([(4, y + 6), (24, y + 6)], ShapeStyle::from(colour).stroke_width(2)))?;
        area.draw(&Text::new(shown(&key.key), (30, y), LABEL.into_font()))?;
    }
    Ok(())
}

/// As much of a key as there is room for. The end tells keys apart best.
fn shown(key: &str) -> String {
    // Names are ASCII, so bytes are characters.
    match key.len().checked_sub(LEGEND_CHARACTERS) {
        None | Some(0) => key.to_owned(),
        Some(over) => format!("..{}", &key[over + 2..]),
    }
}

/// With as many digits as it needs, and no more than three behind the point.
fn amount(number: f64, unit: &str) -> String {
    let text = format!("{number:.3}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}
