//! Models of other programs: stores laid out as theirs, served without a copy and without a trace, however hostile they are.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::local::{Keeper, Overlay};
use crate::manifest::{CONFIG_TYPE, MANIFEST_TYPE};
use crate::name::ModelName;
use crate::shared::{Cache, Place, Places, Shared};
use crate::store::Damaged;

const LEN: usize = 50_000;
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OLDER: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// A home directory with folders of all three programs in their usual places.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        Home(TempDir::new().unwrap())
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside)
    }

    fn shared(&self) -> Shared {
        Shared::from_env(&|_| None, Some(self.0.path().to_owned()))
    }

    fn write(&self, inside: &str, data: &[u8]) -> PathBuf {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, data).unwrap();
        path
    }

    /// Writes a blob of Ollama's; returns it as a layer.
    fn layer(&self, kind: &str, data: &[u8]) -> Value {
        let digest = sha256(data);
        self.write(&format!(".ollama/models/blobs/sha256-{digest}"), data);
        let kind = match kind {
            "config" => CONFIG_TYPE.to_owned(),
            kind => format!("application/vnd.ollama.image.{kind}"),
        };
        json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": data.len()})
    }

    /// Writes a manifest of Ollama's under `HOST/NAMESPACE/MODEL/TAG`.
    fn manifest(&self, name: &str, config: &Value, layers: &[Value]) -> PathBuf {
        let config = self.layer("config", config.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers});
        self.write(&format!(".ollama/models/manifests/{name}"), manifest.to_string().as_bytes())
    }

    /// A model of Ollama's with this content.
    fn ollama(&self, name: &str, data: &[u8]) -> PathBuf {
        let config = json!({"model_format": "gguf", "model_family": "llama", "file_type": "Q8_0"});
        self.manifest(name, &config, &[self.layer("model", data)])
    }

    /// A file in a snapshot of the Hugging Face cache, as its libraries write it.
    fn cached(&self, commit: &str, path: &str, data: &[u8]) -> PathBuf {
        let repo = ".cache/huggingface/hub/models--org--repo";
        let digest = sha256(data);
        self.write(&format!("{repo}/blobs/{digest}"), data);
        let pointer = self.path(&format!("{repo}/snapshots/{commit}/{path}"));
        let up = "../".repeat(path.split('/').count() + 1);
        link(&PathBuf::from(format!("{up}blobs/{digest}")), &pointer);
        pointer
    }

    /// Everything below the home directory: what it is, its length, number, blocks and times of change.
    fn tree(&self) -> BTreeMap<PathBuf, String> {
        let (mut tree, mut folders) = (BTreeMap::new(), vec![self.0.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            let Ok(listing) = fs::read_dir(&folder) else { continue };
            for path in listing.map(|e| e.unwrap().path()) {
                let meta = fs::symlink_metadata(&path).unwrap();
                let mut state = format!("{:?} {}", meta.file_type(), meta.len());
                {
                    use std::os::unix::fs::MetadataExt;
                    let (ino, blocks) = (meta.ino(), meta.blocks());
                    let (mtime, ctime) = (meta.mtime_nsec(), meta.ctime_nsec());
                    state = format!("{state} {ino} {blocks} {mtime} {ctime}");
                }
                if meta.is_dir() {
                    folders.push(path.clone());
                }
                tree.insert(path, state);
            }
        }
        tree
    }
}

fn link(target: &Path, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(target, path).unwrap();
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn found(shared: &Shared, text: &str) -> Option<String> {
    shared.find(&name(text)).unwrap().map(|model| model.name)
}

fn names(models: &[LocalModel]) -> Vec<&str> {
    models.iter().map(|model| model.name.as_str()).collect()
}

/// The reason told for what has this in its name.
fn reason<'a>(notes: &'a [Damaged], name: &str) -> &'a str {
    let mut told = notes.iter().filter(|note| note.name.contains(name));
    let note = told.next().unwrap_or_else(|| panic!("nothing is told of {name}: {notes:?}"));
    assert!(told.next().is_none(), "{name} is told of twice: {notes:?}");
    &note.reason
}

