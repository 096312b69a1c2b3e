//! The hostile servers: one `Case` each, with what has to come of a pull from it and how often it may be asked at most.
//! Two hosts take part: the hub (at once Hugging Face, ModelScope, a registry and a plain server) and `elsewhere`, to which no secret may go.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::wire::{Call, Said};
use super::super::{content, sha256};
use crate::manifest::CONFIG_TYPE;

/// Several parts of the usual size.
pub const LEN: usize = 9_000_001;
const SMALL: usize = 50_000;
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const MODEL_TYPE: &str = "application/vnd.ollama.image.model";

/// What has to come of a pull.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The model, with this content.
    Right(Vec<u8>),
    /// An error with these words in it, and no model.
    Error(&'static str),
}

type Hub = Arc<dyn Fn(&Call, &str) -> Said + Send + Sync>;
type Elsewhere = Arc<dyn Fn(&Call) -> Said + Send + Sync>;
/// Told the store's folder and the one beside it.
type Before = Arc<dyn Fn(&Path, &Path) + Send + Sync>;

/// One pull from a hostile server.
pub struct Case {
    pub name: String,
    /// What is pulled; `{hub}` stands for the hub's host and port.
    pub reference: &'static str,
    /// The hub's answers; it is told the address of `elsewhere`.
    pub hub: Hub,
    pub elsewhere: Elsewhere,
    pub outcome: Outcome,
    /// Most requests at both hosts.
    pub most: usize,
    /// Whether `elsewhere` may be asked at all.
    pub leaves: bool,
    /// What lies in the store before, and in the folder beside it.
    pub before: Before,
}

const FROM_HUGGING_FACE: &str = "hf.co/org/repo:Q8_0";
const FROM_MODEL_SCOPE: &str = "modelscope.cn/org/repo:Q8_0";
const FROM_REGISTRY: &str = "me/mine:v1";
const FROM_ADDRESS: &str = "http://{hub}/f.gguf";

impl Case {
    fn new(
        name: impl Into<String>,
        reference: &'static str,
        most: usize,
        outcome: Outcome,
        hub: impl Fn(&Call, &str) -> Said + Send + Sync + 'static,
    ) -> Case {
        Case {
            name: name.into(),
            reference,
            hub: Arc::new(hub),
            elsewhere: Arc::new(|_| Said::status(404)),
            outcome,
            most,
            leaves: false,
            before: Arc::new(|_, _| ()),
        }
    }

    fn elsewhere(mut self, answer: impl Fn(&Call) -> Said + Send + Sync + 'static) -> Case {
        (self.elsewhere, self.leaves) = (Arc::new(answer), true);
        self
    }

    fn before(mut self, before: impl Fn(&Path, &Path) + Send + Sync + 'static) -> Case {
        self.before = Arc::new(before);
        self
    }
}

fn right() -> Outcome {
    Outcome::Right(content(LEN))
}

/// A file of several parts on Hugging Face, whose bytes are asked for with these answers.
fn file(
    name: &str,
    most: usize,
    outcome: Outcome,
    answer: impl Fn(&Call, &[u8], &str) -> Said + Send + Sync + 'static,
) -> Case {
    let data = content(LEN);
    let digest = sha256(&data);
    Case::new(name, FROM_HUGGING_FACE, most, outcome, move |call, elsewhere| {
        match call.path.starts_with("/org/repo/resolve/") {
            true => answer(call, &data, elsewhere),
            false => hugging_face(call, json!([entry("M-Q8_0.gguf", LEN, &digest)])),
        }
    })
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut all = bytes();
    all.extend(troubles());
    all.extend(editions());
    all.extend(redirects());
    all.extend(schemes());
    all.extend(names());
    all.extend(log_ins());
    all.extend(layers());
    all.extend(links());
    all
}

