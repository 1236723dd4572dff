//! The figures: latency against occupancy, and success when the range is full of TIME_WAIT.
//!
//! Each has an opaque background of its own, so that it reads the same on a light and on a dark page.

use std::fs;
use std::io;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::results::{CaseResult, ContenderResult, Placed};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const BACKGROUND: RGBColor = RGBColor(0xfb, 0xfb, 0xf9);
const BORDER: RGBColor = RGBColor(0xd0, 0xd4, 0xd9);
const GRID: RGBColor = RGBColor(0xe3, 0xe5, 0xe8);
const TEXT: RGBColor = RGBColor(0x24, 0x29, 0x2f);
const FAINT_TEXT: RGBColor = RGBColor(0x57, 0x60, 0x6a);
const FONT: &str = "sans-serif";

/// How a contender is drawn.
struct Look {
    name: &'static str,
    color: RGBColor,
    width: u32,
}

/// Told apart by lightness too, for those who do not see the colours (after Okabe and Ito).
const LOOKS: [Look; 5] = [
    Look { name: "stock", color: RGBColor(0xd5, 0x5e, 0x00), width: 2 },
    Look { name: "so_reuseaddr", color: RGBColor(0x8f, 0x2d, 0x6b), width: 2 },
    Look { name: "std", color: RGBColor(0xc2, 0x94, 0x00), width: 2 },
    Look { name: "floor", color: RGBColor(0x8a, 0x8f, 0x96), width: 2 },
    Look { name: "ic_listener", color: RGBColor(0x00, 0x62, 0xa8), width: 4 },
];

/// Draws what the results suffice for.
pub fn draw(results: &[CaseResult], directory: &Path) -> io::Result<()> {
    let figures = [
        ("latency_by_occupancy.svg", latency_by_occupancy(results)),
        ("success_in_time_wait.svg", success_in_time_wait(results)),
    ];
    for (name, figure) in figures {
        if let Some(svg) = figure.map_err(|error| io::Error::other(error.to_string()))? {
            fs::write(directory.join(name), svg)?;
        }
    }
    Ok(())
}

type Statistic = fn(&ContenderResult) -> Option<f64>;

type Figure = Result<Option<String>, Box<dyn std::error::Error>>;

fn latency_by_occupancy(results: &[CaseResult]) -> Figure {
    let Some(quiet) = results.iter().find(|result| result.case == "quiet") else { return Ok(None) };
    let series_of = |placed: Placed| -> Vec<(u32, &CaseResult)> {
        let held = results.iter().filter(|result| result.case.starts_with("held_"));
        let held = held.filter_map(|result| Some((result.occupancy.as_ref()?, result)));
        let held = held.filter(|(occupancy, _)| occupancy.placed == placed);
        [(0, quiet)].into_iter().chain(held.map(|(occupancy, result)| (occupancy.percent, result))).collect()
    };
    let columns = [
        ("held by listeners placed by SO_REUSEADDR + bind(0)", series_of(Placed::BySoReuseaddrAndBind0)),
        ("held by listeners placed at random", series_of(Placed::AtRandom)),
    ];
    if columns.iter().any(|(_, series)| series.len() < 2) {
        return Ok(None);
    }
    let rows: [(&str, Statistic); 2] =
        [("median (p50)", |contender| Some(contender.p50_us)), ("99th percentile (p99)", |contender| contender.p99_us)];

    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (1120, 840)).into_drawing_area();
        let panels = headed(
            &root,
            "Time to get a listener while others hold part of the port range",
            &format!("{}. Wildcard address, log scale, lower is better.", machine(quiet)),
        )?;
        for (band, (statistic, value)) in panels.split_evenly((2, 1)).iter().zip(rows) {
            for (panel, (how, series)) in band.split_evenly((1, 2)).iter().zip(&columns) {
                latency_panel(panel, &format!("{statistic}, {how}"), series, value)?;
            }
        }
        root.present()?;
    }
    Ok(Some(svg))
}

