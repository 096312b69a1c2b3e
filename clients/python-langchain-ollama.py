"""The Python package `langchain-ollama` against hob: the native dialect through LangChain."""

from common import *
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel, Field


def model(name=SMALL, **kwargs):
    return ChatOllama(model=name, base_url=URL, **{"temperature": 0, "num_predict": 24, **kwargs})


@tool
def get_weather(city: str, unit: str) -> str:
    """The weather of a city now, in celsius or fahrenheit."""
    return f"18 degrees {unit} in {city}"


class Place(BaseModel):
    """A city."""

    rating: int = Field(description="from 1 to 5", ge=1, le=5)
    capital: bool


@feature("chat")
def chat():
    answer = model().invoke(QUESTION)
    assert answer.content and answer.usage_metadata["input_tokens"] > 0
    assert answer.response_metadata["done_reason"] in ("stop", "length")
    assert OllamaLLM(model=SMALL, base_url=URL, num_predict=8).invoke(QUESTION)


@feature("streaming")
def streaming():
    parts = list(model().stream(QUESTION))
    assert len(parts) > 3
    assert "".join(p.content for p in parts) == model().invoke(QUESTION).content


@feature("tools")
def tools():
    bound = model(CODER, num_predict=64).bind_tools([get_weather])
    answer = bound.invoke(TOOL_QUESTION)
    assert answer.tool_calls or answer.content
    call = {"name": "get_weather", "args": {"city": "Paris", "unit": "celsius"}, "id": "call_1"}
    history = [
        HumanMessage(TOOL_QUESTION),
        AIMessage("", tool_calls=[call]),
        ToolMessage("18 degrees", tool_call_id="call_1"),
    ]
    assert bound.invoke(history).content
    return (
        "the model called"
        if answer.tool_calls
        else "the model talked instead; this dialect can't force a call"
    )


@feature("structured output")
def structured():
    made = model(CODER, num_predict=96).with_structured_output(Place, method="json_schema")
    assert isinstance(made.invoke("Rate Paris from 1 to 5."), Place)
    valid(model(format=PLACE, num_predict=96).invoke("A city, as JSON.").content, PLACE)


@feature("embeddings")
def embeddings():
    made = OllamaEmbeddings(model=SMALL, base_url=URL)
    unit_vectors(made.embed_documents(["a cat on a mat", "seven ships"]), 2)
    assert len(made.embed_query("a cat on a mat")) > 8


@feature("errors")
def errors():
    import ollama

    error = raises(ollama.ResponseError, lambda: model(ABSENT).invoke(QUESTION))
    assert error.status_code == 404


run("langchain-ollama", "langchain-ollama")
