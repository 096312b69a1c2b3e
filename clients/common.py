"""What the Python scripts share: where the server is, what is asked of every client, and how results are told.
A script is a list of functions marked with `@feature`; each prints one line of JSON. Deliberately absent: retries, and
any assertion on the wording of an answer, which small models don't owe us."""

import importlib.metadata
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback

URL = os.environ.get("HOB_URL", "http://127.0.0.1:11434").rstrip("/")
KEY = os.environ.get("HOB_API_KEY", "none")
SMALL = os.environ.get("HOB_SMALL", "smollm2:135m")
CACHE = os.environ.get("HOB_CLIENTS") or os.path.expanduser("~/.cache/hob-clients")
CODER = os.environ.get("HOB_CODER", "qwen2.5-coder:1.5b")
ABSENT = "nothing-of-this-name:1b"

QUESTION = "Name three animals."
TOOL_QUESTION = "What is the weather in Paris, in celsius? Use the tool."

# Every field is bounded, so that the smallest model ends the answer.
PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Paris", "Rome", "Lima"]},
        "rating": {"type": "integer", "enum": [1, 2, 3, 4, 5]},
        "capital": {"type": "boolean"},
    },
    "required": ["city", "rating", "capital"],
    "additionalProperties": False,
}

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Paris", "Rome", "Lima"]},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}

WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city now",
        "parameters": WEATHER,
    },
}

features = []


class Skip(Exception):
    """A feature that this client or model can't be asked for; the reason is shown."""


def feature(name):
    """Marks a function as the proof of a feature."""

    def mark(proof):
        features.append((name, proof))
        return proof

    return mark


def valid(value, schema):
    """Checks a value, or a text of JSON, against a schema, with a validator that isn't ours."""
    import jsonschema

    value = json.loads(value) if isinstance(value, str) else value
    jsonschema.validate(value, schema)
    return value


def unit_vectors(vectors, count):
    """Checks embeddings: as many as asked for, alike in length, each of norm 1."""
    assert len(vectors) == count, f"{len(vectors)} vectors for {count} texts"
    assert len({len(v) for v in vectors}) == 1 and len(vectors[0]) > 8, [len(v) for v in vectors]
    for vector in vectors:
        norm = math.sqrt(sum(x * x for x in vector))
        assert abs(norm - 1) < 1e-3, f"norm {norm}"
    assert count < 2 or vectors[0] != vectors[1], "two texts, one vector"


def raises(kind, call):
    """Runs a call that must fail with the client's own class of error, and returns the error."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


class Agent:
    """A coding agent's program, run with a home and a work folder of its own, so that it neither reads nor writes the
    user's. What it needs of the environment is passed; whatever would call its maker is turned off by the scripts."""

    def __init__(self, program):
        # Not in /tmp, where some of them won't put their helpers.
        self.folder = tempfile.TemporaryDirectory(dir=CACHE, prefix=f"{program}-")
        self.home, self.work = (os.path.join(self.folder.name, name) for name in ("home", "work"))
        os.makedirs(self.home)
        os.makedirs(self.work)
        self.write("work/add.py", "def add(a, b):\n    return a - b\n")
        self.program = os.path.join(CACHE, "node/node_modules/.bin", program)

    def write(self, path, text):
        path = os.path.join(self.folder.name, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        return path

    def run(self, *args, seconds=1200, **env):
        """Runs the program; returns its exit status and its output, and keeps its error output for messages."""
        keep = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        done = subprocess.run(
            [self.program, *args], cwd=self.work, env={**keep, "HOME": self.home, **env},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds,
        )  # fmt: skip
        self.said = done.stderr[-600:]
        return done.returncode, done.stdout

    def version(self):
        text = self.run("--version")[1]
        return next(word for word in text.split() if word[0].isdigit())


def full():
    """Skips what sends an agent's whole system prompt (10 to 20 thousand tokens) unless it is asked for."""
    if not os.environ.get("HOB_CLIENTS_FULL"):
        raise Skip("the agent's own prompt of 10 to 20 thousand tokens: run with --full")


def tell(client, version, name, result, seconds, note=""):
    """One line for the table."""
    line = {"client": client, "version": version, "feature": name, "result": result}
    print(json.dumps({**line, "seconds": round(seconds, 2), "note": note}), flush=True)


def run(client, package=None, version=None):
    """Runs every feature, or those named on the command line, and exits with 1 when one has failed."""
    version = version or importlib.metadata.version(package or client)
    failed = False
    for name, proof in features:
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        start = time.monotonic()
        result, note = "ok", ""
        try:
            note = proof() or ""
        except Skip as reason:
            result, note = "skipped", str(reason)
        except Exception as error:
            traceback.print_exc()
            line = traceback.extract_tb(error.__traceback__)[1]
            where = f"{os.path.basename(line.filename)}:{line.lineno}: {line.line}"
            result, note, failed = "failed", f"{where}: {type(error).__name__}: {error}"[:400], True
        tell(client, version, name, result, time.monotonic() - start, note)
    sys.exit(failed)
