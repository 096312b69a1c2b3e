//! `hob service` with commands of its own in place of the system's, and how the program itself ends when it is told to.

#![allow(clippy::unwrap_used)] // helpers of tests
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::{Home, Said, slow, text};
use serde_json::json;

/// A home with a `systemctl` that notes what it is asked for, and answers with the file `answer`, failing where it says so.
struct System {
    home: Home,
    bin: PathBuf,
}

impl System {
    fn new() -> System {
        let home = Home::new();
        let script = "#!/bin/sh\necho \"$*\" >> \"$HOME/asked\"\n\
            case \"$*\" in *is-active*) cat \"$HOME/state\";; esac\n\
            case \"$*\" in *daemon-reload*) if [ -f \"$HOME/broken\" ]; then echo no bus >&2; exit 1; fi;; esac\n";
        let bin = home.dir().join("bin");
        fs::create_dir(&bin).unwrap();
        let path = bin.join("systemctl");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        System { home, bin }
    }

    fn hob(&self, args: &[&str]) -> Said {
        let mut command = self.home.command(args);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.bin.display()));
        command.env_remove("XDG_CONFIG_HOME");
        common::said(command.output().unwrap())
    }

    fn unit(&self) -> PathBuf {
        self.home.dir().join(".config/systemd/user/hob.service")
    }

    /// What was asked since the last time.
    fn asked(&self) -> String {
        let path = self.home.dir().join("asked");
        let asked = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        asked
    }
}

#[test]
fn a_service_is_installed_replaced_and_removed() {
    let system = System::new();
    let said = system.hob(&["service", "install", "--", "--host", "127.0.0.1:9"]);
    let told = said.err.clone();
    said.ok();
    assert!(told.contains(text(&system.unit())) && told.contains("serve.env"), "{told}");
    assert!(told.contains("does not see HOB_HOST"), "{told}");
    assert_eq!(
        system.asked(),
        "--user daemon-reload\n--user enable hob.service\n--user restart hob.service\n"
    );
    let unit = fs::read_to_string(system.unit()).unwrap();
    let program = env!("CARGO_BIN_EXE_hob");
    assert!(unit.contains(&format!("ExecStart={program} serve --host 127.0.0.1:9\n")), "{unit}");
    assert!(unit.contains(&format!("HOB_HOME={}", text(&system.home.path()))), "{unit}");

    let again = ["service", "install", "--", "--host", "127.0.0.1:10", "--grace", "90"];
    let said = system.hob(&again);
    assert!(said.err.contains("replaced"), "{}", said.err);
    said.ok();
    let unit = fs::read_to_string(system.unit()).unwrap();
    assert!(unit.contains("TimeoutStopSec=100\n"), "{unit}");

    fs::write(system.unit(), unit.replace("127.0.0.1:10", "127.0.0.1:11")).unwrap();
    system.asked();
    system.hob(&again).fails(1, &["changed by hand", "--force"]);
    system.hob(&["service", "uninstall"]).fails(1, &["changed by hand", "--force"]);
    assert_eq!(system.asked(), "");
    fs::write(system.home.dir().join("state"), "active\n").unwrap();
    let status = system.hob(&["service", "status", "--json"]).json();
    let expected = json!({
        "schema": 1, "file": system.unit(), "installed": true, "changed": true, "state": "active",
    });
    assert_eq!(status, expected);
    let forced = ["service", "install", "--force", "--", "--host", "127.0.0.1:10"];
    let said = system.hob(&forced);
    assert!(said.err.contains("hob.service.old"), "{}", said.err);
    said.ok();
    let old = fs::read_to_string(system.unit().with_extension("service.old")).unwrap();
    assert!(old.contains("127.0.0.1:11"), "{old}");

    system.asked();
    system.hob(&["service", "uninstall"]).ok();
    assert_eq!(system.asked(), "--user disable --now hob.service\n--user daemon-reload\n");
    assert!(!system.unit().exists());
    system.hob(&["service", "uninstall"]).fails(1, &["no service is installed"]);
    assert!(system.hob(&["service", "status"]).ok().starts_with("not installed"));
    assert_eq!(system.hob(&["service", "status", "--json"]).json()["installed"], false);
}

