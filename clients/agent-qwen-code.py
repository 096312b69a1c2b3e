"""The coding agent of `@qwen-code/qwen-code`, headless, against hob's chat completions."""

from common import *

agent = Agent("qwen")
ENV = {"OPENAI_BASE_URL": f"{URL}/v1", "OPENAI_API_KEY": KEY, "OPENAI_MODEL": CODER}
SHORT = ("--bare", "--system-prompt", "You are a coding assistant. Answer in one sentence.")
SETTINGS = {
    "privacy": {"usageStatisticsEnabled": False},
    "general": {"enableAutoUpdate": False},
    "model": {
        "generationConfig": {
            "timeout": 1200000,
            "maxRetries": 0,
            "samplingParams": {"max_tokens": 96},
        }
    },
}
agent.write("home/.qwen/settings.json", json.dumps(SETTINGS))


def qwen(question, *args, **env):
    fixed = (
        "-p",
        question,
        "--output-format",
        "json",
        "--auth-type",
        "openai",
        "--max-session-turns",
        "3",
    )
    status, printed = agent.run(*fixed, *args, **{**ENV, **env})
    lines = [line for line in printed.splitlines() if line.startswith("[")]
    return status, json.loads(lines[-1]) if lines else []


def fine(status, events):
    results = [e for e in events if e["type"] == "result"]
    assert results, f"status {status}, {agent.said}"
    answer = results[-1]
    # It counts a refusal of the server as success, and tells of it in its answer.
    assert "[API Error" not in json.dumps(answer), answer
    assert answer["subtype"] == "success" or "max" in json.dumps(answer).lower(), answer
    assert answer["usage"]["input_tokens"] > 0 and answer["usage"]["output_tokens"] > 0, answer
    return f"{answer['num_turns']} turns, {answer['usage']['output_tokens']} tokens"


@feature("a question")
def question():
    return fine(*qwen("What is two plus two?", *SHORT))


@feature("errors")
def errors():
    status, events = qwen("hi", *SHORT, OPENAI_MODEL=ABSENT)
    said = json.dumps(events) + agent.said
    assert "404" in said and f"{ABSENT}' does not exist" in said, (status, said)


@feature("its own prompt")
def whole():
    full()
    return fine(*qwen("What is two plus two?"))


run("qwen-code", version=agent.version())
