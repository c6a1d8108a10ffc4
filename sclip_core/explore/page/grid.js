// The grid of a collection's images: any number of them, in an order, or ranked by a word.

import { el } from "./dom.js";
import { createBar, partsOf } from "./gridbar.js";
import { createCells } from "./gridcells.js";
import { Pages } from "./pages.js";
import { Rows } from "./rows.js";
import { Search } from "./search.js";
import { Thumbs } from "./thumbs.js";

const LOOKED_THROUGH = 20; // pages in which an image is looked for whose place is not known

/**
 * @param {HTMLElement} container an empty element with a height of its own
 * @param {object} page state and api of the page; onOpen(id, {point}): opens an image
 * @returns {object} focus(); next(id, delta): a promise of the id of the image delta places after it
 */
export function createGrid(container, { state, api, onOpen }) {
  const thumbs = new Thumbs();
  const search = new Search({ state, api }, ranked, told);
  const bar = createBar({ state, search });
  const scroller = el("div", { class: "grid-scroll", role: "listbox", "aria-label": "Images" });
  const nothing = el("p", { class: "grid-nothing", hidden: true });
  const body = el("div", { class: "grid-body" }, scroller, nothing);
  container.append(el("div", { class: "grid" }, bar.el, body));

  let pages = null;
  let sought = false; // whether the image of the address was brought into view
  let opened = -1; // the place of the image that was opened last
  const list = {
    thumbs,
    at: (index) => pages?.at(index),
    address: ({ id }) => api.url("thumbnail", { collection: state.get("c"), image: id }),
    kind: () => (search.order ? "search" : partsOf(state.get("order")).kind),
    chosen: () => state.get("i"),
  };
  const rows = new Rows(scroller, createCells(list), inView, open);

  function query() {
    const order = search.order || (state.get("q") ? null : state.get("order"));
    return order && { collection: state.get("c"), order, find: state.get("find") };
  }

  /** Another list, from its beginning. */
  function begin() {
    pages?.close();
    pages = null;
    opened = -1;
    rows.resize(0, true);
    const asked = query();
    scroller.setAttribute("aria-busy", "true");
    nothing.hidden = true;
    if (!asked) return bar.count(null);
    pages = new Pages(api, asked, arrived, (line) => bar.count(pages.total, line));
    pages.want(0, 1);
  }

  function told(line) {
    bar.tell(line);
    if (line?.fault) scroller.classList.remove("pale");
    if (line && !line.running && pages) arrived();
  }

  /** A ranking has begun, has grown, or is none. */
  function ranked(order) {
    // A new word: the images of the last one are in view, pale, until its own come.
    scroller.classList.toggle("pale", !order && Boolean(state.get("q")));
    if (!order && state.get("q")) return;
    if (!order) return begin();
    if (pages?.query.order !== order) return begin();
    pages.refresh();
    rows.draw();
    if (!pages.total) pages.want(0, 1);
  }

  function arrived() {
    bar.count(pages.total);
    scroller.setAttribute("aria-busy", "false");
    if (pages.total === null) return;
    const running = search.line?.running;
    nothing.hidden = pages.total > 0 || Boolean(running);
    nothing.textContent = noneFound(state, search);
    if (pages.total !== rows.total) rows.resize(pages.total, false);
    else rows.drawSoon();
    if (!sought && !running) {
      sought = true;
      const place = pages.find(state.get("i"));
      if (place >= 0) rows.go(place, false);
    }
  }

  function inView(first, last) {
    pages?.want(first - rows.columns * 2, last + rows.columns * 4);
    thumbs.pump();
  }

  function open(index) {
    const image = pages?.at(index);
    if (!image) return;
    opened = index;
    onOpen(image.id, { point: image.point ?? null });
  }

  /** The place of an image; an image opened by its address may be anywhere. */
  async function placeOf(id) {
    if (pages.at(opened)?.id === id) return opened;
    for (let start = 0; start < LOOKED_THROUGH; start++) {
      const place = pages.find(id);
      if (place >= 0 || start * 200 >= (pages.total ?? 1)) return place;
      await pages.have(start * 200);
    }
    return -1;
  }

  async function next(id, delta) {
    if (!pages) return null;
    const mine = pages;
    const place = await placeOf(id);
    const to = place + delta;
    if (place < 0 || to < 0 || to >= pages.total) return null;
    await pages.have(to);
    const image = mine === pages ? pages.at(to) : null;
    if (!image) return null;
    opened = to;
    rows.go(to, false);
    return image.id;
  }

  state.subscribe((changed) => {
    bar.draw();
    if (changed.has("q") || (changed.has("c") && state.get("q"))) search.begin(state.get("q"));
    else if (["c", "order", "find"].some((key) => changed.has(key))) begin();
    else if (changed.has("i")) {
      const place = pages?.find(state.get("i")) ?? -1;
      if (place >= 0) rows.go(place, false);
      rows.draw();
    }
  });
  bar.draw();
  if (state.get("q")) search.begin(state.get("q"));
  else begin();
  return { focus: () => rows.go(rows.active, true), next };
}

function noneFound(state, search) {
  if (search.line?.skipped) return "No image is encoded yet: a search reads the features of images.";
  if (state.get("find")) return `No name has “${state.get("find")}” in it.`;
  return "No images.";
}
