// Runs a scenario of tests/scenarios against a server: node scenario.mjs URL FILE
import { readFileSync } from "node:fs";
import { Client, Refused } from "../dist/index.js";

const [url, file] = process.argv.slice(2);
// A read of past features takes a process, which compiles kernels on a new machine.
const patient = { deadlineMs: 480_000 };
const clients = { first: new Client(url, undefined, patient), second: new Client(url, undefined, patient) };
const kept = new Map();
const KINDS = {
  text: (value) => typeof value === "string" && value !== "",
  number: (value) => typeof value === "number",
  list: Array.isArray,
  absent: (value) => value === undefined || value === null,
};

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
const at = (document, pointer) =>
  pointer
    .split("/")
    .slice(1)
    .reduce((found, name) => found?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], document);

function filled(value) {
  if (typeof value === "string") return value.startsWith("$") ? kept.get(value) : value;
  if (Array.isArray(value)) return value.map(filled);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, filled(each)]));
}

function holds(came, expected) {
  if (expected === null || typeof expected !== "object") return came === expected;
  const [[word, wanted]] = Object.entries(expected);
  if (word === "is") return KINDS[wanted](came);
  if (word === "length") return came?.length === wanted;
  const found = came.some((row) => Object.entries(wanted).every(([pointer, value]) => holds(at(row, pointer), value)));
  return { has: found, lacks: !found }[word];
}

function check(isRight, step, came) {
  if (!isRight) throw new Error(`${JSON.stringify(step)}: ${JSON.stringify(came)}`);
}

async function answerTo(client, step) {
  const sent = [...filled(step.arguments ?? [])];
  if (step.fields) sent.push(filled(step.fields));
  const called = client[camel(step.call)](...sent);
  if (!(Symbol.asyncIterator in called)) return called;
  const rows = [];
  for await (const row of called) rows.push(row);
  return rows;
}

let count = 0;
for (const step of JSON.parse(readFileSync(file, "utf-8")).steps) {
  count += 1;
  const client = clients[step.of ?? "first"];
  if (step.set) {
    client[camel(step.set)] = filled(step.value);
    continue;
  }
  let answer;
  try {
    answer = await answerTo(client, step);
  } catch (error) {
    check(error instanceof Refused && step.error, step, String(error));
    const page = step.error.page && url + step.error.page;
    const came = { status: error.status, type: error.problem.type, where: error.where, page: error.page };
    for (const [name, value] of Object.entries(step.error)) check(came[name] === (name === "page" ? page : value), step, came);
    continue;
  }
  check(!step.error, step, answer);
  for (const [pointer, expected] of Object.entries(step.expect ?? {})) {
    check(holds(at(answer, pointer), filled(expected)), step, [pointer, at(answer, pointer)]);
  }
  for (const [name, pointer] of Object.entries(step.keep ?? {})) kept.set(name, at(answer, pointer));
}
console.log(`${count} steps`);
