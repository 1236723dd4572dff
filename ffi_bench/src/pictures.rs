//! The picture: latency against occupancy.

use std::fs;
use std::io;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::cases::OCCUPANCIES;
use crate::measure::Condition;
use crate::namespace::DEFAULT_PORTS;
use crate::results::{Case, Run};
use crate::tables::{machine, with_commas};

const FILE: &str = "latency_by_occupancy.svg";

type Drawn<T> = Result<T, Box<dyn std::error::Error>>;

/// How a contender is drawn.
struct Look {
    contender: &'static str,
    name: &'static str,
    color: RGBColor,
    width: u32,
    /// Whether it is shaded up to its 99th percentile. Not everyone, for the sake of those who look.
    to_p99: bool,
}

/// From the lowest layer to the topmost. Curves lie on each other where contenders do the same, so the broad ones come
/// first. Colours after Okabe and Ito.
const LOOKS: [Look; 5] = [
    look("so_reuseaddr", "with SO_REUSEADDR", RGBColor(0xcc, 0x79, 0xa7), 8),
    Look { to_p99: true, ..look("stock", "Greenplum's C", RGBColor(0xd5, 0x5e, 0x00), 5) },
    Look { to_p99: true, ..look("ic_listener", "ic_listener", RGBColor(0x00, 0x72, 0xb2), 5) },
    look("bind(0)", "bind(0)", RGBColor(0x5c, 0x3d, 0x00), 2),
    look("floor", "floor", RGBColor(0x6e, 0x77, 0x81), 2),
];

const fn look(contender: &'static str, name: &'static str, color: RGBColor, width: u32) -> Look {
    Look { contender, name, color, width, to_p99: false }
}

/// Draws what the results suffice for: nothing after a part of a run.
pub fn draw(run: &Run, directory: &Path) -> io::Result<()> {
    match picture(run) {
        Some(svg) => fs::write(directory.join(FILE), svg.map_err(|error| io::Error::other(error.to_string()))?),
        None => Ok(()),
    }
}

fn picture(run: &Run) -> Option<Drawn<String>> {
    let by_bind_0 = cases(run, "by_bind_0")?;
    let at_random = cases(run, "at_random")?;
    Some(latency_by_occupancy(
        run,
        &[("Ports held as SO_REUSEADDR and bind(0) take them", by_bind_0), ("Ports held at random", at_random)],
    ))
}

/// By percent of the range that is held.
fn cases<'a>(run: &'a Run, series: &str) -> Option<Vec<(f64, &'a Case)>> {
    let held = OCCUPANCIES.map(|percent| (percent as f64, format!("{series}_{percent}")));
    let all = [(0.0, "quiet".to_owned())].into_iter().chain(held);
    all.map(|(percent, name)| Some((percent, run.of(&name, Condition::Cold)?))).collect()
}

fn font(size: u32) -> TextStyle<'static> {
    // The SVG back end makes fonts smaller by this factor.
    ("sans-serif", f64::from(size) * 1.24).into_font().color(&BLACK)
}

fn latency_by_occupancy(run: &Run, panels: &[(&str, Vec<(f64, &Case)>)]) -> Drawn<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (900, 900)).into_drawing_area();
        root.fill(&WHITE)?;
        let heading = [
            "Median time of a call on cold caches, log scale. Shaded up to the 99th percentile: Greenplum's C, ic_listener.",
            "bind(0) is Greenplum's C without getaddrinfo(). floor is the fewest system calls, on a port known to be free.",
            &format!("Wildcard address, a range of {} ports; {}.", with_commas(DEFAULT_PORTS as f64), machine(run)),
        ];
        root.draw(&Text::new("Time to get a listener while others hold a part of the port range", (20, 10), font(18)))?;
        for (y, line) in (38..).step_by(18).zip(heading) {
            root.draw(&Text::new(line, (20, y), font(13)))?;
        }
        let (_, below) = root.split_vertically(100);
        for (area, (caption, cases)) in below.split_evenly((2, 1)).iter().zip(panels) {
            draw_panel(area, caption, cases)?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn draw_panel(area: &DrawingArea<SVGBackend<'_>, Shift>, caption: &str, cases: &[(f64, &Case)]) -> Drawn<()> {
    let mut chart = ChartBuilder::on(area)
        .caption(caption, font(14))
        .margin(10)
        .margin_right(30)
        .set_label_area_size(LabelAreaPosition::Left, 60)
        .set_label_area_size(LabelAreaPosition::Bottom, 45)
        // Equal in all panels, so that slopes can be compared.
        .build_cartesian_2d(0f64..100f64, (10f64..20_000f64).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(11)
        .x_label_formatter(&|percent| format!("{percent:.0} %"))
        .x_desc("share of the range that is held; 0 % is a quiet host")
        .y_label_formatter(&|&us| if us < 1000.0 { format!("{us} \u{b5}s") } else { format!("{} ms", us / 1000.0) })
        .label_style(font(13))
        .draw()?;
    for look in &LOOKS {
        let of_all = cases.iter().filter_map(|(percent, case)| Some((*percent, case.of(look.contender)?)));
        // Where it got something.
        let figures: Vec<_> = of_all.filter(|(_, one)| one.succeeded > 0).collect();
        let p50 = figures.iter().map(|(percent, one)| (*percent, one.p50_us));
        if look.to_p99 {
            let with_p99 = figures.iter().filter_map(|(percent, one)| Some((*percent, one.p50_us, one.p99_us?)));
            let (lower, upper): (Vec<_>, Vec<_>) = with_p99.map(|(x, p50, p99)| ((x, p50), (x, p99))).unzip();
            let outline: Vec<_> = lower.into_iter().chain(upper.into_iter().rev()).collect();
            chart.draw_series([Polygon::new(outline, look.color.mix(0.14))])?;
        }
        let style = look.color.stroke_width(look.width);
        chart
            .draw_series(LineSeries::new(p50, style))?
            .label(look.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 25, y)], style));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).label_font(font(13)).draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::DIRECTORY;

    /// After a measurement, or a change of how it is drawn, `make draw`.
    #[test]
    fn the_picture_shows_the_results_beside_it() {
        let directory = Path::new(DIRECTORY);
        let svg = picture(&Run::read(directory).unwrap()).unwrap().unwrap();
        let stored = fs::read_to_string(directory.join(FILE)).unwrap();
        assert!(stored == svg, "{FILE} is not what the results say");
    }
}
