//! What other clients feel: 50 reads a second beside nothing, beside `kubectl get / replace` and
//! beside `atrest reencrypt`, gently.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};

use super::contender::Arena;
use crate::process::run;
use crate::report::{Bar, Promise};

const INTERVAL: Duration = Duration::from_millis(20);
const ALONE: Duration = Duration::from_secs(30);
const TURNS: usize = 2;

type Told = ((String, String), Vec<Promise>, Value);

/// Turn by turn.
pub(super) fn measure(arena: &mut Arena<'_>) -> Result<Vec<Told>, String> {
    let names = ["nothing", "kubectl get / replace", "atrest, api, --gentle"];
    let mut times: [Vec<Duration>; 3] = Default::default();
    let mut seconds: [Vec<f64>; 3] = Default::default();
    for _ in 0..TURNS {
        for who in 0..names.len() {
            arena.swap()?;
            let load = Load::start(arena);
            let start = Instant::now();
            match who {
                0 => std::thread::sleep(ALONE),
                1 => drop(arena.get_replace()?),
                _ => drop(run(&mut arena.reencrypt(&[]))?),
            }
            seconds[who].push(start.elapsed().as_secs_f64());
            times[who].extend(load.stop(arena)?);
            // What the side load alone left is for nobody's account.
            if who == 0 {
                run(&mut arena.reencrypt(&["--gentle=false"]))?;
            }
        }
    }
    let p99 = times.each_mut().map(|times| {
        times.sort_unstable();
        times[(times.len() * 99 / 100).min(times.len() - 1)].as_secs_f64() * 1e3
    });
    let mut table = String::from("| beside | seconds | reads | p99 ms |\n|---|---|---|---|\n");
    for who in 0..names.len() {
        let took = super::median(seconds[who].iter().copied());
        table += &format!(
            "| {} | {took:.1} | {} | {:.2} |\n",
            names[who],
            times[who].len(),
            p99[who]
        );
    }
    let took = |who: usize| super::median(seconds[who].iter().copied());
    let promises = vec![
        Promise {
            what:
                "`--gentle` against kubectl get / replace, beside 50 reads a second, times as fast"
                    .into(),
            measured: took(1) / took(2),
            bar: Bar::AtLeast(1.0),
        },
        Promise {
            what: "p99 of 50 reads a second beside `--gentle`, ms".into(),
            measured: p99[2],
            bar: Bar::AtMost((1.2 * p99[0]).max(p99[1])),
        },
    ];
    let raw = json!({
        "side_load": names,
        "seconds": seconds,
        "milliseconds": times.map(|times| times.iter().map(|it| it.as_secs_f64() * 1e3).collect::<Vec<_>>()),
    });
    Ok(vec![(
        ("Beside 50 reads a second".to_owned(), table),
        promises,
        raw,
    )])
}

/// Reads that go on until they are stopped.
struct Load {
    is_over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<Vec<Duration>, kube::Error>>,
}

impl Load {
    fn start(arena: &Arena<'_>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let secrets: Api<Secret> = Api::namespaced(arena.client.clone(), "bench-0");
        let over = is_over.clone();
        let task = arena.runtime.spawn(async move {
            let mut tick = tokio::time::interval(INTERVAL);
            let mut reads = Vec::new();
            while !over.load(Ordering::Relaxed) {
                tick.tick().await;
                let secrets = secrets.clone();
                let name = format!("secret-{:05}", 20 * (reads.len() % 100));
                reads.push(tokio::spawn(async move {
                    let start = Instant::now();
                    secrets.get(&name).await.map(|_| start.elapsed())
                }));
            }
            let mut times = Vec::with_capacity(reads.len());
            for read in reads {
                times.push(
                    read.await
                        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?,
                );
            }
            Ok(times)
        });
        Self { is_over, task }
    }

    fn stop(self, arena: &Arena<'_>) -> Result<Vec<Duration>, String> {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = arena
            .runtime
            .block_on(self.task)
            .map_err(|error| error.to_string())?;
        ended.map_err(|error| error.to_string())
    }
}
