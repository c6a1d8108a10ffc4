// The bar above the grid: which images, in which order, and the runs on them.

import { debounced, el } from "./dom.js";
import { sentence } from "./search.js";
import { SETTINGS } from "./state.js";

const RUN_BUTTONS = 12; // the newest; all are in the menu
const KINDS = [
  ["name", "by name"],
  ["random", "random"],
  ["worst", "worst of a run"],
  ["best", "best of a run"],
  ["changed", "most changed"],
];

/** "csa, PAMR 10 · 84.76" */
export const titleOf = (run) =>
  run.miou === null || run.miou === undefined ? run.title : `${run.title} · ${run.miou.toFixed(2)}`;

/** An order of the address in its parts: {kind, runs}. */
export function partsOf(order) {
  const colon = String(order).indexOf(":");
  if (colon < 0) return { kind: order || "name", runs: [] };
  return { kind: order.slice(0, colon), runs: order.slice(colon + 1).split(",") };
}

/** What a run sets in the address, without what it does not say. */
export function settingsOf(run) {
  const found = {};
  for (const [key, field] of Object.entries(SETTINGS)) {
    if (run.view?.[field] !== undefined) found[key] = run.view[field];
  }
  if (run.view?.words !== undefined) found.w = run.view.words;
  return found;
}

/**
 * @param {object} page state of the page, and search
 * @returns {object} el, draw(): to show the state, tell(line): the state of the search,
 *   count(total, fault)
 */
export function createBar({ state, search }) {
  const set = (changes, push = false) => state.set(changes, { push });
  const runs = () => state.collection()?.runs ?? [];
  const parts = makeParts(state, set, runs);
  const status = makeStatus(search);
  const { find, word, kind, first, second, chips, more } = parts;
  const label = (text, control, name) =>
    el("label", { class: `grid-field ${name}` }, el("span", {}, text), control);
  const changed = el("span", { class: "grid-pair" }, first, el("span", {}, "and"), second);
  const orders = el("div", { class: "grid-field orders" }, label("Order", kind, "order"), changed);
  const filters = el(
    "div",
    { class: "grid-filters", id: "grid-filters" },
    label("Find by name", find, "find"),
    orders,
  );
  const bar = el(
    "div",
    { class: "grid-bar" },
    el("div", { class: "grid-top" }, label("Search by word", word, "word"), more),
    filters,
    el("div", { class: "grid-second" }, chips, status.el),
  );

  function draw() {
    for (const [input, key] of [[find, "find"], [word, "q"]]) {
      if (document.activeElement !== input || !input.dirty) input.value = state.get(key);
    }
    const { kind: now, runs: chosen } = partsOf(state.get("order"));
    const list = runs();
    const kinds = list.length > 1 ? KINDS : KINDS.slice(0, list.length ? 4 : 2);
    const ranked = Boolean(state.get("q"));
    options(kind, ranked ? [["search", "by the word"], ...kinds] : kinds);
    kind.value = ranked ? "search" : kinds.some(([name]) => name === now) ? now : "name";
    const titles = list.map((run) => [run.run_id, titleOf(run)]);
    for (const [menu, position] of [[first, 0], [second, 1]]) {
      options(menu, titles);
      if (chosen[position]) menu.value = chosen[position];
    }
    changed.hidden = ranked || !chosen.length;
    second.hidden = changed.children[1].hidden = now !== "changed";
    drawChips(chips, list, now === "worst" && !ranked ? chosen[0] : "");
  }
  return { el: bar, draw, tell: status.tell, count: status.count, word };
}

