/** Keys, and the page that lists them. */

import { byId, el } from "./dom.js";

const LISTED = [
  ["/", "go to the words"],
  ["g", "all images"],
  ["← →", "previous, next image"],
  ["h", "heat map of a class; again: labels"],
  ["t", "ground truth; again: labels"],
  ["e", "errors; again: labels"],
  ["c", "compare two sides; then arrow keys move the divider"],
  ["+ − 0", "closer, farther, fit"],
  ["arrow keys in the picture", "move the cross (Shift: by a pixel); Enter picks the patch"],
  ["↑ ↓ in the classes", "next class, Enter shows its heat map"],
  ["Esc", "back: out of a field, to the labels, to the images"],
  ["?", "this list"],
  ["wheel, drag", "zoom, move"],
  ["click", "likeness or attention of the patch"],
];

const typing = (target) =>
  target.closest("textarea, select, input:not([type=radio], [type=range], [type=checkbox])") !== null;

/**
 * @param {Object} actions by key: a function of the event; true where it did nothing
 * @param {{stageKeys: Function}} more keys for the picture when it has the focus
 */
export function createHelp(actions, { stageKeys }) {
  const rows = LISTED.map(([keys, what]) =>
    el("tr", {}, el("th", { scope: "row" }, el("kbd", {}, keys)), el("td", {}, what)));
  byId("help-keys").append(el("table", {}, el("tbody", {}, ...rows)));
  const open = () => byId("help").showModal();
  byId("help-button").onclick = open;

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.defaultPrevented || document.querySelector("dialog[open], .menu:popover-open")) return;
    const target = event.target instanceof Element ? event.target : document.body;
    if (event.key === "Escape" && typing(target)) return target.blur();
    if (typing(target)) return;
    if (target.matches("[type=range], [type=radio]") && event.key.startsWith("Arrow")) return;
    if (target.id === "stage" && stageKeys(event)) return event.preventDefault();
    const action = event.key === "?" ? open : actions[event.key];
    if (!action) return;
    event.preventDefault();
    action(event);
  });
}