#[test]
fn ollamas_models_are_served_where_they_lie() {
    let home = Home::new();
    let data = content(LEN);
    let layers = [
        home.layer("model", &data),
        home.layer("template", b"{{ .Prompt }}"),
        home.layer("system", b"Be brief."),
        home.layer("params", br#"{"temperature": 0.5}"#),
    ];
    home.manifest("registry.ollama.ai/library/tiny/1b", &json!({"file_type": "Q8_0"}), &layers);
    home.ollama("hf.co/Org/Repo/Q4_0", &content(LEN + 1));
    let before = home.tree();
    let shared = home.shared();

    let (models, notes) = shared.list();
    assert_eq!((names(&models), notes), (vec!["hf.co/Org/Repo:Q4_0", "tiny:1b"], vec![]));
    let model = shared.find(&name("tiny:1b")).unwrap().unwrap();
    assert_eq!(model, models[1]);
    assert_eq!(model.path, home.path(&format!(".ollama/models/blobs/sha256-{}", sha256(&data))));
    assert_eq!((model.keeper, model.digest.as_deref()), (Keeper::Ollama, Some(&*sha256(&data))));
    assert_eq!(fs::read(&model.path).unwrap(), data);
    assert!(model.path.metadata().unwrap().blocks() > 0);
    // Without a tag: the only one there is. Case means nothing. Other names are other models.
    assert_eq!(found(&shared, "tiny").as_deref(), Some("tiny:1b"));
    assert_eq!(found(&shared, "HF.co/org/REPO:q4_0").as_deref(), Some("hf.co/Org/Repo:Q4_0"));
    assert_eq!((found(&shared, "tiny:2b"), found(&shared, "small")), (None, None));

    let overlay = shared.overlay(&model).unwrap();
    assert_eq!(overlay.template.as_deref(), Some("{{ .Prompt }}"));
    assert_eq!(overlay.system.as_deref(), Some("Be brief."));
    assert_eq!(overlay.parameters["temperature"], 0.5);
    assert_eq!(home.tree(), before);
}

#[test]
fn what_ollama_has_without_gguf_is_told_of_once() {
    let home = Home::new();
    let tensor = home.layer("tensor", b"weights");
    home.manifest(
        "registry.ollama.ai/library/mlx/4b",
        &json!({"model_format": "safetensors"}),
        &[tensor],
    );
    let cloud = json!({"remote_host": "https://ollama.com:443", "remote_model": "big"});
    home.manifest("registry.ollama.ai/library/big/cloud", &cloud, &[]);
    home.ollama("registry.ollama.ai/library/tiny/1b", b"data");
    let shared = home.shared();
    let (models, notes) = shared.list();
    assert_eq!((names(&models), notes.len()), (vec!["tiny:1b"], 2));
    assert!(reason(&notes, "mlx:4b").contains("in safetensors, not in GGUF"), "{notes:?}");
    assert!(reason(&notes, "big:cloud").contains("runs on https://ollama.com"), "{notes:?}");
    let e = shared.find(&name("big:cloud")).unwrap_err();
    assert!(e.to_string().starts_with("Ollama has 'big:cloud', but"), "{e}");
}

#[test]
fn hobs_own_store_is_not_another_ones() {
    let home = Home::new();
    home.ollama("registry.ollama.ai/library/tiny/1b", b"data");
    let root = home.path(".ollama/models");
    let alias = home.path("alias");
    link(&root, &alias);
    let manifests_only = home.path("mixed");
    link(&root.join("manifests"), &manifests_only.join("manifests"));
    let count = |own: &Path| {
        let own = own.to_str().unwrap();
        let var = |name: &str| (name == "HOB_HOME").then(|| own.to_owned());
        Shared::from_env(&var, Some(home.0.path().to_owned())).list().0.len()
    };
    for own in [&root, &alias, &manifests_only] {
        assert_eq!(count(own), 0, "{}", own.display());
    }
    let other = home.path("hob");
    assert_eq!((count(&other), other.exists()), (1, false));
    home.write(".ollama/models/manifests/registry.ollama.ai/library/broken/1b", b"{");
    let places = Places { ollama: vec![root, alias], ..Places::default() };
    let (models, notes) = Shared::at(places).list();
    assert_eq!((models.len(), notes.len()), (1, 1));
}

#[test]
fn damage_in_ollamas_store_hides_nothing_else() {
    let home = Home::new();
    let data = content(LEN);
    home.ollama("registry.ollama.ai/library/sound/1b", &data);
    let library = ".ollama/models/manifests/registry.ollama.ai/library";
    let sound = fs::read_to_string(home.path(&format!("{library}/sound/1b"))).unwrap();
    let escape = sound.replace(&sha256(&data), "../../../../etc/passwd");
    for (bad, text) in [("empty", ""), ("half", &sound[..60]), ("list", "[]"), ("escape", &escape)]
    {
        home.write(&format!("{library}/{bad}/1b"), text.as_bytes());
    }
    let short = home.ollama("registry.ollama.ai/library/short/1b", b"as it was");
    home.write(&format!(".ollama/models/blobs/sha256-{}", sha256(b"as it was")), b"cut");
    home.ollama("registry.ollama.ai/library/gone/1b", b"gone");
    fs::remove_file(home.path(&format!(".ollama/models/blobs/sha256-{}", sha256(b"gone"))))
        .unwrap();
    home.write(&format!("{library}/stray"), b"no folder");
    home.write(&format!("{library}/deep/1b/too/deep"), b"");
    link(Path::new("loop"), &home.path(&format!("{library}/loop")));
    link(Path::new(".."), &home.path(&format!("{library}/up")));
    link(Path::new("/dev/zero"), &home.path(&format!("{library}/endless/1b")));
    let before = home.tree();
    let shared = home.shared();

    let (models, notes) = shared.list();
    assert_eq!(names(&models), ["sound:1b"]);
    for bad in ["empty:1b", "half:1b", "list:1b", "escape:1b"] {
        assert!(reason(&notes, bad).contains("malformed"), "{notes:?}");
        assert!(matches!(shared.find(&name(bad)), Err(HubError::Unusable { .. })));
    }
    assert!(reason(&notes, "short:1b").contains("has 3 bytes and should have 9"), "{notes:?}");
    assert!(reason(&notes, "gone:1b").contains("is missing"), "{notes:?}");
    assert!(short.exists());
    assert_eq!(found(&shared, "sound").as_deref(), Some("sound:1b"));
    assert_eq!(found(&shared, "endless:1b"), None);
    assert_eq!(home.tree(), before);
}

/// Whether this process is kept out of a folder without permissions; the superuser is not.
fn close(folder: &Path, mode: u32) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    match mode {
        0 => fs::read_dir(folder).is_err(),
        _ => true,
    }
}

