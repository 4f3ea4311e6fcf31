//! The installer, in each small shell that a host may have as `sh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::stage::mesh::Mesh;
use crate::stage::place::Place;
use crate::stage::process::{Done, Process, run, run_with};
use crate::stage::program;
use crate::stage::wait::{seconds, until};

const SHELLS: [&[&str]; 2] = [&["dash"], &["busybox", "sh"]];
const TOKEN: &str = "mesh1.a.b.c@10.0.0.1:7443";

fn installer() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh")
}

/// A release directory with a program of a few bytes, and an empty root to install it in.
struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    fn new() -> Self {
        let sandbox = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(sandbox.release()).unwrap();
        sandbox.publish("mesh 0.0.1");
        sandbox
    }

    fn release(&self) -> PathBuf {
        self.folder.path().join("release")
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn publish(&self, version: &str) {
        fs::write(self.release().join("mesh"), format!("#!/bin/sh\necho {version}\n")).unwrap();
        let sums = Command::new("sha256sum").arg("mesh").current_dir(self.release()).output().unwrap();
        fs::write(self.release().join("SHA256SUMS"), sums.stdout).unwrap();
    }

    fn install(&self, shell: &[&str], arguments: &[&str]) -> Done {
        let (release, root, installer) = (self.release(), self.root(), installer());
        let from = ["--from", release.to_str().unwrap(), "--prefix", root.to_str().unwrap()];
        let words = [&shell[1..], &[installer.to_str().unwrap()], &from, arguments].concat();
        run(&Place::here(), seconds(20), shell[0], &words)
    }

    /// As [`Sandbox::install`], with variables in the environment.
    fn install_with(&self, shell: &[&str], variables: &[(&str, &str)], arguments: &[&str]) -> Done {
        let (release, root, installer) = (self.release(), self.root(), installer());
        let from = ["--from", release.to_str().unwrap(), "--prefix", root.to_str().unwrap()];
        let words = [&shell[1..], &[installer.to_str().unwrap()], &from, arguments].concat();
        run_with(&Place::here(), seconds(20), shell[0], &words, |command| {
            command.envs(variables.iter().copied());
        })
    }

    /// Every file in the root with its content and mode.
    fn files(&self) -> Vec<(String, String, u32)> {
        use std::os::unix::fs::PermissionsExt as _;
        let mut found = Vec::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                    let name = entry.path().strip_prefix(self.root()).unwrap().to_str().unwrap().to_owned();
                    found.push((name, fs::read_to_string(entry.path()).unwrap(), mode));
                }
            }
        }
        found.sort();
        found
    }
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let here = Place::here();
    let installer = installer();

    for dialect in ["sh", "dash"] {
        run(&here, seconds(60), "shellcheck", &["-s", dialect, installer.to_str().unwrap()]).ok();
    }
    for script in ["peers.sh", "leave_no_trace.sh"] {
        run(&here, seconds(60), "shellcheck", &[program::script(script).to_str().unwrap()]).ok();
    }
}

#[test]
fn it_installs_a_proxy_from_a_release_and_again_without_a_change() {
    for shell in SHELLS {
        let sandbox = Sandbox::new();
        let arguments =
            ["--join", TOKEN, "--service", "web=8080", "--upstream=db=127.0.0.1:5432", "--node", "n1"];

        sandbox.install(shell, &arguments).ok();
        let first = sandbox.files();
        let again = sandbox.install(shell, &arguments);

        let names: Vec<_> = first.iter().map(|(name, _, mode)| (name.as_str(), *mode)).collect();
        assert_eq!(names, [("etc/mesh/proxy.env", 0o600), ("usr/local/bin/mesh", 0o755)]);
        assert!(first[0].1.contains(TOKEN));
        assert!(
            first[0].1.contains("--service web=8080 --upstream db=127.0.0.1:5432 --node n1"),
            "{}",
            first[0].1
        );
        assert!(again.err.contains("already this version"), "{}", again.err);
        assert_eq!(again.code, Some(0));
        assert_eq!(sandbox.files(), first);
    }
}

