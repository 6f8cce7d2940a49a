import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { init } from "../dist/midstream.mjs";
import { clock, makeElement, openPage, pass, see, slate } from "./page.mjs";

const TAKEN = async () => [200, { recorded: 1, log_position: "P1" }];
const ANONYMOUS = /^anon-[0-9a-f]{32}$/;

beforeEach(() => clock.reset());

const merges = () => JSON.parse(localStorage.getItem("midstream.merges") ?? "[]");
const textsOf = (page) => [...page.local.texts.values(), ...page.session.texts.values()].join(" ");
const personal = (options) => init({ url: "https://m", consent: "personalised", ...options });

test("without consent nothing is sent, kept or asked under an id", async () => {
  for (const consent of [undefined, "necessary", "of another spelling"]) {
    const page = openPage(TAKEN);
    const client = init({ url: "https://m", ...(consent && { consent }) });
    client.track("view", { item_id: "lamp" });
    await client.recommend("home", { n: 3 });
    page.window.dispatchEvent(new Event("pagehide"));
    await pass(70_000);
    assert.deepEqual(page.requests.map((each) => each.content), [{ n: 3, placement: "home" }]);
    assert.equal(page.requests[0].credentials, "omit");
    assert.deepEqual(page.kept(), { local: [], session: [] });
    assert.deepEqual(client.counts(), { queued: 0, dropped: 0, refused: 0 });
  }
});

test("statistics keep a session in the tab and no user", async () => {
  const page = openPage(TAKEN);
  const client = init({ url: "https://m", consent: "statistics", user: { id: "ann", token: "t" } });
  client.track("view", { item_id: "lamp" });
  await pass(300);
  const [event] = page.events();
  assert.match(event.session_id, ANONYMOUS);
  assert.equal(event.user_id, undefined);
  assert.equal(page.requests[0].headers["midstream-user-token"], undefined);
  assert.deepEqual(page.kept().local, []);
  client.track("view", { item_id: "bulb" });
  await pass(300);
  assert.equal(page.events()[1].session_id, event.session_id);
});

test("an anonymous id is kept and a later page has it", async () => {
  const first = openPage(TAKEN);
  personal().track("view", { item_id: "lamp" });
  await pass(300);
  const [{ user_id, time, event_id }] = first.events();
  assert.match(user_id, ANONYMOUS);
  assert.match(event_id, /^[0-9a-f]{32}$/);
  assert.ok(time >= 1_800_000_000_000);
  const second = openPage(TAKEN, { kept: first });
  await personal().recommend("home");
  assert.equal(second.sentTo("/v1/recommendations")[0].user_id, user_id);
});

test("a question waits for the events before it and names their position", async () => {
  const page = openPage(TAKEN);
  const client = personal({ key: "K" });
  client.track("click", { item_id: "lamp" });
  await client.recommend("home", { n: 5, items: ["lamp"] });
  assert.deepEqual(page.requests.map((each) => each.url), ["https://m/v1/events", "https://m/v1/recommendations"]);
  const { min_log_position, placement, n, items } = page.requests[1].content;
  assert.deepEqual({ min_log_position, placement, n, items }, { min_log_position: "P1", placement: "home", n: 5, items: ["lamp"] });
  assert.equal(page.requests[1].headers["x-api-key"], "K");
});

test("a question is asked though events are not answered", async () => {
  const page = openPage(({ url }) => (url.endsWith("events") ? new Promise(() => {}) : TAKEN()));
  const client = personal();
  client.track("click", { item_id: "lamp" });
  const asked = client.recommend("home");
  await pass(600);
  await asked;
  assert.equal(page.sentTo("/v1/recommendations").length, 1);
});

test("offline events wait in order and go once, also from a later page", async () => {
  let isOnline = false;
  const answer = async () => {
    if (!isOnline) throw new TypeError("offline");
    return TAKEN();
  };
  const page = openPage(answer);
  const client = personal();
  for (const item_id of ["a", "b", "c"]) client.track("view", { item_id });
  await pass(10_000);
  const attempts = page.requests.length;
  assert.ok(attempts > 1 && attempts < 8, `${attempts} attempts`);
  assert.equal(client.counts().queued, 3);

  const later = openPage(answer, { kept: page });
  isOnline = true;
  const next = personal();
  await next.flush();
  assert.deepEqual(later.events().map((each) => each.item_id), ["a", "b", "c"]);
  const before = page.requests[0].content.events.map((each) => each.event_id);
  assert.deepEqual(later.events().map((each) => each.event_id), before);
  assert.equal(next.counts().queued, 0);
  await pass(120_000);
  assert.equal(later.events().length, 3);
});

