// A grid of as many images as there are, of which only those in sight exist.

class Grid {
  constructor(open) {
    this.open = open;
    this.items = [];
    this.active = 0;
    this.tiles = new Map(); // place → tile
    this.free = [];
    this.element = make('div', { class: 'grid', role: 'list', 'aria-label': 'Images', keydown: (event) => this.onKey(event) });
    this.onMove = () => { this.frame = this.frame || requestAnimationFrame(() => { this.frame = 0; this.show(); }); };
    this.settle = later(() => this.redraw(), 70);
    this.seen = { top: 0, time: 0 };
    window.addEventListener('scroll', this.onMove, { passive: true });
    window.addEventListener('resize', this.onMove);
  }

  close() {
    window.removeEventListener('scroll', this.onMove);
    window.removeEventListener('resize', this.onMove);
  }

  set(items) {
    this.items = items;
    this.active = 0;
    for (const place of [...this.tiles.keys()]) this.release(place);
    this.show();
  }

  measure() {
    const gap = 12;
    const width = this.element.clientWidth || 1;
    this.columns = Math.max(2, Math.floor((width + gap) / (168 + gap)));
    this.wide = (width - gap * (this.columns - 1)) / this.columns;
    this.stepX = this.wide + gap;
    this.stepY = this.wide + 52 + gap;
    this.rows = Math.ceil(this.items.length / this.columns);
    this.element.style.height = `${Math.max(0, this.rows * this.stepY - gap)}px`;
  }

  show() {
    if (!this.element.isConnected) return;
    this.measure();
    const top = -this.element.getBoundingClientRect().top;
    this.hasty = this.isHasty(top);
    const first = Math.max(0, Math.floor((top - 300) / this.stepY)) * this.columns;
    const last = Math.min(this.items.length, (Math.floor((top + window.innerHeight + 300) / this.stepY) + 1) * this.columns);
    for (const place of [...this.tiles.keys()]) {
      if ((place < first || place >= last) && this.tiles.get(place).button !== document.activeElement) this.release(place);
    }
    for (let place = first; place < last; place += 1) this.put(place);
    if (this.hasty) this.settle();
  }

  // Faster than a screen in a fifth of a second: nobody sees what goes by.
  isHasty(top) {
    const now = performance.now();
    const { top: before, time } = this.seen;
    this.seen = { top, time: now };
    return time > 0 && Math.abs(top - before) / Math.max(1, now - time) > window.innerHeight / 200;
  }

  put(place) {
    let tile = this.tiles.get(place);
    if (!tile) {
      tile = this.free.pop() || this.makeOne();
      this.tiles.set(place, tile);
      tile.place = place;
      this.element.append(tile.box);
    }
    tile.box.style.transform = `translate(${(place % this.columns) * this.stepX}px, ${Math.floor(place / this.columns) * this.stepY}px)`;
    tile.box.style.width = `${this.wide}px`;
    tile.box.setAttribute('aria-setsize', this.items.length);
    tile.box.setAttribute('aria-posinset', place + 1);
    tile.button.tabIndex = place === this.active ? 0 : -1;
    if (tile.index !== this.items[place]) showTile(tile, this.items[place], this.hasty);
  }

  makeOne() {
    const tile = makeTile(() => this.open(tile.place));
    tile.box = make('div', { class: 'grid-cell', role: 'listitem' }, tile.button);
    tile.button.addEventListener('focus', () => { this.active = tile.place; });
    return tile;
  }

  release(place) {
    const tile = this.tiles.get(place);
    this.tiles.delete(place);
    tile.box.remove();
    tile.index = -1;
    this.free.push(tile);
  }

  redraw() {
    for (const tile of this.tiles.values()) drawTile(tile, tile.index);
  }

  onKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, Home: -this.active, End: this.items.length }[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.focus(this.active + step);
  }

  focus(place) {
    if (!this.items.length) return;
    this.measure();
    this.active = Math.min(this.items.length - 1, Math.max(0, place));
    const top = this.element.getBoundingClientRect().top + Math.floor(this.active / this.columns) * this.stepY;
    const head = 130;
    if (top < head) window.scrollBy(0, top - head);
    else if (top + this.stepY > window.innerHeight) window.scrollBy(0, top + this.stepY - window.innerHeight + 8);
    this.show();
    this.put(this.active);
    this.tiles.get(this.active).button.focus({ preventScroll: true });
  }
}
