// The npm package `openai` against hob: chat, embeddings, models and responses.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { ABSENT, ASK, ASK_TOOL, CODER, KEY, PLACE, QUESTION, SMALL, TOOL_QUESTION, URL, WEATHER, all, feature, run, unitVectors, valid } from "./common.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0 });
const chat = (more = {}) => client.chat.completions.create({ model: SMALL, messages: ASK, temperature: 0, max_tokens: 24, ...more });
const respond = (more = {}) => client.responses.create({ model: SMALL, input: QUESTION, temperature: 0, max_output_tokens: 24, ...more });
const tools = [{ type: "function", function: { name: "get_weather", description: "The weather of a city now", parameters: WEATHER } }];

feature("models", async () => {
  const names = (await all(client.models.list())).map((model) => model.id);
  assert.ok(names.includes(SMALL) && names.includes(CODER), names.join());
});

feature("chat", async () => {
  const answer = await chat();
  assert.ok(answer.choices[0].message.content && answer.usage.prompt_tokens > 0 && answer.usage.completion_tokens > 0);
  assert.ok(["stop", "length"].includes(answer.choices[0].finish_reason));
  const sure = await chat({ logprobs: true, top_logprobs: 2 });
  assert.ok(sure.choices[0].logprobs.content.every((token) => token.logprob <= 0 && token.top_logprobs.length === 2));
});

feature("streaming", async () => {
  const chunks = await all(await chat({ stream: true, stream_options: { include_usage: true } }));
  const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
  assert.equal(text, (await chat()).choices[0].message.content);
  assert.ok(chunks.at(-1).usage.total_tokens > 0);
  const runner = client.chat.completions.stream({ model: SMALL, messages: ASK, temperature: 0, max_tokens: 24 });
  assert.equal(await runner.finalContent(), text);
});

feature("tools", async () => {
  const more = { model: CODER, messages: ASK_TOOL, tools, tool_choice: "required", max_tokens: 96 };
  const { message, finish_reason } = (await chat(more)).choices[0];
  valid(message.tool_calls[0].function.arguments, WEATHER);
  assert.equal(finish_reason, "tool_calls");
  const runner = client.chat.completions.stream({ ...more, temperature: 0 });
  const streamed = await runner.finalMessage();
  valid(streamed.tool_calls[0].function.arguments, WEATHER);
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "18 degrees" };
  const after = await chat({ model: CODER, messages: [...ASK_TOOL, message, result], tools });
  assert.ok(after.choices[0].message.content || after.choices[0].message.tool_calls);
});

feature("structured output", async () => {
  const form = { type: "json_schema", json_schema: { name: "place", strict: true, schema: PLACE } };
  valid((await chat({ response_format: form, max_tokens: 96 })).choices[0].message.content, PLACE);
  const Place = z.object({ rating: z.number().int(), capital: z.boolean() });
  const parsed = await client.chat.completions.parse({
    model: CODER,
    messages: [{ role: "user", content: "Rate Paris from 1 to 5, as JSON." }],
    response_format: zodResponseFormat(Place, "place"),
    max_tokens: 96,
  });
  assert.equal(typeof parsed.choices[0].message.parsed.capital, "boolean");
});

feature("embeddings", async () => {
  const answer = await client.embeddings.create({ model: SMALL, input: ["a cat on a mat", "seven ships"] });
  unitVectors(answer.data.map((item) => item.embedding), 2);
});

feature("responses", async () => {
  const whole = await respond();
  assert.ok(whole.output_text && whole.usage.output_tokens > 0);
  const events = await all(await respond({ stream: true }));
  const text = events.map((event) => (event.type === "response.output_text.delta" ? event.delta : "")).join("");
  assert.equal(text, whole.output_text);
  assert.equal(await client.responses.stream({ model: SMALL, input: QUESTION, temperature: 0, max_output_tokens: 24 }).finalResponse().then((final) => final.output_text), text);
  const next = await respond({ input: "And three more?", previous_response_id: whole.id });
  assert.ok(next.output_text && next.usage.input_tokens > whole.usage.input_tokens);
  const tool = { type: "function", name: "get_weather", parameters: WEATHER, strict: true };
  const called = await respond({ model: CODER, input: TOOL_QUESTION, tools: [tool], tool_choice: "required", max_output_tokens: 96 });
  valid(called.output.find((item) => item.type === "function_call").arguments, WEATHER);
});

feature("errors", async () => {
  await assert.rejects(chat({ model: ABSENT }), OpenAI.NotFoundError);
  await assert.rejects(chat({ temperature: "hot" }), OpenAI.BadRequestError);
  await assert.rejects(respond({ model: ABSENT }), OpenAI.NotFoundError);
});

feature("a reader that leaves", async () => {
  for await (const chunk of await chat({ stream: true, max_tokens: 400 })) break;
  assert.ok((await chat()).choices[0].message.content);
});

await run("openai (npm)", "openai");
