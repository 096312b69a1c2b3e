//! What the server's suites share: a server in this process on a port of its own, with small models in a store of its own, and an HTTP
//! client that shows what came over the wire. No test may depend on how fast anything is.

// Each suite uses its part; a broken test may panic anywhere.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

mod client;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hob_hub::{Hub, Linking};
use hob_server::{Config, Guard, KeepAlive, PoolSettings, State, Wishes};
use hob_testkit::{Family, Tiny};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub use client::{Reply, Stream};

/// ChatML with tools as Qwen has them. The tiny vocabulary holds bytes, so the markers are many tokens to it.
pub const CHATML: &str = "{% if tools %}<|im_start|>system\n<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools> \
    Call: <tool_call>{\"name\": .., \"arguments\": ..}</tool_call><|im_end|>\n{% endif %}\
    {% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// The same for a model that thinks unless it is told not to.
pub const THINKER: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n\
    {% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}{% endif %}";

/// A server that ends with its value.
pub struct Server {
    pub address: SocketAddr,
    pub state: State,
    runtime: Option<Runtime>,
    dir: TempDir,
}

/// How a test's server differs from the usual one.
pub struct Setup {
    /// Requests that may wait.
    pub queue: usize,
    /// Answers at once.
    pub sequences: usize,
    /// Models at once.
    pub models: usize,
    /// How long a model stays.
    pub keep_alive: KeepAlive,
    /// Who is let in.
    pub guard: Guard,
    /// How long answers have at the end.
    pub grace: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            queue: 64,
            sequences: 8,
            models: 3,
            keep_alive: KeepAlive::Always,
            guard: Guard::default(),
            grace: Duration::from_secs(1),
        }
    }
}

impl Server {
    /// With three small models, whose answers are noise, but the same for the same request at temperature 0: `tiny` (a chat model with a
    /// context of 1024 bytes), `thinker` (which begins by thinking) and `vectors` (an encoder). `base` is `tiny` without a template.
    pub fn start() -> Server {
        Server::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Server {
        let server = Server::empty(setup);
        let chat = |template| Tiny { template: Some(template), ..Tiny::new(Family::Llama) };
        server.add("tiny", &chat(CHATML));
        server.add("thinker", &chat(THINKER));
        server.add("base", &Tiny::new(Family::Llama));
        server.add("vectors", &Tiny::new(Family::Bert));
        server
    }

    /// The starter model as `smollm2:135m`, if it was fetched.
    pub fn smollm2() -> Option<Server> {
        let path = smollm2()?;
        let server = Server::empty(Setup::default());
        server.import("smollm2:135m", &path);
        Some(server)
    }

    /// With an empty store.
    pub fn empty(setup: Setup) -> Server {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("hob");
        // No test may reach a hub.
        let nowhere = "http://127.0.0.1:9";
        std::fs::create_dir_all(&root).unwrap();
        let settings =
            format!("HF_ENDPOINT={nowhere}\nMODELSCOPE_DOMAIN={nowhere}\nHOB_REGISTRY={nowhere}\n");
        std::fs::write(root.join("settings"), settings).unwrap();
        let hub = Hub::at(root).unwrap();
        let config = Config {
            models: PoolSettings {
                wishes: Wishes {
                    usual_context: 2048,
                    threads: Some(2),
                    sequences: setup.sequences,
                    queue: setup.queue,
                    mixed_rows: 64,
                    ..Wishes::alone(2 << 30)
                },
                keep_alive: setup.keep_alive,
                most: setup.models,
            },
            guard: setup.guard,
            grace: setup.grace,
        };
        let state = State::new(hub, config);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(hob_server::bind("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(hob_server::serve(listener, state.clone()));
        Server { address, state, runtime: Some(runtime), dir }
    }

    /// Begins the server's end; what runs has this long.
    pub fn down(&self, grace: Duration) {
        let shutdown = self.state.shutdown.clone();
        self.runtime.as_ref().unwrap().spawn(async move { shutdown.begin(grace).await });
    }

    /// Stores a small model.
    pub fn add(&self, name: &str, model: &Tiny) {
        self.add_bytes(name, &model.bytes());
    }

    /// Stores a file.
    pub fn add_bytes(&self, name: &str, bytes: &[u8]) {
        let path = self.dir.path().join(format!("{}.gguf", name.replace(['/', ':'], "-")));
        std::fs::write(&path, bytes).unwrap();
        self.import(name, &path);
    }

    pub fn import(&self, name: &str, path: &Path) {
        let link = Some(Linking::Hard);
        let hub = self.state.models.hub();
        hub.import(path, name, link, &|_| None, &mut |_| {}).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.shutdown.now();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}

/// A model slow enough to be interrupted, with a context of 4096 bytes.
pub fn slow() -> Tiny {
    Tiny {
        layers: 6,
        width: 512,
        ffn: 1024,
        heads: 8,
        kv_heads: 8,
        context: 4096,
        template: Some(CHATML),
        ..Tiny::new(Family::Llama)
    }
}

/// The starter model's file, if it was fetched.
pub fn smollm2() -> Option<PathBuf> {
    let cache = std::env::var_os("HOB_ASSETS").map(PathBuf::from);
    let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache/hob-assets")))?;
    let path = cache.join("smollm2.gguf");
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: no {}; `cargo xtask assets` fetches it", path.display());
    None
}
