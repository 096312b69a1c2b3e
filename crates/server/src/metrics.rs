//! What the server has done and is doing, in Prometheus' text form. Counted where all dialects pass (`answer`, `access`); what engines hold
//! is asked when somebody reads. Clients are not told apart here.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::answer::End;
use crate::models::Seen;

/// Seconds until the first token, in a queue, between tokens.
const FIRST: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];
const BETWEEN: [f64; 11] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// A model.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Model {
    model: String,
}

/// A route and how it ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: String,
    status: u32,
}

type Histograms = Family<Model, Histogram, fn() -> Histogram>;
type Seconds = Family<Model, Counter<f64, AtomicU64>>;

/// All that is counted.
pub struct Metrics {
    registry: Registry,
    since: Instant,
    requests: Family<Route, Counter>,
    first: Histograms,
    between: Histograms,
    queued: Histograms,
    prompt: Family<Model, Counter>,
    cached: Family<Model, Counter>,
    generated: Family<Model, Counter>,
    drafted: Family<Model, Counter>,
    accepted: Family<Model, Counter>,
    prefill: Seconds,
    decode: Seconds,
    engine: Engine,
    uptime: Gauge<f64, AtomicU64>,
}

/// What engines hold.
#[derive(Default)]
struct Engine {
    running: Family<Model, Gauge>,
    waiting: Family<Model, Gauge>,
    pages: Family<Model, Gauge>,
    used: Family<Model, Gauge>,
    prefixes: Family<Model, Gauge>,
    memory: Family<Model, Gauge>,
    loading: Family<Model, Gauge<f64, AtomicU64>>,
    started: Family<Model, Gauge>,
}

fn first() -> Histogram {
    Histogram::new(FIRST)
}

fn between() -> Histogram {
    Histogram::new(BETWEEN)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("hob");
        let requests = Family::default();
        registry.register("requests", "Requests, by route and status", requests.clone());
        let histograms = |registry: &mut Registry, name, help, make: fn() -> Histogram| {
            let family = Histograms::new_with_constructor(make);
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
            family
        };
        let r = &mut registry;
        let to_first = histograms(r, "time_to_first_token", "From request to first token", first);
        let between = histograms(r, "inter_token_latency", "Between two tokens", between);
        let queued = histograms(r, "queue_time", "From submission to admission", first);
        let tokens = |registry: &mut Registry, name, help| {
            let family = Family::<Model, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let prompt = tokens(r, "prompt_tokens", "Tokens of prompts");
        let cached = tokens(r, "cached_tokens", "Tokens of prompts that the cache had");
        let generated = tokens(r, "generated_tokens", "Tokens of answers");
        let drafted = tokens(r, "drafted_tokens", "Tokens that were drafted");
        let accepted = tokens(r, "accepted_tokens", "Drafted tokens that were right");
        let (prefill, decode) = (Seconds::default(), Seconds::default());
        r.register_with_unit("prefill", "Time of reading", Unit::Seconds, prefill.clone());
        r.register_with_unit("decode", "Time of writing", Unit::Seconds, decode.clone());
        let engine = Engine::default();
        engine.register(r);
        let uptime = Gauge::default();
        r.register_with_unit("uptime", "Since the start", Unit::Seconds, uptime.clone());
        let info = Family::<Version, Gauge>::default();
        info.get_or_create(&Version { version: env!("CARGO_PKG_VERSION") }).set(1);
        r.register("build", "The version, as a label", info);
        Metrics {
            registry,
            since: Instant::now(),
            requests,
            first: to_first,
            between,
            queued,
            prompt,
            cached,
            generated,
            drafted,
            accepted,
            prefill,
            decode,
            engine,
            uptime,
        }
    }
}

/// A version.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

