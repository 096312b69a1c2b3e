//! The disk that a path is on: how much room, what kind, and how fast a file on it is read. The kind is what the system says; virtual
//! machines often say nothing true, and then it is unknown.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::patience;

/// What a file system has to answer in: one over a network may never do so.
const PATIENCE: Duration = Duration::from_secs(1);

/// The disk, or what stands for one, that a path is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes that its file system holds.
    pub total_bytes: u64,
    /// Bytes of these that this user may still write.
    pub free_bytes: u64,
    /// What it is.
    pub kind: DiskKind,
    /// What is mounted: `/dev/nvme0n1p2`, `server:/models`.
    pub device: Option<String>,
    /// The file system, such as `ext4`.
    pub file_system: Option<String>,
}

/// What a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskKind {
    /// Without moving parts.
    Ssd,
    /// With a disk that turns.
    Hdd,
    /// On another machine, or on the other side of a virtual one.
    Network,
    /// In main memory.
    Memory,
    /// The system does not say.
    Unknown,
}

/// What the system says of the place that a path is in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    kind: DiskKind,
    device: Option<String>,
    file_system: Option<String>,
}

/// The disk that `path` is on; a path that does not exist yet is on that of the folder it would be in.
///
/// # Errors
/// `TimedOut` when the file system does not answer within a second; what the system says otherwise.
pub fn disk(path: &Path) -> io::Result<Disk> {
    let path = path.to_owned();
    let asked = patience::within(PATIENCE, move || {
        let path = existing(&path)?;
        let space = fs4::statvfs(&path)?;
        let Place { kind, device, file_system } = place(&path);
        let (total_bytes, free_bytes) = (space.total_space(), space.available_space());
        Ok(Disk { total_bytes, free_bytes, kind, device, file_system })
    });
    asked.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

/// The nearest folder above that exists, without symbolic links.
fn existing(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let found = path.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Bytes per second at which a file is read from its disk, by reading it from its beginning for so long. The system's copy of it in memory
/// is dropped before, which it allows for a file that no process has mapped; a virtual machine's host may still have one.
///
/// # Errors
/// `InvalidInput` for a file of less than 16 MiB, `Unsupported` where the copy cannot be dropped (only Linux can), and what reading says.
pub fn read_speed(path: &Path, limit: Duration) -> io::Result<f64> {
    const LEAST: u64 = 16 << 20;
    let mut file = File::open(path)?;
    if file.metadata()?.len() < LEAST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    forget(&file)?;
    let mut buffer = vec![0; 4 << 20];
    let (start, mut total) = (Instant::now(), 0);
    while start.elapsed() < limit || total == 0 {
        match file.read(&mut buffer)? {
            0 => break,
            n => total += n,
        }
    }
    Ok(total as f64 / start.elapsed().as_secs_f64().max(1e-9))
}

#[cfg(target_os = "linux")]
fn forget(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[cfg(not(target_os = "linux"))]
fn forget(_file: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn place(path: &Path) -> Place {
    linux::place(&crate::tree::Tree::at("/".as_ref()), path)
}

#[cfg(not(target_os = "linux"))]
fn place(path: &Path) -> Place {
    let (kind, device, file_system) = crate::portable::disk(path);
    Place { kind, device, file_system }
}

/// The mounts, and the block devices behind them.
#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;

    use super::{DiskKind, Place};
    use crate::text::printable;
    use crate::tree::Tree;

    const NETWORK: [&str; 13] = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "9p",
        "ceph",
        "lustre",
        "beegfs",
        "glusterfs",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.rclone",
        "fuse.juicefs",
    ];
    /// Machines with many containers have many mounts.
    const MAX_MOUNTS: u64 = 4 << 20;

    /// A line of `/proc/self/mountinfo`.
    struct Mount {
        number: String,
        point: String,
        file_system: String,
        source: String,
    }

    pub fn place(tree: &Tree, path: &Path) -> Place {
        let mounts = tree.long("proc/self/mountinfo", MAX_MOUNTS).unwrap_or_default();
        let above = mounts.lines().filter_map(mount).filter(|m| path.starts_with(&m.point));
        // Of several at one place the last one is seen.
        let Some(mount) = above.max_by_key(|m| m.point.len()) else {
            return Place { kind: DiskKind::Unknown, device: None, file_system: None };
        };
        Place {
            kind: kind(tree, &mount),
            device: printable(&mount.source).filter(|source| source != "none"),
            file_system: printable(&mount.file_system),
        }
    }

    /// `36 35 98:0 /root /point options optional... - type source options`
    fn mount(line: &str) -> Option<Mount> {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(2);
        let mut what = what.split(' ');
        Some(Mount {
            number: place.next()?.to_owned(),
            point: plain(place.nth(1)?),
            file_system: what.next()?.to_owned(),
            source: plain(what.next()?),
        })
    }

    /// Spaces and the like are written as three octal digits.
    fn plain(text: &str) -> String {
        let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
        codes.iter().fold(text.to_owned(), |text, (code, c)| text.replace(code, c))
    }

    fn kind(tree: &Tree, mount: &Mount) -> DiskKind {
        match mount.file_system.as_str() {
            "tmpfs" | "ramfs" => return DiskKind::Memory,
            fs if NETWORK.contains(&fs) => return DiskKind::Network,
            _ => {}
        }
        let name = mount.source.strip_prefix("/dev/").unwrap_or_default();
        let folders =
            [format!("sys/dev/block/{}", mount.number), format!("sys/class/block/{name}")];
        // A partition's folder lies in its disk's.
        let turns = folders.iter().filter(|folder| !folder.ends_with('/')).find_map(|folder| {
            let file = |path: &str| tree.number::<u8>(format!("{folder}/{path}"));
            file("queue/rotational").or_else(|| file("../queue/rotational"))
        });
        match turns {
            Some(0) => DiskKind::Ssd,
            // Disks of virtual machines say that they turn, whatever is behind them.
            Some(_) if name.starts_with("vd") || name.starts_with("xvd") => DiskKind::Unknown,
            Some(_) => DiskKind::Hdd,
            None => DiskKind::Unknown,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::tree::tests::tree;

        const MOUNTS: &str = "\
            22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n\
            23 22 8:17 / /data rw - xfs /dev/sdb1 rw\n\
            24 22 0:50 /models /net rw - nfs4 server:/models rw\n\
            25 22 0:51 / /with\\040space rw - tmpfs tmpfs rw\n\
            26 22 0:52 /@home /home rw - btrfs /dev/nvme0n1p3 rw\n\
            27 22 254:0 / /vm rw - ext4 /dev/vda rw\n\
            garbage\n28 22 - -\n";

        fn place_of(path: &str) -> Place {
            let (_dir, tree) = tree(&[
                ("proc/self/mountinfo", MOUNTS.as_bytes()),
                ("sys/dev/block/259:2/queue/rotational", b"0\n"),
                ("sys/dev/block/8:17/queue/rotational", b"1\n"),
                ("sys/class/block/nvme0n1p3/queue/rotational", b"0\n"),
                ("sys/dev/block/254:0/queue/rotational", b"1\n"),
            ]);
            place(&tree, Path::new(path))
        }

        #[test]
        fn kinds_by_the_mount_that_is_nearest() {
            assert_eq!(place_of("/srv/models").kind, DiskKind::Ssd);
            assert_eq!(place_of("/data/x").kind, DiskKind::Hdd);
            assert_eq!(place_of("/database").kind, DiskKind::Ssd, "no part of /data");
            assert_eq!(place_of("/net/x").device.as_deref(), Some("server:/models"));
            assert_eq!(place_of("/net/x").kind, DiskKind::Network);
            assert_eq!(place_of("/with space").kind, DiskKind::Memory);
            assert_eq!(place_of("/home/me").kind, DiskKind::Ssd, "a device without a number");
            assert_eq!(place_of("/vm").kind, DiskKind::Unknown);
        }

        #[test]
        fn without_mounts_nothing_is_known() {
            let (_dir, tree) = tree(&[("proc/self/mountinfo", b"\xff\xfe")]);
            let nothing = Place { kind: DiskKind::Unknown, device: None, file_system: None };
            assert_eq!(place(&tree, Path::new("/")), nothing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_is_on_its_parents_disk() {
        let here = tempfile::tempdir().unwrap();
        let disk_here = disk(here.path()).unwrap();
        assert!(disk_here.total_bytes >= disk_here.free_bytes && disk_here.total_bytes > 0);
        let later = disk(&here.path().join("not/yet")).unwrap();
        assert_eq!((later.total_bytes, later.device), (disk_here.total_bytes, disk_here.device));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_files_speed_is_a_number() {
        use std::io::Write;

        let mut file = tempfile::NamedTempFile::new().unwrap();
        assert!(read_speed(file.path(), Duration::ZERO).is_err(), "too small");
        file.write_all(&vec![1; 16 << 20]).unwrap();
        file.as_file().sync_all().unwrap();
        let speed = read_speed(file.path(), Duration::from_millis(50)).unwrap();
        assert!(speed.is_finite() && speed > 0.0);
    }
}
