//! The disc that the emulator boots: GRUB, the kernel, and an initial file system with the tests, a shell and a
//! script that runs one after the other. Beside it the emulator's settings.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::sh;

/// A test program of the disc.
pub struct Program {
    /// Its file's name there.
    pub name: String,
    /// Where it is here.
    pub path: PathBuf,
    /// Arguments, beside those that all have.
    pub args: String,
}

impl Program {
    /// What the script prints when the program has ended.
    pub fn exit_line(&self, status: u8) -> String {
        format!("hob: {} exited with {status}\n", self.name)
    }
}

/// The script's last line.
pub const DONE: &str = "hob: done";

/// Bochs 2.7 misreports the layout of these registers' saved state (CPUID leaf 13: protection keys, the compacted
/// form), which Linux answers by leaving AVX off; and with the process identifiers of its translation cache, or
/// one of the others, the kernel faults without end early on.
const NOT_IN_BOCHS: &str = "pku,ospke,xsaves,xsavec,pcid,invpcid,smap,smep,fsgsbase,erms,fsrm,umip";

/// `ips` and `sync` make the guest's clock one of instructions, so that a slow host changes nothing.
const BOCHSRC: &str = "\
cpu: model=corei7_icelake_u, count=1, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
clock: sync=none
memory: guest=512, host=512
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=serial.txt
display_library: term
panic: action=fatal
log: bochs.log
";

/// Debian's Bochs has the debugger built in and starts in it.
const DEBUGGER: &str = "continue\nquit\n";

/// Writes the disc and the emulator's settings into `dir`.
pub fn write(dir: &Path, kernel: &Path, programs: &[Program]) -> Result<()> {
    let iso = dir.join("iso/boot");
    fs::create_dir_all(iso.join("grub"))?;
    fs::copy(kernel, iso.join("vmlinuz"))?;
    fs::write(iso.join("initrd"), initial_files(programs)?)?;
    let grub = format!(
        "linux /boot/vmlinuz console=ttyS0 loglevel=4 mitigations=off nokaslr nopcid clearcpuid={NOT_IN_BOCHS}\n\
         initrd /boot/initrd\nboot\n"
    );
    fs::write(iso.join("grub/grub.cfg"), grub)?;
    let (disc, tree) = (dir.join("disc.iso"), dir.join("iso"));
    sh::output(Command::new("grub-mkrescue").arg("-o").arg(disc).arg(tree))?;
    fs::write(dir.join("bochsrc"), BOCHSRC)?;
    fs::write(dir.join("debugger"), DEBUGGER)?;
    Ok(())
}

/// The first program of the guest.
fn script(programs: &[Program]) -> String {
    let mut script = String::from(
        "#!/bin/busybox sh\n\
         /bin/busybox mount -t proc proc /proc\n\
         /bin/busybox mount -t devtmpfs dev /dev\n\
         exec </dev/ttyS0 >/dev/ttyS0 2>&1\n\
         export RUST_BACKTRACE=0\n",
    );
    for program in programs {
        let Program { name, args, .. } = program;
        let _ = writeln!(script, "/bin/{name} --test-threads=1 --nocapture {args}");
        let _ = writeln!(script, "echo \"hob: {name} exited with $?\"");
    }
    // The serial port is slower than the tests: without the pause its last lines are lost.
    let _ = writeln!(script, "echo '{DONE}'\n/bin/busybox sleep 5\n/bin/busybox poweroff -f");
    script
}

fn initial_files(programs: &[Program]) -> Result<Vec<u8>> {
    const DIR: u32 = 0o040_755;
    const PROGRAM: u32 = 0o100_755;
    let mut archive = Vec::new();
    for dir in ["bin", "dev", "proc"] {
        entry(&mut archive, dir, DIR, &[])?;
    }
    entry(&mut archive, "init", PROGRAM, script(programs).as_bytes())?;
    let busybox = Path::new("/bin/busybox");
    let files = programs.iter().map(|p| (p.name.as_str(), p.path.as_path()));
    for (name, path) in files.chain([("busybox", busybox)]) {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        entry(&mut archive, &format!("bin/{name}"), PROGRAM, &bytes)?;
    }
    entry(&mut archive, "TRAILER!!!", 0, &[])?;
    Ok(archive)
}

/// One file of a cpio archive in the "newc" form, the one that the kernel unpacks (its documentation:
/// driver-api/early-userspace/buffer-format): 13 numbers of 8 hexadecimal digits, the name, the bytes, both padded.
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let inode = archive.len().try_into()?; // any number that no other entry has
    let (size, name_size) = (bytes.len().try_into()?, (name.len() + 1).try_into()?);
    archive.extend(b"070701");
    for number in [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0u32] {
        archive.extend(format!("{number:08x}").bytes());
    }
    archive.extend(name.bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(bytes);
    archive.resize(archive.len().next_multiple_of(4), 0);
    Ok(())
}
