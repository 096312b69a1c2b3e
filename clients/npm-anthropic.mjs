// The npm package `@anthropic-ai/sdk` against hob: messages, streams, tools, structured output, counting tokens.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { ABSENT, ASK, ASK_TOOL, CODER, KEY, PLACE, SMALL, URL, WEATHER, all, feature, run, valid } from "./common.mjs";

const client = new Anthropic({ baseURL: URL, apiKey: KEY, maxRetries: 0 });
const fields = (more = {}) => ({ model: SMALL, messages: ASK, max_tokens: 24, temperature: 0, ...more });
const ask = (more) => client.messages.create(fields(more));
const textOf = (message) => message.content.map((block) => block.text ?? "").join("");
const tools = [{ name: "get_weather", description: "The weather of a city now", input_schema: WEATHER }];
const forced = { model: CODER, messages: ASK_TOOL, tools, tool_choice: { type: "any" }, max_tokens: 96 };

feature("models", async () => {
  const names = (await all(client.models.list())).map((model) => model.id);
  assert.ok(names.includes(SMALL) && names.includes(CODER), names.join());
});

feature("messages", async () => {
  const answer = await ask();
  assert.ok(textOf(answer) && answer.usage.input_tokens > 0 && answer.usage.output_tokens > 0);
  assert.ok(["end_turn", "max_tokens"].includes(answer.stop_reason));
});

feature("streaming", async () => {
  const stream = client.messages.stream(fields());
  let text = "";
  stream.on("text", (piece) => (text += piece));
  const final = await stream.finalMessage();
  assert.equal(text, textOf(final));
  assert.equal(text, textOf(await ask()));
  assert.ok(final.usage.output_tokens > 0 && final.stop_reason);
});

feature("tools", async () => {
  const answer = await ask(forced);
  const call = answer.content.find((block) => block.type === "tool_use");
  assert.equal(answer.stop_reason, "tool_use");
  valid(call.input, WEATHER);
  const streamed = await client.messages.stream(fields(forced)).finalMessage();
  valid(streamed.content.find((block) => block.type === "tool_use").input, WEATHER);
  const result = { type: "tool_result", tool_use_id: call.id, content: "18 degrees" };
  const messages = [...ASK_TOOL, { role: "assistant", content: answer.content }, { role: "user", content: [result] }];
  assert.ok((await ask({ model: CODER, messages, tools })).content.length > 0);
});

feature("structured output", async () => {
  const answer = await ask({ output_config: { format: { type: "json_schema", schema: PLACE } }, max_tokens: 96 });
  valid(textOf(answer), PLACE);
});

feature("count_tokens", async () => {
  const counted = await client.messages.countTokens({ model: SMALL, messages: ASK });
  assert.equal(counted.input_tokens, (await ask()).usage.input_tokens);
});

feature("errors", async () => {
  await assert.rejects(ask({ model: ABSENT }), Anthropic.NotFoundError);
  await assert.rejects(ask({ temperature: "hot" }), Anthropic.BadRequestError);
});

await run("@anthropic-ai/sdk", "@anthropic-ai/sdk");