#[test]
fn closed_folders_are_told_of_and_hide_no_others() {
    let home = Home::new();
    home.ollama("registry.ollama.ai/library/open/1b", b"a");
    home.ollama("registry.ollama.ai/library/closed/1b", b"b");
    home.write(".lmstudio/models/org/open/m-Q4_0.gguf", b"c");
    home.write(".lmstudio/models/org/closed/m-Q4_0.gguf", b"d");
    let folders = [
        home.path(".ollama/models/manifests/registry.ollama.ai/library/closed"),
        home.path(".lmstudio/models/org/closed"),
    ];
    let kept_out = folders.iter().all(|folder| close(folder, 0));
    let (models, notes) = home.shared().list();
    for folder in &folders {
        close(folder, 0o755);
    }
    if !kept_out {
        eprintln!("skipped: nothing is closed to this user");
        return;
    }
    assert_eq!(names(&models), ["hf.co/org/open:Q4_0", "open:1b"]);
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[test]
fn folders_that_may_not_be_written_to_serve_as_well() {
    let home = Home::new();
    home.ollama("registry.ollama.ai/library/tiny/1b", b"a");
    home.write(".lmstudio/models/org/studio/m-Q4_0.gguf", b"b");
    home.cached(COMMIT, "m-Q8_0.gguf", b"c");
    let folders: Vec<PathBuf> =
        home.tree().into_keys().filter(|p| p.is_dir() && !p.is_symlink()).collect();
    folders.iter().for_each(|folder| assert!(close(folder, 0o555)));
    let before = home.tree();
    let (models, notes) = home.shared().list();
    let read = models.iter().all(|model| fs::read(&model.path).unwrap().len() == 1);
    let after = home.tree();
    folders.iter().for_each(|folder| assert!(close(folder, 0o755)));
    assert_eq!((models.len(), notes, read, before == after), (3, vec![], true, true));
}

#[test]
fn lm_studios_files_are_models_of_their_repositories() {
    let home = Home::new();
    let repo = ".lmstudio/models/org/Repo-GGUF";
    let whole = home.write(&format!("{repo}/M-Q4_K_M.gguf"), b"four");
    let tower = home.write(&format!("{repo}/mmproj-M-F16.gguf"), b"tower");
    home.write(&format!("{repo}/M-Q8_0-00001-of-00002.gguf"), b"eight");
    home.write(&format!("{repo}/M-Q8_0-00002-of-00002.gguf"), b"more");
    home.write(&format!("{repo}/M-BF16-00001-of-00002.gguf"), b"half");
    home.write(&format!("{repo}/downloading_M-Q2_K.gguf.part"), b"part");
    home.write(&format!("{repo}/.hidden-Q2_K.gguf"), b"hidden");
    home.write(&format!("{repo}/README.md"), b"text");
    home.write(".lmstudio/models/org/two/a-1b-Q5_K_M.gguf", b"a");
    home.write(".lmstudio/models/org/two/b-3b-Q5_K_M.gguf", b"b");
    home.write(".lmstudio/models/org/odd name/m-Q4_0.gguf", b"odd");
    home.write(".lmstudio/models/loose-Q4_0.gguf", b"loose");
    home.write(".lmstudio/hub/models/org/meta/manifest.json", b"{}");
    home.ollama("registry.ollama.ai/library/tiny/1b", b"ollamas");
    let blob = home.path(&format!(".ollama/models/blobs/sha256-{}", sha256(b"ollamas")));
    link(&blob, &home.path(".lmstudio/models/org/linked/t-Q8_0.gguf"));
    link(Path::new("."), &home.path(".lmstudio/models/org/again"));
    link(Path::new("gone"), &home.path(".lmstudio/models/org/broken/m-Q4_0.gguf"));
    link(Path::new("m-Q4_0.gguf"), &home.path(".lmstudio/models/org/loop/m-Q4_0.gguf"));
    let before = home.tree();
    let shared = home.shared();

    let (models, notes) = shared.list();
    let studio: Vec<_> = models.into_iter().filter(|m| m.keeper == Keeper::LmStudio).collect();
    assert_eq!(
        names(&studio),
        [
            "hf.co/org/linked:Q8_0",
            "hf.co/org/Repo-GGUF:Q4_K_M",
            "hf.co/org/Repo-GGUF:Q8_0",
            "hf.co/org/two:a-1b-Q5_K_M.gguf",
            "hf.co/org/two:b-3b-Q5_K_M.gguf",
        ]
    );
    assert!(reason(&notes, "odd name").contains("give its path"), "{notes:?}");
    assert_eq!(studio[0].digest.as_deref(), Some(&*sha256(b"ollamas")));
    assert_eq!((inode(&studio[1].path), &studio[1].digest), (inode(&whole), &None));
    assert_eq!((studio[2].parts.len(), studio[2].bytes), (2, 9));
    let model = shared.find(&name("hf.co/org/repo-gguf:q4_k_m")).unwrap().unwrap();
    assert_eq!(model, studio[1]);
    assert_eq!(
        shared.overlay(&model).unwrap(),
        Overlay { projector: Some(tower), ..Overlay::default() }
    );
    assert_eq!(
        shared.find(&name("hf.co/org/Repo-GGUF:M-Q8_0")).unwrap().as_ref(),
        Some(&studio[2])
    );
    assert_eq!(found(&shared, "hf.co/org/linked").as_deref(), Some("hf.co/org/linked:Q8_0"));
    assert_eq!(found(&shared, "hf.co/org/linked:latest").as_deref(), Some("hf.co/org/linked:Q8_0"));
    for absent in ["hf.co/org/Repo-GGUF:Q2_K", "hf.co/org/none", "modelscope.cn/org/linked:Q8_0"] {
        assert_eq!(found(&shared, absent), None, "{absent}");
    }
    for (bad, why) in [("Repo-GGUF:BF16", "1 are missing"), ("two:Q5_K_M", "give the file's name")]
    {
        let e = shared.find(&name(&format!("hf.co/org/{bad}"))).unwrap_err().to_string();
        assert!(e.contains(why) && e.starts_with("LM Studio has"), "{e}");
    }
    assert_eq!(home.tree(), before);
}

#[test]
fn the_cache_of_hugging_face_is_served_where_it_lies() {
    let home = Home::new();
    let repo = ".cache/huggingface/hub/models--org--repo";
    let data = content(LEN);
    let pointer = home.cached(COMMIT, "m-Q4_K_M.gguf", &data);
    home.cached(OLDER, "m-Q4_K_M.gguf", b"as it was before");
    home.cached(OLDER, "Q8_0/m-Q8_0-00001-of-00002.gguf", b"one");
    home.cached(OLDER, "Q8_0/m-Q8_0-00002-of-00002.gguf", b"two");
    let tower = home.cached(COMMIT, "mmproj-F16.gguf", b"tower");
    home.write(&format!("{repo}/refs/main"), COMMIT.as_bytes());
    home.write(&format!("{repo}/blobs/{}.incomplete", sha256(b"x")), b"half");
    // On systems without links the files themselves are in the snapshot.
    home.write(".cache/huggingface/hub/models--org--plain/snapshots/c/m-Q6_K.gguf", b"plain");
    for other in
        ["datasets--org--repo", "models--gpt2", "models--org--", "models----x", "version.txt"]
    {
        home.write(&format!(".cache/huggingface/hub/{other}/snapshots/c/m-Q6_K.gguf"), b"other");
    }
    let before = home.tree();
    let shared = home.shared();

    let (models, notes) = shared.list();
    let expected = ["hf.co/org/plain:Q6_K", "hf.co/org/repo:Q4_K_M", "hf.co/org/repo:Q8_0"];
    assert_eq!((names(&models), notes), (expected.to_vec(), vec![]));
    let model = &models[1];
    assert_eq!(
        (&model.path, inode(&model.path)),
        (&pointer, inode(&home.path(&format!("{repo}/blobs/{}", sha256(&data)))))
    );
    assert_eq!(
        (model.keeper, model.digest.as_deref()),
        (Keeper::HuggingFace, Some(&*sha256(&data)))
    );
    assert_eq!(model.facts.as_ref().unwrap().recipe, "Q4_K_M");
    assert_eq!(fs::read(&model.path).unwrap(), data);
    assert_eq!(shared.find(&name("hf.co/org/repo:Q4_K_M")).unwrap().as_ref(), Some(model));
    assert_eq!(shared.overlay(model).unwrap().projector, Some(tower));
    assert_eq!(shared.overlay(&models[2]).unwrap().projector, None);
    assert_eq!((models[2].parts.len(), models[2].bytes, &models[0].digest), (2, 6, &None));
    assert_eq!(home.tree(), before);
}

#[test]
fn a_hostile_cache_hides_nothing_else_and_leads_nowhere() {
    let home = Home::new();
    home.cached(COMMIT, "m-Q4_0.gguf", b"sound");
    let secret = home.write("secret", b"secret");
    let hub = home.path(".cache/huggingface/hub");
    let snapshot = hub.join(format!("models--org--repo/snapshots/{COMMIT}"));
    link(&secret, &snapshot.join("out-Q8_0.gguf"));
    link(Path::new("../../../../../../secret"), &snapshot.join("up-Q6_K.gguf"));
    link(Path::new("../../blobs/gone"), &snapshot.join("gone-Q5_0.gguf"));
    link(Path::new("self-Q5_1.gguf"), &snapshot.join("self-Q5_1.gguf"));
    link(Path::new("."), &snapshot.join("again"));
    link(Path::new("/dev"), &snapshot.join("dev"));
    fs::create_dir_all(snapshot.join("a/b/c/d/e/f")).unwrap();
    fs::create_dir_all(snapshot.join("folder-Q3_K.gguf")).unwrap();
    fs::write(snapshot.join("a/b/c/d/e/deep-Q2_K.gguf"), b"deep").unwrap();
    let half = home.write(".cache/huggingface/hub/models--org--repo/blobs/x.incomplete", b"half");
    link(&half, &snapshot.join("half-Q4_1.gguf"));
    home.write(".cache/huggingface/hub/models--org--repo/refs/main", &[0xff; 5000]);
    link(Path::new("models--org--round"), &hub.join("models--org--round"));
    link(Path::new("/dev/zero"), &hub.join("models--org--zero/refs/main"));
    // Nobody writes to these pipes.
    let piped = hub.join("models--org--pipe/refs");
    fs::create_dir_all(&piped).unwrap();
    for pipe in [piped.join("main"), snapshot.join("pipe-IQ1_S.gguf")] {
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    }
    let before = home.tree();
    let shared = home.shared();
    let (models, notes) = shared.list();
    assert_eq!(names(&models), ["hf.co/org/repo:Q4_0"]);
    for out in ["out-Q8_0.gguf", "up-Q6_K.gguf"] {
        assert!(reason(&notes, out).contains("outside of the cache"), "{notes:?}");
    }
    for refused in ["Q8_0", "Q6_K", "Q5_0", "Q5_1", "Q4_1", "Q3_K", "Q2_K", "IQ1_S"] {
        assert_eq!(found(&shared, &format!("hf.co/org/repo:{refused}")), None, "{refused}");
    }
    assert_eq!(home.tree(), before);
}

#[test]
fn one_name_is_one_model_ollamas_first() {
    let home = Home::new();
    home.cached(COMMIT, "m-Q4_0.gguf", b"cached");
    let shared = home.shared();
    let keeper = || {
        let (models, notes) = shared.list();
        assert_eq!((models.len(), notes), (1, vec![]));
        let found = shared.find(&name("hf.co/org/repo:Q4_0")).unwrap().unwrap();
        assert_eq!(found, models[0]);
        found.keeper
    };
    assert_eq!(keeper(), Keeper::HuggingFace);
    home.write(".lmstudio/models/Org/repo/m-Q4_0.gguf", b"studio");
    assert_eq!(keeper(), Keeper::LmStudio);
    home.ollama("hf.co/org/repo/Q4_0", b"ollama");
    assert_eq!(keeper(), Keeper::Ollama);
    // A damaged one gives way.
    home.write(&format!(".ollama/models/blobs/sha256-{}", sha256(b"ollama")), b"cut");
    assert_eq!(shared.list().0[0].keeper, Keeper::LmStudio);
    let found = shared.find(&name("hf.co/org/repo:Q4_0")).unwrap().unwrap();
    assert_eq!(found.keeper, Keeper::LmStudio);
}

fn place<'a>(digest: &str, path: &'a str) -> Place<'a> {
    let digest = digest.parse().unwrap();
    Place { repository: "org/repo", commit: COMMIT, revision: "main", path, digest }
}

