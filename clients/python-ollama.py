"""The Python package `ollama` against hob: the native dialect."""

import asyncio

import ollama
from common import *

client = ollama.Client(host=URL)
COLD = {"temperature": 0, "num_predict": 24}


def ask(text=QUESTION):
    return [{"role": "user", "content": text}]


def get_weather(city: str, unit: str) -> str:
    """The weather of a city now.

    Args:
      city: name of the city
      unit: celsius or fahrenheit
    """
    return f"18 degrees {unit} in {city}"


@feature("models")
def models():
    listed = {m.model: m for m in client.list().models}
    assert SMALL in listed and CODER in listed, list(listed)
    assert listed[SMALL].size > 1 << 20 and len(listed[SMALL].digest) == 64
    shown = client.show(SMALL)
    assert "completion" in shown.capabilities
    arch = shown.modelinfo["general.architecture"]
    assert shown.modelinfo[f"{arch}.context_length"] > 0
    assert shown.details.quantization_level and shown.details.parameter_size


@feature("chat")
def chat():
    answer = client.chat(SMALL, ask(), options=COLD)
    assert answer.message.role == "assistant" and answer.message.content
    assert answer.done and answer.done_reason in ("stop", "length")
    assert answer.prompt_eval_count > 0 and answer.eval_count > 0 and answer.total_duration > 0
    again = client.chat(SMALL, [{"role": "system", "content": "Be brief."}, *ask()], options=COLD)
    assert again.message.content
    running = client.ps().models
    assert SMALL in [m.model for m in running], running


@feature("streaming")
def streaming():
    whole = client.chat(SMALL, ask(), options=COLD)
    parts = list(client.chat(SMALL, ask(), options=COLD, stream=True))
    assert len(parts) > 2 and [p.done for p in parts].count(True) == 1 and parts[-1].done
    text = "".join(p.message.content or "" for p in parts)
    assert text == whole.message.content, f"{text!r} streamed, {whole.message.content!r} at once"
    assert parts[-1].eval_count == whole.eval_count and parts[-1].done_reason == whole.done_reason


@feature("generate")
def generate():
    whole = client.generate(SMALL, QUESTION, options=COLD)
    assert whole.response and whole.eval_count > 0
    text = "".join(p.response for p in client.generate(SMALL, QUESTION, options=COLD, stream=True))
    assert text == whole.response
    raw = client.generate(SMALL, "Once upon a time", raw=True, options={**COLD, "num_predict": 4})
    assert raw.response and raw.eval_count == 4 and raw.done_reason == "length"
    loaded = client.generate(SMALL)
    assert loaded.done and loaded.done_reason == "load" and loaded.response == ""


@feature("fill in the middle")
def fill():
    answer = client.generate(CODER, "def add(a, b):\n    ", suffix="\n    return c\n", options=COLD)
    assert answer.response.strip()


@feature("limits")
def limits():
    cut = client.chat(SMALL, ask(), options={"temperature": 0, "num_predict": 3})
    assert cut.done_reason == "length" and cut.eval_count == 3
    whole = client.chat(SMALL, ask(), options=COLD).message.content
    mark = whole[3:6]
    stopped = client.chat(SMALL, ask(), options={**COLD, "stop": [mark]})
    assert mark not in stopped.message.content and stopped.done_reason == "stop"
    warm = {"temperature": 1.2, "seed": 7, "num_predict": 12}
    first, second = (client.chat(SMALL, ask(), options=warm).message.content for _ in range(2))
    assert first == second, "one seed, two answers"


@feature("logprobs")
def logprobs():
    answer = client.chat(SMALL, ask(), options=COLD, logprobs=True, top_logprobs=2)
    assert answer.logprobs and all(p.logprob <= 0 for p in answer.logprobs)
    assert all(len(p.top_logprobs) == 2 for p in answer.logprobs)
    assert "".join(p.token for p in answer.logprobs).startswith(answer.message.content[:4])


