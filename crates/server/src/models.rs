//! Which models are loaded: found by name, loaded when memory allows, kept while somebody uses them and some time longer, put out for others
//! when they are idle. Running work is never cut: a swap waits for it. One load at a time, in the order of asking.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use hob_hub::{Hub, LocalModel};
use hob_machine::Machine;
use tokio::sync::{Notify, OwnedMutexGuard};

use crate::error::{ApiError, LoadError};
use crate::file::ModelFile;
use crate::loaded::{Loaded, Wishes};
use crate::shutdown::Shutdown;

/// A model that would get less context than this is worth putting idle ones out for.
const WORTH: usize = 8192;

/// How long a model stays after its last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// So long; nothing at all for zero.
    For(Duration),
    /// Until its memory is needed.
    Always,
}

impl KeepAlive {
    /// From seconds or a duration in Go's form (`5m`, `1h30m`); negative for always.
    pub fn parse(text: &str) -> Option<Self> {
        crate::duration::go_seconds(text).map(Self::seconds)
    }

    /// As requests give it: a number of seconds, or a duration.
    pub fn of(value: &serde_json::Value) -> Option<Self> {
        match value {
            serde_json::Value::String(text) => KeepAlive::parse(text),
            other => other.as_f64().map(KeepAlive::seconds),
        }
    }

    /// From seconds; negative for always, as is what lies centuries ahead.
    pub fn seconds(seconds: f64) -> Self {
        let time = Duration::try_from_secs_f64(seconds).ok().filter(|t| t.as_secs() < 1 << 33);
        time.map_or(KeepAlive::Always, KeepAlive::For)
    }
}

/// What holds for all models.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// How each is loaded; `available` is the memory for all of them together.
    pub wishes: Wishes,
    /// How long each stays where a request says nothing.
    pub keep_alive: KeepAlive,
    /// Models that may be loaded at once.
    pub most: usize,
}

/// The loaded models.
pub struct Models {
    hub: Arc<Hub>,
    settings: PoolSettings,
    shutdown: Arc<Shutdown>,
    slots: Mutex<Vec<Slot>>,
    /// Told when a model's last user leaves, and when one is gone.
    changed: Notify,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A loaded model and who uses it.
struct Slot {
    loaded: Arc<Loaded>,
    users: usize,
    keep: KeepAlive,
    /// When its time is over, counted from its last use.
    idle_since: Instant,
    /// Nobody gets it any more: it goes when its users have left.
    leaving: bool,
}

/// What is known of a loaded model.
#[derive(Clone)]
pub struct Seen {
    /// The model.
    pub loaded: Arc<Loaded>,
    /// Requests that use it.
    pub users: usize,
    /// When it goes; `None` for never.
    pub expires: Option<SystemTime>,
}

/// The right to use a loaded model, which stays for as long.
pub struct Lease {
    models: Arc<Models>,
    loaded: Arc<Loaded>,
    asked: Option<Instant>,
    load: Duration,
}

impl Models {
    /// None are loaded yet.
    pub fn new(hub: Arc<Hub>, settings: PoolSettings, shutdown: Arc<Shutdown>) -> Self {
        Models {
            hub,
            settings,
            shutdown,
            slots: Mutex::default(),
            changed: Notify::new(),
            turn: Arc::default(),
        }
    }

    /// The store.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// What holds for all of them.
    pub fn settings(&self) -> &PoolSettings {
        &self.settings
    }

    /// A stored model by its name. Nothing is opened.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub async fn find(&self, name: &str) -> Result<LocalModel, ApiError> {
        let (hub, wanted) = (self.hub.clone(), name.to_owned());
        let found = blocking(move || hub.find_named(&wanted)).await??;
        found.ok_or_else(|| ApiError::no_model(name))
    }

    /// A model to use, with at least this context. Loads it if need be, after putting others out. `keep` counts from now on.
    ///
    /// # Errors
    /// `NotFound`; `Memory` with the numbers, when it does not fit.
    pub async fn lease(
        self: &Arc<Self>,
        name: &str,
        context: Option<usize>,
        keep: Option<KeepAlive>,
    ) -> Result<Arc<Lease>, ApiError> {
        let asked = Instant::now();
        let local = self.find(name).await?;
        let give = |(loaded, load)| {
            Arc::new(Lease { models: self.clone(), loaded, asked: Some(asked), load })
        };
        if let Some(loaded) = self.take(&local, context, keep) {
            return Ok(give((loaded, Duration::ZERO)));
        }
        let turn = self.turn.clone().lock_owned().await;
        if let Some(loaded) = self.take(&local, context, keep) {
            return Ok(give((loaded, Duration::ZERO)));
        }
        self.put_out(&local.name).await;
        // Goes on when nobody waits any more: the model is then there for the next.
        let load = tokio::spawn(self.clone().load(local, context, keep, asked, turn));
        load.await.map_err(|e| ApiError::internal(format!("loading: {e}")))?
    }

