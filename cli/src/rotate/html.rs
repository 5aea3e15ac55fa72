//! The report of a run as one page that needs nothing else: what its journal tells.

mod chart;

use std::fmt::Write as _;

use atrest_core::rotation::State;

use self::chart::Bar;
use super::certificate::Certificate;
use super::journal::{Journal, Record};
use super::kept::Kept;

const STYLE: &str = include_str!("html/style.css");

/// The page of a run, as far as it has come.
pub(crate) fn page(journal: &Journal) -> String {
    let told = Told::of(journal);
    let run = escape(&journal.run);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Rotation {run}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>Rotation {run}</h1>\n"
    );
    let (class, word) = match (journal.is_proven(), journal.is_done()) {
        (true, _) => ("good", "done and proven"),
        (false, true) => ("bad", "abandoned before it changed anything"),
        (false, false) => ("bad", "not finished: atrest rotate resume goes on"),
    };
    let _ = writeln!(
        out,
        "<p><strong class=\"{class}\">{word}</strong>, {} from {}</p>",
        span(told.end - told.start),
        moment(told.start)
    );
    section(&mut out, "States over time", &told.states());
    section(&mut out, "Objects rewritten a second", &told.rewriting());
    section(
        &mut out,
        "Servers: from a file written to the file loaded",
        &told.servers(),
    );
    section(&mut out, "Waits and stops", &told.waits());
    section(&mut out, "Single values", &told.values(&journal.purges()));
    if let Some(certificate) = Certificate::of(journal).filter(|_| journal.is_proven()) {
        let text = escape(&certificate.text());
        section(&mut out, "Certificate", &format!("<pre>{text}</pre>\n"));
    }
    out + "</main>\n</body>\n</html>\n"
}

fn section(out: &mut String, title: &str, content: &str) {
    if !content.is_empty() {
        let _ = write!(out, "<section>\n<h2>{title}</h2>\n{content}</section>\n");
    }
}

/// A file that a server was given.
struct Given<'a> {
    server: &'a str,
    stage: &'a str,
    written: i64,
    loaded: Option<i64>,
}

