//! Which files of an offer, or of a folder, are one model, and in which recipe. All of it is read from file names, by the habits of
//! those who publish GGUF: `Model-Q4_K_M.gguf`, `UD-Q4_K_XL/Model-UD-Q4_K_XL-00001-of-00003.gguf`, `mmproj-F16.gguf`. Which recipe
//! suits a machine is the planner's business.

use std::collections::BTreeMap;

use super::{Offer, RemoteFile};
use crate::error::SourceError;

/// Most parts of a split file.
const MAX_PARTS: usize = 999;

/// A file by its place in a repository, whether that is here or elsewhere.
pub(crate) trait Listed {
    /// Path within the repository, with `/` between its parts.
    fn path(&self) -> &str;
    /// Its length, if that is known.
    fn bytes(&self) -> Option<u64>;
}

impl Listed for RemoteFile {
    fn path(&self) -> &str {
        &self.path
    }

    fn bytes(&self) -> Option<u64> {
        self.bytes
    }
}

/// One model in one recipe.
#[derive(Clone, Debug)]
pub(crate) struct Variant<'a, F = RemoteFile> {
    /// As its name has it, in capitals: `Q4_K_M`, `UD-Q4_K_XL`; the file's name without `.gguf` where it names none.
    pub recipe: String,
    /// One file, or the parts of a split one in their order.
    pub files: Vec<&'a F>,
    /// Bytes of all files together, if all are known; without the projector.
    pub bytes: Option<u64>,
    /// The vision or audio tower that belongs to the repository's models.
    pub projector: Option<&'a F>,
}

/// Files that belong together, some perhaps missing.
struct Group<'a, F> {
    recipe: String,
    /// Path without `.gguf` and the number of the part.
    stem: String,
    parts: Vec<Option<&'a F>>,
}

/// Every complete variant of an offer, the smallest first.
pub(crate) fn variants(offer: &Offer) -> Vec<Variant<'_>> {
    variants_of(&offer.files)
}

/// Every complete variant among these files of one repository, the smallest first.
pub(crate) fn variants_of<F: Listed>(files: &[F]) -> Vec<Variant<'_, F>> {
    let projector = projector(files);
    let mut all: Vec<_> =
        groups(files).into_iter().filter_map(|group| complete(group, projector)).collect();
    all.sort_by(|(a, va), (b, vb)| (va.bytes, a).cmp(&(vb.bytes, b)));
    all.into_iter().map(|(_, variant)| variant).collect()
}

/// A group's path and variant; `None` when parts of it are missing.
fn complete<'a, F: Listed>(
    group: Group<'a, F>,
    projector: Option<&'a F>,
) -> Option<(String, Variant<'a, F>)> {
    let files: Vec<&F> = group.parts.into_iter().collect::<Option<_>>()?;
    let bytes = files.iter().try_fold(0_u64, |sum, f| sum.checked_add(f.bytes()?));
    Some((group.stem, Variant { recipe: group.recipe, files, bytes, projector }))
}

/// The variant that a word means: a recipe in any case, with or without `UD-`, or a file's name with or without `.gguf`.
///
/// # Errors
/// `NoVariant` with what there is, `NoGguf`, `Ambiguous`, or `Incomplete` when parts of a split file are missing.
pub(crate) fn select<'a>(offer: &'a Offer, wanted: &str) -> Result<Variant<'a>, SourceError> {
    select_of(&offer.files, wanted)
}

/// As `select`, among these files of one repository.
pub(crate) fn select_of<'a, F: Listed>(
    files: &'a [F],
    wanted: &str,
) -> Result<Variant<'a, F>, SourceError> {
    let groups = groups(files);
    if groups.is_empty() {
        return Err(SourceError::NoGguf);
    }
    let word = wanted.to_ascii_uppercase();
    let word = word.strip_suffix(".GGUF").unwrap_or(&word);
    let rules: [fn(&Group<F>, &str) -> bool; 4] = [
        |g, w| g.stem.eq_ignore_ascii_case(w) || g.holds(w),
        |g, w| g.name().eq_ignore_ascii_case(w),
        |g, w| g.recipe == w,
        |g, w| g.recipe.strip_prefix("UD-") == Some(w),
    ];
    let found =
        rules.iter().map(|rule| groups.iter().filter(|g| rule(g, word)).collect::<Vec<_>>());
    let found = found.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    let group = match found.as_slice() {
        [] => {
            let mut have: Vec<String> = groups.iter().map(|g| g.recipe.clone()).collect();
            have.sort();
            have.dedup();
            return Err(SourceError::NoVariant { wanted: wanted.to_owned(), have });
        }
        [group] => *group,
        several => {
            let files = several.iter().map(|g| g.stem.clone()).collect();
            return Err(SourceError::Ambiguous { wanted: wanted.to_owned(), files });
        }
    };
    let total = group.parts.len();
    let missing = group.parts.iter().filter(|p| p.is_none()).count();
    let incomplete = || SourceError::Incomplete { wanted: wanted.to_owned(), missing, total };
    let first = group.parts.first().copied().flatten().ok_or_else(incomplete)?;
    let same = |v: &Variant<F>| v.files.first().is_some_and(|f| f.path() == first.path());
    variants_of(files).into_iter().find(same).ok_or_else(incomplete)
}

