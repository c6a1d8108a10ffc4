/** Starts the page: the parts, what they tell each other, and the image that is open. */

import * as api from "./api.js";
import { createCompare } from "./compare.js";
import { createControls } from "./controls.js";
import { byId, el } from "./dom.js";
import { createGrid } from "./grid.js";
import { createHelp } from "./help.js";
import { createMenu } from "./menu.js";
import { createSide } from "./side.js";
import { createState } from "./state.js";
import { fail, say, setUpStatus, succeed } from "./status.js";
import { createViewer } from "./viewer.js";
import { createWords } from "./words.js";

const WHERE = { stored: "features from the store", memory: "features in memory", now: "encoded now" };

setUpStatus();
api.get("about").then(start, fail);

function start(about) {
  const state = createState(about);
  const sides = {};
  for (const name of ["a", "b"]) sides[name] = createSide(name, state, byId(`layer-${name}`), painted);
  [sides.a.other, sides.b.other] = [sides.b, sides.a];
  const viewer = createViewer(state, sides);
  const words = createWords(state, sides);
  const controls = createControls(state);
  const compare = createCompare(state, controls);
  const grid = createGrid(byId("grid"), { state, api, onOpen: open });
  let opened = ""; // collection and image of which the picture is shown
  createMenu(state, { onUploaded });
  createHelp(actions(), { stageKeys });
  setUpTop();
  state.subscribe(update);
  update();

  function painted(side) {
    words.showLegend();
    viewer.onPainted();
    tellStatus(sides, state, say);
  }

  /** Opens an image; found by a word, it is shown with the word, or with the patch that is most like it. */
  function open(id, { point = null } = {}) {
    const found = state.get("q");
    const asked = new Set(state.get("w").split(/[;,]/).map((word) => word.trim()));
    const changes = { i: id, at: null, low: null, high: null };
    if (["likeness", "attention"].includes(state.get("map"))) changes.map = null;
    if (point && found && asked.has(found)) Object.assign(changes, { map: "heat", word: found });
    else if (point) Object.assign(changes, { map: "likeness", at: point.join(",") });
    state.set(changes, { push: true });
    if (!byId("grid").offsetParent) byId("image-name").focus();
  }

  async function update() {
    const isOpen = state.get("i") !== "";
    byId("main").dataset.view = isOpen ? "image" : "grid";
    byId("collection").value = state.get("c");
    compare.update();
    controls.update();
    words.update();
    viewer.update();
    if (!isOpen) return leave();
    const wanted = `${state.get("c")}\n${state.get("i")}`;
    if (wanted !== opened) await openImage(wanted);
    else refresh();
  }

  function refresh() {
    sides.a.refresh();
    if (state.get("split") !== "") sides.b.refresh();
    else sides.b.stop();
  }

  function leave() {
    opened = "";
    for (const side of Object.values(sides)) side.stop();
    document.title = "sclip explore";
    byId("image-name").textContent = "";
    say("");
  }

  async function openImage(wanted) {
    opened = wanted;
    for (const side of Object.values(sides)) side.stop();
    byId("image-name").textContent = state.get("i");
    document.title = `${state.get("i")} · sclip explore`;
    try {
      const image = await api.get("image", { collection: state.get("c"), image: state.get("i") });
      if (opened !== wanted) return;
      succeed("image");
      if (state.get("c") === "uploads") byId("image-name").textContent = image.file;
      for (const side of Object.values(sides)) side.setImage(image);
      viewer.setImage(image);
      viewer.update();
      refresh();
    } catch (error) {
      if (opened === wanted) fail(error, "image");
    }
  }

  async function onUploaded({ collection, image }) {
    if (!about.collections.some(({ id }) => id === collection)) {
      Object.assign(about, await api.get("about"));
      fillCollections();
    }
    const words = state.get("w"); // the words that one looks for are looked for in the new picture
    state.set({ c: collection, i: image, w: words }, { push: true });
  }

  function fillCollections() {
    byId("collection").replaceChildren(...about.collections.map(({ id, title, images }) =>
      el("option", { value: id }, `${title} (${images.toLocaleString("en")})`)));
    byId("collection").value = state.get("c");
  }

  async function walk(delta) {
    if (state.get("i") === "") return;
    const id = await grid.next(state.get("i"), delta);
    if (id !== null) open(id);
  }

  function setUpTop() {
    fillCollections();
    byId("collection").onchange = (event) => state.set({ c: event.target.value }, { push: true });
    byId("to-grid").onclick = toGrid;
    byId("previous").onclick = () => walk(-1);
    byId("next").onclick = () => walk(1);
    if (matchMedia("(max-width: 699px)").matches) byId("settings-part").open = false;
  }

  function toGrid() {
    state.set({ i: null }, { push: true });
    grid.focus();
  }

  function toggleMap(map) {
    if (state.get("i") === "") return;
    viewer.show(state.get("map") === map ? "labels" : map);
  }

  function actions() {
    return {
      "/": focusWords,
      g: toGrid,
      ArrowLeft: () => walk(-1),
      ArrowRight: () => walk(1),
      h: () => toggleMap("heat"),
      t: () => state.collection()?.has_truth && toggleMap("truth"),
      e: () => state.collection()?.has_truth && toggleMap("errors"),
      c: () => state.get("i") !== "" && startCompare(),
      "+": () => viewer.stage.zoom(1.3),
      "=": () => viewer.stage.zoom(1.3),
      "-": () => viewer.stage.zoom(1 / 1.3),
      0: () => viewer.stage.fit(),
      Escape: back,
    };
  }

  function focusWords() {
    if (state.get("i") === "") return document.querySelector("#grid input")?.focus();
    byId("words").focus();
    byId("words").select();
  }

  function startCompare() {
    compare.toggle();
    if (state.get("split") !== "") byId("divider").focus();
  }

  function back() {
    if (state.get("i") === "" || viewer.dropCursor()) return;
    if (state.get("map") !== "labels") viewer.show("labels");
    else toGrid();
  }

  function stageKeys({ key, shiftKey }) {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
    if (by) viewer.moveCursor(...by, shiftKey);
    else if (key === "Enter") viewer.pickCursor();
    return Boolean(by) || key === "Enter";
  }
}

/** What was computed, how fast, and what is missing for the chosen map. */
function tellStatus({ a, b }, state, tell) {
  const map = state.get("map");
  const two = state.get("split") !== "" && b.labels;
  const parts = [];
  if (a.labels) {
    const count = a.labels.classes.length;
    const time = ({ ms }) => `${Math.round(ms)} ms`;
    const times = two ? `A ${time(a)}, B ${time(b)}` : time(a);
    parts.push(`${count} ${count === 1 ? "class" : "classes"}, ${times}`);
    parts.push(WHERE[a.labels.encoded] ?? "");
  } else if (!state.get("w").trim()) parts.push("Type words to label the picture");
  if (map === "heat" && !state.get("word")) parts.push("click a class for its heat map");
  if (["likeness", "attention"].includes(map) && !state.get("at")) parts.push("click a patch of the picture");
  if (map === "errors" && a.truth && !a.truth.comparable) {
    parts.push("errors need the words of the ground truth (Collection's words)");
  }
  const wrong = (side) => {
    const { right, wrong: bad } = side.counts;
    return `${((100 * bad) / Math.max(1, right + bad)).toFixed(1)} %`;
  };
  if (a.counts) parts.push(`wrong pixels: ${two && b.counts ? `A ${wrong(a)}, B ${wrong(b)}` : wrong(a)}`);
  tell(parts.filter(Boolean).join(" · "));
}
