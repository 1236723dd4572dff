//! The picture: latency against occupancy, drawn twice, for a light and for a dark page, without a background.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::cases::OCCUPANCIES;
use crate::measure::Condition;
use crate::namespace::DEFAULT_PORTS;
use crate::results::{Case, Figures, Run};
use crate::tables::{machine, with_commas};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

type Drawn<T> = Result<T, Box<dyn std::error::Error>>;

/// What a picture is looked at on: 0 a light page, 1 a dark one.
#[derive(Clone, Copy)]
struct Page(usize);

/// A colour on the light page and on the dark one.
type Shade = [RGBColor; 2];

const fn shade(light: u32, dark: u32) -> Shade {
    let [_, red, green, blue] = light.to_be_bytes();
    let [_, dark_red, dark_green, dark_blue] = dark.to_be_bytes();
    [RGBColor(red, green, blue), RGBColor(dark_red, dark_green, dark_blue)]
}

impl Page {
    fn color(self, shade: Shade) -> RGBColor {
        shade[self.0]
    }

    fn text(self, size: u32, shade: Shade) -> TextStyle<'static> {
        // The SVG back end makes fonts smaller by this factor.
        ("sans-serif", f64::from(size) * 1.24).into_font().color(&self.color(shade))
    }

    fn bold(self, size: u32, shade: Shade) -> TextStyle<'static> {
        let mut style = self.text(size, shade);
        style.font = style.font.style(FontStyle::Bold);
        style
    }
}

const TEXT: Shade = shade(0x24292f, 0xe6edf3);
const FAINT_TEXT: Shade = shade(0x57606a, 0x9198a1);
const AXIS: Shade = shade(0x8c959f, 0x6e7681);
const GRID: Shade = shade(0xe3e5e8, 0x262c36);

/// How a contender is drawn.
struct Look {
    contender: &'static str,
    name: &'static str,
    shade: Shade,
    width: u32,
    /// Lengths of dashes and gaps; empty for a solid line.
    dash: &'static str,
    /// Whether it is shaded up to its 99th percentile. Not everyone, for the sake of those who look.
    to_p99: bool,
}

const fn look(contender: &'static str, name: &'static str, shade: Shade, width: u32) -> Look {
    Look { contender, name, shade, width, dash: "", to_p99: false }
}

/// From the lowest layer to the topmost. Curves lie on each other where contenders do the same, so the broad ones come
/// first and the thin and dashed ones last. Colours after Okabe and Ito.
const LOOKS: [Look; 5] = [
    look("so_reuseaddr", "with SO_REUSEADDR", shade(0xcc79a7, 0xcc79a7), 7),
    Look { to_p99: true, ..look("stock", "Greenplum's C", shade(0xd55e00, 0xe8702a), 4) },
    Look { to_p99: true, ..look(IC_LISTENER, "ic_listener", shade(0x0072b2, 0x56b4e9), 5) },
    Look { dash: "7 3 2 3", ..look("bind(0)", "bind(0)", shade(0x5c3d00, 0xf0c040), 2) },
    Look { dash: "2 3", ..look("floor", "floor", shade(0x6e7781, 0x8b949e), 2) },
];

const IC_LISTENER: &str = "ic_listener";

/// For what names do not say.
const NAMES_EXPLAINED: &str = "bind(0) is Greenplum's C without getaddrinfo(). \
    floor is the fewest system calls that there can be, on a port known to be free.";

impl Look {
    /// A mark of what is ours.
    fn name_style(&self, page: Page, size: u32) -> TextStyle<'static> {
        if self.contender == IC_LISTENER { page.bold(size, self.shade) } else { page.text(size, TEXT) }
    }

    fn line(&self, page: Page, points: Vec<(i32, i32)>) -> PathElement<(i32, i32)> {
        PathElement::new(points, page.color(self.shade).stroke_width(self.width))
    }

    fn mark(&self, page: Page, area: &Area<'_>, at: (i32, i32)) -> Drawn<()> {
        Ok(area.draw(&Circle::new(at, self.width / 2 + 3, page.color(self.shade).filled()))?)
    }
}

/// Draws what the results suffice for: nothing after a part of a run.
pub fn draw(run: &Run, directory: &Path) -> io::Result<()> {
    for (name, svg) in pictures(run).map_err(|error| io::Error::other(error.to_string()))? {
        fs::write(directory.join(name), svg)?;
    }
    Ok(())
}

/// File names, and what goes there.
fn pictures(run: &Run) -> Drawn<Vec<(&'static str, String)>> {
    let panels =
        [("Ports held as SO_REUSEADDR and bind(0) take them", "by_bind_0"), ("Ports held at random", "at_random")];
    let panels = panels.map(|(caption, series)| {
        let names = OCCUPANCIES.map(|percent| (percent as u32, format!("{series}_{percent}")));
        let names = [(0, "quiet".to_owned())].into_iter().chain(names);
        let cases = names.filter_map(|(percent, name)| Some((percent, run.of(&name, Condition::Cold)?))).collect();
        LatencyPanel { caption, cases }
    });
    if panels.iter().any(|panel| panel.cases.len() <= OCCUPANCIES.len()) {
        return Ok(Vec::new());
    }
    let names = ["latency_by_occupancy.svg", "latency_by_occupancy_dark.svg"].into_iter().enumerate();
    names.map(|(page, name)| Ok((name, latency_by_occupancy(run, &panels, Page(page))?))).collect()
}

