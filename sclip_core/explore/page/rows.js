// A list of any length as a grid of cells of one size: the rows in view, and few beside them, are in the
// document; a row that leaves is used again. One cell is the stop of the Tab key (roving tabindex).

const BESIDE = 2; // rows above and below what is in view
const HIGHEST = 8_000_000; // pixels; browsers cut off elements of about 17 million
const FAST = 4; // pixels in a millisecond: nobody looks at pictures that pass at this speed
const SETTLED = 90; // milliseconds without scrolling

export class Rows {
  /**
   * @param {HTMLElement} scroller what scrolls; it has a height of its own
   * @param {object} cells makes and fills cells: create(), fill(cell, index, near), clear(cell)
   * @param {function} onView called with the first and the last place in view, once it has settled
   * @param {function} onOpen called with the place that was clicked, or entered
   */
  constructor(scroller, cells, onView, onOpen) {
    Object.assign(this, { scroller, cells, onView, onOpen });
    this.total = 0;
    this.active = 0;
    this.shown = new Map(); // row number -> {el, cells}
    this.spare = [];
    this.floor = document.createElement("div");
    this.floor.className = "grid-floor";
    this.floor.setAttribute("role", "presentation");
    scroller.append(this.floor);
    this.last = { top: 0, time: 0 };
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    scroller.addEventListener("keydown", (event) => this.#key(event));
    scroller.addEventListener("click", (event) => this.#click(event));
    scroller.addEventListener("focusin", (event) => this.#focused(event));
    this.sizes = new ResizeObserver(() => this.#resized());
    this.sizes.observe(scroller);
    this.#measure();
  }

  /** The list has this many places now; `top`: begin again at its first one. */
  resize(total, top) {
    this.total = total;
    this.active = Math.max(0, top ? 0 : Math.min(this.active, total - 1));
    this.#stretch();
    if (top) this.scroller.scrollTop = this.top = 0;
    this.draw();
  }

  /** Make this place the stop of the Tab key, bring it into view and, if asked, focus it. */
  go(index, focus) {
    this.active = Math.max(0, Math.min(index, this.total - 1));
    this.missed = !this.view; // hidden: it is brought into view when there is one
    if (this.missed) return;
    const row = Math.floor(this.active / this.columns);
    const above = row * this.height;
    const below = above + this.height - this.view;
    if (above < this.top) this.#scrollTo(above);
    else if (below > this.top) this.#scrollTo(below);
    this.draw();
    if (focus) this.#cell(this.active)?.el.focus({ preventScroll: true });
  }

  /** Draw what is in view; cells that show it already are left as they are unless `again`. */
  draw(again = true, fast = false) {
    this.drawn = null;
    if (!this.view) return; // it is hidden
    this.top = this.#virtual();
    const from = Math.max(0, Math.floor(this.top / this.height));
    const to = Math.min(this.lines - 1, Math.floor((this.top + this.view) / this.height));
    const needed = new Set();
    for (let r = from - BESIDE; r <= to + BESIDE; r++) if (r >= 0 && r < this.lines) needed.add(r);
    // The row with the focus stays, or the keyboard would lose its place.
    if (this.total) needed.add(Math.floor(this.active / this.columns));
    for (const [number, row] of this.shown) if (!needed.has(number)) this.#release(number, row);
    const shift = this.scroller.scrollTop - this.top;
    for (const number of [...needed].sort((a, b) => a - b)) {
      const fresh = !this.shown.has(number);
      const row = this.shown.get(number) ?? this.#take(number);
      row.el.style.transform = `translateY(${Math.round(number * this.height + shift)}px)`;
      const near = number >= from && number <= to;
      if (fresh || again || near !== row.near) this.#fill(number, row, near);
    }
    const first = from * this.columns;
    if (!fast) this.onView(first, Math.min(this.total, (to + 1) * this.columns) - 1);
  }

  /** Draw with the next frame, once, however often it is asked for. */
  drawSoon() {
    this.drawn ??= requestAnimationFrame(() => this.draw());
  }

  destroy() {
    this.sizes.disconnect();
    clearTimeout(this.settling);
    if (this.drawn) cancelAnimationFrame(this.drawn);
    this.gone = true;
  }

  #measure() {
    const style = getComputedStyle(this.scroller);
    const inner = this.scroller.clientWidth - parseFloat(style.paddingLeft) * 2;
    const width = this.scroller.clientWidth;
    const gap = parseFloat(style.getPropertyValue("--gap")) || 8;
    const aim = width < 600 ? 108 : width < 1000 ? 150 : 178;
    this.columns = width < 260 ? 1 : Math.max(2, Math.floor((inner + gap) / (aim + gap)));
    const cell = Math.max(20, (inner - gap * (this.columns - 1)) / this.columns);
    const caption = parseFloat(style.getPropertyValue("--caption")) || 22;
    this.height = Math.round((cell * 3) / 4) + caption + gap;
    this.view = this.scroller.clientHeight;
    this.scroller.style.setProperty("--columns", this.columns);
    this.scroller.style.setProperty("--thumb", `${Math.round((cell * 3) / 4)}px`);
    this.#stretch();
  }

  #stretch() {
    this.lines = Math.ceil(this.total / this.columns);
    this.whole = this.lines * this.height;
    this.floor.style.height = `${Math.min(this.whole, HIGHEST)}px`;
  }

  #resized() {
    const [top, view, height, before] = [this.top ?? 0, this.view, this.height, this.columns];
    this.view = this.scroller.clientHeight;
    if (!this.view || !this.scroller.clientWidth) return; // what it showed is kept for later
    this.#measure();
    for (const [number, row] of this.shown) this.#release(number, row);
    if (before !== this.columns) this.spare = [];
    // The active cell stays in view if it was, at its height; else what was at the top stays there.
    const above = Math.floor(this.active / before) * height - top;
    const kept = above > -height && above < view;
    const index = kept ? this.active : Math.floor(top / height) * before;
    const room = Math.max(0, Math.min(above, this.view - this.height));
    this.#scrollTo(Math.floor(index / this.columns) * this.height - (kept ? room : 0));
    if (this.missed) this.go(this.active, false);
    else this.draw();
    this.missed = false;
  }

  // A list higher than any element may be is scrolled in proportion.
  #ratio() {
    const high = Math.min(this.whole, HIGHEST);
    return high < this.whole ? (this.whole - this.view) / (high - this.view) : 1;
  }