#[test]
fn what_is_put_into_the_cache_is_found_there_and_stored_once() {
    let home = Home::new();
    let data = content(LEN);
    let file = home.write(".hob/blobs/file", &data);
    let cache = Cache::from_env(&|_| None, Some(home.0.path())).unwrap();
    let digest = sha256(&data);
    let place = place(&digest, "sub/m-Q8_0.gguf");
    let pointer = cache.add(&place, &file, &mut || ()).unwrap();
    let repo = home.path(".cache/huggingface/hub/models--org--repo");
    assert_eq!(pointer, repo.join(format!("snapshots/{COMMIT}/sub/m-Q8_0.gguf")));
    assert_eq!(fs::read_link(&pointer).unwrap(), Path::new(&format!("../../../blobs/{digest}")));
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(inode(&pointer), inode(&file));
    let tree = home.tree();
    assert_eq!(cache.add(&place, &file, &mut || ()).unwrap(), pointer);
    assert_eq!(home.tree(), tree, "what is there is not written again");
    let model = home.shared().find(&name("hf.co/org/repo:Q8_0")).unwrap().unwrap();
    assert_eq!((model.path, model.digest), (pointer.clone(), Some(digest.clone())));

    // A commit needs no reference; a blob that was cut is replaced, a link that leads astray too.
    fs::remove_file(repo.join("refs/main")).unwrap();
    fs::remove_file(repo.join("blobs").join(&digest)).unwrap();
    fs::write(repo.join("blobs").join(&digest), b"cut").unwrap();
    fs::remove_file(&pointer).unwrap();
    link(Path::new("/etc/passwd"), &pointer);
    cache.add(&Place { revision: COMMIT, ..place }, &file, &mut || ()).unwrap();
    assert_eq!((inode(&pointer), names_in(&repo.join("refs"))), (inode(&file), vec![]));
    assert_eq!(names_in(&repo.join("blobs")), [digest]);
}

