//! Files that come before the model they are for, and transfers that are told to stop.

use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

use super::*;
use crate::{Creation, Overlay, Stop};

fn received(hub: &Hub, data: &[u8]) -> String {
    let digest = format!("sha256:{}", sha256(data));
    let mut upload = hub.upload(&digest, Some(data.len() as u64)).unwrap();
    for piece in data.chunks(1000) {
        upload.write(piece).unwrap();
    }
    upload.finish().unwrap();
    digest
}

fn empty(root: &Path) -> Hub {
    hub(root, b"", &[], "http://127.0.0.1:9")
}

fn aged(path: &Path, age: Duration) {
    let times = FileTimes::new().set_modified(SystemTime::now() - age);
    File::options().write(true).open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn an_upload_waits_for_its_model_and_becomes_its_blob() {
    let dir = tempfile::tempdir().unwrap();
    let hub = empty(dir.path());
    let data = content(5000);
    let digest = received(&hub, &data);
    let path = hub.blob(&digest).unwrap().unwrap();
    assert_eq!(path.parent().unwrap().file_name().unwrap(), "uploads");
    assert_eq!(hub.gc(true).unwrap(), []);
    let base = LocalModel::file("upload", &path).unwrap();
    let creation = Creation { base, overlay: Overlay::default(), requires: None };
    let mut events = Vec::new();
    let made = hub.create("mine", &creation, &|_| None, &mut |e| events.push(e)).unwrap();
    assert_eq!(made.digest, Some(sha256(&data)));
    assert!(fs::read(&made.path).unwrap() == data);
    assert!(names_in(&dir.path().join("uploads")).is_empty());
    assert!(hub.blob(&digest).unwrap().unwrap() == made.path);
    // Its name had been held against its bytes before, so they were not read again, and it is sealed.
    hub.check(&made, &mut |e| panic!("{e:?}")).unwrap();
    assert!(!events.iter().any(|e| matches!(e, Progress::Verifying { .. })), "{events:?}");
}

#[test]
fn an_upload_is_what_was_announced_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hub = empty(dir.path());
    let digest = format!("sha256:{}", sha256(b"right"));
    let mut upload = hub.upload(&digest, None).unwrap();
    upload.write(b"wrong").unwrap();
    assert!(matches!(upload.finish(), Err(HubError::WrongDigest { .. })));
    let mut upload = hub.upload(&digest, None).unwrap();
    upload.write(b"rig").unwrap();
    drop(upload);
    assert_eq!(hub.blob(&digest).unwrap(), None);
    assert!(names_in(&dir.path().join("tmp")).is_empty());
    for bad in ["", "sha256:", "md5:00", &sha256(b"x"), "sha256:../../x"] {
        assert!(matches!(hub.blob(bad), Err(HubError::BadDigest { .. })), "{bad}");
        assert!(matches!(hub.upload(bad, None), Err(HubError::BadDigest { .. })), "{bad}");
    }
    assert!(matches!(hub.upload(&digest, Some(u64::MAX)), Err(HubError::NoSpace { .. })));
}

#[test]
fn an_upload_that_nobody_wants_goes_after_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let hub = empty(dir.path());
    let (young, old) = (received(&hub, b"young"), received(&hub, b"old"));
    let path = hub.blob(&old).unwrap().unwrap();
    aged(&path, Duration::from_secs(25 * 3600));
    let gone = hub.gc(false).unwrap();
    assert_eq!(
        gone.iter().map(|g| (g.path.clone(), g.kind)).collect::<Vec<_>>(),
        [(path, "upload")]
    );
    assert!(hub.blob(&young).unwrap().is_some() && hub.blob(&old).unwrap().is_none());
}

#[test]
fn files_are_gathered_under_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let hub = empty(dir.path());
    let digest = received(&hub, b"text");
    let file = |name: &str| (name.to_owned(), digest.clone());
    let gathered = hub.gather(&[file("a/b.json"), file("c")]).unwrap();
    assert_eq!(gathered.files(), [gathered.folder().join("b.json"), gathered.folder().join("c")]);
    assert!(fs::read(&gathered.files()[0]).unwrap() == b"text");
    drop(gathered);
    assert!(names_in(&dir.path().join("tmp")).is_empty());
    for bad in [&[file("x"), file("y/x")][..], &[file("..")], &[file("")]] {
        assert!(matches!(hub.gather(bad), Err(HubError::NotImportable { .. })), "{bad:?}");
    }
}

#[test]
fn a_pull_that_is_told_to_stop_does() {
    let dir = tempfile::tempdir().unwrap();
    let data = content(300_000);
    let served = data.clone();
    let server = server::Server::start(move |request| server::Reply::proper(request, &served));
    let hub = hub(dir.path(), &data, &[hugging_face()], &server.url);
    let stop = Stop::default();
    let asking = stop.clone();
    let stopped = hub.until(&stop).pull("tiny", &Wishes::plain(), &mut |event| {
        if matches!(event, Progress::File { .. }) {
            asking.ask();
        }
    });
    assert!(matches!(stopped, Err(HubError::Stopped)), "{stopped:?}");
    assert_empty(&hub);
    // The hub itself goes on.
    let (model, _) = pull(&hub);
    assert_stored(&hub, &model.unwrap(), &data);
}

#[test]
fn what_a_stranger_names_is_no_path() {
    let dir = tempfile::tempdir().unwrap();
    let hub = empty(&dir.path().join("home"));
    let file = dir.path().join("m.gguf");
    fs::write(&file, b"x").unwrap();
    let path = file.to_str().unwrap();
    assert!(hub.pull(path, &Wishes::plain(), &mut |_| ()).is_ok());
    let named = hub.pull_named(path, &Wishes::plain(), &mut |_| ());
    assert!(matches!(named, Err(HubError::BadName { .. })), "{named:?}");
}
