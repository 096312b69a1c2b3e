"""The command `llm` with its plugin `llm-ollama` against hob: models, a prompt, a conversation, a schema, embeddings."""

import subprocess
import sys
import tempfile

from common import *

home = tempfile.TemporaryDirectory()
os.environ.update(LLM_USER_PATH=home.name, OLLAMA_HOST=URL)


def llm(*args):
    done = subprocess.run(
        [sys.executable, "-m", "llm", *args], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-400:]
    return done.stdout


COLD = ("-o", "temperature", "0", "-o", "num_predict", "24")


@feature("models")
def models():
    listed = llm("models", "list")
    assert SMALL in listed and CODER in listed, listed
    assert SMALL in llm("ollama", "models")


@feature("chat, streaming")
def chat():
    streamed = llm("-m", SMALL, QUESTION, *COLD).strip()
    assert streamed and streamed == llm("-m", SMALL, QUESTION, "--no-stream", *COLD).strip()
    assert llm("-c", "And three more?", *COLD).strip()
    assert llm("-m", SMALL, QUESTION, "-s", "Be brief.", *COLD).strip()


@feature("structured output")
def structured():
    options = ("-o", "temperature", "0", "-o", "num_predict", "96")
    valid(llm("-m", CODER, "Rate Paris, as JSON.", "--schema", json.dumps(PLACE), *options), PLACE)


@feature("tools")
def tools():
    code = (
        "def weather(city: str) -> str:\n    'The weather of a city now'\n    return '18 degrees'\n"
    )
    options = ("-o", "temperature", "0", "-o", "num_predict", "64")
    llm(
        "-m",
        CODER,
        TOOL_QUESTION,
        "--functions",
        code,
        "--chain-limit",
        "3",
        "--no-stream",
        *options,
    )
    return "completed; this dialect can't force a call"


@feature("embeddings")
def embeddings():
    assert len(json.loads(llm("embed", "-m", SMALL, "-c", "a cat on a mat"))) > 8


@feature("errors")
def errors():
    done = subprocess.run(
        [sys.executable, "-m", "llm", "-m", ABSENT, "x"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr


run("llm + llm-ollama", "llm-ollama")
