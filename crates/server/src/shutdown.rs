//! Going down in order: at once nothing new is taken, what runs may finish until a deadline, then its streams end with an error, and a
//! little later everything stops. Who asks a second time is obeyed at once.

use std::time::Duration;

use tokio::sync::watch;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Open,
    /// Nothing new.
    Closing,
    /// Streams end.
    Ending,
    /// All stops.
    Over,
}

/// The end of a server, which many wait for.
#[derive(Debug)]
pub struct Shutdown {
    stage: watch::Sender<Stage>,
}

/// How long streams have to say that they end.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { stage: watch::Sender::new(Stage::Open) }
    }
}

impl Shutdown {
    /// Begins the end; what runs has this long.
    pub async fn begin(&self, grace: Duration) {
        self.reach(Stage::Closing);
        tokio::time::sleep(grace).await;
        self.reach(Stage::Ending);
        tokio::time::sleep(LAST_WORDS).await;
        self.reach(Stage::Over);
    }

    /// Ends everything now.
    pub fn now(&self) {
        self.reach(Stage::Over);
    }

    /// Whether new work is refused.
    pub fn is_closing(&self) -> bool {
        *self.stage.borrow() >= Stage::Closing
    }

    /// Waits until nothing new is taken.
    pub async fn closing(&self) {
        self.wait(Stage::Closing).await;
    }

    /// Waits until streams must end.
    pub async fn ending(&self) {
        self.wait(Stage::Ending).await;
    }

    /// Waits until everything stops.
    pub async fn over(&self) {
        self.wait(Stage::Over).await;
    }

    fn reach(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let later = stage > *now;
            if later {
                *now = stage;
            }
            later
        });
    }

    async fn wait(&self, stage: Stage) {
        let mut seen = self.stage.subscribe();
        // The sender is in `self`, so it lives.
        let _ = seen.wait_for(|now| *now >= stage).await;
    }
}