#[test]
fn printing_writes_nothing() {
    let system = System::new();
    let unit = system.hob(&["service", "install", "--print"]).ok();
    assert!(unit.starts_with("[Unit]\n") && unit.contains("NoNewPrivileges=true\n"), "{unit}");
    let unit = system.hob(&["service", "install", "--system", "--print"]).ok();
    assert!(unit.contains("ProtectSystem=strict\n") && unit.contains("DynamicUser=true\n"));
    assert!(!system.unit().exists());
    assert_eq!(system.asked(), "");
}

#[test]
fn what_cannot_be_done_is_told() {
    let system = System::new();
    let install = |flags: &[&str]| system.hob(&[&["service", "install"], flags].concat());
    install(&["--", "--nonsense"]).fails(2, &["`hob serve`", "--nonsense"]);
    install(&["--", "--parallel", "0"]).fails(2, &["--parallel"]);
    install(&["--", "--api-key-file", "keys"]).fails(2, &["absolute"]);
    install(&["--system", "--home", "/data"]).fails(2, &["--user"]);
    install(&["--user", "ann"]).fails(2, &["--system"]);
    assert!(!system.unit().exists());

    fs::write(system.home.dir().join("broken"), "").unwrap();
    install(&[]).fails_after(&["no bus", "by hand", "systemctl --user daemon-reload"]);
    let mut command = system.home.command(&["service", "install"]);
    command.env("PATH", "/nowhere").env_remove("XDG_CONFIG_HOME");
    common::said(command.output().unwrap()).fails_after(&["cannot run systemctl", "by hand"]);
}

trait Fails {
    /// A run that failed when it had told something already.
    fn fails_after(self, parts: &[&str]);
}

impl Fails for Said {
    fn fails_after(self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in: {}", self.err);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server in a process of its own, with a stream that runs.
struct Running {
    child: Child,
    stream: TcpStream,
}

impl Running {
    fn new(home: &Home, tokens: usize, flags: &[&str]) -> Running {
        let path = slow(home);
        home.hob(&["import", text(&path), "--name", "slow"]).ok();
        let args = [&["serve", "--host", "127.0.0.1:0"], flags].concat();
        let mut child = home.command(&args).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(said.read_line(&mut line).unwrap() > 0, "no server");
            if let Some((_, address)) = line.trim().split_once("listens on http://") {
                break address.to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let options = json!({"num_predict": tokens, "temperature": 0});
        let body = json!({"model": "slow", "prompt": "go on", "options": options}).to_string();
        let length = body.len();
        let head =
            format!("POST /api/generate HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        let mut begin = [0; 1024];
        assert!(stream.read(&mut begin).unwrap() > 0);
        Running { child, stream }
    }

    fn terminate(&self) {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// The rest of the stream.
    fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A stream that is cut is none that fails.
        let _ = self.stream.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

#[test]
fn a_signal_lets_streams_finish_and_the_program_ends_well() {
    let home = Home::new();
    let mut running = Running::new(&home, 300, &["--grace", "600"]);
    running.terminate();
    let rest = running.rest();
    assert!(rest.contains("\"done\":true"), "{rest}");
    assert!(running.child.wait().unwrap().success());
}

#[test]
fn the_deadline_ends_streams_with_an_error() {
    let home = Home::new();
    let mut running = Running::new(&home, 4000, &["--grace", "0"]);
    running.terminate();
    let rest = running.rest();
    assert!(rest.contains("{\"error\":\"the server is shutting down\"}"), "{rest}");
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
    assert!(running.child.wait().unwrap().success());
}

#[test]
fn a_second_signal_ends_at_once() {
    let home = Home::new();
    let mut running = Running::new(&home, 4000, &["--grace", "600"]);
    running.terminate();
    // Signals that come together count as one.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(300) && running.child.try_wait().unwrap().is_none()
    {
        running.terminate();
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(running.child.try_wait().unwrap().is_some(), "it goes on");
    assert!(!running.rest().contains("\"done\":true"));
}
