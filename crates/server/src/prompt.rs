//! From what a dialect asks to tokens: the stored system prompt and messages put in front, the template applied, the length held against the
//! context. What does not fit is an error with both numbers, unless the caller wants the oldest left out; then it is counted.

use hob_text::{
    ChatParser, ChatTemplate, GoTemplate, Message, RenderOptions, Template, TextError, Token,
};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::loaded::Loaded;
use crate::turns;

/// Whether and how much a model thinks before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Think {
    /// Not at all.
    Off,
    /// As it does.
    On,
    /// Little.
    Low,
    /// More.
    Medium,
    /// Much.
    High,
    /// As much as it can.
    Max,
}

impl Think {
    /// For templates that know degrees.
    pub fn effort(self) -> Option<&'static str> {
        match self {
            Think::Off | Think::On => None,
            Think::Low => Some("low"),
            Think::Medium => Some("medium"),
            Think::High | Think::Max => Some("high"),
        }
    }
}

/// Whether tools may, must or must not be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// Not at all: the model is not told of them.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// Messages to be answered.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// In their order.
    pub messages: Vec<Message>,
    /// Tools in OpenAI's form: a list.
    pub tools: Option<Value>,
    /// Whether they are called.
    pub choice: ToolChoice,
    /// Whether several may be called in one answer.
    pub parallel: bool,
    /// Whether the model thinks first; `None` for its template's default.
    pub think: Option<Think>,
    /// Jinja or Go in place of the model's template.
    pub template: Option<String>,
    /// Further variables for the template.
    pub variables: Map<String, Value>,
    /// The last message is the beginning of the answer, if it is the assistant's and has no calls.
    pub continues: bool,
}

/// What is to be continued.
#[derive(Clone, Debug)]
pub enum Input {
    /// A conversation.
    Chat(Box<Conversation>),
    /// A text as it is, control tokens by their names.
    Text(String),
    /// Tokens.
    Tokens(Vec<Token>),
    /// What stands between two texts.
    Infill {
        /// Before.
        prefix: String,
        /// Behind.
        suffix: String,
    },
}

/// Tokens to be continued, and how the answer is read.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The tokens.
    pub tokens: Vec<Token>,
    /// Their text, where a template made it.
    pub text: Option<String>,
    /// Takes the answer apart; `None` where it is plain text.
    pub parser: Option<ChatParser>,
    /// Tokens that were left out so that the rest fits.
    pub dropped: usize,
}

/// How much room there is, and what happens to what does not fit.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Tokens of prompt and answer.
    pub context: usize,
    /// Tokens that the answer is to have when the oldest is left out.
    pub answer: usize,
    /// Leave out the oldest; else it is an error.
    pub truncate: bool,
}

impl Room {
    /// Tokens that a prompt may have which is not cut.
    fn most(&self) -> usize {
        self.context.saturating_sub(1)
    }

    /// Tokens that a prompt is cut to: a long answer is not worth more than half of the context.
    fn cut(&self) -> usize {
        self.context.saturating_sub(self.answer.clamp(1, (self.context / 2).max(1)))
    }
}

impl Loaded {
    /// The prompt for what is asked. Works as long as the text is: not for a thread that others wait for.
    ///
    /// # Errors
    /// When it does not fit, the template refuses it, or the model cannot do what is asked.
    pub fn prompt(&self, input: &Input, room: Room) -> Result<Prompt, ApiError> {
        if self.embeds_only() {
            let name = self.name();
            return Err(ApiError::invalid(format!("\"{name}\" does not support generate")));
        }
        match input {
            Input::Chat(chat) => self.chat(chat, room),
            Input::Text(text) => plain(self.tokens(text), room),
            Input::Tokens(tokens) => plain(tokens.clone(), room),
            Input::Infill { prefix, suffix } => self.between(prefix, suffix, room),
        }
    }

