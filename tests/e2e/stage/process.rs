//! Processes with a log, ended by their number; and short commands with a deadline.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::place::Place;
use crate::stage::wait::{seconds, until};

/// A process that runs until it is dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command on a host; what it writes goes to `<folder>/<name>.log`.
    pub(crate) fn start(place: &Place, folder: &Path, name: &str, mut command: Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let program = command.get_program().to_owned();
        let child = place.inside(|| command.spawn());
        let child = child.unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Self { name: name.to_owned(), child, log }
    }

    /// The process number.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Everything it has written.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Fails the test if it has ended.
    pub(crate) fn assert_alive(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended ({status}):\n{}", self.name, self.log());
        }
    }

    /// Ends it at once, without a chance to say goodbye.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and returns how it did.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let name = self.name.clone();
        until(&format!("{name} ends after SIGTERM"), seconds(40), || self.ended())
    }

    /// Its memory, in KiB: a line of `/proc/PID/status` such as `VmRSS` or `VmHWM` (the most so far).
    pub(crate) fn memory_kib(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
        value.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("--- {} (last {} of {} lines)\n{last}", self.name, lines.len().min(60), lines.len());
        }
    }
}

/// What a short command did.
#[derive(Debug)]
pub(crate) struct Done {
    /// The exit status; `None` when a signal ended it. 124: it was ended for lasting too long.
    pub(crate) code: Option<i32>,
    /// What it wrote to standard output.
    pub(crate) out: String,
    /// What it wrote to standard error.
    pub(crate) err: String,
}

impl Done {
    /// Returns its output, failing the test unless it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.code == Some(0), "status {:?}\n{}\n{}", self.code, self.out, self.err);
        self.out
    }

    /// Fails the test unless it ended with this status; returns what it wrote to standard error.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert!(self.code == Some(code), "status {:?}, not {code}\n{}\n{}", self.code, self.out, self.err);
        self.err
    }
}

/// Runs a command on a host to its end, `within` at most.
pub(crate) fn run(place: &Place, within: Duration, program: impl AsRef<Path>, arguments: &[&str]) -> Done {
    run_with(place, within, program, arguments, |_| {})
}

/// As [`run`], with more said about the command.
pub(crate) fn run_with(
    place: &Place,
    within: Duration,
    program: impl AsRef<Path>,
    arguments: &[&str],
    prepare: impl FnOnce(&mut Command),
) -> Done {
    let mut command = Command::new("timeout");
    command.args(["-k", "2", &within.as_secs_f64().to_string()]).arg(program.as_ref()).args(arguments);
    command.stdin(Stdio::null());
    prepare(&mut command);
    let output = place.inside(|| command.output()).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Done { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Runs curl on a host for at most 20 s: silent, but for errors.
pub(crate) fn curl(place: &Place, arguments: &[&str]) -> Done {
    let arguments = [&["-sS", "--max-time", "15"], arguments].concat();
    run(place, seconds(20), "curl", &arguments)
}

/// Returns the status of a plain GET over a connection of its own, `None` when nobody answers within 8 s.
pub(crate) fn status_of(place: &Place, address: SocketAddr, host: &str, path: &str) -> Option<u16> {
    let stream = place.inside(|| TcpStream::connect_timeout(&address, seconds(8))).ok()?;
    stream.set_read_timeout(Some(seconds(8))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    (&stream).write_all(request.as_bytes()).ok()?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).ok()?;
    line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}
