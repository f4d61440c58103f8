//! The chart: two panels over one axis of time, in SVG. Above, how long those granted had waited; below, how much was in
//! use, with each concurrency limit as a dashed line.

use std::collections::BTreeMap;
use std::time::Duration;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use weir_limiter::Counts;

use super::report::{KeyReport, Report};
use super::tally::{Point, SLICES};

/// What is charted: for each key, a point for each slice.
pub(crate) type Lines = BTreeMap<String, Vec<Point>>;

type Drawn<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Panel<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

const SIZE: (u32, u32) = (1_000, 720);
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

/// Draws the lines of the keys that matter most: those with a rule before those without, then the busiest.
pub(crate) fn svg(report: &Report, lines: &Lines) -> Drawn<String> {
    let mut keys: Vec<&KeyReport> = report.keys.iter().collect();
    keys.sort_by_key(|key| (key.pattern.is_none(), std::cmp::Reverse(key.arrivals)));
    let left_out = keys.len().saturating_sub(COLOURS.len());
    keys.truncate(COLOURS.len());
    let drawn: Vec<(&KeyReport, &[Point], RGBColor)> = keys
        .into_iter()
        .zip(COLOURS)
        .filter_map(|(key, colour)| Some((key, &**lines.get(&key.key)?, colour)))
        .collect();

    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (above, below) = root.split_vertically(SIZE.1 / 2);
        let more = if left_out > 0 { format!(" ({left_out} more keys are not drawn)") } else { String::new() };

        let waits = |key: &[Point]| key.iter().filter_map(|point| point.wait).max().unwrap_or(0);
        let highest = drawn.iter().map(|(_, points, _)| waits(points)).max().unwrap_or(0) as f64 / 1e9;
        let mut panel = panel(&above, &format!("wait of those granted, p99{more}"), report.seconds, highest, &time)?;
        for (key, points, colour) in &drawn {
            let at = |(slice, point): (usize, &Point)| Some((middle(slice, report), point.wait? as f64 / 1e9));
            line(&mut panel, &key.key, points.iter().enumerate().map(at), *colour)?;
        }
        legend(&mut panel)?;

        let limit = |key: &KeyReport| key.in_use.limit.map_or(0.0, |limit| f64::from(limit.0.limit));
        let used = |key: &KeyReport, point: &Point| match key.in_use.limit.map(|limit| limit.0.counts) {
            Some(Counts::Cost) => point.used.1,
            _ => point.used.0,
        };
        let most = |key: &KeyReport, points: &[Point]| points.iter().map(|point| used(key, point)).fold(0.0, f64::max);
        let peak = drawn.iter().map(|(key, points, _)| most(key, points)).fold(0.0, f64::max);
        // A limit far above all usage would press the lines to the ground.
        let limits = drawn.iter().map(|(key, ..)| limit(key)).filter(|limit| *limit <= peak * 3.0);
        let highest = limits.fold(peak, f64::max);
        let mut panel = self::panel(&below, "in use, mean (dashed: the limit)", report.seconds, highest, &amount)?;
        for (key, points, colour) in &drawn {
            let at = |(slice, point): (usize, &Point)| Some((middle(slice, report), used(key, point)));
            line(&mut panel, &key.key, points.iter().enumerate().map(at), *colour)?;
            let limit = limit(key);
            if limit > 0.0 && limit <= highest {
                let ends = [(0.0, limit), (report.seconds, limit)];
                panel.draw_series(DashedLineSeries::new(ends, 6, 5, ShapeStyle::from(colour).stroke_width(1)))?;
            }
        }
        legend(&mut panel)?;
        root.present()?;
    }
    Ok(svg)
}

/// The middle of a slice, in seconds.
fn middle(slice: usize, report: &Report) -> f64 {
    (slice as f64 + 0.5) * report.seconds / SLICES as f64
}

fn panel<'a, 'b>(
    area: &'a DrawingArea<SVGBackend<'b>, Shift>,
    caption: &str,
    seconds: f64,
    highest: f64,
    label: &dyn Fn(&f64) -> String,
) -> Drawn<Panel<'a, 'b>> {
    let top = if highest > 0.0 { highest * 1.08 } else { 1.0 };
    let mut panel = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .margin_right(24)
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..seconds, 0.0..top)?;
    let mesh = &mut panel.configure_mesh();
    mesh.light_line_style(TRANSPARENT).bold_line_style(GRID).x_labels(9).y_labels(6);
    mesh.label_style(("sans-serif", 13)).x_label_formatter(&time).y_label_formatter(label).draw()?;
    Ok(panel)
}

/// Draws a line, with a gap wherever there is no point.
fn line(
    panel: &mut Panel<'_, '_>,
    name: &str,
    points: impl Iterator<Item = Option<(f64, f64)>>,
    colour: RGBColor,
) -> Drawn<()> {
    let points: Vec<Option<(f64, f64)>> = points.collect();
    let mut named = false;
    for part in points.split(Option::is_none).filter(|part| !part.is_empty()) {
        let style = ShapeStyle::from(&colour).stroke_width(2);
        // A point with gaps on both sides is shown as a dot.
        let drawn = if let [Some(point)] = part {
            panel.draw_series([Circle::new(*point, 2, colour.filled())])?
        } else {
            panel.draw_series(LineSeries::new(part.iter().copied().flatten(), style))?
        };
        if !std::mem::replace(&mut named, true) {
            drawn.label(name).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 18, y)], ShapeStyle::from(&colour).stroke_width(2))
            });
        }
    }
    Ok(())
}

fn legend<'a, 'b: 'a>(panel: &mut Panel<'a, 'b>) -> Drawn<()> {
    let mut labels = panel.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperRight).label_font(("sans-serif", 13));
    Ok(labels.background_style(WHITE.mix(0.85)).border_style(GRID).draw()?)
}

/// Seconds, as people say them.
fn time(seconds: &f64) -> String {
    match *seconds {
        0.0 => "0".to_owned(),
        s if s < 1.0 => format!("{}ms", amount(&(s * 1e3))),
        s if s < 120.0 => format!("{}s", amount(&s)),
        s => humantime::format_duration(Duration::from_secs(s.round() as u64)).to_string().replace(' ', ""),
    }
}

/// With as many digits as it needs, and no more than three behind the point.
fn amount(number: &f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
