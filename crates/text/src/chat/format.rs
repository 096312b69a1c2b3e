//! The formats in which model families write thinking and tool calls, as a table.
//! A family is known by texts that its template contains; thinking is found apart from calls, since families share either. The first
//! row whose signs are there wins, so special rows stand before general ones. Absent: reading, which is `calls.rs` and `parser.rs`.

/// How a model writes thinking and tool calls.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatFormat {
    /// The row of the table.
    pub(super) family: &'static Family,
    /// Opening and closing texts of thinking.
    pub(super) thinking: Vec<(&'static str, &'static str)>,
}

/// A row: how one family calls tools.
#[derive(Debug, PartialEq)]
pub(super) struct Family {
    pub(super) name: &'static str,
    /// A template belongs here if it contains all texts of one of these.
    signs: &'static [&'static [&'static str]],
    /// Marked places of calls.
    pub(super) blocks: &'static [Block],
    /// A call without a marker, at the start of an answer.
    pub(super) bare: Option<Syntax>,
    /// Markers that mean nothing by themselves.
    pub(super) ignored: &'static [&'static str],
    /// Answers are messages with a header.
    pub(super) messages: Option<Headers>,
}

/// Text between two markers that holds calls.
#[derive(Debug, PartialEq)]
pub(super) struct Block {
    pub(super) open: &'static str,
    /// Empty: the block goes on to the next one or the end of the answer.
    pub(super) close: &'static str,
    pub(super) syntax: Syntax,
}

impl Block {
    /// Whether a call without the closing marker may be cut off in a way that its reader would not see.
    pub(super) fn needs_close(&self) -> bool {
        matches!(self.syntax, Syntax::Tagged { call, .. } if call.ends_with('$'))
    }
}

/// How calls are written within a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Syntax {
    /// JSON objects with a name and arguments, in lists or one after another.
    Json,
    /// JSON objects whose only key is the function's name.
    Keyed,
    /// A head (regular expression with `name`, perhaps `id`), then arguments as JSON, then what `tail` matches.
    Headed { head: &'static str, tail: &'static str },
    /// `call` finds `name` and `args`; in these, `argument` finds `key` and `value`, perhaps a `string` or `type` that it is.
    Tagged { call: &'static str, argument: &'static str },
    /// Python's calls, in a list or alone; with `print` around or not.
    Python,
    /// Of Llama's interpreter: JSON, a call of a tool in Python, or a program.
    Ipython,
    /// `call:name{key:value}` with strings between these quotes.
    Gemma { quote: &'static str },
}

/// Messages with headers: `start header message body end`.
#[derive(Debug, PartialEq)]
pub(super) struct Headers {
    pub(super) start: &'static [&'static str],
    /// Ends the header.
    pub(super) message: &'static str,
    pub(super) end: &'static [&'static str],
    /// In the header of a message that is thought.
    pub(super) thinking: &'static str,
    /// In the header of a call, as a regular expression with `name`; the body is the arguments.
    pub(super) call: &'static str,
}

/// The thinking of models whose template has no hint of it, at the start of an answer only.
pub(super) const UNHINTED: (&str, &str) = THINKING[0];

/// Thinking: opening and closing texts. Those that the template contains are used; models that think without a hint in their
/// template do so with the first.
const THINKING: [(&str, &str); 11] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<think:opensource>", "</think:opensource>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    ("<|think|>", "<|end|><|begin|>assistant"),
    ("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]"),
];

/// Arguments as most write them in tags of Qwen's kind.
const FUNCTION: &str = r"(?s)^\s*<function=(?P<name>[^>]+)>(?P<args>.*?)</function>";
const PARAMETER: &str = r"(?s)<parameter=(?P<key>[^>]+)>(?P<value>.*?)</parameter>";
const INVOKE: &str = r#"(?s)^\s*<invoke name="(?P<name>[^"]+)">(?P<args>.*?)</invoke>"#;
const NAMED_PARAMETER: &str = r#"(?s)<parameter name="(?P<key>[^"]+)">(?P<value>.*?)</parameter>"#;

const NONE: Family =
    Family { name: "plain", signs: &[], blocks: &[], bare: None, ignored: &[], messages: None };

