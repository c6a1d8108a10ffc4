// One cell of the grid: the thumbnail at the size of its image, a name, a score, and small marks.

import { el } from "./dom.js";

const BOX = 4 / 3; // width to height of the box in which a thumbnail lies

/** A score as the list's order has it: cosines in three digits, IoU in percent in one. */
export function scoreText(score, kind) {
  if (score === null || score === undefined) return "";
  if (kind === "search") return score.toFixed(3);
  return kind === "changed" && score > 0 ? `+${score.toFixed(1)}` : score.toFixed(1);
}

/**
 * @param {object} list at(index): the image there; address(image): of its thumbnail; kind(): of the
 *   order; chosen(): the id of the image that is open; thumbs
 */
export function createCells(list) {
  function create() {
    const img = el("img", { alt: "", decoding: "async", draggable: "false" });
    list.thumbs.attend(img);
    const point = el("span", { class: "grid-point", hidden: true });
    const picture = el("span", { class: "grid-picture" }, img, point);
    const name = el("span", { class: "grid-name" });
    const score = el("span", { class: "grid-score" });
    const mark = el("span", { class: "grid-mark", title: "not encoded yet", hidden: true });
    const box = el("span", { class: "grid-box" }, picture);
    const caption = el("span", { class: "grid-caption" }, mark, name, score);
    const cell = el("div", { class: "grid-cell", role: "option" }, box, caption);
    return { el: cell, img, point, picture, name, score, mark };
  }

  function fill(cell, index, near) {
    const image = list.at(index);
    cell.el.classList.toggle("waits", !image);
    if (!image) return empty(cell, index);
    const [height, width] = image.size;
    const wide = width / height / BOX;
    cell.picture.style.width = `${100 * Math.min(1, wide)}%`;
    cell.picture.style.height = `${100 * Math.min(1, 1 / wide)}%`;
    cell.name.textContent = image.id;
    const score = scoreText(image.score, list.kind());
    cell.score.textContent = score;
    cell.mark.hidden = image.encoded !== false; // null: not known
    cell.point.hidden = !image.point;
    if (image.point) {
      cell.point.style.top = `${(100 * (image.point[0] + 0.5)) / height}%`;
      cell.point.style.left = `${(100 * (image.point[1] + 0.5)) / width}%`;
    }
    const said = [image.id, score && `score ${score}`, image.encoded === false && "not encoded"];
    cell.el.setAttribute("aria-label", said.filter(Boolean).join(", "));
    cell.el.setAttribute("aria-selected", String(image.id === list.chosen()));
    list.thumbs.show(cell.img, list.address(image), near);
  }

  function empty(cell, index) {
    list.thumbs.drop(cell.img);
    cell.picture.style.width = cell.picture.style.height = "100%";
    cell.name.textContent = cell.score.textContent = "";
    cell.mark.hidden = cell.point.hidden = true;
    cell.el.setAttribute("aria-label", `image ${(index + 1).toLocaleString("en")}, loading`);
    cell.el.setAttribute("aria-selected", "false");
  }

  return { create, fill, clear: (cell) => list.thumbs.drop(cell.img) };
}
