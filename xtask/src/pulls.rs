//! `cargo xtask pulls`: what a release rests on about pulling models, and what takes too long for everyday tests. Hostile
//! servers under strace, disks that fill up, processes killed at random instants, bits that flip. The tests themselves are hob-hub's.
//! Deliberately absent: the real hubs, which no test may depend on.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::sh;

/// What to prove.
#[derive(clap::Args)]
pub struct Args {
    /// Only these: traced, full, kills, damage; all of them where none is named
    #[arg(value_enum)]
    only: Vec<Proof>,
    /// Write the table of the traced pulls to bench/DATE-pulls.csv
    #[arg(long)]
    csv: bool,
}

/// A property of pulls.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Proof {
    /// Hostile servers, under strace: the right bytes or an error in words, a bounded number of requests, no
    /// write outside the store, no call to a stranger, no secret sent to the wrong host
    Traced,
    /// A disk that is full, is freed, and the pull that then ends (root: it mounts a small file system)
    Full,
    /// Pulls, copies and removals killed at 200 instants each
    Kills,
    /// A bit that flips in a stored file: found, and its part alone fetched again
    Damage,
}

const ALL: [Proof; 4] = [Proof::Traced, Proof::Full, Proof::Kills, Proof::Damage];

impl Proof {
    /// Where its tests are.
    fn module(self) -> &'static str {
        match self {
            Proof::Traced => "tests::traced::",
            Proof::Full => "tests::full::",
            Proof::Kills => "tests::kills::",
            Proof::Damage => "tests::damage::",
        }
    }
}

/// Runs the tests of each property, one after the other; fails with the first that fails.
pub fn run(args: &Args) -> Result<()> {
    let proofs = if args.only.is_empty() { &ALL[..] } else { &args.only };
    if proofs.contains(&Proof::Traced) {
        install_strace()?;
        sh::run(&mut sh::cargo(&["build", "--package", "hob-hub", "--example", "pull_once"]))?;
    }
    for proof in proofs {
        let mut test = sh::cargo(&["test", "--package", "hob-hub", "--lib"]);
        // One at a time: instants of a kill are spread over a pull that has the machine to itself.
        test.args(["--", "--include-ignored", "--nocapture", "--test-threads=1", proof.module()]);
        if args.csv {
            let date = sh::text(Command::new("date").args(["-u", "+%F"]))?;
            test.env("HOB_PULLS_CSV", sh::root().join("bench").join(format!("{date}-pulls.csv")));
        }
        sh::run(&mut test)?;
    }
    Ok(())
}

fn install_strace() -> Result<()> {
    if Path::new("/usr/bin/strace").exists() {
        return Ok(());
    }
    eprintln!("apt-get installs strace");
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--quiet", "--no-install-recommends", "strace"]);
    sh::run(apt.env("DEBIAN_FRONTEND", "noninteractive"))
}
