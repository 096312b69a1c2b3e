"""The Python package `langchain-openai` against hob: chat completions and responses through LangChain."""

import openai
from common import *
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field


def model(name=SMALL, **kwargs):
    settings = {"temperature": 0, "max_tokens": 24, "max_retries": 0, "stream_usage": True}
    return ChatOpenAI(model=name, base_url=f"{URL}/v1", api_key=KEY, **{**settings, **kwargs})


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
    answer = model().invoke([("system", "Be brief."), ("user", QUESTION)])
    assert answer.content and answer.usage_metadata["input_tokens"] > 0
    assert answer.response_metadata["finish_reason"] in ("stop", "length")


@feature("streaming")
def streaming():
    parts = list(model().stream(QUESTION))
    assert "".join(p.content for p in parts) == model().invoke(QUESTION).content
    assert sum(p.usage_metadata["output_tokens"] for p in parts if p.usage_metadata) > 0


@feature("tools")
def tools():
    forced = model(CODER, max_tokens=96).bind_tools([get_weather], tool_choice="get_weather")
    call = forced.invoke(TOOL_QUESTION).tool_calls[0]
    assert call["name"] == "get_weather" and set(call["args"]) == {"city", "unit"}, call
    parts = list(forced.stream(TOOL_QUESTION))
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    assert whole.tool_calls[0]["name"] == "get_weather"
    history = [
        HumanMessage(TOOL_QUESTION),
        AIMessage("", tool_calls=[call]),
        ToolMessage("18 degrees", tool_call_id=call["id"]),
    ]
    after = model(CODER).bind_tools([get_weather]).invoke(history)
    assert after.content or after.tool_calls


@feature("structured output")
def structured():
    for method in ("json_schema", "function_calling"):
        made = model(CODER, max_tokens=96).with_structured_output(Place, method=method)
        assert isinstance(made.invoke("Rate Paris from 1 to 5."), Place), method


@feature("responses")
def responses():
    made = model(use_responses_api=True)
    assert made.invoke(QUESTION).text
    assert "".join(p.text for p in made.stream(QUESTION))


@feature("embeddings")
def embeddings():
    # By default this client sends token numbers of an OpenAI tokenizer, which mean nothing to other models.
    made = OpenAIEmbeddings(
        model=SMALL, base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False
    )
    unit_vectors(made.embed_documents(["a cat on a mat", "seven ships"]), 2)


@feature("errors")
def errors():
    raises(openai.NotFoundError, lambda: model(ABSENT).invoke(QUESTION))


run("langchain-openai", "langchain-openai")