fn hugging_face(call: &Call, tree: Value) -> Said {
    match call.path.as_str() {
        "/api/models/org/repo/revision/main" => Said::json(json!({"sha": COMMIT, "gated": false})),
        path if path.contains("/tree/") => Said::json(tree),
        _ => Said::status(404),
    }
}

fn entry(path: &str, size: usize, digest: &str) -> Value {
    json!({"type": "file", "oid": "b1", "size": size, "path": path,
        "lfs": {"oid": digest, "size": size, "pointerSize": 134}})
}

/// From the start of the range asked for, or from 0.
fn start(call: &Call) -> usize {
    let range = call.header("range").strip_prefix("bytes=").and_then(|r| r.split_once('-'));
    range.and_then(|(from, _)| from.parse().ok()).unwrap_or(0)
}

fn part(data: &[u8], from: usize, to: usize, total: usize) -> Said {
    let told = format!("bytes {from}-{}/{total}", to - 1);
    Said::status(206).header("Content-Range", told).body(&data[from..to])
}

/// Bytes that are wrong, late, too few or too many.
fn bytes() -> Vec<Case> {
    use Outcome::Error;
    vec![
        file("a decent server", 8, right(), |call, data, _| Said::bytes(call, data)),
        file("another part than asked for, sometimes", 14, right(), |call, data, _| {
            match call.earlier % 2 {
                0 => part(data, (start(call) + 7).min(LEN - 1), LEN, LEN),
                _ => Said::bytes(call, data),
            }
        }),
        file("always another part than asked for", 14, Error("another part"), |_, data, _| {
            part(data, 5, LEN, LEN)
        }),
        file("the whole to a request for a part", 8, right(), |_, data, _| {
            Said::status(200).body(data)
        }),
        file("a part that does not say which", 14, Error("gave up"), |_, data, _| {
            Said::status(206).body(data)
        }),
        file("a longer file", 6, Error("expected 9000001"), |call, data, _| {
            part(data, start(call), LEN, LEN + 1)
        }),
        file("a shorter file", 6, Error("expected 9000001"), |_, data, _| {
            Said::status(200).body(&data[..LEN - 1])
        }),
        file("more bytes than announced", 8, right(), |call, data, _| {
            let from = start(call);
            let to = (from + 1000).min(LEN);
            match call.earlier {
                0 => part(data, from, to, LEN).body(&data[from..]),
                _ => Said::bytes(call, data),
            }
        }),
        file("fewer bytes than announced, for ever", 14, Error("gave up"), |call, data, _| {
            Said::bytes(call, data).cut(0)
        }),
        file("silence in the middle", 14, right(), |call, data, _| match call.earlier {
            0 | 1 => Said::bytes(call, data).cut(100_000).stall(Duration::from_secs(90)),
            _ => Said::bytes(call, data),
        }),
        file("the connection breaks after each MB", 18, right(), |call, data, _| {
            Said::bytes(call, data).cut(1_000_000)
        }),
        file("no answer at all", 24, Error("not reachable"), |_, _, _| Said::dead()),
        file("wrong bytes", 8, Error("another file: sha256"), |call, data, _| {
            let mut data = data.to_vec();
            data[LEN / 2] ^= 1;
            Said::bytes(call, &data)
        }),
    ]
}

/// Servers that are in trouble, or say so.
fn troubles() -> Vec<Case> {
    use Outcome::Error;
    let mut all = vec![
        file("a limit that is over after a second", 16, right(), |call, data, _| {
            match call.earlier {
                0 | 1 => Said::status(429).header("Retry-After", "1"),
                _ => Said::bytes(call, data),
            }
        }),
        file("a limit for ever", 14, Error("the server answered 429"), |_, _, _| {
            Said::status(429).header("Retry-After", "0")
        }),
        file("errors for ever", 14, Error("the server answered 500"), |_, _, _| Said::status(500)),
        file("no part can be had", 14, Error("the server answered"), |_, _, _| {
            Said::status(416).header("Content-Range", format!("bytes */{LEN}"))
        }),
    ];
    for status in [401, 403, 404, 410] {
        let error = Error("the server answered");
        all.push(file(&format!("status {status}"), 4, error, move |_, _, _| Said::status(status)));
    }
    all
}

