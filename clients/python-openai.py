"""The Python package `openai` against hob: chat, completions, embeddings, models, and responses with stored state."""

import asyncio
import json

import openai
from common import *
from pydantic import BaseModel

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=300)
ASK = [{"role": "user", "content": QUESTION}]
ASK_TOOL = [{"role": "user", "content": TOOL_QUESTION}]
COLD = {"temperature": 0, "max_tokens": 24}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def chat(messages=ASK, model=SMALL, **kwargs):
    return client.chat.completions.create(model=model, messages=messages, **{**COLD, **kwargs})


@feature("models")
def models():
    names = [m.id for m in client.models.list()]
    assert SMALL in names and CODER in names, names
    assert client.models.retrieve(SMALL).id == SMALL
    raises(openai.NotFoundError, lambda: client.models.retrieve(ABSENT))


@feature("chat")
def plain():
    answer = chat()
    assert answer.object == "chat.completion" and answer.id and answer.created > 0
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length") and not choice.message.tool_calls
    usage = answer.usage
    assert usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 24
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    parts = [{"type": "text", "text": QUESTION}]
    same = chat([{"role": "user", "content": parts}])
    assert same.choices[0].message.content == choice.message.content, "parts differ from a string"
    developer = chat([{"role": "developer", "content": "Be brief."}, *ASK])
    assert developer.choices[0].message.content


@feature("streaming")
def streaming():
    whole = chat()
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == whole.usage.total_tokens
    deltas = [c.choices[0] for c in chunks[:-1]]
    assert deltas[0].delta.role == "assistant" and len(deltas) > 3
    text = "".join(d.delta.content or "" for d in deltas)
    assert text == whole.choices[0].message.content, text
    reasons = [d.finish_reason for d in deltas if d.finish_reason]
    assert reasons == [whole.choices[0].finish_reason], reasons
    assert all(c.usage is None for c in chat(stream=True)), "usage that nobody asked for"


@feature("limits, seed, n")
def limits():
    assert chat(max_tokens=3).choices[0].finish_reason == "length"
    cut = client.chat.completions.create(model=SMALL, messages=ASK, max_completion_tokens=3)
    assert cut.usage.completion_tokens == 3 and cut.choices[0].finish_reason == "length"
    whole = chat().choices[0].message.content
    stopped = chat(stop=[whole[3:6]]).choices[0]
    assert whole[3:6] not in stopped.message.content and stopped.finish_reason == "stop"
    first, second = (chat(seed=7, temperature=1.2).choices[0].message.content for _ in range(2))
    assert first == second, "one seed, two answers"
    many = chat(n=3, temperature=1.2)
    assert [c.index for c in many.choices] == [0, 1, 2]
    assert len({c.message.content for c in many.choices}) > 1, "three choices, one text"


@feature("logprobs, logit_bias")
def logprobs():
    choice = chat(logprobs=True, top_logprobs=3).choices[0]
    content = choice.logprobs.content
    assert content and all(p.logprob <= 0 and len(p.top_logprobs) == 3 for p in content)
    assert all(p.logprob >= max(t.logprob for t in p.top_logprobs) - 1e-4 for p in content), "cold"
    joined = b"".join(bytes(p.bytes) for p in content).decode()
    assert joined.startswith(choice.message.content), joined
    best = client.chat.completions.create(
        model=SMALL, messages=ASK, max_tokens=3, temperature=0, logit_bias={"253": 100}
    )
    assert len(best.choices[0].message.content) >= 3 and best.choices[0].finish_reason == "length"


@feature("tools")
def tools():
    for choice in ("required", NAMED):
        answer = chat(ASK_TOOL, CODER, tools=[WEATHER_TOOL], tool_choice=choice, max_tokens=96)
        call = answer.choices[0].message.tool_calls[0]
        assert call.type == "function" and call.id and call.function.name == "get_weather"
        valid(call.function.arguments, WEATHER)
    assert answer.choices[0].finish_reason in ("tool_calls", "stop")
    turn = {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]}
    result = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}
    after = chat([*ASK_TOOL, turn, result], CODER, tools=[WEATHER_TOOL], tool_choice="none")
    assert after.choices[0].message.content and not after.choices[0].message.tool_calls
    assert chat(ASK_TOOL, CODER, tools=[WEATHER_TOOL]).choices[0].finish_reason