/// What the records tell, by their times.
struct Told<'a> {
    start: i64,
    end: i64,
    states: Vec<(&'a str, i64)>,
    given: Vec<Given<'a>>,
    /// Objects done in the pass that goes on, and when.
    reached: Vec<(i64, u64)>,
    passes: Vec<(u64, u64, u64, u64)>,
    stops: Vec<(i64, &'a str)>,
    waived: Vec<&'a Kept>,
    adopted: Vec<&'a str>,
}

impl<'a> Told<'a> {
    fn of(journal: &'a Journal) -> Self {
        let records: Vec<_> = journal.timed().filter(|(time, _)| *time > 0).collect();
        let mut told = Self {
            start: records.first().map_or(0, |it| it.0),
            end: records.last().map_or(0, |it| it.0),
            states: Vec::new(),
            given: Vec::new(),
            reached: Vec::new(),
            passes: Vec::new(),
            stops: Vec::new(),
            waived: Vec::new(),
            adopted: Vec::new(),
        };
        for (time, record) in records {
            match record {
                Record::State { state } => {
                    told.states.push((state, time));
                    if State::parse(state) == Some(State::Rewrite) {
                        told.reached.push((time, 0));
                    }
                }
                Record::Write { server, stage, .. } => told.given.push(Given {
                    server,
                    stage,
                    written: time,
                    loaded: None,
                }),
                Record::Loaded { server, .. } => {
                    let mut given = told.given.iter_mut().rev();
                    if let Some(given) = given.find(|it| it.server == server) {
                        given.loaded = Some(time);
                    }
                }
                Record::Reached { done, .. } => told.reached.push((time, *done)),
                Record::Rewrote {
                    total,
                    rewritten,
                    set_aside,
                    milliseconds,
                } => {
                    told.reached.push((time, *total));
                    told.passes
                        .push((*total, *rewritten, *set_aside, *milliseconds));
                }
                Record::Stopped { reason } => told.stops.push((time, reason)),
                Record::Waived(kept) => told.waived.push(kept),
                Record::Adopted { namespace } => told.adopted.push(namespace),
                _ => {}
            }
        }
        told
    }

    fn states(&self) -> String {
        let ends = self.states.iter().skip(1).map(|it| it.1).chain([self.end]);
        let bars = self.states.iter().zip(ends).map(|((state, from), to)| Bar {
            row: (*state).to_owned(),
            from: *from,
            to: Some(to),
            class: "bar",
        });
        let bars: Vec<_> = bars.collect();
        let caption = "Where a state comes again, something had to be done again: a census after keys \
                       left, or a server that changed.";
        let rows = bars.iter().map(|bar| {
            let (from, to) = (bar.from, bar.to.unwrap_or(self.end));
            [bar.row.clone(), moment(from), span(to - from)]
        });
        figure(&chart::bars("States over time", &bars, self.end), caption)
            + &table(["State", "From", "For"], rows)
    }

    fn rewriting(&self) -> String {
        let rows = self
            .passes
            .iter()
            .map(|(total, rewritten, set_aside, milliseconds)| {
                let seconds = *milliseconds as f64 / 1000.0;
                [
                    format!("{rewritten} of {total}"),
                    set_aside.to_string(),
                    format!("{seconds:.1} s"),
                    format!("{:.0}/s", *rewritten as f64 / seconds.max(0.001)),
                ]
            });
        let table = table(["Rewritten", "Set aside", "In", "Mean"], rows);
        figure(
            &chart::rate("Objects rewritten a second", &self.rates()),
            "Over the time of rewriting.",
        ) + &table
    }

    /// Between each two looks at one pass, on a clock that stands still outside of passes.
    fn rates(&self) -> Vec<(i64, f64)> {
        let mut rates = Vec::new();
        let mut clock = 0;
        for pair in self.reached.windows(2) {
            let [(from, before), (to, after)] = pair else {
                continue;
            };
            // A smaller count is another pass, or another resource.
            if after < before || to <= from || *after == 0 {
                continue;
            }
            clock += to - from;
            rates.push((clock, (after - before) as f64 * 1000.0 / (to - from) as f64));
        }
        rates
    }

    fn servers(&self) -> String {
        let bars = self.given.iter().map(|given| Bar {
            row: given.server.to_owned(),
            from: given.written,
            to: given.loaded,
            class: "wait",
        });
        let bars: Vec<_> = bars.collect();
        let rows = self.given.iter().map(|given| {
            [
                given.server.to_owned(),
                given.stage.to_owned(),
                moment(given.written),
                match given.loaded {
                    Some(loaded) => span(loaded - given.written),
                    None => "not seen".into(),
                },
            ]
        });
        let caption = "Each bar is one file, from when it was written to when the server was first seen with it.";
        figure(
            &chart::bars("From a file written to the file loaded", &bars, self.end),
            caption,
        ) + &table(["Server", "Stage", "Written", "Loaded after"], rows)
    }

    fn values(&self, purges: &[Kept]) -> String {
        let row = |what: &str, it: &Kept| [it.key.clone(), what.to_owned(), it.file.clone()];
        let waived = self.waived.iter();
        let waived = waived.map(|it| row("waived, for nobody can decrypt it", it));
        let purged = purges.iter();
        let purged = purged.map(|it| row("deleted, for its namespace was gone", it));
        let adopted = self.adopted.iter().map(|namespace| {
            let dash = || "-".to_owned();
            [
                (*namespace).to_owned(),
                "namespace, created again".into(),
                dash(),
            ]
        });
        table(
            ["Key", "What became of it", "Kept in"],
            waived.chain(purged).chain(adopted),
        )
    }

    fn waits(&self) -> String {
        let loads = self
            .given
            .iter()
            .filter_map(|it| Some(it.loaded? - it.written));
        let (count, longest) = loads.fold((0, 0), |(count, most), it| (count + 1, most.max(it)));
        let mut out = match count {
            0 => String::new(),
            _ => format!(
                "<p>{count} times until a server had loaded its file, {} at the longest.</p>\n",
                span(longest)
            ),
        };
        let rows = self.stops.iter();
        let rows = rows.map(|(at, reason)| [moment(*at), (*reason).to_owned()]);
        out += &table(["Stopped at", "Because"], rows);
        out
    }
}

fn figure(svg: &str, caption: &str) -> String {
    match svg.is_empty() {
        true => String::new(),
        false => format!("<figure>\n{svg}<figcaption>{caption}</figcaption>\n</figure>\n"),
    }
}

fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut body = String::new();
    for row in rows {
        body += "<tr>";
        for cell in row {
            let _ = write!(body, "<td>{}</td>", escape(&cell));
        }
        body += "</tr>\n";
    }
    if body.is_empty() {
        return body;
    }
    let header: String = header
        .iter()
        .map(|cell| format!("<th scope=\"col\">{cell}</th>"))
        .collect();
    format!("<table>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n")
}

/// Names of servers and reasons are others' text.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for scalar in text.chars() {
        match scalar {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            scalar => out.push(scalar),
        }
    }
    out
}

/// A span of milliseconds for people.
fn span(milliseconds: i64) -> String {
    let seconds = milliseconds as f64 / 1000.0;
    match milliseconds {
        ..10_000 => format!("{seconds:.1} s"),
        10_000..120_000 => format!("{seconds:.0} s"),
        120_000..7_200_000 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

fn moment(time: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(time).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_no_markup() {
        let rows = [["<script>\"&".to_owned()]].into_iter();
        assert!(table(["Server"], rows).contains("<td>&lt;script&gt;&quot;&amp;</td>"));
    }

    #[test]
    fn spans_are_for_people() {
        let spans = [900, 61_400, 1_800_000, 86_400_000].map(span);
        assert_eq!(spans, ["0.9 s", "61 s", "30 min", "24.0 h"]);
    }
}
