//! What is left of a device's name when spelling is set aside: makers' and families' names that may be missing, the core that may not,
//! and a size of memory. "NVIDIA GeForce RTX 4070 Ti SUPER" and "4070ti super" have one core, "RTX 4070" has another.

use crate::Vendor;

/// Longer texts are no names. In bytes.
pub(super) const LONGEST: usize = 300;

/// A name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Makers and families, such as `nvidia` and `rtx`.
    pub families: Vec<&'static str>,
    /// Everything else that means something, without gaps.
    pub core: String,
    /// GiB of memory.
    pub memory: Option<u64>,
}

/// Words that name a maker or a family.
const FAMILIES: &str = "nvidia geforce rtx gtx quadro tesla amd ati radeon rx instinct ryzen threadripper epyc \
    intel arc core xeon apple huawei ascend atlas mtt cambricon hygon dcu biren metax \
    kunlunxin qualcomm rockchip";

/// Families whose names stand before the number without a gap, too.
const GLUED: [&str; 8] = ["rtx", "gtx", "rx", "mtt", "arc", "ascend", "ryzen", "epyc"];

/// Families of processors: a number of cores in their names is only told, never told apart by.
const PROCESSORS: [&str; 5] = ["ryzen", "threadripper", "epyc", "core", "xeon"];

/// Words that say nothing.
const EMPTY: &str = "gpu gpus graphics graphic card cards vga compatible controller 3d display accelerator \
    processor cpu apu soc npu corporation corp inc ltd co advanced micro devices edition \
    founders generation gen series workstation design oam module superchip data center the \
    moore threads integrated cores";

/// Words in Chinese, and what they are here.
const CHINESE: [(&str, &str); 15] = [
    ("英伟达", " nvidia "),
    ("华为", " huawei "),
    ("昇腾", " ascend "),
    ("苹果", " apple "),
    ("摩尔线程", " mtt "),
    ("寒武纪", " cambricon "),
    ("海光", " hygon "),
    ("壁仞", " biren "),
    ("沐曦", " metax "),
    ("昆仑芯", " kunlunxin "),
    ("笔记本", " laptop "),
    ("移动版", " laptop "),
    ("显卡", " "),
    ("显存", " "),
    ("版", " "),
];

/// Names of a maker that may stand before any of its devices.
pub(super) fn of_maker(vendor: Vendor) -> &'static [&'static str] {
    match vendor {
        Vendor::Nvidia => &["nvidia", "geforce", "quadro", "tesla"],
        Vendor::Amd => &["amd", "ati", "radeon", "instinct"],
        Vendor::Intel => &["intel"],
        Vendor::Apple => &["apple"],
        Vendor::Huawei => &["huawei", "ascend"],
        Vendor::Other => &[],
    }
}

impl Name {
    /// Takes a name apart; None if nothing is left of it.
    pub(super) fn of(text: &str) -> Option<Name> {
        if text.len() > LONGEST {
            return None;
        }
        let words = words(text);
        let mut name = Name { families: Vec::new(), core: String::new(), memory: None };
        let processor = is_processor(&words);
        let mut core = Vec::new();
        let mut rest = &words[..];
        while let Some((word, after)) = rest.split_first() {
            let next = after.first().map_or("", String::as_str);
            let taken =
                name.take(word, next, after.get(1..).unwrap_or_default(), processor, &mut core);
            rest = after.get(taken..).unwrap_or_default();
        }
        core.dedup_by(|a, b| a == b && *a == LAPTOP);
        name.core = core.concat();
        if name.core.is_empty() {
            // "Arc Graphics" is a name, "NVIDIA" is none.
            let families = name.families.iter().filter(|f| !MAKERS.contains(f));
            name.core = families.copied().collect();
            name.families.clear();
        }
        (!name.core.is_empty()).then_some(name)
    }

    /// Puts a word where it belongs; says how many of those after it went with it (all after a revision).
    fn take<'w>(
        &mut self,
        word: &'w str,
        next: &str,
        later: &[String],
        processor: bool,
        core: &mut Vec<&'w str>,
    ) -> usize {
        let number = word.parse::<u64>().ok();
        if let Some(gib) = gib(word) {
            self.memory = Some(gib);
        } else if let (Some(n), "gb" | "gib" | "g" | "tb" | "tib") = (number, next) {
            self.memory = gib(&format!("{n}{next}"));
            return 1;
        } else if number.is_some() && matches!(next, "core" | "cores") {
            let of_processor =
                later.first().is_some_and(|w| matches!(w.as_str(), "processor" | "cpu"));
            if !of_processor && !processor_has_cores(processor, later) {
                core.push(word);
            }
            return 1 + usize::from(of_processor);
        } else if word == "rev" {
            return usize::MAX;
        } else if word == "max" && next == "q" {
            core.push(LAPTOP);
            return 1;
        } else if let Some(family) = FAMILIES.split(' ').find(|f| *f == word) {
            self.families.push(family);
        } else if let Some(kept) = kept(word, processor) {
            core.push(kept);
        }
        0
    }
}

/// Whether a processor's family is named. "40-core" is not the family Core.
fn is_processor(words: &[String]) -> bool {
    let number = |w: &String| w.bytes().all(|b| b.is_ascii_digit());
    let counted = |at: usize| at.checked_sub(1).and_then(|i| words.get(i)).is_some_and(number);
    let mut words_at = words.iter().enumerate();
    words_at.any(|(at, w)| PROCESSORS.contains(&w.as_str()) && !(w == "core" && counted(at)))
}

