//! The chat templates of Ollama's library in Go's language, as a package of Hugging Face maps them from Jinja.
//! The package holds them as string literals of a TypeScript source, which are read here; each text once, since models share them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::{Cache, fetch, hex};

const PACKAGE: &str = "@huggingface/ollama-utils";
const VERSION: &str = "0.0.18";
/// Of the source file.
const SHA256: &str = "8665c3d91f09be3e289ece2d0b787b458b0b429b3bf5b0970cc5c229772c2447";
/// So many different templates it has.
const TEMPLATES: usize = 71;

/// Fetches the package and writes `go-templates/MODEL.gotmpl`, named by the first model that has the template.
pub fn build(cache: &Cache) -> Result<Vec<PathBuf>> {
    let source = fetch::one_file(cache.npm(PACKAGE, VERSION)?, "src/chat-template-automap.ts")?;
    let sha256 = hex(&Sha256::digest(&source));
    ensure!(sha256 == SHA256, "the templates have sha256 {sha256}, expected {SHA256}");
    let source = String::from_utf8(source).context("the templates are not UTF-8")?;
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for (model, template) in templates(&source)? {
        if !seen.insert(template.clone()) {
            continue;
        }
        let name = model.trim_start_matches("library/").replace(':', "-");
        let place = format!("go-templates/{name}.gotmpl");
        files.push(cache.write(&place, |out| Ok(out.write_all(template.as_bytes())?))?);
    }
    ensure!(files.len() == TEMPLATES, "{} templates, expected {TEMPLATES}", files.len());
    Ok(files)
}

/// Models with their templates: each entry of the source has `model:`, and `template:` behind it.
fn templates(source: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some((_, after)) = rest.split_once("\tmodel: ") {
        let (model, after) = literal(after)?;
        let (_, after) = after.split_once("\t\ttemplate:").context("a model without template")?;
        let (template, after) = literal(after.trim_start())?;
        found.push((model, template));
        rest = after;
    }
    Ok(found)
}

/// A string literal of JavaScript, and what is behind it.
fn literal(source: &str) -> Result<(String, &str)> {
    let quote = source.chars().next().filter(|q| matches!(q, '"' | '\''));
    let quote = quote.context("no string literal where one was expected")?;
    let mut text = String::new();
    let mut chars = source.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Ok((text, &source[at + 1..])),
            '\\' => {
                let (_, escaped) = chars.next().context("a literal ends in a backslash")?;
                text.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '\\' | '\'' | '"' => escaped,
                    _ => anyhow::bail!("an escape that is not read here: \\{escaped}"),
                });
            }
            _ => text.push(c),
        }
    }
    anyhow::bail!("a literal without its end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_with_their_escapes() {
        let source = "x = [\n\t{\n\t\tmodel: \"library/a:1b\",\n\t\tgguf: \"{% if a == 'b' %}\",\n\t\tollama: {\n\t\t\ttemplate:\n\
            \t\t\t\t'{{ .A }}\\n\\'\"',\n\t\t},\n\t},\n\t{\n\t\tmodel: \"b\",\n\t\t\ttemplate: \"\\\\\\\"'\",\n";
        let expected = [("library/a:1b", "{{ .A }}\n'\""), ("b", "\\\"'")];
        let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(templates(source).unwrap(), expected);
        assert!(literal("'a").is_err() && literal("a").is_err() && literal("'\\x'").is_err());
    }
}
