// The demo shop: what a page of a shop does with the browser client, on the server's own catalogue.
"use strict";

const SHELF = 6;
const LISTED = 48;
const LINES_MAX = 60;
const $ = (id) => document.getElementById(id);
const known = new Map();

/** Make an element. Text never becomes markup, whatever an item is called. */
function make(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

// Every request of the page is shown as it was sent, so that each level of consent can be checked by eye.
const plainFetch = window.fetch.bind(window);
window.fetch = async (address, request = {}) => {
  const path = new URL(address, location.href).pathname;
  if (request.method !== "POST") return plainFetch(address, request);
  const row = make("tr", "", make("td", new Date().toLocaleTimeString()), make("td", path), make("td", contentOf(request.body)));
  const outcome = row.appendChild(make("td", "…"));
  $("log").prepend(row);
  while ($("log").rows.length > LINES_MAX) $("log").lastElementChild.remove();
  try {
    const response = await plainFetch(address, request);
    outcome.textContent = String(response.status);
    return response;
  } catch (error) {
    outcome.textContent = "not sent";
    throw error;
  } finally {
    setTimeout(showCounts, 100);
  }
};

function contentOf(body) {
  const { events, ...question } = JSON.parse(body);
  if (!events) return JSON.stringify(question);
  return events
    .map((each) => `${each.type} ${each.item_id}${each.position === undefined ? "" : ` at ${each.position}`} by ${each.user_id ?? each.session_id}`)
    .join("; ");
}

const stated = keptChoice("demo.consent") ?? "necessary";
const shop = midstream.init({ url: new URL(".", location.href).href.replace(/\/$/, ""), consent: stated });

/** The shop keeps the answer of its own banner; what the client keeps follows from it. */
function keptChoice(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function showCounts() {
  const { queued, dropped, refused } = shop.counts();
  $("counts").textContent = `${queued} queued, ${dropped} dropped, ${refused} refused`;
}

async function attributesOf(id) {
  if (!known.has(id)) {
    const response = await plainFetch(`v1/items/${encodeURIComponent(id)}`);
    known.set(id, response.ok ? ((await response.json()).attributes ?? {}) : {});
  }
  return known.get(id);
}

function titleOf(id) {
  const { title, colour, category } = known.get(id) ?? {};
  return String(title ?? ([colour, category].filter(Boolean).join(" ") || id));
}

function tile(id) {
  const { price } = known.get(id) ?? {};
  const button = make("button", "", make("b", titleOf(id)), make("span", `${id}${price === undefined ? "" : `, ${Number(price).toFixed(2)}`}`));
  button.type = "button";
  button.className = "item";
  button.dataset.midstreamItem = id;
  return make("li", "", button);
}

async function showShelf() {
  $("fault").hidden = true;
  try {
    const slate = await shop.recommend("default", { n: SHELF });
    await Promise.all(slate.items.map((each) => attributesOf(each.id)));
    $("shelf").replaceChildren(...slate.items.map((each) => tile(each.id)));
    $("of-slate").textContent = `request ${slate.request_id}`;
    shop.observe($("shelf"), slate);
  } catch (error) {
    $("fault").textContent = `The shelf stays as it was: ${error.message}`;
    $("fault").hidden = false;
  }
  showCounts();
}

function openItem(id) {
  shop.track("view", { item_id: id });
  const cart = make("button", "Put into the cart");
  cart.type = "button";
  cart.addEventListener("click", () => {
    shop.track("cart", { item_id: id, value: Number(known.get(id)?.price) || 0 });
    void showShelf();
  });
  $("detail").replaceChildren(make("p", "", make("b", titleOf(id)), make("span", ` (${id})`)), cart);
  void showShelf();
}

document.addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-midstream-item]");
  if (chosen) openItem(chosen.dataset.midstreamItem);
});
$("consent").addEventListener("change", (event) => {
  const level = event.target.value;
  shop.consent(level);
  try {
    if (level === "necessary") localStorage.removeItem("demo.consent");
    else localStorage.setItem("demo.consent", level);
  } catch {
    showCounts(); // without a storage the choice holds for this page
  }
  void showShelf();
});
$("sign-in").addEventListener("click", async (event) => {
  const isIn = event.target.textContent === "Sign out";
  await shop.identify(isIn ? undefined : "ann");
  event.target.textContent = isIn ? "Sign in as ann" : "Sign out";
  void showShelf();
});

async function start() {
  document.querySelector(`[name=consent][value="${stated}"]`).checked = true;
  const { items } = await (await plainFetch(`v1/items?limit=${LISTED}`)).json();
  for (const each of items) known.set(each.item_id, each.attributes ?? {});
  $("items").replaceChildren(...items.map((each) => tile(each.item_id)));
  await showShelf();
}
void start();
