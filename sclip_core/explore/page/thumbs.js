// Thumbnails of the cells in view: a few are asked for at a time, those in view before those beside it,
// and what is scrolled past is taken back.

const AT_ONCE = 6;
const REMEMBERED = 3000; // addresses that the browser has in its own cache

export class Thumbs {
  constructor() {
    this.waiting = new Set(); // img elements, the latest at the end
    this.loading = new Set();
    this.had = new Set(); // addresses
  }

  /** Let an img show this address, when it is its turn. `near`: it is in view, not beside it. */
  show(img, address, near) {
    if (img.dataset.wanted === address) {
      if (this.waiting.has(img)) img.dataset.near = near ? "1" : "";
      return;
    }
    this.drop(img);
    img.dataset.wanted = address;
    img.dataset.near = near ? "1" : "";
    if (this.had.has(address)) this.#begin(img);
    else this.waiting.add(img);
  }

  /** The img is needed for something else, or for nothing. */
  drop(img) {
    this.waiting.delete(img);
    this.loading.delete(img);
    delete img.dataset.wanted;
    delete img.dataset.shown;
    if (img.hasAttribute("src")) img.removeAttribute("src"); // this aborts a request under way
  }

  /** Begin what may be asked for now. */
  pump() {
    while (this.loading.size < AT_ONCE && this.waiting.size) {
      const waiting = [...this.waiting];
      this.#begin(waiting.find((img) => img.dataset.near) ?? waiting[0]);
    }
  }

  /** The handlers of a new img. */
  attend(img) {
    img.addEventListener("load", () => {
      if (!img.dataset.wanted) return;
      this.had.add(img.dataset.wanted);
      if (this.had.size > REMEMBERED) this.had.delete(this.had.values().next().value);
      img.dataset.shown = "1";
      this.#ended(img);
    });
    img.addEventListener("error", () => {
      if (img.dataset.wanted) img.dataset.shown = "fault";
      this.#ended(img);
    });
  }

  #begin(img) {
    this.waiting.delete(img);
    this.loading.add(img);
    img.src = img.dataset.wanted;
  }

  #ended(img) {
    this.loading.delete(img);
    this.pump();
  }
}
