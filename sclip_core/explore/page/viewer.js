/** The large picture: which map is shown, the words' scores under the pointer, picking a patch. */

import * as api from "./api.js";
import { byId, clamp, el, short, swatch } from "./dom.js";
import { paintBar } from "./paint.js";
import { pointOf } from "./side.js";
import { createStage } from "./stage.js";

const MAPS = [
  ["labels", "Labels", "The class of each pixel"],
  ["heat", "Heat", "How alike a word and each patch are (h)"],
  ["likeness", "Likeness", "How alike the picked patch and each patch are; click a patch"],
  ["attention", "Attention", "Where the picked patch attends to; click a patch"],
  ["truth", "Truth", "The ground truth (t)"],
  ["errors", "Errors", "Wrong pixels red, right ones green, not evaluated ones hatched (e)"],
];
const SHOWN_SCORES = 8;
const HOVER_AFTER = 30; // ms of rest before the scores are asked for

/**
 * @param {Object} state
 * @param {Object} sides {a, b}
 */
export function createViewer(state, sides) {
  const tip = byId("tip");
  const cross = byId("cross");
  let image = null;
  let cursor = null; // the cross moved by keys, [row, column] of the map
  let hovered = null;
  let ofPatch = "likeness"; // what a click shows: likeness, or attention
  let timer = 0;
  let asking = null;

  const stage = createStage({ onHover: hover, onPick: pick, onMove: place });
  const self = { setImage, update, onPainted, moveCursor, pickCursor, stage };

  for (const [value, title, about] of MAPS) {
    const input = el("input", { type: "radio", name: "map", value });
    input.onchange = () => show(value);
    input.onclick = (event) => event.detail && input.blur(); // by mouse: arrow keys walk on
    byId("maps").append(el("label", { title: about }, input, el("span", {}, title)));
  }
  const select = byId("map-select"); // in place of the row where that has no room
  select.append(...MAPS.map(([value, title]) => el("option", { value }, title)));
  select.onchange = () => show(select.value);
  const inputs = new Map([...byId("maps").querySelectorAll("input")].map((one) => [one.value, one]));
  paintBar(byId("scale-bar").querySelector("canvas"));
  setUpRange();

  /** Shows a map; a heat map without a word takes the largest class. */
  function show(map) {
    const changes = { map, low: null, high: null };
    if (map === "heat" && !state.get("word")) changes.word = largest(sides.a.labels?.classes ?? []);
    state.set(changes, { push: true });
  }
  self.show = show;

  function setImage(about) {
    image = about;
    cursor = null;
    hover(null);
    const source = api.url("picture", { collection: state.get("c"), image: about.id });
    for (const layer of [sides.a.layer, sides.b.layer]) layer.querySelector("img").src = source;
    sides.a.layer.querySelector("img").alt = about.file ?? about.id;
    stage.setSize(about.shown);
  }

  function update() {
    const map = state.get("map");
    if (inputs.has(map)) inputs.get(map).checked = true;
    select.value = map;
    if (["likeness", "attention"].includes(map)) ofPatch = map;
    for (const name of ["truth", "errors"]) {
      inputs.get(name).disabled = !image?.has_truth;
      inputs.get(name).parentElement.hidden = !state.collection()?.has_truth;
      const option = select.querySelector(`[value=${name}]`);
      option.hidden = option.disabled = !state.collection()?.has_truth;
    }
    for (const { canvas } of Object.values(sides)) canvas.style.opacity = state.get("opacity") / 100;
    place();
    showRange();
  }

  /** The cross: the picked patch, or what the keys point at. */
  function place() {
    if (!image) return;
    const picked = ["likeness", "attention"].includes(state.get("map")) && pointOf(state.get("at"));
    const at = cursor ?? (picked && toShown(picked));
    cross.hidden = !at;
    if (at) {
      const { x, y } = stage.toScreen(at);
      cross.style.transform = `translate(${x}px, ${y}px)`;
    }
  }

  const toShown = (point) => point.map((value, axis) =>
    clamp(Math.floor((value * image.shown[axis]) / image.size[axis]), 0, image.shown[axis] - 1));
  const toOriginal = (pixel) => pixel.map((value, axis) =>
    Math.floor(((value + 0.5) * image.size[axis]) / image.shown[axis]));

  function pick(where) {
    const pixel = stage.toPixel(where);
    if (!pixel || !image) return;
    cursor = null;
    const at = toOriginal(pixel).join(",");
    state.set({ at, map: ofPatch, low: null, high: null }, { push: state.get("map") !== ofPatch });
  }

  function sideAt({ x }) {
    const split = Number(state.get("split") || 100) / 100;
    return x < split * stage.element.clientWidth || sides.b.layer.hidden ? sides.a : sides.b;
  }

  function hover(where) {
    clearTimeout(timer);
    asking?.abort();
    const pixel = where && image && stage.toPixel(where);
    hovered = pixel ? { pixel, side: sideAt(where), where } : null;
    tip.hidden = !hovered;
    if (!hovered) return;
    fill(null);
    timer = setTimeout(askScores, HOVER_AFTER);
  }

  async function askScores() {
    const of = hovered;
    asking = new AbortController();
    try {
      const body = { view: state.view(of.side.name), point: toOriginal(of.pixel), client: api.client };
      const found = await api.post("scores", { ...body, side: of.side.name }, asking.signal);
      if (of === hovered && found.ready) fill(found);
    } catch {
      // The tooltip stays without scores; the labels' own request tells what is wrong.
    }
  }

  function fill(found) {
    const { pixel, side, where } = hovered;
    const { label, truth, value } = side.at(...pixel);
    const [row, column] = toOriginal(pixel);
    const line = (title, of) => el("div", { class: "tip-line" }, swatch(of?.colour),
      `${title}${of === null ? "no label" : of.name}`);
    tip.replaceChildren(
      ...(label !== undefined ? [line("", label)] : []),
      ...(truth !== undefined ? [truth ? line("truth: ", truth) : el("div", {}, "not evaluated")] : []),
      ...(value !== undefined ? [el("div", {}, `value ${short(value)}`)] : []),
      ...(found ? [scoresTable(found, side)] : []),
      el("div", { class: "tip-place" }, `row ${row}, column ${column}`),
    );
    const room = stage.element.getBoundingClientRect();
    const left = where.x + 16 + tip.offsetWidth > room.width ? where.x - 16 - tip.offsetWidth : where.x + 16;
    const top = clamp(where.y + 12, 4, Math.max(4, room.height - tip.offsetHeight - 4));
    tip.style.transform = `translate(${clamp(left, 4, Math.max(4, room.width - tip.offsetWidth - 4))}px, ${top}px)`;
  }

  function scoresTable({ scores }, side) {
    const rows = scores.slice(0, SHOWN_SCORES).map(({ word, class: of, score, probability }) => {
      const bar = el("span", { class: "tip-bar" });
      bar.style.width = `${Math.round(100 * probability)}%`;
      return el("tr", {},
        el("td", {}, swatch(side.labels?.classes[of]?.colour), word),
        el("td", {}, short(score)),
        el("td", {}, el("span", { class: "tip-track" }, bar)),
        el("td", {}, `${(100 * probability).toFixed(probability < 0.1 ? 1 : 0)} %`));
    });
    return el("table", {}, el("tbody", {}, ...rows));
  }

  function moveCursor(rows, columns, fine) {
    if (!image) return;
    const step = fine ? 1 : Math.max(1, Math.round(Math.max(...image.shown) / 40));
    const start = cursor ?? image.shown.map((length) => Math.floor(length / 2));
    cursor = [rows, columns].map((by, axis) => clamp(start[axis] + by * step, 0, image.shown[axis] - 1));
    place();
    hover(stage.toScreen(cursor));
  }

  function pickCursor() {
    if (cursor) pick(stage.toScreen(cursor));
  }
  self.dropCursor = () => {
    const was = cursor !== null;
    cursor = null;
    hover(null);
    place();
    return was;
  };

  function setUpRange() {
    const [low, high] = [byId("low"), byId("high")];
    low.oninput = () => {
      if (Number(low.value) > Number(high.value)) low.value = high.value;
      state.set({ low: short4(low.value) });
    };
    high.oninput = () => {
      if (Number(high.value) < Number(low.value)) high.value = low.value;
      state.set({ high: short4(high.value) });
    };
    byId("scale-reset").onclick = () => state.set({ low: null, high: null });
  }

  const short4 = (value) => String(Number(Number(value).toPrecision(4)));

  /** The colour bar of a heat map, its title and the two ends of the range. */
  function showRange() {
    const shows = sides.a.shows();
    const heat = shows && sides.a.heat?.kind === shows;
    byId("scale").hidden = !heat;
    if (!heat) return;
    const { from, to, low, high } = sides.a.range();
    for (const [id, value] of [["low", low], ["high", high]]) {
      const input = byId(id);
      Object.assign(input, { min: from, max: to, step: (to - from) / 200 || 1 });
      input.value = value;
      input.setAttribute("aria-valuetext", short(value));
      byId(`scale-${id}`).textContent = short(value);
    }
    const canvas = byId("scale-bar").querySelector("canvas");
    const share = (value) => (to > from ? clamp((value - from) / (to - from), 0, 1) : 0);
    canvas.style.marginLeft = `${100 * share(low)}%`;
    canvas.style.width = `${Math.max(0, 100 * (share(high) - share(low)))}%`;
    byId("scale-title").textContent = shows === "heat" ? sides.a.heat.word : shows;
    byId("scale-reset").hidden = low === from && high === to;
  }

  function onPainted() {
    showRange();
    place();
    if (hovered) fill(null);
  }

  return self;
}

/** The name of the class with the most pixels; null: there is none. */
function largest(classes) {
  if (!classes.length) return null;
  return classes.reduce((most, one) => (one.share > most.share ? one : most)).name;
}
