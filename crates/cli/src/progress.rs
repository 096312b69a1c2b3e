//! A pull as the user sees it: a bar on a terminal, a few lines elsewhere; and the bar of what takes many tokens. Progress goes to stderr; stdout belongs to results.

use std::io::{IsTerminal, stderr};

use hob_hub::Progress;
use indicatif::{ProgressBar, ProgressStyle};

use crate::out;

const BAR: &str =
    "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}";

const TOKENS: &str = "{msg} {wide_bar} {pos}/{len} tokens {eta}";

const PARTS: &str = "{msg} {wide_bar} {pos}/{len}";

/// A bar of tokens computed; hidden where there is no terminal.
pub fn token_bar(total: usize) -> ProgressBar {
    let bar = match stderr().is_terminal() {
        true => ProgressBar::new(total as u64),
        false => ProgressBar::hidden(),
    };
    bar.with_style(style(TOKENS))
}

/// A bar of parts of a task, whose number is told later; hidden where there is no terminal.
pub fn parts_bar(task: &'static str) -> ProgressBar {
    let bar = match stderr().is_terminal() {
        true => ProgressBar::new(1),
        false => ProgressBar::hidden(),
    };
    bar.with_style(style(PARTS)).with_message(task)
}

/// A bar of bytes written; hidden where there is no terminal.
pub fn byte_bar(total: u64) -> ProgressBar {
    let bar = match stderr().is_terminal() {
        true => ProgressBar::new(total),
        false => ProgressBar::hidden(),
    };
    bar.with_style(style(BAR))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Shows the events of one pull.
pub struct PullBar {
    bar: Option<ProgressBar>,
    told_waiting: bool,
    /// What moving bytes are doing.
    moving: &'static str,
}

impl PullBar {
    /// Nothing is shown before the first event.
    pub fn new() -> PullBar {
        PullBar { bar: None, told_waiting: false, moving: "downloading" }
    }

    /// For bytes that go the other way.
    pub fn sending() -> PullBar {
        PullBar { moving: "uploading", ..PullBar::new() }
    }

    /// So many bytes are here.
    pub fn bytes(&mut self, done: u64, total: u64) {
        self.move_to(self.moving, done, total);
    }

    /// Shows an event.
    pub fn show(&mut self, event: Progress) {
        match event {
            Progress::Waiting if self.told_waiting => {}
            Progress::Waiting => {
                self.told_waiting = true;
                self.line("another hob is fetching this model; waiting for it");
            }
            Progress::File { .. } => {}
            Progress::Resolving { source } => self.line(&format!("asking {source}")),
            Progress::Bytes { done, total } => self.move_to(self.moving, done, total),
            Progress::Verifying { done, total } => self.move_to("verifying", done, total),
            Progress::Failed { source, reason } => {
                self.line(&format!("gave up {source}: {reason}"))
            }
            Progress::Done => self.clear(),
        }
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, text: &str) {
        self.clear();
        out::say(text);
    }

    fn move_to(&mut self, what: &'static str, done: u64, total: u64) {
        if !stderr().is_terminal() {
            return;
        }
        if self.bar.as_ref().is_some_and(|bar| bar.message() != what) {
            self.clear();
        }
        let bar = self.bar.get_or_insert_with(|| {
            // What an interrupted pull left counts as done, not as speed.
            let bar = ProgressBar::new(total).with_style(style(BAR)).with_message(what);
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        bar.set_length(total);
        bar.set_position(done);
    }
}
