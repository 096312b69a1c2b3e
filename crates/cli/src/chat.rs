//! The conversation of `hob run` on a terminal: Ollama's prompts and slash commands around a line editor. Nothing is ever dropped from
//! a conversation: one that outgrows the context is an error that says so.

mod commands;
mod editor;

use anyhow::Result;
use hob_hub::Hub;
use hob_server::Sampling;
use hob_text::{ChatEvent, Message};

use crate::answer::{Answer, LoadFlags, Think};
use crate::out::{self, Interrupted};
use crate::printer::Printer;
use crate::talk::{Model, Way};
use commands::{Command, Section, Setting};
use editor::{Editor, Typed};

/// What the user can change while talking.
pub struct Settings {
    /// Instructions that precede the conversation.
    pub system: Option<String>,
    /// Whether timings follow each answer.
    pub verbose: bool,
    /// Whether and how much models think first.
    pub think: Option<Think>,
    /// Whether that is shown.
    pub hide_thinking: bool,
    /// How models are found and loaded.
    pub way: Way,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

struct Chat {
    hub: Hub,
    model: Model,
    settings: Settings,
    messages: Vec<Message>,
}

/// Talks until the user leaves.
pub fn run(hub: Hub, model: Model, settings: Settings) -> Result<()> {
    let mut editor = Editor::open(hub.root())?;
    let mut chat = Chat { hub, model, settings, messages: Vec::new() };
    loop {
        let done = match editor.read()? {
            Typed::Left => return Ok(()),
            Typed::Interrupted => return Err(Interrupted.into()),
            Typed::Nothing => Ok(()),
            Typed::Text(text) => match Command::parse(&text) {
                None => chat.say(text),
                Some(Ok(Command::Bye)) => return Ok(()),
                Some(Ok(Command::Set(Setting::History(on)))) => {
                    editor.keep_history(on);
                    Ok(())
                }
                Some(Ok(command)) => chat.obey(command),
                Some(Err(unclear)) => out::print(&format!("{unclear}\n")),
            },
        };
        match done {
            Err(e) if !e.chain().any(|c| c.is::<std::io::Error>()) => {
                out::say(&format!("Error: {}", out::message(&e)));
            }
            other => other?,
        }
    }
}

impl Chat {
    /// One turn. On failure, what was said counts as unsaid.
    fn say(&mut self, text: String) -> Result<()> {
        self.messages.push(Message::new("user", text));
        let answered = self.answer();
        if answered.is_err() {
            self.messages.pop();
        }
        answered
    }

    fn answer(&mut self) -> Result<()> {
        let answer = self.ask()?;
        out::print("\n\n")?;
        if answer.cut_off() && answer.total_tokens() + 1 >= self.model.context() {
            out::say("The context is full; /clear starts a new conversation.");
        }
        if self.settings.verbose {
            out::say(&format!("{}\n", answer.verbose()));
        }
        self.messages.push(answer.said.into_message());
        Ok(())
    }

    /// The conversation so far is answered. A model without a template continues the last text only.
    fn ask(&self) -> Result<Answer> {
        let Settings { sampling, think, hide_thinking, .. } = &self.settings;
        let mut printer = Printer::new(*hide_thinking);
        let mut show = |piece: &ChatEvent| printer.show(piece);
        if !self.model.has_template() {
            let last = self.messages.last().map_or("", |m| m.content.as_str());
            return self.model.text(last, sampling, &mut show);
        }
        let system = self.settings.system.iter().map(|text| Message::new("system", text.as_str()));
        let messages: Vec<Message> = system.chain(self.messages.iter().cloned()).collect();
        self.model.chat(&messages, *think, sampling, &mut show)
    }

    fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Help(topic) => out::print(topic),
            Command::Clear => {
                self.messages = Vec::new();
                out::print("Cleared the conversation.\n")
            }
            Command::Load(model) => self.load(&model),
            Command::Show(section) => self.show(section),
            Command::Set(setting) => self.set(setting),
            // The loop sees to it.
            Command::Bye => Ok(()),
        }
    }

    /// Changes to another model with a new conversation; the old one stays if that fails.
    fn load(&mut self, model: &str) -> Result<()> {
        let model = Model::open(&self.hub, model, &self.settings.way)?;
        self.settings.sampling = model.sampling()?;
        self.settings.system = model.system();
        self.model = model;
        self.messages = Vec::new();
        out::say(&self.model.line(self.hub.root()));
        Ok(())
    }

    /// Loads the same model in another way; the conversation goes on.
    fn reload(&mut self, load: LoadFlags) -> Result<()> {
        let way = Way { load, ..self.settings.way.clone() };
        self.model = self.model.again(&way)?;
        self.settings.way = way;
        out::say(&self.model.line(self.hub.root()));
        Ok(())
    }

    fn set(&mut self, setting: Setting) -> Result<()> {
        match setting {
            Setting::Verbose(on) => {
                self.settings.verbose = on;
                out::print(if on { "Set 'verbose' mode.\n" } else { "Set 'quiet' mode.\n" })
            }
            Setting::Think(think) => {
                self.settings.think = Some(think);
                out::print(match think {
                    Think::False => "Set 'nothink' mode.\n",
                    _ => "Set 'think' mode.\n",
                })
            }
            Setting::System(text) => {
                self.settings.system = Some(text).filter(|t| !t.is_empty());
                out::print("Set system message.\n")
            }
            Setting::Context(n) => {
                self.reload(LoadFlags { context: Some(n), ..self.settings.way.load.clone() })
            }
            Setting::Threads(n) => {
                self.reload(LoadFlags { threads: Some(n), ..self.settings.way.load.clone() })
            }
            Setting::Parameter(name, value) => {
                self.settings.sampling.set(&name, &value)?;
                out::print(&format!("Set parameter '{name}' to '{value}'\n"))
            }
            // The editor's affair.
            Setting::History(_) => Ok(()),
        }
    }

    fn show(&self, section: Section) -> Result<()> {
        let text = match section {
            Section::Info => self.model.overview()? + &self.model.line(self.hub.root()),
            Section::Licence => or_none(self.model.licence(), "licence"),
            Section::Template => or_none(self.model.template(), "chat template"),
            Section::System => or_none(self.settings.system.clone(), "system message"),
            Section::Parameters => {
                let lines = self.settings.sampling.lines();
                let text: Vec<String> =
                    lines.iter().map(|(name, value)| format!("{name:30} {value}")).collect();
                or_none(
                    (!text.is_empty()).then(|| text.join("\n")),
                    "parameters that differ from the defaults",
                )
            }
        };
        out::print(&format!("{text}\n\n"))
    }
}

fn or_none(text: Option<String>, what: &str) -> String {
    text.unwrap_or_else(|| format!("There is no {what}."))
}
