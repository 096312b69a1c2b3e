//! The memory that Linux control groups leave this process (kernel documentation: cgroup-v2.rst "Memory", cgroup-v1/memory.rst).
//! Every level from the process's own group up to the mount counts, because any of them may be the tight one. Files that are missing
//! or hold something else count as "no limit": inside containers parts of the tree are often hidden. Soft limits are not looked at.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// What a chain of groups allows, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Headroom {
    /// The tightest hard limit.
    pub limit: u64,
    /// The least that is left under any limit, page cache that can be dropped at once not counted as used.
    pub available: u64,
}

/// No file read here is larger in practice than a few kB.
const MAX_FILE: u64 = 64 << 10;

/// The names under which one version of the interface keeps its numbers.
struct Files {
    mount: &'static str,
    limit: &'static str,
    usage: &'static str,
    inactive: &'static str,
}

const V2: Files = Files {
    mount: "sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    inactive: "inactive_file",
};
const V1: Files = Files {
    mount: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    inactive: "total_inactive_file",
};

/// The memory limit of this process with `root` as the file system's root, `None` when no group sets one.
pub(crate) fn memory(root: &Path) -> Option<Headroom> {
    let groups = read(&root.join("proc/self/cgroup"))?;
    groups.lines().filter_map(|line| chain(root, line)).reduce(tighter)
}

fn tighter(a: Headroom, b: Headroom) -> Headroom {
    Headroom { limit: a.limit.min(b.limit), available: a.available.min(b.available) }
}

/// One line of `/proc/self/cgroup` is `id:controllers:path`; version 2 has id 0 and no controllers.
fn chain(root: &Path, line: &str) -> Option<Headroom> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let files = match (id, controllers) {
        ("0", "") => V2,
        (_, list) if list.split(',').any(|c| c == "memory") => V1,
        _ => return None,
    };
    // A path out of the namespace shows as "/../..": only real names lead below the mount.
    let names = Path::new(path).components().filter(|c| matches!(c, Component::Normal(_)));
    let mut group: PathBuf = root.join(files.mount);
    let mut tightest = level(&group, &files);
    for name in names {
        group.push(name);
        tightest = [tightest, level(&group, &files)].into_iter().flatten().reduce(tighter);
    }
    tightest
}

fn level(group: &Path, files: &Files) -> Option<Headroom> {
    let limit = number(&group.join(files.limit))?;
    let usage = number(&group.join(files.usage)).unwrap_or(0);
    let inactive =
        read(&group.join("memory.stat")).and_then(|s| stat(&s, files.inactive)).unwrap_or(0);
    let used = usage.saturating_sub(inactive);
    Some(Headroom { limit, available: limit.saturating_sub(used) })
}

fn stat(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

/// A file that holds one number; "max" and everything else is no number.
fn number(path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn tree(files: &[(&str, &[u8])]) -> TempDir {
        let dir = TempDir::new().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    #[test]
    fn version_2_takes_the_tightest_level() {
        let dir = tree(&[
            ("proc/self/cgroup", b"0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", b"1000\n"),
            ("sys/fs/cgroup/a/memory.current", b"900\n"),
            ("sys/fs/cgroup/a/memory.stat", b"anon 1\ninactive_file 300\n"),
            ("sys/fs/cgroup/a/b/memory.max", b"800\n"),
            ("sys/fs/cgroup/a/b/memory.current", b"100\n"),
        ]);
        assert_eq!(memory(dir.path()), Some(Headroom { limit: 800, available: 400 }));
    }

    #[test]
    fn version_1_and_its_hidden_path() {
        let dir = tree(&[
            ("proc/self/cgroup", b"5:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", b"4096\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", b"1096\n"),
            ("sys/fs/cgroup/memory/memory.stat", b"inactive_file 5\ntotal_inactive_file 96\n"),
        ]);
        assert_eq!(memory(dir.path()), Some(Headroom { limit: 4096, available: 3096 }));
    }

    #[test]
    fn unlimited_groups_are_none() {
        let dir =
            tree(&[("proc/self/cgroup", b"0::/a\n"), ("sys/fs/cgroup/a/memory.max", b"max\n")]);
        assert_eq!(memory(dir.path()), None);
        assert_eq!(memory(TempDir::new().unwrap().path()), None);
    }

    #[test]
    fn a_path_cannot_leave_the_mount() {
        let dir =
            tree(&[("proc/self/cgroup", b"0::/../../secret\n"), ("secret/memory.max", b"1\n")]);
        assert_eq!(memory(dir.path()), None);
    }

    #[test]
    fn garbage_is_no_limit_and_no_panic() {
        let bad: [&[u8]; 8] = [
            b"",
            b"\n",
            b"-1",
            b"99999999999999999999999",
            b"\xff\xfe",
            b"12 34",
            b"0x10",
            &[b'9'; 100_000],
        ];
        for value in bad {
            let dir = tree(&[
                ("proc/self/cgroup", b"0::/a\n:::\n0\n4:memory\n"),
                ("sys/fs/cgroup/a/memory.max", value),
                ("sys/fs/cgroup/memory.max", b"77"),
                ("sys/fs/cgroup/memory.current", value),
                ("sys/fs/cgroup/memory.stat", value),
            ]);
            assert_eq!(memory(dir.path()).map(|h| h.limit), Some(77));
            let dir = tree(&[("proc/self/cgroup", value)]);
            assert_eq!(memory(dir.path()), None);
        }
    }

    #[test]
    fn usage_above_the_limit_leaves_nothing() {
        let dir = tree(&[
            ("proc/self/cgroup", b"0::/\n"),
            ("sys/fs/cgroup/memory.max", b"10"),
            ("sys/fs/cgroup/memory.current", b"11"),
        ]);
        assert_eq!(memory(dir.path()), Some(Headroom { limit: 10, available: 0 }));
    }
}
