// Tables: classes, slices, calibration, gates, and what the audit is of.

function heading(main, title, text) {
  into(main, make('h1', null, title), text ? make('p', { class: 'lead' }, text) : null);
}

// columns: [title, cell(row), key(row) to sort by or null, class]
function sortedTable(rows, columns, { sort = 0, falling = false, most = 500 } = {}) {
  const state = { column: sort, falling, most };
  const body = make('tbody');
  const head = make('tr');
  const more = make('button', { type: 'button', class: 'quiet', click: () => { state.most = Infinity; show(); } }, `Show all ${whole(rows.length)}`);
  function show() {
    const key = columns[state.column][2];
    const placed = (value) => (isNumber(value) || typeof value === 'string' ? value : null);
    const ordered = [...rows].sort((one, other) => {
      const [a, b] = [placed(key(one)), placed(key(other))];
      if (a === null || b === null) return (a === null) - (b === null);
      return (a < b ? -1 : a > b ? 1 : 0) * (state.falling ? -1 : 1);
    });
    into(clear(body), ...ordered.slice(0, state.most).map((row) => make('tr', null, columns.map(([, cell, , kind], place) => make(place ? 'td' : 'th', { class: kind || null, scope: place ? null : 'row' }, cell(row))))));
    into(clear(head), ...columns.map(([title, , by, kind], place) => make('th', {
      scope: 'col', class: kind || null, 'aria-sort': by ? (place === state.column ? (state.falling ? 'descending' : 'ascending') : 'none') : null,
    }, by ? make('button', { type: 'button', class: 'sort', click: () => { Object.assign(state, { falling: place === state.column ? !state.falling : place > 0, column: place }); show(); } }, title) : title)));
    more.hidden = rows.length <= state.most;
  }
  show();
  return make('div', { class: 'table-wrap', tabindex: 0, role: 'region', 'aria-label': 'Table' }, make('table', { class: 'data' }, make('thead', null, head), body), more);
}

function effectColumn(title, effectOf, effects, least) {
  const range = rangeOf(effects.filter(Boolean), least);
  return [title, (row) => effectCell(effectOf(row), range), (row) => (effectOf(row) ? effectOf(row).value : null), 'effect-column'];
}

function showClasses(main) {
  const rows = store.content.per_class;
  heading(main, 'Classes', 'Every figure with its 95 % interval. Where intervals overlap, the order of two classes means little.');
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.values)))];
  const columns = [
    ['Class', (row) => make('a', { href: `#/images?given=${row.class}` }, label(row.class)), (row) => label(row.class)],
    ['Images', (row) => whole(row.images), (row) => row.images, 'number'],
    ...names.map((name) => effectColumn(words(name), (row) => row.values[name], rows.map((row) => row.values[name]), 1)),
  ];
  into(main, sortedTable(rows, columns, { sort: names.length ? 2 : 0 }));
}

function showSlices(main) {
  const rows = store.content.slices;
  heading(main, 'Slices', 'Groups of images on which the model is better or worse than on the rest. p is corrected for all tests of this audit; what is above 0.05 may well be chance.');
  into(main, sortedTable(rows, [
    ['Group', (row) => make('a', { href: `#/images?slice=${rows.indexOf(row)}` }, make('span', null, words(row.column)), ': ', make('strong', null, row.value)), (row) => `${row.column} ${row.value}`],
    ['Images', (row) => whole(row.n), (row) => row.n, 'number'],
    effectColumn('Right', (row) => row.accuracy, rows.map((row) => row.accuracy), 1),
    effectColumn('Against the rest', (row) => row.difference, rows.map((row) => row.difference)),
    ['p, corrected', (row) => [probabilityText(row.corrected), isNumber(row.corrected) && row.corrected < 0.05 ? null : make('span', { class: 'tag' }, 'may be chance')], (row) => row.corrected, 'number'],
  ], { sort: 4 }));
}

function showCalibration(main) {
  const { ece, bins } = store.content.calibration;
  heading(main, 'Calibration', 'A calibrated model that says 80 % is right four times out of five. Below the diagonal it is too sure of itself, above it too modest.');
  into(main, make('p', { class: 'big-figure' }, make('span', { class: 'figure-value' }, effectText(ece)), make('span', { class: 'muted' }, `expected calibration error · ${intervalText(ece)} · ${countText(ece)}`)));
  into(main, make('div', { class: 'split' }, reliabilityCurve(bins), sortedTable(bins.filter((bin) => bin.n), [
    ['Confidence', (bin) => `${decimals(bin.low, 2)} to ${decimals(bin.high, 2)}`, (bin) => bin.low],
    ['Mean', (bin) => percent(bin.confidence), (bin) => bin.confidence, 'number'],
    ['Right', (bin) => percent(bin.accuracy), (bin) => bin.accuracy, 'number'],
    ['Images', (bin) => whole(bin.n), (bin) => bin.n, 'number'],
  ])));
}

function showGates(main) {
  const { gates } = store.content;
  heading(main, 'Gates', 'Limits that were set for this audit. A limit is compared with the pessimistic end of the interval.');
  into(main, make('ul', { class: 'gates' }, gates.map((gate) => make('li', { class: gate.passed ? 'good' : 'bad' },
    make('span', { class: 'gate-sign', 'aria-hidden': 'true' }, gate.passed ? '✓' : '×'),
    make('div', null, make('p', { class: 'gate-name' }, make('strong', null, gate.passed ? 'Passed' : 'Failed'), ' ', make('code', null, gate.gate)), make('p', { class: 'muted' }, gate.why))))));
}

function showAbout(main) {
  const { content, page } = store;
  heading(main, 'About this audit', '');
  const sections = [
    ['Audit', { created: content.created, task: content.task, multilabel: content.multilabel, 'images on this page': page.count }],
    ['Model', content.model], ['Data', content.data],
    ...(content.average_precision ? [['Average precision', content.average_precision]] : []),
    ['Settings', content.settings, (key) => key], ['Versions', content.versions, (key) => key],
  ];
  const failures = (content.failures || []).map(({ name, error }) => [name, error]);
  if (failures.length) sections.splice(3, 0, [`Could not be read (${whole(failures.length)})`, Object.fromEntries(failures.slice(0, 50)), (key) => key]);
  into(main, sections.filter(([, held]) => held && Object.keys(held).length).map(([title, held, name]) => [make('h2', null, title), pairs(Object.entries(held), name)]));
  into(main, make('h2', null, 'How to read it'), make('dl', { class: 'pairs wide' },
    Object.values(STATES).map(([name, meaning]) => [make('dt', null, name), make('dd', null, meaning)]),
    make('dt', null, 'Maps'), make('dd', null, 'A map shows which places of the image a class score depends on. Each is scaled to its own range: bright is its largest value, and says nothing of how large that is.'),
    make('dt', null, 'Intervals'), make('dd', null, 'Cover the true value in 95 of 100 audits like this one. The bar shows the interval, the line in it the estimate.')));
  into(main, make('h2', { class: 'on-screen' }, 'Keys'), make('dl', { class: 'pairs wide on-screen' }, KEYS.map(([key, meaning]) => [make('dt', null, make('kbd', null, key)), make('dd', null, meaning)])));
}
