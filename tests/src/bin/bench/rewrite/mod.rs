//! `atrest reencrypt` by each engine beside what one would run instead, turn by turn, on a real
//! control plane. After each run everything at rest is counted: one that left an old value scores
//! nothing.

mod bare;
mod contender;
mod side_load;

use std::env;
use std::time::Duration;

use atrest_tests::binaries;
use atrest_tests::programs::Programs;
use atrest_tests::secrets::Population;
use serde_json::json;

pub(crate) use self::bare::{BARE_LOOP, bare_loop};
use self::contender::{Arena, Contender, Sample};
use crate::Measure;
use crate::chart::{self, Line};
use crate::report::{Bar, Measured, Promise};

/// The size that promises are about.
const MAIN: usize = 10_000;

/// The larger one, where slow contenders run once.
const LARGE: usize = 50_000;

const KIB: usize = 1 << 10;

/// Secrets of one number and one size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Load {
    secrets: usize,
    bytes: usize,
}

impl Load {
    fn name(self) -> String {
        format!("{} x {} KiB", self.secrets, self.bytes / KIB)
    }
}

/// Nothing is built before what is to be measured is.
pub(crate) fn prepare() -> Result<Measure, String> {
    Programs::find_or_build().map_err(ToString::to_string)?;
    binaries::path("atrest");
    let sizes = env::var("ATREST_BENCH_SIZES").unwrap_or_else(|_| "2000,10000,50000".into());
    let sizes: Vec<usize> = sizes
        .split(',')
        .map(|size| {
            size.trim()
                .parse()
                .map_err(|_| format!("not a number: {size:?}"))
        })
        .collect::<Result<_, _>>()?;
    let rounds = env::var("ATREST_BENCH_ROUNDS").ok();
    let rounds = rounds.and_then(|it| it.parse().ok()).unwrap_or(5);
    let mut loads: Vec<_> = sizes
        .iter()
        .map(|secrets| Load {
            secrets: *secrets,
            bytes: KIB,
        })
        .collect();
    loads.push(Load {
        secrets: sizes.iter().copied().min().unwrap_or(2_000),
        bytes: 16 * KIB,
    });
    let only = env::var("ATREST_BENCH_ONLY").ok();
    Ok(Box::new(move || measure(&loads, rounds, only.as_deref())))
}

/// Of the contenders those whose name holds `only`, for who works on one of them.
fn measure(loads: &[Load], rounds: usize, only: Option<&str>) -> Result<Measured, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let mut measured = Measured::default();
    let mut samples = Vec::new();
    for load in loads {
        let population = Population {
            secrets: load.secrets,
            namespaces: 20,
            smallest: load.bytes,
            largest: load.bytes,
        };
        eprintln!("{}: storing", load.name());
        let mut arena = Arena::start(&runtime, population)?;
        for round in 0..rounds {
            let contenders = contenders(*load, round);
            let is_wanted = |it: &Contender| only.is_none_or(|only| it.name().contains(only));
            for contender in contenders.into_iter().filter(is_wanted) {
                let sample = arena.run(contender)?;
                eprintln!(
                    "{}, round {}: {:?} {:.0}/s, CPU s {:.1} + {:.1} + {:.1}{}",
                    load.name(),
                    round + 1,
                    contender,
                    load.secrets as f64 / sample.seconds,
                    sample.server_cpu.as_secs_f64(),
                    sample.etcd_cpu.as_secs_f64(),
                    sample.client_cpu.as_secs_f64(),
                    if sample.left > 0 {
                        format!(", LEFT {}", sample.left)
                    } else {
                        String::new()
                    },
                );
                samples.push((*load, sample));
            }
        }
        if load.secrets == MAIN && load.bytes == KIB && only.is_none() {
            for (heading, promises, raw) in side_load::measure(&mut arena)? {
                measured.tables.push(heading);
                measured.promises.extend(promises);
                measured.samples.push(raw);
            }
        }
    }
    measured.tables.insert(
        0,
        (String::from("Objects a second"), table(loads, &samples)),
    );
    measured.promises.splice(0..0, promises(loads, &samples));
    measured.charts = charts(loads, &samples)?;
    measured
        .samples
        .extend(samples.iter().map(|(load, sample)| {
            json!({
                "secrets": load.secrets,
                "bytes": load.bytes,
                "contender": sample.contender.name(),
                "seconds": sample.seconds,
                "left": sample.left,
                "client_bytes": sample.memory,
                "client_cpu_s": sample.client_cpu,
                "kube_apiserver_cpu_s": sample.server_cpu,
                "etcd_cpu_s": sample.etcd_cpu,
                "load": sample.load,
            })
        }));
    Ok(measured)
}