impl<F: Listed> Group<'_, F> {
    fn name(&self) -> &str {
        self.stem.rsplit('/').next().unwrap_or(&self.stem)
    }

    /// Whether a part's own name or path is this word.
    fn holds(&self, word: &str) -> bool {
        self.parts.iter().flatten().any(|file| {
            let stem = gguf_stem(file.path()).unwrap_or_default();
            let name = stem.rsplit('/').next().unwrap_or(stem);
            stem.eq_ignore_ascii_case(word) || name.eq_ignore_ascii_case(word)
        })
    }
}

fn groups<F: Listed>(files: &[F]) -> Vec<Group<'_, F>> {
    let mut groups: BTreeMap<(String, usize), Group<'_, F>> = BTreeMap::new();
    for file in files {
        let Some(stem) = gguf_stem(file.path()).filter(|_| !is_projector(file)) else { continue };
        let (stem, part, total) = split_part(stem);
        let recipe = recipe_of(stem);
        // Importance matrices come as GGUF too.
        if recipe.is_none() && stem.to_ascii_lowercase().contains("imatrix") {
            continue;
        }
        let group = groups.entry((stem.to_owned(), total)).or_insert_with(|| {
            let name = stem.rsplit('/').next().unwrap_or(stem).to_owned();
            let recipe = recipe.unwrap_or(name);
            Group { recipe, stem: stem.to_owned(), parts: vec![None; total] }
        });
        if let Some(place) = group.parts.get_mut(part - 1) {
            *place = Some(file);
        }
    }
    groups.into_values().collect()
}

/// The recipe that the path of a file in GGUF names.
pub(crate) fn recipe_named(path: &str) -> Option<String> {
    let (stem, ..) = split_part(gguf_stem(path)?);
    recipe_of(stem)
}

/// A path without its `.gguf`.
fn gguf_stem(path: &str) -> Option<&str> {
    let (stem, extension) = path.rsplit_once('.')?;
    (extension.eq_ignore_ascii_case("gguf") && !stem.is_empty()).then_some(stem)
}

/// `X-00002-of-00005` as X, 2, 5; what is not split is one part of one.
fn split_part(stem: &str) -> (&str, usize, usize) {
    let parsed = || {
        let (rest, total) = stem.rsplit_once("-of-")?;
        let (rest, part) = rest.rsplit_once('-')?;
        let number = |s: &str| -> Option<usize> {
            let digits = s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| s.parse().ok()).flatten()
        };
        let (part, total) = (number(part)?, number(total)?);
        ((1..=total).contains(&part) && total <= MAX_PARTS).then_some((rest, part, total))
    };
    parsed().unwrap_or((stem, 1, 1))
}

fn is_projector(file: &impl Listed) -> bool {
    let name = file.path().rsplit('/').next().unwrap_or_default();
    name.to_ascii_lowercase().contains("mmproj")
}

/// The projector to take: towers are small and suffer from few bits.
fn projector<F: Listed>(files: &[F]) -> Option<&F> {
    const PREFERRED: [&str; 4] = ["F16", "BF16", "Q8_0", "F32"];
    let rank = |file: &&F| {
        let recipe = gguf_stem(file.path()).and_then(recipe_of).unwrap_or_default();
        PREFERRED.iter().position(|p| *p == recipe).unwrap_or(PREFERRED.len())
    };
    let gguf = |f: &&F| is_projector(*f) && gguf_stem(f.path()).is_some();
    files.iter().filter(gguf).min_by_key(rank)
}

/// The recipe that a path without its ending names: the last one in the file's name, else the last in its folders'.
fn recipe_of(stem: &str) -> Option<String> {
    let upper = stem.to_ascii_uppercase();
    upper.rsplit('/').find_map(last_recipe)
}

/// The last recipe in a name in capitals.
fn last_recipe(name: &str) -> Option<String> {
    let boundary = |b: u8| matches!(b, b'-' | b'.' | b'_' | b' ' | b'(' | b')');
    let bytes = name.as_bytes();
    let starts = (0..bytes.len()).rev().filter(|&at| {
        bytes.get(at).is_some_and(u8::is_ascii_alphabetic)
            && at.checked_sub(1).is_none_or(|b| bytes.get(b).copied().is_some_and(boundary))
    });
    starts.filter_map(|at| Some((at, name.get(at..)?))).find_map(|(at, rest)| {
        let recipe = leading_recipe(rest)?;
        let follows = rest.as_bytes().get(recipe.len()).copied();
        if !follows.is_none_or(boundary) {
            return None;
        }
        let before = name.get(..at)?;
        let dynamic = before.ends_with("UD-") || before.ends_with("UD_");
        Some(if dynamic { format!("UD-{recipe}") } else { plain_name(recipe).to_owned() })
    })
}