@feature("tools")
def tools():
    # This dialect can't force a call, so a model that only talks is no failure of the server; its form must be right.
    options = {"temperature": 0, "num_predict": 64}
    answer = client.chat(CODER, ask(TOOL_QUESTION), tools=[get_weather], options=options)
    note = "the model talked instead"
    if answer.message.tool_calls:
        call = answer.message.tool_calls[0].function
        assert call.name == "get_weather" and isinstance(call.arguments["city"], str)
        note = "the model called"
    parts = list(
        client.chat(CODER, ask(TOOL_QUESTION), tools=[WEATHER_TOOL], options=options, stream=True)
    )
    assert parts[-1].done and any(p.message.content or p.message.tool_calls for p in parts)
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris", "unit": "celsius"}}}
    history = [*ask(TOOL_QUESTION), {"role": "assistant", "content": "", "tool_calls": [call]}]
    history.append({"role": "tool", "tool_name": "get_weather", "content": "18 degrees"})
    assert client.chat(CODER, history, tools=[get_weather], options=options).message.content
    return note


@feature("structured output")
def structured():
    options = {"temperature": 0, "num_predict": 96}
    for model in (SMALL, CODER):
        answer = client.chat(
            model, ask("Tell me of a city, as JSON."), format=PLACE, options=options
        )
        valid(answer.message.content, PLACE)
    parts = client.chat(SMALL, ask("A city, as JSON."), format=PLACE, options=options, stream=True)
    valid("".join(p.message.content or "" for p in parts), PLACE)
    valid(client.generate(SMALL, "A city, as JSON.", format=PLACE, options=options).response, PLACE)


@feature("json mode")
def json_mode():
    answer = client.chat(
        CODER,
        ask('Give {"a": 1} as JSON.'),
        format="json",
        options={"temperature": 0, "num_predict": 128},
    )
    if answer.done_reason == "stop":
        assert isinstance(json.loads(answer.message.content), dict)
    else:
        assert answer.message.content.lstrip()[:1] in "{["


@feature("embeddings")
def embeddings():
    answer = client.embed(SMALL, ["a cat on a mat", "seven ships"])
    unit_vectors(answer.embeddings, 2)
    assert answer.prompt_eval_count > 0
    single = client.embed(SMALL, "a cat on a mat").embeddings
    unit_vectors(single, 1)
    assert all(abs(a - b) < 1e-5 for a, b in zip(single[0], answer.embeddings[0]))
    assert len(client.embeddings(SMALL, "a cat on a mat").embedding) == len(single[0])


@feature("thinking")
def thinking():
    assert client.chat(SMALL, ask(), think=False, options=COLD).message.content
    error = raises(ollama.ResponseError, lambda: client.chat(SMALL, ask(), think=True))
    assert error.status_code == 400 and "think" in error.error, error


@feature("errors")
def errors():
    for call in (
        lambda: client.chat(ABSENT, ask()),
        lambda: list(client.chat(ABSENT, ask(), stream=True)),
        lambda: client.show(ABSENT),
        lambda: client.embed(ABSENT, "x"),
        lambda: client.delete(ABSENT),
    ):
        error = raises(ollama.ResponseError, call)
        assert error.status_code == 404 and "not found" in error.error, error
    error = raises(
        ollama.ResponseError, lambda: client.chat(SMALL, ask(), logprobs=True, top_logprobs=99)
    )
    assert error.status_code == 400, error


@feature("copy, create, delete")
def manage():
    copy, made = "hob-clients-copy:latest", "hob-clients-made:latest"
    client.copy(SMALL, copy)
    statuses = [
        s.status
        for s in client.create(made, from_=SMALL, system="Answer in one word.", stream=True)
    ]
    assert statuses[-1] == "success", statuses
    try:
        names = [m.model for m in client.list().models]
        assert copy in names and made in names, names
        assert "Answer in one word." in client.show(made).modelfile
        assert client.chat(made, ask(), options=COLD).message.content
    finally:
        client.delete(copy)
        client.delete(made)
    names = [m.model for m in client.list().models]
    assert copy not in names and made not in names


@feature("async")
def asynchronous():
    async def both():
        talker = ollama.AsyncClient(host=URL)
        stream = await talker.chat(SMALL, ask(), options=COLD, stream=True)
        return "".join([part.message.content or "" async for part in stream])

    assert asyncio.run(both()) == client.chat(SMALL, ask(), options=COLD).message.content


@feature("a reader that leaves")
def leaves():
    for part in client.chat(
        SMALL, ask("Count to a thousand."), options={"num_predict": 400}, stream=True
    ):
        break
    assert client.chat(SMALL, ask(), options=COLD).message.content


run("ollama (Python)", "ollama")
