/** Methods and settings of a side, as forms. */

import { byId, el } from "./dom.js";
import { SETTINGS } from "./state.js";

const SLIDERS = [
  { key: "pamr", title: "PAMR steps", min: 0, max: 20, step: 1,
    about: "Iterations of PAMR, which moves labels to edges of the picture; 0: none" },
  { key: "scale", title: "Logit scale", min: 1, max: 200, step: 1,
    about: "Factor on the cosines before the softmax" },
  { key: "prob", title: "Probability threshold", min: 0, max: 1, step: 0.01,
    about: "Pixels whose best class is less probable become the first class" },
  { key: "area", title: "Area threshold", min: 0, max: 1, step: 0.01,
    about: "Classes of at most this share of the foreground are dropped" },
];
const MORE = [
  { key: "side", title: "Short side", about: "Pixels of the shorter side of the picture that is encoded", min: 1 },
  { key: "crop", title: "Window", about: "Side of a sliding window in pixels; 0: the whole picture", min: 0 },
  { key: "stride", title: "Stride", about: "Pixels from a window to the next", min: 1 },
];

/** @returns {{update: Function}} */
export function createControls(state) {
  let edited = "a";
  const inputs = new Map(); // key -> elements that show its value
  const keyOf = (key) => (edited === "b" ? `b.${key}` : key);
  const form = byId("controls");

  const method = methodSelect();
  form.append(runSelect(), method.row, ...SLIDERS.map(slider), dilations(), more(), opacity(), resetButton());
  setUpSides();

  function set(key, value) {
    state.set({ [keyOf(key)]: value });
  }

  function methodSelect() {
    const select = el("select", { id: "method" });
    const groups = [["attention", "Attentions of CLIP"], ["method", "Methods"]];
    for (const [group, label] of groups) {
      const own = state.about.methods.filter((one) => one.group === group);
      const options = own.map(({ name, title, why_not: whyNot }) =>
        el("option", { value: name, disabled: Boolean(whyNot), title: whyNot }, whyNot ? `${title} (not here)` : title));
      if (options.length) select.append(el("optgroup", { label }, ...options));
    }
    select.onchange = () => set("m", select.value);
    const hint = el("p", { class: "hint", id: "method-hint" });
    select.setAttribute("aria-describedby", "method-hint");
    const row = el("div", { class: "control" }, el("label", { for: "method" }, "Method"), select, hint);
    const show = () => {
      select.value = state.get(keyOf("m"));
      const one = state.about.methods.find(({ name }) => name === select.value);
      const needs = one && one.needs !== "CLIP alone" ? `needs CLIP ${one.needs}` : "";
      hint.textContent = [needs, one?.why_not].filter(Boolean).join("; ");
      hint.hidden = !hint.textContent;
    };
    inputs.set("m", show);
    return { row };
  }

  /** The settings of a run of this collection, in one choice. */
  function runSelect() {
    const select = el("select", { id: "run" });
    const worst = el("button", { type: "button", id: "worst", title: "The images where this run is worst",
      "aria-label": "Worst images of this run" }, "Worst");
    const row = el("div", { class: "control run" }, el("label", { for: "run" }, "Run"), select, worst);
    // Runs with masks have labels that no view shows: they only order images.
    const runs = () => (state.collection()?.runs ?? []).filter(({ view }) => view);
    let chosen = "";
    const fill = () => {
      row.hidden = !runs().length;
      select.replaceChildren(el("option", { value: "" }, "own settings"), ...runs().map(({ run_id: id, title, miou }) =>
        el("option", { value: id }, `${title} · ${miou === null ? "–" : miou.toFixed(1)}`)));
    };
    select.onchange = () => {
      const run = runs().find(({ run_id: id }) => id === select.value);
      chosen = select.value;
      if (run) state.set(changesOf(run.view), { push: true });
    };
    worst.onclick = () => state.set({ order: `worst:${select.value || runs()[0].run_id}`, i: null }, { push: true });
    inputs.set("run", () => {
      fill();
      const view = state.view(edited);
      const same = runs().filter((run) => Object.values(SETTINGS).every((field) =>
        !(field in run.view) || String(run.view[field]) === String(view[field])));
      // Several runs may differ in what a view does not have: the plainest one.
      same.sort((one, other) => one.title.length - other.title.length);
      select.value = (same.find(({ run_id: id }) => id === chosen) ?? same[0])?.run_id ?? "";
    });
    return row;
  }

  function changesOf(view) {
    const fields = Object.entries(SETTINGS).filter(([, field]) => field in view);
    const changes = Object.fromEntries(fields.map(([key, field]) => [keyOf(key), view[field]]));
    return view.words === undefined ? changes : { ...changes, w: view.words };
  }

  function slider({ key, title, min, max, step, about }) {
    const range = el("input", { type: "range", id: `${key}-range`, min, max, step, title: about });
    const number = el("input", { type: "number", min, step: "any", "aria-label": `${title}, as a number`,
      max: key === "pamr" ? state.about.limits.pamr_steps : key === "scale" ? null : max });
    range.oninput = () => set(key, range.value);
    number.onchange = () => number.checkValidity() && number.value !== "" && set(key, number.value);
    inputs.set(key, () => {
      const value = state.get(keyOf(key));
      range.value = value;
      if (document.activeElement !== number) number.value = value;
    });
    return el("div", { class: "control slider" },
      el("label", { for: range.id, title: about }, title), range, number);
  }

  function dilations() {
    const input = el("input", { type: "text", id: "dil", inputmode: "numeric", pattern: "\\s*\\d+(\\s*,\\s*\\d+)*\\s*",
      title: "Distances of PAMR's neighbours in pixels: 8,16" });
    input.onchange = () => input.checkValidity() && set("dil", input.value.replace(/\s/g, "") || null);
    inputs.set("dil", () => {
      input.value = [].concat(state.get(keyOf("dil"))).join(",");
      input.disabled = !state.get(keyOf("pamr"));
    });
    return el("div", { class: "control" }, el("label", { for: "dil" }, "PAMR dilations"), input);
  }

  function more() {
    const rows = MORE.map(({ key, title, about, min }) => {
      const input = el("input", { type: "number", id: `${key}-number`, min, step: 1, title: about });
      input.onchange = () => input.checkValidity() && input.value !== "" && set(key, input.value);
      inputs.set(key, () => {
        if (document.activeElement !== input) input.value = state.get(keyOf(key));
      });
      return el("div", { class: "control" }, el("label", { for: input.id, title: about }, title), input);
    });
    return el("details", { class: "more" }, el("summary", {}, "More: what is encoded"), ...rows,
      el("p", { class: "hint" }, "These encode the picture anew."));
  }

  function opacity() {
    const range = el("input", { type: "range", id: "opacity", min: 0, max: 100, step: 1 });
    const output = el("output", {});
    range.oninput = () => state.set({ opacity: range.value });
    inputs.set("opacity", () => {
      range.value = state.get("opacity");
      output.textContent = `${range.value} %`;
      range.setAttribute("aria-valuetext", output.textContent);
    });
    return el("div", { class: "control slider" }, el("label", { for: "opacity" }, "Opacity"), range, output);
  }

  function resetButton() {
    const button = el("button", { type: "button", id: "reset" }, "Reset settings");
    button.onclick = () => state.set(
      Object.fromEntries(Object.keys(SETTINGS).map((key) => [keyOf(key), null])), { push: true });
    inputs.set("reset", () => {
      button.disabled = !Object.keys(SETTINGS).some((key) => state.has(keyOf(key)));
    });
    return el("div", { class: "control end" }, button);
  }

  function setUpSides() {
    for (const [side, title] of [["a", "A, left"], ["b", "B, right"]]) {
      const input = el("input", { type: "radio", name: "edited", value: side });
      input.checked = side === edited;
      input.onchange = () => edit(side);
      byId("sides").append(el("label", {}, input, el("span", {}, title)));
    }
  }

  function edit(side) {
    edited = side;
    for (const input of byId("sides").querySelectorAll("input")) input.checked = input.value === side;
    update();
  }

  function update() {
    const compared = state.get("split") !== "";
    byId("sides").hidden = !compared;
    if (!compared && edited === "b") return edit("a");
    for (const show of inputs.values()) show();
  }

  return { update, edit };
}