/// The recipe that a text begins with.
fn leading_recipe(text: &str) -> Option<&str> {
    const WHOLE: [&str; 9] =
        ["BF16", "FP16", "F16", "FP32", "F32", "MXFP4_MOE", "MXFP4", "NVFP4", "FP8"];
    if let Some(whole) = WHOLE.iter().find(|w| text.starts_with(*w)) {
        return text.get(..whole.len());
    }
    // A quant is its family and bits, then words joined by `_`: Q4_K_M, IQ3_XXS, Q4_0_4_4.
    const WORDS: [&str; 19] = [
        "0", "1", "4", "8", "K", "S", "M", "L", "XS", "XL", "XXS", "XXL", "NL", "KS", "KL", "KT",
        "KSS", "R4", "R8",
    ];
    let family = ["IQ", "TQ", "Q"].iter().find(|f| text.starts_with(**f))?;
    let digit = text.as_bytes().get(family.len()).filter(|b| (b'1'..=b'8').contains(*b));
    let mut end = digit.map(|_| family.len() + 1)?;
    while let Some(word) = text.get(end..).and_then(|t| t.strip_prefix('_')) {
        let length = word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len());
        if !word.get(..length).is_some_and(|w| WORDS.contains(&w)) {
            // Bits alone are a recipe, bits with an unknown word are none that is known.
            return text.get(..end).filter(|recipe| recipe.contains('_'));
        }
        end += 1 + length;
    }
    text.get(..end)
}