/** The controls, each of which writes the state. */
function makeParts(state, set, runs) {
  const input = (placeholder, key, wait) => {
    const made = el("input", { type: "search", placeholder, spellcheck: "false", autocomplete: "off" });
    const later = debounced(wait, () => {
      made.dirty = false;
      set({ [key]: made.value.trim() || null });
    });
    made.oninput = () => {
      made.dirty = true;
      later();
    };
    made.onkeydown = (event) => {
      if (event.key === "Enter") later.now();
      event.stopPropagation();
    };
    return made;
  };
  const menu = (name, onchange) => el("select", { "aria-label": name, onchange });
  const order = () => {
    if (kind.value === "search") return;
    const [one, other] = [first.value, second.value];
    const ids = { worst: one, best: one, changed: `${one},${other}` }[kind.value];
    set({ q: null, order: ids ? `${kind.value}:${ids}` : kind.value }, true);
  };
  const kind = el("select", {
    onchange() {
      const list = runs();
      if (kind.value === "changed" && first.value === second.value && list.length > 1)
        second.value = list.find((run) => run.run_id !== first.value).run_id;
      order();
    },
  });
  const first = menu("Run", order);
  const second = menu("Other run", order);
  const chips = el("div", { class: "grid-runs", role: "group", "aria-label": "Worst images of a run" });
  chips.onclick = (event) => {
    const run = runs().find(({ run_id: id }) => id === event.target.closest("button")?.dataset.run);
    if (run) set({ q: null, order: `worst:${run.run_id}`, ...settingsOf(run) }, true);
  };
  const more = el("button", {
    type: "button",
    class: "grid-more",
    "aria-expanded": "false",
    "aria-controls": "grid-filters",
    onclick() {
      const open = more.getAttribute("aria-expanded") !== "true";
      more.setAttribute("aria-expanded", String(open));
    },
  }, "Order, runs");
  const find = input("part of a name", "find", 250);
  const word = input("a word, such as cat", "q", 450);
  return { find, word, kind, first, second, chips, more };
}

function drawChips(chips, list, chosen) {
  const shown = list.slice(0, RUN_BUTTONS);
  const ids = shown.map((run) => run.run_id).join();
  if (chips.dataset.ids !== ids) {
    chips.dataset.ids = ids;
    chips.replaceChildren(
      el("span", { class: "grid-hint" }, "Worst images of"),
      ...shown.map((run) => el("button", { type: "button", "data-run": run.run_id }, titleOf(run))),
    );
  }
  chips.hidden = !shown.length;
  for (const button of chips.querySelectorAll("button"))
    button.setAttribute("aria-pressed", String(button.dataset.run === chosen));
}

/** The line below: how many images, how far the search is, and what can be done about it. */
function makeStatus(search) {
  const count = el("span", { class: "grid-count" });
  const line = el("span", { class: "grid-line", role: "status" });
  const meter = el("progress", { class: "grid-meter", "aria-label": "Search", max: "1", value: "0" });
  const stop = el("button", { type: "button", onclick: () => search.stop() }, "Stop");
  const encode = el("button", { type: "button", onclick: () => search.encode() }, "Encode them");
  const fault = el("span", { class: "grid-fault", role: "alert" });
  const status = el("div", { class: "grid-status" }, count, meter, line, encode, stop, fault);
  let spoken = 0;

  function tell(found) {
    const busy = Boolean(found?.running || found?.encoding);
    meter.hidden = stop.hidden = !busy;
    encode.hidden = busy || !found?.skipped || !search.state.collection()?.encodes;
    const { done, total } = found?.encoding ?? { done: found?.searched, total: found?.of };
    meter.max = total || 1;
    meter.value = done || 0;
    // A screen reader would read each number: while it runs, the line changes twice a second.
    if (busy && performance.now() - spoken < 500) return;
    spoken = performance.now();
    status.classList.toggle("searched", Boolean(found));
    line.textContent = sentence(found);
  }
  tell(null);
  return {
    el: status,
    tell,
    count(total, trouble = "") {
      const many = total === 1 ? "image" : "images";
      count.textContent = total === null ? "" : `${total.toLocaleString("en")} ${many}`;
      fault.textContent = trouble;
    },
  };
}

function options(menu, pairs) {
  const said = JSON.stringify(pairs);
  if (menu.dataset.said === said) return;
  menu.dataset.said = said;
  menu.replaceChildren(...pairs.map(([value, text]) => el("option", { value }, text)));
}
