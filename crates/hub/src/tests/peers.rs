//! The protocols as others speak them. Ignored unless asked for, as they need programs that are not ours: `HOB_TEST_PYTHON` is a Python
//! with `huggingface_hub` and `modelscope`, `HOB_TEST_REGISTRY` the `registry` of Docker's distribution, and `ssh-keygen` is OpenSSH's.

use std::env;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::mirror::mirror;
use super::wire::{Wire, patience};
use super::{content, sha256};
use crate::digest::Digest;
use crate::error::SourceError;
use crate::manifest::{CONFIG_TYPE, Kind, Layer, Manifest};
use crate::name::ModelName;
use crate::net::{Ask, Net};
use crate::source::{HuggingFace, Key, ModelScope, Registry, Source, push, select};
use crate::{Hub, LocalModel, Wishes};

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("README.md", b"read me".to_vec()),
        ("config.json", b"{}".to_vec()),
        ("Q8_0/M Q8_0-00001-of-00002.gguf", content(70_000)),
        ("Q8_0/M Q8_0-00002-of-00002.gguf", content(30_000)),
        ("M-Q4_K_M.gguf", content(50_000)),
    ]
}

/// Runs a script that prints the folder it downloaded to; compares that folder with the files.
fn downloads(script: &str, variable: &str, url: &str) {
    let home = tempfile::tempdir().unwrap();
    let python = env::var("HOB_TEST_PYTHON").expect("HOB_TEST_PYTHON is a Python interpreter");
    let output = Command::new(python)
        .args(["-c", script])
        .env(variable, url)
        .envs([
            ("NO_PROXY", "127.0.0.1"),
            ("HF_HUB_DISABLE_XET", "1"),
            ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ])
        .envs([("HF_HOME", home.path()), ("MODELSCOPE_CACHE", home.path()), ("HOME", home.path())])
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let folder = Path::new(out.lines().last().unwrap());
    for (path, data) in files() {
        assert!(fs::read(folder.join(path)).unwrap() == data, "{path} differs");
    }
}

fn start() -> Wire {
    let files = files();
    let served: Vec<(&str, &[u8])> = files.iter().map(|(p, d)| (*p, d.as_slice())).collect();
    mirror(&served)
}

fn hugging_face(wire: &Wire) -> HuggingFace {
    let (repo, revision) = ("org/repo".into(), "main".into());
    HuggingFace { endpoint: wire.url.clone(), repo, revision, token: None }
}

fn model_scope(wire: &Wire) -> ModelScope {
    let (repo, revision) = ("org/repo".into(), "master".into());
    ModelScope { endpoint: wire.url.clone(), repo, revision, token: None }
}

#[test]
fn hob_downloads_from_the_mirror() {
    let wire = start();
    has_all(&hugging_face(&wire));
    has_all(&model_scope(&wire));
}

#[test]
#[ignore = "needs Python with huggingface_hub"]
fn huggingface_hub_downloads_from_the_mirror() {
    let wire = start();
    downloads(
        "import huggingface_hub as h; print(h.__version__); h.hf_hub_download('org/repo', 'M-Q4_K_M.gguf'); \
        print([f.path for f in h.HfApi().list_repo_tree('org/repo', recursive=True)]); print(h.snapshot_download('org/repo'))",
        "HF_ENDPOINT",
        &wire.url,
    );
    for line in wire.calls() {
        println!("{} {}", line.line(), line.query);
    }
}

#[test]
#[ignore = "needs Python with modelscope"]
fn modelscope_downloads_from_the_mirror() {
    let wire = start();
    downloads(
        "import modelscope; print(modelscope.__version__); from modelscope import snapshot_download; print(snapshot_download('org/repo'))",
        "MODELSCOPE_ENDPOINT",
        &wire.url,
    );
    for line in wire.calls() {
        println!("{} {}", line.line(), line.query);
    }
}