@feature("tools, streaming")
def tools_streaming():
    stream = chat(
        ASK_TOOL, CODER, tools=[WEATHER_TOOL], tool_choice="required", stream=True, max_tokens=96
    )
    calls, reason = {}, None
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            seen = calls.setdefault(
                call.index, {"id": call.id, "name": call.function.name, "arguments": ""}
            )
            seen["arguments"] += call.function.arguments or ""
        reason = chunk.choices[0].finish_reason or reason
    assert reason == "tool_calls" and calls[0]["id"] and calls[0]["name"] == "get_weather", calls
    valid(calls[0]["arguments"], WEATHER)
    with client.chat.completions.stream(
        model=CODER,
        messages=ASK_TOOL,
        tools=[WEATHER_TOOL],
        tool_choice="required",
        **{**COLD, "max_tokens": 96},
    ) as events:
        final = events.get_final_completion()
    valid(final.choices[0].message.tool_calls[0].function.arguments, WEATHER)


class Place(BaseModel):
    """PLACE as this client's users write it."""

    rating: int
    capital: bool


@feature("structured output")
def structured():
    form = {
        "type": "json_schema",
        "json_schema": {"name": "place", "strict": True, "schema": PLACE},
    }
    for model in (SMALL, CODER):
        answer = chat(model=model, response_format=form, max_tokens=96).choices[0]
        assert answer.finish_reason == "stop"
        valid(answer.message.content, PLACE)
    text = "".join(
        c.choices[0].delta.content or ""
        for c in chat(response_format=form, max_tokens=96, stream=True)
    )
    valid(text, PLACE)
    parsed = client.chat.completions.parse(
        model=CODER,
        messages=[{"role": "user", "content": "Rate Paris from 1 to 5, as JSON."}],
        response_format=Place,
        **{**COLD, "max_tokens": 96},
    )
    assert isinstance(parsed.choices[0].message.parsed, Place)


@feature("json mode")
def json_mode():
    ask = [{"role": "user", "content": "Give a JSON object with one key."}]
    choice = chat(ask, CODER, response_format={"type": "json_object"}, max_tokens=128).choices[0]
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)
    else:
        assert choice.message.content.lstrip().startswith("{")


@feature("embeddings")
def embeddings():
    texts = ["a cat on a mat", "seven ships"]
    coded = client.embeddings.create(model=SMALL, input=texts)  # this client asks for base64
    unit_vectors([d.embedding for d in coded.data], 2)
    assert [d.index for d in coded.data] == [0, 1] and coded.usage.prompt_tokens > 0
    plain = (
        client.embeddings.create(model=SMALL, input=texts[0], encoding_format="float")
        .data[0]
        .embedding
    )
    assert all(abs(a - b) < 1e-5 for a, b in zip(plain, coded.data[0].embedding))
    tokens = client.embeddings.create(model=SMALL, input=[[504, 2644], [28]])
    unit_vectors([d.embedding for d in tokens.data], 2)


@feature("completions")
def completions():
    ask = {"model": SMALL, "prompt": "Once upon a time", **COLD}
    whole = client.completions.create(**ask)
    assert whole.object == "text_completion" and whole.choices[0].text
    assert whole.usage.completion_tokens > 0
    text = "".join(
        c.choices[0].text for c in client.completions.create(**ask, stream=True) if c.choices
    )
    assert text == whole.choices[0].text
    listed = client.completions.create(**{**ask, "prompt": ["Once", "Twice"]})
    assert [c.index for c in listed.choices] == [0, 1]


@feature("errors")
def errors():
    error = raises(openai.NotFoundError, lambda: chat(model=ABSENT))
    assert error.body and ABSENT in error.body["message"], error.body
    raises(openai.NotFoundError, lambda: list(chat(model=ABSENT, stream=True)))
    raises(openai.NotFoundError, lambda: client.embeddings.create(model=ABSENT, input="x"))
    for wrong in ({"temperature": "hot"}, {"top_logprobs": 10**6, "logprobs": True}, {"n": 10**6}):
        error = raises(openai.BadRequestError, lambda: chat(**wrong))
        assert error.body and error.body["message"] and error.body["type"], error.body
    raises(openai.BadRequestError, lambda: chat([]))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    raises(openai.BadRequestError, lambda: chat([{"role": "user", "content": [image]}]))


