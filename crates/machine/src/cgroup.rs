//! What Linux control groups leave this process of memory and processors (kernel documentation: cgroup-v2.rst "Memory" and "CPU",
//! cgroup-v1/memory.rst). Every level from the process's own group up to the mount counts, because any of them may be the tight one. Files
//! that are missing or hold something else count as "no limit": inside containers parts of the tree are often hidden. Soft limits are not
//! looked at.

use std::path::{Component, Path, PathBuf};

use crate::tree::Tree;

/// What a chain of groups allows, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Headroom {
    /// The tightest hard limit.
    pub limit: u64,
    /// The least that is left under any limit, page cache that can be dropped at once not counted as used.
    pub available: u64,
}

/// The names under which one version of the interface keeps its numbers about memory.
struct Files {
    limit: &'static str,
    usage: &'static str,
    inactive: &'static str,
}

const V2: Files = Files { limit: "memory.max", usage: "memory.current", inactive: "inactive_file" };
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    inactive: "total_inactive_file",
};

/// The memory limit of this process, `None` when no group sets one.
pub(crate) fn memory(tree: &Tree) -> Option<Headroom> {
    let levels = levels(tree, "memory");
    let level = |(group, v2): &(PathBuf, bool)| level(tree, group, if *v2 { &V2 } else { &V1 });
    levels.iter().filter_map(level).reduce(tighter)
}

/// Processors whose time this process may use, a fraction included, `None` when no group sets a quota.
pub(crate) fn processors(tree: &Tree) -> Option<f64> {
    let quota = |(group, v2): &(PathBuf, bool)| {
        let (quota, period) = if *v2 {
            let text = tree.text(group.join("cpu.max"))?;
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?)
        } else {
            let file = |name| tree.number::<u64>(group.join(name));
            (file("cpu.cfs_quota_us")?, file("cpu.cfs_period_us")?)
        };
        (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
    };
    levels(tree, "cpu").iter().filter_map(quota).reduce(f64::min)
}

fn tighter(a: Headroom, b: Headroom) -> Headroom {
    Headroom { limit: a.limit.min(b.limit), available: a.available.min(b.available) }
}

/// The groups that this process is in, from the mounts down, and whether each is of version 2.
fn levels(tree: &Tree, controller: &str) -> Vec<(PathBuf, bool)> {
    let groups = tree.text("proc/self/cgroup").unwrap_or_default();
    groups.lines().filter_map(|line| chain(line, controller)).flatten().collect()
}

/// One line of `/proc/self/cgroup` is `id:controllers:path`; version 2 has id 0 and no controllers.
fn chain(line: &str, controller: &str) -> Option<Vec<(PathBuf, bool)>> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (mount, v2) = match (id, controllers) {
        ("0", "") => (PathBuf::from("sys/fs/cgroup"), true),
        (_, list) if list.split(',').any(|c| c == controller) => {
            (Path::new("sys/fs/cgroup").join(controller), false)
        }
        _ => return None,
    };
    // A path out of the namespace shows as "/../..": only real names lead below the mount.
    let names = Path::new(path).components().filter(|c| matches!(c, Component::Normal(_)));
    let mut group = mount.clone();
    let below = names.map(|name| {
        group.push(name);
        (group.clone(), v2)
    });
    Some(std::iter::once((mount, v2)).chain(below).collect())
}

fn level(tree: &Tree, group: &Path, files: &Files) -> Option<Headroom> {
    let limit = tree.number(group.join(files.limit))?;
    let usage: u64 = tree.number(group.join(files.usage)).unwrap_or(0);
    let inactive =
        tree.text(group.join("memory.stat")).and_then(|s| stat(&s, files.inactive)).unwrap_or(0);
    let used = usage.saturating_sub(inactive);
    Some(Headroom { limit, available: limit.saturating_sub(used) })
}

fn stat(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    #[test]
    fn version_2_takes_the_tightest_level() {
        let (_dir, files) = tree(&[
            ("proc/self/cgroup", b"0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", b"1000\n"),
            ("sys/fs/cgroup/a/memory.current", b"900\n"),
            ("sys/fs/cgroup/a/memory.stat", b"anon 1\ninactive_file 300\n"),
            ("sys/fs/cgroup/a/b/memory.max", b"800\n"),
            ("sys/fs/cgroup/a/b/memory.current", b"100\n"),
        ]);
        assert_eq!(memory(&files), Some(Headroom { limit: 800, available: 400 }));
    }

    #[test]
    fn version_1_and_its_hidden_path() {
        let (_dir, files) = tree(&[
            ("proc/self/cgroup", b"5:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", b"4096\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", b"1096\n"),
            ("sys/fs/cgroup/memory/memory.stat", b"inactive_file 5\ntotal_inactive_file 96\n"),
        ]);
        assert_eq!(memory(&files), Some(Headroom { limit: 4096, available: 3096 }));
    }

    #[test]
    fn unlimited_groups_are_none() {
        let (_dir, files) =
            tree(&[("proc/self/cgroup", b"0::/a\n"), ("sys/fs/cgroup/a/memory.max", b"max\n")]);
        assert_eq!(memory(&files), None);
    }

    #[test]
    fn a_path_cannot_leave_the_mount() {
        let (_dir, files) =
            tree(&[("proc/self/cgroup", b"0::/../../secret\n"), ("secret/memory.max", b"1\n")]);
        assert_eq!(memory(&files), None);
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
            let (_dir, files) = tree(&[
                ("proc/self/cgroup", b"0::/a\n:::\n0\n4:memory\n"),
                ("sys/fs/cgroup/a/memory.max", value),
                ("sys/fs/cgroup/memory.max", b"77"),
                ("sys/fs/cgroup/memory.current", value),
                ("sys/fs/cgroup/memory.stat", value),
            ]);
            assert_eq!(memory(&files).map(|h| h.limit), Some(77));
            let (_dir, files) = tree(&[("proc/self/cgroup", value)]);
            assert_eq!(memory(&files), None);
        }
    }

    #[test]
    fn usage_above_the_limit_leaves_nothing() {
        let (_dir, files) = tree(&[
            ("proc/self/cgroup", b"0::/\n"),
            ("sys/fs/cgroup/memory.max", b"10"),
            ("sys/fs/cgroup/memory.current", b"11"),
        ]);
        assert_eq!(memory(&files), Some(Headroom { limit: 10, available: 0 }));
    }

    #[test]
    fn quotas_of_processors_in_both_versions() {
        let (_dir, files) = tree(&[
            ("proc/self/cgroup", b"0::/a/b\n"),
            ("sys/fs/cgroup/cpu.max", b"max 100000\n"),
            ("sys/fs/cgroup/a/cpu.max", b"250000 100000\n"),
            ("sys/fs/cgroup/a/b/cpu.max", b"400000 100000\n"),
        ]);
        assert_eq!(processors(&files), Some(2.5));
        let (_dir, files) = tree(&[
            ("proc/self/cgroup", b"3:cpu,cpuacct:/x\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", b"-1\n"),
            ("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", b"50000\n"),
            ("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", b"100000\n"),
        ]);
        assert_eq!(processors(&files), Some(0.5));
        let (_dir, files) =
            tree(&[("proc/self/cgroup", b"0::/\n"), ("sys/fs/cgroup/cpu.max", b"9 0")]);
        assert_eq!(processors(&files), None);
    }
}