/// Who runs in a round. Of the larger size one slow contender runs once, to be compared with; the stall of
/// an idle cluster does not depend on the size.
fn contenders(load: Load, round: usize) -> Vec<Contender> {
    Contender::ALL
        .into_iter()
        .filter(|contender| match contender {
            Contender::MigratorAsItComes => load.secrets == MAIN,
            Contender::GetReplace => load.secrets < LARGE || round == 0,
            Contender::MigratorNudged => load.secrets < LARGE,
            Contender::Api | Contender::Etcd | Contender::Bare => true,
        })
        .collect()
}

/// What was measured of one contender under one load.
struct Summary<'a> {
    load: Load,
    contender: Contender,
    samples: Vec<&'a Sample>,
}

impl Summary<'_> {
    /// Of objects a second; nothing where a run left old values behind.
    fn rate(&self) -> f64 {
        median(self.samples.iter().map(|sample| match sample.left {
            0 => self.load.secrets as f64 / sample.seconds,
            _ => 0.0,
        }))
    }

    fn spread(&self) -> (f64, f64) {
        let rates = self
            .samples
            .iter()
            .map(|it| self.load.secrets as f64 / it.seconds);
        rates.fold((f64::MAX, 0.0), |(low, high), rate| {
            (low.min(rate), high.max(rate))
        })
    }

    fn seconds(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.seconds))
    }

    fn memory(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.memory as f64)) / f64::from(1 << 20)
    }

    /// Milliseconds of processor for one object.
    fn cpu(&self, of: impl Fn(&Sample) -> Duration) -> f64 {
        let all = median(self.samples.iter().map(|sample| of(sample).as_secs_f64()));
        1e3 * all / self.load.secrets as f64
    }
}

fn summaries<'a>(loads: &[Load], samples: &'a [(Load, Sample)]) -> Vec<Summary<'a>> {
    let mut summaries = Vec::new();
    for load in loads {
        for contender in Contender::ALL {
            let of = samples
                .iter()
                .filter(|it| it.0 == *load && it.1.contender == contender);
            let samples: Vec<_> = of.map(|it| &it.1).collect();
            if !samples.is_empty() {
                summaries.push(Summary {
                    load: *load,
                    contender,
                    samples,
                });
            }
        }
    }
    summaries
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default()
}

fn table(loads: &[Load], samples: &[(Load, Sample)]) -> String {
    let mut table = String::from(
        "| Secrets | contender | runs | objects/s | least to most | client MiB | CPU ms an object: \
         kube-apiserver | etcd | client |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for summary in summaries(loads, samples) {
        let (low, high) = summary.spread();
        table += &format!(
            "| {} | {} | {} | {:.0} | {low:.0} to {high:.0} | {:.0} | {:.2} | {:.2} | {:.2} |\n",
            summary.load.name(),
            summary.contender.name(),
            summary.samples.len(),
            summary.rate(),
            summary.memory(),
            summary.cpu(|sample| sample.server_cpu),
            summary.cpu(|sample| sample.etcd_cpu),
            summary.cpu(|sample| sample.client_cpu),
        );
    }
    table
}