/// The back end knows solid lines only, and pointed corners.
fn with_dashes(svg: String, page: Page) -> String {
    LOOKS.iter().fold(svg, |svg, look| {
        let RGBColor(red, green, blue) = page.color(look.shade);
        let line = format!("stroke=\"#{red:02X}{green:02X}{blue:02X}\" stroke-width=\"{}\"", look.width);
        let dash = if look.dash.is_empty() { "none" } else { look.dash };
        svg.replace(&line, &format!("{line} stroke-dasharray=\"{dash}\" stroke-linejoin=\"round\""))
    })
}

const WIDTH: u32 = 900;

fn latency_by_occupancy(run: &Run, panels: &[LatencyPanel<'_>], page: Page) -> Drawn<String> {
    const HEADING: u32 = 100;
    let height = HEADING + panels.iter().map(LatencyPanel::height).sum::<u32>();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let title = "Time to get a listener while others hold a part of the port range";
        root.draw(&Text::new(title, (20, 10), page.bold(18, TEXT)))?;
        let heading = [
            "Median time of a call on cold caches, log scale. Shaded up to the 99th percentile: Greenplum's C, ic_listener.",
            NAMES_EXPLAINED,
            &format!("Wildcard address, a range of {} ports; {}.", with_commas(DEFAULT_PORTS as f64), machine(run)),
        ];
        for (y, line) in (38..).step_by(18).zip(heading) {
            root.draw(&Text::new(line, (20, y), page.text(13, FAINT_TEXT)))?;
        }
        let (_, mut rest) = root.split_vertically(HEADING);
        for panel in panels {
            let (area, below) = rest.split_vertically(panel.height());
            panel.draw(&area, page)?;
            rest = below;
        }
        root.present()?;
    }
    Ok(with_dashes(svg, page))
}

struct LatencyPanel<'a> {
    caption: &'static str,
    /// By percent of the range that is held.
    cases: Vec<(u32, &'a Case)>,
}

impl LatencyPanel<'_> {
    const ABOVE: u32 = 34;
    const BELOW: u32 = 60;
    const LEFT: u32 = 68;
    const RIGHT: u32 = 352;
    /// Equal in all panels, so that slopes can be compared.
    const DECADE: f64 = 88.0;

    /// What the contender took, where it got something.
    fn of<'a>(&'a self, look: &'a Look) -> impl DoubleEndedIterator<Item = (f64, &'a Figures)> {
        let found = self.cases.iter().filter_map(|(percent, case)| Some((*percent, case.of(look.contender)?)));
        found.filter(|(_, result)| result.succeeded > 0).map(|(percent, result)| (f64::from(percent), result))
    }

    /// In microseconds; whole decades from below, and some air above.
    fn range(&self) -> Range<f64> {
        let shown = LOOKS.iter().flat_map(|look| {
            let p99 = move |result: &Figures| result.p99_us.filter(|_| look.to_p99);
            self.of(look).flat_map(move |(_, result)| [Some(result.p50_us), p99(result)])
        });
        let (least, most) = shown.flatten().fold((10.0, 900.0), |(least, most), us| (us.min(least), us.max(most)));
        10f64.powf(least.log10().floor())..most * 1.25
    }

    fn height(&self) -> u32 {
        let Range { start, end } = self.range();
        Self::ABOVE + ((end / start).log10() * Self::DECADE) as u32 + Self::BELOW
    }

    fn draw(&self, area: &Area<'_>, page: Page) -> Drawn<()> {
        let caption = page.bold(14, TEXT);
        area.draw(&Text::new(self.caption, (20, 8), caption))?;
        let mut chart = ChartBuilder::on(area)
            .margin_top(Self::ABOVE)
            .margin_right(Self::RIGHT)
            .set_label_area_size(LabelAreaPosition::Left, Self::LEFT)
            .set_label_area_size(LabelAreaPosition::Bottom, Self::BELOW)
            .build_cartesian_2d(0f64..100f64, self.range().log_scale())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(page.color(GRID))
            .axis_style(page.color(AXIS))
            .x_labels(11)
            .y_labels(5)
            .x_label_formatter(&|percent| format!("{percent:.0} %"))
            .y_label_formatter(&|&us| duration(us))
            .label_style(page.text(13, FAINT_TEXT))
            .draw()?;
        let (width, height) = area.dim_in_pixel();
        let middle = (Self::LEFT + width - Self::RIGHT) as i32 / 2;
        let style = page.text(13, FAINT_TEXT).pos(Pos::new(HPos::Center, VPos::Top));
        area.draw(&Text::new(
            "share of the range that is held; 0 % is a quiet host",
            (middle, (height - Self::BELOW) as i32 + 28),
            style,
        ))?;

        // Coordinates of the panel.
        let (left, top) = area.get_base_pixel();
        let place = |percent: f64, us: f64| {
            let (x, y) = chart.backend_coord(&(percent, us));
            (x - left, y - top)
        };
        for look in LOOKS.iter().filter(|look| look.to_p99) {
            let p50 = self.of(look).filter(|(_, result)| result.p99_us.is_some());
            let p50 = p50.map(|(percent, result)| place(percent, result.p50_us));
            let p99 = self.of(look).rev().filter_map(|(percent, result)| Some(place(percent, result.p99_us?)));
            area.draw(&Polygon::new(p50.chain(p99).collect::<Vec<_>>(), page.color(look.shade).mix(0.14)))?;
        }
        let mut ends = Vec::new();
        for look in &LOOKS {
            let points: Vec<_> = self.of(look).map(|(percent, result)| place(percent, result.p50_us)).collect();
            let (Some(&end), Some((_, last))) = (points.last(), self.of(look).last()) else { continue };
            area.draw(&look.line(page, points.clone()))?;
            for point in points {
                look.mark(page, area, point)?;
            }
            ends.push((end, look, last.p50_us));
        }
        self.label(area, page, ends)
    }

    /// Names beside the ends of the curves, which a line leads to.
    fn label(&self, area: &Area<'_>, page: Page, mut ends: Vec<((i32, i32), &Look, f64)>) -> Drawn<()> {
        const LINE: i32 = 19;
        let (width, height) = area.dim_in_pixel();
        let (x, bottom) = ((width - Self::RIGHT) as i32 + 30, (height - Self::BELOW) as i32);
        ends.sort_by_key(|((_, y), ..)| *y);
        let wanted: Vec<i32> = ends.iter().map(|((_, y), ..)| *y).collect();
        for ((end, look, us), y) in ends.into_iter().zip(spread(&wanted, LINE, Self::ABOVE as i32..bottom)) {
            let leader = vec![(end.0 + 8, end.1), (x - 4, y)];
            area.draw(&PathElement::new(leader, page.color(AXIS).stroke_width(1)))?;
            area.draw(&look.line(page, vec![(x, y), (x + 30, y)]))?;
            look.mark(page, area, (x + 15, y))?;
            let style = look.name_style(page, 13);
            let right = style.pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new(duration(us), (x + 86, y), right))?;
            area.draw(&Text::new(look.name, (x + 95, y), style.pos(Pos::new(HPos::Left, VPos::Center))))?;
        }
        Ok(())
    }
}

