/** The grid of images: a plain list for now. */

import { el } from "./dom.js";

export function createGrid(container, { state, api, onOpen }) {
  let ids = [];
  const list = el("div", { class: "plain-grid" });
  container.append(list);

  async function fill() {
    const found = await api.get("images", { collection: state.get("c"), order: state.get("order"), count: 200 });
    ids = found.images.map(({ id }) => id);
    list.replaceChildren(...ids.map((id) => {
      const source = api.url("thumbnail", { collection: state.get("c"), image: id });
      const button = el("button", { type: "button" }, el("img", { src: source, alt: "", loading: "lazy" }), id);
      button.onclick = () => onOpen(id, {});
      return button;
    }));
  }

  state.subscribe((changed) => (changed.has("c") || changed.has("order")) && fill());
  fill();
  return {
    focus: () => list.querySelector("button")?.focus(),
    next: async (id, delta) => ids[ids.indexOf(id) + delta] ?? null,
  };
}
