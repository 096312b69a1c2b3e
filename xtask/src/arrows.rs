//! The arrows between crates: which room may use which, as one table, and the check of `cargo metadata`
//! against it. Development dependencies are exempt: tests may use `testkit` and look into any room.

use std::fmt::Write;

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::sh;

/// The rooms of this project that one may use.
#[derive(Clone, Copy)]
enum Uses {
    Only(&'static [&'static str]),
    /// The top of the house, and the tools beside it.
    Anything,
}
use Uses::{Anything, Only};

/// Room -> the rooms that it may use, bottom floor first. ARCHITECTURE.md holds the same table.
const ROOMS: &[(&str, Uses)] = &[
    ("quant", Only(&[])),
    ("gguf", Only(&["quant"])),
    ("hub", Only(&[])),
    ("model", Only(&["gguf", "quant"])),
    ("text", Only(&["gguf"])),
    // gguf: at load, the CPU reads a tensor's bytes where the file's map has them.
    ("cpu", Only(&["model", "quant", "gguf"])),
    ("gpu", Only(&["model", "quant", "gguf"])),
    ("cuda", Only(&["model", "quant", "gguf"])),
    ("machine", Only(&[])),
    ("plan", Only(&["model", "quant", "machine"])),
    ("engine", Only(&["model", "gguf", "quant", "text", "machine", "cpu", "gpu", "cuda"])),
    ("forge", Only(&["model", "gguf", "quant", "text", "cpu", "engine"])),
    ("fleet", Only(&["plan"])),
    ("server", Only(&["engine", "plan", "machine", "hub", "forge", "text", "model", "gguf"])),
    ("cli", Anything),
    ("testkit", Anything),
    ("xtask", Anything),
];

/// What of `cargo metadata --no-deps` is read here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` for a normal dependency, else "dev" or "build".
    kind: Option<String>,
    /// The folder, for a dependency of this workspace.
    path: Option<String>,
}

/// Fails if a crate of the workspace uses another against the table.
pub fn check() -> Result<()> {
    let json = sh::output(&mut sh::cargo(&[
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ]))?;
    let complaints = judge(&serde_json::from_slice(&json)?);
    if !complaints.is_empty() {
        bail!(
            "{}\nThe table is ROOMS in xtask/src/arrows.rs:\n\n{}",
            complaints.join("\n"),
            markdown()
        );
    }
    Ok(())
}

/// One line for each arrow outside the table and each crate that the table doesn't know.
fn judge(metadata: &Metadata) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in &metadata.packages {
        let room = room(&package.name);
        let Some((_, uses)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            complaints.push(format!("crate {} is not in the table of rooms", package.name));
            continue;
        };
        let Only(allowed) = uses else { continue };
        let arrows = package
            .dependencies
            .iter()
            .filter(|d| d.path.is_some() && d.kind.as_deref() != Some("dev"))
            .map(|d| self::room(&d.name))
            .filter(|target| !allowed.contains(target));
        complaints
            .extend(arrows.map(|to| format!("{room} -> {to}: {room} may use {}", list(allowed))));
    }
    complaints
}

/// A crate's name without the project's prefix.
fn room(package: &str) -> &str {
    package.strip_prefix("hob-").unwrap_or(package)
}

fn list(rooms: &[&str]) -> String {
    if rooms.is_empty() { "no other room".to_owned() } else { rooms.join(", ") }
}

/// The table, for ARCHITECTURE.md.
pub fn markdown() -> String {
    let mut out = String::from("| room | may use |\n|---|---|\n");
    for (room, uses) in ROOMS {
        let uses = match uses {
            Only(rooms) => list(rooms),
            Anything => "anything".to_owned(),
        };
        let _ = writeln!(out, "| `{room}` | {uses} |");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(from: &str, to: &str, kind: Option<&str>, path: Option<&str>) -> Vec<String> {
        let json = serde_json::json!({"packages": [
            {"name": from, "dependencies": [{"name": to, "kind": kind, "path": path}]}
        ]});
        judge(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn an_arrow_outside_the_table_is_named() {
        let found = complaints("hob-quant", "hob-gguf", None, Some("/x"));
        assert_eq!(found, ["quant -> gguf: quant may use no other room"]);
        let found = complaints("hob-engine", "hob-hub", Some("build"), Some("/x"));
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn arrows_of_the_table_of_tests_and_to_other_projects_are_fine() {
        assert!(complaints("hob-gguf", "hob-quant", None, Some("/x")).is_empty());
        assert!(complaints("hob-quant", "hob-testkit", Some("dev"), Some("/x")).is_empty());
        assert!(complaints("hob-quant", "half", None, None).is_empty());
        assert!(complaints("hob-cli", "hob-cpu", None, Some("/x")).is_empty());
    }

    #[test]
    fn a_crate_without_a_room_is_named() {
        let found = complaints("hob-attic", "half", None, None);
        assert_eq!(found, ["crate hob-attic is not in the table of rooms"]);
    }

    #[test]
    fn the_table_has_no_circle() {
        // Bottom floor first: a room uses only rooms that stand before it.
        for (i, (room, uses)) in ROOMS.iter().enumerate() {
            let Only(uses) = uses else { continue };
            for used in *uses {
                let at = ROOMS.iter().position(|(name, _)| name == used);
                assert!(at.is_some_and(|at| at < i), "{room} -> {used}");
            }
        }
    }
}
