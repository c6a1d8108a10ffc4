/** The line that says what was done, the bar of what is being done, and errors. */

import { byId } from "./dom.js";

const failures = new Map(); // who -> line

/** Says what was done; screen readers are told. */
export function say(text) {
  byId("status-text").textContent = text;
}

/** Shows an error in the page until `who` succeeds. */
export function fail(error, who = "page") {
  failures.set(who, error.message ?? String(error));
  showFailures();
}

export function succeed(who = "page") {
  if (failures.delete(who)) showFailures();
}

function showFailures() {
  const lines = [...new Set(failures.values())];
  byId("failure-text").textContent = lines.join(" · ");
  byId("failure").hidden = !lines.length;
}

/** Progress of `who`: {done, total, what}, or null when it ended. */
export function progress(who, line) {
  if (line) at.set(who, line);
  else at.delete(who);
  const last = [...at.values()].pop();
  const bar = byId("progress");
  bar.hidden = !last;
  byId("progress-text").hidden = !last;
  if (!last) return;
  bar.max = last.total || 1;
  bar.value = last.done;
  byId("progress-text").textContent = `${last.what} ${last.done} of ${last.total}`;
}

const at = new Map();

export function setUpStatus() {
  byId("failure-close").onclick = () => {
    failures.clear();
    showFailures();
  };
}
