//! The keys `general.*`: what a model is called and where it comes from, out of its card, its config and the folder's
//! name, as the ecosystem's converter guesses them; and the sampling that its makers recommend. Deliberately absent: how
//! a name becomes a file's name.

use hob_gguf::MetaBuilder;
use regex_lite::Regex;
use serde_json::Value;

use super::card::Card;
use super::error::ConvertError;
use super::folder::Folder;
use super::plan::Planned;

/// Recommended sampling: name in `generation_config.json`, name in GGUF, and whether it is a whole number.
const SAMPLING: &[(&str, &str, bool)] = &[
    ("top_k", "top_k", true),
    ("top_p", "top_p", false),
    ("min_p", "min_p", false),
    ("xtc_probability", "xtc_probability", false),
    ("xtc_threshold", "xtc_threshold", false),
    ("temperature", "temp", false),
    ("penalty_last_n", "penalty_last_n", true),
    ("repetition_penalty", "penalty_repeat", false),
    ("mirostat", "mirostat", true),
    ("mirostat_tau", "mirostat_tau", false),
    ("mirostat_eta", "mirostat_eta", false),
];

/// States all of it.
pub(super) fn state(
    folder: &Folder,
    tensors: &[Planned],
    name: Option<&str>,
    meta: &mut MetaBuilder,
) -> Result<(), ConvertError> {
    meta.insert("general.type", "model");
    sampling(folder, meta);
    let card = Card::parse(&folder.text("README.md").ok().flatten().unwrap_or_default());
    let parameters = Parameters::of(tensors);
    let config = folder.json("config.json")?.unwrap_or_default();
    let from = config.get("_name_or_path").and_then(Value::as_str).unwrap_or_default();
    let from = (from.matches('/').count() <= 1).then_some(from);
    let path = folder.path().canonicalize().unwrap_or_else(|_| folder.path().to_owned());
    let path = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut about = About::of_card(&card);
    for id in [from, Some(&path)].into_iter().flatten().filter(|id| !id.is_empty()) {
        about.complete(About::of_id(id, parameters.all));
    }
    about.name = name.map(str::to_owned).or(about.name).or(Some(path));
    about.size = about.size.or_else(|| Some(parameters.label()).filter(|_| parameters.all > 0));
    about.state("general", meta);
    for (key, of) in
        [("license", "license"), ("license_name", "license.name"), ("license_link", "license.link")]
    {
        if let Some(text) = card.text(key).filter(|text| !text.is_empty()) {
            meta.insert(&format!("general.{of}"), text);
        }
    }
    sources(&card, parameters.all, meta);
    let mut tags = card.list("tags").unwrap_or_default();
    tags.extend(card.list("pipeline_tag").into_iter().flatten());
    let mut languages = card.list("languages").unwrap_or_default();
    languages.extend(card.list("language").into_iter().flatten());
    for (key, list) in [("general.tags", tags), ("general.languages", languages)] {
        if !list.is_empty() {
            meta.insert(key, list);
        }
    }
    Ok(())
}

fn sampling(folder: &Folder, meta: &mut MetaBuilder) {
    // A damaged recommendation is none.
    let config = folder.json("generation_config.json").ok().flatten().unwrap_or_default();
    for (key, name, whole) in SAMPLING {
        let Some(value) = config.get(*key).and_then(Value::as_f64) else { continue };
        let name = format!("general.sampling.{name}");
        match whole {
            true => meta.insert(&name, value as i32),
            false => meta.insert(&name, value as f32),
        }
    }
}

