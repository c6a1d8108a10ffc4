/** A second side of the same words beside the first, and the divider between them. */

import { byId, clamp } from "./dom.js";
import { SETTINGS } from "./state.js";

/** @param {Function} edit shows the settings of a side */
export function createCompare(state, { edit }) {
  const divider = byId("divider");
  const stage = byId("stage");

  byId("compare").onclick = toggle;

  function toggle() {
    const on = state.get("split") === "";
    // Without the second side its settings are forgotten; the first side's then hold for it.
    const changes = Object.fromEntries(Object.keys(SETTINGS).map((key) => [`b.${key}`, null]));
    state.set(on ? { split: 50 } : { ...changes, split: null }, { push: true });
    edit(on ? "b" : "a");
  }

  const moveTo = (percent) => state.set({ split: clamp(Math.round(percent), 0, 100) });

  divider.onpointerdown = (event) => {
    divider.setPointerCapture(event.pointerId);
    event.stopPropagation();
  };
  divider.onpointermove = (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = stage.getBoundingClientRect();
    moveTo((100 * (event.clientX - box.left)) / box.width);
  };
  divider.onkeydown = (event) => {
    const step = event.shiftKey ? 10 : 2;
    const now = Number(state.get("split"));
    const to = { ArrowLeft: now - step, ArrowRight: now + step, Home: 0, End: 100 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    moveTo(to);
  };

  function update() {
    const split = state.get("split");
    const on = split !== "";
    const percent = clamp(Number(split) || 0, 0, 100);
    byId("compare").setAttribute("aria-pressed", on);
    for (const id of ["layer-b", "divider", "tag-a", "tag-b"]) byId(id).hidden = !on;
    if (!on) return;
    byId("layer-b").style.clipPath = `inset(0 0 0 ${percent}%)`;
    divider.style.left = `${percent}%`;
    divider.setAttribute("aria-valuenow", percent);
    byId("tag-a").textContent = `A · ${titleOf("a")}`;
    byId("tag-b").textContent = `B · ${titleOf("b")}`;
  }

  function titleOf(side) {
    const view = state.view(side);
    const method = state.about.methods.find(({ name }) => name === view.method)?.title ?? view.method;
    return view.pamr_steps ? `${method}, PAMR ${view.pamr_steps}` : method;
  }

  return { update, toggle };
}