/// Files that are replaced while they are fetched.
fn editions() -> Vec<Case> {
    let tagged = |call: &Call, edition: usize| {
        let mut data = content(LEN);
        data[0] = edition as u8;
        let said = match call.method.as_str() {
            "HEAD" => Said::status(200).body(data),
            _ => Said::bytes(call, &data),
        };
        said.header("ETag", format!("\"{edition}\""))
    };
    let mut second = content(LEN);
    second[0] = 1;
    vec![
        Case::new("the file is replaced once", FROM_ADDRESS, 20, Outcome::Right(second), {
            move |call, _| tagged(call, call.earlier.min(1))
        }),
        Case::new(
            "the file is replaced with every answer",
            FROM_ADDRESS,
            20,
            Outcome::Error("keeps changing"),
            move |call, _| tagged(call, call.earlier),
        ),
        file("the tag changes, the bytes do not", 16, right(), |call, data, _| {
            Said::bytes(call, data).header("ETag", format!("\"{}\"", call.earlier.min(1)))
        }),
    ]
}

/// Redirects that lead astray, and those that must not carry secrets.
fn redirects() -> Vec<Case> {
    let data = content(LEN);
    let copy = data.clone();
    vec![
        file("a loop of redirects", 40, Outcome::Error("redirects more than"), |call, _, _| {
            Said::redirect(&call.path)
        }),
        file("a redirect to another host", 16, right(), |_, _, elsewhere| {
            Said::redirect(&format!("{elsewhere}/storage"))
        })
        .elsewhere(move |call| Said::bytes(call, &data)),
        file("a redirect to user@HOST", 16, right(), |call, _, elsewhere| {
            let (hub, host) = (call.header("host"), elsewhere.trim_start_matches("http://"));
            Said::redirect(&format!("http://{hub}@{host}/storage"))
        })
        .elsewhere(|call| Said::bytes(call, &content(LEN))),
        file("a signed address that expires", 40, right(), |call, _, elsewhere| {
            Said::redirect(&format!("{elsewhere}/storage/{}", call.earlier))
        })
        .elsewhere(move |call| match call.earlier {
            0 => Said::bytes(call, &copy).cut(1_000_000),
            _ => Said::status(403),
        }),
        Case::new(
            "the list of files is elsewhere",
            FROM_HUGGING_FACE,
            8,
            Outcome::Error("no GGUF"),
            |call, elsewhere| match call.path.contains("/tree/") {
                true => Said::redirect(&format!("{elsewhere}/tree")),
                false => hugging_face(call, json!([])),
            },
        )
        .elsewhere(|_| Said::json(json!([]))),
        Case::new(
            "the next page is said to be elsewhere",
            FROM_HUGGING_FACE,
            8,
            Outcome::Error("no GGUF"),
            |call, elsewhere| match (call.path.contains("/tree/"), call.earlier) {
                (true, 0) => {
                    let next = format!("<{elsewhere}/tree?cursor=2>; rel=\"next\"");
                    Said::json(json!([])).header("Link", next)
                }
                _ => hugging_face(call, json!([])),
            },
        ),
    ]
}

/// Redirects to what is no place on the web.
fn schemes() -> Vec<Case> {
    let mut all = Vec::new();
    for (target, error) in [
        ("file:///etc/passwd", "is no address"),
        ("ftp://{}/f", "neither http nor https"),
        ("gopher://{}/", "neither http nor https"),
        ("data:,GGUF", "neither http nor https"),
        ("//", "is no address"),
        ("http:", "neither http nor https"),
    ] {
        let name = format!("a redirect to {}", target.replace("{}", "HOST"));
        all.push(file(&name, 6, Outcome::Error(error), move |_, _, elsewhere| {
            Said::redirect(&target.replace("{}", elsewhere.trim_start_matches("http://")))
        }));
    }
    all
}

