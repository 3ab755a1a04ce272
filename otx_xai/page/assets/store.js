// The data of the audit. They come as scripts that call otxAudit.add, since a page on a disk may not fetch.

const KEPT_DETAILS = 12;
const KEPT_ATLASES = 4;

const store = {
  content: null,
  page: null,
  count: 0, // images whose rows have come
  names: [],
  cases: [],
  given: [],
  found: [],
  findings: [],
  slices: [],
  best: new Int32Array(0),
  score: new Float32Array(0),
  cells: new Int32Array(0),
  baseline: new Uint8Array(0),
  values: new Map(), // name → Float32Array
  placeOf: new Map(), // name → index, of images that the content names
};

const parts = new Map(); // 'details-3' → value, in the order of their use
const loading = new Map(); // the same → promise

function add(kind, number, text) {
  const value = JSON.parse(text);
  if (kind === 'content') {
    store.content = value.content;
    store.page = value.page;
    store.placeOf = new Map(value.page.places);
    reserve(value.page.count);
  }
  parts.set(`${kind}-${number}`, value);
}

function reserve(count) {
  store.best = new Int32Array(count).fill(-1);
  store.score = new Float32Array(count).fill(NaN);
  store.cells = new Int32Array(3 * count);
  store.baseline = new Uint8Array(count);
}

function takeRows(number) {
  const rows = parts.get(`images-${number}`);
  parts.delete(`images-${number}`);
  const first = number * store.page.chunk;
  rows.names.forEach((name, row) => {
    const index = first + row;
    store.names[index] = name;
    store.cases[index] = rows.cases[row];
    store.given[index] = rows.given[row];
    store.found[index] = rows.found[row];
    store.findings[index] = rows.findings[row];
    store.slices[index] = rows.slices[row];
    store.best[index] = rows.best[row][0];
    store.score[index] = rows.best[row][1] === null ? NaN : rows.best[row][1];
    store.cells.set(rows.cells[row], 3 * index);
    store.baseline[index] = rows.baseline[row];
  });
  for (const [name, column] of Object.entries(rows.values)) {
    if (!store.values.has(name)) store.values.set(name, new Float32Array(store.page.count).fill(NaN));
    const held = store.values.get(name);
    column.forEach((value, row) => { held[first + row] = value === null ? NaN : value; });
  }
  store.count += rows.names.length;
}

function fileOf(kind, number) {
  return `data/${kind}-${String(number).padStart(5, '0')}.${kind === 'thumbs' ? 'jpg' : 'js'}`;
}

function loadScript(path) {
  return new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = path;
    script.onload = () => { script.remove(); resolve(); };
    script.onerror = () => { script.remove(); reject(new Error(`${path} is missing: keep the folder of the page together.`)); };
    document.head.append(script);
  });
}

function loadPicture(address) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Error(`${address} cannot be shown.`));
    picture.src = address;
  });
}

// A sheet is decoded beside the page's own work, and its memory is given back at once when it is forgotten.
async function loadSheet(address) {
  const picture = await loadPicture(address);
  const sheet = await createImageBitmap(picture);
  picture.removeAttribute('src');
  return sheet;
}

async function loadAllRows() {
  const chunks = Math.ceil(store.page.count / store.page.chunk);
  await Promise.all(Array.from({ length: chunks }, async (_, number) => {
    if (!parts.has(`images-${number}`)) await loadScript(fileOf('images', number));
    takeRows(number);
  }));
}

// Returns what is there, or null and loads it; `then` is called when it has come. Without `then` nothing is loaded.
function get(kind, number, then) {
  const key = `${kind}-${number}`;
  if (parts.has(key) && !(kind === 'thumbs' && typeof parts.get(key) === 'string')) {
    const value = parts.get(key);
    if (store.page.kind !== 'single') { // the last one used goes last
      parts.delete(key);
      parts.set(key, value);
    }
    return value;
  }
  if (!then) return null;
  if (!loading.has(key)) loading.set(key, fetchPart(kind, number, key));
  loading.get(key).then(then, complain);
  return null;
}

async function fetchPart(kind, number, key) {
  try {
    if (kind === 'thumbs') parts.set(key, await loadSheet(parts.get(key) || fileOf(kind, number)));
    else await loadScript(fileOf(kind, number));
    if (store.page.kind !== 'single') forget(kind, kind === 'thumbs' ? KEPT_ATLASES : KEPT_DETAILS);
  } finally {
    loading.delete(key);
  }
}

function forget(kind, most) {
  const keys = [...parts.keys()].filter((key) => key.startsWith(kind));
  keys.slice(0, Math.max(0, keys.length - most)).forEach((key) => {
    if (kind === 'thumbs') parts.get(key).close();
    parts.delete(key);
  });
}

function complain(error) {
  const notice = document.getElementById('notice');
  notice.textContent = error.message;
  notice.hidden = false;
}

function chunkOf(index) {
  const { starts } = store.page;
  let [low, high] = [0, starts.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (starts[middle] <= index) low = middle;
    else high = middle;
  }
  return low;
}

function detailOf(index, then) {
  const number = chunkOf(index);
  const chunk = get('details', number, then);
  if (!chunk) return null;
  const row = chunk[index - store.page.starts[number]];
  for (const map of row.maps) if (typeof map.grid === 'string') map.grid = Uint8Array.from(atob(map.grid), (c) => c.charCodeAt(0));
  return row;
}

// Where the thumbnail of an image lies: {picture, x, y, width, height}; null while it loads; undefined where there is none.
function thumbOf(index, then) {
  const cell = store.cells[3 * index];
  if (cell < 0) return undefined;
  const { cells, columns, cell: side } = store.page;
  const picture = get('thumbs', Math.floor(cell / cells), then);
  if (!picture) return null;
  const place = cell % cells;
  return {
    picture,
    x: (place % columns) * side,
    y: Math.floor(place / columns) * side,
    width: store.cells[3 * index + 2],
    height: store.cells[3 * index + 1],
  };
}

function label(target) {
  const known = store.content.labels[target];
  return known === undefined ? (target < 0 ? 'none' : `class ${target}`) : known;
}

function isDetector() {
  return ['detection', 'instance_segmentation'].includes(store.content.task);
}

window.otxAudit = Object.freeze({ add });
