// Repetition, event ids and errors, with a fetch of the test's own: node repetition.mjs
import assert from "node:assert/strict";
import { AnswerUnreadable, Client, ClientError, EventsRejected, Refused, ServerUnreachable } from "../dist/index.js";

const TAKEN = { recorded: 1, duplicates: 0, rejected: [], log_position: "P1" };
const busy = (headers = {}) => new Response('{"type":"t","title":"Busy","status":503,"detail":"d"}', { status: 503, headers });
const json = (document, status = 200) => new Response(JSON.stringify(document), { status });

/** A client whose attempts get these outcomes, one after another, and what it sent. */
function scripted(outcomes, options = {}) {
  const sent = [];
  const fetch = async (url, init) => {
    sent.push({ url, method: init.method, body: init.body, headers: init.headers });
    const outcome = outcomes.shift();
    if (outcome instanceof Error) throw outcome;
    return outcome;
  };
  return { client: new Client("http://shop.example/below/", "ms_1", { pauseMs: 1, fetch, ...options }), sent };
}

// What may pass is tried again, with the same ids and the key, below the path of the mount.
{
  const { client, sent } = scripted([new TypeError("reset"), busy(), json(TAKEN), json({ items: [] })]);
  await client.record([{ type: "view", user_id: "ann", item_id: "lamp" }, { type: "view", event_id: "own" }]);
  assert.equal(sent.length, 3);
  assert.equal(new Set(sent.map((each) => each.body)).size, 1);
  const [made, own] = JSON.parse(sent[0].body);
  assert.match(made.event_id, /^[0-9a-f-]{36}$/);
  assert.equal(own.event_id, "own");
  assert.equal(sent[0].url, "http://shop.example/below/v1/events");
  assert.equal(sent[0].headers.authorization, "Bearer ms_1");
  await client.recommend({ user_id: "ann" });
  assert.equal(JSON.parse(sent[3].body).min_log_position, "P1");
}
// At most attemptsMax times, and not beyond the deadline.
{
  const { client, sent } = scripted(Array.from({ length: 9 }, () => new TypeError("reset")), { attemptsMax: 3 });
  await assert.rejects(client.item("lamp"), ServerUnreachable);
  assert.equal(sent.length, 3);
  const late = scripted([busy({ "retry-after": "60" }), json({})]);
  await assert.rejects(late.client.item("lamp"), (error) => error instanceof Refused && error.status === 503);
  assert.equal(late.sent.length, 1);
}
// Not where a second copy might count, unless the first was refused.
{
  const lost = scripted([busy(), json({})]);
  await assert.rejects(lost.client.setPlacement("home", {}, { author: "a" }), Refused);
  assert.equal(lost.sent.length, 1);
  const quota = scripted([json({ type: "t", title: "Quota", status: 429, detail: "d" }, 429), json({})]);
  await quota.client.setPlacement("home", {}, { author: "a" });
  assert.equal(quota.sent.length, 2);
  const noConnection = (code) => new TypeError("fetch failed", { cause: Object.assign(new Error(code), { code }) });
  const down = scripted([noConnection("ECONNREFUSED"), json({})]);
  await down.client.setPlacement("home", {}, { author: "a" });
  assert.equal(down.sent.length, 2);
  const broken = scripted([noConnection("ECONNRESET"), json({})]);
  await assert.rejects(broken.client.setPlacement("home", {}, { author: "a" }), ServerUnreachable);
  assert.equal(broken.sent.length, 1);
}
// An id of dots would be another route.
{
  const { client, sent } = scripted([]);
  for (const dots of [".", ".."]) await assert.rejects(async () => client.usersForItem(dots), ClientError);
  assert.equal(sent.length, 0);
}
// An empty event id is none.
{
  const { client, sent } = scripted([json(TAKEN), json(TAKEN), json(TAKEN)]);
  await client.record({ type: "view", event_id: "" });
  assert.match(JSON.parse(sent[0].body)[0].event_id, /^[0-9a-f-]{36}$/);
  await client.putItem("lamp", {}, { event_id: undefined });
  await client.putItem("lamp", {}, { event_id: "own" });
  assert.match(sent[1].url, /[?]event_id=[0-9a-f-]{36}$/);
  assert.match(sent[2].url, /[?]event_id=own$/);
}
// An explanation that is not made yet is asked for again after a pause, until the deadline.
{
  const pending = Array.from({ length: 3 }, () => json({ state: "running" }, 202));
  const { client, sent } = scripted([...pending, json({ request_id: "r" })], { pauseMs: 40 });
  const random = Math.random;
  Math.random = () => 1;
  const began = performance.now();
  assert.equal((await client.explanation("r")).request_id, "r");
  Math.random = random;
  assert.equal(sent.length, 4);
  assert.ok(performance.now() - began >= 40 + 80 + 160 - 5);
}
// A position that the server does not know is dropped.
{
  const wrong = { type: "t", title: "Wrong", status: 400, detail: "d", pointer: "/min_log_position", came: "c", right: "r" };
  const { client, sent } = scripted([json(TAKEN), json(wrong, 400), json({ items: [] }), json({ items: [] })]);
  await client.record({ type: "view", user_id: "ann" });
  await client.recommend({ user_id: "ann" });
  await client.recommend({ user_id: "ann" });
  assert.deepEqual(sent.slice(1).map((each) => JSON.parse(each.body).min_log_position), ["P1", undefined, undefined]);
}
// Refusals have four parts; other answers are named.
{
  const fault = { pointer: "/0/type", came: "c", right: "r", page: "/docs/events.md" };
  const none = { type: "t", title: "None", status: 422, detail: "d", recorded: 0, duplicates: 0, rejected: [{ index: 0, ...fault }] };
  const error = await scripted([json(none, 422)]).client.record({ type: "vieew" }).catch((thrown) => thrown);
  assert.ok(error instanceof EventsRejected);
  assert.equal(error.where, "/0/type");
  assert.equal(error.page, "http://shop.example/below/docs/events.md");
  await assert.rejects(scripted([new Response("<html>", { status: 404 })]).client.item("a"), AnswerUnreadable);
  await assert.rejects(scripted([new Response("<html>")]).client.item("a"), AnswerUnreadable);
}
// The memory of visitors is bounded: the least recently written goes first.
{
  const answers = ["a", "b", "c"].map((name) => json({ ...TAKEN, log_position: name }));
  const { client, sent } = scripted([...answers, json({ items: [] }), json({ items: [] })], { visitorsMax: 2 });
  for (const name of ["a", "b", "c"]) await client.record({ type: "view", user_id: name });
  for (const name of ["a", "b"]) await client.recommend({ user_id: name });
  assert.deepEqual(sent.slice(3).map((each) => JSON.parse(each.body).min_log_position), [undefined, "b"]);
}
console.log("done");