    fn chat(&self, chat: &Conversation, room: Room) -> Result<Prompt, ApiError> {
        let name = self.name();
        let own = chat.template.as_deref().map(|source| self.compile(source)).transpose()?;
        let Some(template) = own.as_ref().or(self.template.as_ref()) else {
            return Err(ApiError::invalid(format!(
                "{name} has no chat template: it continues text and knows no roles"
            )));
        };
        if chat.think.is_some_and(|think| think != Think::Off) && !template.format().thinks() {
            return Err(ApiError::field("think", format!("\"{name}\" does not support thinking")));
        }
        let options = options(chat);
        let mut messages = self.with_stored(&chat.messages);
        let render = |messages: &[Message]| -> Result<(String, Vec<Token>), ApiError> {
            let (messages, begun) = match messages.split_last().filter(|_| chat.continues) {
                Some((last, before)) if begins_answer(last) => (before, last.content.as_str()),
                _ => (messages, ""),
            };
            let text = turns::render(messages, |messages| template.render(messages, &options))?;
            let tokens = self.tokens(&format!("{text}{begun}"));
            Ok((text, tokens))
        };
        let (mut text, mut tokens) = render(&messages)?;
        let full = tokens.len();
        if full > room.most() {
            if !room.truncate {
                return Err(ApiError::too_long(full, room.context));
            }
            while tokens.len() > room.cut() {
                let Some(oldest) = oldest(&messages) else {
                    return Err(ApiError::too_long(tokens.len(), room.context));
                };
                messages.drain(oldest);
                (text, tokens) = render(&messages)?;
            }
        }
        let mut parser = ChatParser::new(template.format(), &text, options.tools.as_ref());
        if let Some(last) = messages.last().filter(|m| chat.continues && begins_answer(m)) {
            // What the caller has written is read, but not answered.
            parser.push(&last.content);
            text.push_str(&last.content);
        }
        let dropped = full.saturating_sub(tokens.len());
        Ok(Prompt { tokens, text: Some(text), parser: Some(parser), dropped })
    }

    /// The conversation with what the store says comes first.
    fn with_stored(&self, messages: &[Message]) -> Vec<Message> {
        let overlay = &self.file.overlay;
        let own_system = messages.first().is_some_and(|m| m.role == "system");
        let system = overlay.system.iter().filter(|_| !own_system);
        let system = system.map(|text| Message::new("system", text.as_str()));
        let first = overlay.messages.iter();
        let first = first.map(|(role, text)| Message::new(role.as_str(), text.as_str()));
        // A system message of the request stays in front of the stored conversation.
        let (head, rest) = messages.split_at(usize::from(own_system));
        head.iter().cloned().chain(system).chain(first).chain(rest.iter().cloned()).collect()
    }

    /// A request's own template, in whichever language it is written.
    fn compile(&self, source: &str) -> Result<Template, ApiError> {
        let piece = |token: Option<Token>| {
            token.map(|t| self.tokenizer.piece(t).into_owned()).unwrap_or_default()
        };
        let refused = |e: TextError| ApiError::field("template", format!("template: {e}"));
        let jinja = source.contains("{%") || !source.contains("{{ .") && !source.contains("{{.");
        match jinja {
            true => {
                let (bos, eos) = (piece(self.tokenizer.bos()), piece(self.tokenizer.eos()));
                let template = ChatTemplate::new(source, &bos, &eos).map_err(refused)?;
                Ok(Template::Jinja(Box::new(template)))
            }
            false => Ok(Template::Go(Box::new(GoTemplate::new(source).map_err(refused)?))),
        }
    }

