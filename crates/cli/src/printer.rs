//! How an answer looks on a terminal as it comes: what a model thinks is set apart from what it says, as Ollama does.
//! Deliberately absent: colours and wrapping, which terminals do better.

use anyhow::Result;
use hob_text::ChatEvent;

use crate::out;

/// Prints the pieces of one answer.
#[derive(Default)]
pub struct Printer {
    /// Print nothing of the thinking.
    hide_thinking: bool,
    /// Within the thinking.
    thinking: bool,
    /// Nothing of the text has come yet.
    started: bool,
}

impl Printer {
    /// A printer that shows what the model thinks, or not.
    pub fn new(hide_thinking: bool) -> Self {
        Printer { hide_thinking, ..Printer::default() }
    }

    /// Prints a piece.
    pub fn show(&mut self, event: &ChatEvent) -> Result<()> {
        match event {
            ChatEvent::Thinking(_) if self.hide_thinking => Ok(()),
            ChatEvent::Thinking(text) => {
                if !self.thinking {
                    out::print("Thinking...\n")?;
                    self.thinking = true;
                }
                out::print(text)
            }
            ChatEvent::Content(text) | ChatEvent::BrokenCall(text) => self.text(text),
            ChatEvent::ToolCallStart { name, .. } => self.text(&format!("{name}(")),
            ChatEvent::ToolCallArguments { text, .. } => out::print(text),
            ChatEvent::ToolCallEnd { .. } => out::print(")\n"),
        }
    }

    fn text(&mut self, text: &str) -> Result<()> {
        if self.thinking {
            out::print("\n...done thinking.\n\n")?;
            (self.thinking, self.started) = (false, false);
        }
        // Between thinking and text models write empty lines.
        let text = if self.started { text } else { text.trim_start_matches('\n') };
        self.started |= !text.is_empty();
        out::print(text)
    }
}
