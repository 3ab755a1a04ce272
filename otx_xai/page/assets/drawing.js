// Pictures, maps over them, and boxes, on a canvas. The page never reads pixels of a picture, which a browser forbids on a disk.

const look = { shown: true, opacity: 0.6, threshold: 0.35, boxes: true };
const FINE = 64; // places along the longer side of a map when it is drawn; the browser smooths the rest

// Values of a map in [0, 1] at width × height places, bilinear between the centres of its cells.
function enlarged(map, width, height) {
  const [rows, columns] = map.size;
  const values = new Float32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    const down = Math.min(rows - 1, Math.max(0, ((y + 0.5) / height) * rows - 0.5));
    const top = Math.floor(down);
    const below = Math.min(rows - 1, top + 1);
    for (let x = 0; x < width; x += 1) {
      const right = Math.min(columns - 1, Math.max(0, ((x + 0.5) / width) * columns - 0.5));
      const left = Math.floor(right);
      const next = Math.min(columns - 1, left + 1);
      const upper = map.grid[top * columns + left] * (1 - right + left) + map.grid[top * columns + next] * (right - left);
      const lower = map.grid[below * columns + left] * (1 - right + left) + map.grid[below * columns + next] * (right - left);
      values[y * width + x] = (upper * (1 - down + top) + lower * (down - top)) / 255;
    }
  }
  return values;
}

function fineSize(map) {
  const [rows, columns] = map.size;
  const scale = Math.max(1, FINE / Math.max(rows, columns));
  return [Math.round(columns * scale), Math.round(rows * scale)];
}

const scratch = new Map(); // one canvas a size, since each layer is laid on a picture at once

function onCanvas(width, height, paintPixel) {
  const size = `${width} ${height}`;
  if (!scratch.has(size)) {
    const canvas = make('canvas', { width, height });
    const context = canvas.getContext('2d', { willReadFrequently: true }); // kept in memory, not on a graphics card
    scratch.set(size, { canvas, context, pixels: context.createImageData(width, height) });
  }
  const { canvas, context, pixels } = scratch.get(size);
  for (let place = 0; place < width * height; place += 1) paintPixel(pixels.data, 4 * place, place);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function put(data, at, colours, step, alpha) {
  data[at] = colours[3 * step];
  data[at + 1] = colours[3 * step + 1];
  data[at + 2] = colours[3 * step + 2];
  data[at + 3] = 255 * alpha;
}

// A map in colours: what is below the threshold is clear, what is weak is faint. `solid`: the map alone.
function heatLayer(map, opacity, threshold, solid) {
  const [width, height] = fineSize(map);
  const values = enlarged(map, width, height);
  const edge = Math.min(0.2, (1.001 - threshold) / 2);
  return onCanvas(width, height, (data, at, place) => {
    const value = values[place];
    const fades = Math.min(1, Math.max(0, (value - threshold) / edge));
    put(data, at, HEAT, Math.round(255 * value), solid ? 1 : opacity * fades * (0.4 + 0.6 * value));
  });
}

// What `now` has more than `before` (red) and less (blue).
function differenceLayer(now, before, opacity, threshold) {
  const [width, height] = fineSize(now);
  const [one, other] = [enlarged(now, width, height), enlarged(before, width, height)];
  return onCanvas(width, height, (data, at, place) => {
    const change = one[place] - other[place];
    const strength = Math.abs(change);
    const fades = Math.min(1, Math.max(0, (strength - 0.5 * threshold) / 0.12));
    put(data, at, DIFFERENCE, Math.round(127.5 * (1 + Math.sign(change) * Math.min(1, 0.35 + strength))), opacity * fades * Math.min(1, 0.4 + strength));
  });
}

const OBJECT_COLOUR = '#35c46a';
const FOUND_COLOUR = '#4aa3ff';
const FAULT_COLOUR = '#ff5a4d';

// Draws a picture with what lies over it, as large as the canvas.
// scene: {source, map, before, boxes: [{xyxy, text, kind}], extent, solid}
function paint(canvas, scene) {
  const context = canvas.getContext('2d');
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = 'high';
  if (scene.source && !scene.solid) {
    const { picture, x, y, width: w, height: h } = scene.source;
    context.drawImage(picture, x, y, w, h, 0, 0, width, height);
  } else {
    context.fillStyle = scene.ground || '#2a2d33';
    context.fillRect(0, 0, width, height);
  }
  if (scene.map && look.shown) {
    const layer = scene.before
      ? differenceLayer(scene.map, scene.before, Math.min(1, look.opacity + 0.3), look.threshold)
      : heatLayer(scene.map, look.opacity, look.threshold, scene.solid);
    const [left, top, right, bottom] = scene.extent;
    context.drawImage(layer, left * width, top * height, (right - left) * width, (bottom - top) * height);
  }
  if (scene.boxes && look.boxes) scene.boxes.forEach((box) => paintBox(context, box, width, height));
}

function paintBox(context, box, width, height) {
  const colour = { object: OBJECT_COLOUR, found: FOUND_COLOUR, fault: FAULT_COLOUR }[box.kind];
  const [left, top, right, bottom] = box.xyxy;
  const thick = Math.max(1.5, Math.min(width, height) / 220);
  context.setLineDash(box.kind === 'object' ? [4 * thick, 3 * thick] : []);
  for (const [line, style] of [[thick * 2, 'rgba(0,0,0,.55)'], [thick, colour]]) {
    context.lineWidth = line;
    context.strokeStyle = style;
    context.strokeRect(left * width, top * height, (right - left) * width, (bottom - top) * height);
  }
  context.setLineDash([]);
  if (!box.text || width < 260) return;
  const size = Math.max(11, Math.round(width / 48));
  context.font = `600 ${size}px system-ui, sans-serif`;
  const wide = context.measureText(box.text).width + 8;
  const x = Math.max(0, Math.min(width - wide, left * width));
  const y = box.kind === 'object' ? Math.min(height - size - 6, bottom * height) : Math.max(0, top * height - size - 6);
  context.fillStyle = 'rgba(12,14,18,.82)';
  context.fillRect(x, y, wide, size + 6);
  context.fillStyle = colour;
  context.textBaseline = 'top';
  context.fillText(box.text, x + 4, y + 3);
}

function boxesOf(detail, only) {
  const objects = detail.objects.map(([target, ...rest]) => ({
    xyxy: rest.slice(0, 4), text: label(target) + (rest[5] ? ` · ${words(rest[5]).toLowerCase()}` : ''), kind: rest[5] ? 'fault' : 'object',
  }));
  const found = detail.found.map(([target, ...rest], place) => ({
    place, xyxy: rest.slice(0, 4), kind: rest[5] ? 'fault' : 'found',
    text: `${label(target)} ${isNumber(rest[4]) ? rest[4].toFixed(2) : ''}${rest[5] ? ` · ${words(rest[5]).toLowerCase()}` : ''}`,
  }));
  return [...objects, ...(isNumber(only) && only >= 0 ? found.filter((box) => box.place === only) : found)];
}

// The map that says most of an image: of the model, of what it predicted.
function mainMap(index, detail) {
  const own = detail.maps.filter((map) => !map.baseline);
  return own.find((map) => map.target === store.best[index]) || own[0] || null;
}

function mapOf(index, detail, target, baseline) {
  return detail.maps.find((map) => map.baseline === Boolean(baseline) && map.target === target) || null;
}
