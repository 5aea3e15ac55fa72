//! Charts in SVG.

use plotters::coord::Shift;
use plotters::prelude::*;

/// Of one thing that was measured at several sizes.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (860, 420);
const COLORS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
    RGBColor(148, 103, 189),
    RGBColor(127, 127, 127),
];

/// Lines over logarithmic axes, each with its name at the end.
pub(crate) fn lines(title: &str, across: &str, up: &str, lines: &[Line]) -> Result<String, String> {
    draw(|area| {
        let points = || lines.iter().flat_map(|line| &line.points);
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
                (low.min(value), high.max(value))
            });
            low * 0.8..high * 1.3
        };
        let x = range(&mut points().map(|point| point.0));
        let y = range(&mut points().map(|point| point.1));
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(x.log_scale(), y.log_scale())?;
        chart.configure_mesh().x_desc(across).y_desc(up).draw()?;
        for (line, color) in lines.iter().zip(COLORS.iter().cycle()) {
            chart
                .draw_series(LineSeries::new(
                    line.points.iter().copied(),
                    color.stroke_width(2),
                ))?
                .label(&line.name)
                .legend(move |(x, y)| {
                    PathElement::new(vec![(x, y), (x + 16, y)], color.stroke_width(2))
                });
            chart.draw_series(
                line.points
                    .iter()
                    .map(|point| Circle::new(*point, 3, color.filled())),
            )?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .draw()
    })
}

/// One bar for each name, its value beside it, on a logarithmic axis.
pub(crate) fn bars(title: &str, across: &str, bars: &[(String, f64)]) -> Result<String, String> {
    draw(|area| {
        let most = bars.iter().map(|bar| bar.1).fold(1.0, f64::max);
        let least = bars.iter().map(|bar| bar.1).fold(most, f64::min);
        let last = bars.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(36)
            .build_cartesian_2d((least / 3.0..most * 4.0).log_scale(), last..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_desc(across)
            .draw()?;
        chart.draw_series(bars.iter().enumerate().map(|(i, (_, value))| {
            let color = COLORS[i % COLORS.len()];
            let corners = [(least / 3.0, i as f64 + 0.15), (*value, i as f64 + 0.85)];
            Rectangle::new(corners, color.mix(0.7).filled())
        }))?;
        chart.draw_series(bars.iter().enumerate().map(|(i, (name, value))| {
            let text = format!("  {name}: {value:.0}");
            Text::new(text, (least / 3.0, i as f64 + 0.4), ("sans-serif", 15))
        }))?;
        Ok(())
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw(paint: impl for<'a> Fn(&Area<'a>) -> Drawn<'a>) -> Result<String, String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)
            .and_then(|()| paint(&area))
            .and_then(|()| area.present())
            .map_err(|error| format!("the chart cannot be drawn: {error}"))?;
    }
    Ok(svg)
}
