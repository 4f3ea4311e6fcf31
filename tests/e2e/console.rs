//! `mesh top` on a real pseudo-terminal: what is seen, and that the terminal is given back whatever happens.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::stage::program;
use crate::stage::wait::{seconds, until};

#[path = "../data/shop.rs"]
mod shop;

/// The view of a proxy, served as its admin API does: a line for each view, as fast as they are read.
struct Proxy {
    addr: SocketAddr,
    next: Arc<AtomicU64>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let next = Arc::new(AtomicU64::new(shop::INCIDENT + 40));
        let seconds = Arc::clone(&next);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, seconds) = (stream.unwrap(), Arc::clone(&seconds));
                std::thread::spawn(move || serve(&mut stream, &seconds));
            }
        });
        Self { addr, next }
    }
}

fn serve(stream: &mut TcpStream, seconds: &AtomicU64) {
    let _ = stream.read(&mut [0; 1024]);
    let _ = stream.write_all(b"HTTP/1.0 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n");
    loop {
        let second = seconds.fetch_add(1, Ordering::Relaxed);
        let mut line = serde_json::to_vec(&shop::mesh(second)).unwrap();
        line.push(b'\n');
        if stream.write_all(&line).is_err() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
}

/// `mesh top` on a terminal of its own, and what that terminal shows.
struct Session {
    child: Child,
    terminal: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
    raw: Arc<Mutex<Vec<u8>>>,
    /// While set, the terminal takes nothing: nobody reads what is written to it.
    stalled: Arc<AtomicBool>,
    modes: LocalModes,
}

const ROWS: u16 = 40;
const COLUMNS: u16 = 120;

impl Session {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::run(program::mesh(), &[&["top"], arguments].concat(), environment)
    }

    fn run(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let path = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        let side = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let modes = tcgetattr(&side).unwrap().local_modes;
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env("PATH", "/usr/bin:/bin")
            .envs(environment.iter().copied())
            .stdin(side.try_clone().unwrap())
            .stdout(side.try_clone().unwrap())
            .stderr(side)
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let raw = Arc::new(Mutex::new(Vec::new()));
        let mut reader = std::fs::File::from(terminal.try_clone().unwrap());
        let stalled = Arc::new(AtomicBool::new(false));
        let (shown, kept, stop) = (Arc::clone(&screen), Arc::clone(&raw), Arc::clone(&stalled));
        std::thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            while let Ok(count) = reader.read(&mut bytes) {
                while stop.load(Ordering::SeqCst) {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                if count == 0 {
                    return;
                }
                shown.lock().unwrap().process(&bytes[..count]);
                kept.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { child, terminal, screen, raw, stalled, modes }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn send(&self, keys: &str) {
        rustix::io::write(&self.terminal, keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    fn raw(&self) -> String {
        String::from_utf8_lossy(&self.raw.lock().unwrap()).into_owned()
    }

    /// How long all its threads have run, in milliseconds.
    fn cpu_ms(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().flatten();
        let text = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
        let run = text.filter_map(|text| text.split_whitespace().next()?.parse::<f64>().ok());
        run.sum::<f64>() / 1e6
    }

    fn see(&self, wanted: &str) {
        until(&format!("'{wanted}' is on the screen"), seconds(20), || {
            self.text().contains(wanted).then_some(())
        });
    }

    /// Waits for the end, and returns its status, once everything written was read.
    fn end(&mut self) -> std::process::ExitStatus {
        let status = until("mesh top ends", seconds(10), || self.child.try_wait().unwrap());
        until("the main screen is back", seconds(5), || {
            (!self.screen.lock().unwrap().screen().alternate_screen()).then_some(())
        });
        status
    }

    fn assert_restored(&self) {
        let screen = self.screen.lock().unwrap();
        assert!(!screen.screen().alternate_screen(), "still on the alternate screen");
        assert!(!screen.screen().hide_cursor(), "the cursor is still hidden");
        assert_eq!(screen.screen().mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        drop(screen);
        let modes = tcgetattr(self.terminal.as_fd()).unwrap().local_modes;
        assert_eq!(modes, self.modes, "the modes of the terminal are not what they were");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the screen was:\n{}", self.text());
        }
    }
}

fn watching() -> (Proxy, Session) {
    let proxy = Proxy::start();
    let session = Session::start(&["--proxy", &proxy.addr.to_string()], &[]);
    session.see("needs attention");
    session.see("● LIVE");
    (proxy, session)
}

#[test]
fn the_console_shows_the_mesh_and_follows_keys() {
    let (_proxy, session) = watching();
    session.see("checkout→payments");

    session.send("\r");
    session.see("edge checkout→payments");
    session.send("5");
    session.see("one cell a node");
    session.send("3/svc:pay");
    session.see("/svc:pay▏");
    session.send("\r");
    session.see("1/1");
    session.send("?");
    session.see("half a page down");
}

#[test]
fn every_frame_is_wrapped_in_synchronised_output_and_written_without_clearing() {
    let (_proxy, session) = watching();
    session.send("234");
    session.see("SOURCE→DESTINATION");

    let raw = String::from_utf8_lossy(&session.raw.lock().unwrap()).into_owned();

    let (begun, ended) = (raw.matches("\x1b[?2026h").count(), raw.matches("\x1b[?2026l").count());
    assert!(begun >= 2, "{begun} frames");
    assert!(begun.abs_diff(ended) <= 1);
    assert!(raw.matches("\x1b[2J").count() <= 1, "frames clear the screen");
}

#[test]
fn a_terminal_that_takes_nothing_holds_up_neither_keys_nor_the_end() {
    for (key, signal) in [("q", None), ("", Some(Signal::TERM))] {
        let (_proxy, mut session) = watching();
        session.stalled.store(true, Ordering::SeqCst);
        let (mut before, mut same) = (0, 0);
        until("the terminal is full", seconds(20), || {
            session.send(if same % 2 == 0 { "3" } else { "4" });
            let waiting = rustix::io::ioctl_fionread(&session.terminal).unwrap();
            same = if waiting == before { same + 1 } else { 0 };
            before = waiting;
            (same >= 40 && waiting > 0).then_some(())
        });

        session.send(key);
        if let Some(signal) = signal {
            kill_process(session.pid(), signal).unwrap();
        }
        let status = until("it ends", seconds(10), || session.child.try_wait().unwrap());

        assert!(status.success());
        let modes = tcgetattr(session.terminal.as_fd()).unwrap().local_modes;
        assert_eq!(modes, session.modes, "the modes of the terminal are not what they were");
        session.stalled.store(false, Ordering::SeqCst);
    }
}

#[test]
fn it_follows_the_background_of_the_terminal_however_late_it_is_told() {
    let (_proxy, session) = watching();
    let title = |session: &Session| {
        let screen = session.screen.lock().unwrap();
        screen.screen().cell(0, 1).map(vt100::Cell::fgcolor)
    };
    until("it asks", seconds(10), || session.raw().contains("\x1b]11;?\x1b\\").then_some(()));
    let dark = title(&session);

    session.send("\x1b]11;rgb:ffff/ffff/ffff\x1b\\");

    until("it has other colours", seconds(10), || (title(&session) != dark).then_some(()));
    assert!(session.text().contains("[1Overview]"), "the answer was taken for keys");
}

#[test]
fn a_look_that_was_chosen_is_kept_and_the_terminal_not_asked() {
    let proxy = Proxy::start();
    let session = Session::start(&["--proxy", &proxy.addr.to_string(), "--theme", "light"], &[]);
    session.see("● LIVE");

    assert!(!session.raw().contains("\x1b]11;?"));
}

#[test]
fn frames_are_cheap() {
    const FRAMES: usize = 24;
    let (_proxy, session) = watching();
    let frames = || session.raw().matches("\x1b[?2026l").count();
    let begun = frames();
    until("it has settled", seconds(20), || (frames() >= begun + 4).then_some(()));

    let (first, bytes, cpu) = (frames(), session.raw.lock().unwrap().len(), session.cpu_ms());
    until("frames are drawn", seconds(30), || (frames() >= first + FRAMES).then_some(()));
    let drawn = (frames() - first) as f64;
    let bytes = (session.raw.lock().unwrap().len() - bytes) as f64 / drawn;
    let cpu = (session.cpu_ms() - cpu) / drawn;

    assert!(bytes <= 8_000.0, "{bytes:.0} bytes a frame");
    assert!(cpu <= 5.0, "{cpu:.2} ms of CPU a frame: at one a second more than 0.5 % of a core");
}

#[test]
fn q_gives_the_terminal_back() {
    let (_proxy, mut session) = watching();

    session.send("q");

    assert!(session.end().success());
    session.assert_restored();
}

#[test]
fn ctrl_c_gives_the_terminal_back_also_from_a_prompt_and_before_any_data() {
    let (_proxy, mut session) = watching();
    session.send(":serv");
    session.see(":serv▏");
    session.send("\x03");
    assert!(session.end().success());
    session.assert_restored();

    let mut lonely = Session::start(&["--proxy", "127.0.0.1:1"], &[]);
    lonely.see("Connection refused");
    lonely.send("\x03");
    assert!(lonely.end().success());
    lonely.assert_restored();
}

#[test]
fn signals_that_end_it_give_the_terminal_back() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let (_proxy, mut session) = watching();

        kill_process(session.pid(), signal).unwrap();

        assert!(session.end().success(), "{signal:?}");
        session.assert_restored();
    }
}

#[test]
fn ctrl_z_hands_the_terminal_to_the_shell_and_fg_takes_it_again() {
    let proxy = Proxy::start();
    let session = Session::run(Path::new("bash"), &["--norc", "--noprofile", "-i"], &[("PS1", "shell> ")]);
    session.see("shell>");
    session.send(&format!("{} top --proxy {}\r", program::mesh().display(), proxy.addr));
    session.see("● LIVE");

    session.send("\x1a");
    session.see("Stopped");
    assert!(!session.screen.lock().unwrap().screen().alternate_screen());
    session.send("fg\r");
    session.see("● LIVE");
    session.send("q");
    until("the main screen is back", seconds(5), || {
        (!session.screen.lock().unwrap().screen().alternate_screen()).then_some(())
    });
    session.send("echo it ended with $?\r");

    session.see("it ended with 0");
}

#[test]
fn resizing_is_followed_at_once_and_a_storm_of_it_is_survived() {
    let (_proxy, session) = watching();

    for step in 0..200_u16 {
        let size = Winsize { ws_row: 1 + step % 50, ws_col: 1 + step * 7 % 150, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&session.terminal, size).unwrap();
    }
    session.screen.lock().unwrap().screen_mut().set_size(24, 80);
    tcsetwinsize(&session.terminal, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();

    session.see("needs attention");
    until("the footer is in the last row of the new size", seconds(5), || {
        let text = session.text();
        text.lines().nth(23).is_some_and(|line| line.contains("open")).then_some(())
    });
}

#[test]
fn the_console_outlives_what_it_watches_and_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = move |listener: TcpListener| {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let mut answer = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
        answer.extend(serde_json::to_vec(&shop::mesh(shop::INCIDENT + 40)).unwrap());
        answer.push(b'\n');
        stream.write_all(&answer).unwrap();
    };
    let first = std::thread::spawn(move || serve(listener));
    let session = Session::start(&["--proxy", &addr.to_string()], &[]);
    session.see("payments");
    first.join().unwrap();

    session.see("× STALE");
    session.see("Connection refused");
    session.see("payments");
    let again = std::thread::spawn(move || serve(TcpListener::bind(addr).unwrap()));
    until("it connects again", seconds(30), || {
        session.send("r");
        again.is_finished().then_some(())
    });
    session.see("live again after");
}

#[test]
fn without_colour_and_without_unicode_it_says_the_same() {
    let proxy = Proxy::start();
    let session = Session::start(&["--proxy", &proxy.addr.to_string()], &[("NO_COLOR", "1"), ("LANG", "C")]);

    session.see("* LIVE");
    session.see("x checkout>payments");
    let raw = session.raw.lock().unwrap();
    let text = String::from_utf8_lossy(&raw);
    assert!(raw.is_ascii());
    for colour in ["\x1b[38;2;", "\x1b[38;5;", "\x1b[48;2;", "\x1b[48;5;", "\x1b[31m"] {
        assert!(!text.contains(colour), "colour under NO_COLOR: {colour:?}");
    }
}

#[test]
fn a_pipe_gets_a_table_and_scripts_get_json() {
    let proxy = Proxy::start();
    let addr = proxy.addr.to_string();
    let top = |arguments: &[&str]| {
        let output =
            Command::new(program::mesh()).args(["top", "--proxy", &addr]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };

    let table = top(&[]);
    let edges: serde_json::Value =
        serde_json::from_str(&top(&["--once", "-o", "json", "--view", "edges", "--filter", "dst:payments"]))
            .unwrap();
    let image = top(&["-o", "svg"]);

    assert!(table.lines().next().unwrap().contains("SERVICE") && !table.contains('\x1b'), "{table}");
    assert!(table.lines().any(|line| line.starts_with("failing") && line.contains("payments")), "{table}");
    assert_eq!(edges.as_array().unwrap().len(), 1);
    assert_eq!(edges[0]["source"], "checkout.default");
    assert!(image.starts_with("<svg") && image.contains("needs attention"));
    assert!(proxy.next.load(Ordering::Relaxed) > shop::INCIDENT + 40);
}

/// Not a test of its own: what the next one runs on a terminal. Without the variable it has nothing to do.
#[test]
fn a_console_that_panics_when_it_is_asked_to() {
    if std::env::var_os("MESH_TEST_PANIC").is_none() {
        return;
    }
    let theme = mesh::top::theme::Theme::named("dark", mesh::top::theme::Depth::True, false).unwrap();
    let state = mesh::top::state::State::new((COLUMNS, ROWS), theme, "nowhere".to_owned(), 0);
    let mut screen = mesh::top::terminal::Screen::enter().unwrap();
    screen.draw(&state).unwrap();
    panic!("as asked");
}

#[test]
fn a_panic_gives_the_terminal_back_before_it_is_told() {
    let program = std::env::current_exe().unwrap();
    let name = "console::a_console_that_panics_when_it_is_asked_to";
    let arguments = ["--exact", name, "--nocapture", "--test-threads=1"];
    let mut session = Session::run(&program, &arguments, &[("MESH_TEST_PANIC", "1")]);

    assert!(!session.end().success());

    session.see("as asked");
    session.assert_restored();
    let raw = String::from_utf8_lossy(&session.raw.lock().unwrap()).into_owned();
    assert!(
        raw.find("\x1b[?1049l").unwrap() < raw.find("as asked").unwrap(),
        "it was told on the lost screen"
    );
}
