// Maps side by side: drift, clusters, labels to review.

function sidePanel(title, scene, source, detail) {
  const canvas = sized(title, detail.size, 240);
  paint(canvas, { source, extent: detail.extent, ...scene });
  return canvas;
}

// A row of small panels of one image, drawn once its parts are there.
function sideBySide(view, index, scenesOf) {
  const row = make('div', { class: 'side-row' });
  const show = () => {
    const again = () => { if (row.isConnected) show(); };
    const source = thumbOf(index, again);
    const detail = detailOf(index, again);
    if (source === null || detail === null) return;
    into(clear(row), scenesOf(detail).map(([title, scene]) => panel(scene ? title : `${title} (no map)`, { source, extent: detail.extent, ...scene }, detail.size, 240)));
  };
  row.redraw = show;
  row.print = () => into(clear(row), copies(view, index));
  if (printing.on) row.print();
  else whenSeen(row, show);
  return row;
}

let sight = null;

function whenSeen(element, action) {
  if (!sight) {
    sight = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
      sight.unobserve(entry.target);
      entry.target.seen();
    }), { rootMargin: '300px' });
  }
  element.seen = action;
  sight.observe(element);
}

function redrawSides() {
  document.querySelectorAll('.side-row').forEach((row) => { if (row.childElementCount) row.redraw(); });
}

function nameOf(list, place) {
  const index = list[place];
  return make('button', { type: 'button', class: 'link', click: () => openViewer(list, place) }, store.names[index]);
}

// Rows that are made as the reader goes on.
function inPortions(all, most, makeRow, element) {
  const rows = printing.on ? all.slice(0, PRINTED.drift) : all;
  let done = 0;
  const more = make('button', { type: 'button', class: 'quiet', click: add });
  function add() {
    rows.slice(done, done + most).forEach((row, place) => into(element, makeRow(row, done + place)));
    done = Math.min(rows.length, done + most);
    more.hidden = done === rows.length;
    more.textContent = `Show more (${whole(rows.length - done)} left)`;
  }
  add();
  return [element, more];
}

function showDrift(main) {
  const { drift } = store.content;
  heading(main, 'Drift', `Against ${drift.baseline}. Where the answer stayed and the map moved by more than noise, the model answers for another reason.`);
  const boxes = Boolean(drift.box_agreement);
  const mcnemar = isNumber(drift.mcnemar_p) ? `McNemar: p = ${probabilityText(drift.mcnemar_p)}.` : '';
  into(main, make('section', { class: 'figures small' }, [
    ['Distance of the maps', drift.distance, `Noise reaches ${plainNumber(drift.noise)}.`],
    ['Same best class', drift.top1_agreement, mcnemar],
    ['Same boxes', drift.box_agreement, 'Boxes of either model that the other has too.'],
  ].filter(([, effect]) => effect).map(([title, effect, hint]) => figure(title, effect, hint)),
  [
    ['Objects lost', drift.objects_lost, `Found before, and not now. ${mcnemar}`],
    ['Objects won', drift.objects_won, 'Found now, and not before.'],
    ['Boxes gone', drift.boxes_lost, 'Of the baseline alone.'],
    ['Boxes that are new', drift.boxes_new, 'Of this model alone.'],
    ['Maps that moved', drift.changed, `Same ${boxes ? 'box' : 'answer'}, another map, above noise.`],
    ['Silent drift', drift.silent, 'Of these, right before and after.'],
  ].filter(([, count]) => isNumber(count)).map(([title, count, hint]) => make('div', { class: 'figure' }, make('h2', { class: 'figure-label' }, title), make('p', { class: 'figure-value' }, whole(count)), make('p', { class: 'figure-hint' }, hint)))));
  if (boxes) { showBoxDrift(main); return; }
  const [indices, column] = [driftIndices(), store.values.get('map_distance')];
  if (!indices.length) { into(main, make('p', { class: 'empty' }, 'No maps of the baseline are on this page.')); return; }
  into(main, make('div', { class: 'bar' }, lookControls(redrawSides), colourScale(BLUE_RED, 'only before', 'only now', 'difference')));
  into(main, inPortions(indices, 20, (index, place) => make('article', { class: 'pair' }, make('div', { class: 'side-text' }, make('h2', null, nameOf(indices, place)), make('p', { class: 'muted' }, caseDot(store.cases[index]), ' ', predictionText(index)), column && isNumber(column[index]) ? make('p', { class: 'muted' }, `distance ${decimals(column[index], 3)}`) : null),
    sideBySide('drift', index, (detail) => driftScenes(index, detail))), make('div', { class: 'sides' })));
}

