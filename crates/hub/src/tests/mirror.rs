//! A hub with one repository, `org/repo`, that speaks as much of Hugging Face's and ModelScope's protocols as their own Python clients
//! need to download it. `peers` shows that they do.

use serde_json::{Value, json};

use super::sha256;
use super::wire::{Call, Said, Wire};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Files of a page in Hugging Face's listing: few, so that there are pages.
const PAGE: usize = 2;

/// Starts a hub whose repository has these files. Names ending in `.gguf` are large ones, kept outside of Git.
pub fn mirror(files: &[(&str, &[u8])]) -> Wire {
    let files: Vec<(String, Vec<u8>)> =
        files.iter().map(|(path, data)| ((*path).to_owned(), data.to_vec())).collect();
    Wire::start(move |call| {
        let path = call.path.as_str();
        if let Some(revision) = path.strip_prefix("/api/models/org/repo/revision/") {
            return known(revision, || info(&files));
        }
        if let Some(revision) = path.strip_prefix("/api/models/org/repo/tree/") {
            return known(revision, || tree(call, &files));
        }
        if let Some(rest) = path.strip_prefix("/org/repo/resolve/") {
            let (revision, file) = rest.split_once('/').unwrap();
            return known(revision, || resolve(call, file, &files));
        }
        if let Some(rest) = path.strip_prefix("/models/org/repo/resolve/master/") {
            return sent(call, rest, &files);
        }
        match path {
            "/api/models/org/repo" => info(&files),
            "/api/v1/models/org/repo" => scope(json!({"Name": "repo", "Path": "org"})),
            "/api/v1/models/org/repo/revisions" => scope(json!({"RevisionMap":
                {"Branches": [{"Revision": "master", "CreatedAt": 1}], "Tags": []}})),
            "/api/v1/models/org/repo/repo/files" => {
                scope(json!({"Files": scope_files(&files), "IsVisual": 0}))
            }
            "/api/v1/models/org/repo/repo" => {
                sent(call, &call.parameter("FilePath").unwrap(), &files)
            }
            _ => match path.strip_prefix("/storage/") {
                Some(digest) => stored(call, digest, &files),
                None => Said::status(404).header("X-Error-Code", "RepoNotFound"),
            },
        }
    })
}

type Files = [(String, Vec<u8>)];

fn known(revision: &str, said: impl Fn() -> Said) -> Said {
    match revision {
        "main" | COMMIT => said().header("X-Repo-Commit", COMMIT),
        _ => Said::status(404).header("X-Error-Code", "RevisionNotFound"),
    }
}

fn info(files: &Files) -> Said {
    let siblings: Vec<Value> = files.iter().map(|(path, _)| json!({"rfilename": path})).collect();
    Said::json(
        json!({"_id": "1", "id": "org/repo", "modelId": "org/repo", "sha": COMMIT, "private": false, "gated": false,
        "disabled": false, "tags": ["gguf"], "downloads": 1, "likes": 0, "siblings": siblings}),
    )
}

/// Digest in Git of something: only its length matters here.
fn git_digest(data: &[u8]) -> String {
    sha256(data)[..40].to_owned()
}

fn tree(call: &Call, files: &Files) -> Said {
    let from: usize = call.parameter("cursor").map_or(0, |c| c.parse().unwrap());
    let entry = |(path, data): &(String, Vec<u8>)| {
        let mut entry =
            json!({"type": "file", "oid": git_digest(data), "size": data.len(), "path": path});
        if path.ends_with(".gguf") {
            entry["lfs"] = json!({"oid": sha256(data), "size": data.len(), "pointerSize": 134});
        }
        entry
    };
    let page: Vec<Value> = files.iter().skip(from).take(PAGE).map(entry).collect();
    let said = Said::json(page);
    match from + PAGE < files.len() {
        true => {
            let (host, path) = (call.header("host"), &call.path);
            let next = format!(
                "<http://{host}{path}?recursive=true&cursor={}>; rel=\"next\"",
                from + PAGE
            );
            said.header("Link", next)
        }
        false => said,
    }
}

fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8().unwrap().into_owned()
}

fn resolve(call: &Call, path: &str, files: &Files) -> Said {
    let path = decoded(path);
    let Some((_, data)) = files.iter().find(|(p, _)| *p == path) else {
        return Said::status(404).header("X-Error-Code", "EntryNotFound");
    };
    if !path.ends_with(".gguf") {
        return Said::bytes(call, data).header("ETag", format!("\"{}\"", git_digest(data)));
    }
    let digest = sha256(data);
    // Storage is another host for clients, which follow the hub's own redirects and keep those to others.
    let host = call.header("host").replace("127.0.0.1", "localhost");
    let storage = format!("http://{host}/storage/{digest}");
    Said::redirect(&storage)
        .header("X-Linked-Size", data.len().to_string())
        .header("X-Linked-Etag", format!("\"{digest}\""))
}

fn stored(call: &Call, digest: &str, files: &Files) -> Said {
    match files.iter().find(|(_, data)| sha256(data) == digest) {
        Some((_, data)) => Said::bytes(call, data).header("ETag", format!("\"{digest}\"")),
        None => Said::status(404),
    }
}

/// An answer as ModelScope wraps it.
fn scope(data: Value) -> Said {
    Said::json(
        json!({"Code": 200, "Data": data, "Message": "success", "RequestId": "r", "Success": true}),
    )
}

fn scope_files(files: &Files) -> Vec<Value> {
    let file = |(path, data): &(String, Vec<u8>)| {
        let name = path.rsplit('/').next();
        json!({"Name": name, "Path": path, "Type": "blob", "Size": data.len(), "IsLFS": path.ends_with(".gguf"),
            "Sha256": sha256(data), "Revision": COMMIT, "CommittedDate": 1})
    };
    files.iter().map(file).collect()
}

fn sent(call: &Call, path: &str, files: &Files) -> Said {
    let path = decoded(path);
    match files.iter().find(|(p, _)| *p == path) {
        Some((_, data)) => Said::bytes(call, data),
        None => Said::json(json!({"Code": 404, "Message": "no such file", "Success": false}))
            .with_status(404),
    }
}
