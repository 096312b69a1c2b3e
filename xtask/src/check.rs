//! `cargo xtask check`: everything that is judged without running the tests. All steps run, so that one
//! call shows every complaint. Deliberately absent: `cargo deny`, which needs the network (`.ci/run` calls it).

use anyhow::{Result, bail};

use crate::{arrows, sh, sources};

/// A step's name and what it does.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("arrows between crates", arrows::check),
    ("source files", sources::check),
    ("cargo fmt", || sh::run(&mut sh::cargo(&["fmt", "--all", "--check"]))),
    ("cargo clippy", clippy),
];

/// Runs every step; fails if one did.
pub fn run() -> Result<()> {
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        match step() {
            Ok(()) => eprintln!("ok      {name}"),
            Err(e) => {
                eprintln!("FAILED  {name}\n{e:#}");
                failed.push(*name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn clippy() -> Result<()> {
    let args = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    sh::run(&mut sh::cargo(&args))
}
