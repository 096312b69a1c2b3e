//! `cargo xtask avx512`: hob-cpu's tests on a processor with AVX-512 and VNNI that Bochs emulates, for hosts that
//! have none. A Debian kernel boots from a disc whose only program is the tests; what they say comes out of the
//! serial port. Deliberately absent: speed (the emulator's says nothing) and other instruction sets.

mod disc;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sh;
use disc::{DONE, Program};

/// Where and for how long.
#[derive(clap::Args)]
pub struct Args {
    /// The emulator is ended after so many minutes, and that is a failure
    #[arg(long, default_value_t = 15)]
    minutes: u64,
    /// Also run this one of the tests in crates/cpu/tests/reference.rs, or "all" of them; each takes many minutes
    #[arg(long, default_value = "none")]
    reference: String,
}

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What the tests print when the instructions are there (`IsaKind::name`).
const KIND: &str = "avx512-vnni";
/// A file of each Debian package that is needed, and the package.
const PACKAGES: &[(&str, &str)] = &[
    ("/usr/bin/bochs", "bochs"),
    ("/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so", "bochs-term"),
    ("/usr/bin/grub-mkrescue", "grub-common"),
    ("/usr/lib/grub/i386-pc/moddep.lst", "grub-pc-bin"),
    ("/usr/bin/xorriso", "xorriso"),
    ("/usr/bin/mformat", "mtools"),
    ("/usr/share/doc/busybox-static/copyright", "busybox-static"),
];
/// Its package depends on the one that holds the kernel; that one is unpacked, not installed.
const KERNEL: &str = "linux-image-cloud-amd64";

/// Builds the disc, boots it, judges what it said.
pub fn run(args: &Args) -> Result<()> {
    let dir = sh::root().join("target/avx512");
    fs::create_dir_all(&dir)?;
    install_missing()?;
    let kernel = kernel(&dir)?;
    let programs = programs(&dir, &args.reference)?;
    disc::write(&dir, &kernel, &programs)?;
    let started = Instant::now();
    let said = boot(&dir, Duration::from_secs(60 * args.minutes))?;
    let passed = judge(&said, &programs)?;
    println!("{passed} tests passed on {KIND} in {} s of emulation", started.elapsed().as_secs());
    Ok(())
}

