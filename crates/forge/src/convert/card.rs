//! The head of a model card (`README.md`): the part of YAML that cards use for what a GGUF file states, texts and lists of
//! texts. Deliberately absent: nested values, anchors, and everything else of YAML; a line that is not understood is
//! passed over.

/// Texts by key, in the order of the card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Card(Vec<(String, Entry)>);

/// A key's value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Text(String),
    List(Vec<String>),
}

impl Card {
    /// Reads the part between the first line `---` and the next one.
    pub fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let mut card = Card::default();
        if lines.next() != Some("---") {
            return card;
        }
        for line in lines.take_while(|line| *line != "---") {
            card.line(&line.replace('\t', "  "));
        }
        card
    }

    fn line(&mut self, line: &str) {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            return;
        }
        if let Some(item) = text.strip_prefix("- ") {
            // A list, unless its items are objects.
            if let (Some((_, Entry::List(list))), false) = (self.0.last_mut(), item.contains(": "))
            {
                list.push(scalar(item));
            }
            return;
        }
        let Some((key, value)) = line.split_once(':').filter(|_| !line.starts_with(' ')) else {
            return;
        };
        let value = value.trim();
        let entry = match value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
            Some(list) => {
                Entry::List(list.split(',').map(scalar).filter(|s| !s.is_empty()).collect())
            }
            None if value.is_empty() => Entry::List(Vec::new()),
            None => Entry::Text(scalar(value)),
        };
        self.0.push((key.trim().to_owned(), entry));
    }

    fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, entry)| entry)
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.get(key)? {
            Entry::Text(text) => Some(text.clone()),
            Entry::List(list) => (!list.is_empty()).then(|| list.join(",")),
        }
    }

    /// A list, or a text as the only one of a list.
    pub fn list(&self, key: &str) -> Option<Vec<String>> {
        match self.get(key)? {
            Entry::Text(text) => Some(vec![text.clone()]),
            Entry::List(list) => (!list.is_empty()).then(|| list.clone()),
        }
    }
}

/// A text without its quotes and comment.
fn scalar(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|t| t.split(quote).next()) {
            return inner.to_owned();
        }
    }
    text.split(" #").next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_lists_of_both_styles() {
        let card = Card::parse(
            "---\nlicense: apache-2.0 # free\ntags:\n- a\n  - \"b c\"\nlanguage: [en, de]\n\
             model-index:\n- name: x\n---\nlicense: other",
        );
        assert_eq!(card.text("license").as_deref(), Some("apache-2.0"));
        assert_eq!(card.list("tags"), Some(vec!["a".to_owned(), "b c".to_owned()]));
        assert_eq!(card.list("language"), Some(vec!["en".to_owned(), "de".to_owned()]));
        assert_eq!(card.list("model-index"), None);
        assert_eq!(Card::parse("no head\n---\nlicense: x"), Card::default());
    }
}
