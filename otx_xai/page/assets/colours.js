// Colour maps. Inferno (matplotlib, CC0) rises evenly in lightness, so that a step of the map looks like a step; the
// diverging one is ColorBrewer's blue to red, with the same lightness on both sides.

const INFERNO = [
  [0, 0, 4], [22, 11, 57], [66, 10, 104], [106, 23, 110], [147, 38, 103], [188, 55, 84],
  [221, 81, 58], [243, 120, 25], [252, 165, 10], [246, 215, 70], [252, 255, 164],
];
const BLUE_RED = [
  [5, 80, 160], [67, 147, 195], [146, 197, 222], [209, 229, 240], [247, 247, 247],
  [253, 219, 199], [244, 165, 130], [214, 96, 77], [170, 20, 40],
];

function table(stops) {
  const colours = new Uint8ClampedArray(256 * 3);
  for (let step = 0; step < 256; step += 1) {
    const place = (step / 255) * (stops.length - 1);
    const first = Math.min(stops.length - 2, Math.floor(place));
    for (let channel = 0; channel < 3; channel += 1) {
      colours[3 * step + channel] = stops[first][channel] + (place - first) * (stops[first + 1][channel] - stops[first][channel]);
    }
  }
  return colours;
}

const HEAT = table(INFERNO);
const DIFFERENCE = table(BLUE_RED);

function gradientOf(stops) {
  return `linear-gradient(to right, ${stops.map((rgb) => `rgb(${rgb.join(',')})`).join(', ')})`;
}

function colourScale(stops, low, high, title) {
  const bar = make('span', { class: 'scale-bar', 'aria-hidden': 'true' });
  bar.style.background = gradientOf(stops);
  return make('span', { class: 'scale' }, make('span', null, low), bar, make('span', null, high), title ? make('span', { class: 'muted' }, title) : null);
}
