//! Which language is spoken. Two are known; whatever is not Chinese is answered in English.

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Lang {
    /// English
    En,
    /// 中文
    Zh,
}

impl Lang {
    /// One of two things, by language.
    pub fn pick<T>(self, english: T, chinese: T) -> T {
        match self {
            Lang::En => english,
            Lang::Zh => chinese,
        }
    }
}

/// The language that is asked for, as every verb with two languages has it.
#[derive(clap::Args)]
pub struct Asked {
    /// Language of the answer [default: by HOB_LANG, LC_ALL, LC_MESSAGES, LANG]
    #[arg(long, value_enum)]
    lang: Option<Lang>,
}

impl Asked {
    /// The one that is spoken.
    pub fn lang(&self) -> Lang {
        choose(self.lang, |name| std::env::var(name).ok())
    }
}

/// The one that was asked for, else that of the first variable that is set (POSIX's order, behind hob's own).
fn choose(asked: Option<Lang>, variable: impl Fn(&str) -> Option<String>) -> Lang {
    let set = ["HOB_LANG", "LC_ALL", "LC_MESSAGES", "LANG"];
    asked.unwrap_or_else(|| {
        let first = set.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        match first {
            Some(value) if value.to_lowercase().starts_with("zh") => Lang::Zh,
            _ => Lang::En,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_set_decides() {
        let of = |set: &[(&str, &str)], asked| {
            choose(asked, |name| {
                set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[], None), Lang::En);
        assert_eq!(of(&[("LANG", "zh_CN.UTF-8")], None), Lang::Zh);
        assert_eq!(of(&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "C")], None), Lang::En);
        assert_eq!(of(&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "")], None), Lang::Zh);
        assert_eq!(of(&[("LANG", "de_DE.UTF-8"), ("HOB_LANG", "ZH")], None), Lang::Zh);
        assert_eq!(of(&[("HOB_LANG", "zh")], Some(Lang::En)), Lang::En);
    }
}