#[test]
fn it_installs_what_was_built_in_its_checkout() {
    let sandbox = Sandbox::new();
    let checkout = sandbox.folder.path().join("checkout");
    let built = checkout.join("target/x86_64-unknown-linux-gnu/release");
    fs::create_dir_all(&built).unwrap();
    fs::copy(installer(), checkout.join("install.sh")).unwrap();
    let root = sandbox.root();
    let install = |shell: &[&str]| {
        let installer = checkout.join("install.sh");
        let words =
            [&shell[1..], &[installer.to_str().unwrap(), "--prefix", root.to_str().unwrap()]].concat();
        run_with(&Place::here(), seconds(20), shell[0], &words, |command| {
            command.env_remove("CARGO_TARGET_DIR");
        })
    };

    for shell in SHELLS {
        let nowhere = install(shell);
        assert!(
            nowhere.code == Some(2) && nowhere.err.contains("say where to install from"),
            "{}",
            nowhere.err
        );
    }
    fs::write(checkout.join("Cargo.toml"), "[package]\nname = \"mesh\"\n").unwrap();
    for shell in SHELLS {
        let nothing = install(shell);
        assert!(nothing.code == Some(1) && nothing.err.contains("cargo build --release"), "{}", nothing.err);
    }
    fs::copy(sandbox.release().join("mesh"), built.join("mesh")).unwrap();
    for shell in SHELLS {
        install(shell).ok();
        assert!(root.join("usr/local/bin/mesh").is_file());
    }
}

#[test]
fn a_newer_release_replaces_the_program_and_keeps_the_settings() {
    let sandbox = Sandbox::new();
    sandbox.install(SHELLS[0], &["--control", "--node", "c1"]).ok();

    sandbox.publish("mesh 0.0.2");
    sandbox.install(SHELLS[0], &[]).ok();

    let files = sandbox.files();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files[0].1.contains("--name c1"), "{files:?}");
    assert!(files[1].1.contains("0.0.2"), "{files:?}");
}

#[test]
fn what_is_not_what_was_meant_is_not_installed() {
    for shell in SHELLS {
        let sandbox = Sandbox::new();
        fs::write(sandbox.release().join("mesh"), "#!/bin/sh\necho evil\n").unwrap();

        let refused = sandbox.install(shell, &["--control"]).failed(1);

        assert!(refused.contains("SHA-256") && refused.contains("nothing was installed"), "{refused}");
        assert_eq!(sandbox.files(), []);
    }
}

#[test]
fn a_program_that_does_not_run_here_is_not_installed() {
    let sandbox = Sandbox::new();
    sandbox.install(SHELLS[0], &[]).ok();
    let before = sandbox.files();
    sandbox.publish("x; exit 1 #");

    let refused = sandbox.install(SHELLS[0], &[]).failed(1);

    assert!(refused.contains("does not run here"), "{refused}");
    assert_eq!(sandbox.files(), before);
}

