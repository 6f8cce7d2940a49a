// Script of the console: sends forms to the routes for programs as JSON, and takes live figures and late fragments.
"use strict";

const base = document.documentElement.dataset.base;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// A value of a field as its data-type says; an empty one is left out.
function valueOf(field) {
  const text = field.value;
  switch (field.dataset.type) {
    case "json": return JSON.parse(text);
    case "number": return Number(text);
    case "words": return text.split(/[\s,]+/).filter(Boolean);
    case "numbers": return text.split(/[\s,]+/).filter(Boolean).map(Number);
    case "flag": return field.checked;
    case "choice": return [field.value];
    default: return text;
  }
}

// The fields of a form as one document; a dot in a name is a step into it. `only` has the fields of one of its buttons.
function bodyOf(form, only) {
  const body = {};
  for (const field of form.elements) {
    const isEmpty = field.dataset.type === "choice" ? !field.checked : field.value === "" && field.dataset.type !== "flag";
    if (!field.name || field.dataset.in === "query" || isEmpty || (only && !only.includes(field.name))) continue;
    try {
      const steps = field.name.split("."), last = steps.pop();
      let at = body;
      for (const step of steps) at = at[step] ??= {};
      const value = valueOf(field);
      at[last] = Array.isArray(at[last]) ? at[last].concat(value) : value;
      field.removeAttribute("aria-invalid");
    } catch (error) {
      field.setAttribute("aria-invalid", "true");
      field.focus();
      throw new Error(`${field.name}: ${error.message}`);
    }
  }
  return form.dataset.wrap ? body[form.dataset.wrap] : body;
}

function queryOf(form) {
  const fields = [...form.elements].filter((each) => each.dataset.in === "query" && each.value !== "");
  return fields.length ? "?" + new URLSearchParams(fields.map((each) => [each.name, each.value])) : "";
}

// Where, what came, what would be right, and the page that says more.
function showProblem(place, problem, status) {
  place.className = "notice bad";
  place.replaceChildren(element("strong", problem.title || `The server answered ${status}`));
  const list = element("ul");
  for (const each of problem.errors || []) list.append(element("li", `${each.pointer}: ${each.came} ${each.right}`));
  if (!list.children.length) list.append(element("li", problem.detail || ""));
  place.append(list);
  if (problem.page) {
    const link = element("a", "More about it");
    link.href = base + problem.page;
    place.append(link);
  }
}

function itemCell(item) {
  const cell = element("td");
  if (!item) {
    cell.append(element("span", "–", "dim"));
    return cell;
  }
  const link = element("a", item.id), title = item.fields && (item.fields.title || item.fields.name);
  link.href = `${base}/console/items/${encodeURIComponent(item.id)}`;
  cell.append(link);
  if (title) cell.append(" ", element("span", String(title), "title"));
  return cell;
}

// Two slates by position, with what moved: as the page of a changed form has them.
function comparedTable(proposed, today) {
  const part = element("section"), table = element("table", undefined, "compared"), head = element("tr"), rows = element("tbody");
  part.append(element("h2", "As it would be, beside today"));
  for (const name of ["Position", "Today", "As it would be", "Moved"]) head.append(element("th", name));
  table.append(element("thead"), rows);
  table.tHead.append(head);
  const old = today ? today.items : [], before = new Map(old.map((each, place) => [each.id, place]));
  const stays = new Set(proposed.items.map((each) => each.id));
  for (let place = 0; place < Math.max(old.length, proposed.items.length); place += 1) {
    const row = element("tr"), left = itemCell(old[place]), item = proposed.items[place], was = item && before.get(item.id);
    if (old[place] && !stays.has(old[place].id)) {
      left.className = "leaves";
      left.append(" ", element("span", "leaves", "mark"));
    }
    const move = !item || !today ? "" : was === undefined ? "new" : was === place ? "stays" : `${place < was ? "up" : "down"} ${Math.abs(was - place)}`;
    row.append(element("td", String(place)), left, itemCell(item), element("td", move, move === "new" ? "good" : "dim"));
    rows.append(row);
  }
  part.append(table);
  return part;
}

const showing = {
  reload: () => location.reload(),
  enter: () => location.assign(base + "/console"),
  leave: (place) => location.assign(place.closest("form").dataset.to),
  slates(place, answer) {
    place.className = "";
    place.replaceChildren(comparedTable(answer.preview, answer.today));
  },
  key(place, answer) {
    place.className = "notice good";
    place.replaceChildren(element("strong", `The key ${answer.view.name}, shown this once`), element("pre", answer.key));
    if (answer.user_secret) place.append(element("p", "Its user secret, for the shop's own server:"), element("pre", answer.user_secret));
    if (answer.view.origins && answer.view.origins.length) {
      const link = element("a", "How a page uses it");
      link.href = base + "/docs/browser.md";
      place.append(link);
    }
    if (place.closest("form[data-first]")) place.append(...firstKey(place, answer));
  },
  tenant(place, answer) {
    place.className = "notice good";
    place.replaceChildren(element("strong", `The key of ${answer.tenant.name}, shown this once`), element("pre", answer.key));
    const console = element("a", "Its console, which asks for this key"), list = element("a", "The list with it");
    console.href = `${base}${answer.tenant.path}console`;
    list.href = `${base}/console`;
    place.append(console, " – ", list);
  },
  json(place, answer) {
    place.className = "notice good";
    place.replaceChildren(element("strong", "Done"), element("pre", JSON.stringify(answer, null, 2)));
  },
};

