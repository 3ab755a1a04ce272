// Which class is taken for which, with the images behind each cell.

const MOST_CLASSES = 24;

function showConfusion(main) {
  const { pairs: cells } = store.content.confusion;
  heading(main, 'Confusion', isDetector()
    ? 'Rows are annotated classes, columns what was found there. Choose a cell to see images behind it.'
    : 'Rows are labels, columns predictions. The diagonal is right. Choose a cell to see the images behind it.');
  const counts = new Map(cells.map(([given, predicted, count]) => [`${given} ${predicted}`, count]));
  const wrong = cells.filter(([given, predicted]) => given !== predicted).sort((one, other) => other[2] - one[2]);
  const classes = chosenClasses(cells, wrong);
  const behind = make('section', { class: 'behind-cell', 'aria-live': 'polite' });
  const choose = (given, predicted, count) => {
    main.querySelectorAll('.cell[aria-pressed="true"]').forEach((cell) => cell.setAttribute('aria-pressed', 'false'));
    const parameters = new URLSearchParams({ given, predicted });
    const indices = matching(parameters);
    into(clear(behind), make('h2', null, pairText(given, predicted), make('span', { class: 'count' }, whole(count))),
      make('div', { class: 'bar' }, lookControls(() => {})),
      indices.length ? strip(indices, { most: 24, more: `#/images?${parameters}` }) : make('p', { class: 'muted' }, 'None of its images is on this page.'));
  };
  if (classes.length < new Set(cells.flatMap(([given, predicted]) => [given, predicted])).size) into(main, make('p', { class: 'muted' }, `Of many classes, the ${classes.length} that are confused most.`));
  into(main, make('div', { class: 'split confusion' }, matrix(classes, counts, choose), make('section', null, make('h2', null, 'Most frequent'), wrong.length
    ? make('ol', { class: 'pairs-list' }, wrong.slice(0, 8).map(([given, predicted, count]) => make('li', null, make('button', { type: 'button', class: 'link', click: () => { choose(given, predicted, count); behind.scrollIntoView({ block: 'nearest' }); } }, pairText(given, predicted)), make('span', { class: 'case-count' }, whole(count)))))
    : make('p', { class: 'muted' }, 'Nothing is confused.'))), behind);
  if (wrong.length) choose(...wrong[0]);
}

function pairText(given, predicted) {
  const name = (target) => (target < 0 ? 'background' : label(target));
  return given === predicted ? `${name(given)}, right` : `${name(given)} → ${name(predicted)}`;
}

function chosenClasses(cells, wrong) {
  const all = [...new Set(cells.flatMap(([given, predicted]) => [given, predicted]))].sort((one, other) => one - other);
  if (all.length <= MOST_CLASSES) return all;
  const kept = new Set();
  for (const [given, predicted] of wrong) {
    if (new Set([...kept, given, predicted]).size <= MOST_CLASSES) { kept.add(given); kept.add(predicted); }
  }
  for (const target of all) if (kept.size < MOST_CLASSES) kept.add(target);
  return [...kept].sort((one, other) => one - other);
}

function matrix(classes, counts, choose) {
  const name = (target) => (target < 0 ? 'background' : label(target));
  const totals = new Map();
  for (const [pair, count] of counts) totals.set(Number(pair.split(' ')[0]), (totals.get(Number(pair.split(' ')[0])) || 0) + count);
  const body = classes.map((given) => make('tr', null, make('th', { scope: 'row' }, make('span', { title: name(given) }, name(given))), classes.map((predicted) => {
    const count = counts.get(`${given} ${predicted}`) || 0;
    if (!count) return make('td', { class: given === predicted ? 'diagonal' : null });
    const cell = make('button', { type: 'button', class: `cell ${given === predicted ? 'right' : 'wrong'}`, 'aria-pressed': 'false', 'aria-label': `${name(given)}, predicted ${name(predicted)}: ${count}`, title: `${name(given)}, predicted ${name(predicted)}: ${count}`, click: () => { choose(given, predicted, count); cell.setAttribute('aria-pressed', 'true'); } }, whole(count));
    cell.style.setProperty('--part', Math.sqrt(count / Math.max(1, totals.get(given))));
    return make('td', null, cell);
  })));
  return make('div', { class: 'table-wrap', tabindex: 0, role: 'region', 'aria-label': 'Confusion matrix' }, make('table', { class: classes.length > 12 ? 'matrix dense' : 'matrix' },
    make('thead', null, make('tr', null, make('td', { class: 'corner' }, 'label ↓ predicted →'), classes.map((target) => make('th', { scope: 'col' }, make('span', { title: name(target) }, name(target)))))), make('tbody', null, body)));
}
