//! What the suites share: the program in an empty home of its own, and small models as files.

// Each suite uses its part; a broken test may panic anywhere.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hob_testkit::{Family, Tiny};
use tempfile::TempDir;

/// Where nobody listens.
pub const NOBODY: &str = "127.0.0.1:9";

/// A home with nothing in it but small models.
pub struct Home {
    dir: TempDir,
}

/// What a run said.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Home {
    pub fn new() -> Home {
        Home { dir: TempDir::new().unwrap() }
    }

    /// A two-layer model with a context of 1024 bytes; its text is noise, but always the same.
    pub fn tiny(&self) -> PathBuf {
        self.file("tiny.gguf", &Tiny::new(Family::Llama).bytes())
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The whole of it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The store's folder.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("hob")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hob"));
        command.args(args).env("HOB_HOME", self.path());
        // No test may reach a hub or a package index.
        for variable in ["HF_ENDPOINT", "MODELSCOPE_DOMAIN", "HOB_REGISTRY", "PIP_INDEX_URL"] {
            command.env(variable, "http://127.0.0.1:9");
        }
        // Nor a server that is running.
        command.env("HOB_HOST", NOBODY).env_remove("OLLAMA_HOST").env_remove("HOB_API_KEY");
        // Nor in the developer's language.
        command.env("HOB_LANG", "en");
        // Nor what other programs keep on the developer's machine.
        command.env("HOME", self.dir.path());
        for variable in ["OLLAMA_MODELS", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HF_TOKEN"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn hob(&self, args: &[&str]) -> Said {
        said(self.command(args).output().unwrap())
    }

    /// A run with this text on standard input.
    pub fn hob_with(&self, args: &[&str], input: &[u8]) -> Said {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        // A program that refuses its arguments does not read.
        let _ = child.stdin.take().unwrap().write_all(input);
        said(child.wait_with_output().unwrap())
    }
}

pub fn said(output: Output) -> Said {
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Said {
    /// A run that succeeded; its stdout.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// A run that succeeded and printed one JSON value.
    pub fn json(self) -> serde_json::Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// A run that failed in a short message with all of these parts and nothing on stdout.
    pub fn fails(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert_eq!(self.out, "");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in: {}", self.err);
        }
        assert!(!self.err.contains("panicked") && self.err.lines().count() <= 8, "{}", self.err);
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A model slow enough to be interrupted.
pub fn slow(home: &Home) -> PathBuf {
    let tiny = Tiny {
        layers: 6,
        width: 512,
        ffn: 1024,
        heads: 8,
        kv_heads: 8,
        context: 4096,
        ..Tiny::new(Family::Llama)
    };
    home.file("slow.gguf", &tiny.bytes())
}