const fn block(open: &'static str, close: &'static str, syntax: Syntax) -> Block {
    Block { open, close, syntax }
}

static FAMILIES: &[Family] = &[
    Family {
        name: "gpt-oss",
        signs: &[&["<|channel|>analysis"]],
        messages: Some(Headers {
            start: &["<|start|>assistant", "<|channel|>", " to=functions."],
            message: "<|message|>",
            end: &["<|end|>", "<|return|>", "<|call|>"],
            thinking: "analysis",
            call: r"to=(?:functions\.)?(?P<name>[\w.-]+)",
        }),
        ..NONE
    },
    Family {
        name: "muse",
        signs: &[&["<atem:function_calls>"], &["<|message|>", "atem:"]],
        blocks: &[block(
            "<atem:function_calls>",
            "</atem:function_calls>",
            Syntax::Tagged {
                call: r#"(?s)^\s*<atem:invoke name="(?P<name>[^"]+)">(?P<args>.*?)</atem:invoke>"#,
                argument: r#"(?s)<atem:parameter name="(?P<key>[^"]+)"[^>]*>(?P<value>.*?)</atem:parameter>"#,
            },
        )],
        messages: Some(Headers {
            start: &["<|start|>assistant", " to="],
            message: "<|message|>",
            end: &["<|eom|>", "<|eot|>"],
            thinking: "to=self",
            call: "",
        }),
        ..NONE
    },
    Family {
        name: "functionary-v3.2",
        signs: &[&[">>>all"], &["'>>>'"]],
        messages: Some(Headers {
            start: &[">>>"],
            message: "\n",
            end: &[],
            thinking: "",
            call: r"^(?P<name>[\w.-]+)$",
        }),
        ..NONE
    },
    Family {
        name: "kimi-k3",
        signs: &[&["'<|open|>'", "'<|close|>'"]],
        blocks: &[block(
            "<|open|>tools<|sep|>",
            "<|close|>tools<|sep|>",
            Syntax::Tagged {
                call: r#"(?s)^\s*<\|open\|>call tool="(?P<name>[^"]+)"[^<]*<\|sep\|>(?P<args>.*?)<\|close\|>call<\|sep\|>"#,
                argument: r#"(?s)<\|open\|>argument key="(?P<key>[^"]*)"(?: type="(?P<type>[^"]*)")?<\|sep\|>(?P<value>.*?)<\|close\|>argument<\|sep\|>"#,
            },
        )],
        ignored: &[
            "<|open|>response<|sep|>",
            "<|close|>response<|sep|>",
            "<|close|>message<|sep|>",
        ],
        ..NONE
    },
    Family {
        name: "kimi-k2",
        signs: &[&["<|tool_call_begin|>"], &["<|tool_calls_section_begin|>"]],
        blocks: &[block(
            "<|tool_call_begin|>",
            "<|tool_call_end|>",
            Syntax::Headed {
                head: r"^\s*(?P<id>(?:functions\.)?(?P<name>[^\s:<]+)(?::\d+)?)\s*<\|tool_call_argument_begin\|>",
                tail: "",
            },
        )],
        ignored: &["<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"],
        ..NONE
    },
    Family {
        name: "deepseek-v3.2",
        signs: &[&["DSML", "invoke"]],
        blocks: &[
            block("<｜DSML｜function_calls>", "</｜DSML｜function_calls>", DSML),
            block("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>", DSML),
        ],
        ..NONE
    },
    Family {
        name: "deepseek",
        signs: &[&["<｜tool▁call▁begin｜>"]],
        blocks: &[block(
            "<｜tool▁call▁begin｜>",
            "<｜tool▁call▁end｜>",
            Syntax::Headed {
                head: r"^\s*(?:function<｜tool▁sep｜>)?(?P<name>[^\s<]+)(?:<｜tool▁sep｜>|\s*```(?:json)?)",
                tail: r"^\s*```",
            },
        )],
        ignored: &["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"],
        ..NONE
    },
    Family {
        name: "hunyuan-3",
        signs: &[&["<arg_key{}>"]],
        blocks: &[block(
            "<tool_call:opensource>",
            "</tool_call:opensource>",
            Syntax::Tagged {
                call: r"(?s)^\s*(?P<name>[^\s<]+)\s*<tool_sep:opensource>(?P<args>.*)$",
                argument: r"(?s)<arg_key:opensource>\s*(?P<key>.*?)\s*</arg_key:opensource>\s*<arg_value:opensource>(?P<value>.*?)</arg_value:opensource>",
            },
        )],
        ignored: &["<tool_calls:opensource>", "</tool_calls:opensource>"],
        ..NONE
    },
    Family {
        name: "glm",
        signs: &[&["<arg_key>"]],
        blocks: &[block(
            "<tool_call>",
            "</tool_call>",
            Syntax::Tagged {
                call: r"(?s)^\s*(?P<name>[^\s<{]+)\s*(?P<args>(?:<arg_key>.*)?)$",
                argument: r"(?s)<arg_key>\s*(?P<key>.*?)\s*</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>",
            },
        )],
        ..NONE
    },
    Family {
        name: "seed",
        signs: &[&["<seed:tool_call>"]],
        blocks: &[block(
            "<seed:tool_call>",
            "</seed:tool_call>",
            Syntax::Tagged { call: FUNCTION, argument: PARAMETER },
        )],
        ..NONE
    },
    Family {
        name: "qwen3-coder",
        signs: &[&["<function=", "<parameter="]],
        blocks: &[
            block(
                "<tool_call>",
                "</tool_call>",
                Syntax::Tagged { call: FUNCTION, argument: PARAMETER },
            ),
            // Small models forget the outer tag.
            block(
                "<function=",
                "</function>",
                Syntax::Tagged { call: r"(?s)^(?P<name>[^>]+)>(?P<args>.*)$", argument: PARAMETER },
            ),
        ],
        ..NONE
    },
    Family {
        name: "minimax-m3",
        signs: &[&["]<]minimax[>["]],
        blocks: &[block(
            "]<]minimax[>[<tool_call>",
            "]<]minimax[>[</tool_call>",
            Syntax::Tagged {
                call: r#"(?s)^\s*\]<\]minimax\[>\[<invoke name="(?P<name>[^"]+)">(?P<args>.*?)\]<\]minimax\[>\[</invoke>"#,
                argument: r"(?s)\]<\]minimax\[>\[<(?P<key>[^/>]+)>(?P<value>.*?)\]<\]minimax\[>\[</",
            },
        )],
        ..NONE
    },
    Family {
        name: "minimax-m2",
        signs: &[&["<minimax:tool_call>"]],
        blocks: &[block(
            "<minimax:tool_call>",
            "</minimax:tool_call>",
            Syntax::Tagged { call: INVOKE, argument: NAMED_PARAMETER },
        )],
        ..NONE
    },
    Family {
        name: "minicpm5",
        signs: &[&["<function name="]],
        blocks: &[block(
            "<function name=",
            "</function>",
            Syntax::Tagged {
                call: r#"(?s)^"(?P<name>[^"]+)">(?P<args>.*)$"#,
                argument: r#"(?s)<param name="(?P<key>[^"]+)">(?P<value>.*?)</param>"#,
            },
        )],
        ..NONE
    },
    Family {
        name: "command-r7b",
        signs: &[&["<|START_ACTION|>"]],
        blocks: &[block("<|START_ACTION|>", "<|END_ACTION|>", Syntax::Json)],
        ignored: &["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"],
        ..NONE
    },
    Family {
        name: "command-r",
        signs: &[&["Action:", "```json"]],
        blocks: &[block("Action:", "", Syntax::Json)],
        ..NONE
    },
    Family {
        name: "mistral",
        signs: &[&["[TOOL_CALLS]", "[ARGS]"]],
        blocks: &[block(
            "[TOOL_CALLS]",
            "",
            Syntax::Headed {
                head: r"^\s*(?P<name>[^\s\[\]{]+)\s*(?:\[CALL_ID\](?P<id>[^\[\]{]*))?(?:\[ARGS\])?",
                tail: "",
            },
        )],
        ..NONE
    },
    Family {
        name: "mistral-json",
        signs: &[&["[TOOL_CALLS]"]],
        blocks: &[block("[TOOL_CALLS]", "", Syntax::Json)],
        ..NONE
    },
    Family {
        name: "apertus",
        signs: &[&["<|tools_prefix|>"]],
        blocks: &[block("<|tools_prefix|>", "<|tools_suffix|>", Syntax::Keyed)],
        ..NONE
    },
    Family {
        name: "nemotron-v2",
        signs: &[&["<TOOLCALL>"]],
        blocks: &[block("<TOOLCALL>", "</TOOLCALL>", Syntax::Json)],
        ..NONE
    },
    Family {
        name: "nemotron-mini",
        signs: &[&["<toolcall>"]],
        blocks: &[block("<toolcall>", "</toolcall>", Syntax::Json)],
        ..NONE
    },
    Family {
        name: "gigachat",
        signs: &[&["<|function_call|>"]],
        blocks: &[block("<|function_call|>", "", Syntax::Json)],
        ..NONE
    },
    Family {
        name: "gigachat-3.0",
        signs: &[&["'function call'", "<|role_sep|>"]],
        blocks: &[block("function call<|role_sep|>", "", Syntax::Json)],
        ignored: &["<|message_sep|>"],
        ..NONE
    },
    Family {
        name: "solar",
        signs: &[&["<|tool_call:begin|>"]],
        blocks: &[block(
            "<|tool_call:begin|>",
            "<|tool_call:end|>",
            Syntax::Headed {
                head: r"^\s*(?P<id>[^<]*)<\|tool_call:name\|>(?P<name>[^<]+)<\|tool_call:args\|>",
                tail: "",
            },
        )],
        ignored: &["<|begin|>assistant", "<|tool_calls|>", "<|calls|>", "<|content|>", "<|end|>"],
        ..NONE
    },
    Family {
        name: "gemma4",
        signs: &[&["<|tool_call>call:"]],
        blocks: &[block("<|tool_call>", "<tool_call|>", Syntax::Gemma { quote: "<|\"|>" })],
        ..NONE
    },
    Family {
        name: "functiongemma",
        signs: &[&["<start_function_call>"]],
        blocks: &[block(
            "<start_function_call>",
            "<end_function_call>",
            Syntax::Gemma { quote: "<escape>" },
        )],
        ..NONE
    },
    Family {
        name: "gemma3",
        signs: &[&["```tool_code"]],
        blocks: &[block("```tool_code", "```", Syntax::Python)],
        ..NONE
    },
    Family {
        name: "internlm2",
        signs: &[&["<|action_start|>"]],
        blocks: &[block("<|action_start|><|plugin|>", "<|action_end|>", Syntax::Json)],
        ..NONE
    },
    Family {
        name: "phi4-mini",
        signs: &[&["<|/tool|>"]],
        blocks: &[
            block("<|tool_call|>", "<|/tool_call|>", Syntax::Json),
            block("functools", "", Syntax::Json),
        ],
        ..NONE
    },
    Family {
        name: "granite",
        signs: &[&["<|tool_call|>"]],
        blocks: &[block("<|tool_call|>", "", Syntax::Json)],
        ..NONE
    },
    Family {
        name: "granite-20b",
        signs: &[&["<function_call>"]],
        blocks: &[block("<function_call>", "", Syntax::Json)],
        ..NONE
    },
    Family {
        name: "functools",
        signs: &[&["functools["]],
        blocks: &[block("functools", "", Syntax::Json)],
        ..NONE
    },
    Family {
        name: "tool-calls-json",
        signs: &[&["<tool_calls>"]],
        blocks: &[block("<tool_calls>", "</tool_calls>", Syntax::Json)],
        ..NONE
    },
    Family {
        name: "lfm2",
        signs: &[&["<|tool_call_start|>"], &["<|tool_list_start|>"], &["List of tools: ["]],
        blocks: &[block("<|tool_call_start|>", "<|tool_call_end|>", Syntax::Python)],
        ..NONE
    },
    Family {
        name: "functionary-v3.1",
        signs: &[&["<function="]],
        blocks: &[
            block(
                "<function=",
                "</function>",
                Syntax::Headed { head: r"^(?P<name>[^>]+)>", tail: "" },
            ),
            block("<|python_tag|>", "", Syntax::Ipython),
        ],
        ..NONE
    },
    Family {
        name: "hermes",
        signs: &[&["<tool_call>"]],
        blocks: &[block("<tool_call>", "</tool_call>", Syntax::Json)],
        ..NONE
    },
    Family {
        name: "pythonic",
        signs: &[&["[func_name1("]],
        blocks: &[block("<|python_tag|>", "", Syntax::Ipython)],
        bare: Some(Syntax::Python),
        ..NONE
    },
    Family {
        name: "llama3",
        signs: &[&["<|python_tag|>"], &["\"name\"", "\"parameters\"", "header_"]],
        blocks: &[block("<|python_tag|>", "", Syntax::Ipython)],
        bare: Some(Syntax::Json),
        // Of Llama 4, around what may be a call.
        ignored: &["<|python_start|>", "<|python_end|>"],
        ..NONE
    },
    Family {
        name: "bare-json",
        signs: &[&["{\"name\": \"tool_call_name\"", "\"arguments\""]],
        bare: Some(Syntax::Json),
        ..NONE
    },
    NONE,
];

