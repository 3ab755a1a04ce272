// One image, large: any stored map over it, the original where there is one, boxes, scores, and what was found.

const viewer = { list: [], place: 0, dialog: null, shown: 0, other: -1, original: null, opener: null };

function openViewer(list, place) {
  viewer.list = list;
  viewer.opener = document.activeElement;
  if (!viewer.dialog) buildViewer();
  viewer.dialog.showModal();
  document.body.classList.add('behind');
  goTo(place);
}

function buildViewer() {
  const button = (text, name, action) => make('button', { type: 'button', class: 'icon', 'aria-label': name, title: name, click: action }, text);
  viewer.position = make('span', { class: 'muted' });
  viewer.title = make('h2', { id: 'viewer-title', tabindex: -1, autofocus: true });
  viewer.stage = make('div', { class: 'stage' });
  viewer.facts = make('div', { class: 'facts' });
  viewer.tools = make('div', { class: 'tools' });
  viewer.dialog = make('dialog', { class: 'viewer', 'aria-labelledby': 'viewer-title', close: onViewerClosed, keydown: onViewerKey, click: (event) => { if (event.target === viewer.dialog) viewer.dialog.close(); } },
    make('div', { class: 'viewer-inner' },
      make('div', { class: 'viewer-head' }, viewer.title, viewer.position,
        button('‹', 'Previous image (left arrow)', () => goTo(viewer.place - 1)), button('›', 'Next image (right arrow)', () => goTo(viewer.place + 1)), button('×', 'Close (Esc)', () => viewer.dialog.close())),
      make('div', { class: 'viewer-body' }, make('div', { class: 'viewer-left' }, viewer.stage, viewer.tools), viewer.facts)));
  into(document.body, viewer.dialog);
}

function onViewerClosed() {
  document.body.classList.remove('behind');
  viewer.original = null;
  clear(viewer.stage);
  if (viewer.opener && viewer.opener.isConnected) viewer.opener.focus({ preventScroll: true });
}

function onViewerKey(event) {
  if (event.target.matches('input, select') || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (step) goTo(viewer.place + step);
  else if (event.key === 'o') { look.shown = !look.shown; showStage(); redrawTiles(); showTools(); }
  else return;
  event.preventDefault();
}

function goTo(place) {
  if (place < 0 || place >= viewer.list.length) return;
  viewer.place = place;
  viewer.original = null;
  const index = viewer.list[place];
  viewer.title.textContent = store.names[index];
  viewer.position.textContent = `${whole(place + 1)} of ${whole(viewer.list.length)}`;
  showImage(index);
}

function showImage(index) {
  const again = () => { if (viewer.dialog.open && viewer.list[viewer.place] === index) showImage(index); };
  const detail = detailOf(index, again);
  if (!detail) return;
  viewer.detail = detail;
  viewer.index = index;
  viewer.shown = Math.max(0, detail.maps.indexOf(mainMap(index, detail)));
  const own = detail.maps[viewer.shown];
  viewer.other = own ? detail.maps.findIndex((map) => map.baseline && map.target === own.target) : -1;
  if (detail.link) {
    loadPicture(detail.link).then((picture) => {
      if (viewer.list[viewer.place] !== index || !viewer.dialog.open) return;
      viewer.original = picture;
      showStage();
    }, () => { if (viewer.list[viewer.place] === index) viewer.note = 'The original cannot be shown here; this is its thumbnail.'; });
  }
  viewer.note = '';
  showStage();
  showTools();
  showFacts();
  say(describe(index));
}

function mapName(detail, map) {
  const found = map.box >= 0 ? detail.found[map.box] : null;
  const what = found ? `box ${map.box + 1}: ${label(map.target)}` : label(map.target);
  const why = found ? '' : [
    map.target === store.best[viewer.index] ? 'predicted' : '',
    store.given[viewer.index].includes(map.target) ? 'label' : '',
  ].filter(Boolean).join(', ');
  return what + (why ? ` (${why})` : '') + (map.baseline ? ' – baseline' : '');
}

function sourceOf(index, then) {
  const picture = viewer.original;
  if (picture) return { picture, x: 0, y: 0, width: picture.naturalWidth, height: picture.naturalHeight };
  return thumbOf(index, then);
}

function showStage() {
  const { detail, index } = viewer;
  const source = sourceOf(index, () => { if (viewer.index === index && viewer.dialog.open) showStage(); });
  if (source === null) return;
  const map = detail.maps[viewer.shown] || null;
  const other = detail.maps[viewer.other] || null;
  const boxes = boxesOf(detail, map ? map.box : -1);
  const panels = other
    ? [[mapName(detail, map), { map }], [mapName(detail, other), { map: other }], ['Difference', { map, before: other }]]
    : [[map ? mapName(detail, map) : 'No map is stored', { map }]];
  clear(viewer.stage).classList.toggle('three', panels.length === 3);
  for (const [title, scene] of panels) into(viewer.stage, panel(title, { ...scene, source, boxes, extent: detail.extent }, detail.size, panels.length === 3 ? 480 : 960));
  const scale = other ? colourScale(BLUE_RED, 'only the second', 'only the first') : colourScale(INFERNO, 'low', 'high');
  if (map) into(viewer.stage, make('p', { class: 'legend' }, scale, viewer.note ? make('span', { class: 'muted' }, viewer.note) : null));
}

function sized(title, [height, width], side) {
  const scale = side / Math.max(height, width);
  return make('canvas', { role: 'img', 'aria-label': title, width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) });
}