/// Names that would lead out of the store, and digests that are none.
fn names() -> Vec<Case> {
    let good = sha256(b"x");
    let mut all = Vec::new();
    for path in [
        "../../up-Q8_0.gguf",
        "/etc/up-Q8_0.gguf",
        "a/../../../up-Q8_0.gguf",
        "a\0b-Q8_0.gguf",
        "a\\..\\b-Q8_0.gguf",
        "C:/up-Q8_0.gguf",
        "C:up-Q8_0.gguf",
        "./up-Q8_0.gguf",
        "a//up-Q8_0.gguf",
        "\u{1b}[2Jup-Q8_0.gguf",
    ] {
        let shown = path.escape_debug().to_string();
        let none = Outcome::Error("no GGUF");
        let (tree, list) = (json!([entry(path, 1, &good)]), json!([scope_file(path, &good)]));
        let name = format!("a file called {shown} on Hugging Face");
        all.push(Case::new(name, FROM_HUGGING_FACE, 4, none.clone(), move |call, _| {
            hugging_face(call, tree.clone())
        }));
        let name = format!("a file called {shown} on ModelScope");
        all.push(Case::new(name, FROM_MODEL_SCOPE, 4, none, move |call, _| scope(call, &list)));
    }
    for digest in digests() {
        let shown = digest.escape_debug();
        let tree = json!([entry("M-Q8_0.gguf", 1, &digest)]);
        let list = json!([scope_file("M-Q8_0.gguf", &digest)]);
        let refused = Outcome::Error("gives no digest");
        let name = format!("the digest '{shown}' on Hugging Face");
        all.push(Case::new(name, FROM_HUGGING_FACE, 4, refused.clone(), move |call, _| {
            hugging_face(call, tree.clone())
        }));
        let name = format!("the digest '{shown}' on ModelScope");
        all.push(Case::new(name, FROM_MODEL_SCOPE, 4, refused, move |call, _| scope(call, &list)));
        let body = manifest_text(&format!("sha256:{digest}"), 1);
        let name = format!("the digest '{shown}' in a registry's manifest");
        let refused = Outcome::Error("refused: ");
        all.push(Case::new(name, FROM_REGISTRY, 2, refused, move |_, _| {
            Said::status(200).body(body.as_str())
        }));
    }
    for reference in ["http://{hub}/%2e%2e", "http://{hub}/..%2f..%2fup.gguf", "hf.co/../up:Q8_0"] {
        let name = format!("the reference {reference}");
        all.push(Case::new(name, reference, 0, Outcome::Error(""), |_, _| Said::status(404)));
    }
    all
}

fn digests() -> Vec<String> {
    let good = sha256(b"x");
    vec![
        good[1..].to_owned(),
        format!("{good}0"),
        "../../../../up".into(),
        "/etc/up".into(),
        format!("..{}", &good[2..]),
        format!("{}\0", &good[1..]),
        format!("{}/", &good[1..]),
        "C:\\up".into(),
    ]
}

fn scope_file(path: &str, sha256: &str) -> Value {
    json!({"Name": "x", "Path": path, "Type": "blob", "Size": 1, "IsLFS": true, "Sha256": sha256, "Revision": COMMIT})
}

fn scope(call: &Call, files: &Value) -> Said {
    match call.path.as_str() {
        "/api/v1/models/org/repo/repo/files" => Said::json(
            json!({"Code": 200, "Data": {"Files": files}, "Message": "success", "Success": true}),
        ),
        _ => Said::status(404),
    }
}

