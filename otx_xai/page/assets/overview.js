// The first screen: verdict, figures, findings.

const VERDICTS = {
  pass: ['✓', 'Passed', 'good'],
  attention: ['!', 'Needs attention', 'warn'],
  fail: ['×', 'Failed', 'bad'],
};

const STATES = {
  verified: ['Verified', 'Pixels were changed, and the scores followed.', 'Verified by changing pixels'],
  suspected: ['Suspected', 'Evidence from the maps alone. Not tested: do not take it for a fact.', 'Suspected, not tested'],
  measured: ['Measured', 'Counted, with its interval. No cause is claimed.', 'Measured'],
  refuted: ['Refuted', 'Pixels were changed, and the scores did not follow.', 'Tested and refuted'],
};

function stateBadge(state) {
  const [name, meaning] = STATES[state] || [words(state), ''];
  return make('span', { class: `badge state-${state}`, title: meaning }, name);
}

function showOverview(main) {
  const { content } = store;
  const [sign, name, tone] = VERDICTS[content.verdict.state] || VERDICTS.attention;
  const section = make('section', { class: `verdict tone-${tone}`, 'aria-label': 'Verdict' },
    make('span', { class: 'verdict-sign', 'aria-hidden': 'true' }, sign),
    make('div', null, make('h1', null, name), make('p', { class: 'verdict-text' }, content.verdict.sentence)));
  into(main, section, figures(content.figures), caseBar(content.cases), notes(content));
  const failed = content.gates.filter((gate) => !gate.passed).length;
  if (content.gates.length) {
    into(main, make('p', { class: `gate-line ${failed ? 'bad' : 'good'}` }, make('a', { href: '#/gates' }, failed ? `${failed} of ${counted(content.gates.length, 'gate')} failed` : `All ${counted(content.gates.length, 'gate')} passed`)));
  }
  for (const state of ['verified', 'suspected', 'measured', 'refuted']) into(main, findingGroup(state));
  if (!content.findings.length) into(main, make('p', { class: 'empty' }, 'Nothing was found. Look at the images all the same: an audit sees only what it asks for.'));
}

const FIRST = 5; // figures that a first look can take in

function figures(list) {
  const shown = (some) => some.map(({ label: name, effect, hint }) => figure(name, effect, hint));
  const rest = list.slice(FIRST);
  return [make('section', { class: 'figures', 'aria-label': 'Figures' }, shown(list.slice(0, FIRST))),
    rest.length ? make('details', { class: 'more-figures' }, make('summary', null, `${counted(rest.length, 'more figure')}`), make('div', { class: 'figures' }, shown(rest))) : null];
}

function figure(name, effect, hint) {
  const known = isNumber(effect.value);
  return make('div', { class: 'figure' },
    make('h2', { class: 'figure-label' }, name),
    known ? make('p', { class: 'figure-value' }, unitText(effect.value, effect.unit), make('span', { class: 'unit' }, UNIT_WORDS[effect.unit] || '')) : make('p', { class: 'figure-value unknown' }, 'not known'),
    known ? intervalBar(effect) : null,
    known ? make('p', { class: 'figure-interval' }, `${intervalText(effect)} · ${countText(effect)}`) : null,
    hint ? make('p', { class: 'figure-hint' }, hint) : null);
}

// What was not asked, and what could not be read.
function notes(content) {
  const told = [...(content.notes || [])];
  const failed = (content.failures || []).length;
  if (failed) told.push(`${counted(failed, 'image')} could not be read: see About.`);
  return told.length ? make('ul', { class: 'notes' }, told.map((note) => make('li', null, note))) : null;
}

function caseBar(cases) {
  const order = Object.keys(CASES);
  const entries = Object.entries(cases).filter(([, count]) => count > 0).sort(([one], [other]) => order.indexOf(one) - order.indexOf(other));
  const total = entries.reduce((sum, [, count]) => sum + count, 0);
  if (!total) return null;
  const bar = make('div', { class: 'case-bar', 'aria-hidden': 'true' });
  entries.forEach(([name, count]) => {
    const part = make('span', { class: `tone-${caseTone(name)}` });
    part.style.flexGrow = count;
    into(bar, part);
  });
  return make('section', { class: 'cases', 'aria-label': 'Cases' }, bar, make('ul', { class: 'case-list' }, entries.map(([name, count]) => make('li', null,
    make('a', { href: `#/images?case=${encodeURIComponent(name)}` }, caseDot(name), make('span', null, caseName(name)), make('span', { class: 'case-count' }, `${whole(count)} · ${percent(count / total)}`))))));
}

function findingGroup(state) {
  const found = store.content.findings.map((finding, place) => [finding, place]).filter(([finding]) => finding.state === state);
  if (!found.length) return null;
  const [, meaning, title] = STATES[state];
  const cards = make('div', { class: 'cards' }, found.map(([finding, place]) => findingCard(finding, place)));
  const heading = [make('h2', null, title, make('span', { class: 'count' }, found.length)), make('p', { class: 'muted' }, meaning)];
  if (state !== 'refuted') return make('section', { class: `findings group-${state}` }, heading, cards);
  const box = make('details', { class: 'findings group-refuted' }, make('summary', null, heading[0]), heading[1], cards);
  return box;
}

