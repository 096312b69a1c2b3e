// The npm package `ai` with `@ai-sdk/openai-compatible` against hob: text, streams, tools, objects, embeddings.

import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { ABSENT, CODER, KEY, QUESTION, SMALL, TOOL_QUESTION, URL, all, feature, run, unitVectors } from "./common.mjs";

const hob = createOpenAICompatible({ name: "hob", baseURL: `${URL}/v1`, apiKey: KEY, includeUsage: true, supportsStructuredOutputs: true });
const cold = { temperature: 0, maxOutputTokens: 24, maxRetries: 0 };
const plain = { model: hob(SMALL), prompt: QUESTION, ...cold };
const weather = tool({
  description: "The weather of a city now",
  inputSchema: z.object({ city: z.string(), unit: z.enum(["celsius", "fahrenheit"]) }),
  execute: async ({ city }) => `18 degrees in ${city}`,
});

feature("chat", async () => {
  const answer = await generateText(plain);
  assert.ok(answer.text && answer.usage.inputTokens > 0 && answer.usage.outputTokens > 0);
  assert.ok(["stop", "length"].includes(answer.finishReason));
});

feature("streaming", async () => {
  const stream = streamText(plain);
  assert.equal((await all(stream.textStream)).join(""), (await generateText(plain)).text);
  assert.ok((await stream.usage).outputTokens > 0);
});

feature("tools", async () => {
  const forced = { model: hob(CODER), prompt: TOOL_QUESTION, tools: { weather }, toolChoice: "required", ...cold, maxOutputTokens: 96 };
  const answer = await generateText(forced);
  assert.equal(answer.toolCalls[0].toolName, "weather");
  assert.equal(answer.finishReason, "tool-calls");
  assert.match(answer.toolResults[0].output, /18 degrees/);
  const streamed = streamText(forced);
  assert.equal((await streamed.toolCalls)[0].toolName, "weather");
  const steps = { ...forced, toolChoice: "auto", stopWhen: stepCountIs(2) };
  assert.ok((await generateText(steps)).steps.length > 0);
});

feature("structured output", async () => {
  const schema = z.object({ rating: z.number().int(), capital: z.boolean() });
  const ask = { model: hob(CODER), prompt: "Rate Paris from 1 to 5, as JSON.", output: Output.object({ schema }), ...cold, maxOutputTokens: 96 };
  assert.equal(typeof (await generateText(ask)).output.capital, "boolean");
  const parts = await all(streamText(ask).partialOutputStream);
  assert.equal(typeof parts.at(-1).capital, "boolean");
});

feature("embeddings", async () => {
  const answer = await embedMany({ model: hob.embeddingModel(SMALL), values: ["a cat on a mat", "seven ships"], maxRetries: 0 });
  unitVectors(answer.embeddings, 2);
  assert.ok(answer.usage.tokens > 0);
});

feature("completions", async () => {
  const answer = await generateText({ model: hob.completionModel(SMALL), prompt: QUESTION, ...cold });
  assert.ok(answer.text);
});

feature("errors", async () => {
  const unknown = generateText({ ...plain, model: hob(ABSENT) });
  await assert.rejects(unknown, (error) => APICallError.isInstance(error) && error.statusCode === 404 && error.message.includes(ABSENT));
});

await run("ai + @ai-sdk/openai-compatible", "ai");
