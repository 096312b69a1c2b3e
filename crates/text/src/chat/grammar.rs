//! Grammars of calls: what an answer must be so that the parser finds calls of the wanted tools with arguments of their schemas.
//! Lark in llguidance's dialect, for the families whose calls are known to the letter. Markers are written `<|name|>` and `<[NAME]>`:
//! whether they are tokens or text is the vocabulary's to say, where the grammar is compiled. Absent: Python's notation and Gemma's.

use serde_json::{Map, Value, json};

use super::format::ChatFormat;
use super::integers::bound_integers;

/// Blanks that may stand between two parts of JSON, once, as a regular expression. Without an end, small models write nothing else.
pub const JSON_BLANKS: &str = r" |\n {0,20}";
/// Most calls of one answer.
const MAX_CALLS: usize = 16;
/// The longest name of a tool or parameter.
const MAX_NAME_BYTES: usize = 128;

/// Which calls an answer must make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallChoice {
    /// Of any of the tools.
    Required,
    /// Of this one.
    Named(String),
}

/// How a family writes calls.
enum Layout {
    /// JSON objects with these keys.
    Json { name: &'static str, arguments: &'static str, list: List },
    /// A head with the name, then arguments as JSON, then a tail. `#` stands for the call's number, of one digit.
    Headed(&'static [(&'static [Part], &'static [Part])]),
    /// A tag per argument.
    Tagged(Tags),
}

/// Where objects of calls stand.
enum List {
    /// Each for itself.
    None,
    /// All in one list.
    Objects,
    /// The same, with the name as the only key.
    Keyed,
}

enum Part {
    Text(&'static str),
    Marker(&'static str),
    Name,
    Digit,
}

/// Text around names, keys and values.
struct Tags {
    open: [&'static str; 2],
    key: [&'static str; 2],
    value: &'static str,
    close: &'static str,
}

/// What stands around calls: before all, before each, behind each, between two, behind all.
struct Frame {
    layout: Layout,
    first: &'static [Part],
    open: &'static [Part],
    close: &'static [Part],
    between: &'static str,
    last: &'static [Part],
}

use Part::{Digit, Marker, Name, Text};

const FRAME: Frame = Frame {
    layout: Layout::Json { name: "name", arguments: "arguments", list: List::None },
    first: &[],
    open: &[],
    close: &[],
    between: "",
    last: &[],
};

const fn json(name: &'static str, arguments: &'static str, list: List) -> Layout {
    Layout::Json { name, arguments, list }
}

/// The frame of a family's calls.
fn frame(family: &str) -> Option<Frame> {
    Some(match family {
        "hermes" => Frame {
            open: &[Marker("<tool_call>"), Text("\n")],
            close: &[Text("\n"), Marker("</tool_call>")],
            between: "\n",
            ..FRAME
        },
        "llama3" => {
            Frame { layout: json("name", "parameters", List::None), between: "; ", ..FRAME }
        }
        "mistral-json" => Frame {
            layout: json("name", "arguments", List::Objects),
            first: &[Marker("[TOOL_CALLS]")],
            ..FRAME
        },
        "nemotron-v2" => Frame {
            layout: json("name", "arguments", List::Objects),
            first: &[Marker("<TOOLCALL>")],
            last: &[Marker("</TOOLCALL>")],
            ..FRAME
        },
        "nemotron-mini" => Frame {
            open: &[Marker("<toolcall>"), Text(" ")],
            close: &[Text(" "), Marker("</toolcall>")],
            between: "\n",
            ..FRAME
        },
        "granite" => Frame {
            layout: json("name", "arguments", List::Objects),
            first: &[Marker("<|tool_call|>")],
            ..FRAME
        },
        "granite-20b" => {
            Frame { open: &[Marker("<function_call>"), Text(" ")], between: "\n", ..FRAME }
        }
        "phi4-mini" => Frame {
            layout: json("name", "arguments", List::Objects),
            first: &[Marker("<|tool_call|>")],
            last: &[Marker("<|/tool_call|>")],
            ..FRAME
        },
        "command-r7b" => Frame {
            layout: json("tool_name", "parameters", List::Objects),
            first: &[Marker("<|START_ACTION|>")],
            last: &[Marker("<|END_ACTION|>")],
            ..FRAME
        },
        "internlm2" => Frame {
            layout: json("name", "parameters", List::None),
            open: &[Marker("<|action_start|>"), Marker("<|plugin|>")],
            close: &[Marker("<|action_end|>")],
            between: "\n",
            ..FRAME
        },
        "apertus" => Frame {
            layout: json("", "", List::Keyed),
            first: &[Marker("<|tools_prefix|>")],
            last: &[Marker("<|tools_suffix|>")],
            ..FRAME
        },
        _ => return headed(family).or_else(|| tagged(family)),
    })
}

/// Families that name the function before its arguments.
fn headed(family: &str) -> Option<Frame> {
    Some(match family {
        "gpt-oss" => Frame {
            layout: Layout::Headed(&[(
                &[
                    Marker("<|channel|>"),
                    Text("commentary to=functions."),
                    Name,
                    Text(" "),
                    Marker("<|constrain|>"),
                    Text("json"),
                    Marker("<|message|>"),
                ],
                &[],
            )]),
            ..FRAME
        },
        "kimi-k2" => Frame {
            layout: Layout::Headed(&[(
                &[
                    Text("functions."),
                    Name,
                    Text(":"),
                    Digit,
                    Marker("<|tool_call_argument_begin|>"),
                ],
                &[],
            )]),
            first: &[Marker("<|tool_calls_section_begin|>")],
            open: &[Marker("<|tool_call_begin|>")],
            close: &[Marker("<|tool_call_end|>")],
            last: &[Marker("<|tool_calls_section_end|>")],
            ..FRAME
        },
        "deepseek" => Frame {
            // Version 3 and R1, then 3.1.
            layout: Layout::Headed(&[
                (
                    &[Text("function"), Marker("<｜tool▁sep｜>"), Name, Text("\n```json\n")],
                    &[Text("\n```")],
                ),
                (&[Name, Marker("<｜tool▁sep｜>")], &[]),
            ]),
            first: &[Marker("<｜tool▁calls▁begin｜>")],
            open: &[Marker("<｜tool▁call▁begin｜>")],
            close: &[Marker("<｜tool▁call▁end｜>")],
            last: &[Marker("<｜tool▁calls▁end｜>")],
            ..FRAME
        },
        "mistral" => Frame {
            layout: Layout::Headed(&[(&[Name, Marker("[ARGS]")], &[])]),
            open: &[Marker("[TOOL_CALLS]")],
            ..FRAME
        },
        "functionary-v3.1" => Frame {
            layout: Layout::Headed(&[(
                &[Text("<function="), Name, Text(">")],
                &[Text("</function>")],
            )]),
            ..FRAME
        },
        _ => return None,
    })
}

/// Families with a tag per argument.
fn tagged(family: &str) -> Option<Frame> {
    const FUNCTION: Tags = Tags {
        open: ["<function=", ">\n"],
        key: ["<parameter=", ">\n"],
        value: "</parameter>",
        close: "</function>\n",
    };
    Some(match family {
        "qwen3-coder" => Frame {
            layout: Layout::Tagged(FUNCTION),
            open: &[Marker("<tool_call>"), Text("\n")],
            close: &[Marker("</tool_call>")],
            between: "\n",
            ..FRAME
        },
        "seed" => Frame {
            layout: Layout::Tagged(FUNCTION),
            open: &[Marker("<seed:tool_call>"), Text("\n")],
            close: &[Marker("</seed:tool_call>")],
            between: "\n",
            ..FRAME
        },
        "minimax-m2" => Frame {
            layout: Layout::Tagged(Tags {
                open: ["<invoke name=\"", "\">\n"],
                key: ["<parameter name=\"", "\">"],
                value: "</parameter>",
                close: "</invoke>\n",
            }),
            open: &[Marker("<minimax:tool_call>"), Text("\n")],
            close: &[Marker("</minimax:tool_call>")],
            between: "\n",
            ..FRAME
        },
        "glm" => Frame {
            layout: Layout::Tagged(Tags {
                open: ["", "\n"],
                key: ["<arg_key>", "</arg_key>\n<arg_value>"],
                value: "</arg_value>",
                close: "",
            }),
            open: &[Marker("<tool_call>")],
            close: &[Marker("</tool_call>")],
            between: "\n",
            ..FRAME
        },
        _ => return None,
    })
}

impl ChatFormat {
    /// What opens and closes the thinking before an answer; what follows the closing text is the answer. `None` for models that do not
    /// think and for formats where no single text does either.
    pub fn thinking_marks(&self) -> Option<(&'static str, &'static str)> {
        match (self.family.name, &self.family.messages) {
            ("gpt-oss", _) => Some(("<|channel|>analysis<|message|>", "<|end|><|start|>assistant")),
            (_, Some(_)) => None,
            (_, None) => self.thinking.first().copied(),
        }
    }

    /// What an answer that is no call begins with, behind the thinking: nothing in most formats, a header where answers are messages
    /// with headers. `None` where that header is not known.
    pub fn answer_opening(&self) -> Option<&'static str> {
        match (self.family.name, &self.family.messages) {
            ("gpt-oss", _) => Some("<|channel|>final<|message|>"),
            ("functionary-v3.2", _) => Some("all\n"),
            (_, Some(_)) => None,
            (_, None) => Some(""),
        }
    }

    /// A Lark grammar (llguidance's dialect) of answers that are nothing but calls: [`super::ChatParser`] finds in them calls of the
    /// wanted tools, one or with `parallel` up to 16, whose arguments fit the schemas. `tools` are in OpenAI's form. In formats with a
    /// tag per argument, a list or an object must not have strings that contain the tags.
    ///
    /// `None` where the format's calls, or these tools in it, cannot be written as a grammar.
    pub fn call_grammar(
        &self,
        tools: &Value,
        choice: CallChoice,
        parallel: bool,
    ) -> Option<String> {
        let frame = frame(self.family.name)?;
        let parallel = parallel && self.family.messages.is_none();
        let tools = wanted(tools, &choice)?;
        let mut rules = Rules::default();
        let calls: Option<Vec<String>> =
            tools.iter().enumerate().map(|(i, tool)| rules.call(i, tool, &frame)).collect();
        rules.add("call", &calls?.join(" | "));
        let each = join([parts(frame.open, ""), "call".to_owned(), parts(frame.close, "")]);
        rules.add("each", &each);
        let listed = matches!(frame.layout, Layout::Json { list: List::Objects | List::Keyed, .. });
        let between = literal(if listed { ", " } else { frame.between });
        let more = format!("({between} each)~0..{}", MAX_CALLS - 1);
        let all = if parallel { join(["each".to_owned(), more]) } else { "each".to_owned() };
        let all = if listed { join([literal("["), all, literal("]")]) } else { all };
        rules.add("start", &join([parts(frame.first, ""), all, parts(frame.last, "")]));
        Some(rules.text)
    }
}

/// A tool as it is called.
struct Tool<'a> {
    name: &'a str,
    schema: Map<String, Value>,
}

/// The tools that may be called; `None` if there is none, or one that cannot be.
fn wanted<'a>(tools: &'a Value, choice: &CallChoice) -> Option<Vec<Tool<'a>>> {
    let functions = tools.as_array()?.iter().map(|tool| tool.get("function").unwrap_or(tool));
    let mut wanted = Vec::new();
    for function in functions {
        let name = function.get("name")?.as_str().filter(|name| is_name(name))?;
        if matches!(choice, CallChoice::Named(only) if only != name) {
            continue;
        }
        wanted.push(Tool { name, schema: arguments(function.get("parameters"))? });
    }
    (!wanted.is_empty()).then_some(wanted)
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    // "function" is the word before the name in one format.
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name.chars().all(plain)
        && name != "function"
}

/// The schema of a tool's arguments, which are an object.
fn arguments(schema: Option<&Value>) -> Option<Map<String, Value>> {
    let mut schema = match schema {
        None | Some(Value::Null) => json!({ "additionalProperties": false }).as_object()?.clone(),
        Some(schema) => schema.as_object()?.clone(),
    };
    let kind = schema.entry("type").or_insert_with(|| "object".into());
    (kind == "object").then_some(schema)
}

/// The text of a grammar as it grows.
#[derive(Default)]
struct Rules {
    text: String,
}

impl Rules {
    fn add(&mut self, name: &str, body: &str) {
        self.text += &format!("{name}: {}\n", if body.is_empty() { "\"\"" } else { body });
    }