function findingCard(finding, place) {
  const examples = indicesOf(finding.images);
  return make('article', { class: `card state-${finding.state}` },
    make('div', { class: 'card-text' },
      make('p', { class: 'card-kind' }, stateBadge(finding.state), make('span', null, words(finding.kind)), finding.subject ? make('span', { class: 'muted' }, finding.subject) : null),
      make('h3', null, make('a', { href: `#/finding/${place}` }, finding.statement)),
      finding.state === 'suspected' ? make('p', { class: 'caution' }, 'A suspicion: no pixel was changed to test it.') : null,
      finding.state === 'refuted' ? make('p', { class: 'caution' }, 'Tested: the scores did not follow, so the model does not rely on it.') : null,
      findingFigures(finding),
      finding.suggestion ? make('p', { class: 'suggestion' }, finding.suggestion) : null),
    examples.length ? strip(examples, { most: 3, className: 'examples', choose: findingMap(finding) }) : null);
}

function findingFigures(finding) {
  return make('div', { class: 'card-figures' },
    make('span', { class: 'card-effect' }, effectText(finding.effect)), intervalBar(finding.effect),
    make('span', { class: 'muted' }, `${intervalText(finding.effect)} · ${countText(finding.effect)}`),
    make('span', { class: 'muted' }, `${percent(finding.share)} of the images`));
}

// Of drift, what changed; of a wrong label, the map of the label; else that of the prediction.
function findingMap(finding) {
  if (finding.kind === 'drift' || finding.kind === 'silent_drift') return driftScene;
  return null;
}

function driftScene(index, detail) {
  const { before, now } = driftMaps(index, detail);
  return before && now ? { map: now, before } : mainMap(index, detail);
}

// The maps of both models of one class: that which the audited model predicts, where the baseline has it.
function driftMaps(index, detail) {
  const before = mapOf(index, detail, store.best[index], true) || detail.maps.find((map) => map.baseline) || null;
  return { before, now: before && (mapOf(index, detail, before.target, false) || mainMap(index, detail)) };
}

function showFinding(main, parameters, place) {
  const finding = store.content.findings[Number(place)];
  if (!finding) {
    into(main, make('h1', null, 'There is no such finding'), make('p', { class: 'lead' }, make('a', { href: '#/overview' }, 'Overview')));
    return;
  }
  const examples = indicesOf(finding.images);
  into(main, make('p', { class: 'back' }, make('a', { href: '#/overview' }, '‹ Overview')),
    make('section', { class: `finding-head state-${finding.state}` },
      make('p', { class: 'card-kind' }, stateBadge(finding.state), make('span', null, words(finding.kind)), finding.subject ? make('span', { class: 'muted' }, finding.subject) : null),
      make('h1', null, finding.statement),
      make('p', { class: 'caution' }, (STATES[finding.state] || ['', ''])[1]),
      findingFigures(finding),
      finding.suggestion ? make('p', { class: 'suggestion' }, finding.suggestion) : null));
  const check = Object.entries(finding.check);
  if (isNumber(finding.p_value)) check.push(['p value, uncorrected', probabilityText(finding.p_value)]);
  if (check.length) into(main, make('h2', null, finding.state === 'measured' ? 'How it was counted' : 'What was tried'), pairs(check));
  into(main, make('h2', null, 'Images', make('span', { class: 'count' }, whole(finding.images.length))));
  if (examples.length) into(main, make('div', { class: 'bar' }, lookControls(() => {})), strip(examples, { most: 60, choose: findingMap(finding), more: `#/images?finding=${Number(place)}` }));
  else into(main, make('p', { class: 'muted' }, finding.images.length ? finding.images.join(', ') : 'It names none.'));
}

// Effects of one unit share their scale, so that what was tried can be held against its controls.
function pairs(entries, name = words) {
  const units = new Map();
  for (const [, value] of entries) if (isEffect(value)) units.set(value.unit, [...(units.get(value.unit) || []), value]);
  const shown = (value) => (isEffect(value) ? effectCell(value, rangeOf(units.get(value.unit), value.unit === 'share' ? 1 : 0)) : free(value));
  return make('dl', { class: 'pairs wide' }, entries.map(([key, value]) => [make('dt', null, name(key)), make('dd', null, shown(value))]));
}

// Any value of a check or of settings.
function free(value) {
  if (Array.isArray(value)) return value.length ? value.map((one) => (isNumber(one) ? plainNumber(one) : typeof one === 'object' && one !== null ? JSON.stringify(one) : String(one))).join(', ') : '–';
  if (value === null || value === undefined || value === '') return '–';
  if (typeof value === 'object') return Object.keys(value).length ? pairs(Object.entries(value)) : '–';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return typeof value === 'number' ? plainNumber(value) : String(value);
}
