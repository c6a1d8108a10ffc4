/** From labels and values to pixels. Pure functions of arrays; all painting is done on this side. */

import { INFERNO } from "./inferno.js";

export const NONE = 65535; // no label, or not evaluated
const WRONG = [214, 47, 60, 255];
const RIGHT = [96, 138, 110, 200];
const DARK = [20, 22, 26, 235];
const LIGHTER = [120, 124, 132, 235];
const STRIPE = 6; // pixels, of the hatching of what is not evaluated
const DIMMED = 40; // of 255: classes that are not the highlighted one

const little = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/** Four bytes as canvas has them, in one number. */
function packed([red, green, blue, alpha]) {
  const parts = little ? [alpha, blue, green, red] : [red, green, blue, alpha];
  return parts.reduce((all, part) => all * 256 + part, 0) >>> 0;
}

const HEAT = Uint32Array.from(INFERNO, (colour) => packed([...colour, 255]));

export function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/**
 * Labels in the colours of their classes.
 * @param {Uint16Array} labels
 * @param {string[]} colours "#rrggbb" of each class
 * @param {number|null} only the class to bring out; the others are dimmed
 * @param {Uint32Array} out
 */
export function paintLabels(labels, colours, only, out) {
  const table = new Uint32Array(NONE + 1);
  colours.forEach((colour, index) => {
    table[index] = packed([...rgb(colour), only === null || only === index ? 255 : DIMMED]);
  });
  for (let i = 0; i < labels.length; i++) out[i] = table[labels[i]];
}

/**
 * Values in inferno from `low` to `high`, which are those of 0 and 1 of the range `from`..`to`.
 * @param {Uint16Array} values
 */
export function paintHeat(values, { from, to, low, high }, out) {
  const table = new Uint32Array(NONE + 1);
  const step = (to - from) / NONE;
  const scale = high > low ? 255 / (high - low) : 0;
  for (let v = 0; v <= NONE; v++) {
    const place = Math.round((from + step * v - low) * scale);
    table[v] = HEAT[place < 0 ? 0 : place > 255 ? 255 : place];
  }
  for (let i = 0; i < values.length; i++) out[i] = table[values[i]];
}

/**
 * Where labels are right, wrong, or not evaluated (hatched).
 * @param {Uint16Array} labels
 * @param {Uint16Array} truth
 * @param {number[]} same class of the labels -> class of the truth
 * @param {number} width
 * @returns {{right: number, wrong: number}} counts of pixels
 */
export function paintErrors(labels, truth, same, width, out) {
  const [right, wrong, dark, lighter] = [RIGHT, WRONG, DARK, LIGHTER].map(packed);
  const counts = { right: 0, wrong: 0 };
  for (let i = 0; i < truth.length; i++) {
    if (truth[i] === NONE) {
      const diagonal = (i % width) + Math.floor(i / width);
      out[i] = diagonal % STRIPE < 2 ? lighter : dark;
    } else if (same[labels[i]] === truth[i]) {
      counts.right++;
      out[i] = right;
    } else {
      counts.wrong++;
      out[i] = wrong;
    }
  }
  return counts;
}

/** The colour bar: a canvas of 256 × 1 pixels. */
export function paintBar(canvas) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(256, 1);
  INFERNO.forEach((colour, i) => image.data.set([...colour, 255], 4 * i));
  context.putImageData(image, 0, 0);
}
