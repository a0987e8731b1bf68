// Pictures by address, decoded once and kept while there is room.

const ROOM = 500e6; // bytes of decoded pictures
const kept = new Map(); // address -> {promise, bitmap, bytes}
let held = 0;

export function peek(url) {
  const entry = kept.get(url);
  if (!entry?.bitmap) return null;
  kept.delete(url); // to the end: used last
  kept.set(url, entry);
  return entry.bitmap;
}

export function load(url) {
  const known = kept.get(url);
  if (known) return known.promise;
  const entry = { bitmap: null, bytes: 0 };
  entry.promise = (async () => {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${response.status}`);
    entry.bitmap = await createImageBitmap(await response.blob());
    entry.bytes = entry.bitmap.width * entry.bitmap.height * 4;
    held += entry.bytes;
    makeRoom();
    return entry.bitmap;
  })();
  entry.promise.catch(() => kept.delete(url));
  kept.set(url, entry);
  return entry.promise;
}

function makeRoom() {
  for (const [url, entry] of kept) {
    if (held <= ROOM) return;
    if (!entry.bitmap) continue;
    kept.delete(url);
    held -= entry.bytes; // the bitmap itself may still be on its way to a canvas: left to the collector
  }
}

export function ready(urls) { return urls.every((url) => kept.get(url)?.bitmap); }

export function loadAll(urls) { return Promise.all(urls.map((url) => load(url).catch(() => null))); }