/// A user's hub for which both hubs are this one.
fn hub(root: &Path, wire: &Wire) -> Hub {
    let mut hub = super::hub(root, b"", &[], &wire.url);
    hub.settings.hubs.model_scope = wire.url.clone();
    hub
}

/// The parts of the split model, as they lie in a store.
fn assert_is_split_model(model: &LocalModel) {
    let expected: Vec<Vec<u8>> =
        files().into_iter().filter(|(p, _)| p.contains("-of-")).map(|(_, d)| d).collect();
    let parts: Vec<Vec<u8>> = model.parts.iter().map(|p| fs::read(p).unwrap()).collect();
    assert!(parts == expected, "{:?}", model.parts);
}

#[test]
fn a_pull_takes_a_split_model_from_both_hubs_alike() {
    let root = tempfile::tempdir().unwrap();
    let wire = start();
    for reference in ["hf.co/org/repo:q8_0", "modelscope.cn/org/repo:Q8_0"] {
        let model = hub(root.path(), &wire).pull(reference, &Wishes::plain(), &mut |_| ()).unwrap();
        assert_is_split_model(&model);
        assert!(model.name.ends_with("/org/repo:Q8_0"), "{}", model.name);
    }
    // The same blobs: the second pull asks for the lists alone.
    let gets = wire.calls().iter().filter(|c| c.path.contains("/resolve/")).count();
    let e = hub(root.path(), &wire).pull("hf.co/org/repo:Q2_K", &Wishes::plain(), &mut |_| ());
    let text = e.unwrap_err().to_string();
    assert!(text.contains("Q2_K") && text.contains("Q4_K_M, Q8_0"), "{text}");
    assert_eq!(wire.calls().iter().filter(|c| c.path.contains("/resolve/")).count(), gets);
}

#[test]
#[ignore = "needs Docker's registry"]
fn a_model_goes_from_a_hub_over_a_registry_to_another_machine() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (wire, folder) = (start(), tempfile::tempdir().unwrap());
    let (_registry, port) = docker_registry(folder.path());
    let reference = format!("http://127.0.0.1:{port}/me/mine:v1");
    let name = reference.trim_start_matches("http://");
    let first = hub(here.path(), &wire);
    first.pull("hf.co/org/repo:Q8_0", &Wishes::plain(), &mut |_| ()).unwrap();
    first.copy("hf.co/org/repo:Q8_0", name).unwrap();
    first.push(&reference, &mut |_| ()).unwrap();
    let model = hub(there.path(), &wire).pull(&reference, &Wishes::plain(), &mut |_| ()).unwrap();
    assert_is_split_model(&model);
    assert_eq!(model.id, first.find(name).unwrap().unwrap().id);
}

/// hob's own source finds and fetches what the other client did.
fn has_all(source: &dyn Source) {
    let net = Net::new(patience());
    let offer = source.offer(&net).unwrap();
    for (path, data) in files() {
        let file = offer.files.iter().find(|f| f.path == path).unwrap();
        assert_eq!(file.bytes, Some(data.len() as u64));
        assert!(file.digest.is_none_or(|d| d.to_string() == sha256(&data)));
        let answer = net.send(&Ask::get(&file.origin.url)).unwrap();
        assert_eq!(
            (answer.status(), answer.bytes(1 << 20).unwrap() == data),
            (200, true),
            "{path}"
        );
    }
    assert_eq!(select(&offer, "q8_0").unwrap().bytes, Some(100_000));
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A registry on a free port of this machine.
fn docker_registry(folder: &Path) -> (Running, u16) {
    let program = env::var("HOB_TEST_REGISTRY").expect("HOB_TEST_REGISTRY is a registry");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
        folder.join("data").display()
    );
    fs::write(folder.join("config.yml"), config).unwrap();
    let mut command = Command::new(program);
    command.arg("serve").arg(folder.join("config.yml")).stdout(Stdio::null());
    let running = Running(command.spawn().unwrap());
    for _ in 0..300 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return (running, port);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the registry does not start");
}