/// Moves these apart until each is at least `gap` from the next, and no farther than that takes: those that are in each
/// other's way share the move. They ascend, and `within` has room for all of them.
fn spread(wanted: &[i32], gap: i32, within: Range<i32>) -> Vec<i32> {
    // Without the gaps that must be before them, they only have to ascend: those that do not take their mean.
    let mut groups: Vec<(f64, usize)> = Vec::new();
    for (index, &y) in wanted.iter().enumerate() {
        let mut group = (f64::from(y - gap * index as i32), 1);
        while let Some(&(mean, count)) = groups.last().filter(|(mean, _)| *mean > group.0) {
            let both = count + group.1;
            group = ((mean * count as f64 + group.0 * group.1 as f64) / both as f64, both);
            groups.pop();
        }
        groups.push(group);
    }
    let gaps = gap * (wanted.len() as i32 - 1).max(0);
    let ascending = groups.into_iter().flat_map(|(mean, count)| std::iter::repeat_n(mean.round() as i32, count));
    let ascending = ascending.map(|y| y.min(within.end - gaps).max(within.start));
    ascending.enumerate().map(|(index, y)| y + gap * index as i32).collect()
}

/// In the unit and to the place that a reader compares by.
pub fn duration(us: f64) -> String {
    match us {
        _ if us < 9.95 => format!("{us:.1} \u{b5}s").replace(".0 ", " "),
        _ if us < 999.5 => format!("{us:.0} \u{b5}s"),
        _ if us < 9_950.0 => format!("{:.1} ms", us / 1000.0).replace(".0 ", " "),
        _ => format!("{:.0} ms", us / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::DIRECTORY;

    /// After a measurement, or a change of how they are drawn, `make draw`.
    #[test]
    fn the_pictures_show_the_results_beside_them() {
        let directory = Path::new(DIRECTORY);
        let pictures = pictures(&Run::read(directory).unwrap()).unwrap();
        assert_eq!(pictures.len(), 2);
        for (name, svg) in pictures {
            // What the back end wrote is what with_dashes() looks for.
            let dashed = LOOKS.iter().filter(|look| svg.contains(&format!("stroke-dasharray=\"{}\"", look.dash)));
            assert_eq!(dashed.count(), 2, "{name}");
            let stored = fs::read_to_string(directory.join(name)).unwrap();
            assert!(stored == svg, "{name} is not what the results say");
        }
    }
}