#[test]
fn what_to_run_may_be_said_by_the_environment_and_flags_count_before_it() {
    let settings = |sandbox: &Sandbox, role: &str| {
        fs::read_to_string(sandbox.root().join(format!("etc/mesh/{role}.env"))).unwrap_or_default()
    };
    for shell in SHELLS {
        let variables = [
            ("MESH_JOIN", TOKEN),
            ("MESH_SERVICE", "web=8080,api=9090"),
            ("MESH_INTERCEPT", "strict"),
            ("MESH_NODE", "vm-1"),
        ];
        let sandbox = Sandbox::new();
        sandbox.install_with(shell, &variables, &[]).ok();
        let said = settings(&sandbox, "proxy");
        assert!(said.contains(&format!("MESH_JOIN='{TOKEN}'")), "{said}");
        let arguments = "MESH_ARGS='--service web=8080,api=9090 --intercept strict --node vm-1'";
        assert!(said.contains(arguments), "{said}");

        let sandbox = Sandbox::new();
        sandbox.install_with(shell, &variables, &["--join", TOKEN, "--service", "db=5432"]).ok();
        let said = settings(&sandbox, "proxy");
        assert!(said.contains("--service db=5432 --intercept strict") && !said.contains("web"), "{said}");

        // A token that lies around does not make a proxy of a control plane.
        let sandbox = Sandbox::new();
        sandbox.install_with(shell, &variables, &["--control"]).ok();
        let said = settings(&sandbox, "control");
        assert!(said.contains("MESH_ARGS='--name vm-1'") && !said.contains(TOKEN), "{said}");
        assert_eq!(settings(&sandbox, "proxy"), "");
        let sandbox = Sandbox::new();
        sandbox.install_with(shell, &[("MESH_ROLE", "control")], &[]).ok();
        assert!(settings(&sandbox, "control").contains("MESH_ARGS=''"));

        let wrong = sandbox.install_with(shell, &[("MESH_ROLE", "both")], &[]).failed(1);
        assert!(wrong.contains("expected proxy or control"), "{wrong}");
        let cut = sandbox.install_with(shell, &[("MESH_JOIN", "mesh1.a")], &[]).failed(1);
        assert!(cut.contains("MESH_JOIN: this is no join token"), "{cut}");
        let bare = sandbox.install_with(shell, &[("MESH_SERVICE", "web=8080")], &[]);
        assert!(bare.code == Some(0) && settings(&sandbox, "proxy").is_empty(), "{}", bare.err);
    }
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_it_would_do() {
    let sandbox = Sandbox::new();

    let said = sandbox.install(SHELLS[0], &["--dry-run", "--join", TOKEN]);

    assert!(said.err.contains("would install") && said.err.contains("would write"), "{}", said.err);
    assert!(!said.err.contains(TOKEN), "the token is a secret");
    assert_eq!((said.code, sandbox.files()), (Some(0), Vec::new()));
}

#[test]
fn uninstalling_leaves_nothing_behind_but_the_authority_until_it_is_purged() {
    for shell in SHELLS {
        let sandbox = Sandbox::new();
        sandbox.install(shell, &["--control"]).ok();
        sandbox.install(shell, &["--join", TOKEN]).ok();
        for role in ["control", "proxy"] {
            let state = sandbox.root().join("var/lib/mesh").join(role);
            fs::create_dir_all(&state).unwrap();
            fs::write(state.join("state"), role).unwrap();
        }

        let kept = sandbox.install(shell, &["--uninstall"]);
        let left = sandbox.files();
        sandbox.install(shell, &["--uninstall", "--purge"]).ok();

        assert!(kept.err.contains("certificate authority"), "{}", kept.err);
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].0, "var/lib/mesh/control/state");
        assert_eq!(sandbox.files(), []);
        assert!(!sandbox.root().join("var/lib/mesh").exists() && !sandbox.root().join("etc/mesh").exists());
    }
}

#[test]
fn uninstalling_ends_the_processes_of_its_own_program_and_no_others() {
    for shell in SHELLS {
        let sandbox = Sandbox::new();
        sandbox.install(shell, &[]).ok();
        let program = sandbox.root().join("usr/local/bin/mesh");
        let other = sandbox.folder.path().join("mesh");
        for file in [&program, &other] {
            fs::remove_file(file).ok();
            fs::copy("/bin/sleep", file).unwrap();
        }
        let start = |name: &str, words: &[&str]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            Process::start(&Place::here(), sandbox.folder.path(), name, command)
        };
        let (program, other) = (program.to_str().unwrap(), other.to_str().unwrap());
        let mut ours = start("ours", &[program, "600"]);
        let mut copy = start("copy", &[other, "600"]);
        // Another mount namespace has the same file under the same path, as a container may.
        let mut contained = start("contained", &["unshare", "-rm", program, "600"]);
        let exe = format!("/proc/{}/exe", contained.pid().as_raw_nonzero());
        until("it runs there", seconds(10), || {
            (fs::read_link(&exe).ok()? == Path::new(program)).then_some(())
        });

        let said = sandbox.install(shell, &["--uninstall"]);
        let again = sandbox.install(shell, &["--uninstall"]);

        assert_eq!(said.code, Some(0), "{}", said.err);
        assert!(
            said.err.contains(&format!("stopped PID {} (mesh)", ours.pid().as_raw_nonzero())),
            "{}",
            said.err
        );
        assert!(ours.ended().is_some());
        copy.assert_alive();
        contained.assert_alive();
        assert!(again.err.contains("nothing to remove"), "{}", again.err);
    }
}

#[test]
fn misuse_is_status_2_and_dangerous_values_are_refused() {
    let sandbox = Sandbox::new();
    for misuse in [
        &["--bogus"][..],
        &["--join"],
        &["--service", "web=1"],
        &["--join", TOKEN, "--control"],
        &["--purge"],
    ] {
        sandbox.install(SHELLS[0], misuse).failed(2);
    }

    for value in ["web=80 --x", "a'b", "$(id)", "a\nb"] {
        let refused = sandbox.install(SHELLS[0], &["--join", TOKEN, "--service", value]).failed(1);

        assert!(refused.contains("--service"), "{refused}");
    }
    assert!(sandbox.install(SHELLS[0], &["--join", "nonsense"]).failed(1).contains("mesh token create"));
    assert_eq!(sandbox.files(), []);
}