fn install_missing() -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|(file, _)| !Path::new(file).exists()).map(|p| p.1).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("apt-get installs {}", missing.join(" "));
    sh::run(
        Command::new("apt-get")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// The kernel's file, unpacked from Debian's package at the first call.
fn kernel(dir: &Path) -> Result<PathBuf> {
    let boot = dir.join("kernel/boot");
    if let Some(found) = file_starting(&boot, "vmlinuz-")? {
        return Ok(found);
    }
    let depends = sh::text(Command::new("apt-cache").args(["depends", KERNEL]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("apt-cache knows no kernel behind {KERNEL}:\n{depends}"))?;
    sh::run(Command::new("apt-get").args(["download", "--quiet", package]).current_dir(dir))?;
    let deb = file_starting(dir, &format!("{package}_"))?.context("apt-get left no package")?;
    sh::run(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(dir.join("kernel")))?;
    file_starting(&boot, "vmlinuz-")?.with_context(|| format!("no kernel in {package}"))
}

fn file_starting(dir: &Path, start: &str) -> Result<Option<PathBuf>> {
    if !dir.exists() {
        return Ok(None);
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(start) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// hob-cpu's test programs, static, since the disc has no libraries; and the arguments of each.
fn programs(dir: &Path, reference: &str) -> Result<Vec<Program>> {
    let args = ["test", "-p", "hob-cpu", "--lib", "--test", "reference", "--no-run", "--release"];
    let out = sh::output(
        sh::cargo(&args)
            .args(["--target", TARGET, "--message-format=json-render-diagnostics"])
            .env("CARGO_TARGET_DIR", dir.join("build"))
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .stderr(Stdio::inherit()),
    )?;
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&out).lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("cargo's messages")?;
        let (Some(path), Some(name)) =
            (message["executable"].as_str(), message["target"]["name"].as_str())
        else {
            continue;
        };
        let args = match (name, reference) {
            ("reference", "none") => continue,
            ("reference", "all") | ("hob_cpu", _) => String::new(),
            ("reference", test) => format!("--exact {test}"),
            _ => continue,
        };
        programs.push(Program { name: name.to_owned(), path: path.into(), args });
    }
    Ok(programs)
}

/// Ends the emulator however this program's function ends.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots the disc and returns all that its serial port said.
fn boot(dir: &Path, limit: Duration) -> Result<String> {
    let serial = dir.join("serial.txt");
    fs::write(&serial, "")?;
    // A session of its own: Bochs' text display would take over the terminal.
    let mut emulator = Emulator(
        Command::new("setsid")
            .args(["bochs", "-q", "-f", "bochsrc", "-rc", "debugger"])
            .current_dir(dir)
            .env("TERM", "linux")
            .stdin(Stdio::null())
            .stdout(fs::File::create(dir.join("bochs.out"))?)
            .stderr(fs::File::create(dir.join("bochs.err"))?)
            .spawn()
            .context("cannot start bochs")?,
    );
    let started = Instant::now();
    let mut shown = 0;
    loop {
        let ended = emulator.0.try_wait()?;
        let said = String::from_utf8_lossy(&fs::read(&serial)?).replace('\r', "");
        // Whole lines only, so that nothing is shown in halves.
        let whole = said.rfind('\n').map_or(0, |end| end + 1);
        eprint!("{}", said.get(shown..whole).unwrap_or_default());
        shown = whole.max(shown);
        if said.lines().any(|line| line == DONE) {
            return Ok(said);
        }
        if let Some(status) = ended {
            bail!("bochs ended before the tests did: {status}; see bochs.log in {}", dir.display());
        }
        if started.elapsed() > limit {
            bail!("not done after {} minutes of emulation", limit.as_secs() / 60);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// How many tests passed; an error unless all did, in every program, on a processor that has the instructions.
fn judge(said: &str, programs: &[Program]) -> Result<u32> {
    let kinds = said
        .lines()
        .find_map(|line| line.split_once("kinds: ").map(|(_, kinds)| kinds))
        .context("the tests did not say what the processor can do")?;
    if !kinds.split(' ').any(|kind| kind == KIND) {
        bail!("the emulated processor has only {kinds}");
    }
    let mut total = 0;
    for program in programs {
        let name = &program.name;
        let exit = program.exit_line(0);
        let (before, _) =
            said.split_once(&exit).with_context(|| format!("{name} failed on {KIND}"))?;
        let passed: u32 = before
            .rsplit_once("test result: ok. ")
            .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
            .with_context(|| format!("{name} has no result"))?;
        if passed == 0 {
            bail!("{name} ran no test");
        }
        total += passed;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Program> {
        ["hob_cpu", "reference"]
            .map(|name| Program { name: name.into(), path: PathBuf::new(), args: String::new() })
            .into()
    }

    const SAID: &str = "test isa ... kinds: scalar avx2 avx512-vnni\nok\n\
        test result: ok. 9 passed; 0 failed\nhob: hob_cpu exited with 0\n\
        test result: ok. 1 passed; 0 failed\nhob: reference exited with 0\nhob: done\n";

    #[test]
    fn all_passed() {
        assert_eq!(judge(SAID, &two()).unwrap(), 10);
    }

    #[test]
    fn anything_less_is_a_failure() {
        for (from, to) in [
            (" avx512-vnni", ""),
            ("kinds: ", ""),
            ("reference exited with 0", "reference exited with 101"),
            ("hob_cpu exited with 0\n", ""),
            ("ok. 1 passed", "ok. 0 passed"),
        ] {
            assert!(judge(&SAID.replace(from, to), &two()).is_err(), "{from:?} -> {to:?}");
        }
    }
}
