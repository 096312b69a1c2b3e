//! Ollama's API over a socket: what models there are, embeddings, names, uploads and creations. Transfers have a suite of their own.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{CHATML, Server, Setup, Stream};
use hob_testkit::{Family, Tiny};
use serde_json::{Value, json};

/// Waits for what another thread is about to do.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lines(mut stream: Stream) -> Vec<Value> {
    assert_eq!(stream.status, 200);
    assert_eq!(stream.header("content-type"), Some("application/x-ndjson"));
    std::iter::from_fn(|| stream.json_line()).collect()
}

fn statuses(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["status"].as_str().unwrap_or("no status")).collect()
}

#[test]
fn who_is_there() {
    let server = Server::empty(Setup::default());
    assert_eq!(server.get("/").body, "Ollama is running");
    for path in ["/", "/api/version", "/api/tags"] {
        let reply = server.request("HEAD", path, &[], None);
        assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{path}");
    }
    let version = server.get("/api/version").ok();
    assert!(version["version"].as_str().unwrap().starts_with("0."), "{version}");
    assert_eq!(server.get("/api/status").ok()["cloud"]["disabled"], true);
    assert_eq!(server.get("/api/tags").ok(), json!({"models": []}));
    assert_eq!(server.get("/api/ps").ok(), json!({"models": []}));
    for path in ["/api/me", "/api/signout"] {
        assert_eq!(server.post_text(path, "").expect(401)["error"], "unauthorized");
    }
    assert_eq!(server.get("/api/pull").status, 405);
}

#[test]
fn what_is_recommended_fits_this_machine() {
    let server = Server::empty(Setup::default());
    let reply = server.get("/api/experimental/model-recommendations").ok();
    let list = reply["recommendations"].as_array().unwrap();
    let known: Vec<String> = server.state.models.hub().catalogue().collect();
    for one in list {
        assert!(one["context_length"].as_u64().unwrap() > 0, "{one}");
        assert!(one["description"].as_str().unwrap().contains("Q4_K_M"), "{one}");
        let described = server.state.models.hub().describe(one["model"].as_str().unwrap());
        assert!(described.unwrap().is_some(), "{one}");
    }
    // The smallest of the catalogue runs in the memory of this server.
    assert!(!list.is_empty() && !known.is_empty());
}