    /// The rules of one tool's call; the name of the first.
    fn call(&mut self, index: usize, tool: &Tool<'_>, frame: &Frame) -> Option<String> {
        let rule = format!("call_{index}");
        let body = match &frame.layout {
            Layout::Json { name, arguments, list } => {
                let name = match list {
                    List::Keyed => format!("{{{}: ", Value::from(tool.name)),
                    _ => format!("{{\"{name}\": {}, \"{arguments}\": ", Value::from(tool.name)),
                };
                let arguments = self.json(&format!("{rule}_args"), tool.schema.clone());
                join([literal(&name), arguments, literal("}")])
            }
            Layout::Headed(ways) => {
                let arguments = self.json(&format!("{rule}_args"), tool.schema.clone());
                let way = |(head, tail): &(&[Part], &[Part])| {
                    join([parts(head, tool.name), arguments.clone(), parts(tail, tool.name)])
                };
                ways.iter().map(way).collect::<Vec<_>>().join(" | ")
            }
            Layout::Tagged(tags) => self.tagged(&rule, tool, tags, frame)?,
        };
        self.add(&rule, &body);
        Some(rule)
    }

    /// A rule for JSON of a schema; its name.
    fn json(&mut self, rule: &str, mut schema: Map<String, Value>) -> String {
        let layout = json!({ "whitespace_pattern": JSON_BLANKS, "coerce_one_of": true });
        schema.insert("x-guidance".to_owned(), layout);
        let mut schema = Value::Object(schema);
        bound_integers(&mut schema);
        self.add(rule, &format!("%json {schema}"));
        rule.to_owned()
    }

