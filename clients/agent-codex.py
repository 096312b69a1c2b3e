"""The coding agent of `@openai/codex`, headless, against hob's responses dialect."""

from common import *

agent = Agent("codex")
PROVIDER = f"""
model = "{CODER}"
model_provider = "hob"
web_search = "disabled"

[model_providers.hob]
name = "hob"
base_url = "{URL}/v1"
wire_api = "responses"
env_key = "HOB_API_KEY"
stream_max_retries = 0
request_max_retries = 0
stream_idle_timeout_ms = 1200000
"""
# Its own instructions and tools are ten thousand tokens; these settings leave two thousand.
SHORT = """
[features]
multi_agent = false
goals = false
image_generation = false

[skills]
include_instructions = false

[skills.bundled]
enabled = false
"""


def codex(question, *args, config="", **env):
    agent.write("home/.codex/config.toml", config + PROVIDER + (SHORT if config else ""))
    agent.write(
        "home/.codex/instructions.md", "You are a coding assistant. Answer in one sentence."
    )
    fixed = ("exec", "--json", "--skip-git-repo-check", "--sandbox", "read-only")
    status, printed = agent.run(*fixed, *args, question, HOB_API_KEY=KEY, **env)
    return status, [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def fine(status, events):
    failed = [e for e in events if e["type"] in ("error", "turn.failed")]
    assert status == 0 and not failed, f"{failed} {agent.said}"
    usage = next(e["usage"] for e in events if e["type"] == "turn.completed")
    assert usage["input_tokens"] > 0 and usage["output_tokens"] > 0, usage
    items = [e["item"]["type"] for e in events if e["type"] == "item.completed"]
    assert {"agent_message", "command_execution"} & set(items), items
    return f"{usage['output_tokens']} tokens"


INSTRUCTED = 'model_instructions_file = "instructions.md"\n'


@feature("a question")
def question():
    return fine(*codex("What is two plus two? Don't use tools.", config=INSTRUCTED))


@feature("as a local provider")
def local():
    # `--oss` takes the server for Ollama: it asks for the version and the list of models first.
    agent.write("home/.codex/config.toml", INSTRUCTED + SHORT)
    fixed = (
        "exec",
        "--json",
        "--skip-git-repo-check",
        "--sandbox",
        "read-only",
        "--oss",
        "--local-provider",
        "ollama",
        "-m",
        CODER,
    )
    status, printed = agent.run(*fixed, "What is two plus two?", CODEX_OSS_BASE_URL=f"{URL}/v1")
    return fine(status, [json.loads(line) for line in printed.splitlines() if line.startswith("{")])


@feature("errors")
def errors():
    status, events = codex("hi", "-m", ABSENT, config=INSTRUCTED)
    failed = [e for e in events if e["type"] in ("error", "turn.failed")]
    assert status != 0 and any(ABSENT in json.dumps(e) for e in failed), (status, events)


@feature("its own prompt")
def whole():
    full()
    return fine(*codex("What is two plus two?"))


run("codex", version=agent.version())