const DSML: Syntax = Syntax::Tagged {
    call: r#"(?s)^\s*<｜DSML｜invoke name="(?P<name>[^"]+)">(?P<args>.*?)</｜DSML｜invoke>"#,
    argument: r#"(?s)<｜DSML｜parameter name="(?P<key>[^"]+)"(?: string="(?P<string>true|false)")?>(?P<value>.*?)</｜DSML｜parameter>"#,
};

impl ChatFormat {
    /// The format of a template, judged by what it contains; `plain` (no calls) if nothing is known.
    pub fn detect(template: &str) -> Self {
        let has = |signs: &&[&str]| signs.iter().all(|sign| template.contains(sign));
        let known = FAMILIES.iter().find(|family| family.signs.iter().any(has));
        Self::of(known.unwrap_or(&NONE), template)
    }

    /// The format of this name, with the thinking of `template`.
    pub fn by_name(name: &str, template: &str) -> Option<Self> {
        let family = FAMILIES.iter().find(|family| family.name == name)?;
        Some(Self::of(family, template))
    }

    fn of(family: &'static Family, template: &str) -> Self {
        // One half is enough: templates open what the model closes, or cut off what it closed.
        let mentioned = |&(open, close): &(&str, &str)| {
            let (open, close) = (open.trim_end(), close.trim_end());
            let built = open.starts_with("<|open|>") && template.contains("'<|open|>'")
                || open == "<think:opensource>" && template.contains("<think{}>");
            built
                || template.contains(open) && (open.starts_with('<') || template.contains(close))
                || template.contains(close)
        };
        Self { family, thinking: THINKING.into_iter().filter(mentioned).collect() }
    }

