//! What clients ask: one system prompt that all share and notes that differ, made of a list of words, so that every server reads the
//! same and no one has read it before. Deliberately absent: real conversations.

use serde_json::{Value, json};

const SYSTEM: &str = "You are a careful assistant of a large library. Readers send you notes from their day, and you answer \
    each of them with a long and friendly story about the things in the note. Write whole sentences, and never a list.";

const WORDS: &[&str] = &[
    "river", "garden", "small", "window", "morning", "bread", "green", "teacher", "walked",
    "under", "the", "a", "old", "bridge", "letter", "found", "winter", "station", "music",
    "between", "yellow", "table", "friend", "answered", "slowly", "because", "mountain", "paper",
    "children", "market", "silver", "clock", "and", "with", "road", "harbour", "opened", "quiet",
    "evening", "kitchen", "forest", "seven", "horses", "rain", "painted", "corner", "story",
    "light",
];

/// A prompt of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    note: String,
}

/// Prompts of a run: as many words each as `words` allows, evenly spread, and different for each seed.
pub fn prompts(seed: u64, count: usize, words: std::ops::Range<usize>) -> Vec<Prompt> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..count)
        .map(|_| {
            let length = words.start + random.below(words.len());
            let word = |_| WORDS[random.below(WORDS.len())];
            Prompt { note: (0..length).map(word).collect::<Vec<_>>().join(" ") }
        })
        .collect()
}

impl Prompt {
    /// As the messages of a conversation.
    pub fn messages(&self) -> Value {
        json!([
            { "role": "system", "content": SYSTEM },
            { "role": "user", "content": format!("My note: {}. Tell me a story.", self.note) },
        ])
    }

    /// As a text to be continued.
    pub fn text(&self) -> String {
        format!("Once upon a time there was a library with many books. {}. One day", self.note)
    }
}

/// A generator of numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_differ_within_and_between_runs_and_can_be_made_again() {
        let first = prompts(1, 40, 20..180);
        assert_eq!(first, prompts(1, 40, 20..180));
        let mut all = [first, prompts(2, 40, 20..180)].concat();
        let words = |p: &Prompt| p.note.split(' ').count();
        assert!(all.iter().all(|p| (20..180).contains(&words(p))));
        assert!(all.iter().any(|p| words(p) < 60) && all.iter().any(|p| words(p) > 140));
        all.sort_by(|a, b| a.note.cmp(&b.note));
        all.dedup();
        assert_eq!(all.len(), 80);
    }
}
