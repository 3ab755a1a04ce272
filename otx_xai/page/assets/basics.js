// What every part of the page uses. Texts of the audit become text nodes, never markup.

const SVG = 'http://www.w3.org/2000/svg';
const NARROW = '\u202f';

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  return fill(element, attributes, children);
}

function draw(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function into(element, ...children) {
  return fill(element, null, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

function clear(element) {
  element.replaceChildren();
  return element;
}

function isNumber(value) {
  return typeof value === 'number' && Number.isFinite(value);
}

function whole(number) {
  return String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, NARROW);
}

function counted(number, one, many) {
  return `${whole(number)}\u00a0${number === 1 ? one : many || one + 's'}`;
}

function decimals(number, places) {
  return number.toFixed(places).replace('-', '\u2212');
}

function percent(part) {
  if (!isNumber(part)) return '–';
  const value = part * 100;
  return `${decimals(value, Math.abs(value) >= 99.95 || value === 0 ? 0 : 1)}${NARROW}%`;
}

function plainNumber(value) {
  if (!isNumber(value)) return '–';
  if (Number.isInteger(value)) return Math.abs(value) >= 10000 ? whole(value) : String(value);
  return Math.abs(value) < 0.001 ? value.toExponential(1) : decimals(value, Math.abs(value) < 1 ? 3 : 2);
}

function unitText(value, unit) {
  if (!isNumber(value)) return '–';
  if (unit === 'share') return percent(value);
  if (unit === 'distance') return decimals(value, 3);
  return decimals(value, 2);
}

const UNIT_WORDS = { 'log-odds': ' log-odds', probability: ' of probability', share: '', distance: '' };

function effectText(effect) {
  return isNumber(effect.value) ? unitText(effect.value, effect.unit) + (UNIT_WORDS[effect.unit] || '') : 'not known';
}

function hasInterval(effect) {
  return effect.interval.every(isNumber);
}

function intervalText(effect) {
  if (!hasInterval(effect)) return 'no interval';
  const [low, high] = effect.interval;
  return `95${NARROW}%: ${rangeText(low, high, effect.unit)}`;
}

function rangeText(low, high, unit) {
  const first = unitText(low, unit);
  return `${unit === 'share' ? first.replace(`${NARROW}%`, '') : first} to ${unitText(high, unit)}`;
}

function countText(effect) {
  return `n${NARROW}=${NARROW}${whole(effect.n)}`;
}

function isEffect(value) {
  return value !== null && typeof value === 'object' && 'interval' in value && 'value' in value && 'n' in value;
}

function probabilityText(p) {
  if (!isNumber(p)) return '–';
  return p < 0.0001 ? '< 0.0001' : decimals(p, p < 0.01 ? 4 : 3);
}

function words(name) {
  const text = String(name).replace(/_/g, ' ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function say(text) {
  document.getElementById('live').textContent = text;
}

function later(callback, wait) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => callback(...given), wait);
  };
}
