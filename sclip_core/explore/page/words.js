/** The words as one types them, and the legend of the classes that they make. */

import { byId, debounced, el, swatch } from "./dom.js";

const TYPED_AFTER = 120; // ms after the last key
const HALF_TYPED_AFTER = 250; // ms, where a new word may go on: each one goes through the text encoder
const FOLDED = 3; // classes without a pixel from which they are behind a button
const ROWS = 300; // of the legend that are drawn

/** @param {{a: Object, b: Object}} sides */
export function createWords(state, sides) {
  const field = byId("words");
  const list = byId("legend");
  const self = { update, showLegend };
  let shown = "";
  let unfolded = false;

  const known = new Set(); // words that were encoded
  const apply = debounced(() => (isHalfTyped(field.value, known) ? HALF_TYPED_AFTER : TYPED_AFTER), () => state.set({ w: oneLine(field.value) }));
  field.oninput = () => {
    grow();
    apply();
  };
  field.onblur = () => apply.now();
  field.onkeydown = (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    apply.now();
  };
  byId("words-default").onclick = () => state.set({ w: null });
  byId("legend-order").onchange = () => showLegend(true);
  byId("legend-absent").onclick = () => {
    unfolded = !unfolded;
    showLegend(true);
  };
  list.onpointerover = (event) => highlight(event.target.closest("button"));
  list.onpointerleave = () => highlight(null);
  list.addEventListener("focusin", (event) => highlight(event.target.closest("button")));
  list.addEventListener("focusout", () => highlight(null));
  list.onclick = (event) => {
    const row = event.target.closest("button");
    if (row) toggleHeat(row.dataset.word);
  };
  list.onkeydown = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const rows = [...list.querySelectorAll("button")];
    rows[rows.indexOf(document.activeElement) + by]?.focus();
  };

  function toggleHeat(word) {
    const same = state.get("map") === "heat" && state.get("word") === word;
    state.set({ map: same ? null : "heat", word: same ? null : word, low: null, high: null }, { push: true });
  }

  function highlight(row) {
    for (const side of Object.values(sides)) side.highlight(row ? row.dataset.word : null);
  }

  function update() {
    if (document.activeElement !== field && field.value !== state.get("w")) {
      apply.stop();
      field.value = state.get("w");
      field.dataset.grown = "";
    }
    if (!field.dataset.grown && field.offsetParent) grow();
    byId("words-default").hidden = !state.has("w") || !state.collection()?.words;
    for (const row of list.querySelectorAll("button")) {
      const on = state.get("map") === "heat" && state.get("word") === row.dataset.word;
      row.setAttribute("aria-pressed", on);
    }
  }

  /** As tall as its text, up to what the style sheet allows. */
  function grow() {
    field.dataset.grown = "1";
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight + 2}px`;
  }

  /** Draws the rows anew where what they say has changed. */
  function showLegend(anew = false) {
    const from = source();
    const second = secondOf();
    const said = JSON.stringify([from?.classes, from?.score, second?.classes, second?.score,
      byId("legend-order").value, state.get("map") === "heat" && state.get("word")]);
    if (said === shown && !anew) return;
    shown = said;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.word : null;
    const iou = iousOf(from);
    const beside = new Map((second?.classes ?? []).map(({ name, share }) => [name, share]));
    const rows = folded(ordered(from?.classes ?? [], iou, beside), beside);
    for (const { words = [] } of from?.classes ?? []) for (const word of words) known.add(word);
    const other = { shares: second ? beside : null, iou: iousOf(second) };
    list.replaceChildren(...rows.slice(0, ROWS).map((one) => rowOf(one, iou, other)));
    byId("legend-sides").hidden = !second;
    byId("legend-more").hidden = rows.length <= ROWS;
    byId("legend-more").textContent = `and ${rows.length - ROWS} more classes`;
    byId("score").textContent = scoreText(from?.score, second?.score);
    byId("notes").replaceChildren(...(sides.a.labels?.notes ?? []).map((note) => el("li", {}, note)));
    if (focused) [...list.querySelectorAll("button")].find((row) => row.dataset.word === focused)?.focus();
    update();
  }

  function source() {
    return state.get("map") === "truth" && sides.a.truth ? sides.a.truth : sides.a.labels;
  }

  /** The labels of the second side, where two are compared. */
  function secondOf() {
    return state.get("split") !== "" && state.get("map") !== "truth" ? sides.b.labels : null;
  }

  function ordered(classes, iou, beside) {
    const how = byId("legend-order").value;
    const rows = [...classes];
    const most = ({ name, share }) => Math.max(share, beside.get(name) ?? 0);
    if (how === "auto") rows.sort((one, other) => other.share - one.share || most(other) - most(one));
    if (how === "share") rows.sort((one, other) => other.share - one.share);
    if (how === "iou") rows.sort((one, other) => (iou.get(other.name) ?? -1) - (iou.get(one.name) ?? -1));
    return rows;
  }

  /** Without the classes that have no pixel, where these are many; that of the heat map stays. */
  function folded(rows, beside) {
    const button = byId("legend-absent");
    const word = state.get("map") === "heat" ? state.get("word") : null;
    const stays = ({ name, share }) => share || beside.get(name) || name === word;
    const absent = rows.filter((one) => !stays(one)).length;
    button.hidden = byId("legend-order").value !== "auto" || absent < FOLDED;
    button.textContent = `${absent} classes without a pixel ${unfolded ? "▴" : "▾"}`;
    button.setAttribute("aria-expanded", unfolded);
    return button.hidden || unfolded ? rows : rows.filter(stays);
  }

  return self;
}

/** Whether a list has a new word that may go on: the last one has no separator after it. */
function isHalfTyped(text, known) {
  if (/[;,\n]\s*$/.test(text)) return false;
  return text.split(/[;,\n]/).some((word) => word.trim() && !known.has(word.trim()));
}

const iousOf = (map) => new Map((map?.score?.classes ?? []).map(({ name, iou }) => [name, iou]));

function scoreText(one, other) {
  if (!one) return "";
  const text = (score) => score.miou?.toFixed(1) ?? "–";
  return other ? `mIoU ${text(one)} · ${text(other)}` : `mIoU ${text(one)}`;
}

const percent = (share) => `${share ? share.toFixed(1) : "0"} %`;

/** A class: colour, name, IoU and share; of two sides where `other` has the shares of the second. */
function rowOf({ name, words = [], colour, share }, iou, other) {
  const bar = el("span", { class: "share-bar" });
  bar.style.width = `${share}%`;
  bar.style.backgroundColor = colour;
  const synonyms = words.length > 1 ? words.join(", ") : null;
  const values = [iou.get(name), ...(other.shares ? [other.iou.get(name)] : [])];
  const told = values.some((value) => typeof value === "number");
  const ious = values.map((value) => (typeof value === "number" ? value.toFixed(0) : "–")).join(" · ");
  return el("li", {},
    el("button", { type: "button", "data-word": name, title: synonyms, class: share || other.shares?.get(name) ? null : "absent",
      "aria-pressed": "false" },
    swatch(colour),
    el("span", { class: "class-name" }, name),
    told ? el("span", { class: "iou", title: "IoU in this image" }, `IoU ${ious}`) : null,
    el("span", { class: "share" }, percent(share)),
    other.shares ? el("span", { class: "share" }, percent(other.shares.get(name))) : null,
    el("span", { class: "share-track", "aria-hidden": "true" }, bar)));
}

/** Lines of a pasted list are classes. */
function oneLine(text) {
  return text.split(/\n+/).map((line) => line.trim().replace(/;$/, "")).filter(Boolean).join("; ");
}