// Images with a map of both models: those of findings first, then those that moved most.
function driftIndices() {
  const named = indicesOf(store.content.findings.filter((finding) => findingMap(finding)).flatMap((finding) => finding.images));
  const rest = [];
  for (let index = 0; index < store.count; index += 1) if (store.baseline[index]) rest.push(index);
  const column = store.values.get('map_distance');
  if (column) rest.sort((one, other) => (column[other] || 0) - (column[one] || 0));
  return [...new Set([...named.filter((index) => store.baseline[index]), ...rest])];
}

function driftScenes(index, detail) {
  const { before, now } = driftMaps(index, detail);
  return [[`Before: ${before ? label(before.target) : ''}`, before && { map: before }], [`Now: ${now ? label(now.target) : ''}`, now && { map: now }], ['Difference', before && now && { map: now, before }]];
}

// Of boxes the page has no maps of the baseline: the images of each finding are shown, with the boxes of this model.
function showBoxDrift(main) {
  store.content.findings.filter((finding) => findingMap(finding)).forEach((finding) => {
    const indices = indicesOf(finding.images);
    into(main, make('h2', null, finding.statement), indices.length ? strip(indices) : null);
  });
}

function showClusters(main) {
  heading(main, 'Clusters', 'Images that share where the model looks (maps) or what it looks at (features). A cluster is no fault by itself; see whether the place makes sense.');
  into(main, make('div', { class: 'cards' }, store.content.clusters.map((cluster) => {
    const examples = indicesOf(cluster.images);
    return make('article', { class: 'card cluster' }, cluster.mean && cluster.mean.length ? meanMap(cluster) : null, make('div', { class: 'card-text' },
      make('h2', null, cluster.name),
      make('p', { class: 'muted' }, [`${counted(cluster.size, 'image')}`, `by ${cluster.kind}`, cluster.class === null ? '' : label(cluster.class), isNumber(cluster.stability) ? `stability ${decimals(cluster.stability, 2)}` : ''].filter(Boolean).join(' · ')),
      examples.length && !printing.on ? strip(examples, { most: 6, className: 'examples six' }) : null,
      printing.on ? make('div', { class: 'side-row' }, examples.slice(0, PRINTED.examples).flatMap((index) => copies('clusters', index))) : null));
  })));
}

function meanMap(cluster) {
  const size = [cluster.mean.length, cluster.mean[0].length];
  const canvas = make('canvas', { width: 160, height: Math.round((160 * size[0]) / size[1]), role: 'img', 'aria-label': `Mean map of ${cluster.name}` });
  const map = { size, grid: Float32Array.from(cluster.mean.flat(), (value) => 255 * (value || 0)) };
  canvas.getContext('2d').drawImage(heatLayer(map, 1, 0, true), 0, 0, canvas.width, canvas.height);
  return make('figure', { class: 'mean' }, canvas, make('figcaption', null, 'mean map'));
}

function showLabels(main) {
  const rows = store.content.label_review;
  heading(main, 'Labels to review', 'Images whose label may be wrong, the likeliest first. Decide in label_review.csv, and hand it back with otx audit --review.');
  const indices = indicesOf(rows.map((row) => row.image));
  into(main, make('div', { class: 'bar' }, lookControls(redrawSides)));
  into(main, inPortions(rows, 20, (row) => {
    const index = store.placeOf.get(row.image);
    return make('article', { class: 'pair' }, make('div', { class: 'side-text' },
      make('h2', null, index === undefined ? row.image : nameOf(indices, indices.indexOf(index))),
      make('p', null, 'Label ', make('strong', null, label(row.given)), ', suggested ', make('strong', null, suggestedName(row)), '.'),
      make('p', { class: 'muted' }, [isNumber(row.confidence) ? `confidence ${percent(row.confidence)}` : '', row.reason ? words(row.reason).toLowerCase() : ''].filter(Boolean).join(' · '))),
    index === undefined ? null : sideBySide('labels', index, (detail) => labelScenes(index, detail, row)));
  }, make('div', { class: 'sides' })));
}

function suggestedName(row) {
  return row.suggested === null || row.suggested < 0 ? 'none' : label(row.suggested);
}

function labelScenes(index, detail, row) {
  if (isDetector()) return [['Annotated and found', { map: null, boxes: boxesOf(detail) }]];
  const of = (target) => mapOf(index, detail, target, false);
  return [[`Label: ${label(row.given)}`, of(row.given) && { map: of(row.given) }], [`Suggested: ${suggestedName(row)}`, of(row.suggested) && { map: of(row.suggested) }]];
}