  #virtual() {
    return this.scroller.scrollTop * this.#ratio();
  }

  #scrollTo(top) {
    this.scroller.scrollTop = Math.max(0, top) / this.#ratio();
    this.top = this.#virtual();
  }

  #scrolled() {
    const time = performance.now();
    const top = this.scroller.scrollTop;
    const speed = Math.abs(top - this.last.top) / Math.max(1, time - this.last.time);
    this.last = { top, time };
    const fast = speed > FAST;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => !this.gone && this.draw(), SETTLED);
    if (this.drawn) cancelAnimationFrame(this.drawn);
    this.drawn = requestAnimationFrame(() => this.draw(false, fast));
  }

  #take(number) {
    const row = this.spare.pop() ?? this.#made();
    let next = null; // rows stand in the document as they do on the screen
    let best = Infinity;
    for (const [other, shown] of this.shown)
      if (other > number && other < best) [next, best] = [shown.el, other];
    this.floor.insertBefore(row.el, next);
    this.shown.set(number, row);
    return row;
  }

  #made() {
    const el = document.createElement("div");
    el.className = "grid-row";
    el.setAttribute("role", "presentation");
    const cells = Array.from({ length: this.columns }, () => this.cells.create());
    el.append(...cells.map((cell) => cell.el));
    return { el, cells, near: false };
  }

  #release(number, row) {
    this.shown.delete(number);
    for (const cell of row.cells) this.cells.clear(cell);
    row.el.remove();
    if (row.cells.length === this.columns) this.spare.push(row);
  }

  #fill(number, row, near) {
    row.near = near;
    row.cells.forEach((cell, c) => {
      const index = number * this.columns + c;
      cell.index = index;
      cell.el.hidden = index >= this.total;
      if (cell.el.hidden) return this.cells.clear(cell);
      cell.el.tabIndex = index === this.active ? 0 : -1;
      cell.el.setAttribute("aria-posinset", index + 1);
      cell.el.setAttribute("aria-setsize", this.total);
      this.cells.fill(cell, index, near);
    });
  }

  #cell(index) {
    return this.shown.get(Math.floor(index / this.columns))?.cells[index % this.columns];
  }

  #indexOf(target) {
    const el = target.closest?.("[aria-posinset]");
    return el ? Number(el.getAttribute("aria-posinset")) - 1 : -1;
  }

  #click(event) {
    const index = this.#indexOf(event.target);
    if (index < 0) return;
    this.go(index, true);
    this.onOpen(index);
  }

  #focused(event) {
    const index = this.#indexOf(event.target);
    if (index < 0 || index === this.active) return;
    this.active = index;
    this.drawSoon();
  }

  #key(event) {
    if (event.altKey || event.shiftKey || !this.total) return;
    const page = Math.max(1, Math.floor(this.view / this.height)) * this.columns;
    const last = this.total - 1;
    const down = (step) => Math.min(last, this.active + step);
    const up = (step) => (this.active - step < 0 ? this.active % this.columns : this.active - step);
    const to = {
      ArrowRight: () => this.active + 1,
      ArrowLeft: () => this.active - 1,
      ArrowDown: () => down(this.columns),
      ArrowUp: () => (this.active < this.columns ? this.active : this.active - this.columns),
      PageDown: () => down(page),
      PageUp: () => up(page),
      Home: () => 0,
      End: () => last,
    }[event.key];
    if (to) this.go(to(), true);
    else if (event.key === "Enter" || event.key === " ") this.onOpen(this.active);
    else return;
    event.preventDefault();
    event.stopPropagation(); // the viewer beside a strip has keys of its own
  }
}
