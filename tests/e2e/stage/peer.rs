//! Services of other people's making, each on a free port of its host.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::stage::place::Place;
use crate::stage::process::{Process, run, run_with};
use crate::stage::program::{python, script};
use crate::stage::wait::{seconds, until};

/// A service that runs until it is dropped.
pub(crate) struct Peer {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

fn wait_for_port(place: &Place, process: &mut Process, port: u16) {
    until(&format!("port {port} answers"), seconds(20), || {
        process.assert_alive();
        place.inside(|| std::net::TcpStream::connect(("127.0.0.1", port)).ok())
    });
}

fn folder(base: &Path, name: &str, port: u16) -> PathBuf {
    let folder = base.join(format!("{name}-{port}"));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Ends no connection because of the requests that it has had.
const MANY: &str = "keepalive_requests 100000;";

/// nginx, for HTTP/1: `/` answers with `name`, `/files/` serves `<base>/files`, `/echo-host` the Host it was asked for.
pub(crate) fn nginx(place: &Place, base: &Path, name: &str) -> Peer {
    nginx_speaking(place, base, name, "", MANY)
}

/// As [`nginx`], with a few more directives.
pub(crate) fn nginx_that(place: &Place, base: &Path, name: &str, directives: &str) -> Peer {
    nginx_speaking(place, base, name, "", directives)
}

/// As [`nginx`], for HTTP/2 alone.
pub(crate) fn nginx_h2c(place: &Place, base: &Path, name: &str) -> Peer {
    nginx_speaking(place, base, name, "http2", MANY)
}

fn nginx_speaking(place: &Place, base: &Path, name: &str, protocol: &str, directives: &str) -> Peer {
    let port = place.free_port();
    let folder = folder(base, name, port);
    fs::create_dir_all(base.join("files")).unwrap();
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {0}/pid; error_log stderr warn;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; client_max_body_size 0;\n\
         server {{ listen 127.0.0.1:{port} {protocol}; default_type text/plain; {directives}\n\
         location = / {{ return 200 \"{name}\\n\"; }}\n\
         location = /echo-host {{ return 200 \"$host\\n\"; }}\n\
         location = /echo-header {{ return 200 \"$http_x_color|$http_x_added\\n\"; }}\n\
         location = /teapot {{ return 418 \"short and stout\\n\"; }}\n\
         location /files/ {{ root {1}; }} }} }}\n",
        folder.display(),
        base.display(),
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).arg("-c").arg(&file).args(["-e", "stderr"]);
    let mut process = Process::start(place, base, &format!("nginx-{name}-{port}"), command);
    wait_for_port(place, &mut process, port);
    Peer { process, port }
}

/// Redis, without persistence.
pub(crate) fn redis(place: &Place, base: &Path) -> Peer {
    let port = place.free_port();
    let mut command = Command::new("redis-server");
    command.args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
    ]);
    command.arg(folder(base, "redis", port));
    let mut process = Process::start(place, base, &format!("redis-{port}"), command);
    wait_for_port(place, &mut process, port);
    Peer { process, port }
}

/// PostgreSQL, as a user without privileges, since it refuses to be root.
pub(crate) fn postgres(place: &Place, base: &Path) -> Peer {
    let (uid, gid) = unprivileged();
    let binaries = newest_postgres();
    let port = place.free_port();
    let folder = folder(base, "postgres", port);
    chown(&folder, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(base, fs::Permissions::from_mode(0o755)).unwrap();
    let data = folder.join("data");
    let prepare = |command: &mut Command| {
        command.uid(uid).gid(gid).env("HOME", &folder).env_remove("PGDATA").current_dir(&folder);
    };
    let flags = ["--no-sync", "-A", "trust", "-U", "mesh", "--locale=C", "-D", data.to_str().unwrap()];
    run_with(place, seconds(60), binaries.join("initdb"), &flags, prepare).ok();

    let mut command = Command::new(binaries.join("postgres"));
    command.arg("-D").arg(&data).arg("-k").arg(&folder);
    command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-p", &port.to_string()]);
    prepare(&mut command);
    let mut process = Process::start(place, base, &format!("postgres-{port}"), command);
    until("PostgreSQL accepts connections", seconds(30), || {
        process.assert_alive();
        let ready = ["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "mesh"];
        (run(place, seconds(5), binaries.join("pg_isready"), &ready).code == Some(0)).then_some(())
    });
    Peer { process, port }
}

fn unprivileged() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let mut fields =
            users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).expect("a user postgres or nobody")
}

fn newest_postgres() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed (tests/e2e/peers.sh)");
    let newest =
        versions.flatten().map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").is_file());
    newest.max().expect("a version of PostgreSQL with initdb")
}

/// A Python script that writes `listening PORT` once it does.
pub(crate) fn script_server(place: &Place, base: &Path, name: &str) -> Peer {
    let mut command = Command::new(python());
    command.arg("-u").arg(script(name)).arg("serve");
    let mut process = Process::start(place, base, &format!("{name}-{}", place.free_port()), command);
    let port = until(&format!("{name} listens"), seconds(20), || {
        process.assert_alive();
        process.log().lines().find_map(|line| line.strip_prefix("listening ")?.parse().ok())
    });
    Peer { process, port }
}

/// A TCP service of our own in a thread: greets first, then sends back what it gets, and says how much that was when
/// its peer has no more to say. Ends with the test.
pub(crate) fn greeter(place: &Place, name: &'static str) -> SocketAddr {
    let listener = place.inside(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || greet(stream, name));
        }
    });
    address
}

fn greet(mut stream: std::net::TcpStream, name: &str) -> std::io::Result<()> {
    stream.write_all(format!("220 {name} speaks first\r\n").as_bytes())?;
    let mut count = 0;
    let mut buffer = [0; 16 * 1024];
    loop {
        let got = stream.read(&mut buffer)?;
        if got == 0 {
            break;
        }
        count += got;
        stream.write_all(&buffer[..got])?;
    }
    stream.write_all(format!("\r\n221 {count} bytes\r\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

/// A service that answers each request with `text`, on every address of its host. Ends with the test.
pub(crate) fn answerer(place: &Place, text: &'static str) -> u16 {
    answerer_at(place, 0, text)
}

/// As [`answerer`], at a port of one's choice.
pub(crate) fn answerer_at(place: &Place, port: u16, text: &'static str) -> u16 {
    let listener = place.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                while !matches!(stream.read(&mut request), Ok(0) | Err(_)) {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                    let _ = stream.write_all(answer.as_bytes());
                }
            });
        }
    });
    port
}

/// Whether rules for interception are in force on a host.
pub(crate) fn has_rules(place: &Place) -> bool {
    run(place, seconds(5), "nft", &["list", "tables"]).ok().contains("table inet mesh")
}
