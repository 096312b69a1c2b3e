//! hob and the real `huggingface_hub` share one cache: what each writes the other finds in place. Ignored, as it installs packages:
//! `cargo test -p hob-hub hf_cache -- --ignored --nocapture`. The Python side is `tests/hf_cache.py`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::wire::{Said, Wire};
use super::*;
use crate::local::Keeper;
use crate::shared::{Cache, Place, Places, Shared};

const REPOSITORY: &str = "org/repo";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Python with `huggingface_hub`: `HOB_TEST_PYTHON`, or else an environment made below the build's folder.
struct Python(PathBuf);

impl Python {
    fn prepare() -> Python {
        if let Ok(python) = std::env::var("HOB_TEST_PYTHON") {
            return Python(python.into());
        }
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap();
        let environment = target.join("hf-cache-venv");
        let python = environment.join("bin/python");
        let done = |command: &mut Command| assert!(command.status().unwrap().success());
        if !environment.join("done").exists() {
            done(Command::new("python3").args(["-m", "venv"]).arg(&environment));
            let packages = ["-m", "pip", "install", "--quiet", "huggingface_hub", "filelock"];
            done(Command::new(&python).args(packages));
            fs::write(environment.join("done"), "").unwrap();
        }
        Python(python)
    }

    fn command(&self, endpoint: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.0);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hf_cache.py");
        command.arg(script).args(args).env("HF_ENDPOINT", endpoint);
        for (name, value) in [
            ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
            ("HF_HUB_DISABLE_TELEMETRY", "1"),
            ("NO_PROXY", "127.0.0.1"),
        ] {
            command.env(name, value);
        }
        command
    }

    /// Runs the script and returns what it printed.
    fn run(&self, endpoint: &str, args: &[&str]) -> String {
        let out = self.command(endpoint, args).stderr(Stdio::inherit()).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        print!("{text}");
        assert!(out.status.success(), "{args:?}");
        text
    }
}

fn place<'a>(digest: &str, path: &'a str) -> Place<'a> {
    let digest = digest.parse().unwrap();
    Place { repository: REPOSITORY, commit: COMMIT, revision: "main", path, digest }
}

#[test]
#[ignore = "installs huggingface_hub with pip"]
fn hf_cache() {
    let python = Python::prepare();
    python_reads_what_hob_wrote(&python);
    hob_reads_what_python_wrote(&python);
    each_waits_for_the_other(&python);
}

fn python_reads_what_hob_wrote(python: &Python) {
    let home = tempfile::tempdir().unwrap();
    let (file, cache) = (home.path().join("hobs-blob"), home.path().join("hub"));
    let data = content(100_000);
    fs::write(&file, &data).unwrap();
    let digest = sha256(&data);
    let path = "Q8_0/m-Q8_0.gguf";
    let pointer = Cache::at(cache.clone()).add(&place(&digest, path), &file, &mut || ()).unwrap();
    let inode = fs::metadata(&file).unwrap().ino();
    println!("hob wrote {}", pointer.strip_prefix(&cache).unwrap().display());
    println!("  as {}, inode {inode}", fs::read_link(&pointer).unwrap().display());
    let args = ["read", cache.to_str().unwrap(), REPOSITORY, COMMIT, path, &digest];
    // Nobody listens there.
    let said = python.run("http://127.0.0.1:1", &args);
    assert!(said.contains(&format!("blobs/{digest}, inode {inode}, 100000 bytes")), "{said}");
}

fn hob_reads_what_python_wrote(python: &Python) {
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join("hub");
    let files =
        ["m-Q4_0.gguf", "Q8_0/m-Q8_0-00001-of-00002.gguf", "Q8_0/m-Q8_0-00002-of-00002.gguf"];
    let of = |file: &str| [content(50_000), file.as_bytes().to_vec()].concat();
    let wire = Wire::start(move |call| {
        let Some(file) = call.path.strip_prefix("/org/repo/resolve/main/") else {
            return Said::status(404);
        };
        let data = of(file);
        Said::bytes(call, &data)
            .header("ETag", format!("\"{}\"", sha256(&data)))
            .header("X-Repo-Commit", COMMIT)
    });
    let mut args = vec!["write", cache.to_str().unwrap(), REPOSITORY, "main"];
    args.extend(files);
    let said = python.run(&wire.url, &args);
    let places = Places { hugging_face: Some(cache.clone()), ..Places::default() };
    let (models, notes) = Shared::at(places).list();
    assert_eq!(notes, []);
    let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["hf.co/org/repo:Q4_0", "hf.co/org/repo:Q8_0"]);
    assert!(models.iter().all(|m| m.keeper == Keeper::HuggingFace));
    let parts = models.iter().flat_map(|m| &m.parts);
    for (path, file) in parts.zip(files) {
        assert_eq!(fs::read(path).unwrap(), of(file));
        let (meta, inside) = (fs::metadata(path).unwrap(), path.strip_prefix(&cache).unwrap());
        println!("hob found {}, inode {}, {} bytes", inside.display(), meta.ino(), meta.len());
        assert!(said.contains(&format!("inode {}, {} bytes", meta.ino(), meta.len())), "{said}");
    }
    for (model, file) in models.iter().zip(files) {
        assert_eq!(model.digest.as_deref(), Some(&*sha256(&of(file))));
    }
}

fn each_waits_for_the_other(python: &Python) {
    let home = tempfile::tempdir().unwrap();
    let (file, cache) = (home.path().join("file"), home.path().join("hub"));
    fs::write(&file, b"data").unwrap();
    let digest = sha256(b"data");
    let add = |waiting: &mut dyn FnMut()| {
        Cache::at(cache.clone()).add(&place(&digest, "m.gguf"), &file, waiting).unwrap();
    };
    add(&mut || ());
    let folder = cache.to_str().unwrap();
    let ask = || python.run("http://127.0.0.1:1", &["lock", folder, REPOSITORY, &digest]);
    assert_eq!(ask(), "free\n");
    let path = cache.join(format!(".locks/models--org--repo/{digest}.lock"));
    let held = fs::File::open(path).unwrap();
    held.lock().unwrap();
    assert_eq!(ask(), "held\n");
    drop(held);

    let mut command = python.command("http://127.0.0.1:1", &["hold", folder, REPOSITORY, &digest]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let (mut waits, mut stdin) = (0, child.stdin.take());
    add(&mut || {
        waits += 1;
        if let Some(mut stdin) = stdin.take() {
            stdin.write_all(b"go on\n").unwrap();
        }
    });
    assert!(waits > 0);
    println!("hob waited for filelock's lock and went on");
    assert!(child.wait().unwrap().success());
}
