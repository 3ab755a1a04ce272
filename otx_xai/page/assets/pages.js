// Which view is shown, the keyboard, and the start.

const VIEWS = [
  { id: 'overview', title: 'Overview', show: showOverview, has: () => true },
  { id: 'images', title: 'Images', show: showImages, has: () => store.page.count > 0, count: () => whole(store.page.count), print: false },
  { id: 'confusion', title: 'Confusion', show: showConfusion, has: (content) => content.confusion && content.confusion.pairs.length },
  { id: 'classes', title: 'Classes', show: showClasses, has: (content) => content.per_class.length, count: (content) => whole(content.per_class.length) },
  { id: 'slices', title: 'Slices', show: showSlices, has: (content) => content.slices.length, count: (content) => whole(content.slices.length) },
  { id: 'calibration', title: 'Calibration', show: showCalibration, has: (content) => content.calibration },
  { id: 'drift', title: 'Drift', show: showDrift, has: (content) => content.drift },
  { id: 'clusters', title: 'Clusters', show: showClusters, has: (content) => content.clusters.length, count: (content) => whole(content.clusters.length) },
  { id: 'labels', title: 'Labels to review', show: showLabels, has: (content) => content.label_review.length, count: (content) => whole(content.label_review.length) },
  { id: 'gates', title: 'Gates', show: showGates, has: (content) => content.gates.length, count: (content) => { const failed = content.gates.filter((gate) => !gate.passed).length; return failed ? `${failed} failed` : ''; } },
  { id: 'about', title: 'About', show: showAbout, has: () => true },
];

const KEYS = [
  ['/', 'search images'],
  ['1 to 9', 'images of a case, in the order of the buttons; 0: all'],
  ['arrows', 'move among images; previous and next in the large view'],
  ['Enter', 'open an image'],
  ['o', 'maps on and off'],
  ['Esc', 'close, clear the search'],
];

function shownViews() {
  return VIEWS.filter((view) => view.has(store.content));
}

function whereTo() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [id, ...rest] = path.split('/');
  return { id: id || 'overview', rest, parameters: new URLSearchParams(query || '') };
}

function replaceHash(id, parameters) {
  const query = parameters.toString();
  history.replaceState(null, '', `#/${id}${query ? `?${query}` : ''}`);
}

function showView() {
  const main = document.getElementById('main');
  const { id, rest, parameters } = whereTo();
  if (grid) { grid.close(); grid = null; }
  if (sight) { sight.disconnect(); sight = null; }
  shownTiles.clear();
  clear(main);
  main.className = `view-${id}`;
  const view = shownViews().find((one) => one.id === id);
  if (id === 'finding') showFinding(main, parameters, rest[0]);
  else (view || VIEWS[0]).show(main, parameters);
  const current = view ? id : 'overview';
  document.querySelectorAll('#nav a').forEach((link) => {
    if (link.dataset.view === current) { link.setAttribute('aria-current', 'page'); link.scrollIntoView({ block: 'nearest', inline: 'nearest' }); } else link.removeAttribute('aria-current');
  });
  const title = main.querySelector('h1');
  document.title = `${id === 'overview' ? '' : `${title ? title.textContent : ''} – `}${store.content.title} – audit`;
}

function buildNav() {
  into(document.getElementById('nav'), ...shownViews().map((view) => {
    const link = make('a', { href: `#/${view.id}` }, make('span', null, view.title), view.count && view.count(store.content) ? make('span', { class: 'nav-count' }, view.count(store.content)) : null);
    link.dataset.view = view.id;
    return make('li', null, link);
  }));
  const when = String(store.content.created || '').replace('T', ' ').replace(/:\d\d(\.\d+)?Z?$/, '');
  into(document.getElementById('keys'), make('span', null, when), make('a', { href: '#/about' }, 'Keys and meaning'));
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || (viewer.dialog && viewer.dialog.open)) return;
  const typing = event.target.matches('input[type="search"], select, input[type="text"]');
  if (event.key === 'Escape' && event.target.id === 'search') { event.target.value = ''; event.target.dispatchEvent(new Event('input')); event.target.blur(); return; }
  if (typing) return;
  if (event.key === '/') { event.preventDefault(); toImages(null, () => document.getElementById('search').focus()); }
  else if (event.key >= '0' && event.key <= '9') pickCase(Number(event.key));
  else if (event.key === 'o') { look.shown = !look.shown; document.querySelectorAll('.map-shown').forEach((box) => { box.checked = look.shown; }); redrawTiles(); redrawSides(); if (grid) grid.redraw(); }
  else if (event.key.startsWith('Arrow') && grid && (event.target === document.body || event.target.id === 'main')) { event.preventDefault(); grid.focus(grid.active); }
}

function pickCase(place) {
  const name = place ? caseOrder()[place - 1] : '';
  if (name === undefined) return;
  toImages(name ? `?case=${encodeURIComponent(name)}` : '', () => say(`${name ? caseName(name) : 'All images'}: ${counted(grid.items.length, 'image')}`));
}

// `query`: which images; null: those that are shown, if any are.
function toImages(query, then) {
  if (!store.page.count) return;
  if (query !== null || whereTo().id !== 'images') {
    history.pushState(null, '', `#/images${query || ''}`);
    showView();
    window.scrollTo(0, 0);
  }
  then();
}

async function start() {
  if (!store.content) return;
  buildNav();
  try {
    await loadAllRows();
  } catch (error) {
    complain(error);
    return;
  }
  window.addEventListener('hashchange', () => { showView(); window.scrollTo(0, 0); });
  document.addEventListener('keydown', onKey);
  window.addEventListener('beforeprint', printAll);
  window.addEventListener('afterprint', showView);
  showView();
  document.documentElement.dataset.ready = 'yes';
  (window.requestIdleCallback || window.setTimeout)(() => drawBeforehand());
}

document.addEventListener('DOMContentLoaded', start); // after the scripts with the data