/// One name for one recipe.
fn plain_name(recipe: &str) -> &str {
    match recipe {
        "FP16" => "F16",
        "FP32" => "F32",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Origin;
    use proptest::prelude::*;

    fn offer(paths: &[&str]) -> Offer {
        let file = |(i, path): (usize, &&str)| RemoteFile {
            path: (*path).to_owned(),
            bytes: Some(10 + i as u64),
            digest: None,
            origin: Origin { words: String::new(), url: String::new(), credential: None },
        };
        let files = paths.iter().enumerate().map(file).collect();
        Offer { words: String::new(), revision: None, files }
    }

    fn recipe(path: &str) -> Option<String> {
        recipe_of(gguf_stem(path).unwrap())
    }

    #[test]
    fn recipes_are_read_from_names() {
        for (path, expected) in [
            ("Qwen3-14B-Q4_K_M.gguf", "Q4_K_M"),
            ("qwen2.5-7b-instruct-q5_k_m.gguf", "Q5_K_M"),
            ("tinyllama-1.1b-chat-v1.0.Q8_0.gguf", "Q8_0"),
            ("Qwen3-14B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
            ("Qwen3-14B-UD-IQ1_S.gguf", "UD-IQ1_S"),
            ("Qwen3-14B-IQ4_NL.gguf", "IQ4_NL"),
            ("model-IQ4_XS.gguf", "IQ4_XS"),
            ("model.i1-IQ3_XXS.gguf", "IQ3_XXS"),
            ("Meta-Llama-3-8B-Instruct-Q4_0_4_4.gguf", "Q4_0_4_4"),
            ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
            ("GLM-4.7-MXFP4_MOE.gguf", "MXFP4_MOE"),
            ("gemma-3-4b-it-BF16.gguf", "BF16"),
            ("ggml-model-f16.gguf", "F16"),
            ("Phi-3-mini-4k-instruct-fp16.gguf", "F16"),
            ("Phi-3-mini-4k-instruct-q4.gguf", "Q4"),
            ("bitnet-TQ2_0.gguf", "TQ2_0"),
            ("model_Q6_K.gguf", "Q6_K"),
            ("Q6_K/model.gguf", "Q6_K"),
            ("BF16/model-Q4_K_S.gguf", "Q4_K_S"),
            ("Model-F16-Q4_K_M.gguf", "Q4_K_M"),
            ("Q8_0.GGUF", "Q8_0"),
            ("Model-Q4_K_L-v2.gguf", "Q4_K_L"),
        ] {
            assert_eq!(recipe(path).as_deref(), Some(expected), "{path}");
        }
        for path in
            ["model.gguf", "Qwen3-14B.gguf", "UniQ4.gguf", "Q9_K.gguf", "BF160.gguf", "Q4_KM.gguf"]
        {
            assert_eq!(recipe(path), None, "{path}");
        }
    }

    #[test]
    fn split_files_are_one_variant_in_order() {
        let offer = offer(&[
            "UD-Q4_K_XL/M-UD-Q4_K_XL-00002-of-00003.gguf",
            "UD-Q4_K_XL/M-UD-Q4_K_XL-00003-of-00003.gguf",
            "UD-Q4_K_XL/M-UD-Q4_K_XL-00001-of-00003.gguf",
            "M-Q2_K.gguf",
            "README.md",
            "mmproj-F32.gguf",
            "mmproj-F16.gguf",
            "imatrix_unsloth.gguf",
        ]);
        let all = variants(&offer);
        let recipes: Vec<&str> = all.iter().map(|v| v.recipe.as_str()).collect();
        assert_eq!(recipes, ["Q2_K", "UD-Q4_K_XL"]);
        let split = select(&offer, "q4_k_xl").unwrap();
        let ends: Vec<&str> = split.files.iter().map(|f| &f.path[24..29]).collect();
        assert_eq!((ends, split.bytes), (vec!["00001", "00002", "00003"], Some(10 + 11 + 12)));
        assert_eq!(split.projector.unwrap().path, "mmproj-F16.gguf");
    }

    #[test]
    fn incomplete_splits_are_no_variant() {
        let offer =
            offer(&["M-Q8_0-00001-of-00003.gguf", "M-Q8_0-00003-of-00003.gguf", "M-Q4_0.gguf"]);
        assert_eq!(variants(&offer).len(), 1);
        let e = select(&offer, "Q8_0").unwrap_err();
        assert!(matches!(e, SourceError::Incomplete { missing: 1, total: 3, .. }), "{e}");
        let e = select(&super::tests::offer(&["M-Q8_0-00002-of-00002.gguf"]), "q8_0").unwrap_err();
        assert!(matches!(e, SourceError::Incomplete { missing: 1, total: 2, .. }), "{e}");
    }

    #[test]
    fn words_select() {
        let offer = offer(&[
            "M-UD-Q4_K_XL.gguf",
            "M-Q4_K_M.gguf",
            "M-IQ4_XS.gguf",
            "sub/M-Q8_0-00001-of-00001.gguf",
            "a-1b-Q5_K_M.gguf",
            "b-3b-Q5_K_M.gguf",
            "plain.gguf",
        ]);
        let chosen = |wanted: &str| select(&offer, wanted).map(|v| v.files[0].path.clone());
        for (wanted, path) in [
            ("Q4_K_M", "M-Q4_K_M.gguf"),
            ("q4_k_m", "M-Q4_K_M.gguf"),
            ("UD-Q4_K_XL", "M-UD-Q4_K_XL.gguf"),
            ("ud-q4_k_xl", "M-UD-Q4_K_XL.gguf"),
            ("Q4_K_XL", "M-UD-Q4_K_XL.gguf"),
            ("m-iq4_xs.gguf", "M-IQ4_XS.gguf"),
            ("M-IQ4_XS", "M-IQ4_XS.gguf"),
            ("sub/M-Q8_0-00001-of-00001.gguf", "sub/M-Q8_0-00001-of-00001.gguf"),
            ("M-Q8_0", "sub/M-Q8_0-00001-of-00001.gguf"),
            ("plain", "plain.gguf"),
            ("b-3b-Q5_K_M.gguf", "b-3b-Q5_K_M.gguf"),
        ] {
            assert_eq!(chosen(wanted).unwrap(), path, "{wanted}");
        }
        assert!(
            matches!(chosen("Q5_K_M"), Err(SourceError::Ambiguous { files, .. }) if files.len() == 2)
        );
        let e = chosen("Q3_K_S").unwrap_err().to_string();
        assert!(e.contains("Q4_K_M") && e.contains("IQ4_XS"), "{e}");
        let none = super::tests::offer(&["model.safetensors"]);
        assert!(matches!(select(&none, "Q8_0"), Err(SourceError::NoGguf)));
    }

    #[test]
    fn hostile_splits_allocate_nothing() {
        let offer = offer(&[
            "M-Q8_0-00001-of-99999.gguf",
            "M-00000-of-00002.gguf",
            "M-00003-of-00002.gguf",
        ]);
        assert!(variants(&offer).iter().all(|v| v.files.len() == 1));
    }

    proptest! {
        #[test]
        fn any_name_is_read(paths in prop::collection::vec("[A-Za-z0-9_./-]{0,20}(-0000[0-9]-of-0000[0-9])?\\.gguf|\\PC{0,12}", 0..8)) {
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            let offer = offer(&paths);
            for variant in variants(&offer) {
                prop_assert!(!variant.files.is_empty());
            }
            let _ = select(&offer, "Q4_K_M");
        }
    }
}
