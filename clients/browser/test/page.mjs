// A page for the client: storages, events of a window, elements, and a server that answers as a test says.
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto;

/** Clock and timers that stand until a test lets time pass. */
export const clock = {
  now: 0,
  timers: new Map(),
  reset() {
    this.now = 1_800_000_000_000;
    this.timers.clear();
    Date.now = () => this.now;
    globalThis.setTimeout = (call, wait = 0) => {
      const id = ++this.last;
      this.timers.set(id, { call, at: this.now + Math.floor(wait) });
      return id;
    };
    globalThis.clearTimeout = (id) => this.timers.delete(id);
  },
  last: 0,
  tick(milliseconds) {
    this.now += milliseconds;
    for (const [id, { call, at }] of [...this.timers]) {
      if (at <= this.now && this.timers.delete(id)) call();
    }
  },
};

class FakeStorage {
  constructor(isRefused) {
    this.isRefused = isRefused;
    this.texts = new Map();
  }
  getItem(name) {
    if (this.isRefused) throw new Error("refused");
    return this.texts.get(name) ?? null;
  }
  setItem(name, text) {
    if (this.isRefused) throw new Error("refused");
    this.texts.set(name, text);
  }
  removeItem(name) {
    if (this.isRefused) throw new Error("refused");
    this.texts.delete(name);
  }
}

class FakeElement extends EventTarget {
  constructor(id, parent) {
    super();
    this.id = id;
    this.parent = parent;
    this.children = [];
    parent?.children.push(this);
  }
  getAttribute(name) {
    return name === "data-midstream-item" ? this.id : null;
  }
  querySelectorAll() {
    return this.children;
  }
  closest() {
    return this.id ? this : (this.parent?.closest() ?? null);
  }
}

class FakeObserver {
  constructor(tell) {
    this.tell = tell;
    this.watched = new Set();
    FakeObserver.all.add(this);
  }
  observe(node) {
    this.watched.add(node);
  }
  unobserve(node) {
    this.watched.delete(node);
  }
  disconnect() {
    this.watched.clear();
  }
  static all = new Set();
  static see(target, intersectionRatio) {
    for (const each of FakeObserver.all) if (each.watched.has(target)) each.tell([{ target, intersectionRatio }]);
  }
}

export const see = FakeObserver.see;
export const makeElement = (id, parent) => new FakeElement(id, parent);
export const slate = (...ids) => ({
  request_id: "r1",
  placement: "home",
  items: ids.map((id, position) => ({ id, score: 1, position })),
});

/** Open a page whose timers stand; `answer` gives status and content for a request, or throws as a lost connection. */
export function openPage(answer, { isRefused = false, kept } = {}) {
  const page = { requests: [], answer };
  const window = new EventTarget();
  const document = new EventTarget();
  document.visibilityState = "visible";
  page.window = window;
  page.document = document;
  page.local = kept?.local ?? new FakeStorage(isRefused);
  page.session = kept?.session ?? new FakeStorage(isRefused);
  Object.assign(globalThis, {
    window: globalThis,
    document,
    localStorage: page.local,
    sessionStorage: page.session,
    Element: FakeElement,
    IntersectionObserver: FakeObserver,
    addEventListener: window.addEventListener.bind(window),
    fetch: async (url, request) => {
      const sent = { url, ...request, content: JSON.parse(request.body) };
      page.requests.push(sent);
      const [status, content, headers] = await page.answer(sent);
      return new Response(JSON.stringify(content ?? {}), { status, headers });
    },
  });
  page.kept = () => ({ local: [...page.local.texts.keys()], session: [...page.session.texts.keys()] });
  page.sentTo = (path) => page.requests.filter((each) => each.url.endsWith(path)).map((each) => each.content);
  page.events = () => page.sentTo("/v1/events").flatMap((each) => each.events);
  return page;
}

/** Let time pass, and everything that waits for it. */
export async function pass(milliseconds) {
  for (const step = 100; milliseconds > 0; milliseconds -= step) {
    clock.tick(Math.min(step, milliseconds));
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}
