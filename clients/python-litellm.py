"""The Python package `litellm` against hob, through three of its providers: ollama_chat, openai and anthropic."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = (
    "True"  # its list of prices would be fetched from the network
)

import litellm
from common import *

ASK = [{"role": "user", "content": QUESTION}]
PROVIDERS = {"ollama_chat": URL, "openai": f"{URL}/v1", "anthropic": URL}
litellm.telemetry = False


def complete(provider, model=SMALL, messages=ASK, **kwargs):
    place = {"api_base": PROVIDERS[provider], "api_key": KEY, "num_retries": 0, "timeout": 300}
    return litellm.completion(
        f"{provider}/{model}", messages, **{"temperature": 0, "max_tokens": 24, **place, **kwargs}
    )


def chat(provider):
    answer = complete(provider)
    assert answer.choices[0].message.content and answer.choices[0].finish_reason in (
        "stop",
        "length",
    )
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0
    parts = list(complete(provider, stream=True))
    text = "".join(p.choices[0].delta.content or "" for p in parts)
    assert text == answer.choices[0].message.content, text
    assert [p.choices[0].finish_reason for p in parts if p.choices[0].finish_reason]


def tools(provider):
    ask = [{"role": "user", "content": TOOL_QUESTION}]
    answer = complete(
        provider,
        CODER,
        ask,
        tools=[WEATHER_TOOL],
        tool_choice="required",
        max_tokens=96,
        drop_params=True,
    )
    calls = answer.choices[0].message.tool_calls
    if provider == "ollama_chat" and not calls:
        return "the model talked instead; this provider can't force a call"
    assert calls[0].function.name == "get_weather"
    if provider != "ollama_chat":
        valid(calls[0].function.arguments, WEATHER)
    turn = {"role": "assistant", "content": "", "tool_calls": [calls[0].model_dump()]}
    result = {
        "role": "tool",
        "tool_call_id": calls[0].id,
        "name": "get_weather",
        "content": "18 degrees",
    }
    after = complete(provider, CODER, [*ask, turn, result], tools=[WEATHER_TOOL])
    assert after.choices[0].message.content or after.choices[0].message.tool_calls


def structured(provider):
    form = {
        "type": "json_schema",
        "json_schema": {"name": "place", "strict": True, "schema": PLACE},
    }
    answer = complete(
        provider,
        CODER,
        [{"role": "user", "content": "Rate Paris, as JSON."}],
        response_format=form,
        max_tokens=96,
    )
    valid(answer.choices[0].message.content, PLACE)


def errors(provider):
    raises(litellm.exceptions.NotFoundError, lambda: complete(provider, ABSENT))


for provider in PROVIDERS:
    for name, proof in (
        ("chat, streaming", chat),
        ("tools", tools),
        ("structured output", structured),
        ("errors", errors),
    ):
        feature(f"{provider}: {name}")(lambda proof=proof, provider=provider: proof(provider))


@feature("embeddings")
def embeddings():
    for provider in ("ollama", "openai"):
        base = PROVIDERS["ollama_chat"] if provider == "ollama" else PROVIDERS["openai"]
        answer = litellm.embedding(
            f"{provider}/{SMALL}", ["a cat", "seven ships"], api_base=base, api_key=KEY
        )
        unit_vectors([d["embedding"] for d in answer.data], 2)


@feature("responses")
def responses():
    answer = litellm.responses(
        input=QUESTION,
        model=f"openai/{SMALL}",
        api_base=f"{URL}/v1",
        api_key=KEY,
        max_output_tokens=24,
    )
    assert answer.output[0].content[0].text


run("litellm", "litellm")
