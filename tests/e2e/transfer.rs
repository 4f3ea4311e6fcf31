//! Large bodies, with the proxies' memory watched.

use std::fs::{self, File};

use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer;
use crate::stage::place::Place;
use crate::stage::process::{curl, run};
use crate::stage::wait::seconds;

const GIB: u64 = 1 << 30;
/// What a proxy may need at most beyond what it has when it is idle, KiB.
const GROWTH_MAX: u64 = 48 * 1024;

fn memory(proxies: [&Proxy; 2], line: &str) -> [u64; 2] {
    proxies.map(|proxy| proxy.process.memory_kib(line))
}

#[track_caller]
fn assert_flat(before: [u64; 2], proxies: [&Proxy; 2]) {
    let most = memory(proxies, "VmHWM");
    for (before, most) in before.into_iter().zip(most) {
        assert!(most < before + GROWTH_MAX, "memory went from {before} to {most} KiB at most");
    }
}

#[test]
fn a_gibibyte_passes_each_way_with_flat_memory() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let token = mesh.token(&["--uses", "2"]);
    let nginx = peer::nginx(&here, mesh.folder(), "files");
    let sink = peer::script_server(&here, mesh.folder(), "upload_sink.py");
    let greeter = peer::greeter(&here, "bulk");
    let server = mesh
        .proxy(&here, "server")
        .join(&token)
        .service(&format!("files={}/http", nginx.port))
        .service(&format!("sink={}", sink.port))
        .service(&format!("bulk={}/tcp", greeter.port()))
        .start();
    let caller = mesh.proxy(&here, "caller").join(&token).upstream("bulk").start();
    caller.reaches("files");
    caller.reaches("sink");
    let file = mesh.folder().join("files/large");
    File::create(&file).unwrap().set_len(GIB).unwrap();
    let proxies = [&caller, &server];
    let before = memory(proxies, "VmRSS");

    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let got = caller.get(
            "files",
            "/files/large",
            &[version, "--max-time", "120", "-o", "/dev/null", "-w", "%{size_download}"],
        );
        assert_eq!(got.ok(), GIB.to_string(), "{version} download");
        assert_flat(before, proxies);
    }

    let url = format!("http://{}/", caller.address("outbound"));
    let upload = ["-sS", "--max-time", "120", "-H", "Host: sink.mesh", "-T", file.to_str().unwrap(), &url];
    let sent = run(&here, seconds(150), "curl", &upload).ok();
    assert_eq!(sent, format!("{GIB} bytes\n"));
    assert_flat(before, proxies);

    let address = caller.upstream("bulk.default");
    let raw = format!(
        "import socket,threading\ns=socket.create_connection(('127.0.0.1',{})) \ndef w():\n b=bytes(1<<20)\n \
         for _ in range(256): s.sendall(b)\n s.shutdown(socket.SHUT_WR)\nt=threading.Thread(target=w);t.start()\n\
         n=0\nwhile d:=s.recv(1<<20): n+=len(d)\nprint(n)",
        address.port()
    );
    let echoed = run(&here, seconds(120), "python3", &["-c", &raw]).ok();
    let expected = (256 << 20) + "220 bulk speaks first\r\n\r\n221 268435456 bytes\r\n".len();
    assert_eq!(echoed.trim(), expected.to_string());
    assert_flat(before, proxies);
    fs::remove_file(file).unwrap();
}

#[test]
fn a_slow_reader_does_not_fill_the_proxies() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let token = mesh.token(&["--uses", "2"]);
    let nginx = peer::nginx(&here, mesh.folder(), "files");
    let server =
        mesh.proxy(&here, "server").join(&token).service(&format!("files={}/http", nginx.port)).start();
    let caller = mesh.proxy(&here, "caller").join(&token).start();
    caller.reaches("files");
    File::create(mesh.folder().join("files/large")).unwrap().set_len(GIB).unwrap();
    let before = memory([&caller, &server], "VmRSS");

    // 100 KiB/s of what would come at 1 GiB/s.
    let url = format!("http://{}/files/large", caller.address("outbound"));
    let slow = curl(
        &here,
        &[
            "-H",
            "Host: files.mesh",
            "--limit-rate",
            "100k",
            "--max-time",
            "4",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &url,
        ],
    );

    assert_eq!((slow.code, slow.out.as_str()), (Some(28), "200"), "{}", slow.err);
    assert_flat(before, [&caller, &server]);
    assert_eq!(caller.status("files", "/", &[]), 200);
}