fn manifest_text(digest: &str, size: i64) -> String {
    let config = format!("sha256:{}", sha256(b"{}"));
    json!({"schemaVersion": 2, "config": {"mediaType": CONFIG_TYPE, "digest": config, "size": 2},
        "layers": [{"mediaType": MODEL_TYPE, "digest": digest, "size": size}]})
    .to_string()
}

/// A registry with one small model; blobs as `blob` answers.
fn registry(call: &Call, data: &[u8], blob: impl Fn(&Call, &[u8]) -> Said) -> Said {
    let digest = format!("sha256:{}", sha256(data));
    match call.path.strip_prefix("/v2/me/mine/") {
        Some("manifests/v1") => Said::status(200).body(manifest_text(&digest, data.len() as i64)),
        Some(path) if path == format!("blobs/{digest}") => blob(call, data),
        Some(path) if path.starts_with("blobs/") => blob(call, b"{}"),
        _ => Said::status(404),
    }
}

/// Asks for a token, which it gives, before it answers.
fn guarded(call: &Call, realm: &str, inner: impl Fn(&Call) -> Said) -> Said {
    if call.path == "/token" {
        return Said::json(json!({"token": "registry-secret"}));
    }
    if call.header("authorization") == "Bearer registry-secret" {
        return inner(call);
    }
    let challenge =
        format!("Bearer realm=\"{realm}\",service=\"r\",scope=\"repository:me/mine:pull\"");
    Said::status(401).header("WWW-Authenticate", challenge)
}

fn own(call: &Call) -> String {
    format!("http://{}/token", call.header("host"))
}

fn case(name: &str, most: usize, outcome: Outcome, hub: fn(&Call, &str) -> Said) -> Case {
    Case::new(name, FROM_REGISTRY, most, outcome, hub)
}

/// Registries that want to know who is there.
fn log_ins() -> Vec<Case> {
    vec![
        case("a registry that asks for a token", 12, Outcome::Right(content(SMALL)), |call, _| {
            guarded(call, &own(call), |call| registry(call, &content(SMALL), Said::bytes))
        }),
        case("log-ins at another host", 2, Outcome::Error("sends log-ins"), |call, elsewhere| {
            guarded(call, &format!("{elsewhere}/token"), |_| Said::status(200))
        }),
        case("log-ins at user@HOST", 2, Outcome::Error("sends log-ins"), |call, elsewhere| {
            let (hub, host) = (call.header("host"), elsewhere.trim_start_matches("http://"));
            guarded(call, &format!("http://{hub}@{host}/token"), |_| Said::status(200))
        }),
        case("log-ins at a file", 2, Outcome::Error("sends log-ins"), |call, _| {
            guarded(call, "file:///etc/passwd", |_| Said::status(200))
        }),
        case("the token leads elsewhere", 4, Outcome::Error("answered 302"), |call, elsewhere| {
            match call.path.as_str() {
                "/token" => Said::redirect(&format!("{elsewhere}/token")),
                _ => guarded(call, &own(call), |_| Said::status(200)),
            }
        }),
        case("a token that is never enough", 4, Outcome::Error("denied"), |call, _| {
            match call.path.as_str() {
                "/token" => Said::json(json!({"token": "registry-secret"})),
                _ => guarded(call, &own(call), |_| {
                    Said::status(401).header("WWW-Authenticate", "Bearer realm=\"/token\"")
                }),
            }
        }),
    ]
}

