//! Running other programs: a failure says which command it was and what it printed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Where [`cargo`] puts what it builds.
pub fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The home directory, where caches have their default place.
fn home() -> Result<PathBuf> {
    std::env::home_dir().context("there is no home directory; set HOB_ASSETS and HOB_PEERS")
}

/// The directory that a variable names, else a folder under `~/.cache`.
pub fn cache_dir(variable: &str, default: &str) -> Result<PathBuf> {
    match std::env::var_os(variable) {
        Some(dir) if !dir.is_empty() => Ok(std::path::absolute(dir)?),
        _ => Ok(home()?.join(".cache").join(default)),
    }
}

/// `cargo` of the toolchain that runs this program, in the repository's root.
pub fn cargo(args: &[&str]) -> Command {
    let mut cmd = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cmd.args(args).current_dir(root());
    // What cargo told this program of its own package; build scripts that look at it would run again, and half the workspace with them.
    let told = |name: &str| ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|p| name.starts_with(p));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(told) {
            cmd.env_remove(name);
        }
    }
    cmd
}

/// `python3` that sees `packages` ("name==version"), installed into the folder of assets where they are missing.
pub fn python(packages: &[&str]) -> Result<Command> {
    let dir = cache_dir("HOB_ASSETS", "hob-assets")?.join("python").join(packages.join("+"));
    if !dir.exists() {
        let part = dir.with_extension("part");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        output(pip.arg(&part).args(packages))?;
        std::fs::rename(part, &dir)?;
    }
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", dir);
    Ok(python)
}

/// Runs a command with its output on the terminal.
pub fn run(cmd: &mut Command) -> Result<()> {
    let status =
        cmd.stdin(Stdio::null()).status().with_context(|| format!("cannot start {}", show(cmd)))?;
    if !status.success() {
        bail!("{} failed: {status}", show(cmd));
    }
    Ok(())
}

/// Runs a command and returns what it printed; on failure its error output is part of the error.
pub fn output(cmd: &mut Command) -> Result<Vec<u8>> {
    let out =
        cmd.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", show(cmd)))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let tail: Vec<&str> = said.lines().rev().take(8).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("{} failed: {}\n{}", show(cmd), out.status, tail.join("\n"));
    }
    Ok(out.stdout)
}

/// What a command wrote to its output and its error output.
pub fn both_outputs(cmd: &mut Command) -> Result<String> {
    let out =
        cmd.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", show(cmd)))?;
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    if !out.status.success() {
        let tail = said.len().saturating_sub(2000);
        let tail = said.get(tail..).unwrap_or(&said);
        bail!("{} failed: {}\n{tail}", show(cmd), out.status);
    }
    Ok(said)
}

/// What a command printed, as one trimmed text.
pub fn text(cmd: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(cmd)?).trim().to_owned())
}

fn show(cmd: &Command) -> String {
    let args = cmd.get_args().map(|a| a.to_string_lossy().into_owned());
    let program = cmd.get_program().to_string_lossy().into_owned();
    std::iter::once(program).chain(args).collect::<Vec<_>>().join(" ")
}