/// Models and data that this one was made from.
fn sources(card: &Card, parameters: u64, meta: &mut MetaBuilder) {
    let of = |keys: &[&str]| keys.iter().find_map(|key| card.list(key));
    let lists = [
        ("base_model", of(&["base_model", "base_models", "base_model_sources"])),
        ("dataset", of(&["datasets", "dataset", "dataset_sources"])),
    ];
    for (kind, list) in lists {
        let Some(list) = list else { continue };
        meta.insert(&format!("general.{kind}.count"), list.len() as u32);
        for (i, id) in list.iter().enumerate() {
            let link = ["http://", "https://", "ssh://"].iter().any(|start| id.starts_with(start));
            let at_hub = ["https://huggingface.co/", "http://huggingface.co/"];
            let hub = at_hub.iter().find_map(|start| id.strip_prefix(start));
            let hub = hub.filter(|rest| rest.matches('/').count() == 1);
            let about = hub.or((!link).then_some(id)).map(|id| About::of_id(id, parameters));
            let about =
                about.map(|about| About { basename: None, finetune: None, size: None, ..about });
            let known = about.as_ref().is_some_and(|about| about.organization.is_some());
            let url = if link {
                Some(id.clone())
            } else {
                known.then(|| format!("https://huggingface.co/{id}"))
            };
            about.unwrap_or_default().state(&format!("general.{kind}.{i}"), meta);
            if let Some(url) = url {
                meta.insert(&format!("general.{kind}.{i}.repo_url"), url);
            }
        }
    }
}

/// What is known of a model's name.
#[derive(Debug, Default, PartialEq, Eq)]
struct About {
    name: Option<String>,
    author: Option<String>,
    version: Option<String>,
    organization: Option<String>,
    finetune: Option<String>,
    basename: Option<String>,
    description: Option<String>,
    size: Option<String>,
}

impl About {
    fn of_card(card: &Card) -> Self {
        let of =
            |keys: &[&str]| keys.iter().find_map(|key| card.text(key)).filter(|t| !t.is_empty());
        About {
            name: of(&["name", "model_name"]),
            author: of(&["author", "model_author", "model_creator"]),
            version: of(&["version", "model_version"]),
            organization: of(&["organization", "model_organization"]),
            finetune: of(&["finetune", "model_finetune"]),
            basename: of(&["basename", "model_basename", "model_type"]),
            description: of(&["description", "model_description"]),
            size: of(&["size_label", "model_size_label"]),
        }
    }

    /// Takes a name like `Owner/Base-7B-Instruct-v0.1` apart. `parameters` tell a size from a context's length.
    fn of_id(id: &str, parameters: u64) -> Self {
        if id.contains(' ') {
            return About { name: Some(title(id)), ..About::default() };
        }
        let (owner, full) =
            id.split_once('/').map_or((None, id), |(owner, full)| (Some(owner), full));
        let owner = owner.filter(|owner| !owner.starts_with('.'));
        let parts = parts(full, parameters);
        let join = |wanted: Part| {
            let mut list: Vec<&str> = Vec::new();
            for (text, kinds) in &parts {
                let again = wanted == Part::Size && list.contains(&text.as_str());
                let base = wanted == Part::Version && kinds.contains(&Part::Base);
                if kinds.contains(&wanted) && !again && !base {
                    list.push(text);
                }
            }
            (!list.is_empty()).then(|| list.join("-"))
        };
        let (size, finetune, version) =
            (join(Part::Size), join(Part::Finetune), join(Part::Version));
        let told = size.is_some() || finetune.is_some() || version.is_some();
        About {
            name: Some(title(full)),
            organization: owner.map(title),
            basename: join(Part::Base).filter(|_| told),
            version,
            finetune,
            size,
            ..About::default()
        }
    }

    /// Takes what is not known yet.
    fn complete(&mut self, other: About) {
        let take = |mine: &mut Option<String>, other: Option<String>| *mine = mine.take().or(other);
        take(&mut self.name, other.name);
        take(&mut self.organization, other.organization);
        take(&mut self.basename, other.basename);
        take(&mut self.finetune, other.finetune);
        take(&mut self.version, other.version);
        take(&mut self.size, other.size);
    }

    fn state(self, under: &str, meta: &mut MetaBuilder) {
        let fields = [
            ("name", self.name),
            ("author", self.author),
            ("version", self.version),
            ("organization", self.organization),
            ("finetune", self.finetune),
            ("basename", self.basename),
            ("description", self.description),
            ("size_label", self.size),
        ];
        for (key, value) in fields {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                meta.insert(&format!("{under}.{key}"), value);
            }
        }
    }
}

/// What a part of a name may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Base,
    Size,
    Finetune,
    Version,
    Type,
}

