// The images of one list (a collection, an order, a part of the name), in pages that are fetched when
// they come into view, kept for a while, and aborted when they have left it before they arrived.

const SIZE = 200; // images of one request
const KEPT = 60; // pages that are kept: 12,000 images
const AGAIN = 2000; // milliseconds before a page that failed is asked for again

export class Pages {
  /**
   * @param {object} api of the page
   * @param {object} query collection, order and find, as /api/images takes them
   * @param {function} onChange called when images have arrived
   * @param {function} onFault called with one line when they could not be had
   */
  constructor(api, query, onChange, onFault) {
    this.api = api;
    this.query = query;
    this.onChange = onChange;
    this.onFault = onFault;
    this.total = null; // not known before the first page
    this.pages = new Map(); // by number, the one used last at the end: {images, stale}
    this.flights = new Map(); // by number: AbortController
    this.failed = new Map(); // by number: when
  }

  /** The image at a place of the list, or undefined while it is not here. */
  at(index) {
    return this.pages.get(Math.floor(index / SIZE))?.images[index % SIZE];
  }

  /** The place of an image among those that are here, or -1. */
  find(id) {
    for (const [number, page] of this.pages) {
      const offset = page.images.findIndex((image) => image.id === id);
      if (offset >= 0) return number * SIZE + offset;
    }
    return -1;
  }

  /** Fetch what is missing of these places, and abort what was asked for of others. */
  want(first, last) {
    const end = this.total === null ? 0 : Math.max(0, Math.ceil(this.total / SIZE) - 1);
    const from = Math.min(Math.max(0, Math.floor(first / SIZE)), end);
    const to = Math.max(from, Math.min(Math.floor(last / SIZE), end));
    for (const [number, flight] of this.flights)
      if (number < from || number > to) {
        flight.abort();
        this.flights.delete(number);
      }
    for (let number = from; number <= to; number++) this.#need(number);
  }

  /** Fetch the page of a place, in view or not, unless it is here. */
  async have(index) {
    if (this.at(index)) return;
    const number = Math.floor(index / SIZE);
    this.#keep(number, await this.api.get("images", this.#params(number)));
  }

  /** What is here may be out of date: it stays in view until its pages have come again. */
  refresh() {
    for (const page of this.pages.values()) page.stale = true;
  }

  /** Nothing comes any more. */
  close() {
    this.onChange = this.onFault = () => {};
    for (const flight of this.flights.values()) flight.abort();
    this.flights.clear();
  }

  #need(number) {
    const page = this.pages.get(number);
    if (page) {
      this.pages.delete(number);
      this.pages.set(number, page);
    }
    if ((page && !page.stale) || this.flights.has(number)) return;
    if (Date.now() - (this.failed.get(number) ?? 0) < AGAIN) return;
    this.#fetch(number);
  }

  #params(number) {
    return { ...this.query, start: number * SIZE, count: SIZE };
  }

  #keep(number, { total, images }) {
    this.total = total;
    this.pages.delete(number);
    this.pages.set(number, { images, stale: false });
    for (const old of this.pages.keys()) {
      if (this.pages.size <= KEPT) break;
      this.pages.delete(old);
    }
  }

  async #fetch(number) {
    const flight = new AbortController();
    this.flights.set(number, flight);
    try {
      const found = await this.api.get("images", this.#params(number), flight.signal);
      if (flight.signal.aborted) return;
      this.flights.delete(number);
      this.failed.delete(number);
      this.#keep(number, found);
      this.onChange();
    } catch (error) {
      if (flight.signal.aborted) return;
      this.flights.delete(number);
      this.failed.set(number, Date.now());
      this.onFault(error.message);
    }
  }
}
