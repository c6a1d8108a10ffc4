/** The view, kept in the address: what is shown can be sent, reloaded and gone back to. */

/** Keys of the address that are settings of a side -> the field of View. */
export const SETTINGS = {
  m: "method",
  pamr: "pamr_steps",
  dil: "pamr_dilations",
  scale: "logit_scale",
  prob: "prob_thd",
  area: "area_thd",
  side: "short_side",
  crop: "slide_crop",
  stride: "slide_stride",
};
const NUMBERS = new Set(["pamr", "scale", "prob", "area", "side", "crop", "stride"]);
/** Keys that both sides share -> the default. */
const SHARED = {
  i: "",
  map: "labels",
  word: "",
  low: "",
  high: "",
  at: "",
  order: "name",
  find: "",
  q: "",
  opacity: "60",
  split: "",
};
const WRITE_AFTER = 250; // ms: browsers limit how often the address may be replaced

/** Opens the view of the present address. */
export function createState(about) {
  let values = new Map();
  const listeners = new Set();
  let timer = 0;

  const state = { about, get, set, subscribe, collection, view, has, flush, link };

  function collection() {
    return about.collections.find(({ id }) => id === values.get("c")) ?? about.collections[0] ?? null;
  }

  function defaultOf(key) {
    if (key in SHARED) return SHARED[key];
    if (key === "c") return about.collections[0]?.id ?? "";
    if (key === "w") return collection()?.words ?? "";
    if (key.startsWith("b.")) return get(key.slice(2)); // the second side follows the first
    return collection()?.defaults[SETTINGS[key]] ?? "";
  }

  /** The value in the address, or the default; numbers where the setting is one. */
  function get(key) {
    const own = values.get(key);
    if (own === undefined) return defaultOf(key);
    return NUMBERS.has(key.replace("b.", "")) ? Number(own) : own;
  }

  /** Whether the address has the key, and not only its default. */
  function has(key) {
    return values.has(key);
  }

  /** Changes keys; null: the default. A new collection drops settings and words of the last one. */
  function set(changes, { push = false } = {}) {
    const before = new Map(values);
    if ("c" in changes && changes.c !== get("c")) {
      values = new Map([...values].filter(([key]) => key === "opacity"));
    }
    for (const [key, value] of Object.entries(changes)) {
      values.delete(key);
      // A setting of the second side stays though the first has it too: that may change.
      if (value !== null && (key.startsWith("b.") || String(value) !== String(defaultOf(key)))) {
        values.set(key, String(value));
      }
    }
    const changed = difference(before, values);
    if (!changed.size) return;
    if (push) {
      write(before, "replaceState"); // what was not written yet belongs to the last entry
      write(values, "pushState");
    } else {
      clearTimeout(timer);
      timer = setTimeout(flush, WRITE_AFTER);
    }
    tell(changed);
  }

  function subscribe(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  function tell(changed) {
    for (const listener of [...listeners]) listener(changed);
  }

  /** What the server computes, for a side. */
  function view(side = "a") {
    const prefix = side === "b" ? "b." : "";
    const fields = { collection: get("c"), image: get("i"), words: get("w") };
    for (const [key, field] of Object.entries(SETTINGS)) fields[field] = get(prefix + key);
    return fields;
  }

  function addressOf(entries) {
    // These may stand in a query, and unescaped they can be read.
    const query = new URLSearchParams([...entries]).toString()
      .replace(/%(2C|3A|3B)/g, (escaped) => decodeURIComponent(escaped));
    return query ? `?${query}` : location.pathname;
  }

  function write(entries, how) {
    clearTimeout(timer);
    const address = addressOf(entries);
    if (how === "pushState" || address !== (location.search || location.pathname)) {
      history[how](null, "", address);
    }
  }

  function flush() {
    write(values, "replaceState");
  }

  /** The address of this view, to be sent. */
  function link() {
    return new URL(addressOf(values), location.href).href;
  }

  function read() {
    const known = new Set(["c", "w", ...Object.keys(SHARED), ...Object.keys(SETTINGS)]);
    const found = [...new URLSearchParams(location.search)].filter(([key]) => {
      const bare = key.replace(/^b\./, "");
      return key === bare ? known.has(key) : bare in SETTINGS;
    });
    return new Map(found.filter(([key, value]) => valid(key, value)));
  }

  window.addEventListener("popstate", () => {
    clearTimeout(timer);
    const before = values;
    values = read();
    const changed = difference(before, values);
    if (changed.size) tell(changed);
  });
  window.addEventListener("pagehide", flush);
  values = read();
  return state;
}

function valid(key, value) {
  if (NUMBERS.has(key.replace(/^b\./, ""))) return value !== "" && Number.isFinite(Number(value));
  return true;
}

function difference(before, after) {
  const keys = new Set([...before.keys(), ...after.keys()]);
  return new Set([...keys].filter((key) => before.get(key) !== after.get(key)));
}