/// The parts of a name, each with what it may be.
fn parts(full: &str, parameters: u64) -> Vec<(String, Vec<Part>)> {
    let split = full.split('-').filter(|part| !part.is_empty()).enumerate();
    let mut parts: Vec<(String, Vec<Part>)> =
        split.map(|(i, part)| kind(part, i > 0, parameters)).collect();
    let digits = |text: &str| text.chars().any(char::is_numeric);
    if parts.iter().any(|(text, kinds)| kinds.contains(&Part::Size) && digits(text)) {
        // Words are no sizes beside a number.
        for (text, kinds) in &mut parts {
            if text.chars().all(char::is_alphabetic) {
                kinds.retain(|kind| *kind != Part::Size);
            }
        }
    }
    let mut at_start = true;
    for (text, kinds) in &mut parts {
        let word = kinds.is_empty() && text.starts_with(char::is_alphabetic);
        if at_start && (word || kinds.contains(&Part::Version)) {
            kinds.push(Part::Base);
            continue;
        }
        at_start = false;
        if kinds.is_empty() {
            kinds.push(Part::Finetune);
        }
    }
    // A version at the end is none of the base's name.
    for (_, kinds) in parts.iter_mut().rev() {
        if !kinds.contains(&Part::Base) || kinds.len() < 2 {
            break;
        }
        kinds.retain(|kind| *kind != Part::Base);
    }
    parts
}

fn kind(part: &str, later: bool, parameters: u64) -> (String, Vec<Part>) {
    let is = |pattern: &str| Regex::new(pattern).is_ok_and(|regex| regex.is_match(part));
    if is(r"(?i)^(v|iter)?\d+([.]\d+)*$") {
        return (part.to_owned(), vec![Part::Version]);
    }
    if is(r"(?i)^(i?q\d(_\w)*|b?fp?(16|32))$") {
        return (part.to_uppercase(), vec![Part::Type]);
    }
    if later && is(r"(?i)^(([A]|\d+[x])?\d+([._]\d+)?[KMBT][\d]?|small|mini|medium|large|x?xl)$") {
        let (text, fits) = size(part, parameters);
        return (text, vec![if fits { Part::Size } else { Part::Finetune }]);
    }
    let finetune = later && is(r"(?i)^(chat|instruct|vision|lora)$");
    (part.to_owned(), if finetune { vec![Part::Finetune] } else { Vec::new() })
}

/// A size as it is written, and whether the model is about as large.
fn size(part: &str, parameters: u64) -> (String, bool) {
    let mut part = part.replace('_', ".");
    let mut chars: Vec<char> = part.chars().collect();
    if let [.., unit, digit] = chars[..]
        && digit.is_ascii_digit()
    {
        // As in "7b1".
        let last = chars.len() - 2;
        chars.splice(last.., ['.', digit, unit]);
        part = chars.iter().collect();
    }
    if let [.., digit, unit] = chars[..]
        && digit.is_numeric()
        && "kmbt".contains(unit)
    {
        part = part[..part.len() - 1].to_owned() + &unit.to_uppercase().to_string();
    }
    let Some(unit) = part.chars().last() else { return (part, true) };
    let number: Option<f64> = part[..part.len() - unit.len_utf8()].parse().ok();
    let power = " KMBT".find(unit);
    if let (Some(number), Some(power), true) = (number, power, parameters != 0) {
        let said = number * 1000f64.powi(power as i32);
        if (said - parameters as f64).abs() > (7 * parameters / 8) as f64 {
            let lower = part[..part.len() - 1].to_owned() + &unit.to_lowercase().to_string();
            return (lower, false);
        }
    }
    (part, true)
}

