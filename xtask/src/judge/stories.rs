//! Greedy answers of stories15M in F32: llama.cpp's server gives the tokens, the golden file in `forge` keeps them,
//! and forge's own test compares hob with it; here the file is compared with the server, or written anew.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{assets, sh};

const ANSWER: usize = 64;
/// How often the server is asked whether it is up, half a second apart.
const PATIENCE: u32 = 120;

/// Compares the golden file with llama.cpp, then hob with the golden file.
pub fn judge(program: &Path, write: bool) -> Result<()> {
    let golden = sh::root().join("crates/forge/tests/data/stories15m.txt");
    let kept =
        fs::read_to_string(&golden).with_context(|| format!("cannot read {}", golden.display()))?;
    let server = Server::start(program, &super::asset(&assets::dir()?, "stories15m.gguf")?)?;
    let prompts = kept.lines().filter_map(|line| line.split('\t').next());
    let lines = prompts.map(|prompt| server.line(prompt)).collect::<Result<Vec<String>>>()?;
    drop(server);
    let found = lines.join("\n") + "\n";
    if write {
        fs::write(&golden, found).with_context(|| format!("cannot write {}", golden.display()))?;
    } else {
        let differing = kept.lines().zip(found.lines()).filter(|(a, b)| a != b).count();
        ensure!(
            differing == 0,
            "{differing} lines of {} are not what llama.cpp says",
            golden.display()
        );
    }
    eprintln!("ok      {} prompts, {ANSWER} tokens each, as llama.cpp answers them", lines.len());
    sh::run(&mut sh::cargo(&["test", "--quiet", "--package", "hob-forge", "--test", "stories"]))
}

/// A running llama-server; ends with the value.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(program: &Path, model: &PathBuf) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut cmd = Command::new(program);
        cmd.env("NATIVE", "1").arg("llama-server").arg("-m").arg(model);
        cmd.args(["-c", "256", "-np", "1", "-t", "1", "--port", &port.to_string()]);
        let child = cmd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut server = Server { child, port };
        for _ in 0..PATIENCE {
            if server.ask("GET", "/health", "").is_ok() {
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("llama-server ended: {status}");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        bail!("llama-server does not answer")
    }

    /// A line of the golden file.
    fn line(&self, prompt: &str) -> Result<String> {
        let tokens = self.post("/tokenize", &json!({"content": prompt, "add_special": true}))?;
        let wish = json!({
            "prompt": prompt, "n_predict": ANSWER, "temperature": 0, "return_tokens": true, "cache_prompt": false,
        });
        let answer = self.post("/completion", &wish)?;
        let (prompt_ids, answer_ids) = (ids(&tokens["tokens"])?, ids(&answer["tokens"])?);
        ensure!(
            answer_ids.split(' ').count() == ANSWER,
            "the answer to {prompt:?} ends early; take another prompt"
        );
        Ok(format!("{prompt}\t{prompt_ids}\t{answer_ids}"))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let text = self.ask("POST", path, &body.to_string())?;
        serde_json::from_str(&text).with_context(|| format!("llama-server's answer to {path}"))
    }

    /// One exchange; the body of a 200.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        Ok(body.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended already
        let _ = self.child.wait();
    }
}

/// Token ids with spaces between.
fn ids(value: &Value) -> Result<String> {
    let list = value.as_array().context("no list of tokens")?;
    let id = |v: &Value| v.as_u64().map(|id| id.to_string()).context("a token that is no number");
    Ok(list.iter().map(id).collect::<Result<Vec<String>>>()?.join(" "))
}
