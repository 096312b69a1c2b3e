"""The Python package `instructor` against hob: typed answers by tools, by JSON Schema and by JSON mode."""

import instructor
import openai
from common import *
from pydantic import BaseModel, Field

plain = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=300)


class Place(BaseModel):
    """A city."""

    rating: int = Field(description="from 1 to 5")
    capital: bool


def made(mode, **kwargs):
    client = instructor.from_openai(plain, mode=mode)
    ask = [{"role": "user", "content": "Rate Paris from 1 to 5, and say whether it is a capital."}]
    return client.chat.completions.create(
        model=CODER,
        messages=ask,
        response_model=Place,
        max_retries=0,
        temperature=0,
        max_tokens=128,
        **kwargs,
    )


@feature("tools")
def tools():
    assert isinstance(made(instructor.Mode.TOOLS), Place)


@feature("structured output")
def structured():
    assert isinstance(made(instructor.Mode.JSON_SCHEMA), Place)


@feature("json mode")
def json_mode():
    assert isinstance(made(instructor.Mode.JSON), Place)


@feature("streaming")
def streaming():
    client = instructor.from_openai(plain, mode=instructor.Mode.TOOLS)
    ask = [{"role": "user", "content": "Rate Paris from 1 to 5, and say whether it is a capital."}]
    parts = client.chat.completions.create_partial(
        model=CODER,
        messages=ask,
        response_model=Place,
        max_retries=0,
        temperature=0,
        max_tokens=128,
    )
    last = list(parts)[-1]
    assert last.rating is not None and last.capital is not None


run("instructor", "instructor")
