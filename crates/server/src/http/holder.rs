//! Who holds a port that is taken: what answers on it, and on Linux which process has it. For an error's text, so nothing here fails.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const TIME: Duration = Duration::from_millis(700);

/// In words, if anything can be said. Waits up to a second or two.
pub fn holder(address: SocketAddr) -> Option<String> {
    let program = answering(address);
    let process = process(address.port());
    match (program, process) {
        (Some(program), Some(process)) => Some(format!("{program} ({process})")),
        (program, process) => program.or(process),
    }
}

/// What the program says of itself.
fn answering(address: SocketAddr) -> Option<String> {
    let mut to = address;
    if to.ip().is_unspecified() {
        to.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let mut stream = TcpStream::connect_timeout(&to, TIME).ok()?;
    stream.set_read_timeout(Some(TIME)).ok()?;
    stream.set_write_timeout(Some(TIME)).ok()?;
    let ask = "GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(ask.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // What came until it closed or took too long is enough.
    let _ = stream.take(4096).read_to_end(&mut answer);
    Some(named(&String::from_utf8_lossy(&answer)))
}

fn named(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let server = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("server").then(|| value.trim().to_owned())
    });
    let version = serde_json::from_str::<serde_json::Value>(body).ok();
    let version = version.and_then(|v| Some(v.get("version")?.as_str()?.to_owned()));
    match (server, version) {
        (Some(server), _) if server.starts_with("hob/") => format!("another {server}"),
        (_, Some(version)) => format!("Ollama {version}"),
        (Some(server), None) if server.len() < 60 => format!("a server named {server}"),
        _ => "another program".to_owned(),
    }
}

/// The process that listens on a port, by the tables of Linux.
fn process(port: u16) -> Option<String> {
    let socket = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().find_map(|table| {
        let text = std::fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| listener(line, port))
    })?;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let folder = entry.path();
        // Not the names that stand for this process.
        if entry.file_name().to_string_lossy().parse::<u32>().is_err() {
            continue;
        }
        let Ok(files) = std::fs::read_dir(folder.join("fd")) else { continue };
        let holds = files.flatten().any(|file| {
            let link = std::fs::read_link(file.path());
            link.is_ok_and(|l| l.to_string_lossy() == format!("socket:[{socket}]"))
        });
        if holds {
            let name = std::fs::read_to_string(folder.join("comm")).ok()?;
            let number = entry.file_name().to_string_lossy().into_owned();
            return Some(format!("process {number}, {}", name.trim()));
        }
    }
    None
}

/// The socket of a line that tells of a listener on this port.
fn listener(line: &str, port: u16) -> Option<String> {
    let mut words = line.split_whitespace();
    let local = words.nth(1)?;
    let state = words.nth(1)?;
    let (_, own) = local.rsplit_once(':')?;
    let listens = state == "0A" && u16::from_str_radix(own, 16).ok()? == port;
    listens.then(|| words.nth(5).map(str::to_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_by_their_answers() {
        let hob = "HTTP/1.1 200 OK\r\nServer: hob/0.1.0\r\n\r\n{\"version\":\"0.30.0\"}";
        assert_eq!(named(hob), "another hob/0.1.0");
        assert_eq!(named("HTTP/1.1 200 OK\r\n\r\n{\"version\":\"0.12.0\"}"), "Ollama 0.12.0");
        assert_eq!(named("HTTP/1.1 404 No\r\nserver: nginx\r\n\r\n"), "a server named nginx");
        assert_eq!(named("SSH-2.0-OpenSSH"), "another program");
    }

    #[test]
    fn a_port_s_holder_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = process(listener.local_addr().unwrap().port());
        if cfg!(target_os = "linux") {
            assert!(found.unwrap().contains(&std::process::id().to_string()));
        }
    }
}