#[test]
fn a_script_cut_off_on_its_way_does_nothing() {
    let sandbox = Sandbox::new();
    let whole = fs::read_to_string(installer()).unwrap();
    let cut = sandbox.folder.path().join("cut.sh");

    for share in [3, 5, 8] {
        let mut end = whole.len() * share / 10;
        while !whole.is_char_boundary(end) {
            end -= 1;
        }
        fs::write(&cut, &whole[..end]).unwrap();
        let root = sandbox.root();
        run(
            &Place::here(),
            seconds(10),
            "dash",
            &[cut.to_str().unwrap(), "--prefix", root.to_str().unwrap()],
        );

        assert_eq!(sandbox.files(), []);
    }
}

#[test]
fn the_units_in_assets_are_the_ones_that_it_writes() {
    let text = fs::read_to_string(installer()).unwrap();
    let function = text.split("\nunit() {").nth(1).unwrap().split("\n}\n").next().unwrap();

    for role in ["proxy", "control"] {
        let script = format!("unit() {{{function}\n}}\nunit {role}");
        let written = run(&Place::here(), seconds(10), "dash", &["-c", &script]).ok();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("assets/systemd/mesh-{role}.service"));

        assert_eq!(written, fs::read_to_string(path).unwrap());
    }
}

#[test]
fn the_line_that_a_control_plane_prints_installs_its_own_program_from_it() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let root = mesh.folder().join("root");
    let line = mesh.cli(&["token", "create", "--install"]).ok();
    let line = format!("{} --service web=8080 --prefix {}", line.trim(), root.display());

    let installed = run(&here, seconds(60), "dash", &["-c", &line]);

    assert_eq!(installed.code, Some(0), "{line}\n{}", installed.err);
    assert!(fs::read(root.join("usr/local/bin/mesh")).unwrap() == fs::read(program::mesh()).unwrap());
    assert!(fs::read_to_string(root.join("etc/mesh/proxy.env")).unwrap().contains("MESH_JOIN='mesh1."));
}

#[test]
fn a_download_from_a_host_with_another_key_is_refused() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let root = mesh.folder().join("root");
    let line = mesh.cli(&["token", "create", "--install"]).ok();
    let pin = line.split("sha256//").nth(1).unwrap().split(['\'', '"', ' ']).next().unwrap().to_owned();
    let wrong = line.replace(&pin, &format!("{}=", "A".repeat(43)));
    let wrong = format!("{} --prefix {}", wrong.trim(), root.display());

    let refused = run(&here, seconds(60), "dash", &["-c", &wrong]);

    assert!(refused.err.contains("public key does not match"), "{}", refused.err);
    assert!(!root.exists());
}

/// Makes a release of the program under test, as its users do.
fn release(folder: &Path, flags: &[&str]) -> PathBuf {
    let release = folder.join("release");
    let words = [&["release", release.to_str().unwrap()], flags].concat();
    run(&Place::here(), seconds(60), program::mesh(), &words).ok();
    release
}

/// Installs from a release by the installer that is in it.
fn install_from(release: &Path, flags: &[&str]) -> Done {
    let (script, root) = (release.join("install.sh"), release.with_file_name("root"));
    let words =
        [script.to_str().unwrap(), "--from", release.to_str().unwrap(), "--prefix", root.to_str().unwrap()];
    run(&Place::here(), seconds(60), "dash", &[&words, flags].concat())
}