    /// Fill-in-the-middle: by the model's Go template, else by the vocabulary's own tokens.
    fn between(&self, prefix: &str, suffix: &str, room: Room) -> Result<Prompt, ApiError> {
        if let Some(Template::Go(template)) = &self.template
            && template.capabilities().insert
        {
            let text = template.render_insert(prefix, suffix, &RenderOptions::default())?;
            return plain(self.tokens(&text), room);
        }
        let Some(marks) = self.infill() else {
            let name = self.name();
            return Err(ApiError::field("suffix", format!("\"{name}\" does not support insert")));
        };
        let text = |text: &str| {
            let options = hob_text::EncodeOptions { add_special: false, parse_special: false };
            self.tokenizer.encode(text, options)
        };
        let bos = self.tokenizer.bos().filter(|_| self.tokenizer.add_bos());
        let mut tokens: Vec<Token> = bos.into_iter().chain([marks.prefix]).collect();
        tokens.extend(text(prefix));
        tokens.push(marks.suffix);
        tokens.extend(text(suffix));
        tokens.push(marks.middle);
        if tokens.len() > room.most() {
            return Err(ApiError::too_long(tokens.len(), room.context));
        }
        Ok(Prompt { tokens, text: None, parser: None, dropped: 0 })
    }
}

fn begins_answer(message: &Message) -> bool {
    message.role == "assistant" && message.tool_calls.is_none()
}

fn options(chat: &Conversation) -> RenderOptions {
    let tools = chat.tools.clone().filter(|_| chat.choice != ToolChoice::None);
    let mut options = RenderOptions {
        add_generation_prompt: true,
        tools: tools.filter(|t| t.as_array().is_some_and(|tools| !tools.is_empty())),
        enable_thinking: chat.think.map(|think| think != Think::Off),
        ..RenderOptions::default()
    };
    if let Some(effort) = chat.think.and_then(Think::effort) {
        options.extra.insert("reasoning_effort".to_owned(), effort.into());
    }
    options.extra.extend(chat.variables.clone());
    options
}

/// A text's tokens, of which the first may be left out.
fn plain(mut tokens: Vec<Token>, room: Room) -> Result<Prompt, ApiError> {
    let full = tokens.len();
    if full > room.most() {
        if !room.truncate {
            return Err(ApiError::too_long(full, room.context));
        }
        tokens.drain(..full - room.cut());
    }
    let dropped = full - tokens.len();
    Ok(Prompt { tokens, text: None, parser: None, dropped })
}

/// The oldest turn that may go: behind the system messages, up to the next user's; never the last message.
fn oldest(messages: &[Message]) -> Option<std::ops::Range<usize>> {
    let last = messages.len().checked_sub(1)?;
    let start = messages.iter().position(|m| m.role != "system")?;
    let next = (start + 1..last).find(|&i| messages.get(i).is_some_and(|m| m.role == "user"));
    let end = next.unwrap_or(last);
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(roles: &str) -> Vec<Message> {
        let role = |c| match c {
            's' => "system",
            'u' => "user",
            'a' => "assistant",
            _ => "tool",
        };
        roles.chars().map(|c| Message::new(role(c), "x")).collect()
    }

    #[test]
    fn the_oldest_turn_goes_and_the_last_message_stays() {
        assert_eq!(oldest(&messages("suauau")), Some(1..3));
        assert_eq!(oldest(&messages("uatau")), Some(0..4));
        assert_eq!(oldest(&messages("suu")), Some(1..2));
        assert_eq!(oldest(&messages("su")), None);
        assert_eq!(oldest(&messages("u")), None);
        assert_eq!(oldest(&messages("")), None);
        assert_eq!(oldest(&messages("ss")), None);
    }

    #[test]
    fn what_does_not_fit_is_told_or_cut() {
        let room = |truncate| Room { context: 10, answer: 3, truncate };
        let error = plain(vec![1; 10], room(false)).unwrap_err();
        assert!(error.message.contains("10 tokens") && error.message.contains("holds 10"));
        assert_eq!(plain(vec![1; 9], room(false)).unwrap().tokens.len(), 9);
        let cut = plain((0..12).collect(), room(true)).unwrap();
        assert_eq!((cut.tokens, cut.dropped), ((5..12).collect(), 5));
        // An answer never takes more than half.
        let room = Room { context: 10, answer: 100, truncate: true };
        assert_eq!(plain(vec![1; 12], room).unwrap().tokens.len(), 5);
    }
}
