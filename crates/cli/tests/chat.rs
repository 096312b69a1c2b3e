//! The conversation on a terminal, which `script` (of util-linux) provides; without it these tests say so and stop.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{Home, slow, text};

/// A program on a terminal.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(home: &Home, args: &[&str]) -> Option<Terminal> {
        if Command::new("script").arg("--version").output().is_err() {
            eprintln!("skipped: no `script` here");
            return None;
        }
        let quoted: Vec<String> = args.iter().map(|a| format!("'{a}'")).collect();
        let program = format!("exec {} {}", env!("CARGO_BIN_EXE_hob"), quoted.join(" "));
        let mut child = Command::new("script")
            .args(["-qec", &program, "/dev/null"])
            .env("HOB_HOME", home.path())
            .env("HOB_REGISTRY", "http://127.0.0.1:9")
            .env("HOB_HOST", common::NOBODY)
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (keys, screen) = (child.stdin.take().unwrap(), listen(child.stdout.take().unwrap()));
        Some(Terminal { child, keys, screen, seen: String::new() })
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until this is on the screen, and forgets everything up to there.
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(e) => panic!("{e} before {text:?}: {:?}", self.seen),
            }
        }
    }

    /// Waits for something that can be seen.
    fn wait_for_anything(&mut self) {
        while !self.seen.contains(|c: char| !c.is_control() && !c.is_whitespace()) {
            let bytes = self.screen.recv_timeout(Duration::from_secs(60)).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// The exit code, which `script` hands on.
    fn code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

fn listen(mut stdout: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stdout.read(&mut buffer) {
            if sender.send(buffer[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

const PROMPT: &str = ">>> ";

#[test]
fn commands_are_obeyed_and_ctrl_d_leaves() {
    let home = Home::new();
    let tiny = home.tiny();
    let Some(mut terminal) = Terminal::start(&home, &["run", text(&tiny)]) else { return };
    terminal.wait_for("context 1024 tokens");
    terminal.wait_for("Send a message (/? for help)");
    terminal.press("/set parameter num_predict 5\r");
    terminal.wait_for("Set parameter 'num_predict' to '5'");
    terminal.wait_for(PROMPT);
    terminal.press("/set verbose\r");
    terminal.wait_for("Set 'verbose' mode.");
    terminal.press("\"\"\"Two\r");
    terminal.wait_for("... ");
    terminal.press("lines\"\"\"\r");
    terminal.wait_for("prompt eval count:    9 token(s)");
    terminal.wait_for("eval count:           5 token(s)");
    terminal.wait_for(PROMPT);
    terminal.press("/set parameter top_p 3\r");
    terminal.wait_for("Error: option 'top_p' is 3");
    terminal.press("/load smolm2\r");
    terminal.wait_for("Error: no model is called 'smolm2'");
    terminal.press("/set parameter num_ctx 128\r");
    terminal.wait_for("context 128 tokens");
    terminal.wait_for(PROMPT);
    terminal.press(&format!("{}\r", "x".repeat(200)));
    terminal.wait_for("the prompt has 200 tokens, but the context holds 128");
    terminal.wait_for(PROMPT);
    terminal.press("/bogus\r");
    terminal.wait_for("Unknown command '/bogus'");
    terminal.wait_for(PROMPT);
    terminal.press("\x04");
    assert_eq!(terminal.code(), Some(0));
    let history = std::fs::read_to_string(home.path().join("history")).unwrap();
    assert!(history.contains("/set verbose"), "{history}");
}

#[test]
fn ctrl_c_ends_the_answer_and_only_twice_the_conversation() {
    let home = Home::new();
    let slow = slow(&home);
    let Some(mut terminal) =
        Terminal::start(&home, &["run", text(&slow), "--verbose", "--seed", "4"])
    else {
        return;
    };
    terminal.wait_for(PROMPT);
    terminal.press("Hello\r");
    // The editor hands the terminal back: the answer begins.
    terminal.wait_for("\x1b[?2004l");
    terminal.wait_for_anything();
    std::thread::sleep(Duration::from_millis(300));
    terminal.press("\x03");
    let pressed = Instant::now();
    terminal.wait_for("\neval rate:");
    // By itself this answer takes many times as long.
    assert!(pressed.elapsed() < Duration::from_secs(15), "{:?}", pressed.elapsed());
    terminal.wait_for(PROMPT);
    terminal.press("\x03");
    terminal.wait_for("Use Ctrl + d or /bye to exit.");
    terminal.wait_for(PROMPT);
    terminal.press("/set quiet\r");
    terminal.wait_for("Set 'quiet' mode.");
    terminal.wait_for(PROMPT);
    terminal.press("\x03");
    terminal.wait_for(PROMPT);
    terminal.press("\x03");
    assert_eq!(terminal.code(), Some(130));
}