    /// What is loaded, the longest remaining first.
    pub fn seen(&self) -> Vec<Seen> {
        let mut all: Vec<Seen> = self
            .slots()
            .iter()
            .map(|slot| Seen {
                loaded: slot.loaded.clone(),
                users: slot.users,
                expires: slot.expires(),
            })
            .collect();
        all.sort_by_key(|seen| std::cmp::Reverse(seen.expires.map_or(u64::MAX, unix_seconds)));
        all
    }

    /// Lets a model go once its users have left. Whether it was loaded.
    pub fn dismiss(self: &Arc<Self>, name: &str) -> bool {
        let mut there = false;
        for slot in self.slots().iter_mut().filter(|slot| slot.is(name)) {
            slot.leaving = true;
            there = true;
        }
        self.sweep();
        there
    }

    /// Lets all go whose time is over. Called now and then, and when something changed.
    pub fn sweep(self: &Arc<Self>) {
        let now = Instant::now();
        self.remove(|slot| slot.users == 0 && (slot.leaving || slot.over(now)));
    }

    /// Lets go of every idle model whose time is over, for ever.
    pub async fn keep_swept(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.sweep();
        }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A loaded model of the right file with enough context, used once more.
    fn take(
        &self,
        local: &LocalModel,
        context: Option<usize>,
        keep: Option<KeepAlive>,
    ) -> Option<Arc<Loaded>> {
        let mut slots = self.slots();
        let fits = |slot: &&mut Slot| {
            let enough = context.is_none_or(|n| {
                let all = slot.loaded.context.tokens;
                n <= all || all >= slot.loaded.model.context as usize
            });
            !slot.leaving && slot.same(local) && enough && slot.loaded.engine.status().alive
        };
        let slot = slots.iter_mut().find(fits)?;
        slot.users += 1;
        slot.keep = keep.unwrap_or(slot.keep);
        Some(slot.loaded.clone())
    }

    /// Waits until a model of this name is not loaded any more; nobody new gets it.
    async fn put_out(self: &Arc<Self>, name: &str) {
        loop {
            let changed = self.changed.notified();
            if !self.dismiss(name) {
                return;
            }
            self.sweep();
            if !self.slots().iter().any(|slot| slot.is(name)) {
                return;
            }
            changed.await;
        }
    }

    /// Loads a model, whoever still waits for it; `_turn` keeps other loads back.
    async fn load(
        self: Arc<Self>,
        local: LocalModel,
        context: Option<usize>,
        keep: Option<KeepAlive>,
        asked: Instant,
        _turn: OwnedMutexGuard<()>,
    ) -> Result<Arc<Lease>, ApiError> {
        let hub = self.hub.clone();
        let file = blocking(move || ModelFile::read(&hub, local, &mut |_| {})).await??;
        let trained = file.describe()?.context as usize;
        let context = context.map(|n| n.clamp(2, trained.max(2)));
        let file = Arc::new(file);
        loop {
            let changed = self.changed.notified();
            let (wishes, file) = (self.wishes(context)?, file.clone());
            let others = self.slots().len();
            let planned = {
                let (wishes, file) = (wishes.clone(), file.clone());
                blocking(move || crate::loaded::plan(&file, &wishes)).await?
            };
            let poor = match &planned {
                Err(LoadError::Memory(_)) => true,
                Err(_) => false,
                Ok(context) => context.memory_bound && context.tokens < WORTH,
            };
            if others > 0 && (poor || others >= self.settings.most) {
                if self.put_out_one() {
                    continue;
                }
                if planned.is_err() || others >= self.settings.most {
                    // All are busy: wait for one to become idle.
                    changed.await;
                    continue;
                }
            }
            planned?;
            let hub = self.hub.clone();
            let loaded = blocking(move || load(&hub, &file, &wishes)).await??;
            let loaded = Arc::new(loaded);
            drop(changed);
            self.slots().push(Slot {
                loaded: loaded.clone(),
                users: 1,
                keep: keep.unwrap_or(self.settings.keep_alive),
                idle_since: Instant::now(),
                leaving: false,
            });
            let load = asked.elapsed();
            return Ok(Arc::new(Lease { models: self.clone(), loaded, asked: Some(asked), load }));
        }
    }