    /// Its name, as in [`ChatFormat::names`].
    pub fn name(&self) -> &'static str {
        self.family.name
    }

    /// Whether models of this template may think before they answer.
    pub fn thinks(&self) -> bool {
        !self.thinking.is_empty()
            || self.family.messages.as_ref().is_some_and(|m| !m.thinking.is_empty())
    }

    /// All known formats.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FAMILIES.iter().map(|family| family.name)
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    /// Every row is found by its own signs, so none stands behind a more general one.
    #[test]
    fn every_row_can_be_found() {
        for family in FAMILIES {
            for signs in family.signs {
                assert_eq!(ChatFormat::detect(&signs.join(" ")).name(), family.name);
            }
            assert!(ChatFormat::by_name(family.name, "").is_some());
        }
        assert_eq!(ChatFormat::detect("{{ messages }}").name(), "plain");
    }

    #[test]
    fn expressions_name_their_parts() {
        let has = |text: &str, names: &[&str]| {
            let regex = Regex::new(text).unwrap();
            for name in names {
                assert!(regex.capture_names().any(|n| n == Some(name)), "{name} in {text}");
            }
        };
        for family in FAMILIES {
            for block in family.blocks {
                match block.syntax {
                    Syntax::Headed { head, tail } => {
                        has(head, &["name"]);
                        has(tail, &[]);
                    }
                    Syntax::Tagged { call, argument } => {
                        has(call, &["name", "args"]);
                        has(argument, &["key", "value"]);
                    }
                    _ => {}
                }
            }
            if let Some(headers) = family.messages.as_ref().filter(|h| !h.call.is_empty()) {
                has(headers.call, &["name"]);
            }
        }
    }
}
