/** Elements made without HTML text: data reaches the page as text nodes and attributes only. */

/**
 * An element.
 * @param {string} tag
 * @param {Object} attributes null or false: left out; true: empty; functions are set as properties.
 * @param {...(Node|string|null)} children strings become text.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** The same function, called once, `ms` (or what it gives) after the last of several calls; `.now(...)` at once. */
export function debounced(ms, work) {
  let timer = 0;
  const later = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), typeof ms === "function" ? ms() : ms);
  };
  later.now = (...given) => {
    clearTimeout(timer);
    work(...given);
  };
  later.stop = () => clearTimeout(timer);
  return later;
}

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** A number in few characters: 0.2314, 31.5, 1200. */
export function short(value) {
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  return size >= 10 ? value.toFixed(1) : value.toFixed(size >= 1 ? 2 : 3);
}

/** A small square of a class's colour. */
export function swatch(colour) {
  const square = el("span", { class: colour ? "swatch" : "swatch none" });
  if (colour) square.style.backgroundColor = colour;
  return square;
}