/// A number of cores at the end of a processor's name means nothing; before "GPU" it does.
fn processor_has_cores(processor: bool, later: &[String]) -> bool {
    processor && later.first().is_none_or(|w| w != "gpu")
}

/// How the core of every portable version ends, whatever its driver calls it.
const LAPTOP: &str = "laptop";

/// Makers' names, which alone are no device's.
const MAKERS: [&str; 8] =
    ["nvidia", "amd", "ati", "intel", "apple", "huawei", "qualcomm", "rockchip"];

/// What a word of the core counts as, if anything.
fn kept(word: &str, processor: bool) -> Option<&str> {
    let memory_kind = ["hbm", "gddr", "lpddr", "ddr"].iter().any(|m| word.starts_with(m));
    let ordinal = word.strip_suffix("th").is_some_and(|n| n.parse::<u32>().is_ok());
    match word {
        "mobile" | "notebook" | "maxq" | "laptop" => Some(LAPTOP),
        "sxm" | "sxm2" | "sxm3" | "sxm4" | "sxm5" | "sxm6" => Some("sxm"),
        "pro" if processor => None,
        _ if EMPTY.split(' ').any(|e| e == word) || memory_kind || ordinal => None,
        _ => Some(word),
    }
}

/// `80gb`, `16g`, `24gib`, `1tb` in GiB.
fn gib(word: &str) -> Option<u64> {
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = word.split_at(digits);
    // "5700G" is a processor.
    let (most, factor) = match unit {
        "gb" | "gib" => (1 << 20, 1),
        "g" => (1024, 1),
        "tb" | "tib" => (1 << 10, 1024),
        _ => return None,
    };
    number.parse::<u64>().ok().filter(|n| (1..=most).contains(n)).map(|n| n * factor)
}

/// The words of a name in lower case: letters and digits, families apart from what is glued to them.
fn words(text: &str) -> Vec<String> {
    let mut text = text.to_lowercase();
    text.truncate(text.find('@').unwrap_or(text.len()));
    for mark in ["(r)", "(tm)", "(c)", "®", "™"] {
        text = text.replace(mark, " ");
    }
    for (from, to) in CHINESE {
        text = text.replace(from, to);
    }
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    words.flat_map(unglued).map(str::to_owned).collect()
}

/// `rtx5090` as `rtx` and `5090`.
fn unglued(word: &str) -> Vec<&str> {
    let numbered = |rest: &str| rest.bytes().any(|b| b.is_ascii_digit());
    let family = GLUED.iter().find(|f| word.strip_prefix(**f).is_some_and(numbered));
    match family.map(|f| word.split_at(f.len())) {
        Some((family, rest)) => vec![family, rest],
        None => vec![word],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(text: &str) -> String {
        Name::of(text).map_or_else(String::new, |n| n.core)
    }

    #[test]
    fn spelling_does_not_matter() {
        let cases = [
            ("NVIDIA GeForce RTX 4070 Ti SUPER", "4070tisuper"),
            ("4070ti super", "4070tisuper"),
            ("rtx4070Ti-Super", "4070tisuper"),
            ("RTX 4070", "4070"),
            ("NVIDIA GeForce RTX 4060 Laptop GPU", "4060laptop"),
            ("GeForce RTX 4060 Max-Q", "4060laptop"),
            ("GeForce RTX 2070 with Max-Q Design", "2070withlaptop"),
            ("NVIDIA A100-SXM4-80GB", "a100sxm"),
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("AMD Ryzen 9 9950X 16-Core Processor", "99950x"),
            ("AMD Ryzen 7 PRO 7840U", "77840u"),
            ("AMD Ryzen Threadripper PRO 7995WX 96-Cores", "7995wx"),
            ("Apple M3 Max 16-core CPU 40-core GPU", "m3max40"),
            ("13th Gen Intel(R) Core(TM) i9-13900HK", "i913900hk"),
            ("Intel(R) Core(TM) i9-10900X CPU @ 3.70GHz", "i910900x"),
            ("Apple M3 Max 40-core", "m3max40"),
            ("Apple M5 Pro (16-core GPU)", "m5pro16"),
            ("昇腾 910B 64GB", "910b"),
            ("Intel(R) Arc(TM) Graphics", "arc"),
            ("NVIDIA Corporation", ""),
            ("", ""),
        ];
        for (text, wanted) in cases {
            assert_eq!(core(text), wanted, "{text}");
        }
    }

    #[test]
    fn sizes_of_memory_are_told_apart_from_numbers() {
        let memory = |text: &str| Name::of(text).and_then(|n| n.memory);
        assert_eq!(memory("RTX 3060 12GB"), Some(12));
        assert_eq!(memory("RTX 3060 12 GB"), Some(12));
        assert_eq!(memory("M3 Ultra 512g"), Some(512));
        assert_eq!(memory("EPYC 9654 1 TB"), Some(1024));
        assert_eq!(memory("RTX 3060"), None);
        assert_eq!(memory("Ryzen 7 5700G"), None);
        assert_eq!(memory("RTX 3060 0GB"), None);
        assert_eq!(memory("RTX 3060 99999999999999999999GB"), None);
    }
}