fn latency_panel(
    panel: &Area<'_>,
    caption: &str,
    series: &[(u32, &CaseResult)],
    value: Statistic,
) -> Result<(), Box<dyn std::error::Error>> {
    const LABEL_WIDTH: u32 = 124;
    panel.draw(&Text::new(caption.to_owned(), (62, 8), text(14, TEXT)))?;
    let mut chart = ChartBuilder::on(panel)
        .margin_top(32)
        .margin_bottom(12)
        .margin_right(LABEL_WIDTH)
        .set_label_area_size(LabelAreaPosition::Left, 58)
        .set_label_area_size(LabelAreaPosition::Bottom, 42)
        .build_cartesian_2d(0f64..100f64, (2f64..30_000f64).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(BORDER)
        .x_labels(11)
        .y_labels(5)
        .x_label_formatter(&|percent| format!("{percent:.0} %"))
        .y_label_formatter(&|&us| duration(us))
        .x_desc("share of the range that is held; 0 % is a quiet host")
        .label_style(text(12, FAINT_TEXT))
        .axis_desc_style(text(12, FAINT_TEXT))
        .draw()?;

    let mut ends = Vec::new();
    for look in &LOOKS {
        let points: Vec<(f64, f64)> = series
            .iter()
            .filter_map(|(percent, result)| Some((f64::from(*percent), value(result.of(look.name)?)?)))
            .collect();
        let style = look.color.stroke_width(look.width);
        chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
        chart.draw_series(
            points.iter().map(|&point| Circle::new(point, look.width as i32 / 2 + 1, look.color.filled())),
        )?;
        if let Some(&last) = points.last() {
            ends.push((chart.backend_coord(&last), look, last.1));
        }
    }
    // From top to bottom, each at least a line below the one before.
    const LINE: i32 = 15;
    ends.sort_by_key(|((_, y), ..)| *y);
    let (left, top) = panel.get_base_pixel();
    let mut lowest = i32::MIN;
    let spread: Vec<i32> = ends
        .iter()
        .map(|((_, y), ..)| {
            lowest = (*y).max(lowest.saturating_add(LINE));
            lowest
        })
        .collect();
    for (((x, _), look, us), y) in ends.iter().zip(spread) {
        let style = text(12, look.color).pos(Pos::new(HPos::Left, VPos::Center));
        let label = format!("{} {}", look.name, duration(*us));
        panel.draw(&Text::new(label, (x - left + 9, y - top), style))?;
    }
    Ok(())
}

fn success_in_time_wait(results: &[CaseResult]) -> Figure {
    let find = |case: &str| results.iter().find(|result| result.case == case);
    let (Some(reusable), Some(not_reusable)) = (find("time_wait_reusable"), find("time_wait_not_reusable")) else {
        return Ok(None);
    };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (1120, 330)).into_drawing_area();
        let panels = headed(
            &root,
            "Calls that get a listener when every port of the range is in TIME_WAIT",
            &format!("{}. 28,232 ports, wildcard address.", machine(reusable)),
        )?;
        let halves = panels.split_evenly((1, 2));
        success_panel(&halves[0], "left by sockets with SO_REUSEADDR", reusable)?;
        success_panel(&halves[1], "left by sockets without it: the kernel lets nobody have them", not_reusable)?;
        root.present()?;
    }
    Ok(Some(svg))
}

fn success_panel(panel: &Area<'_>, caption: &str, result: &CaseResult) -> Result<(), Box<dyn std::error::Error>> {
    panel.draw(&Text::new(caption.to_owned(), (100, 8), text(14, TEXT)))?;
    // The floor is told of a port outside the range, and says nothing here.
    let bars: Vec<&Look> = LOOKS.iter().filter(|look| look.name != "floor").collect();
    let mut chart = ChartBuilder::on(panel)
        .margin_top(32)
        .margin_right(24)
        .set_label_area_size(LabelAreaPosition::Left, 96)
        .set_label_area_size(LabelAreaPosition::Bottom, 42)
        .build_cartesian_2d(0f64..100f64, 0f64..bars.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(BORDER)
        .x_labels(6)
        .x_label_formatter(&|percent| format!("{percent:.0} %"))
        .x_desc("share of the calls that succeed")
        .label_style(text(12, FAINT_TEXT))
        .axis_desc_style(text(12, FAINT_TEXT))
        .draw()?;
    for (index, look) in bars.iter().enumerate() {
        let Some(contender) = result.of(look.name) else { continue };
        // From the top.
        let bottom = (bars.len() - 1 - index) as f64;
        let share = 100.0 * contender.success_rate;
        chart.draw_series([Rectangle::new([(0.0, bottom + 0.22), (share, bottom + 0.78)], look.color.filled())])?;

        let (left, top) = panel.get_base_pixel();
        let (zero, y) = chart.backend_coord(&(0.0, bottom + 0.5));
        let name = text(13, look.color).pos(Pos::new(HPos::Right, VPos::Center));
        panel.draw(&Text::new(look.name, (zero - left - 8, y - top), name))?;
        let took = duration(contender.p50_us);
        let how = if contender.succeeded == 0 { "refused after" } else { "in" };
        let label = format!("{} of {}, {how} {took}", contender.succeeded, contender.calls);
        let inside = share > 50.0;
        let style = text(13, if inside { WHITE } else { TEXT }).pos(Pos::new(HPos::Left, VPos::Center));
        let (end, _) = chart.backend_coord(&(if inside { 0.0 } else { share }, bottom));
        panel.draw(&Text::new(label, (end - left + 8, y - top), style))?;
    }
    Ok(())
}

/// Background, heading and a line below it; gives the area that is left.
fn headed<'a>(root: &Area<'a>, heading: &str, below: &str) -> Result<Area<'a>, Box<dyn std::error::Error>> {
    let (width, height) = root.dim_in_pixel();
    root.fill(&BACKGROUND)?;
    root.draw(&Rectangle::new([(0, 0), (width as i32 - 1, height as i32 - 1)], BORDER))?;
    root.draw(&Text::new(heading.to_owned(), (20, 16), text(20, TEXT)))?;
    root.draw(&Text::new(below.to_owned(), (20, 44), text(13, FAINT_TEXT)))?;
    Ok(root.margin(74, 10, 10, 10))
}

fn text(size: u32, color: RGBColor) -> TextStyle<'static> {
    (FONT, size).into_font().color(&color)
}

/// In the unit and to the place that a reader compares by.
fn duration(us: f64) -> String {
    match us {
        _ if us < 9.95 => format!("{us:.1} \u{b5}s").replace(".0 ", " "),
        _ if us < 999.5 => format!("{us:.0} \u{b5}s"),
        _ if us < 9_950.0 => format!("{:.1} ms", us / 1000.0).replace(".0 ", " "),
        _ => format!("{:.0} ms", us / 1000.0),
    }
}

fn machine(result: &CaseResult) -> String {
    format!("Linux {}, {}, {} CPUs", result.kernel, result.cpu, result.cpus)
}