def respond(input=QUESTION, model=SMALL, **kwargs):
    return client.responses.create(
        model=model, input=input, **{"temperature": 0, "max_output_tokens": 24, **kwargs}
    )


@feature("responses")
def responses():
    answer = respond(instructions="Be brief.")
    assert answer.object == "response" and answer.output_text and answer.output[0].type == "message"
    assert answer.status in ("completed", "incomplete")
    assert answer.usage.input_tokens > 0 and 0 < answer.usage.output_tokens <= 24
    if answer.status == "incomplete":
        assert answer.incomplete_details.reason == "max_output_tokens"
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": QUESTION}]}
    ]
    assert respond(items).output_text == respond().output_text
    form = {"type": "json_schema", "name": "place", "schema": PLACE, "strict": True}
    valid(respond(text={"format": form}, max_output_tokens=96).output_text, PLACE)
    parsed = client.responses.parse(
        model=CODER,
        input="Rate Paris from 1 to 5, as JSON.",
        text_format=Place,
        max_output_tokens=96,
    )
    assert isinstance(parsed.output_parsed, Place)
    raises(openai.NotFoundError, lambda: respond(model=ABSENT))


@feature("responses, streaming")
def responses_streaming():
    whole = respond()
    events = list(respond(stream=True))
    kinds = [e.type for e in events]
    assert kinds[:2] == ["response.created", "response.in_progress"], kinds
    assert kinds[-1] in ("response.completed", "response.incomplete")
    order = ["response.output_item.added", "response.content_part.added", "response.output_text.delta",
             "response.output_text.done", "response.content_part.done", "response.output_item.done"]  # fmt: skip
    places = [kinds.index(kind) for kind in order]
    assert places == sorted(places), kinds
    assert [e.sequence_number for e in events] == list(range(len(events)))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == whole.output_text == events[-1].response.output_text
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens


@feature("responses, stored state")
def responses_state():
    first = respond()
    second = respond("And three more?", previous_response_id=first.id)
    assert second.previous_response_id == first.id and second.output_text
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens - 8
    kept = client.responses.retrieve(first.id)
    assert kept.output_text == first.output_text
    client.responses.delete(first.id)
    raises(openai.NotFoundError, lambda: client.responses.retrieve(first.id))
    unkept = respond(store=False)
    raises(openai.NotFoundError, lambda: client.responses.retrieve(unkept.id))
    raises(openai.APIStatusError, lambda: respond(previous_response_id="resp_of_nobody"))


@feature("responses, tools")
def responses_tools():
    tool = {
        "type": "function",
        "name": "get_weather",
        "description": "Weather",
        "parameters": WEATHER,
        "strict": True,
    }
    ask = {"model": CODER, "tools": [tool], "tool_choice": "required", "max_output_tokens": 96}
    first = respond(TOOL_QUESTION, **ask)
    call = next(item for item in first.output if item.type == "function_call")
    assert call.name == "get_weather" and call.call_id
    valid(call.arguments, WEATHER)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}
    second = respond([result], CODER, previous_response_id=first.id)
    assert second.output_text
    history = [
        {"role": "user", "content": TOOL_QUESTION},
        call.model_dump(exclude_none=True),
        result,
    ]
    assert respond(history, CODER, store=False).output_text
    events = list(respond(TOOL_QUESTION, stream=True, **ask))
    deltas = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
    done = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert deltas == done[0].arguments
    valid(deltas, WEATHER)


@feature("async")
def asynchronous():
    async def many():
        talker = openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
        tasks = [
            talker.chat.completions.create(model=SMALL, messages=ASK, **COLD) for _ in range(4)
        ]
        return {answer.choices[0].message.content for answer in await asyncio.gather(*tasks)}

    assert many and asyncio.run(many()) == {chat().choices[0].message.content}


@feature("a reader that leaves")
def leaves():
    stream = chat(
        [{"role": "user", "content": "Count to a thousand."}], stream=True, max_tokens=400
    )
    next(iter(stream))
    stream.close()
    assert chat().choices[0].message.content


run("openai (Python)", "openai")
