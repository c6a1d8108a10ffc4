// Search by word: images ranked by where the word is strongest. The ranking fills while the search runs;
// a newer word cancels it. Images whose features are not stored are left out until they are encoded.

const EVERY = 700; // milliseconds between two looks at a ranking that fills

export class Search {
  /**
   * @param {object} page state and api of the page
   * @param {function} onRanking called with the order "search:ID", or "" where there is none
   * @param {function} onLine called with the state of the search, to be told
   */
  constructor({ state, api }, onRanking, onLine) {
    Object.assign(this, { state, api, onRanking, onLine });
    this.order = "";
    this.line = null; // {word, searched, of, skipped, running, encoding, fault}
  }

  /** Search this word in the collection of the state; "" ends a search. */
  async begin(word) {
    this.stop();
    this.run = null;
    this.#tell(word ? { word, searched: 0, of: 0, skipped: 0, running: true } : null);
    this.order = "";
    this.onRanking("");
    if (!word) return;
    const mine = (this.run = {});
    let told = 0;
    const onProgress = (line) => {
      if (this.run !== mine) return;
      const skipped = line.skipped_not_encoded ?? this.line.skipped;
      this.#tell({ ...this.line, searched: line.done, of: line.total, skipped });
      if (line.id && (!this.order || performance.now() - told > EVERY)) {
        told = performance.now();
        this.#rank(line.id);
      }
    };
    try {
      const view = this.state.view("a");
      const body = { collection: view.collection, view, word };
      const { about } = await this.api.stream("search", body, { slot: "search", onProgress });
      if (this.run !== mine) return;
      const skipped = about.skipped_not_encoded ?? 0;
      this.#tell({ word, searched: about.searched, of: about.of, skipped, running: false });
      this.#rank(about.id);
    } catch (error) {
      if (this.run !== mine) return;
      const stopped = this.api.isAbort(error);
      this.#tell({ ...this.line, running: false, stopped, fault: stopped ? "" : error.message });
    }
  }

  /** Encode what is not encoded yet, then search again. */
  async encode() {
    const word = this.line?.word;
    const mine = (this.run = {});
    const onProgress = ({ done, total }) => {
      if (this.run === mine) this.#tell({ ...this.line, encoding: { done, total } });
    };
    this.#tell({ ...this.line, encoding: { done: 0, total: this.line.skipped } });
    try {
      const view = this.state.view("a");
      const body = { collection: view.collection, view };
      await this.api.stream("encode", body, { slot: "encode", onProgress });
    } catch (error) {
      if (this.run !== mine) return;
      const fault = this.api.isAbort(error) ? "" : error.message;
      if (fault) return this.#tell({ ...this.line, encoding: null, fault });
    }
    if (this.run === mine) await this.begin(word);
  }

  /** End what runs; what was encoded until now is kept, and searched. */
  stop() {
    if (this.line?.encoding) return this.api.cancel("encode");
    this.run = null;
    this.api.cancel("search");
    if (this.line?.running) this.#tell({ ...this.line, running: false, stopped: true });
  }

  #rank(id) {
    this.order = `search:${id}`;
    this.onRanking(this.order);
  }

  #tell(line) {
    this.line = line;
    this.onLine(line);
  }
}

/** The state of a search as a sentence: "1,200 of 50,000 searched". */
export function sentence(line) {
  if (!line) return "";
  if (line.fault) return line.fault;
  const n = (number) => number.toLocaleString("en");
  if (line.encoding) return `${n(line.encoding.done)} of ${n(line.encoding.total)} encoded`;
  if (line.running && !line.of) return "searching…";
  const ended = line.stopped ? ", then stopped" : "";
  const parts = [`${n(line.searched)} of ${n(line.of)} searched${ended}`];
  if (line.skipped) parts.push(`${n(line.skipped)} ${line.skipped === 1 ? "is" : "are"} not encoded`);
  return parts.join("; ");
}