    /// How the next is loaded, with the memory that is left for it.
    fn wishes(&self, context: Option<usize>) -> Result<Wishes, ApiError> {
        let machine = Machine::host().map_err(LoadError::from)?;
        let taken: u64 = self.slots().iter().map(|slot| slot.loaded.memory).sum();
        let most = self.settings.wishes.available.min(machine.memory.available_bytes);
        let wishes = &self.settings.wishes;
        Ok(Wishes {
            available: most.saturating_sub(taken),
            context: context.or(wishes.context),
            ..wishes.clone()
        })
    }

    /// Lets the idle model go that was not used for the longest time. False when all are used.
    fn put_out_one(self: &Arc<Self>) -> bool {
        let idle = {
            let slots = self.slots();
            let idle = slots.iter().filter(|slot| slot.users == 0);
            idle.min_by_key(|slot| slot.idle_since).map(|slot| slot.loaded.clone())
        };
        let Some(idle) = idle else { return false };
        self.remove(|slot| slot.users == 0 && Arc::ptr_eq(&slot.loaded, &idle));
        true
    }

    /// Takes slots out; the models end on a thread that may wait.
    fn remove(self: &Arc<Self>, which: impl Fn(&Slot) -> bool) {
        let gone: Vec<Slot> = {
            let mut slots = self.slots();
            let (gone, left) = slots.drain(..).partition(which);
            *slots = left;
            gone
        };
        if gone.is_empty() {
            return;
        }
        let models = self.clone();
        let end = move || {
            for slot in gone {
                tracing::info!(model = slot.loaded.name(), "unloaded");
                drop(slot);
            }
            models.changed.notify_waiters();
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(end)),
            Err(_) => end(),
        }
    }

    /// A user leaves.
    fn leave(self: &Arc<Self>, loaded: &Arc<Loaded>) {
        {
            let mut slots = self.slots();
            if let Some(slot) = slots.iter_mut().find(|s| Arc::ptr_eq(&s.loaded, loaded)) {
                slot.users = slot.users.saturating_sub(1);
                slot.idle_since = Instant::now();
            }
        }
        self.sweep();
        self.changed.notify_waiters();
    }
}

impl Slot {
    fn is(&self, name: &str) -> bool {
        self.loaded.name().eq_ignore_ascii_case(name)
    }

    /// Whether it is loaded from these very files, not from what the name stood for before.
    fn same(&self, local: &LocalModel) -> bool {
        let own = &self.loaded.file.local;
        let paths: (&PathBuf, &PathBuf) = (&own.path, &local.path);
        self.is(&local.name) && own.id == local.id && paths.0 == paths.1
    }

    fn over(&self, now: Instant) -> bool {
        match self.keep {
            KeepAlive::Always => false,
            KeepAlive::For(time) => now.duration_since(self.idle_since) >= time,
        }
    }

    /// While it is used, its time counts from now.
    fn expires(&self) -> Option<SystemTime> {
        let KeepAlive::For(time) = self.keep else { return None };
        let idle = if self.users > 0 { Duration::ZERO } else { self.idle_since.elapsed() };
        SystemTime::now().checked_add(time.saturating_sub(idle))
    }
}

impl Lease {
    /// The model.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// The end of the server.
    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.models.shutdown
    }

    /// When it was asked for.
    pub fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// Seconds that whoever has it waited for the model to be loaded.
    pub fn load_seconds(&self) -> f64 {
        self.load.as_secs_f64()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.models.leave(&self.loaded);
    }
}

/// Loads a file and tells so.
fn load(hub: &Hub, file: &ModelFile, wishes: &Wishes) -> Result<Loaded, LoadError> {
    let loaded = Loaded::load(copy(file), wishes)?;
    tracing::info!(
        model = loaded.name(),
        seconds = loaded.load_time.as_secs_f64(),
        context = loaded.context.tokens,
        sequences = loaded.context.limits.sequences,
        "loaded: {}",
        loaded.line(hub.root())
    );
    Ok(loaded)
}

/// The same open file.
fn copy(file: &ModelFile) -> ModelFile {
    ModelFile { local: file.local.clone(), gguf: file.gguf.clone(), overlay: file.overlay.clone() }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Runs what takes long on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| ApiError::internal(format!("a worker failed: {e}")))
}
