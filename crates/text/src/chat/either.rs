//! A model's chat template in whichever language it is written: Jinja, which GGUF files carry, or Go's, which models of Ollama's library
//! carry beside the file. Which of the two counts is decided here, by Ollama's rule.

use super::{ChatFormat, ChatTemplate, Message, RenderOptions};
use crate::{Capabilities, GoTemplate, TextError};

/// A template that turns a conversation into a prompt.
#[derive(Debug, Clone)]
pub enum Template {
    /// Of the GGUF file.
    Jinja(Box<ChatTemplate>),
    /// Of a layer beside it.
    Go(Box<GoTemplate>),
}

impl Template {
    /// The one that counts: the file's if it can do more, else the layer's. `own`: the user has set the layer's, which then always counts.
    pub fn choose(jinja: Option<ChatTemplate>, go: Option<GoTemplate>, own: bool) -> Option<Self> {
        match (jinja, go) {
            (Some(jinja), Some(go)) => {
                let (a, b) = (jinja.capabilities(), go.capabilities());
                let more = (a.tools && !b.tools) || (a.thinking && !b.thinking);
                Some(if more && !own {
                    Self::Jinja(Box::new(jinja))
                } else {
                    Self::Go(Box::new(go))
                })
            }
            (Some(jinja), None) => Some(Self::Jinja(Box::new(jinja))),
            (None, go) => go.map(|go| Self::Go(Box::new(go))),
        }
    }

    /// How models of this template write thinking and calls.
    pub fn format(&self) -> ChatFormat {
        match self {
            Self::Jinja(template) => template.format(),
            Self::Go(template) => template.format(),
        }
    }

    /// Its text.
    pub fn source(&self) -> &str {
        match self {
            Self::Jinja(template) => template.source(),
            Self::Go(template) => template.source(),
        }
    }

    /// The prompt for a conversation.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`] and [`GoTemplate::render`].
    pub fn render(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        match self {
            Self::Jinja(template) => template.render(messages, options),
            Self::Go(template) => template.render(messages, options),
        }
    }
}

impl ChatTemplate {
    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it knows besides conversations, as far as its text shows it.
    pub fn capabilities(&self) -> Capabilities {
        let tools = self.tool_use.is_some() || self.source.contains("tools");
        Capabilities { tools, thinking: self.format().thinks(), insert: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jinja(source: &str) -> Option<ChatTemplate> {
        Some(ChatTemplate::new(source, "", "").unwrap())
    }

    fn go(source: &str) -> Option<GoTemplate> {
        Some(GoTemplate::new(source).unwrap())
    }

    fn is_go(chosen: Option<Template>) -> bool {
        matches!(chosen, Some(Template::Go(_)))
    }

    #[test]
    fn the_file_s_counts_where_it_can_do_more() {
        let plain = "{% for m in messages %}{{ m.content }}{% endfor %}";
        let with_tools = "{% for m in messages %}{{ m.content }}{% endfor %}{% if tools %}{{ tools }}{% endif %}";
        let legacy = "{{ .System }} {{ .Prompt }}";
        assert!(is_go(Template::choose(jinja(plain), go(legacy), false)));
        assert!(!is_go(Template::choose(jinja(with_tools), go(legacy), false)));
        assert!(is_go(Template::choose(jinja(with_tools), go(legacy), true)));
        assert!(is_go(Template::choose(None, go(legacy), false)));
        assert!(Template::choose(None, None, true).is_none());
    }

    #[test]
    fn both_render_alike() {
        let messages = [Message::new("user", "hi")];
        let options = RenderOptions::default();
        let a = Template::choose(jinja("{{ messages[0].content }}!"), None, false).unwrap();
        let b = Template::choose(None, go("{{ .Prompt }}!"), false).unwrap();
        for template in [a, b] {
            assert_eq!(template.render(&messages, &options).unwrap(), "hi!");
        }
    }
}