/// Words with capitals, but for those that have some and for versions.
fn title(text: &str) -> String {
    let word = |word: &str| {
        let version = Regex::new(r"^(v\d+(\.\d+)*|\d.*)$").is_ok_and(|r| r.is_match(word));
        let lower = word.chars().any(char::is_lowercase) && !word.chars().any(char::is_uppercase);
        if version || !lower {
            return word.to_owned();
        }
        let mut before = false;
        let letter = |c: char| {
            let first = !std::mem::replace(&mut before, c.is_alphabetic());
            if first { c.to_uppercase().collect::<String>() } else { c.to_string() }
        };
        word.chars().map(letter).collect()
    };
    text.replace('-', " ").split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// Parameters of a model.
struct Parameters {
    all: u64,
    /// All but those of the experts.
    shared: u64,
    /// Those of one expert, in all layers.
    expert: u64,
    experts: u64,
}

impl Parameters {
    fn of(tensors: &[Planned]) -> Self {
        let mut out = Parameters { all: 0, shared: 0, expert: 0, experts: 0 };
        let (mut sum, mut stacks) = (0, 0);
        for t in tensors {
            let size: u64 = t.dims.iter().product();
            out.all += size;
            // Biases of experts have their number in the second dimension.
            let count = t.dims.get(if t.name.contains(".bias") { 1 } else { 2 });
            match count.filter(|_| t.name.contains("_exps.") && t.dims.len() > 2) {
                Some(count) => {
                    out.expert += size / (*count).max(1);
                    (sum, stacks) = (sum + count, stacks + 1);
                }
                None => out.shared += size,
            }
        }
        out.experts = sum.checked_div(stacks).unwrap_or(0);
        out
    }

    /// As in "8x7B" or "596M".
    fn label(&self) -> String {
        match self.experts {
            0 => rounded(self.all),
            n => format!("{n}x{}", rounded(self.shared + self.expert)),
        }
    }
}

/// At least two digits and a unit.
fn rounded(n: u64) -> String {
    let n = n as f64;
    let (scaled, unit) = match n {
        _ if n > 1e12 => (n * 1e-12, "T"),
        _ if n > 1e9 => (n * 1e-9, "B"),
        _ if n > 1e6 => (n * 1e-6, "M"),
        _ => (n * 1e-3, "K"),
    };
    let whole = format!("{:.0}", scaled.round_ties_even());
    let digits = 2usize.saturating_sub(whole.trim_start_matches('0').len());
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(id: &str, parameters: u64) -> [Option<String>; 6] {
        let a = About::of_id(id, parameters);
        [a.name, a.organization, a.basename, a.finetune, a.version, a.size]
    }

    fn some(parts: [&str; 6]) -> [Option<String>; 6] {
        parts.map(|part| (!part.is_empty()).then(|| part.to_owned()))
    }

    #[test]
    fn names_are_taken_apart_as_the_converter_does() {
        // What gguf-py's `get_model_id_components` and `id_to_title` gave.
        let cases = [
            ("Mistral/Mixtral-8x7B-Instruct-v0.1", 0),
            ("NousResearch/Meta-Llama-3-8B", 0),
            ("qwen1.5-moe-a2.7b-chat", 14_315_784_192),
            ("Qwen1.5-7B", 0),
            ("bigscience/bloom-7b1-petals", 7_069_016_064),
            ("x-128k-Instruct", 7_000_000_000),
            ("Llama-3-8b-1048k", 8_030_261_248),
            ("mistral-7b-v0.1-small", 7_241_732_096),
        ];
        let expected = [
            ["Mixtral 8x7B Instruct v0.1", "Mistral", "Mixtral", "Instruct", "v0.1", "8x7B"],
            ["Meta Llama 3 8B", "NousResearch", "Meta-Llama-3", "", "", "8B"],
            ["Qwen1.5 Moe A2.7B Chat", "", "qwen1.5-moe", "chat", "", "a2.7B"],
            ["Qwen1.5 7B", "", "Qwen1.5", "", "", "7B"],
            ["Bloom 7b1 Petals", "Bigscience", "bloom", "petals", "", "7.1B"],
            ["X 128k Instruct", "", "x", "128k-Instruct", "", ""],
            ["Llama 3 8b 1048k", "", "Llama-3", "1048k", "", "8B"],
            ["Mistral 7b v0.1 Small", "", "mistral", "small", "v0.1", "7B"],
        ];
        for ((id, parameters), expected) in cases.into_iter().zip(expected) {
            assert_eq!(told(id, parameters), some(expected), "{id}");
        }
    }

    #[test]
    fn sizes_have_two_digits() {
        assert_eq!(rounded(596_049_920), "596M");
        assert_eq!(rounded(7_248_023_552), "7.2B");
        assert_eq!(rounded(46_702_792_704), "47B");
        assert_eq!(rounded(8_512), "8.5K");
        assert_eq!(rounded(512), "0.5K");
        assert_eq!(rounded(300), "0.30K");
        assert_eq!(rounded(9_950_000), "10M");
    }
}
