//! `hob quantize` as a program: what it says and refuses, and what is left when it is killed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Home, said, text};
use hob_gguf::Gguf;
use hob_testkit::{Family, Rng, Tiny};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// An empty folder beside the home.
fn folder(home: &Home) -> PathBuf {
    let folder = home.path().with_file_name("out");
    fs::create_dir(&folder).unwrap();
    folder
}

fn sha(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(fs::read(path).unwrap()).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_file_is_made_and_reported() {
    let home = Home::new();
    let (source, folder) = (home.tiny(), folder(&home));
    let out = folder.join("small.gguf");
    let args = ["quantize", text(&source), text(&out), "q8_0", "-t", "3"];
    let dry = home.hob(&[&args[..], &["--dry-run", "--json"]].concat()).json();
    assert_eq!((dry["plan"].as_array().unwrap().len(), names(&folder).len()), (21, 0));
    let table = home.hob(&[&args[..], &["--dry-run"]].concat()).ok();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let row = "blk.1.ffn_down.weight [96, 64] F32 Q8_0 6.5 kB";
    assert!(table.lines().any(|line| words(line) == row), "{table}");
    let report = home.hob(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(names(&folder), ["small.gguf"]);
    assert_eq!(report["file_bytes"], out.metadata().unwrap().len());
    assert_eq!(report["file_bytes"], dry["file_bytes"]);
    assert_eq!(report["recipe"], "Q8_0");
    assert_eq!(report["tensor_types"], serde_json::json!({"F32": 5, "Q8_0": 16}));
    let fit = home.hob(&["fit", text(&source), "--json"]).json();
    let fit = fit["recipes"].as_array().unwrap().iter().find(|r| r["recipe"] == "Q8_0").unwrap();
    assert_eq!(
        (&fit["file_bytes"], &fit["bits_per_weight"]),
        (&report["file_bytes"], &report["bits_per_weight"])
    );
    home.hob(&["run", text(&out), "x", "--raw", "--max-tokens", "4"]).ok();
    home.hob(&args).fails(1, &["small.gguf exists already", "--force replaces it"]);
    home.hob(&[&args[..], &["--force"]].concat()).ok();
    assert_eq!(names(&folder), ["small.gguf"]);
}

/// sha256 of what `llama-quantize --pure` (build 0.25.3 of ggml) writes from `stories15m.gguf`.
const GOLDEN: [(&str, &str); 4] = [
    ("F16", "064be109c98ebd804a0e1c6874d9bc305cf50170f2d2b07a978428e733987015"),
    ("Q8_0", "ffb5de0af440c6045fd8e8b1a91b969e249144dbb77e42b1a3bb33ada8c2565c"),
    ("Q4_0", "27225c47ca893834c32d264c612e8f45f0971a4adf7d43699686712c59c1aec7"),
    ("Q5_1", "611f14cea5113e6f3db731688c5e1b75735782b27849105624e264a3bcb2ccab"),
];

#[test]
fn whole_files_are_those_of_llama_quantize() {
    let cache = std::env::var_os("HOB_ASSETS").map(PathBuf::from);
    let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache/hob-assets"))).unwrap();
    let source = cache.join("stories15m.gguf");
    assert!(source.exists(), "{} is missing: cargo xtask assets", source.display());
    let home = Home::new();
    let folder = folder(&home);
    for (recipe, expected) in GOLDEN {
        let out = folder.join(format!("{recipe}.gguf"));
        home.hob(&["quantize", text(&source), text(&out), recipe, "--pure"]).ok();
        assert_eq!(sha(&out), expected, "{recipe}");
    }
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_left() {
    let home = Home::new();
    let (source, folder) = (home.tiny(), folder(&home));
    let out = folder.join("small.gguf");
    let fails = |args: &[&str], code: i32, parts: &[&str]| {
        home.hob(&[&["quantize"], args].concat()).fails(code, parts);
        assert_eq!(names(&folder), Vec::<String>::new(), "{args:?}");
    };
    let (source, target) = (text(&source), text(&out));
    fails(&[source, target, "Q4_K_XM"], 2, &["no such recipe; did you mean Q4_K_M?", "IQ1_S"]);
    fails(&[source, target, "Q8_0", "--override", "x"], 2, &["REGEX=TYPE"]);
    fails(&[source, target, "Q8_0", "--output-type", "I32"], 2, &["I32", "not a tensor type"]);
    fails(&[source, target, "Q8_0", "--split-size", "2"], 2, &["sizes look like 500M"]);
    fails(&[source, source, "Q8_0", "--force"], 1, &["over the source"]);
    fails(&[source, text(&folder), "Q8_0"], 1, &["is no regular file"]);
    fails(&[source, text(&folder.join("no/x.gguf")), "Q8_0"], 1, &["cannot create", "no"]);
    fails(&[source, target, "Q8_0", "--imatrix", source], 1, &["general.type"]);
    let coarse = home.file(
        "coarse.gguf",
        &Tiny::new(Family::Llama).quantized(hob_quant::GgmlType::Q4_0).bytes(),
    );
    fails(&[text(&coarse), target, "Q8_0"], 1, &["quantized already (Q4_0)", "--allow-requantize"]);
    let wide = Tiny { width: 256, ffn: 256, ..Tiny::new(Family::Llama) };
    let wide = home.file("wide.gguf", &wide.bytes());
    fails(
        &[text(&wide), target, "IQ1_S"],
        1,
        &["needs an importance matrix", "hob imatrix", "--force"],
    );
    let whole = fs::read(source).unwrap();
    let short = home.file("short.gguf", &whole[..whole.len() - 40]);
    fails(&[text(&short), target, "Q8_0"], 1, &["short.gguf", "data section"]);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let home = Home::new();
    let source = home.tiny();
    // Nobody, not even root, makes files there.
    let said = home.hob(&["quantize", text(&source), "/proc/x.gguf", "Q8_0"]);
    said.fails(1, &["cannot create /proc/.x.gguf.hob-partial"]);
}

/// Killed at any moment, nothing looks finished, the source is as it was, and the next run starts again.
#[cfg(unix)]
#[test]
fn kills_leave_nothing_that_looks_finished() {
    let home = Home::new();
    let source = large(&home);
    let folder = folder(&home);
    let before = sha(&source);
    for split in [false, true] {
        let out = folder.join("small.gguf");
        let mut args = vec!["quantize", text(&source), text(&out), "Q8_0", "-t", "2"];
        if split {
            args.extend(["--split-tensors", "9"]);
        }
        let begun = Instant::now();
        home.hob(&args).ok();
        let whole = begun.elapsed();
        let expected: Vec<(PathBuf, String)> =
            names(&folder).iter().map(|n| (folder.join(n), sha(&folder.join(n)))).collect();
        let clear = || expected.iter().for_each(|(path, _)| drop(fs::remove_file(path)));
        let mut rng = Rng::new(7);
        let (mut killed, mut finished) = (0, 0);
        for _ in 0..10 {
            clear();
            let mut child = home.command(&args).spawn().unwrap();
            std::thread::sleep(whole.mul_f64(f64::from(rng.unit() + 1.0) * 0.55));
            child.kill().unwrap();
            let said = said(child.wait_with_output().unwrap());
            // The file from which a reader finds the others is there only with all of them.
            let (first, _) = &expected[0];
            match first.exists() {
                true => {
                    expected.iter().for_each(|(path, hash)| assert_eq!(&sha(path), hash));
                    finished += 1;
                }
                false => {
                    assert_eq!(said.code, None);
                    killed += 1;
                }
            }
        }
        assert!(killed > 0, "{finished} of 10 were faster than the signal");
        clear();
        home.hob(&args).ok();
        expected.iter().for_each(|(path, hash)| assert_eq!(&sha(path), hash));
        assert_eq!(names(&folder).len(), expected.len(), "{:?}", names(&folder));
        clear();
    }
    assert_eq!(sha(&source), before);
}

/// A model that takes a while, in the home.
#[cfg(unix)]
fn large(home: &Home) -> PathBuf {
    let tiny = Tiny {
        layers: 4,
        width: 512,
        ffn: 1024,
        heads: 8,
        kv_heads: 8,
        vocab: 8000,
        ..Tiny::new(Family::Llama)
    };
    home.file("source.gguf", &tiny.bytes())
}

#[cfg(unix)]
fn signal(name: &str, child: &std::process::Child) {
    let args = [format!("-{name}"), child.id().to_string()];
    assert!(std::process::Command::new("kill").args(args).status().unwrap().success());
}

/// Waits until the run has written something.
#[cfg(unix)]
fn wait_for(partial: &Path) {
    let patience = Instant::now() + Duration::from_secs(60);
    while partial.metadata().map_or(0, |m| m.len()) == 0 && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Ctrl-C takes the half-written file away.
#[cfg(unix)]
#[test]
fn an_interrupted_run_cleans_up() {
    let home = Home::new();
    let (source, folder) = (large(&home), folder(&home));
    let out = folder.join("small.gguf");
    let args = ["quantize", text(&source), text(&out), "Q5_1", "--pure", "-t", "1"];
    for _ in 0..10 {
        let child = home.command(&args).spawn().unwrap();
        wait_for(&folder.join(".small.gguf.hob-partial"));
        signal("INT", &child);
        let said = said(child.wait_with_output().unwrap());
        if said.code == Some(0) {
            // It was faster than the signal.
            fs::remove_file(&out).unwrap();
            continue;
        }
        assert_eq!((said.code, names(&folder)), (Some(130), vec![]), "{}", said.err);
        return;
    }
    panic!("ten runs were faster than the signal");
}

/// A disk that is too small, and one that fills up while it is written.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs root, to mount a small tmpfs"]
fn a_full_disk() {
    let home = Home::new();
    let (source, folder) = (large(&home), folder(&home));
    let before = sha(&source);
    let mount = |args: &[&str]| {
        assert!(std::process::Command::new(args[0]).args(&args[1..]).status().unwrap().success());
    };
    let out = folder.join("small.gguf");
    let args = ["quantize", text(&source), text(&out), "Q8_0", "-t", "1"];
    mount(&["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", text(&folder)]);
    home.hob(&args).fails(1, &["not enough space for", "small.gguf", "are free"]);
    assert_eq!(names(&folder), Vec::<String>::new());
    mount(&["mount", "-o", "remount,size=32m", text(&folder)]);
    let child = home.command(&args).spawn().unwrap();
    wait_for(&folder.join(".small.gguf.hob-partial"));
    signal("STOP", &child);
    let room = vec![0; 40 << 20];
    // As much of it as there is room for.
    let _ = fs::write(folder.join("other"), &room);
    signal("CONT", &child);
    said(child.wait_with_output().unwrap()).fails(1, &["not enough space for", "small.gguf"]);
    assert_eq!(names(&folder), ["other"]);
    mount(&["umount", text(&folder)]);
    assert_eq!(sha(&source), before);
}

/// The second of two runs is told of the first.
#[cfg(unix)]
#[test]
fn two_runs_do_not_mix() {
    let home = Home::new();
    let (source, folder) = (home.tiny(), folder(&home));
    let out = folder.join("small.gguf");
    let lock = fs::File::create(folder.join(".small.gguf.hob-partial")).unwrap();
    lock.lock().unwrap();
    let args = ["quantize", text(&source), text(&out), "Q8_0"];
    home.hob(&args).fails(1, &["another hob is writing", "small.gguf"]);
    drop(lock);
    home.hob(&args).ok();
    assert_eq!(names(&folder), ["small.gguf"]);
    Gguf::open(&out).unwrap();
}