test("the network's return ends the wait", async () => {
  const page = openPage(async () => {
    throw new TypeError("offline");
  });
  const client = personal();
  client.track("view", { item_id: "a" });
  await pass(30_000);
  page.answer = TAKEN;
  page.requests.length = 0;
  page.window.dispatchEvent(new Event("online"));
  await pass(100);
  assert.equal(page.events().length, 1);
  assert.equal(client.counts().queued, 0);
});

test("an overloaded server is asked again when it says, never sooner", async () => {
  const page = openPage(async () => [429, {}, { "retry-after": "20" }]);
  const client = personal();
  client.track("view", { item_id: "a" });
  await pass(19_000);
  client.track("view", { item_id: "b" });
  await client.flush();
  assert.equal(page.requests.length, 1);
  page.answer = TAKEN;
  await pass(12_000);
  assert.equal(client.counts().queued, 0);
  assert.deepEqual(page.requests[1].content.events.map((each) => each.item_id), ["a", "b"]);
});

test("waits grow to a minute and no further", async () => {
  const page = openPage(async () => [500]);
  personal().track("view", { item_id: "a" });
  await pass(600_000);
  assert.ok(page.requests.length > 10 && page.requests.length < 20, `${page.requests.length} attempts`);
});

test("the queue is bounded, and the oldest event goes first", async () => {
  openPage(async () => [503]);
  const client = personal();
  for (let number = 0; number < 230; number++) client.track("view", { item_id: `i${number}` });
  assert.deepEqual(client.counts(), { queued: 200, dropped: 30, refused: 0 });
  const queue = JSON.parse(localStorage.getItem("midstream.queue"));
  assert.equal(queue[0].item_id, "i30");
});

test("one event that is refused takes no other with it", async () => {
  const page = openPage(async ({ content }) => (content.events.some((each) => each.item_id === "bad") ? [400] : TAKEN()));
  const client = personal();
  for (const item_id of ["a", "bad", "c"]) client.track("view", { item_id });
  await pass(1_000);
  assert.deepEqual(client.counts(), { queued: 0, dropped: 0, refused: 1 });
  const taken = page.requests.filter((each) => !each.content.events.some((event) => event.item_id === "bad"));
  assert.deepEqual(taken.flatMap((each) => each.content.events.map((event) => event.item_id)), ["a", "c"]);
});

test("a token that is over stops the sending until there is another one, and nothing is lost", async () => {
  const page = openPage(async ({ headers }) =>
    headers["midstream-user-token"] === "old" ? [403, { pointer: "midstream-user-token" }] : TAKEN(),
  );
  const client = personal({ user: { id: "ann", token: "old" } });
  client.track("view", { item_id: "a" });
  await pass(120_000);
  assert.equal(page.requests.length, 1);
  await client.identify("ann", "new");
  assert.equal(client.counts().queued, 0);
  assert.equal(page.requests[1].headers["midstream-user-token"], "new");
});

test("signing in merges the anonymous id once, behind its events", async () => {
  const page = openPage(TAKEN);
  const client = personal();
  client.track("view", { item_id: "a" });
  const anonymous = localStorage.getItem("midstream.user");
  await client.identify("a/b", "T");
  assert.deepEqual(page.requests.map((each) => each.url), ["https://m/v1/events", "https://m/v1/users/a%2Fb/merge"]);
  assert.deepEqual(page.requests[1].content, { user_id: anonymous });
  assert.equal(localStorage.getItem("midstream.user"), null);
  client.track("view", { item_id: "b" });
  await pass(300);
  assert.equal(page.events()[1].user_id, "a/b");
  assert.equal(page.sentTo("/merge").length, 1);
});

test("a merge waits for the events that are on their way", async () => {
  let answerEvents;
  const page = openPage(({ url }) => (url.endsWith("events") ? new Promise((resolve) => (answerEvents = resolve)) : TAKEN()));
  const client = personal();
  client.track("view", { item_id: "a" });
  void client.flush();
  const signedIn = client.identify("ann", "T");
  await pass(1_000);
  assert.equal(page.sentTo("/merge").length, 0);
  answerEvents(await TAKEN());
  await signedIn;
  assert.equal(page.sentTo("/merge").length, 1);
});

test("a merge that is not answered is sent again", async () => {
  const page = openPage(async ({ url }) => (url.endsWith("merge") ? [503] : TAKEN()));
  const client = personal();
  await client.recommend("home");
  await client.identify("ann");
  assert.equal(merges().length, 1);
  assert.equal(localStorage.getItem("midstream.user"), null);
  page.answer = TAKEN;
  await pass(3_000);
  assert.equal(page.sentTo("/merge").length, 2);
  assert.deepEqual(merges(), []);
});

