"""The coding agent of the Python package `aider-chat`, headless, against hob's chat completions and its native dialect."""

from common import *

agent = Agent("aider")
agent.program = os.path.join(os.path.dirname(sys.executable), "aider")
ENV = {
    "OPENAI_API_BASE": f"{URL}/v1",
    "OPENAI_API_KEY": KEY,
    "OLLAMA_API_BASE": URL,
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
QUIET = (
    "--yes-always", "--no-git", "--no-check-update", "--analytics-disable", "--no-show-model-warnings",
    "--no-show-release-notes", "--no-gitignore", "--no-detect-urls", "--map-tokens", "0", "--no-pretty",
)  # fmt: skip
# It would fetch a list of prices unless a fresh one is there.
agent.write("home/.aider/caches/model_prices_and_context_window.json", '{"none": {}}')
agent.write(
    "home/limits.yml",
    f"- name: openai/{CODER}\n  extra_params: {{max_tokens: 96}}\n- name: ollama_chat/{CODER}\n  extra_params: {{max_tokens: 96}}\n",
)


def aider(model, message, *args):
    limits = ("--model-settings-file", os.path.join(agent.home, "limits.yml"))
    status, printed = agent.run(
        "--model", model, "--message", message, *QUIET, *limits, *args, **ENV
    )
    assert status == 0 and "litellm." not in printed, (printed[-500:], agent.said)
    assert "Tokens:" in printed, printed[-500:]
    return next(line for line in printed.splitlines() if line.startswith("Tokens:"))


@feature("chat completions")
def completions():
    return aider(f"openai/{CODER}", "What is two plus two?", "--edit-format", "ask")


@feature("native dialect")
def native():
    return aider(f"ollama_chat/{CODER}", "What is two plus two?", "--edit-format", "ask")


run("aider", "aider-chat")
