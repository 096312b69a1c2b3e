//! Stop strings in a stream: text leaves as soon as it cannot be the start of one, and none is ever shown. The result
//! does not depend on how the text was cut into tokens.

/// Looks for stop strings.
#[derive(Clone, Debug)]
pub(crate) struct Stops {
    stops: Vec<String>,
    held: String,
}

impl Stops {
    /// None of `stops` may be empty.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Stops { stops, held: String::new() }
    }

    /// Takes text; returns what can be shown, and which stop string was completed first, if any.
    pub(crate) fn push(&mut self, text: &str) -> (String, Option<usize>) {
        self.held.push_str(text);
        let ends = self.stops.iter().enumerate().filter_map(|(i, stop)| {
            self.held.find(stop.as_str()).map(|start| (start + stop.len(), start, i))
        });
        if let Some((_, start, stop)) = ends.min() {
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), Some(stop));
        }
        let rest = self.held.split_off(self.held.len() - self.unsure());
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// What is held back: at the end of the stream it belongs to the text.
    pub(crate) fn held(&self) -> &str {
        &self.held
    }

    /// Bytes at the end that may be the start of a stop string.
    fn unsure(&self) -> usize {
        let held = self.held.as_bytes();
        let starts =
            |stop: &String| (1..stop.len()).rev().find(|&n| held.ends_with(&stop.as_bytes()[..n]));
        self.stops.iter().filter_map(starts).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use hob_testkit::Rng;
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], parts: &[&str]) -> (Vec<String>, Option<usize>, String) {
        let mut s = Stops::new(stops.iter().map(|s| s.to_string()).collect());
        let mut shown = Vec::new();
        for part in parts {
            let (text, stop) = s.push(part);
            shown.push(text);
            if stop.is_some() {
                return (shown, stop, String::new());
            }
        }
        (shown, None, s.held().to_owned())
    }

    #[test]
    fn text_is_held_only_while_it_may_stop() {
        let (shown, stop, rest) = run(&["</s>"], &["a<", "/", "b", "<"]);
        assert_eq!((shown.join("|").as_str(), stop, rest.as_str()), ("a||</b|", None, "<"));
        let (shown, stop, _) = run(&["User:", "</s>"], &["hi<", "/s", ">more"]);
        assert_eq!((shown.join("|").as_str(), stop), ("hi||", Some(1)));
        let (shown, stop, _) = run(&["aab"], &["aa", "a", "b"]);
        assert_eq!((shown.concat().as_str(), stop), ("a", Some(0)));
        let (shown, stop, _) = run(&["é!"], &["né", "é!"]);
        assert_eq!((shown.join("|").as_str(), stop), ("n|é", Some(0)));
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(seed in any::<u64>()) {
            let mut rng = Rng::new(seed);
            let mut word = |n: usize| (0..n).map(|_| ["a", "b", "é"][rng.below(3)]).collect::<String>();
            let stops: Vec<String> = (1..4).map(&mut word).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let text = word(12);
            let chars: Vec<String> = text.chars().map(String::from).collect();
            let chars: Vec<&str> = chars.iter().map(String::as_str).collect();
            let (whole, by_char) = (run(&stops, &[&text]), run(&stops, &chars));
            prop_assert_eq!(whole.0.concat() + &whole.2, by_char.0.concat() + &by_char.2);
            prop_assert_eq!(whole.1, by_char.1);
            // The first stop string to end, by its definition.
            let ends = (1..=text.len()).filter(|&n| text.is_char_boundary(n));
            let first = ends.map(|n| &text[..n]).find(|t| stops.iter().any(|s| t.ends_with(s)));
            match first {
                None => prop_assert_eq!(whole.0.concat() + &whole.2, text),
                Some(t) => {
                    let longest = stops.iter().filter(|s| t.ends_with(**s)).map(|s| s.len()).max();
                    prop_assert_eq!(whole.0.concat(), &t[..t.len() - longest.unwrap()]);
                }
            }
        }
    }
}