test("a merge that waits is of the user who signed in, and of nobody after", async () => {
  let isDown = true;
  const page = openPage(async ({ url }) => (url.endsWith("merge") && isDown ? [503] : TAKEN()));
  const client = personal();
  client.track("view", { item_id: "a" });
  await pass(500);
  const [{ user_id: anns }] = page.events();
  await client.identify("ann", "A");
  await client.identify();
  client.track("view", { item_id: "b" });
  await pass(20_000);
  const bobs = page.events()[1].user_id;
  assert.match(bobs, ANONYMOUS);
  assert.notEqual(bobs, anns);
  isDown = false;
  page.requests.length = 0;
  await client.identify("bob", "B");
  await pass(70_000);
  const sent = () => page.requests.map((each) => [each.url, each.headers["midstream-user-token"], each.content.user_id]);
  assert.deepEqual(sent(), [["https://m/v1/users/bob/merge", "B", bobs]]);
  assert.deepEqual(merges(), [[anns, "ann"]]);
  const later = openPage(TAKEN, { kept: page });
  await personal({ user: { id: "ann", token: "A2" } }).flush();
  assert.deepEqual(later.requests.map((each) => [each.url, each.headers["midstream-user-token"]]), [["https://m/v1/users/ann/merge", "A2"]]);
  assert.deepEqual(merges(), []);
});

test("merges that wait are bounded, and go with consent", async () => {
  openPage(async ({ url }) => (url.endsWith("merge") ? [503] : TAKEN()));
  const client = personal();
  for (let number = 0; number < 15; number++) {
    client.track("view", { item_id: "a" });
    await client.identify(`u${number}`);
    await client.identify();
    await pass(100_000);
  }
  assert.deepEqual(merges().map(([, into]) => into), Array.from({ length: 10 }, (_, place) => `u${place + 5}`));
  client.consent("statistics");
  assert.deepEqual(merges(), []);
});

test("a merge with a token that is over waits for the next token", async () => {
  const first = openPage(TAKEN);
  personal().track("view", { item_id: "a" });
  await pass(500);
  const page = openPage(async ({ headers }) =>
    headers["midstream-user-token"] === "old" ? [403, { pointer: "midstream-user-token" }] : TAKEN(),
  { kept: first });
  const client = personal({ user: { id: "ann", token: "old" } });
  await pass(100_000);
  assert.equal(page.sentTo("/merge").length, 1);
  assert.equal(merges().length, 1);
  await client.identify("ann", "new");
  assert.equal(page.sentTo("/merge").length, 2);
  assert.deepEqual(merges(), []);
});

test("the answer to a token that is over does not stop the next token", async () => {
  let answerOld;
  const page = openPage(({ headers }) =>
    headers["midstream-user-token"] === "old" ? new Promise((resolve) => (answerOld = resolve)) : TAKEN(),
  );
  const client = personal({ user: { id: "ann", token: "old" } });
  client.track("view", { item_id: "a" });
  await pass(300);
  const signedIn = client.identify("ann", "new");
  answerOld([403, { pointer: "midstream-user-token" }]);
  await signedIn;
  assert.equal(client.counts().queued, 0);
  assert.equal(page.requests.at(-1).headers["midstream-user-token"], "new");
});

test("a merge that is refused is kept for a later page, but one that was done before", async () => {
  for (const [status, pointer] of [[404], [403, "user_id"], [409, "/user_id"], [403, "/user_id"]]) {
    const page = openPage(async ({ url }) => (url.endsWith("merge") ? [status, { pointer }] : TAKEN()));
    const client = personal();
    client.track("view", { item_id: "a" });
    await client.identify("ann");
    client.track("view", { item_id: "b" });
    await pass(100_000);
    assert.equal(page.sentTo("/merge").length, 1);
    const isDone = status === 403 && pointer === "/user_id";
    assert.equal(merges().length, isDone ? 0 : 1, `${status} ${pointer}`);
    const later = openPage(TAKEN, { kept: page });
    await personal({ user: { id: "ann" } }).flush();
    assert.equal(later.sentTo("/merge").length, isDone ? 0 : 1);
  }
});

