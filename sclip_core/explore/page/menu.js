/** Copying, saving, and opening one's own picture. */

import * as api from "./api.js";
import { byId, el } from "./dom.js";
import { fail, progress, say, succeed } from "./status.js";

const TOAST = 4000; // ms

/** @param {Function} onUploaded called with {collection, image} */
export function createMenu(state, { onUploaded }) {
  let timer = 0;
  let chosen = "a"; // the side, where two are compared

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.onclick = () => tried("copy", () => copy(button.dataset.copy));
  }
  for (const button of document.querySelectorAll("[data-save]")) {
    button.onclick = () => tried("save", () => save(button.dataset.save));
  }
  byId("save-menu").addEventListener("beforetoggle", () => {
    byId("save-heat").hidden = state.get("map") !== "heat" || !state.get("word");
    byId("save-heat").textContent = `Save heat map of ${state.get("word")}`;
  });
  for (const group of document.querySelectorAll("[data-sides]")) setUpSides(group);
  setUpUpload();

  const side = () => (state.get("split") === "" ? "a" : chosen);

  function setUpSides(group) {
    const menu = group.closest(".menu");
    for (const [value, title] of [["a", "A, left"], ["b", "B, right"]]) {
      const input = el("input", { type: "radio", name: `side-of-${menu.id}`, value });
      input.onchange = () => { chosen = value; };
      group.append(el("label", {}, input, el("span", {}, title)));
    }
    menu.addEventListener("beforetoggle", () => {
      group.hidden = state.get("split") === "";
      for (const input of group.querySelectorAll("input")) input.checked = input.value === chosen;
    });
  }

  async function tried(who, work) {
    for (const menu of document.querySelectorAll(".menu:popover-open")) menu.hidePopover();
    try {
      await work();
      succeed(who);
    } catch (error) {
      if (!api.isAbort(error)) fail(error, who);
    } finally {
      progress(who, null);
    }
  }

  async function copy(what) {
    if (what === "link") {
      state.flush();
      return put(state.link());
    }
    const texts = await api.post("commands", { view: state.view(side()), client: api.client });
    return put(texts[what]);
  }

  async function put(text) {
    try {
      await navigator.clipboard.writeText(text);
      toast(`Copied: ${text}`);
    } catch {
      byId("copied-text").value = text;
      byId("copied").showModal();
      byId("copied-text").select();
    }
  }

  function toast(text) {
    const box = byId("toast");
    box.textContent = text;
    box.hidden = false;
    clearTimeout(timer);
    timer = setTimeout(() => { box.hidden = true; }, TOAST);
  }

  async function save(what) {
    const body = { view: state.view(side()), side: side(), what };
    if (what === "heat") body.word = state.get("word");
    const onProgress = (line) => progress("save", line);
    const { about, blob } = await api.stream("save", body, { slot: "save", onProgress });
    const address = URL.createObjectURL(new Blob([blob], { type: about.type }));
    const link = document.createElement("a");
    Object.assign(link, { href: address, download: about.name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
    say(`saved ${about.name}`);
  }

  function setUpUpload() {
    const input = byId("upload");
    byId("upload-button").onclick = () => input.click();
    input.onchange = () => {
      if (input.files[0]) send(input.files[0]);
      input.value = "";
    };
    const drop = byId("drop");
    const files = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    addEventListener("dragenter", (event) => { drop.hidden = !files(event); });
    addEventListener("dragover", (event) => files(event) && event.preventDefault());
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.hidden = true; });
    addEventListener("drop", (event) => {
      drop.hidden = true;
      const [file] = event.dataTransfer?.files ?? [];
      if (!file) return;
      event.preventDefault();
      send(file);
    });
    addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
      if (file) send(file);
    });
  }

  const send = (file) => tried("upload", async () => {
    const most = state.about.limits.upload_bytes;
    if (file.size > most) {
      throw new Error(`${file.name} has ${megabytes(file.size)} MB: at most ${megabytes(most)} MB can be uploaded`);
    }
    say(`uploading ${file.name}`);
    await onUploaded(await api.upload(file.name || "picture", file));
  });
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(0);