#[test]
#[ignore = "needs Docker's registry"]
fn dockers_registry_takes_and_gives_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let (_registry, port) = docker_registry(folder.path());
    let net = Net::new(patience());
    let name = ModelName::parse(&format!("127.0.0.1:{port}/me/mine:v1")).unwrap();
    let registry = Registry::new(&net, &name, true, None);
    let missing = registry.manifest("v1").unwrap_err();
    assert!(matches!(missing, SourceError::NotFound { .. }), "{missing}");

    // More than one part.
    let blobs = [content(70 << 20), content(1000), b"{}".to_vec()];
    let digest = |data: &[u8]| sha256(data).parse::<Digest>().unwrap();
    for blob in &blobs {
        fs::write(folder.path().join(sha256(blob)), blob).unwrap();
    }
    let layer = |kind, data: &[u8]| Layer::new(kind, digest(data), data.len() as u64);
    let config = Layer { media_type: CONFIG_TYPE.into(), ..layer(Kind::Other, &blobs[2]) };
    let manifest =
        Manifest::new(config, vec![layer(Kind::Model, &blobs[0]), layer(Kind::System, &blobs[1])]);
    let mut bytes = serde_json::to_vec_pretty(&manifest).unwrap();
    bytes.push(b'\n');
    let at = |digest: &Digest| folder.path().join(digest.to_string());
    let mut events = Vec::new();
    push(&registry, "v1", &bytes, &at, &mut |p| events.push(p)).unwrap();
    println!("{} events of the push, the last {:?}", events.len(), events.last());

    let fetched = Registry::new(&net, &name, true, None).manifest("v1").unwrap();
    assert!(fetched.bytes == bytes && fetched.manifest == manifest);
    for (layer, data) in fetched.manifest.blobs().zip(&blobs) {
        let file = registry.blob(layer).unwrap();
        let answer = net.send(&Ask::get(&file.origin.url)).unwrap();
        assert!(answer.bytes(100 << 20).unwrap() == *data);
    }
    // Again, and into another repository by mounting.
    push(&registry, "v2", &bytes, &at, &mut |_| ()).unwrap();
    let other = name_of(port, "other");
    let mut mounted = manifest.clone();
    for layer in &mut mounted.layers {
        layer.from = Some("me/mine".into());
    }
    mounted.config.from = Some("me/mine".into());
    push(&Registry::new(&net, &other, true, None), "v1", &mounted.to_bytes(), &at, &mut |_| ())
        .unwrap();
    // What is not what its digest says is not taken.
    let path = at(&digest(&blobs[1]));
    fs::write(&path, vec![0; 1000]).unwrap();
    let third = name_of(port, "third");
    let e =
        push(&Registry::new(&net, &third, true, None), "v1", &bytes, &at, &mut |_| ()).unwrap_err();
    println!("{e}");
    assert!(matches!(e, SourceError::Refused(_)), "{e}");
}

fn name_of(port: u16, model: &str) -> ModelName {
    ModelName::parse(&format!("127.0.0.1:{port}/me/{model}")).unwrap()
}

#[test]
#[ignore = "needs OpenSSH"]
fn keys_are_openssh_s() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    let run = |arguments: &[&str], file: &Path| {
        let output = Command::new("ssh-keygen").args(arguments).arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // Kind and key; a comment follows.
    let words =
        |text: &str| text.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>().join(" ");
    let key = Key::generate(&ours).unwrap();
    assert_eq!(words(run(&["-y", "-f"], &ours).trim()), key.public());
    run(&["-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f"], &theirs);
    let public = fs::read_to_string(theirs.with_extension("pub")).unwrap();
    assert_eq!(words(&public), Key::read(&theirs).unwrap().unwrap().public());
    let locked = folder.path().join("locked");
    run(&["-q", "-t", "ed25519", "-N", "secret phrase", "-f"], &locked);
    let e = Key::read(&locked).err().unwrap().to_string();
    assert!(e.contains("passphrase"), "{e}");
}
