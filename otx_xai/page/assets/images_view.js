// All images, by case, class, finding and name.

let grid = null;

function caseOrder() {
  const known = [...new Set([...Object.keys(CASES), ...Object.keys(store.content.cases)])];
  const seen = new Set(store.cases);
  return [...known.filter((name) => seen.has(name)), ...[...seen].filter((name) => !known.includes(name))];
}

function matching(parameters) {
  const get = (name) => parameters.get(name);
  const text = (get('q') || '').trim().toLowerCase();
  const [cases, given, predicted] = [get('case'), get('given'), get('predicted')];
  const [finding, group] = [get('finding'), get('slice')];
  const listed = finding === null ? null : new Set(indicesOf((store.content.findings[Number(finding)] || { images: [] }).images));
  const kept = [];
  for (let index = 0; index < store.count; index += 1) {
    if (cases && store.cases[index] !== cases) continue;
    if (given !== null && given !== '' && !store.given[index].includes(Number(given))) continue;
    if (predicted !== null && predicted !== '' && !predictedIs(index, Number(predicted))) continue;
    if (listed && !listed.has(index) && !store.findings[index].includes(Number(finding))) continue;
    if (group !== null && !store.slices[index].includes(Number(group))) continue;
    if (text && !found(index, text)) continue;
    kept.push(index);
  }
  return sorted(kept, get('sort') || '');
}

function predictedIs(index, target) {
  return isDetector() ? store.found[index].includes(target) : store.best[index] === target;
}

function found(index, text) {
  return store.names[index].toLowerCase().includes(text) || predictionText(index).toLowerCase().includes(text) || givenText(index).toLowerCase().includes(text);
}

function sorted(indices, sort) {
  if (!sort) return indices;
  const falling = sort.startsWith('-');
  const name = sort.replace(/^-/, '');
  const column = name === 'score' ? store.score : store.values.get(name);
  if (!column) return indices;
  const key = (index) => (isNumber(column[index]) ? column[index] : falling ? -Infinity : Infinity);
  return indices.sort((one, other) => (falling ? key(other) - key(one) : key(one) - key(other)) || one - other);
}

function showImages(main, parameters) {
  const view = { parameters, main };
  const search = make('input', { type: 'search', id: 'search', placeholder: 'Search names and classes', 'aria-label': 'Search names and classes', autocomplete: 'off', spellcheck: 'false', value: parameters.get('q') || '' });
  const update = (changes) => {
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === '') parameters.delete(name);
      else parameters.set(name, value);
    }
    replaceHash('images', parameters);
    refreshImages(view);
  };
  search.addEventListener('input', later(() => update({ q: search.value }), 120));
  view.chips = make('div', { class: 'chips', role: 'group', 'aria-label': 'Cases' });
  view.summary = make('p', { class: 'summary', role: 'status' });
  view.update = update;
  view.reset = make('button', { type: 'button', class: 'quiet', click: () => { location.hash = '#/images'; } }, 'Show all');
  grid = new Grid((place) => openViewer(grid.items, place));
  into(main, make('h1', null, 'Images'),
    make('div', { class: 'filters' },
      view.chips,
      make('div', { class: 'filter-row' }, search, classChoice('Label', 'given', view), classChoice(isDetector() ? 'Found' : 'Predicted', 'predicted', view), sortChoice(view)),
      make('div', { class: 'filter-row' }, view.summary, view.reset, lookControls(() => grid.redraw()))),
    grid.element);
  refreshImages(view);
}

function refreshImages(view) {
  const { parameters } = view;
  const items = matching(parameters);
  const counts = new Map();
  for (const name of store.cases) counts.set(name, (counts.get(name) || 0) + 1);
  into(clear(view.chips), ...[['', 'All', store.count], ...caseOrder().map((name) => [name, caseName(name), counts.get(name) || 0])].map(([name, text, count], place) => make('button', {
    type: 'button', class: 'chip', 'aria-pressed': String((parameters.get('case') || '') === name), title: place ? `Key ${place}` : 'Key 0', click: () => view.update({ case: name }),
  }, name ? caseDot(name) : null, text, make('span', { class: 'chip-count' }, whole(count)))));
  const finding = store.content.findings[Number(parameters.get('finding'))];
  into(clear(view.summary), items.length ? counted(items.length, 'image') : 'No image matches.',
    parameters.get('finding') !== null && finding ? [' of the finding ', make('a', { href: `#/finding/${Number(parameters.get('finding'))}` }, finding.statement)] : null);
  const group = store.content.slices[Number(parameters.get('slice'))];
  if (parameters.get('slice') !== null && group) into(view.summary, ' with ', make('a', { href: '#/slices' }, `${words(group.column)}: ${group.value}`));
  view.reset.hidden = ![...parameters.keys()].some((name) => name !== 'sort');
  grid.set(items);
}

function classChoice(title, name, view) {
  const used = new Set();
  for (let index = 0; index < store.count; index += 1) {
    if (name === 'given') store.given[index].forEach((target) => used.add(target));
    else if (isDetector()) store.found[index].forEach((target) => used.add(target));
    else if (store.best[index] >= 0) used.add(store.best[index]);
  }
  const select = make('select', { 'aria-label': title, change: () => view.update({ [name]: select.value }) },
    make('option', { value: '' }, `${title}: any`), [...used].sort((one, other) => one - other).map((target) => make('option', { value: target }, `${title}: ${label(target)}`)));
  select.value = view.parameters.get(name) || '';
  return select;
}

function sortChoice(view) {
  const options = [['', 'In their order'], ['-score', 'Score, highest first'], ['score', 'Score, lowest first']];
  for (const name of store.values.keys()) options.push([`-${name}`, `${words(name)}, highest first`], [name, `${words(name)}, lowest first`]);
  const select = make('select', { 'aria-label': 'Order', change: () => view.update({ sort: select.value }) }, options.map(([value, text]) => make('option', { value }, text)));
  select.value = view.parameters.get('sort') || '';
  return select;
}