test("a page that begins with another user has another session", async () => {
  const sessionOf = async (kept, user, level = "personalised") => {
    const page = openPage(TAKEN, { kept });
    init({ url: "https://m", consent: level, ...(user && { user: { id: user } }) }).track("view", { item_id: "a" });
    await pass(500);
    return [page, page.events()[0].session_id];
  };
  for (const level of ["statistics", "personalised"]) {
    const [first, nobodys] = await sessionOf(undefined, undefined, level);
    const [second, anns] = await sessionOf(first, "ann", level);
    assert.equal(anns, nobodys);
    const [third, again] = await sessionOf(second, "ann", level);
    assert.equal(again, anns);
    const [fourth, bobs] = await sessionOf(third, "bob", level);
    assert.notEqual(bobs, anns);
    const [, left] = await sessionOf(fourth, undefined, level);
    assert.notEqual(left, bobs);
    assert.ok(!textsOf(fourth).includes("bob"));
  }
});

test("a wait that a server asks for is an hour at most", async () => {
  const page = openPage(async () => [503, {}, { "retry-after": "3000000" }]);
  const waits = [];
  const set = globalThis.setTimeout;
  globalThis.setTimeout = (call, wait) => {
    waits.push(wait);
    return set(call, wait);
  };
  personal().track("view", { item_id: "a" });
  await pass(1_000);
  assert.equal(page.requests.length, 1);
  assert.ok(waits.at(-1) >= 3_600_000 && waits.at(-1) <= 5_400_000, `${waits}`);
});

test("a tab that is hidden keeps to the wait, and one that is left does not", async () => {
  const page = openPage(async () => [429, {}, { "retry-after": "60" }]);
  personal().track("view", { item_id: "a" });
  await pass(300);
  for (const state of ["hidden", "visible", "hidden"]) {
    page.document.visibilityState = state;
    page.document.dispatchEvent(new Event("visibilitychange"));
    await pass(100);
  }
  assert.equal(page.requests.length, 1);
  page.window.dispatchEvent(new Event("pagehide"));
  await pass(100);
  assert.equal(page.requests.length, 2);
});

test("a position of another log is dropped, and the question asked once more", async () => {
  const page = openPage(TAKEN);
  const client = personal();
  client.track("view", { item_id: "a" });
  await client.flush();
  page.answer = async ({ content }) => (content.min_log_position ? [400, { pointer: "/min_log_position" }] : [200, slate("a")]);
  assert.equal((await client.recommend("home")).items[0].id, "a");
  assert.equal((await client.recommend("home")).items[0].id, "a");
  assert.deepEqual(page.sentTo("/v1/recommendations").map((each) => each.min_log_position), ["P1", undefined, undefined]);
  page.answer = async () => [400, { pointer: "/min_log_position" }];
  await assert.rejects(client.recommend("home"), { status: 400 });
});

test("after signing out the ids are others", async () => {
  const page = openPage(TAKEN);
  const client = personal({ user: { id: "ann", token: "T" } });
  client.track("view", { item_id: "a" });
  await client.identify();
  client.track("view", { item_id: "b" });
  await pass(300);
  const [before, after] = page.events();
  assert.equal(before.user_id, "ann");
  assert.match(after.user_id, ANONYMOUS);
  assert.notEqual(after.session_id, before.session_id);
  assert.equal(page.sentTo("/merge").length, 0);
});

test("consent that is withdrawn removes everything, and what waits is not sent", async () => {
  const page = openPage(async () => [503]);
  const client = personal();
  client.track("view", { item_id: "a" });
  await pass(300);
  page.requests.length = 0;
  page.answer = TAKEN;
  client.consent("necessary");
  assert.deepEqual(page.kept(), { local: [], session: [] });
  await client.recommend("home");
  await pass(120_000);
  assert.deepEqual(page.requests.map((each) => each.content), [{ placement: "home" }]);
});

test("consent that is withdrawn while a batch is on its way leaves nothing behind", async () => {
  let answerEvents;
  const page = openPage(() => new Promise((resolve) => (answerEvents = resolve)));
  const client = personal();
  client.track("view", { item_id: "a" });
  await pass(300);
  client.consent("necessary");
  answerEvents(await TAKEN());
  await pass(500);
  assert.deepEqual(page.kept(), { local: [], session: [] });
});

test("a page that states less than an earlier one removes what that one kept", async () => {
  const first = openPage(async () => [503]);
  personal().track("view", { item_id: "a" });
  const second = openPage(TAKEN, { kept: first });
  init({ url: "https://m", consent: "statistics" });
  assert.deepEqual(second.kept().local, []);
  init({ url: "https://m" });
  await pass(1_000);
  assert.deepEqual(second.kept(), { local: [], session: [] });
  assert.equal(second.requests.length, 0);
});