#[test]
fn across_file_systems_the_cache_has_a_copy() {
    let home = Home::new();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    let elsewhere = TempDir::new_in("/dev/shm").ok();
    let elsewhere = elsewhere.filter(|e| device(e.path()) != device(home.0.path()));
    let Some(elsewhere) = elsewhere else {
        eprintln!("skipped: there is one file system only");
        return;
    };
    let data = content(LEN);
    let file = elsewhere.path().join("blob");
    fs::write(&file, &data).unwrap();
    let digest = sha256(&data);
    let cache = Cache::at(home.path("hub"));
    let pointer = cache.add(&place(&digest, "m.gguf"), &file, &mut || ()).unwrap();
    assert_eq!((fs::read(&pointer).unwrap(), fs::read(&file).unwrap()), (data.clone(), data));
    assert_eq!(names_in(&home.path("hub/models--org--repo/blobs")), [digest]);
}

#[test]
fn the_cache_waits_for_whoever_holds_its_lock() {
    let home = Home::new();
    let file = home.write("file", b"data");
    let digest = sha256(b"data");
    let lock = home.write(&format!("hub/.locks/models--org--repo/{digest}.lock"), b"");
    let held = fs::File::open(&lock).unwrap();
    held.lock().unwrap();
    let (mut waits, mut held) = (0, Some(held));
    let cache = Cache::at(home.path("hub"));
    let waiting = &mut || {
        waits += 1;
        held = None;
    };
    cache.add(&place(&digest, "m.gguf"), &file, waiting).unwrap();
    assert_eq!(waits, 1);
}