function panel(title, scene, size, side) {
  const canvas = sized(title, size, side);
  paint(canvas, scene);
  return make('figure', { class: 'panel' }, canvas, make('figcaption', null, title));
}

function showTools() {
  const { detail } = viewer;
  const choice = (title, selected, none, changed) => {
    const select = make('select', { 'aria-label': title, change: () => { changed(Number(select.value)); showStage(); } },
      none ? make('option', { value: -1 }, none) : null, detail.maps.map((map, place) => make('option', { value: place }, mapName(detail, map))));
    select.value = String(selected);
    return make('label', { class: 'choice' }, make('span', null, title), select);
  };
  clear(viewer.tools);
  if (detail.maps.length) into(viewer.tools, choice('Map of', viewer.shown, null, (place) => { viewer.shown = place; }));
  if (detail.maps.length > 1) into(viewer.tools, choice('Compare with', viewer.other, 'nothing', (place) => { viewer.other = place; }));
  if (detail.maps.length) into(viewer.tools, lookControls(showStage));
  if (detail.found.length || detail.objects.length) {
    const input = make('input', { type: 'checkbox', change: () => { look.boxes = input.checked; showStage(); redrawTiles(); } });
    input.checked = look.boxes;
    into(viewer.tools, make('label', { class: 'check' }, input, 'Boxes'));
  }
}

function showFacts() {
  const { detail, index } = viewer;
  const rows = [
    ['Case', make('span', { class: 'case' }, caseDot(store.cases[index]), caseName(store.cases[index]))],
    ['Label', givenText(index) || make('span', { class: 'muted' }, 'none')],
    ['Size', `${detail.size[1]} × ${detail.size[0]}`],
    ...[...store.values].filter(([, column]) => isNumber(column[index])).map(([name, column]) => [words(name), plainNumber(column[index])]),
  ];
  into(clear(viewer.facts), make('dl', { class: 'pairs' }, rows.map(([term, value]) => [make('dt', null, term), make('dd', null, value)])));
  if (detail.best.length) into(viewer.facts, make('h3', null, 'Scores'), scoreBars(detail.best, store.given[index]));
  if (detail.found.length) into(viewer.facts, make('h3', null, 'Found'), boxTable(detail.found, true));
  if (detail.objects.length) into(viewer.facts, make('h3', null, 'Annotated'), boxTable(detail.objects, false));
  if (store.findings[index].length) {
    into(viewer.facts, make('h3', null, 'Findings'), make('ul', { class: 'plain' }, store.findings[index].map((place) => {
      const finding = store.content.findings[place];
      return finding ? make('li', null, stateBadge(finding.state), ' ', make('a', { href: `#/finding/${place}`, click: () => viewer.dialog.close() }, finding.statement)) : null;
    })));
  }
  if (detail.link) into(viewer.facts, make('p', null, make('a', { href: detail.link, target: '_blank', rel: 'noopener noreferrer' }, 'Open the original')));
}

function scoreBars(best, given) {
  return make('ul', { class: 'scores' }, best.slice(0, 10).map(([target, score]) => {
    const bar = make('span', { class: 'score-fill' });
    bar.style.width = `${100 * Math.min(1, score || 0)}%`;
    return make('li', { class: given.includes(target) ? 'is-given' : null },
      make('span', { class: 'score-name' }, label(target), given.includes(target) ? make('span', { class: 'tag' }, 'label') : null),
      make('span', { class: 'score-number' }, percent(score)), make('span', { class: 'score-track', 'aria-hidden': 'true' }, bar));
  }));
}

function boxTable(boxes, scored) {
  return make('table', { class: 'boxes' }, make('tbody', null, boxes.map(([target, , , , , score, fault], place) => make('tr', null,
    make('td', { class: 'number' }, place + 1), make('td', null, label(target)), scored ? make('td', { class: 'number' }, isNumber(score) ? score.toFixed(2) : '–') : null,
    make('td', null, fault ? make('span', { class: 'tag bad' }, words(fault).toLowerCase()) : '')))));
}
