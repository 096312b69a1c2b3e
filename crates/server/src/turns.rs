//! Conversations as templates take them: many refuse a system message that is not the first, or two turns of one role in a row, and some lose
//! one without a word. What a template refuses or loses is put together otherwise; what it takes stays as it is.

use hob_text::Message;

/// Renders a conversation, put together otherwise if the template refuses it or leaves out what the system says.
///
/// # Errors
/// The template's, for the conversation as it is, when it takes it in no form.
pub fn render<E>(
    messages: &[Message],
    render: impl Fn(&[Message]) -> Result<String, E>,
) -> Result<String, E> {
    let first = render(messages);
    if first.as_ref().is_ok_and(|text| complete(messages, text)) {
        return first;
    }
    let (folded, merged, bare) = (folded(messages), merged(&folded(messages)), bare(messages));
    let mut tried = vec![messages];
    for form in [folded.as_slice(), merged.as_slice(), bare.as_slice()] {
        if tried.contains(&form) {
            continue;
        }
        tried.push(form);
        if let Ok(text) = render(form)
            && complete(messages, &text)
        {
            return Ok(text);
        }
    }
    first
}

/// Whether all that the system says is in the text.
fn complete(messages: &[Message], text: &str) -> bool {
    messages.iter().filter(|m| is_system(m)).all(|m| text.contains(m.content.trim()))
}

fn is_system(message: &Message) -> bool {
    message.role == "system"
}

/// All that the system says, in one message in front.
fn folded(messages: &[Message]) -> Vec<Message> {
    let system = messages.iter().filter(|m| is_system(m)).map(|m| m.content.as_str());
    let system: Vec<&str> = system.collect();
    let front = (!system.is_empty()).then(|| Message::new("system", system.join("\n\n")));
    front.into_iter().chain(messages.iter().filter(|m| !is_system(m)).cloned()).collect()
}

/// Turns of one role in a row, in one.
fn merged(messages: &[Message]) -> Vec<Message> {
    let plain = |m: &Message| m.role == "user" || m.role == "assistant" && m.tool_calls.is_none();
    let mut all: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages {
        match all.last_mut() {
            Some(last) if last.role == message.role && plain(last) && plain(message) => {
                last.content = format!("{}\n\n{}", last.content, message.content);
                last.thinking = last.thinking.take().or_else(|| message.thinking.clone());
            }
            _ => all.push(message.clone()),
        }
    }
    all
}

/// What the system says as the beginning of what the user says first, for templates that know no system.
fn bare(messages: &[Message]) -> Vec<Message> {
    let mut all = folded(messages);
    if let Some(first) = all.first_mut().filter(|m| is_system(m)) {
        first.role = "user".to_owned();
    }
    merged(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(messages: &[Message]) -> String {
        messages.iter().map(|m| format!("{}:{} ", m.role, m.content)).collect()
    }

    fn conversation() -> Vec<Message> {
        [("system", "first"), ("user", "a"), ("system", "later"), ("user", "b"), ("assistant", "c")]
            .map(|(role, text)| Message::new(role, text))
            .to_vec()
    }

    #[test]
    fn what_a_template_takes_stays_as_it_is() {
        let text = render(&conversation(), |m| Ok::<_, ()>(roles(m))).unwrap();
        assert_eq!(text, roles(&conversation()));
    }

    #[test]
    fn a_later_system_message_is_put_in_front_when_it_is_refused_or_lost() {
        let expected = "system:first\n\nlater user:a user:b assistant:c ";
        let late = |m: &[Message]| m.iter().skip(1).any(is_system);
        let refusing = |m: &[Message]| if late(m) { Err("late") } else { Ok(roles(m)) };
        assert_eq!(render(&conversation(), refusing).unwrap(), expected);
        let losing = |m: &[Message]| {
            let kept = m.iter().enumerate().filter(|(i, m)| *i == 0 || !is_system(m));
            Ok::<_, ()>(kept.map(|(_, m)| format!("{}:{} ", m.role, m.content)).collect())
        };
        assert_eq!(render(&conversation(), losing).unwrap(), expected);
    }

    #[test]
    fn templates_that_insist_on_alternation_get_it() {
        let pairs = |m: &[Message]| match m.windows(2).any(|w| w[0].role == w[1].role) {
            true => Err("alternate"),
            false => Ok(roles(m)),
        };
        let text = render(&conversation(), |m| match m.iter().skip(1).any(is_system) {
            true => Err("late"),
            false => pairs(m),
        });
        assert_eq!(text.unwrap(), "system:first\n\nlater user:a\n\nb assistant:c ");
        let none = |m: &[Message]| if m.iter().any(is_system) { Err("none") } else { pairs(m) };
        assert_eq!(
            render(&conversation(), none).unwrap(),
            "user:first\n\nlater\n\na\n\nb assistant:c "
        );
        let never = |_: &[Message]| Err::<String, _>("never");
        assert_eq!(render(&conversation(), never), Err("never"));
    }
}
