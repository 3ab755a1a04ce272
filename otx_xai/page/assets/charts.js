// Figures with their doubt: a dot for the estimate, a band for its interval.

function rangeOf(effects, least) {
  const ends = effects.flatMap((effect) => [effect.value, ...effect.interval]).filter(isNumber);
  const low = Math.min(0, ...ends);
  const high = Math.max(least || 0, ...ends);
  return [low, high > low ? high : low + 1];
}

function intervalBar(effect, range) {
  const [low, high] = range || (effect.unit === 'share' ? rangeOf([effect], 1) : rangeOf([effect]));
  const at = (value) => 2 + (196 * (Math.min(high, Math.max(low, value)) - low)) / (high - low);
  const bar = draw('svg', { class: 'interval', viewBox: '0 0 200 14', preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false' });
  bar.append(draw('rect', { class: 'track', x: 0, y: 6, width: 200, height: 2, rx: 1 }));
  if (low < 0) bar.append(draw('rect', { class: 'zero', x: at(0) - 0.5, y: 1, width: 1, height: 12 }));
  if (hasInterval(effect)) {
    const [from, to] = effect.interval.map(at);
    bar.append(draw('rect', { class: 'band', x: from, y: 3, width: Math.max(2, to - from), height: 8, rx: 2 }));
  }
  if (isNumber(effect.value)) bar.append(draw('rect', { class: 'dot', x: at(effect.value) - 1.5, y: 1, width: 3, height: 12, rx: 1.5 }));
  return bar;
}

// Value, bar and interval of an effect for a cell of a table.
function effectCell(effect, range) {
  if (!effect || !isNumber(effect.value)) return make('span', { class: 'muted' }, '–');
  return make('span', { class: 'effect' },
    make('span', { class: 'effect-value' }, unitText(effect.value, effect.unit)),
    intervalBar(effect, range),
    make('span', { class: 'effect-interval' }, `${hasInterval(effect) ? rangeText(...effect.interval, effect.unit) : 'no interval'} · ${countText(effect)}`));
}

function reliabilityCurve(bins) {
  const side = 300;
  const at = (part) => 40 + part * side;
  const up = (part) => 10 + (1 - part) * side;
  const most = Math.max(1, ...bins.map((bin) => bin.n));
  const chart = draw('svg', { class: 'reliability', viewBox: `0 0 ${side + 60} ${side + 60}`, role: 'img', 'aria-label': 'Share of right answers against confidence; the numbers are in the table' });
  [0, 0.25, 0.5, 0.75, 1].forEach((part) => {
    chart.append(
      draw('line', { class: 'rule', x1: at(0), x2: at(1), y1: up(part), y2: up(part) }),
      draw('text', { class: 'tick', x: at(0) - 6, y: up(part) + 4, 'text-anchor': 'end' }, decimals(part, 2)),
      draw('text', { class: 'tick', x: at(part), y: up(0) + 18, 'text-anchor': 'middle' }, decimals(part, 2)));
  });
  chart.append(draw('line', { class: 'ideal', x1: at(0), y1: up(0), x2: at(1), y2: up(1) }));
  const filled = bins.filter((bin) => bin.n && isNumber(bin.accuracy) && isNumber(bin.confidence));
  filled.forEach((bin) => chart.append(
    draw('rect', { class: 'bin', x: at(bin.low) + 1, width: Math.max(1, at(bin.high) - at(bin.low) - 2), y: up(0) - (side / 4) * Math.sqrt(bin.n / most), height: (side / 4) * Math.sqrt(bin.n / most) })));
  chart.append(draw('polyline', { class: 'curve', points: filled.map((bin) => `${at(bin.confidence)},${up(bin.accuracy)}`).join(' ') }));
  filled.forEach((bin) => chart.append(draw('circle', { class: 'point', cx: at(bin.confidence), cy: up(bin.accuracy), r: 4 })));
  chart.append(
    draw('text', { class: 'axis', x: at(0.5), y: up(0) + 40, 'text-anchor': 'middle' }, 'confidence'),
    draw('text', { class: 'axis', x: 12, y: up(0.5), 'text-anchor': 'middle', transform: `rotate(-90 12 ${up(0.5)})` }, 'right answers'));
  return chart;
}