    fn tagged(
        &mut self,
        rule: &str,
        tool: &Tool<'_>,
        tags: &Tags,
        frame: &Frame,
    ) -> Option<String> {
        let none = Map::new();
        let properties = match tool.schema.get("properties") {
            None => &none,
            Some(properties) => properties.as_object()?,
        };
        let required: Vec<&str> = match tool.schema.get("required") {
            None => Vec::new(),
            Some(keys) => keys.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?,
        };
        // What else the schema asks of the whole cannot be said here.
        const KNOWN: &[&str] = &[
            "type",
            "properties",
            "required",
            "additionalProperties",
            "$defs",
            "definitions",
            "title",
            "description",
            "$schema",
            "strict",
        ];
        let known = tool.schema.keys().all(|key| KNOWN.contains(&key.as_str()));
        if !known || !required.iter().all(|key| properties.contains_key(*key)) {
            return None;
        }
        let mut arguments = String::new();
        for (i, (key, schema)) in
            properties.iter().enumerate().filter(|(_, (_, s))| **s != json!(false))
        {
            if !is_name(key) {
                return None;
            }
            let value = self.value(&format!("{rule}_{i}"), schema, tool, tags, frame)?;
            let [open, behind] = tags.key;
            let pair = join([literal(&format!("{open}{key}{behind}")), value, literal("\n")]);
            let pair = if required.contains(&key.as_str()) { pair } else { format!("({pair})?") };
            arguments = join([arguments, pair]);
        }
        let [open, behind] = tags.open;
        let head = literal(&format!("{open}{}{behind}", tool.name));
        Some(join([head, arguments, literal(tags.close)]))
    }

