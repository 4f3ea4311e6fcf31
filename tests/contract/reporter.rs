//! The reporter: whatever is lost on the way, every control plane counts everything once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh::logic::metric::report::{EdgeKey, Report};
use mesh::logic::metric::rollup::Rollup;
use mesh::model::view::{EdgeProtocol, Side};
use mesh::proxy::reporter::{Config, Delivery, Local, Sources, run};
use mesh::telemetry::metric::{Outcome, Registry};
use tokio::sync::{oneshot, watch};

fn key(number: usize) -> EdgeKey {
    EdgeKey {
        side: Side::Outbound,
        source: "web".parse().unwrap(),
        destination: format!("s{number}").parse().unwrap(),
        protocol: EdgeProtocol::Http,
        route: String::new(),
        node: None,
    }
}

fn sources() -> Arc<Sources> {
    Arc::new(Sources {
        node: "host-1".parse().unwrap(),
        build: "1.0".to_owned(),
        started_ms: 1_700_000_000_000,
        revision: Box::new(|| 7),
        identities: Box::new(Vec::new),
        ejected: Box::new(Vec::new),
    })
}

/// What the control planes heard, and what they did with it.
#[derive(Default)]
struct Heard {
    rollups: BTreeMap<String, Rollup>,
    reports: BTreeMap<String, Vec<Report>>,
}

impl Heard {
    fn requests(&self, control: &str) -> u64 {
        self.rollups.get(control).map_or(0, |rollup| rollup.totals().map(|(_, total)| total.requests).sum())
    }
}

/// A reporter at work: what was heard of it, who is told, how to end it, and the task itself.
type Started<F> = (Arc<Mutex<Heard>>, watch::Sender<Vec<String>>, oneshot::Sender<()>, F);

/// Starts a reporter for `a:1` and `b:1`; `fate` tells for each attempt at `a:1` whether it arrives, and what is answered.
fn start(registry: &Arc<Registry>, fate: fn(usize) -> (bool, Delivery)) -> Started<impl Future<Output = ()>> {
    let heard = Arc::new(Mutex::new(Heard::default()));
    let (controls, seen) = watch::channel(vec!["a:1".to_owned(), "b:1".to_owned()]);
    let (stop, stopped) = oneshot::channel::<()>();
    let hearing = heard.clone();
    let config = Config {
        registry: registry.clone(),
        sources: sources(),
        local: Arc::default(),
        controls: seen,
        send: Box::new(move |control, report| {
            let hearing = hearing.clone();
            Box::pin(async move {
                let mut heard = hearing.lock().unwrap();
                let reports = heard.reports.entry(control.clone()).or_default();
                let (arrives, delivery) =
                    if control == "a:1" { fate(reports.len()) } else { (true, Delivery::Accepted) };
                reports.push(report.clone());
                if arrives {
                    let rollup = heard.rollups.entry(control).or_default();
                    rollup.add(&"host-1".parse().unwrap(), &report, 1_700_000_000_000);
                }
                delivery
            })
        }),
    };
    let running = run(config, async move { _ = stopped.await });
    (heard, controls, stop, running)
}

#[tokio::test(start_paused = true)]
async fn every_control_plane_counts_everything_once_although_reports_and_answers_are_lost() {
    let registry = Registry::new();
    let shard = registry.shard();
    // Lost on the way, taken but the answer lost, taken.
    let fate = |attempt| match attempt % 3 {
        0 => (false, Delivery::Lost),
        1 => (true, Delivery::Lost),
        _ => (true, Delivery::Accepted),
    };
    let (heard, _controls, stop, running) = start(&registry, fate);

    let load = async {
        for second in 0..30_usize {
            shard.edge(&key(second % 4)).record(&Outcome::default());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::sleep(Duration::from_secs(9)).await;
        _ = stop.send(());
    };
    tokio::join!(running, load);

    let heard = heard.lock().unwrap();
    assert_eq!((heard.requests("a:1"), heard.requests("b:1")), (30, 30));
    assert!(heard.reports["a:1"].iter().any(|report| report.covers_ms >= 2_000));
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_last_is_reported_at_shutdown() {
    let registry = Registry::new();
    let shard = registry.shard();
    let (heard, _controls, stop, running) = start(&registry, |_| (true, Delivery::Accepted));

    let load = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        shard.edge(&key(0)).record(&Outcome::default());
        _ = stop.send(());
    };
    tokio::join!(running, load);

    assert_eq!(heard.lock().unwrap().requests("a:1"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_report_does_not_stand_in_the_way() {
    let registry = Registry::new();
    let shard = registry.shard();
    shard.edge(&key(0)).record(&Outcome::default());
    let fate = |attempt| {
        if attempt == 0 { (false, Delivery::Refused("no".to_owned())) } else { (true, Delivery::Accepted) }
    };
    let (heard, _controls, stop, running) = start(&registry, fate);

    let load = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            shard.edge(&key(0)).record(&Outcome::default());
        }
        _ = stop.send(());
    };
    tokio::join!(running, load);

    assert_eq!(heard.lock().unwrap().requests("a:1"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_appears_later_is_told_what_is_open() {
    let registry = Registry::new();
    let shard = registry.shard();
    shard.edge(&key(0)).opened();
    let (heard, controls, stop, running) = start(&registry, |_| (true, Delivery::Accepted));

    let load = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        controls.send_replace(vec!["c:1".to_owned()]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        _ = stop.send(());
    };
    tokio::join!(running, load);

    let heard = heard.lock().unwrap();
    let (_, total) = heard.rollups["c:1"].totals().next().unwrap();
    assert_eq!(total.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_edges_come_in_several_reports() {
    let registry = Registry::new();
    let shard = registry.shard();
    for number in 0..5_000 {
        shard.edge(&key(number)).record(&Outcome::default());
    }
    let (heard, _controls, stop, running) = start(&registry, |_| (true, Delivery::Accepted));

    let load = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        _ = stop.send(());
    };
    tokio::join!(running, load);

    let heard = heard.lock().unwrap();
    assert_eq!(heard.requests("a:1"), 5_000);
    assert!(heard.reports["a:1"].iter().all(|report| report.edges.len() <= 2_000));
}

#[test]
fn the_local_view_is_shared_between_threads() {
    fn assert_shared<T: Send + Sync>() {}

    assert_shared::<Local>();
    assert_shared::<Sources>();
}