#[test]
fn tags_tell_what_models_can_do() {
    let server = Server::start();
    let reply = server.get("/api/tags").ok();
    let models = reply["models"].as_array().unwrap();
    let names: Vec<&str> = models.iter().map(|m| m["name"].as_str().unwrap()).collect();
    for name in ["tiny:latest", "thinker:latest", "base:latest", "vectors:latest"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let times: Vec<&str> = models.iter().map(|m| m["modified_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let of = |name: &str| models.iter().find(|m| m["name"] == name).unwrap();
    let tiny = of("tiny:latest");
    assert_eq!(tiny["model"], "tiny:latest");
    assert_eq!(tiny["digest"].as_str().unwrap().len(), 64);
    assert!(tiny["size"].as_u64().unwrap() > 10_000);
    let details = &tiny["details"];
    assert_eq!(details["family"], "llama");
    assert_eq!(details["families"], json!(["llama"]));
    assert_eq!(
        (&details["format"], &details["quantization_level"]),
        (&json!("gguf"), &json!("F32"))
    );
    assert_eq!(
        (&details["context_length"], &details["embedding_length"]),
        (&json!(1024), &json!(64))
    );
    assert_eq!(tiny["capabilities"], json!(["completion", "tools"]));
    assert_eq!(of("thinker:latest")["capabilities"], json!(["completion", "thinking"]));
    assert_eq!(of("base:latest")["capabilities"], json!(["completion"]));
    assert_eq!(of("vectors:latest")["capabilities"], json!(["embedding"]));
}

#[test]
fn show_says_all_of_a_model() {
    let server = Server::start();
    let shown = server.post("/api/show", &json!({"model": "tiny"})).ok();
    assert_eq!(shown["template"], CHATML);
    assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    assert_eq!(shown["model_info"]["general.architecture"], "llama");
    assert_eq!(shown["model_info"]["llama.context_length"], 1024);
    assert_eq!(shown["model_info"]["tokenizer.ggml.tokens"], json!([]));
    assert!(shown["model_info"].get("tokenizer.chat_template").is_none());
    assert!(shown.get("tensors").is_none());
    // No path of this machine.
    assert!(shown["modelfile"].as_str().unwrap().contains("FROM tiny:latest\n"), "{shown}");
    let root = server.state.models.hub().root().display().to_string();
    assert!(!shown.to_string().contains(&root));
    let verbose = server.post("/api/show", &json!({"name": "tiny", "verbose": true})).ok();
    assert_eq!(verbose["model_info"]["tokenizer.ggml.tokens"].as_array().unwrap().len(), 272);
    assert_eq!(verbose["tensors"].as_array().unwrap().len(), 2 * 9 + 3);

    let copilot = [("user-agent", "GitHubCopilotChat/0.1")];
    let body = json!({"model": "tiny"}).to_string();
    let reply = server.request("POST", "/api/show", &copilot, Some(&body)).ok();
    assert_eq!(reply["model_info"]["general.basename"], "tiny");
}

#[test]
fn names_that_mean_nothing() {
    let server = Server::start();
    let path = server.state.models.hub().root().join("blobs");
    let blob = std::fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
    for (body, status, part) in [
        (json!({}), 400, "model is required"),
        (json!({"model": null}), 400, "model is required"),
        (json!({"model": "nobody"}), 404, "not found"),
        (json!({"model": "a b"}), 400, "a b"),
        (json!({"model": "../../etc/passwd"}), 400, "passwd"),
        (json!({"model": blob.display().to_string()}), 400, "sha256-"),
        (json!({"model": 7}), 400, "expected a string"),
    ] {
        let paths = ["/api/show", "/api/embed", "/api/embeddings", "/api/generate", "/api/chat"];
        for path in paths {
            let error = server.post(path, &body).expect(status);
            assert!(error["error"].as_str().unwrap().contains(part), "{path}: {error}");
        }
        assert_eq!(server.delete("/api/delete", Some(&body)).status, status, "{body}");
    }
    for path in ["/api/show", "/api/embed", "/api/pull", "/api/create", "/api/copy"] {
        assert_eq!(server.post_text(path, "").expect(400)["error"], "missing request body");
        assert_eq!(server.post_text(path, "{").status, 400);
    }
}

#[test]
fn what_is_loaded_and_how_it_goes() {
    let server = Server::start();
    let ask = |keep: Value| json!({"model": "tiny", "keep_alive": keep});
    assert_eq!(server.post("/api/generate", &ask("10m".into())).ok()["done_reason"], "load");
    let ps = server.get("/api/ps").ok();
    let [model] = ps["models"].as_array().unwrap().as_slice() else { panic!("{ps}") };
    assert_eq!((&model["name"], &model["size_vram"]), (&json!("tiny:latest"), &json!(0)));
    assert!(model["size"].as_u64().unwrap() > 10_000);
    assert_eq!((&model["context_length"], &model["users"]), (&json!(1024), &json!(0)));
    assert_eq!(model["details"]["family"], "llama");
    let year =
        |ps: &Value| ps["models"][0]["expires_at"].as_str().unwrap()[..4].parse::<u32>().unwrap();
    let now = year(&ps);
    server.post("/api/generate", &ask((-1).into())).ok();
    assert!(year(&server.get("/api/ps").ok()) > now + 200);
    assert_eq!(server.post("/api/generate", &ask(0.into())).ok()["done_reason"], "unload");
    eventually("unloaded", || server.get("/api/ps").ok()["models"] == json!([]));
}

#[test]
fn embeddings_are_of_length_one() {
    let server = Server::start();
    let embed = |body: Value| server.post("/api/embed", &body);
    let length = |v: &Value| {
        v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap().powi(2)).sum::<f64>().sqrt()
    };
    for model in ["vectors", "tiny"] {
        let reply = embed(json!({"model": model, "input": ["a cat", "a dog"]})).ok();
        let vectors = reply["embeddings"].as_array().unwrap();
        assert_eq!((vectors.len(), &reply["model"]), (2, &json!(model)));
        assert!(vectors.iter().all(|v| (length(v) - 1.0).abs() < 1e-4));
        assert_ne!(vectors[0], vectors[1]);
        assert!(reply["prompt_eval_count"].as_u64().unwrap() >= 10);
        assert!(reply["total_duration"].as_u64().unwrap() > 0);
        let one = embed(json!({"model": model, "input": "a cat"})).ok();
        assert_eq!(one["embeddings"], json!([vectors[0]]));
        let cut = embed(json!({"model": model, "input": "a cat", "dimensions": 8})).ok();
        let cut = &cut["embeddings"][0];
        assert_eq!(cut.as_array().unwrap().len(), 8);
        assert!((length(cut) - 1.0).abs() < 1e-4);
    }
    for empty in [json!([]), json!(""), Value::Null] {
        let reply = embed(json!({"model": "vectors", "input": empty})).ok();
        assert_eq!(reply, json!({"model": "vectors", "embeddings": []}));
    }
    for wrong in [json!(7), json!({}), json!([1, 2]), json!([["a"]])] {
        let error = embed(json!({"model": "vectors", "input": wrong})).expect(400);
        assert_eq!(error["error"], "invalid input type");
    }
    assert_eq!(embed(json!({"model": "vectors", "input": "a", "dimensions": -1})).status, 400);
    let many = vec!["a"; 9000];
    let error = embed(json!({"model": "vectors", "input": many})).expect(400);
    assert!(error["error"].as_str().unwrap().contains("9000"), "{error}");
}

#[test]
fn the_older_embeddings_are_as_long_as_they_come() {
    let server = Server::start();
    let old = |prompt: &str| {
        server.post("/api/embeddings", &json!({"model": "vectors", "prompt": prompt})).ok()
    };
    let of = |v: &Value| -> Vec<f64> {
        v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let vector = of(&old("a cat")["embedding"]);
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    let new = server.post("/api/embed", &json!({"model": "vectors", "input": "a cat"})).ok();
    for (a, b) in vector.iter().zip(of(&new["embeddings"][0])) {
        assert!((a / length - b).abs() < 1e-4);
    }
    assert_eq!(old(""), json!({"embedding": []}));
}

#[test]
fn a_text_that_is_too_long_is_refused_or_cut_and_counted() {
    let server = Server::start();
    let text = "x".repeat(3000);
    let embed = |truncate: Value| {
        server.post("/api/embed", &json!({"model": "tiny", "input": text, "truncate": truncate}))
    };
    for refused in [Value::Null, json!(false)] {
        let error = embed(refused).expect(400);
        let words = error["error"].as_str().unwrap();
        assert!(words.contains("the input length exceeds the context length"), "{words}");
        assert!(words.contains("3000") && words.contains("512"), "{words}");
    }
    let cut = embed(json!(true));
    let left_out = cut.ok()["dropped_tokens"].as_u64().unwrap();
    assert_eq!(cut.header("x-hob-dropped-tokens"), Some(left_out.to_string().as_str()));
    assert_eq!(left_out + cut.json()["prompt_eval_count"].as_u64().unwrap(), 3000);
    let same = server.post("/api/embed", &json!({"model": "tiny", "input": text[..512]})).ok();
    assert_eq!(same["embeddings"], cut.json()["embeddings"]);
}

#[test]
fn names_are_copied_and_removed() {
    let server = Server::start();
    let copy = |from: &str, to: &str| {
        server.post("/api/copy", &json!({"source": from, "destination": to}))
    };
    let done = copy("tiny", "me/second:one");
    assert_eq!((done.status, done.body.as_str()), (200, ""));
    assert_eq!(server.post("/api/show", &json!({"model": "me/second:one"})).status, 200);
    assert_eq!(copy("nobody", "x").expect(404)["error"], "model \"nobody\" not found");
    assert_eq!(copy("a b", "x").expect(400)["error"], "source \"a b\" is invalid");
    assert_eq!(copy("tiny", "a b").expect(400)["error"], "destination \"a b\" is invalid");
    assert_eq!(copy("", "x").expect(400)["error"], "source \"\" is invalid");

    let delete = |name: &str| server.delete("/api/delete", Some(&json!({"model": name})));
    let done = delete("me/second:one");
    assert_eq!((done.status, done.body.as_str()), (200, ""));
    assert_eq!(delete("me/second:one").expect(404)["error"], "model \"me/second:one\" not found");
    // The other name still has the files.
    let ask =
        json!({"model": "tiny", "prompt": "x", "options": {"num_predict": 2}, "stream": false});
    assert_eq!(server.post("/api/generate", &ask).status, 200);
    assert_eq!(server.delete("/api/delete", Some(&json!({"name": "tiny"}))).status, 200);
    assert_eq!(server.post("/api/generate", &ask).status, 404);
    eventually("unloaded", || server.get("/api/ps").ok()["models"] == json!([]));
}

/// Sends bytes to `/api/blobs`; gives the status.
fn upload(server: &Server, digest: &str, bytes: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST /api/blobs/{digest} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.write_all(bytes);
    let mut reply = String::new();
    std::io::Read::read_to_string(&mut stream, &mut reply).unwrap();
    let status = reply.split(' ').nth(1).unwrap().parse().unwrap();
    (status, reply.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hob_hub::sha256(bytes))
}

/// Files in the folders where uploads are written.
fn left_over(server: &Server) -> usize {
    let in_folder = |name: &str| {
        let folder = std::fs::read_dir(server.state.models.hub().root().join(name));
        folder.map_or(0, Iterator::count)
    };
    in_folder("tmp") + in_folder("uploads")
}

#[test]
fn uploads_are_held_against_their_digest() {
    let server = Server::empty(Setup::default());
    let bytes = Tiny::new(Family::Llama).bytes();
    let digest = digest(&bytes);
    let head =
        |digest: &str| server.request("HEAD", &format!("/api/blobs/{digest}"), &[], None).status;
    assert_eq!(head(&digest), 404);
    assert_eq!(head("sha256:abc"), 400);
    let (status, body) = upload(&server, "sha256:abc", b"x");
    assert_eq!((status, body.contains("invalid digest format")), (400, true), "{body}");
    let (status, body) = upload(&server, &digest, b"something else");
    assert_eq!((status, body.contains("digest mismatch, expected")), (400, true), "{body}");
    assert_eq!(left_over(&server), 0);

    // One that breaks off leaves nothing.
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head_text = format!(
        "POST /api/blobs/{digest} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head_text.as_bytes()).unwrap();
    stream.write_all(&bytes[..bytes.len() / 2]).unwrap();
    eventually("begun", || left_over(&server) == 1);
    drop(stream);
    eventually("cleared", || left_over(&server) == 0);
    assert_eq!(head(&digest), 404);

    assert_eq!(upload(&server, &digest, &bytes).0, 201);
    assert_eq!(head(&digest), 200);
    assert_eq!(upload(&server, &digest, b"not read").0, 200);
    // It waits for its model.
    server.state.models.hub().gc(true).unwrap();
    assert_eq!(head(&digest), 200);
}

#[test]
fn a_model_is_made_of_another() {
    let server = Server::start();
    let request = json!({
        "model": "mario", "from": "tiny", "system": "You are Mario.",
        "template": "{{ .System }}|{{ .Prompt }}|", "license": ["MIT", "more"],
        "parameters": {"temperature": 0.25, "stop": ["x", "y"], "num_ctx": 128, "seed": null},
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}],
    });
    let told = lines(server.stream("/api/create", &request));
    let told = statuses(&told);
    assert!(told[0].starts_with("using existing layer sha256:"), "{told:?}");
    assert!(told[1..told.len() - 2].iter().all(|s| s.starts_with("creating new layer sha256:")));
    assert_eq!(told[told.len() - 2..], ["writing manifest", "success"]);
    let shown = server.post("/api/show", &json!({"model": "mario"})).ok();
    assert_eq!(shown["system"], "You are Mario.");
    assert_eq!(shown["template"], "{{ .System }}|{{ .Prompt }}|");
    assert_eq!(shown["license"], "MIT\nmore");
    assert_eq!(shown["messages"][1], json!({"role": "assistant", "content": "Ho"}));
    let parameters = shown["parameters"].as_str().unwrap();
    assert!(parameters.contains("temperature                    0.25\n"), "{parameters}");
    assert!(parameters.contains("stop                           \"x\"\n"), "{parameters}");
    // Without a stream there is only the last word.
    let quiet = json!({"name": "mario2", "from": "mario", "stream": false});
    assert_eq!(server.post("/api/create", &quiet).ok(), json!({"status": "success"}));
    assert_eq!(
        server.post("/api/show", &json!({"model": "mario2"})).ok()["system"],
        "You are Mario."
    );
}

#[test]
fn a_model_is_made_of_an_uploaded_file_and_quantized() {
    let server = Server::empty(Setup::default());
    let tiny = Tiny { width: 256, ffn: 256, heads: 4, kv_heads: 4, ..Tiny::new(Family::Llama) };
    let bytes = tiny.bytes();
    let digest = digest(&bytes);
    assert_eq!(upload(&server, &digest, &bytes).0, 201);
    let request = json!({"model": "mine", "files": {"model.gguf": digest}});
    let told = lines(server.stream("/api/create", &request));
    let name = format!("creating new layer {digest}");
    assert_eq!(statuses(&told), ["parsing GGUF", name.as_str(), "writing manifest", "success"]);
    assert_eq!(left_over(&server), 0);
    let ask = |model: &str| json!({"model": model, "prompt": "x", "options": {"num_predict": 2}, "stream": false});
    assert_eq!(server.post("/api/generate", &ask("mine")).status, 200);

    let request = json!({"model": "small", "from": "mine", "quantize": "q8_0"});
    let told = lines(server.stream("/api/create", &request));
    let made = told.iter().find(|l| l["status"] == "quantizing F32 model to Q8_0").unwrap();
    assert!(made["digest"].as_str().unwrap().ends_with("000") && made["total"].as_u64() > Some(0));
    assert_eq!(told.last().unwrap()["status"], "success");
    let shown = server.post("/api/show", &json!({"model": "small"})).ok();
    assert_eq!(shown["details"]["quantization_level"], "Q8_0");
    assert_eq!(server.post("/api/generate", &ask("small")).status, 200);
    // What has 8 bits is as good as a source; what has 4 is none.
    let four = json!({"model": "smaller", "from": "small", "quantize": "Q4_0", "stream": false});
    server.post("/api/create", &four).ok();
    let again = json!({"model": "x", "from": "smaller", "quantize": "Q8_0", "stream": false});
    let error = server.post("/api/create", &again).expect(400);
    let expected = "quantization is only supported for F16, BF16 and F32 models";
    assert!(error["error"].as_str().unwrap().contains(expected), "{error}");
    assert_eq!(left_over(&server), 0);
}

#[test]
fn a_creation_that_cannot_be_is_refused_before_anything_is_made() {
    let server = Server::start();
    let zeros = format!("sha256:{}", "0".repeat(64));
    for (body, part) in [
        (json!({}), "model is required"),
        (json!({"model": "m"}), "neither 'from' or 'files' was specified"),
        (json!({"model": "m", "files": {}}), "neither 'from' or 'files' was specified"),
        (json!({"model": "a b", "from": "tiny"}), "a b"),
        (json!({"model": "m", "files": {"/etc/x.gguf": zeros}}), "file path must be relative"),
        (json!({"model": "m", "files": {"../x.gguf": zeros}}), "file path must be relative"),
        (json!({"model": "m", "files": {"x.gguf": "md5:1"}}), "invalid digest format"),
        (json!({"model": "m", "files": {"x.gguf": zeros}}), "upload it first"),
        (json!({"model": "m", "files": {"x.gguf": 7}}), "x.gguf"),
        (json!({"model": "m", "from": "tiny", "adapters": {"/a": zeros}}), "must be relative"),
        (json!({"model": "m", "from": "tiny", "template": "{{ if }}"}), "template error"),
        (json!({"model": "m", "from": "tiny", "parameters": {"warmth": 1}}), "unknown parameter"),
        (json!({"model": "m", "from": "tiny", "parameters": {"top_k": "x"}}), "top_k"),
        (
            json!({"model": "m", "from": "tiny", "messages": [{"role": "cat", "content": ""}]}),
            "role",
        ),
        (json!({"model": "m", "from": "tiny", "license": 7}), "license"),
        (json!({"model": "m", "from": "tiny", "quantize": "Q99"}), "unsupported quantization"),
        (json!({"model": "m", "from": "tiny", "remote_host": "x"}), "remote_host"),
    ] {
        let error = server.post("/api/create", &body).expect(400);
        assert!(error["error"].as_str().unwrap().contains(part), "{body}: {error}");
    }
    assert_eq!(server.post("/api/show", &json!({"model": "m"})).status, 404);
    // What is no model is found while it is made.
    let digest = digest(b"no model");
    assert_eq!(upload(&server, &digest, b"no model").0, 201);
    let request = json!({"model": "m", "files": {"x.gguf": digest}});
    let told = lines(server.stream("/api/create", &request));
    let error = told.last().unwrap()["error"].as_str().unwrap();
    let root = server.state.models.hub().root().display().to_string();
    assert!(error.contains("x.gguf cannot be used") && !error.contains(&root), "{error}");
}