    /// A rule for an argument's value and the tag that closes it; its name.
    fn value(
        &mut self,
        rule: &str,
        schema: &Value,
        tool: &Tool<'_>,
        tags: &Tags,
        frame: &Frame,
    ) -> Option<String> {
        let map = match schema {
            Value::Bool(true) => Map::new(),
            schema => schema.as_object()?.clone(),
        };
        if takes_string(map.get("type")) {
            return self.string(rule, &map, tags, frame);
        }
        let mut schema = map;
        if !refers_to_definitions(&schema) {
            return None;
        }
        for key in ["$defs", "definitions"] {
            if let Some(definitions) = tool.schema.get(key) {
                schema.insert(key.to_owned(), definitions.clone());
            }
        }
        let value = self.json(&format!("{rule}_json"), schema);
        let body = join([value, format!("({})?", literal("\n")), literal(tags.value)]);
        self.add(rule, &body);
        Some(rule.to_owned())
    }

    /// A string without quotes: one of a list, or anything without the tags.
    fn string(
        &mut self,
        rule: &str,
        schema: &Map<String, Value>,
        tags: &Tags,
        frame: &Frame,
    ) -> Option<String> {
        const FREE: &[&str] =
            &["type", "title", "description", "default", "examples", "enum", "const"];
        if schema.keys().any(|key| !FREE.contains(&key.as_str())) {
            return None;
        }
        let mut closes = vec![tags.value.trim(), tags.close.trim()];
        closes.extend(frame.close.iter().filter_map(|part| match part {
            Marker(text) => Some(*text),
            _ => None,
        }));
        closes.retain(|close| !close.is_empty());
        let listed = schema.get("const").map(std::slice::from_ref);
        let Some(values) = listed.or_else(|| Some(schema.get("enum")?.as_array()?.as_slice()))
        else {
            // Up to the first tag that closes it, and without those that close more.
            let close = escaped(tags.value);
            let others: Vec<String> = closes.iter().skip(1).map(|close| escaped(close)).collect();
            let rule = rule.to_uppercase();
            let mut any = format!("/(?s:.*){close}/ & ~/(?s:.*){close}(?s:.+)/");
            if !others.is_empty() {
                any += &format!(" & ~/(?s:.*)({})(?s:.*)/", others.join("|"));
            }
            self.add(&rule, &any);
            return Some(rule);
        };
        let plain =
            |text: &&str| text.trim() == *text && !closes.iter().any(|close| text.contains(close));
        let texts: Option<Vec<&str>> =
            values.iter().map(|v| v.as_str().filter(|t| plain(&t))).collect();
        let texts: Vec<String> = texts?.into_iter().map(literal).collect();
        let body = join([
            format!("({})", texts.join(" | ")),
            format!("({})?", literal("\n")),
            literal(tags.value),
        ]);
        self.add(rule, &body);
        Some(rule.to_owned())
    }
}

/// Whether the parser takes a value of this type for a string as it stands.
fn takes_string(kind: Option<&Value>) -> bool {
    match kind {
        Some(Value::String(kind)) => kind == "string",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
        _ => false,
    }
}

/// Whether all references lead to definitions, which can be taken along.
fn refers_to_definitions(schema: &Map<String, Value>) -> bool {
    fn each(value: &Value) -> bool {
        match value {
            Value::Object(map) => refers_to_definitions(map),
            Value::Array(items) => items.iter().all(each),
            _ => true,
        }
    }
    let leads = |text: &str| text.starts_with("#/$defs/") || text.starts_with("#/definitions/");
    let own = schema.get("$ref").is_none_or(|to| to.as_str().is_some_and(leads));
    own && schema.values().all(each)
}

/// Parts of a rule, one after another.
fn join<const N: usize>(parts: [String; N]) -> String {
    let parts: Vec<String> =
        parts.into_iter().filter(|part| !part.is_empty() && part != "\"\"").collect();
    parts.join(" ")
}

fn parts(parts: &[Part], name: &str) -> String {
    let written = parts.iter().map(|part| match part {
        Text(text) => literal(text),
        Marker(marker) if marker.starts_with('[') => format!("<{marker}>"),
        Marker(marker) => (*marker).to_owned(),
        Name => literal(name),
        Digit => "/[0-9]/".to_owned(),
    });
    written.collect::<Vec<_>>().join(" ")
}

/// A text as a string of Lark, which is one of JSON.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

/// A text as part of an expression between slashes.
fn escaped(text: &str) -> String {
    regex::escape(text).replace('/', "\\/")
}
