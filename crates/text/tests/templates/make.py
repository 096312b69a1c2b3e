#!/usr/bin/env python3
"""Writes goldens.json: every template of the asset cache rendered as transformers renders it, for a few conversations.

Needs: pip install transformers jinja2.  Usage: make.py TEMPLATES_DIR > goldens.json
Long outputs are kept as a hash. {"raised": ...} is a template's own refusal, which hob must repeat; null is an error of Python
(iterating None ...), where hob may be kinder.
"""
import datetime
import hashlib
import json
import pathlib
import sys

import jinja2
import transformers.utils.chat_template_utils as chat

NOW = datetime.datetime(2025, 3, 14, 12, 0, 0)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat.datetime = Clock

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Current weather <in> a city & more: 'now'",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Name of the city, \"quoted\""},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                    "days": {"type": "integer", "minimum": 1},
                },
                "required": ["city"],
            },
        },
    }
]
CALL = {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "東京", "days": 2, "exact": True, "limit": 1.5, "none": None}}}
OTHER = {"id": "call23456", "type": "function", "function": {"name": "get_time", "arguments": {"zone": "JST"}}}

CONVERSATIONS = {
    "user": {"messages": [{"role": "user", "content": "What is 1+1?  \n"}], "add_generation_prompt": True},
    "chat": {
        "messages": [
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": "Hello, <b>world</b> & 'friends'"},
            {"role": "assistant", "content": "Hi! 你好 🚀"},
            {"role": "user", "content": "Bye"},
        ],
        "add_generation_prompt": True,
    },
    "done": {
        "messages": [
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nTwo"},
            {"role": "user", "content": "Three"},
            {"role": "assistant", "content": "Four"},
        ],
        "add_generation_prompt": False,
    },
    "nothink": {"messages": [{"role": "user", "content": "Quick?"}], "add_generation_prompt": True, "enable_thinking": False},
    "tools": {"messages": [{"role": "user", "content": "Weather in Tokyo?"}], "add_generation_prompt": True, "tools": TOOLS},
    "called": {
        "messages": [
            {"role": "user", "content": "Weather in Tokyo?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "{\"sky\": \"clear\"}", "tool_call_id": "call12345", "name": "get_weather"},
        ],
        "add_generation_prompt": True,
        "tools": TOOLS,
    },
    "parallel": {
        "messages": [
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": "Weather and time?"},
            {"role": "assistant", "content": "I look.", "reasoning_content": "Both are needed.", "tool_calls": [CALL, OTHER]},
            {"role": "tool", "content": "clear", "tool_call_id": "call12345", "name": "get_weather"},
            {"role": "tool", "content": "12:00", "tool_call_id": "call23456", "name": "get_time"},
        ],
        "add_generation_prompt": True,
        "tools": TOOLS,
        "enable_thinking": True,
    },
    "thought": {
        "messages": [
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Two", "reasoning_content": "Hm."},
            {"role": "user", "content": "Three"},
            {"role": "assistant", "content": "", "reasoning_content": "Call.", "tool_calls": [OTHER]},
        ],
        "add_generation_prompt": False,
        "tools": TOOLS,
    },
    "knobs": {
        "messages": [{"role": "user", "content": "Why?"}],
        "add_generation_prompt": True,
        "extra": {"thinking": True, "reasoning_effort": "high"},
    },
    "rank": {
        "messages": [
            {"role": "system", "content": "Find answers."},
            {"role": "query", "content": "What is \"blue\"?"},
            {"role": "document", "content": "<image> The sky's colour\n"},
        ],
        "add_generation_prompt": True,
    },
}


def typed(messages):
    return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]


def as_strings(messages):
    messages = json.loads(json.dumps(messages))
    for message in messages:
        for call in message.get("tool_calls", []):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return messages


def render(template, case, messages):
    case = dict(case)
    messages = json.loads(json.dumps(messages))
    for message in messages:
        if "reasoning_content" in message:
            # Templates disagree about the name.
            message["thinking"] = message["reasoning_content"]
    case.pop("messages")
    compiled = chat._cached_compile_jinja_template(template)
    return compiled.render(
        messages=messages,
        tools=case.pop("tools", None),
        documents=None,
        bos_token="<BOS>",
        eos_token="<EOS>",
        **case.pop("extra", {}),
        **case,
    )


def attempt(template, case, convert):
    try:
        return render(template, case, convert(case["messages"]))
    except jinja2.exceptions.TemplateError as error:
        own = type(error) is jinja2.exceptions.TemplateError
        return {"raised": str(error)} if own else None
    except Exception as error:
        print("  ", type(error).__name__, str(error)[:100], file=sys.stderr)
        return None


def main():
    goldens = {}
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        probe = "hob probes this template"
        probe_case = {"messages": [{"role": "user", "content": probe}], "add_generation_prompt": True}
        plain = probe in (attempt(template, probe_case, lambda m: m) or "")
        convert = (lambda m: m) if plain or probe not in (attempt(template, probe_case, typed) or "") else typed
        call = {"id": "call00000", "type": "function", "function": {"name": "probe", "arguments": {"probe": probe}}}
        probe_case = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "tool_calls": [call]}], "add_generation_prompt": True}
        shown = lambda change: probe in (attempt(template, probe_case, change) or "")
        if not shown(convert) and shown(lambda m: convert(as_strings(m))):
            inner = convert
            convert = lambda m: inner(as_strings(m))
        results = {}
        for name, case in CONVERSATIONS.items():
            if name == "rank" and '"query"' not in template and "'query'" not in template:
                continue
            print(path.stem, name, file=sys.stderr)
            text = attempt(template, case, convert)
            if not isinstance(text, str) or len(text.encode()) <= 240:
                results[name] = text
            else:
                results[name] = {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()[:16]}
        goldens[path.stem] = results
    conversations = {name: {k: v for k, v in case.items()} for name, case in CONVERSATIONS.items()}
    json.dump({"now": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp()), "conversations": conversations, "goldens": goldens}, sys.stdout, ensure_ascii=False, indent=1)
    print()


main()
