"""Open WebUI's own routers against hob: its list of models and its chat call, as its pages make them.
The package is installed without its dependencies; the heavy ones (vector stores, loaders of documents, torch) are stood in for
by empty modules, since none of them is on the way of a chat. Deliberately absent: its pages, its retrieval."""

import asyncio
import importlib.abc
import importlib.machinery
import types

from common import *


class Stand(Exception):
    """Whatever is asked of a module that isn't there: can be called, subclassed and caught."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stand()

    def __call__(self, *args, **kwargs):
        return Stand()


class Empty(types.ModuleType):
    """A module in which every name is a class that does nothing."""

    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Stand,), {})


AWAY = {"mcp", "chromadb", "langchain_core", "langchain_text_splitters", "langchain_classic"}


class Stands(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The last finder: what is in AWAY is found, and empty."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in AWAY:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Empty(spec.name)

    def exec_module(self, module):
        pass


folder = tempfile.TemporaryDirectory()
os.environ.update(
    FROM_INIT_PY="true", DATA_DIR=f"{folder.name}/data", STATIC_DIR=f"{folder.name}/static",
    WEBUI_SECRET_KEY="none", OFFLINE_MODE="1", GLOBAL_LOG_LEVEL="ERROR",
    OLLAMA_BASE_URL=URL, OPENAI_API_BASE_URL=f"{URL}/v1", OPENAI_API_KEY=KEY,
)  # fmt: skip
for name in ("data", "static"):
    os.makedirs(f"{folder.name}/{name}")
sys.meta_path.append(Stands())

import httpx
from fastapi import FastAPI
from open_webui.models.config import Config
from open_webui.models.users import UserModel
from open_webui.routers import ollama, openai
from open_webui.utils import auth
from open_webui.utils.payload import convert_payload_openai_to_ollama
from open_webui.utils.response import convert_response_ollama_to_openai

ADMIN = dict(
    id="1",
    name="a",
    email="a@localhost",
    role="admin",
    profile_image_url="",
    last_active_at=0,
    updated_at=0,
    created_at=0,
)
app = FastAPI()
app.include_router(ollama.router, prefix="/ollama")
app.include_router(openai.router, prefix="/openai")
for guard in (auth.get_verified_user, auth.get_admin_user):
    app.dependency_overrides[guard] = lambda: UserModel.model_construct(**ADMIN)
app.state.OLLAMA_MODELS = app.state.OPENAI_MODELS = app.state.MODELS = {}
loop = asyncio.new_event_loop()


def call(method, path, body=None):
    async def ask():
        settings = {
            "ollama.enable": True,
            "ollama.base_urls": [URL],
            "ollama.api_configs": {},
            "openai.enable": True,
        }
        settings |= {
            "openai.api_base_urls": [f"{URL}/v1"],
            "openai.api_keys": [KEY],
            "openai.api_configs": {},
        }
        await Config.upsert(settings)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://webui", timeout=300
        ) as client:
            return await client.request(method, path, json=body)

    return loop.run_until_complete(ask())


def page(stream, **more):
    """The body of its pages' chat call, converted as it does for a model of Ollama's."""
    body = {
        "model": SMALL,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": stream,
        "options": {"temperature": 0, "max_tokens": 24},
    }
    return convert_payload_openai_to_ollama({**body, **more})


@feature("models")
def models():
    listed = call("GET", "/ollama/api/tags")
    assert listed.status_code == 200, listed.text
    names = [m["model"] for m in listed.json()["models"]]
    assert SMALL in names and CODER in names, names
    assert call("GET", "/ollama/api/version").json()["version"]
    offered = call("GET", "/openai/models")
    assert offered.status_code == 200 and SMALL in offered.text, offered.text
    return f"stood in for: {', '.join(sorted(AWAY))}"


@feature("chat")
def chat():
    answer = call("POST", "/ollama/api/chat", page(False))
    assert answer.status_code == 200, answer.text
    told = convert_response_ollama_to_openai(answer.json())
    assert told["choices"][0]["message"]["content"] and told["usage"]["completion_tokens"] > 0
    listed = call("GET", "/ollama/api/ps")
    assert listed.status_code == 200, listed.text


@feature("streaming")
def streaming():
    whole = call("POST", "/ollama/api/chat", page(False)).json()["message"]["content"]
    parts = [
        json.loads(line) for line in call("POST", "/ollama/api/chat", page(True)).text.splitlines()
    ]
    assert "".join(p["message"]["content"] for p in parts) == whole and parts[-1]["done"]


@feature("tools")
def tools():
    ask = {
        "messages": [{"role": "user", "content": TOOL_QUESTION}],
        "model": CODER,
        "tools": [WEATHER_TOOL],
    }
    told = convert_response_ollama_to_openai(
        call("POST", "/ollama/api/chat", page(False, **ask)).json()
    )
    message = told["choices"][0]["message"]
    assert message.get("content") or message.get("tool_calls"), told


@feature("as OpenAI")
def as_openai():
    body = {
        "model": SMALL,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 24,
        "temperature": 0,
    }
    answer = call("POST", "/openai/chat/completions", {**body, "stream": False})
    assert answer.status_code == 200, answer.text
    text = answer.json()["choices"][0]["message"]["content"]
    streamed = call("POST", "/openai/chat/completions", {**body, "stream": True}).text
    chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    assert (
        "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
        == text
    )


@feature("embeddings")
def embeddings():
    answer = call(
        "POST", "/ollama/api/embed", {"model": SMALL, "input": ["a cat on a mat", "seven ships"]}
    )
    assert answer.status_code == 200, answer.text
    unit_vectors(answer.json()["embeddings"], 2)


run("open-webui", "open-webui")
