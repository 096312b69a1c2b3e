"""The coding agent of `@anthropic-ai/claude-code`, headless, against hob's messages dialect."""

from common import *

agent = Agent("claude")
ENV = {
    "ANTHROPIC_BASE_URL": URL,
    "ANTHROPIC_AUTH_TOKEN": KEY,
    "ANTHROPIC_MODEL": CODER,
    "ANTHROPIC_SMALL_FAST_MODEL": CODER,
    "API_TIMEOUT_MS": "1200000",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "128",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_MAX_RETRIES": "0",
    "DISABLE_AUTOUPDATER": "1",
}
SHORT = ("--system-prompt", "You are a coding assistant. Answer in one sentence.")


def claude(question, *args):
    status, printed = agent.run("-p", question, "--output-format", "json", *args, **ENV)
    assert printed.strip(), f"status {status}, {agent.said}"
    return json.loads(printed)


def fine(answer):
    # A small model may go on calling tools until it is stopped: no fault of the protocol.
    assert answer["subtype"] in ("success", "error_max_turns"), answer
    assert answer["subtype"] != "success" or (not answer["is_error"] and answer["result"]), answer
    assert (
        answer["usage"]["input_tokens"] + answer["usage"].get("cache_read_input_tokens", 0) > 0
    ), answer
    assert answer["usage"]["output_tokens"] > 0, answer
    return f"{answer['num_turns']} turns, {answer['usage']['output_tokens']} tokens"


@feature("a question")
def question():
    return fine(claude("What is two plus two?", "--tools", "", *SHORT))


@feature("tools")
def tools():
    ask = "Read the file add.py and say what is wrong in it."
    return fine(claude(ask, "--tools", "Read", "--max-turns", "3", *SHORT))


@feature("errors")
def errors():
    answer = claude("hi", "--tools", "", "--model", ABSENT, *SHORT)
    assert answer["is_error"] and answer["api_error_status"] == 404, answer


@feature("its own prompt")
def whole():
    full()
    return fine(claude("What is two plus two?", "--max-turns", "1"))


run("claude-code", version=agent.version())