fn promises(loads: &[Load], samples: &[(Load, Sample)]) -> Vec<Promise> {
    let summaries = summaries(loads, samples);
    let of = |secrets: usize, contender: Contender| {
        summaries.iter().find(|summary| {
            summary.load
                == Load {
                    secrets,
                    bytes: KIB,
                }
                && summary.contender == contender
        })
    };
    let mut promises = Vec::new();
    let mut promise = |what: String, measured: f64, bar| {
        promises.push(Promise {
            what,
            measured,
            bar,
        });
    };
    let main = |contender| of(MAIN, contender);
    if let (Some(api), Some(replace)) = (main(Contender::Api), main(Contender::GetReplace)) {
        for (other, times) in [
            (Some(replace), 4.0),
            (main(Contender::MigratorNudged), 3.0),
            (main(Contender::MigratorAsItComes), 8.0),
        ] {
            let Some(other) = other else { continue };
            let what = format!("`api` against {}, times", other.contender.name());
            promise(what, api.rate() / other.rate(), Bar::AtLeast(times));
        }
        let cpu = api.cpu(|sample| sample.server_cpu + sample.etcd_cpu) / 1e3;
        let what =
            "`api` against the limit of two processors, 2 / (kube-apiserver + etcd), per cent";
        promise(
            what.into(),
            100.0 * api.rate() * cpu / 2.0,
            Bar::AtLeast(80.0),
        );
        if let (Some(etcd), Some(bare)) = (main(Contender::Etcd), main(Contender::Bare)) {
            let what = "`etcd` against kubectl get / replace, times";
            promise(
                what.into(),
                etcd.rate() / replace.rate(),
                Bar::AtLeast(50.0),
            );
            let what = "`etcd` against bare transactions, per cent";
            promise(
                what.into(),
                100.0 * etcd.rate() / bare.rate(),
                Bar::AtLeast(60.0),
            );
        }
    }
    for contender in [Contender::Api, Contender::Etcd] {
        let name = contender.name();
        if let (Some(small), Some(large)) = (of(2_000, contender), of(LARGE, contender)) {
            let what = format!("{name}: MiB resident at {LARGE} objects");
            promise(what, large.memory(), Bar::AtMost(64.0));
            let what = format!("{name}: the same against 2000 objects, per cent");
            promise(
                what,
                100.0 * large.memory() / small.memory(),
                Bar::AtMost(110.0),
            );
        }
        let points: Vec<_> = points(&summaries, contender, |it| it.seconds());
        if points.len() > 2 {
            let what = format!("{name}: time against objects, R² of a straight line");
            promise(what, fit(&points), Bar::AtLeast(0.99));
        }
    }
    promises
}

/// Of loads of 1 KiB: the number of Secrets, and what is asked for.
fn points(
    summaries: &[Summary<'_>],
    contender: Contender,
    value: impl Fn(&Summary<'_>) -> f64,
) -> Vec<(f64, f64)> {
    let of = summaries
        .iter()
        .filter(|it| it.contender == contender && it.load.bytes == KIB);
    of.map(|summary| (summary.load.secrets as f64, value(summary)))
        .collect()
}

/// How well a straight line fits: the coefficient of determination of least squares.
fn fit(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(&|it| it.0), mean(&|it| it.1));
    let sum = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>();
    let both = sum(&|it| (it.0 - x) * (it.1 - y));
    both * both / (sum(&|it| (it.0 - x).powi(2)) * sum(&|it| (it.1 - y).powi(2)))
}

fn charts(
    loads: &[Load],
    samples: &[(Load, Sample)],
) -> Result<Vec<(&'static str, String)>, String> {
    let summaries = summaries(loads, samples);
    let main = Load {
        secrets: MAIN,
        bytes: KIB,
    };
    let rates: Vec<_> = summaries
        .iter()
        .filter(|summary| summary.load == main)
        .map(|summary| (summary.contender.name().to_owned(), summary.rate()))
        .collect();
    let lines = |value: fn(&Summary<'_>) -> f64| -> Vec<Line> {
        Contender::ALL
            .into_iter()
            .map(|contender| Line {
                name: contender.name().into(),
                points: points(&summaries, contender, value),
            })
            .filter(|line| line.points.len() > 1)
            .collect()
    };
    let mut charts = Vec::new();
    if !rates.is_empty() {
        let title = format!("Rewriting {}", main.name());
        charts.push(("rate", chart::bars(&title, "objects a second", &rates)?));
    }
    let (time, memory) = (lines(|it| it.seconds()), lines(|it| it.memory()));
    if !time.is_empty() {
        charts.push((
            "time",
            chart::lines("Time", "Secrets of 1 KiB", "seconds", &time)?,
        ));
        let title = "Memory of the client";
        charts.push((
            "memory",
            chart::lines(title, "Secrets of 1 KiB", "MiB", &memory)?,
        ));
    }
    Ok(charts)
}
