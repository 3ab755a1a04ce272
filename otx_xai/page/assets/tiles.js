// A tile: one image with its map, its name, and what was predicted.

const CASES = {
  right_sure: ['Right and sure', 'good'],
  right_unsure: ['Right, unsure', 'soft'],
  torn: ['Torn between two', 'warn'],
  wrong: ['Wrong', 'bad'],
  unlabelled: ['Without a label', 'plain'],
  faults: ['With faults', 'bad'],
  clean: ['Without faults', 'good'],
};

function caseName(name) {
  return CASES[name] ? CASES[name][0] : words(name);
}

function caseTone(name) {
  return CASES[name] ? CASES[name][1] : 'plain';
}

function caseDot(name) {
  return make('span', { class: `case-dot tone-${caseTone(name)}`, 'aria-hidden': 'true' });
}

function predictionText(index) {
  if (store.best[index] < 0) return isDetector() ? 'nothing found' : 'no prediction';
  const score = store.score[index];
  return label(store.best[index]) + (isNumber(score) ? ` ${percent(score)}` : '');
}

function givenText(index) {
  return store.given[index].map(label).join(', ');
}

function isRight(index) {
  return store.given[index].includes(store.best[index]);
}

function describe(index) {
  const given = givenText(index);
  return `${store.names[index]}: predicted ${predictionText(index)}${given ? `, label ${given}` : ''}, ${caseName(store.cases[index])}`;
}

function makeTile(open) {
  const canvas = make('canvas', { width: 160, height: 160, 'aria-hidden': 'true' });
  const frame = make('span', { class: 'tile-picture' }, canvas);
  const line = make('span', { class: 'tile-line' });
  const name = make('span', { class: 'tile-name' });
  const button = make('button', { type: 'button', class: 'tile' }, frame, line, name);
  const tile = { button, canvas, line, name, index: -1, choose: null, boxes: false };
  button.addEventListener('click', () => { if (tile.index >= 0) open(tile.index); });
  return tile;
}

function showTile(tile, index, hasty) {
  if (tile.index !== index) {
    tile.index = index;
    tile.canvas.classList.remove('drawn');
    tile.button.title = describe(index);
    tile.name.textContent = store.names[index].replace(/^.*\/(?=.)/s, '');
    const given = givenText(index);
    into(clear(tile.line), caseDot(store.cases[index]), make('span', null, predictionText(index)));
    if (!isDetector() && given && !isRight(index)) into(tile.line, make('span', { class: 'tile-given' }, `label ${given}`));
    into(tile.line, make('span', { class: 'unseen' }, `, ${caseName(store.cases[index])}, `));
  }
  drawTile(tile, index, hasty);
}

// `hasty`: only if all is there; nothing is loaded for what flies past.
function drawTile(tile, index, hasty) {
  const again = hasty ? null : () => { if (tile.index === index && tile.button.isConnected) drawTile(tile, index); };
  const source = thumbOf(index, again);
  const detail = detailOf(index, again);
  if (source === null || detail === null) return;
  const [height, width] = source ? [source.height, source.width] : detail.size;
  const scale = 160 / Math.max(height, width);
  tile.canvas.width = Math.max(1, Math.round(width * scale));
  tile.canvas.height = Math.max(1, Math.round(height * scale));
  const map = tile.choose ? tile.choose(index, detail) : mainMap(index, detail);
  const scene = map && map.map ? map : { map };
  paint(tile.canvas, { source, extent: detail.extent, boxes: isDetector() ? boxesOf(detail, map && map.box) : null, ...scene });
  tile.canvas.classList.add('drawn');
}

const shownTiles = new Set(); // those outside of the grid, to be redrawn when the look changes

function stillTile(index, open, choose) {
  const tile = makeTile(open);
  tile.choose = choose || null;
  shownTiles.add(tile);
  requestAnimationFrame(() => showTile(tile, index));
  return tile.button;
}

function redrawTiles() {
  for (const tile of [...shownTiles]) {
    if (!tile.button.isConnected) shownTiles.delete(tile);
    else if (tile.index >= 0) drawTile(tile, tile.index);
  }
}

// A row of images by index, each opening the viewer on this row.
function strip(indices, { most = 24, choose = null, className = 'strip', more = null } = {}) {
  const shown = indices.slice(0, most);
  const list = make('ul', { class: className });
  shown.forEach((index, place) => into(list, make('li', null, stillTile(index, () => openViewer(indices, place), choose))));
  if (indices.length > shown.length && more) into(list, make('li', null, make('a', { class: 'more', href: more }, `All ${whole(indices.length)}`)));
  return list;
}

function indicesOf(names) {
  return names.map((name) => store.placeOf.get(name)).filter((index) => index !== undefined);
}

function lookControls(changed) {
  const changedAll = () => { redrawTiles(); changed(); };
  const slider = (title, key) => {
    const output = make('output', null, percentWhole(look[key]));
    const input = make('input', {
      type: 'range', min: 0, max: 100, step: 1, value: Math.round(100 * look[key]), 'aria-label': title,
      input: () => { look[key] = Number(input.value) / 100; output.textContent = percentWhole(look[key]); changedAll(); },
    });
    return make('label', { class: 'slider' }, make('span', null, title), input, output);
  };
  const shown = make('input', { type: 'checkbox', class: 'map-shown', change: () => { look.shown = shown.checked; changedAll(); } });
  shown.checked = look.shown;
  return make('div', { class: 'look' }, make('label', { class: 'check' }, shown, 'Maps'), slider('Opacity', 'opacity'), slider('Threshold', 'threshold'));
}

function percentWhole(part) {
  return `${Math.round(100 * part)}${NARROW}%`;
}