// What follows the first key: it closes the server, so this browser signs in with it, where it opens the console.
function firstKey(place, answer) {
  if (!answer.view.scopes.some((each) => each === "admin" || each === "read")) {
    return [element("p", "Every caller needs a key from now on, and this one opens no console. In the shop's folder `midstream keys create console --scope admin` makes one that does.")];
  }
  const button = element("button", "I have kept it: sign in with it", "main");
  button.type = "button";
  button.addEventListener("click", async () => {
    const headers = { "content-type": "application/json", "x-api-key": answer.key };
    const signed = await fetch(base + "/console/session", { method: "PUT", body: "{}", headers });
    if (signed.ok) location.reload();
    else showProblem(place, await signed.json(), signed.status);
  });
  return [element("p", "Every caller needs a key from now on, this page too. Keep it: nobody can show it again."), button];
}

async function send(form, button) {
  const place = document.getElementById(form.dataset.output) || form.querySelector("output"), act = button && button.dataset.send ? button.dataset : form.dataset;
  if (act.confirm && !window.confirm(act.confirm)) return;
  let request;
  try {
    const method = act.method || "POST";
    const body = method === "DELETE" ? undefined : JSON.stringify(bodyOf(form, act.fields && act.fields.split(" ")));
    const headers = body === undefined ? {} : { "content-type": act.media || "application/json" };
    const key = form.querySelector("[data-in=key]");
    if (key) headers["x-api-key"] = key.value;
    request = { method, body, headers };
  } catch (error) {
    showProblem(place, { title: "This cannot be read", detail: error.message }, 0);
    return;
  }
  place.className = "dim";
  place.textContent = "Sending…";
  try {
    const step = form.querySelector("[data-path]");
    const path = act.send + (step ? encodeURIComponent(step.value) : "");
    const answer = await fetch(base + path + queryOf(form), request);
    const text = await answer.text(), found = text ? JSON.parse(text) : {};
    if (answer.ok) showing[act.then || "reload"](place, found);
    else showProblem(place, found, answer.status);
  } catch (error) {
    showProblem(place, { title: "No answer came", detail: error.message }, 0);
  }
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.send && !(event.submitter && event.submitter.dataset.send)) return;
  event.preventDefault();
  send(event.target, event.submitter);
});

// A button that ticks the choices of its form for a purpose.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-choose]");
  if (!button) return;
  const chosen = button.dataset.choose.split(" ");
  for (const field of button.form.querySelectorAll("[data-type=choice]")) field.checked = chosen.includes(field.value);
  button.form.querySelector(`#${button.dataset.focus || "name"}`).focus();
});

// A fragment that takes a while: it is asked for again until it says that it is complete.
async function load(place, path, tries) {
  const answer = await fetch(path);
  place.innerHTML = await answer.text();
  if (!place.querySelector("[data-again]")) return;
  if (tries > 0) setTimeout(() => load(place, path, tries - 1), 700);
  else place.append(element("p", "It is not there yet; load this page again later."));
}

for (const place of document.querySelectorAll("[data-fragment]")) load(place, place.dataset.fragment, Number(place.dataset.tries || 60));

const AGAIN_MS = 5000, AGAIN_MS_MAX = 60000;
let again = AGAIN_MS, retry = 0;
const live = document.querySelector("[data-live]");

// A fragment that comes anew keeps what a form of it says, and the focus. What the page shows already is left as it is:
// a click between press and release would find its link gone.
function renew(place, text) {
  const fragment = document.createElement("template");
  fragment.innerHTML = text;
  if (fragment.innerHTML.trim() === place.innerHTML.trim()) return;
  const held = place.contains(document.activeElement) ? document.activeElement : null, form = held && held.closest("form[id]");
  const at = form ? [...form.elements].indexOf(held) : -1;
  const said = [...place.querySelectorAll("form[id] output")].filter((each) => each.textContent).map((each) => [each.closest("form").id, each]);
  place.replaceChildren(fragment.content);
  for (const [id, each] of said) {
    const empty = place.querySelector(`#${CSS.escape(id)} output`);
    if (empty) empty.replaceWith(each);
  }
  if (!held) return;
  const same = form ? [...(place.querySelector(`#${CSS.escape(form.id)}`)?.elements || [])][at]
    : [...place.querySelectorAll("a, [aria-label]")].find((each) => each.href === held.href && each.ariaLabel === held.ariaLabel);
  if (same) same.focus({ preventScroll: true });
}

// The server ends each stream after a minute, and the browser opens the next one 3 s later: that is still live. A stream
// that was refused is not opened again by the browser: it is here, at times that grow and are not those of other pages.
// A tab that nobody sees has none: browsers hold six connections to a server, and open no page when all are streams.
function follow() {
  clearTimeout(retry);
  if (document.hidden) return;
  const state = document.getElementById("live-state"), events = new EventSource(live.dataset.live);
  let silent = 0;
  const say = () => { state.textContent = "Not live: the server does not answer now"; };
  const leave = () => {
    clearTimeout(silent);
    events.close();
    document.removeEventListener("visibilitychange", hide);
  };
  const hide = () => {
    leave();
    state.textContent = "Not live while nobody sees it";
  };
  events.onopen = () => {
    clearTimeout(silent);
    silent = 0;
    again = AGAIN_MS;
    state.textContent = "Live";
  };
  events.onmessage = (event) => renew(live, event.data);
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED) {
      say();
      leave();
      retry = setTimeout(follow, again * (0.5 + Math.random()));
      again = Math.min(2 * again, AGAIN_MS_MAX);
    } else if (!silent) {
      silent = setTimeout(say, AGAIN_MS);
    }
  };
  document.addEventListener("visibilitychange", hide);
}

if (live) {
  document.addEventListener("visibilitychange", () => { if (!document.hidden) follow(); });
  follow();
}
