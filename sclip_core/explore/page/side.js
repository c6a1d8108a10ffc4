/** One side of the viewer: what it asks the server for, what came, and its canvas. */

import * as api from "./api.js";
import { NONE, paintErrors, paintHeat, paintLabels } from "./paint.js";
import { fail, progress, succeed } from "./status.js";

const PATIENCE = 120; // ms that a request may take before a newer input aborts it

/** The place "row,col" of the address, or null. */
export function pointOf(text) {
  const found = /^(\d+),(\d+)$/.exec(text);
  return found ? [Number(found[1]), Number(found[2])] : null;
}

/**
 * @param {"a"|"b"} name
 * @param {Object} state
 * @param {HTMLElement} layer with an img and a canvas
 * @param {Function} onChange called after something new was painted
 */
export function createSide(name, state, layer, onChange) {
  const canvas = layer.querySelector("canvas");
  const context = canvas.getContext("2d");
  const side = { name, layer, canvas, labels: null, truth: null, heat: null, counts: null, ms: 0, other: null };
  let image = null; // of /api/image
  let only = null; // the highlighted class
  const lanes = { labels: lane("labels"), truth: lane("truth"), heat: lane("heat") };

  /** One kind of request: the newest input wins, and what is quick may end first. */
  function lane(kind) {
    return { kind, asked: "", has: "", since: 0, busy: false, waiting: null, timer: 0 };
  }

  side.setImage = (about) => {
    image = about;
    canvas.width = about.shown[1];
    canvas.height = about.shown[0];
    side.labels = side.truth = side.heat = side.counts = null;
    for (const each of Object.values(lanes)) forget(each);
  };

  side.stop = () => Object.values(lanes).forEach(forget);

  function forget(each) {
    api.cancel(`${name}:${each.kind}`);
    clearTimeout(each.timer);
    Object.assign(each, { asked: "", has: "", waiting: null });
    progress(`${name}:${each.kind}`, null);
    succeed(`${name}:${each.kind}`);
  }

  /** Asks for what the present view needs and is not there. */
  side.refresh = () => {
    if (!image) return;
    const view = state.view(name);
    const map = state.get("map");
    if (view.words.trim()) want(lanes.labels, "labels", { view }, view);
    else {
      forget(lanes.labels);
      side.labels = null;
    }
    if (map === "truth" || map === "errors") want(lanes.truth, "truth", { view }, [view.words]);
    const point = pointOf(state.get("at"));
    const word = state.get("word");
    if (map === "heat" && word) want(lanes.heat, "heat", { view, word }, [word, ofHeat(view)]);
    else if ((map === "likeness" || map === "attention") && point) {
      want(lanes.heat, map, { view, point }, [point, ofFeatures(view)]);
    }
    side.paint();
  };

  /** What a heat map of a word depends on: not on the decision. */
  const ofHeat = ({ logit_scale: _, prob_thd: _p, area_thd: _a, ...rest }) => rest;

  /** What a map of one patch depends on. */
  const ofFeatures = (view) =>
    ["method", "short_side", "slide_crop", "slide_stride"].map((field) => view[field]);

  /** Asks for a map unless it is there, or asked for: `key` is all that it depends on. */
  function want(each, path, body, key) {
    const asked = JSON.stringify([path, key]);
    if (asked === each.asked) return;
    each.asked = asked;
    if (asked === each.has) { // back to what is shown: what runs is not wanted any more
      each.waiting = null;
      clearTimeout(each.timer);
      api.cancel(`${name}:${each.kind}`);
      succeed(`${name}:${each.kind}`);
      return;
    }
    each.waiting = { asked, path, body, typed: performance.now() };
    if (!each.busy) return void send(each);
    clearTimeout(each.timer);
    const left = PATIENCE - (performance.now() - each.since);
    each.timer = setTimeout(() => api.cancel(`${name}:${each.kind}`), Math.max(0, left));
  }

  async function send(each) {
    const who = `${name}:${each.kind}`;
    const { asked, path, body, typed } = each.waiting;
    const of = image;
    Object.assign(each, { waiting: null, busy: true, since: performance.now() });
    try {
      const onProgress = (line) => progress(who, line);
      const { about, blob } = await api.stream(path, { ...body, side: name }, { slot: who, onProgress });
      if (of === image) {
        take(each, path, about, new Uint16Array(blob));
        each.has = asked;
        succeed(who);
        if (each.kind === "labels") side.ms = performance.now() - typed;
        side.paint();
        if (each.kind === "heat" && state.get("split") !== "") side.other?.paint();
      }
    } catch (error) {
      if (!api.isAbort(error) && of === image && each.asked === asked) {
        fail(error, who); // it is not asked for again until the view changes
      }
    } finally {
      clearTimeout(each.timer);
      each.busy = false;
      progress(who, null);
      if (each.waiting) send(each);
    }
  }

  function take(each, path, about, data) {
    if (about.shown[0] !== canvas.height || about.shown[1] !== canvas.width) {
      throw new Error(`the server sent a map of ${about.shown.join("×")} pixels for another image`);
    }
    side[each.kind] = { ...about, data, kind: path };
  }

  /** Brings out a class by its name; null: none. */
  side.highlight = (title) => {
    if (title === only) return;
    only = title;
    side.paint();
  };

  /** What the map of the view shows now: "labels", "heat", ... or null where it is not there yet. */
  side.shows = () => {
    const map = state.get("map");
    if (map === "labels") return side.labels ? map : null;
    if (map === "truth") return side.truth ? map : null;
    if (map === "errors") return side.labels && side.truth?.comparable ? map : null;
    return side.heat?.kind === map ? map : null;
  };

  /** The range of the heat map that the colours span; of both sides, which have one colour bar. */
  side.range = () => {
    const heats = [side, ...(state.get("split") === "" ? [] : [side.other])]
      .map((one) => one?.heat).filter((heat) => heat?.kind === side.heat.kind);
    const from = Math.min(...heats.map(({ low }) => low));
    const to = Math.max(...heats.map(({ high }) => high));
    const given = (key, otherwise) => {
      const text = state.get(key);
      return text !== "" && Number.isFinite(Number(text)) ? Number(text) : otherwise;
    };
    return { from, to, low: given("low", from), high: given("high", to) };
  };

  side.paint = () => {
    if (!image) return;
    const shows = side.shows();
    // Until the first map of its kind has come, the last one stays.
    if (!shows && Object.values(lanes).some((each) => each.busy || each.waiting)) return onChange(side);
    const pixels = context.createImageData(canvas.width, canvas.height);
    const out = new Uint32Array(pixels.data.buffer);
    side.counts = null;
    if (shows === "labels" || shows === "truth") {
      const { data, classes } = side[shows];
      const index = classes.findIndex((each) => each.name === only);
      paintLabels(data, classes.map(({ colour }) => colour), index < 0 ? null : index, out);
    } else if (shows === "errors") {
      side.counts = paintErrors(side.labels.data, side.truth.data, sameClasses(), canvas.width, out);
    } else if (shows) paintHeat(side.heat.data, { ...side.range(), from: side.heat.low, to: side.heat.high }, out);
    context.putImageData(pixels, 0, 0);
    layer.classList.toggle("grey", Boolean(shows) && !["labels", "truth"].includes(shows));
    onChange(side);
  };

  function sameClasses() {
    const of = new Map(side.truth.classes.map(({ name: title }, index) => [title, index]));
    return side.labels.classes.map(({ name: title }) => of.get(title) ?? -1);
  }

  /** What lies at a pixel of the shown map: the class, or the value of a heat map. */
  side.at = (row, column) => {
    const shows = side.shows();
    const index = row * canvas.width + column;
    const told = {};
    const named = (map) => (map.data[index] === NONE ? null : map.classes[map.data[index]]);
    if (side.labels) told.label = named(side.labels);
    if (side.truth && (shows === "truth" || shows === "errors")) told.truth = named(side.truth);
    if (shows && side.heat?.kind === shows) {
      told.value = side.heat.low + ((side.heat.high - side.heat.low) * side.heat.data[index]) / NONE;
    }
    return told;
  };

  return side;
}
