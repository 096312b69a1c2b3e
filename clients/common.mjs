// What the JavaScript scripts share; the same as common.py. A script calls `feature` for each proof and `run` at its end.
// Deliberately absent: retries, and any assertion on the wording of an answer.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

export const URL = (process.env.HOB_URL ?? "http://127.0.0.1:11434").replace(/\/$/, "");
export const KEY = process.env.HOB_API_KEY ?? "none";
export const SMALL = process.env.HOB_SMALL ?? "smollm2:135m";
export const CODER = process.env.HOB_CODER ?? "qwen2.5-coder:1.5b";
export const ABSENT = "nothing-of-this-name:1b";
export const QUESTION = "Name three animals.";
export const TOOL_QUESTION = "What is the weather in Paris, in celsius? Use the tool.";
export const ASK = [{ role: "user", content: QUESTION }];
export const ASK_TOOL = [{ role: "user", content: TOOL_QUESTION }];

const oneOf = (...values) => ({ enum: values });
export const PLACE = {
  type: "object",
  properties: {
    city: { type: "string", ...oneOf("Paris", "Rome", "Lima") },
    rating: { type: "integer", ...oneOf(1, 2, 3, 4, 5) },
    capital: { type: "boolean" },
  },
  required: ["city", "rating", "capital"],
  additionalProperties: false,
};
export const WEATHER = {
  type: "object",
  properties: {
    city: { type: "string", ...oneOf("Paris", "Rome", "Lima") },
    unit: { type: "string", ...oneOf("celsius", "fahrenheit") },
  },
  required: ["city", "unit"],
  additionalProperties: false,
};

/** Checks an object, or a text of JSON, against one of the two flat schemas above. */
export function valid(value, schema) {
  const object = typeof value === "string" ? JSON.parse(value) : value;
  assert.deepEqual(Object.keys(object).sort(), [...schema.required].sort());
  for (const [key, rule] of Object.entries(schema.properties)) {
    const kind = rule.type === "integer" ? "number" : rule.type;
    assert.equal(typeof object[key], kind, key);
    if (rule.enum) assert.ok(rule.enum.includes(object[key]), `${key}: ${object[key]}`);
  }
  return object;
}

/** Checks embeddings: as many as asked for, alike in length, each of norm 1. */
export function unitVectors(vectors, count) {
  assert.equal(vectors.length, count);
  for (const vector of vectors) {
    assert.ok(vector.length > 8 && vector.length === vectors[0].length);
    assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-3, `norm ${Math.hypot(...vector)}`);
  }
}

/** All parts of an async iterable. */
export async function all(parts) {
  const list = [];
  for await (const part of parts) list.push(part);
  return list;
}

const features = [];

/** Names a function as the proof of a feature. */
export function feature(name, proof) {
  features.push([name, proof]);
}

/** Runs every feature, or those named on the command line; prints one line of JSON for each. */
export async function run(client, npm) {
  const { version } = JSON.parse(readFileSync(new globalThis.URL(`./node_modules/${npm}/package.json`, import.meta.url)));
  const wanted = process.argv.slice(2);
  for (const [name, proof] of features) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    const start = performance.now();
    const line = { client, version, feature: name, result: "ok", seconds: 0, note: "" };
    try {
      line.note = (await proof()) ?? "";
    } catch (error) {
      console.error(error);
      const where = error.stack?.split("\n").find((text) => text.includes("npm-"))?.trim() ?? "";
      Object.assign(line, { result: "failed", note: `${error} ${where}`.replaceAll("\n", " ").slice(0, 400) });
      process.exitCode = 1;
    }
    line.seconds = Math.round((performance.now() - start) / 10) / 100;
    console.log(JSON.stringify(line));
  }
}
