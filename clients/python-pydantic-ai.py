"""The Python package `pydantic-ai` against hob: agents over chat completions, responses and messages."""

from common import *
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider

PROVIDER = OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY)
COLD = {"temperature": 0, "max_tokens": 96}


class Place(BaseModel):
    """A city."""

    rating: int = Field(description="from 1 to 5")
    capital: bool


@feature("chat")
def chat():
    for provider in (PROVIDER, OllamaProvider(base_url=f"{URL}/v1")):
        done = Agent(OpenAIChatModel(SMALL, provider=provider), model_settings=COLD).run_sync(
            QUESTION
        )
        assert done.output and done.usage.input_tokens > 0 and done.usage.output_tokens > 0


@feature("streaming")
def streaming():
    agent = Agent(OpenAIChatModel(SMALL, provider=PROVIDER), model_settings=COLD)
    stream = agent.run_stream_sync(QUESTION)
    text = "".join(stream.stream_text(delta=True))
    assert text.strip() == agent.run_sync(QUESTION).output.strip()


@feature("structured output")
def structured():
    model = OpenAIChatModel(CODER, provider=PROVIDER)
    for output in (ToolOutput(Place), NativeOutput(Place)):
        done = Agent(model, output_type=output, model_settings=COLD).run_sync(
            "Rate Paris from 1 to 5."
        )
        assert isinstance(done.output, Place)


@feature("responses")
def responses():
    model = OpenAIResponsesModel(CODER, provider=PROVIDER)
    assert Agent(model, model_settings=COLD).run_sync(QUESTION).output
    done = Agent(model, output_type=ToolOutput(Place), model_settings=COLD).run_sync(
        "Rate Paris from 1 to 5."
    )
    assert isinstance(done.output, Place)


@feature("messages")
def messages():
    provider = AnthropicProvider(api_key=KEY, base_url=URL)
    model = AnthropicModel(CODER, provider=provider)
    assert Agent(model, model_settings={"max_tokens": 96}).run_sync(QUESTION).output
    done = Agent(model, output_type=ToolOutput(Place), model_settings={"max_tokens": 96}).run_sync(
        "Rate Paris from 1 to 5."
    )
    assert isinstance(done.output, Place)


@feature("errors")
def errors():
    error = raises(
        ModelHTTPError, lambda: Agent(OpenAIChatModel(ABSENT, provider=PROVIDER)).run_sync(QUESTION)
    )
    assert error.status_code == 404, error


run("pydantic-ai", "pydantic-ai-slim")
