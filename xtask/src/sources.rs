//! Rules for source files that neither rustc nor clippy knows: length, module docs, and where `unsafe` may
//! stand. That each unsafe block has its SAFETY comment is clippy's work, under the workspace's lints;
//! here only that every crate has taken these on.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use proc_macro2::{TokenStream, TokenTree};

use crate::sh;

const MAX_LINES: usize = 800;
/// Stands in the top comment of a file that is longer on purpose, with the reason behind it.
const EXCUSE: &str = "Long because: ";
/// Where `unsafe` may stand: folders, and files without their end.
const UNSAFE: &[&str] = &[
    "crates/cpu/",
    "crates/gpu/",
    "crates/cuda/",
    "crates/quant/src/simd/",
    "crates/quant/src/simd.rs",
    "crates/gguf/src/file.rs",      // the map
    "crates/machine/src/vulkan.rs", // Vulkan's functions as they are
    "crates/gguf/tests/memory.rs",  // a global allocator that counts, for the bound on memory
];

/// Fails with one line for each broken rule.
pub fn check() -> Result<()> {
    let root = sh::root();
    let mut complaints = Vec::new();
    for manifest in manifests(&root)? {
        let text = fs::read_to_string(&manifest)?;
        if !text.contains("[lints]\nworkspace = true") {
            complaints.push(format!("{}: lacks the workspace's lints", manifest.display()));
        }
    }
    for path in rust_files(&root)? {
        let name = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&path).with_context(|| name.clone())?;
        complaints.extend(judge(&name, &text));
    }
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    Ok(())
}

/// The manifests of the crates and of this one.
fn manifests(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![root.join("xtask/Cargo.toml")];
    for entry in fs::read_dir(root.join("crates"))? {
        let manifest = entry?.path().join("Cargo.toml");
        if manifest.exists() {
            found.push(manifest);
        }
    }
    Ok(found)
}

/// Every Rust file that git has, or would take.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.rs"];
    let names = sh::output(std::process::Command::new("git").args(args).current_dir(root))?;
    let names = String::from_utf8(names).context("a file's name isn't UTF-8")?;
    let paths = names.split('\0').filter(|n| !n.is_empty()).map(|n| root.join(n));
    Ok(paths.filter(|p| p.exists()).collect())
}

/// The complaints about one file; `name` is relative to the root.
fn judge(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES && !excused(text) {
        complaints.push(format!(
            "{name}: {lines} lines, more than {MAX_LINES}, and no \"//! {EXCUSE}<reason>\" at its top"
        ));
    }
    if name.ends_with("src/lib.rs") && !text.starts_with("//!") {
        complaints.push(format!("{name}: begins without //! docs"));
    }
    if !UNSAFE.iter().any(|place| name.starts_with(place)) {
        match unsafe_lines(text) {
            Ok(found) => complaints.extend(
                found.iter().map(|line| format!("{name}:{line}: unsafe has no place in this file")),
            ),
            Err(e) => complaints.push(format!("{name}: {e}")),
        }
    }
    complaints
}

/// Whether the comment at the file's top gives a reason for its length.
fn excused(text: &str) -> bool {
    text.lines()
        .take_while(|line| line.starts_with("//") || line.trim().is_empty())
        .filter_map(|line| line.split_once(EXCUSE))
        .any(|(_, reason)| !reason.trim().is_empty())
}

/// The lines where the word `unsafe` is code: not a comment, a string or a lint's name.
fn unsafe_lines(text: &str) -> Result<Vec<usize>> {
    let tokens = TokenStream::from_str(text).map_err(|e| anyhow::anyhow!("not Rust: {e}"))?;
    let mut found = Vec::new();
    walk(tokens, &mut found);
    Ok(found)
}

fn walk(tokens: TokenStream, found: &mut Vec<usize>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => walk(group.stream(), found),
            TokenTree::Ident(word) if word == "unsafe" => found.push(word.span().start().line),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_need_a_reason_in_their_top_comment() {
        let long = "fn f() {}\n".repeat(MAX_LINES + 1);
        assert_eq!(judge("xtask/src/a.rs", &long).len(), 1);
        assert!(
            judge("xtask/src/a.rs", &format!("//! A table.\n//! Long because: generated.\n{long}"))
                .is_empty()
        );
        assert_eq!(judge("xtask/src/a.rs", &format!("//! Long because: \n{long}")).len(), 1);
        assert_eq!(judge("xtask/src/a.rs", &format!("{long}// Long because: late.\n")).len(), 1);
        assert!(judge("xtask/src/a.rs", &"\n".repeat(MAX_LINES)).is_empty());
    }

    #[test]
    fn unsafe_is_found_in_code_only() {
        let text = "//! unsafe\n#![forbid(unsafe_code)]\nconst A: &str = r#\"unsafe { \"#;\n/* unsafe */\nfn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(unsafe_lines(text).unwrap(), [6]);
        assert_eq!(
            judge("crates/model/src/a.rs", text),
            ["crates/model/src/a.rs:6: unsafe has no place in this file"]
        );
        assert!(judge("crates/cpu/src/a.rs", text).is_empty());
        assert_eq!(judge("crates/gguf/src/header.rs", text).len(), 1);
        assert!(judge("crates/gguf/src/file.rs", text).is_empty());
    }

    #[test]
    fn a_library_opens_with_docs() {
        assert_eq!(judge("crates/text/src/lib.rs", "mod a;\n").len(), 1);
        assert!(judge("crates/text/src/lib.rs", "//! Text.\nmod a;\n").is_empty());
    }
}
