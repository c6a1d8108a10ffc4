/** Requests to the server of this page: JSON, and streamed answers with progress and a payload. */

/** Random id of this tab; a newer input of the same tab replaces the older one on the server. */
export const client = [...crypto.getRandomValues(new Uint8Array(12))]
  .map((byte) => byte.toString(16).padStart(2, "0"))
  .join("");

const running = new Map(); // slot -> AbortController

export const isAbort = (error) => error?.name === "AbortError";

const superseded = () => new DOMException("a newer input came", "AbortError");

/** The address of an endpoint; parameters that are null are left out. */
export function url(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined) query.set(name, value);
  }
  const text = query.toString();
  return `/api/${path}${text ? `?${text}` : ""}`;
}

export const get = (path, params = {}, signal = undefined) => json(url(path, params), { signal });

export const post = (path, body, signal = undefined) => json(url(path), { ...asJson(body), signal });

/** Sends the bytes of a picture; gives its collection and id. */
export const upload = (name, bytes) =>
  json(url("upload", { name }), {
    method: "POST",
    headers: { "content-type": "application/octet-stream" },
    body: bytes,
  });

export function cancel(slot) {
  running.get(slot)?.abort();
  running.delete(slot);
}

/**
 * A heavy request.
 * @returns {Promise<{about: Object, blob: ArrayBuffer}>} rejects with an Error of one line, or, where
 *   a newer call of the slot or `cancel` came first, with one that `isAbort` knows.
 */
export async function stream(path, body, { slot = path, onProgress = () => {} } = {}) {
  cancel(slot);
  const controller = new AbortController();
  running.set(slot, controller);
  try {
    const response = await reach(url(path), { ...asJson({ client, ...body }), signal: controller.signal });
    if (!response.ok) throw new Error(await lineOf(response));
    return await answerOf(response.body.getReader(), onProgress);
  } finally {
    if (running.get(slot) === controller) running.delete(slot);
  }
}

const asJson = (body) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});

async function json(address, options) {
  const response = await reach(address, options);
  if (!response.ok) throw new Error(await lineOf(response));
  return response.json();
}

async function reach(address, options) {
  try {
    return await fetch(address, options);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Error("the server does not answer: is sclip explore still running?");
  }
}

async function lineOf(response) {
  try {
    return (await response.json()).error ?? `the server answered ${response.status}`;
  } catch {
    return `the server answered ${response.status}`;
  }
}

/** Reads lines of JSON until the answer, then its payload. */
async function answerOf(reader, onProgress) {
  const decoder = new TextDecoder();
  let rest = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("the server ended its answer early");
    rest = joined([rest, value]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = JSON.parse(decoder.decode(rest.subarray(0, end)));
      rest = rest.subarray(end + 1);
      if (line.kind === "progress") onProgress(line);
      else if (line.kind === "answer") return { about: line, blob: await payload(reader, rest, line.bytes) };
      else if (line.kind === "cancelled") throw superseded();
      else throw new Error(line.error ?? "the server sent a line that this page does not know");
    }
  }
}

async function payload(reader, first, size) {
  const bytes = new Uint8Array(size);
  let have = Math.min(first.length, size);
  bytes.set(first.subarray(0, have));
  while (have < size) {
    const { done, value } = await reader.read();
    if (done) throw new Error("the server ended its answer early");
    bytes.set(value.subarray(0, size - have), have);
    have += value.length;
  }
  return bytes.buffer;
}

function joined(parts) {
  if (!parts[0].length) return parts[1];
  const all = new Uint8Array(parts[0].length + parts[1].length);
  all.set(parts[0]);
  all.set(parts[1], parts[0].length);
  return all;
}