#[test]
fn the_cache_takes_nothing_that_leads_elsewhere() {
    let home = Home::new();
    let file = home.write("file", b"data");
    let digest = sha256(b"data");
    let sound = place(&digest, "m.gguf");
    let cache = Cache::at(home.path("hub"));
    for bad in [
        Place { repository: "../up", ..sound },
        Place { repository: "a/b/c", ..sound },
        Place { repository: "a--b/c", ..sound },
        Place { commit: "main", ..sound },
        Place { commit: "../../../../../../../../../../../../../../..", ..sound },
        Place { revision: "../main", ..sound },
        Place { revision: "", ..sound },
        Place { path: "../../../m.gguf", ..sound },
        Place { path: "/etc/m.gguf", ..sound },
    ] {
        let refused = cache.add(&bad, &file, &mut || ());
        assert!(matches!(refused, Err(HubError::BadName { .. })), "{bad:?}");
    }
    assert!(!home.path("hub").exists());
}

#[test]
fn nothing_there_is_nothing_found() {
    let home = Home::new();
    let shared = home.shared();
    assert_eq!(shared.list(), (vec![], vec![]));
    assert_eq!(found(&shared, "hf.co/org/repo:Q4_0"), None);
    assert_eq!(found(&Shared::at(Places::default()), "tiny"), None);
    assert_eq!(fs::read_dir(home.0.path()).unwrap().count(), 0);
}
