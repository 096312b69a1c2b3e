//! Lines from the terminal: editing and history by rustyline, messages of several lines between `"""`. History is kept in the store's
//! folder, unless HOB_NOHISTORY (or OLLAMA_NOHISTORY) is set.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::FileHistory;
use rustyline::{Completer, Config, Helper, Validator};

use crate::out;

const PROMPT: &str = ">>> ";
const CONTINUED: &str = "... ";
const QUOTES: &str = "\"\"\"";
/// Lines that the history holds.
const HISTORY_LINES: usize = 1000;

/// What the user did at the prompt.
pub enum Typed {
    /// A message or a command.
    Text(String),
    /// An empty line, or Ctrl-C for the first time.
    Nothing,
    /// Ctrl-C twice in a row.
    Interrupted,
    /// Ctrl-D.
    Left,
}

/// The line editor.
pub struct Editor {
    lines: rustyline::Editor<Placeholder, FileHistory>,
    file: PathBuf,
    remembers: bool,
    interrupted: bool,
}

impl Editor {
    /// An editor with the history of `folder`.
    pub fn open(folder: &Path) -> Result<Editor> {
        let config =
            Config::builder().max_history_size(HISTORY_LINES)?.history_ignore_dups(true)?.build();
        let mut lines =
            rustyline::Editor::with_config(config).context("cannot use this terminal")?;
        lines.set_helper(Some(Placeholder::default()));
        let file = folder.join("history");
        let wanted = |name| std::env::var_os(name).is_none_or(|v| v.is_empty() || v == "0");
        let remembers = wanted("HOB_NOHISTORY") && wanted("OLLAMA_NOHISTORY");
        // There is none the first time.
        let _ = lines.load_history(&file);
        Ok(Editor { lines, file, remembers, interrupted: false })
    }

    /// Remembers what is typed from now on, or not.
    pub fn keep_history(&mut self, on: bool) {
        self.remembers = on;
    }

    /// Reads a message, over several lines if it begins with `"""`.
    pub fn read(&mut self) -> Result<Typed> {
        let mut message = Multiline::default();
        loop {
            let first = message.is_empty();
            if let Some(helper) = self.lines.helper_mut() {
                helper.shown = first;
            }
            match self.lines.readline(if first { PROMPT } else { CONTINUED }) {
                Ok(line) => {
                    self.interrupted = false;
                    if let Some(text) = message.push(&line) {
                        return Ok(self.typed(text));
                    }
                }
                Err(ReadlineError::Interrupted) => return Ok(self.interrupt(first)),
                Err(ReadlineError::Eof) if first => return Ok(Typed::Left),
                Err(ReadlineError::Eof) => return Ok(self.typed(message.text)),
                Err(e) => return Err(e).context("cannot read from the terminal"),
            }
        }
    }

    fn interrupt(&mut self, at_prompt: bool) -> Typed {
        if self.interrupted {
            return Typed::Interrupted;
        }
        self.interrupted = at_prompt;
        if at_prompt {
            out::say("\nUse Ctrl + d or /bye to exit.");
        }
        Typed::Nothing
    }

    fn typed(&mut self, text: String) -> Typed {
        if text.trim().is_empty() {
            return Typed::Nothing;
        }
        if self.remembers {
            self.remember(&text);
        }
        Typed::Text(text)
    }

    /// A history that cannot be written is no reason to stop talking.
    fn remember(&mut self, text: &str) {
        if !self.lines.add_history_entry(text).unwrap_or(false) {
            return;
        }
        // Before anything was pulled, the folder may be missing.
        if let Some(folder) = self.file.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        let _ = self.lines.save_history(&self.file);
    }
}

/// Collects the lines of one message.
#[derive(Default)]
struct Multiline {
    text: String,
    /// Whether quotes were opened and not closed yet.
    open: bool,
}

impl Multiline {
    fn is_empty(&self) -> bool {
        !self.open
    }

    /// Takes a line; the message, if it is complete. Quotes open a message at its start or after `/set system`.
    fn push(&mut self, line: &str) -> Option<String> {
        if self.open {
            self.text.push('\n');
            return self.take(line);
        }
        let Some((before, after)) = line.split_once(QUOTES) else { return Some(line.to_owned()) };
        if !before.is_empty() && before.trim() != "/set system" {
            return Some(line.to_owned());
        }
        self.open = true;
        before.clone_into(&mut self.text);
        self.take(after)
    }

    /// Adds what comes before closing quotes.
    fn take(&mut self, part: &str) -> Option<String> {
        match part.split_once(QUOTES) {
            None => {
                self.text.push_str(part);
                None
            }
            Some((last, _)) => {
                self.text.push_str(last);
                Some(std::mem::take(&mut self.text))
            }
        }
    }
}

/// The grey text of an empty prompt.
#[derive(Default, Completer, Helper, Validator)]
struct Placeholder {
    shown: bool,
}

struct Invitation;

impl Hint for Invitation {
    fn display(&self) -> &str {
        "Send a message (/? for help)"
    }

    /// Nothing that a key could take over.
    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Highlighter for Placeholder {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

impl Hinter for Placeholder {
    type Hint = Invitation;

    fn hint(&self, line: &str, _pos: usize, _ctx: &rustyline::Context<'_>) -> Option<Invitation> {
        (self.shown && line.is_empty()).then_some(Invitation)
    }
}

#[cfg(test)]
mod tests {
    use super::Multiline;

    /// The messages that these lines make.
    fn messages(lines: &[&str]) -> Vec<String> {
        let mut message = Multiline::default();
        let mut found = Vec::new();
        for line in lines {
            if let Some(text) = message.push(line) {
                found.push(text);
                message = Multiline::default();
            }
        }
        found
    }

    #[test]
    fn a_line_is_a_message() {
        assert_eq!(messages(&["one", "two"]), ["one", "two"]);
        assert_eq!(messages(&["say \"\"\" please"]), ["say \"\"\" please"]);
    }

    #[test]
    fn quotes_hold_several_lines() {
        assert_eq!(messages(&["\"\"\"a", "", " b\"\"\"", "c"]), ["a\n\n b", "c"]);
        assert_eq!(messages(&["\"\"\"", "a", "\"\"\""]), ["\na\n"]);
        assert_eq!(messages(&["\"\"\"one line\"\"\""]), ["one line"]);
    }

    #[test]
    fn a_system_message_may_have_several_lines() {
        assert_eq!(messages(&["/set system \"\"\"a", "b\"\"\""]), ["/set system a\nb"]);
    }
}
