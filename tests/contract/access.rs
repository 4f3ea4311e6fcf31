//! The access log: one JSON line for each record, nothing lost without being counted.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use mesh::model::call::CallRecord;
use mesh::model::view::{EdgeProtocol, Side};
use mesh::telemetry::access::{AccessLog, BUFFER_BYTES_MAX, Target};

pub(crate) fn record(path: &str) -> CallRecord {
    CallRecord {
        at_ms: 1_700_000_000_000,
        side: Side::Inbound,
        source: Arc::new("shop.default".parse().unwrap()),
        destination: Some("web".parse().unwrap()),
        protocol: EdgeProtocol::Http,
        node: None,
        route: "".into(),
        method: "GET".into(),
        path: path.to_owned(),
        status: 200,
        grpc_status: None,
        reason: None,
        rule: "".into(),
        audited: false,
        request_id: None,
        trace_id: None,
        retries: 0,
        tried: Vec::new(),
        latency_us: 1_500,
        duration_us: 2_000,
        bytes_sent: 0,
        bytes_received: 12,
    }
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says when it is written to, and then waits to be let on.
struct Slow(Sender<()>, Receiver<()>);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            _ = self.0.send(());
            _ = self.1.recv();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_record_is_one_line_of_json_even_of_workers_that_are_gone() {
    let memory = Memory::default();
    let log = AccessLog::start(memory.clone()).unwrap();

    for _ in 0..3 {
        let writer = log.writer();
        writer.record(&record("/a\n\"b"));
    }
    drop(log);

    let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[0],
        serde_json::json!({
            "atMs": 1_700_000_000_000_u64, "side": "inbound", "source": "shop.default", "destination": "web.default",
            "protocol": "http", "method": "GET", "path": "/a\n\"b", "status": 200, "retries": 0,
            "latencyUs": 1500, "durationUs": 2000, "bytesSent": 0, "bytesReceived": 12,
        })
    );
}

#[test]
fn a_slow_sink_costs_records_that_are_counted_and_never_blocks() {
    let (written, has_begun) = channel();
    let (let_on, go) = channel();
    let log = AccessLog::start(Slow(written, go)).unwrap();
    let writer = log.writer();
    writer.record(&record("/"));
    has_begun.recv().unwrap();

    let path = "/".repeat(1_000);
    let fitting = BUFFER_BYTES_MAX / 1_000;
    for _ in 0..fitting * 2 {
        writer.record(&record(&path));
    }

    let dropped = log.dropped();
    assert!(dropped >= fitting as u64 && dropped < 2 * fitting as u64, "{dropped}");
    drop(let_on);
    drop(log);
}

#[test]
fn a_file_is_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    std::fs::write(&path, "before\n").unwrap();

    let log = AccessLog::open(Target::File(&path)).unwrap();
    log.writer().record(&record("/"));
    drop(log);

    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
}