/// Manifests and layers that are not what they should be, or not where.
fn layers() -> Vec<Case> {
    let refused = || Outcome::Error("refused: ");
    let mut all = vec![
        case("a manifest that redirects for ever", 12, Outcome::Error("redirects more"), |c, _| {
            Said::redirect(&c.path)
        }),
        case("a manifest with another digest than told", 1, Outcome::Error("another"), |_, _| {
            let told = format!("sha256:{}", "0".repeat(64));
            let text = manifest_text(&format!("sha256:{}", sha256(b"x")), 1);
            Said::status(200).body(text).header("Docker-Content-Digest", told)
        }),
        case("a layer of another length", 4, Outcome::Error("expected 50000"), |call, _| {
            registry(call, &content(SMALL), |call, data| Said::bytes(call, &data[1..]))
        }),
        case("a layer of other bytes", 12, Outcome::Error("another file: sha256"), |call, _| {
            registry(call, &content(SMALL), |call, data| {
                let mut data = data.to_vec();
                data[0] ^= 1;
                Said::bytes(call, &data)
            })
        }),
        case("a layer of a negative length", 1, refused(), |_, _| {
            let digest = format!("sha256:{}", sha256(b"x"));
            Said::status(200).body(manifest_text(&digest, -1))
        }),
        case("a layer larger than any disk", 4, Outcome::Error("not enough disk space"), {
            |call, _| match call.method.as_str() {
                "HEAD" => Said::redirect("/x"),
                _ => {
                    let digest = format!("sha256:{}", sha256(b"x"));
                    Said::status(200).body(manifest_text(&digest, 1 << 45))
                }
            }
        }),
    ];
    all.push(layers_elsewhere());
    for (target, error) in [
        ("file:///etc/passwd", "is no address"),
        ("ftp://127.0.0.1/x", "neither http nor https"),
        ("data:,x", "neither http nor https"),
    ] {
        let name = format!("layers at {target}");
        all.push(Case::new(name, FROM_REGISTRY, 12, Outcome::Error(error), move |call, _| {
            registry(call, &content(SMALL), |_, _| Said::redirect(target))
        }));
    }
    all
}

/// Storage of its own, as registries have it, which is not to see the token.
fn layers_elsewhere() -> Case {
    let of_blob = |call: &Call, data: &[u8]| match sha256(data) == sha256(b"{}") {
        true => format!("config-{}", call.method),
        false => format!("model-{}", call.method),
    };
    let data = content(SMALL);
    Case::new(
        "layers at another host",
        FROM_REGISTRY,
        14,
        Outcome::Right(data.clone()),
        move |call, elsewhere| {
            guarded(call, &own(call), |call| {
                registry(call, &content(SMALL), |call, data| {
                    Said::redirect(&format!("{elsewhere}/{}", of_blob(call, data)))
                })
            })
        },
    )
    .elsewhere(move |call| match call.path.starts_with("/config") {
        true => Said::bytes(call, b"{}"),
        false => Said::bytes(call, &data),
    })
}

/// Names in the store that refer to what lies beside it.
fn links() -> Vec<Case> {
    let file = |name: &str| self::file(name, 8, right(), |call, data, _| Said::bytes(call, data));
    let link = |home: &Path, folder: &str, end: &str, to: &Path| {
        fs::create_dir_all(home.join(folder)).unwrap();
        let name = format!("sha256-{}{end}", sha256(&content(LEN)));
        symlink(to, home.join(folder).join(name)).unwrap();
    };
    let refused = Outcome::Error("it is a link");
    vec![
        self::file("a lock that is a link", 4, refused, |call, data, _| Said::bytes(call, data))
            .before(move |home, beside| link(home, "locks", ".lock", &beside.join("nothing"))),
        file("a link where bytes gather").before(move |home, beside| {
            link(home, "partial", "", &beside.join("theirs"));
        }),
        file("a link to nothing where bytes gather").before(move |home, beside| {
            link(home, "partial", "", &beside.join("nothing"));
        }),
        file("a link where checksums are kept").before(move |home, beside| {
            link(home, "parts", "", &beside.join("theirs"));
        }),
        file("a blob that is a link to another file").before(move |home, beside| {
            link(home, "blobs", "", &beside.join("theirs"));
        }),
        file("a manifest that is a link").before(|home, beside| {
            let folder = home.join("manifests/hf.co/org/repo");
            fs::create_dir_all(&folder).unwrap();
            symlink(beside.join("theirs"), folder.join("Q8_0")).unwrap();
        }),
    ]
}
