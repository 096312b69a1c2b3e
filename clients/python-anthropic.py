"""The Python package `anthropic` against hob: messages, streams, tools, structured output, counting tokens."""

import asyncio

import anthropic
from common import *
from pydantic import BaseModel

client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=300)
ASK = [{"role": "user", "content": QUESTION}]
ASK_TOOL = [{"role": "user", "content": TOOL_QUESTION}]
TOOL = {"name": "get_weather", "description": "The weather of a city now", "input_schema": WEATHER}


def arguments(messages=ASK, model=SMALL, temperature=0, top_k=1, **kwargs):
    # The newest package has no arguments for the temperature and top_k; the dialect has the fields.
    extra = {"temperature": temperature, "top_k": top_k}
    return {"model": model, "messages": messages, "max_tokens": 24, **kwargs, "extra_body": extra}


def ask(*args, **kwargs):
    return client.messages.create(**arguments(*args, **kwargs))


def stream(*args, **kwargs):
    return client.messages.stream(**arguments(*args, **kwargs))


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


@feature("models")
def models():
    names = [m.id for m in client.models.list()]
    assert SMALL in names and CODER in names, names


@feature("messages")
def messages():
    answer = ask()
    assert answer.type == "message" and answer.role == "assistant" and answer.id
    assert text_of(answer) and answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.input_tokens > 0 and 0 < answer.usage.output_tokens <= 24
    blocks = [{"type": "text", "text": QUESTION, "cache_control": {"type": "ephemeral"}}]
    assert text_of(ask([{"role": "user", "content": blocks}])) == text_of(answer)
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    as_blocks, as_text = ask(system=system), ask(system="Be brief.")
    assert text_of(as_blocks) == text_of(as_text)
    assert text_of(ask(metadata={"user_id": "u"}, top_k=40, thinking={"type": "disabled"}))


@feature("limits")
def limits():
    cut = ask(max_tokens=3)
    assert cut.stop_reason == "max_tokens" and cut.usage.output_tokens == 3
    mark = text_of(ask())[3:6]
    stopped = ask(stop_sequences=[mark])
    assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == mark
    assert mark not in text_of(stopped)


@feature("streaming")
def streaming():
    whole = ask()
    with stream() as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    assert text == text_of(final) == text_of(whole), text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.input_tokens == whole.usage.input_tokens
    kinds = [e.type for e in ask(stream=True) if e.type != "ping"]
    assert kinds[:2] == ["message_start", "content_block_start"] and kinds[-2:] == [
        "message_delta",
        "message_stop",
    ]
    assert kinds[-3] == "content_block_stop" and set(kinds[2:-3]) == {"content_block_delta"}, kinds


@feature("tools")
def tools():
    for choice in ({"type": "any"}, {"type": "tool", "name": "get_weather"}):
        answer = ask(ASK_TOOL, CODER, tools=[TOOL], tool_choice=choice, max_tokens=96)
        assert answer.stop_reason == "tool_use", answer
        call = next(block for block in answer.content if block.type == "tool_use")
        assert call.id and call.name == "get_weather"
        valid(call.input, WEATHER)
    result = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": [{"type": "text", "text": "18 degrees"}],
    }
    turns = [*ASK_TOOL, {"role": "assistant", "content": [call.model_dump(exclude_none=True)]}]
    turns.append({"role": "user", "content": [result]})
    assert text_of(ask(turns, CODER, tools=[TOOL], tool_choice={"type": "none"}))
    failed = [
        *turns[:-1],
        {"role": "user", "content": [{**result, "content": "no network", "is_error": True}]},
    ]
    assert ask(failed, CODER, tools=[TOOL]).content


@feature("tools, streaming")
def tools_streaming():
    with stream(
        ASK_TOOL, CODER, tools=[TOOL], tool_choice={"type": "any"}, max_tokens=96
    ) as events:
        partial = "".join(e.partial_json for e in events if e.type == "input_json")
        final = events.get_final_message()
    call = next(block for block in final.content if block.type == "tool_use")
    assert final.stop_reason == "tool_use" and call.name == "get_weather"
    assert valid(partial, WEATHER) == call.input


class Place(BaseModel):
    """PLACE as this client's users write it."""

    rating: int
    capital: bool


@feature("structured output")
def structured():
    form = {"format": {"type": "json_schema", "schema": PLACE}}
    answer = ask(output_config=form, max_tokens=96)
    assert answer.stop_reason == "end_turn"
    valid(text_of(answer), PLACE)
    parsed = client.messages.parse(
        model=CODER, max_tokens=96, output_format=Place,
        messages=[{"role": "user", "content": "Rate Paris from 1 to 5, as JSON."}],
    )  # fmt: skip
    assert isinstance(parsed.parsed_output, Place), parsed


@feature("count_tokens")
def count_tokens():
    short = client.messages.count_tokens(model=SMALL, messages=ASK)
    assert short.input_tokens == ask().usage.input_tokens
    longer = client.messages.count_tokens(
        model=CODER, messages=ASK, system="Be brief.", tools=[TOOL]
    )
    assert (
        longer.input_tokens > client.messages.count_tokens(model=CODER, messages=ASK).input_tokens
    )


@feature("errors")
def errors():
    error = raises(anthropic.NotFoundError, lambda: ask(model=ABSENT))
    assert error.body["type"] == "error" and error.body["error"]["type"] == "not_found_error", (
        error.body
    )
    assert ABSENT in error.body["error"]["message"]
    for wrong in ({"max_tokens": 0}, {"messages": []}, {"temperature": "hot"}):
        error = raises(anthropic.BadRequestError, lambda: ask(**wrong))
        assert error.body["error"]["type"] == "invalid_request_error", error.body
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    image = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    raises(anthropic.BadRequestError, lambda: ask(image))


@feature("bearer token, async")
def asynchronous():
    async def tell_all():
        talker = anthropic.AsyncAnthropic(base_url=URL, auth_token=KEY, max_retries=0)
        async with talker.messages.stream(**arguments()) as events:
            return "".join([text async for text in events.text_stream])

    assert asyncio.run(tell_all()) == text_of(ask())


run("anthropic (Python)", "anthropic")
