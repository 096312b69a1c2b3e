//! Work that takes long and tells how it goes: pulls, pushes, creations. Who asks for what is already on its way listens to that. When the last
//! listener leaves, the work is told to stop. A listener who reads slowly misses steps of a progress, never a line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, stream};
use hob_hub::Stop;
use serde_json::Value;
use tokio::sync::watch;

use crate::error::ApiError;

/// The work on its way, by what it does.
#[derive(Default)]
pub struct Jobs {
    running: Mutex<HashMap<String, Arc<Job>>>,
}

/// One work.
struct Job {
    story: Mutex<Story>,
    /// Counts what was told.
    told: watch::Sender<u64>,
    stop: Stop,
}

/// What was told so far.
#[derive(Default)]
struct Story {
    lines: Vec<(u64, Value)>,
    next: u64,
    end: Option<Result<(), ApiError>>,
    listeners: usize,
}

/// What the work tells by.
pub struct Teller {
    job: Arc<Job>,
    /// Asked for when nobody listens any more.
    pub stop: Stop,
}

/// One who hears of a work, from its beginning.
pub struct Listener {
    jobs: Arc<Jobs>,
    key: String,
    job: Arc<Job>,
    told: watch::Receiver<u64>,
    seen: u64,
    over: bool,
}

impl Jobs {
    /// Listens to the work of this key; begins it, on a thread that may wait, if it is not on its way.
    pub fn join(
        self: &Arc<Self>,
        key: &str,
        work: impl FnOnce(&Teller) -> Result<(), ApiError> + Send + 'static,
    ) -> Listener {
        let mut running = lock(&self.running);
        if let Some(job) = running.get(key) {
            let mut story = lock(&job.story);
            // One whose last listener has just left is ending.
            if !job.stop.asked() && story.end.is_none() {
                story.listeners += 1;
                drop(story);
                return self.listener(key, job.clone());
            }
        }
        let job = Arc::new(Job {
            story: Mutex::new(Story { listeners: 1, ..Story::default() }),
            told: watch::Sender::new(0),
            stop: Stop::default(),
        });
        running.insert(key.to_owned(), job.clone());
        drop(running);
        let (jobs, teller) = (self.clone(), Teller { job: job.clone(), stop: job.stop.clone() });
        let own = key.to_owned();
        tokio::task::spawn_blocking(move || {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&teller)));
            let end = done.unwrap_or_else(|_| Err(ApiError::internal("a worker failed")));
            jobs.forget(&own, &teller.job);
            teller.job.change(|story| story.end = Some(end));
        });
        self.listener(key, job)
    }

    fn listener(self: &Arc<Self>, key: &str, job: Arc<Job>) -> Listener {
        let told = job.told.subscribe();
        Listener { jobs: self.clone(), key: key.to_owned(), job, told, seen: 0, over: false }
    }

    /// Nobody joins this one any more.
    fn forget(&self, key: &str, job: &Arc<Job>) {
        let mut running = lock(&self.running);
        if running.get(key).is_some_and(|other| Arc::ptr_eq(other, job)) {
            running.remove(key);
        }
    }
}

impl Job {
    fn change(&self, change: impl FnOnce(&mut Story)) {
        change(&mut lock(&self.story));
        self.told.send_modify(|n| *n += 1);
    }
}

impl Teller {
    /// Tells a line. One with the status of the line before takes its place: it is the same thing, further on.
    pub fn tell(&self, line: Value) {
        self.job.change(|story| {
            let numbered = (story.next, line);
            story.next += 1;
            match story.lines.last_mut().filter(|(_, last)| last["status"] == numbered.1["status"])
            {
                Some(last) => *last = numbered,
                None => story.lines.push(numbered),
            }
        });
    }
}

