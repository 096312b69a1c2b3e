// The npm package `ollama` against hob: the native dialect.

import assert from "node:assert/strict";
import { Ollama } from "ollama";
import { ABSENT, ASK, ASK_TOOL, CODER, PLACE, QUESTION, SMALL, URL, WEATHER, all, feature, run, unitVectors, valid } from "./common.mjs";

const client = new Ollama({ host: URL });
const options = { temperature: 0, num_predict: 24 };
const chat = (more = {}) => client.chat({ model: SMALL, messages: ASK, options, ...more });

feature("models", async () => {
  const names = (await client.list()).models.map((model) => model.name);
  assert.ok(names.includes(SMALL) && names.includes(CODER), names.join());
  const shown = await client.show({ model: SMALL });
  assert.ok(shown.capabilities.includes("completion") && shown.details.family);
  assert.ok((await client.version()).version);
});

feature("chat", async () => {
  const answer = await chat();
  assert.ok(answer.message.content && answer.done && answer.eval_count > 0 && answer.prompt_eval_count > 0);
  assert.ok((await client.ps()).models.some((model) => model.name === SMALL));
});

feature("streaming", async () => {
  const parts = await all(await chat({ stream: true }));
  assert.ok(parts.length > 3 && parts.at(-1).done);
  assert.equal(parts.map((part) => part.message.content).join(""), (await chat()).message.content);
  const generated = await all(await client.generate({ model: SMALL, prompt: QUESTION, options, stream: true }));
  const whole = await client.generate({ model: SMALL, prompt: QUESTION, options });
  assert.equal(generated.map((part) => part.response).join(""), whole.response);
});

feature("tools", async () => {
  const tools = [{ type: "function", function: { name: "get_weather", description: "The weather of a city now", parameters: WEATHER } }];
  const more = { model: CODER, messages: ASK_TOOL, tools, options: { temperature: 0, num_predict: 64 } };
  const { message } = await chat(more);
  assert.ok(message.content || message.tool_calls?.length);
  for (const call of message.tool_calls ?? []) assert.equal(typeof call.function.arguments, "object");
  const call = { function: { name: "get_weather", arguments: { city: "Paris", unit: "celsius" } } };
  const messages = [...ASK_TOOL, { role: "assistant", content: "", tool_calls: [call] }, { role: "tool", tool_name: "get_weather", content: "18 degrees" }];
  assert.ok((await chat({ ...more, messages })).message.content);
  return message.tool_calls?.length ? "the model called" : "the model talked instead; this dialect can't force a call";
});

feature("structured output", async () => {
  const messages = [{ role: "user", content: "A city, as JSON." }];
  for (const model of [SMALL, CODER]) {
    const answer = await chat({ model, messages, format: PLACE, options: { temperature: 0, num_predict: 96 } });
    valid(answer.message.content, PLACE);
  }
});

feature("embeddings", async () => {
  unitVectors((await client.embed({ model: SMALL, input: ["a cat on a mat", "seven ships"] })).embeddings, 2);
  assert.ok((await client.embeddings({ model: SMALL, prompt: "a cat on a mat" })).embedding.length > 8);
});

feature("errors", async () => {
  const unknown = { name: "ResponseError", status_code: 404 };
  await assert.rejects(chat({ model: ABSENT }), unknown);
  await assert.rejects(chat({ model: ABSENT, stream: true }), unknown);
  await assert.rejects(client.show({ model: ABSENT }), unknown);
});

feature("a reader that leaves", async () => {
  const stream = await chat({ stream: true, options: { num_predict: 400 } });
  await assert.rejects(async () => {
    for await (const part of stream) stream.abort();
  }, { name: "AbortError" });
  assert.ok((await chat()).message.content);
});

await run("ollama (npm)", "ollama");