#[test]
fn a_release_is_made_by_one_command_and_installed_with_its_checksums() {
    let folder = tempfile::tempdir().unwrap();
    let release = release(folder.path(), &[]);
    let names = || {
        let mut names: Vec<_> = fs::read_dir(&release)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };

    assert_eq!(names(), ["SHA256SUMS", "install.sh", "mesh"]);
    let check = format!("cd {} && sha256sum --check --strict SHA256SUMS", release.display());
    run(&Place::here(), seconds(30), "sh", &["-c", &check]).ok();
    install_from(&release, &[]).ok();
    let installed = folder.path().join("root/usr/local/bin/mesh");
    assert!(fs::read(&installed).unwrap() == fs::read(program::mesh()).unwrap());

    // One bit is another program, and nothing of it is installed.
    fs::remove_file(&installed).unwrap();
    let mut bytes = fs::read(release.join("mesh")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(release.join("mesh"), bytes).unwrap();
    let refused = install_from(&release, &[]).failed(1);
    assert!(refused.contains("nothing was installed") && !installed.exists(), "{refused}");

    // Made again, it is whole, also where one was cut short; a directory with anything else in it is left alone.
    fs::write(release.join("mesh.partial"), "half").unwrap();
    self::release(folder.path(), &[]);
    install_from(&release, &[]).ok();
    fs::write(release.join("notes.txt"), "mine").unwrap();
    let words = ["release", release.to_str().unwrap()];
    let refused = run(&Place::here(), seconds(60), program::mesh(), &words).failed(1);
    assert!(refused.contains("notes.txt") && names().len() == 4, "{refused}");
}

#[test]
fn a_signed_release_is_known_by_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let openssl = |words: &[&str]| run(&Place::here(), seconds(20), "openssl", words).ok();
    for name in ["ours", "theirs"] {
        let (key, public) = (path(&format!("{name}.pem")), path(&format!("{name}.pub")));
        openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key]);
        openssl(&["pkey", "-in", &key, "-pubout", "-out", &public]);
    }

    let release = release(folder.path(), &["--sign-with", &path("ours.pem")]);
    install_from(&release, &["--key", &path("ours.pub")]).ok();
    let other = install_from(&release, &["--key", &path("theirs.pub")]).failed(1);
    fs::remove_file(release.join("SHA256SUMS.sig")).unwrap();
    let unsigned = install_from(&release, &["--key", &path("ours.pub")]).failed(1);
    let words = ["release", release.to_str().unwrap(), "--sign-with", &path("ours.pub")];
    let no_key = run(&Place::here(), seconds(60), program::mesh(), &words).failed(1);

    assert!(other.contains("not signed with the key"), "{other}");
    assert!(unsigned.contains("not signed"), "{unsigned}");
    assert!(no_key.contains("openssl genpkey"), "{no_key}");
}

#[test]
fn a_control_plane_serves_its_release() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let get = |name: &str| {
        let (url, file) = (format!("https://{}/{name}", mesh.listen()), mesh.folder().join(name));
        crate::stage::process::curl(&here, &["-k", "-o", file.to_str().unwrap(), &url]).ok();
    };

    for name in ["mesh", "install.sh", "SHA256SUMS"] {
        get(name);
    }

    let check = format!("cd {} && sha256sum --check --strict SHA256SUMS", mesh.folder().display());
    run(&here, seconds(30), "sh", &["-c", &check]).ok();
}

#[test]
fn removing_it_leaves_every_file_of_the_host_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let release = release(folder.path(), &[]);
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    let script = program::script("leave_no_trace.sh");

    let words = ["-m", "-n", "--propagation", "private", "dash", script.to_str().unwrap()];
    let rest = [release.to_str().unwrap(), copy.to_str().unwrap(), "dash", "busybox"];
    let done = run(&Place::here(), seconds(240), "unshare", &[&words[..], &rest].concat());

    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    let said = |what: &str| -> Vec<Vec<&str>> {
        let parts = done.out.split("--- ").filter_map(|part| part.strip_prefix(what)?.strip_prefix('\n'));
        parts.map(|part| part.lines().filter(|line| !line.is_empty()).collect()).collect()
    };
    for nothing in ["after a dry run", "after a second install", "network left", "left"] {
        assert_eq!(said(nothing), vec![Vec::<&str>::new(); 2], "{nothing}");
    }
    for changed in said("network changed") {
        let is_there = |part: &str| changed.iter().any(|line| line.contains(part));
        assert!(is_there("table inet mesh") && is_there("chain strict"), "{changed:#?}");
        assert!(is_there("240.0.0.0/5 dev lo"), "a host without a default route: {changed:#?}");
    }
    for shell in 0..2 {
        // A dry run says all that is done then.
        for (dry, real, verbs) in [
            ("dry install", "install", &[("installed ", "would install "), ("wrote ", "would write ")][..]),
            ("dry uninstall", "uninstall", &[("removed ", "would r")]),
        ] {
            let (planned, done) = (&said(dry)[shell], &said(real)[shell]);
            let mut found = 0;
            for (did, would) in verbs {
                for what in done.iter().filter_map(|line| line.strip_prefix(did)) {
                    found += 1;
                    assert!(
                        planned.iter().any(|line| line.starts_with(would) && line.contains(what)),
                        "{did}{what} was not in {planned:#?}"
                    );
                }
            }
            assert!(found >= 2, "{done:#?}");
        }
        assert!(said("uninstall again")[shell][0].contains("nothing to remove"));
    }
}