impl Engine {
    fn register(&self, registry: &mut Registry) {
        let gauges = [
            ("running", "Answers being written", &self.running),
            ("waiting", "Requests that wait", &self.waiting),
            ("kv_pages", "Pages of the cache", &self.pages),
            ("kv_pages_used", "Pages that running answers hold", &self.used),
            ("kv_pages_prefixes", "Pages that hold prefixes for reuse", &self.prefixes),
            ("model_users", "Requests that use the model", &self.started),
        ];
        for (name, help, family) in gauges {
            registry.register(name, help, family.clone());
        }
        let memory = ("model_memory", "Weights, cache and buffers");
        registry.register_with_unit(memory.0, memory.1, Unit::Bytes, self.memory.clone());
        let time = ("model_load", "How long loading took");
        registry.register_with_unit(time.0, time.1, Unit::Seconds, self.loading.clone());
    }

    fn show(&self, models: &[Seen]) {
        for family in [
            &self.running,
            &self.waiting,
            &self.pages,
            &self.used,
            &self.prefixes,
            &self.memory,
            &self.started,
        ] {
            family.clear();
        }
        self.loading.clear();
        for seen in models {
            let status = seen.loaded.engine.status();
            let label = Model { model: seen.loaded.name().to_owned() };
            let set = |family: &Family<Model, Gauge>, n: u64| {
                family.get_or_create(&label).set(i64::try_from(n).unwrap_or(i64::MAX));
            };
            set(&self.running, status.running as u64);
            set(&self.waiting, status.waiting as u64);
            set(&self.pages, status.total_pages as u64);
            set(&self.used, status.total_pages.saturating_sub(status.available_pages) as u64);
            set(&self.prefixes, status.cached_pages as u64);
            set(&self.memory, seen.loaded.memory);
            set(&self.started, seen.users as u64);
            self.loading.get_or_create(&label).set(seen.loaded.load_time.as_secs_f64());
        }
    }
}

impl Metrics {
    /// A response was sent.
    pub fn request(&self, route: &str, status: u16) {
        let route = Route { route: route.to_owned(), status: status.into() };
        self.requests.get_or_create(&route).inc();
    }

    /// An answer's first token came after so many seconds.
    pub fn first_token(&self, model: &str, seconds: f64) {
        self.first.get_or_create(&label(model)).observe(seconds);
    }

    /// Another token came so many seconds after the one before.
    pub fn next_token(&self, model: &str, seconds: f64) {
        self.between.get_or_create(&label(model)).observe(seconds);
    }

    /// An answer ended.
    pub fn ended(&self, model: &str, end: &End) {
        let model = label(model);
        let add = |family: &Family<Model, Counter>, n: usize| {
            family.get_or_create(&model).inc_by(n as u64);
        };
        add(&self.prompt, end.prompt_tokens);
        add(&self.cached, end.cached_tokens);
        add(&self.generated, end.answer_tokens);
        add(&self.drafted, end.drafted_tokens);
        add(&self.accepted, end.accepted_tokens);
        self.queued.get_or_create(&model).observe(end.timings.queue);
        self.prefill.get_or_create(&model).inc_by(end.timings.prefill);
        self.decode.get_or_create(&model).inc_by(end.timings.decode);
    }

    /// All of it, as text.
    pub fn text(&self, models: &[Seen]) -> String {
        self.engine.show(models);
        self.uptime.set(self.since.elapsed().as_secs_f64());
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn label(model: &str) -> Model {
    Model { model: model.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_can_be_read() {
        let metrics = Metrics::default();
        metrics.request("/api/chat", 200);
        metrics.request("/api/chat", 200);
        metrics.first_token("m:1", 0.3);
        metrics.next_token("m:1", 0.003);
        let text = metrics.text(&[]);
        for line in [
            "hob_requests_total{route=\"/api/chat\",status=\"200\"} 2",
            "hob_time_to_first_token_seconds_count{model=\"m:1\"} 1",
            "hob_inter_token_latency_seconds_bucket{le=\"0.005\",model=\"m:1\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