test("more consent takes the waiting events along", async () => {
  const page = openPage(async () => [503]);
  const client = init({ url: "https://m", consent: "statistics" });
  client.track("view", { item_id: "a" });
  const session = sessionStorage.getItem("midstream.session");
  await pass(300);
  client.consent("personalised");
  client.consent("personalised");
  assert.equal(sessionStorage.getItem("midstream.queue"), null);
  assert.equal(sessionStorage.getItem("midstream.session"), session);
  page.answer = TAKEN;
  await pass(5_000);
  assert.equal(client.counts().queued, 0);
  assert.equal(page.events().at(-1).item_id, "a");
});

test("a browser without storage sends all the same", async () => {
  const page = openPage(TAKEN, { isRefused: true });
  const client = personal();
  client.track("view", { item_id: "a" });
  client.track("view", { item_id: "b" });
  await pass(300);
  assert.equal(page.events().length, 2);
  assert.equal(page.events()[0].user_id, page.events()[1].user_id);
  client.consent("necessary");
  client.consent("personalised");
  client.track("view", { item_id: "c" });
  await pass(300);
  assert.notEqual(page.events()[2].user_id, page.events()[0].user_id);
});

test("damaged storage is an empty queue", async () => {
  const page = openPage(TAKEN);
  for (const text of ["{", "7", "null"]) {
    localStorage.setItem("midstream.queue", text);
    personal().track("view", { item_id: text });
    await pass(300);
  }
  assert.deepEqual(page.events().map((each) => each.item_id), ["{", "7", "null"]);
});

test("a page that is left sends what is not on its way, and outlives the page", async () => {
  const page = openPage(TAKEN);
  personal().track("view", { item_id: "a" });
  page.window.dispatchEvent(new Event("pagehide"));
  page.document.visibilityState = "hidden";
  page.document.dispatchEvent(new Event("visibilitychange"));
  await pass(300);
  assert.equal(page.requests.length, 1);
  assert.equal(page.requests[0].keepalive, true);
});

test("a body that is too large to outlive its page is sent as a usual one", async () => {
  const page = openPage(TAKEN);
  const client = personal();
  for (let number = 0; number < 8; number++) client.track("view", { item_id: "a", context: { text: "x".repeat(3_000) } });
  await client.flush();
  assert.equal(page.requests[0].keepalive, false);
});

test("an impression is half an item for a second, once", async () => {
  const page = openPage(TAKEN);
  const client = personal();
  const shelf = makeElement();
  const [lamp, bulb, other] = ["lamp", "bulb", "unasked"].map((id) => makeElement(id, shelf));
  const shown = slate("bulb", "lamp");
  client.observe(shelf, shown);
  see(lamp, 0.49);
  see(bulb, 0.5);
  see(other, 1);
  await pass(900);
  see(bulb, 0.2);
  await pass(2_000);
  assert.deepEqual(page.events(), []);
  page.document.visibilityState = "hidden";
  see(lamp, 0.9);
  await pass(5_000);
  assert.deepEqual(page.events(), []);
  page.document.visibilityState = "visible";
  await pass(2_000);
  see(lamp, 0.9);
  await pass(2_000);
  client.observe(shelf, shown);
  see(lamp, 1);
  await pass(2_000);
  const [{ type, item_id, request_id, position }, ...more] = page.events();
  assert.deepEqual({ type, item_id, request_id, position }, { type: "impression", item_id: "lamp", request_id: "r1", position: 1 });
  assert.deepEqual(more, []);
});

test("a click carries request and position, once for each click", async () => {
  const page = openPage(TAKEN);
  const client = personal();
  const shelf = makeElement();
  const lamp = makeElement("lamp", shelf);
  client.observe(shelf, slate("bulb", "lamp"));
  const end = client.observe(shelf, slate("bulb", "lamp"));
  const click = (type, button) => {
    const event = Object.assign(new Event(type), { button });
    Object.defineProperty(event, "target", { value: lamp });
    shelf.dispatchEvent(event);
  };
  click("click", 0);
  click("auxclick", 1);
  click("auxclick", 2);
  await pass(300);
  assert.deepEqual(page.events().map((each) => [each.type, each.item_id, each.request_id, each.position]), [
    ["click", "lamp", "r1", 1],
    ["click", "lamp", "r1", 1],
  ]);
  end();
  click("click", 0);
  await pass(300);
  assert.equal(page.events().length, 2);
});

test("an answer that is no slate is an error with its problem", async () => {
  openPage(async () => [403, { type: "urn:midstream:scope-missing", detail: "No." }]);
  await assert.rejects(personal().recommend("home"), (error) => {
    assert.equal(error.status, 403);
    assert.equal(error.problem.type, "urn:midstream:scope-missing");
    assert.match(error.message, /403.*No\./);
    return true;
  });
});
