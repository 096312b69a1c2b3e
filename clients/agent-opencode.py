"""The coding agent of `opencode-ai`, headless, against hob's chat completions."""

from common import *

agent = Agent("opencode")
ENV = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
}
PROVIDER = {
    "npm": "@ai-sdk/openai-compatible",
    "name": "hob",
    "options": {"baseURL": f"{URL}/v1", "apiKey": KEY, "timeout": 1200000},
    "models": {CODER: {"name": CODER, "limit": {"context": 32768, "output": 96}}},
}
SHORT = {
    "build": {
        "prompt": "You are a coding assistant. Answer in one sentence.",
        "tools": {"*": False, "read": True},
    }
}


def opencode(question, model=CODER, agents=SHORT):
    config = {
        "$schema": "https://opencode.ai/config.json", "autoupdate": False, "share": "disabled",
        "provider": {"hob": PROVIDER}, "model": f"hob/{CODER}", "small_model": f"hob/{CODER}", "agent": agents,
    }  # fmt: skip
    agent.write("work/opencode.json", json.dumps(config))
    # With a title it doesn't ask the model for one.
    args = ("run", "--pure", "--format", "json", "--title", "test", "-m", f"hob/{model}", question)
    status, printed = agent.run(*args, **ENV)
    return status, [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def fine(status, events):
    failed = [e for e in events if e["type"] == "error"]
    assert status == 0 and not failed, f"{status} {failed} {agent.said}"
    steps = [e["part"] for e in events if e["type"] == "step_finish"]
    assert steps and all(s["tokens"]["input"] > 0 and s["tokens"]["output"] > 0 for s in steps), (
        events
    )
    assert steps[-1]["reason"] in ("stop", "length", "tool-calls"), steps
    assert any(e["type"] in ("text", "tool_use") for e in events), events
    return f"{len(steps)} steps"


@feature("a question")
def question():
    none = {"build": {**SHORT["build"], "tools": {"*": False}}}
    return fine(*opencode("What is two plus two?", agents=none))


@feature("tools")
def tools():
    return fine(*opencode("Read the file add.py and say what is wrong in it."))


@feature("its own prompt")
def whole():
    full()
    return fine(*opencode("What is two plus two?", agents={}))


run("opencode", version=agent.version())
