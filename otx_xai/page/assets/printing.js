// Print: all views below each other. A browser that prints waits for nothing, so what needs pictures is drawn before.

const PRINTED = { drift: 8, labels: 8, clusters: 12, examples: 3 };
const beforehand = new Map(); // `${view} ${index}`: panels that are drawn, [title, canvas]
const printing = { on: false };

// The parts of an image, once both are there.
function partsOf(index) {
  return new Promise((resolve) => {
    const look = () => {
      const [source, detail] = [thumbOf(index, look), detailOf(index, look)];
      if (source !== null && detail !== null) resolve([source, detail]);
    };
    look();
  });
}

// One image after the other, so that few parts are held at once.
async function drawBeforehand() {
  for (const [view, index, draw] of wantedInPrint()) {
    if (!beforehand.has(`${view} ${index}`)) beforehand.set(`${view} ${index}`, draw(index, ...await partsOf(index)));
  }
  document.documentElement.dataset.printable = 'yes';
}

function* wantedInPrint() {
  const { drift, label_review: rows, clusters } = store.content;
  const sides = (scenesOf) => (index, source, detail) => scenesOf(detail).map(([title, scene]) => [title, sidePanel(title, scene, source, detail)]);
  if (drift && !drift.box_agreement) for (const index of driftIndices().slice(0, PRINTED.drift)) yield ['drift', index, sides((detail) => driftScenes(index, detail))];
  for (const row of rows.slice(0, PRINTED.labels)) {
    const index = store.placeOf.get(row.image);
    if (index !== undefined) yield ['labels', index, sides((detail) => labelScenes(index, detail, row))];
  }
  for (const cluster of clusters.slice(0, PRINTED.clusters)) {
    for (const index of indicesOf(cluster.images).slice(0, PRINTED.examples)) yield ['clusters', index, (_, source, detail) => [[predictionText(index), sidePanel(predictionText(index), { map: mainMap(index, detail) }, source, detail)]]];
  }
}

// Copies of what was drawn, as figures: a canvas can stand in one place only.
function copies(view, index) {
  return (beforehand.get(`${view} ${index}`) || []).map(([title, drawn]) => {
    const canvas = make('canvas', { role: 'img', 'aria-label': title, width: drawn.width, height: drawn.height });
    canvas.getContext('2d').drawImage(drawn, 0, 0);
    return make('figure', { class: 'panel' }, canvas, make('figcaption', null, title));
  });
}

function printAll() {
  const main = document.getElementById('main');
  main.classList.add('printed');
  const { id } = whereTo();
  printing.on = true;
  main.querySelectorAll('.side-row').forEach((row) => { if (!row.childElementCount) row.print(); });
  for (const view of shownViews()) {
    if (view.id === id || view.print === false || view.id === 'overview' || (id === 'finding')) continue;
    const part = make('section', { class: `print-part print-${view.id}` });
    view.show(part, new URLSearchParams());
    into(main, part);
  }
  printing.on = false;
  main.querySelectorAll('details').forEach((box) => { box.open = true; });
}