impl Listener {
    /// What comes next; `None` after the end.
    ///
    /// # Errors
    /// When the work failed; nothing follows.
    pub async fn next(&mut self) -> Option<Result<Value, ApiError>> {
        while !self.over {
            self.told.borrow_and_update();
            {
                let story = lock(&self.job.story);
                let new = story.lines.iter().find(|(number, _)| *number >= self.seen);
                if let Some((number, line)) = new {
                    self.seen = number + 1;
                    return Some(Ok(line.clone()));
                }
                if let Some(end) = &story.end {
                    self.over = true;
                    return end.clone().err().map(Err);
                }
            }
            if self.told.changed().await.is_err() {
                self.over = true;
            }
        }
        None
    }

    /// The last line, waited for.
    ///
    /// # Errors
    /// When the work failed.
    pub async fn last(mut self) -> Result<Value, ApiError> {
        let mut last = Value::Null;
        while let Some(line) = self.next().await {
            last = line?;
        }
        Ok(last)
    }

    /// What comes, as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Value, ApiError>> + Send + 'static {
        stream::unfold(self, |mut listener| async move {
            let line = listener.next().await?;
            Some((line, listener))
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // In this order, as in `join`: nobody may join between the last one's leaving and the wish to stop.
        let mut running = lock(&self.jobs.running);
        let mut story = lock(&self.job.story);
        story.listeners -= 1;
        if story.listeners == 0 && story.end.is_none() {
            self.job.stop.ask();
            if running.get(&self.key).is_some_and(|other| Arc::ptr_eq(other, &self.job)) {
                running.remove(&self.key);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn all_hear_the_same_and_the_work_is_done_once() {
        let jobs = Arc::new(Jobs::default());
        let (go, wait) = mpsc::channel::<()>();
        let mut first = jobs.join("a", move |teller| {
            teller.tell(json!({"status": "one"}));
            teller.tell(json!({"status": "two", "completed": 1}));
            let _ = wait.recv();
            teller.tell(json!({"status": "two", "completed": 2}));
            teller.tell(json!({"status": "success"}));
            Ok(())
        });
        assert_eq!(first.next().await.unwrap().unwrap()["status"], "one");
        assert_eq!(first.next().await.unwrap().unwrap()["completed"], 1);
        let second = jobs.join("a", |_| panic!("begun twice"));
        go.send(()).unwrap();
        let mut rest = Vec::new();
        while let Some(line) = first.next().await {
            rest.push(line.unwrap());
        }
        assert_eq!(rest, [json!({"status": "two", "completed": 2}), json!({"status": "success"})]);
        assert_eq!(second.last().await.unwrap(), json!({"status": "success"}));
    }

    #[tokio::test]
    async fn work_stops_when_the_last_listener_leaves_and_not_before() {
        let jobs = Arc::new(Jobs::default());
        let (told, heard) = mpsc::channel();
        let work = move |teller: &Teller| {
            while !teller.stop.asked() {
                std::thread::yield_now();
            }
            told.send(()).unwrap();
            Err(ApiError::invalid("stopped"))
        };
        let first = jobs.join("a", work);
        let second = jobs.join("a", |_| panic!("begun twice"));
        drop(first);
        assert!(heard.try_recv().is_err());
        drop(second);
        tokio::task::spawn_blocking(move || heard.recv().unwrap()).await.unwrap();
        // What comes after is a new one.
        let again = jobs.join("a", |teller| {
            teller.tell(json!({"status": "success"}));
            Ok(())
        });
        assert_eq!(again.last().await.unwrap()["status"], "success");
    }

    #[tokio::test]
    async fn a_failure_and_a_panic_are_told() {
        let jobs = Arc::new(Jobs::default());
        let failed = jobs.join("a", |_| Err(ApiError::invalid("no"))).last().await;
        assert_eq!(failed.unwrap_err().message, "no");
        let panicked = jobs.join("b", |_| panic!("ouch")).last().await;
        assert!(panicked.unwrap_err().message.contains("worker failed"));
    }
}
