"use strict";
// A grid of tiles, of which only those near the window exist: thousands would take seconds.

class FvfastGrid {
  // makeTile(position): an element with a link in it; label: names the grid's items.
  constructor(container, makeTile) {
    this.container = container;
    this.makeTile = makeTile;
    this.shown = [];
    this.tiles = new Map(); // place in the order -> element
    this.current = 0;
    this.columns = 1;
    let planned = false;
    const plan = () => {
      if (planned) return;
      planned = true;
      requestAnimationFrame(() => {
        planned = false;
        this.render();
      });
    };
    addEventListener("scroll", plan, { passive: true });
    new ResizeObserver(() => {
      this.measure();
      this.render();
    }).observe(container);
    container.addEventListener("focusin", (event) => {
      const tile = event.target.closest("[data-place]");
      if (tile) this.setCurrent(Number(tile.dataset.place));
    });
    container.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
      if (this.move(event.key)) event.preventDefault();
    });
  }

  // Show units in an order, beginning anew.
  show(positions) {
    this.shown = positions;
    this.current = 0;
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.measure();
    this.render();
  }

  measure() {
    const style = getComputedStyle(this.container);
    const least = parseFloat(style.getPropertyValue("--tile"));
    this.gap = parseFloat(style.getPropertyValue("--gap"));
    const caption = parseFloat(style.getPropertyValue("--caption"));
    const width = this.container.clientWidth;
    this.columns = Math.max(1, Math.floor((width + this.gap) / (least + this.gap)));
    this.width = (width - this.gap * (this.columns - 1)) / this.columns;
    this.height = this.width + caption;
    const rows = Math.ceil(this.shown.length / this.columns);
    this.container.style.height = `${Math.max(0, rows * (this.height + this.gap) - this.gap)}px`;
    for (const [place, tile] of this.tiles) this.put(tile, place);
  }

  put(tile, place) {
    const row = Math.floor(place / this.columns);
    const column = place % this.columns;
    tile.style.width = `${this.width}px`;
    tile.style.height = `${this.height}px`;
    tile.style.left = `${column * (this.width + this.gap)}px`;
    tile.style.top = `${row * (this.height + this.gap)}px`;
  }

  render() {
    const begin = -this.container.getBoundingClientRect().top;
    const row = this.height + this.gap;
    const first = Math.max(0, Math.floor((begin - innerHeight) / row)) * this.columns;
    const last = Math.min(this.shown.length, Math.ceil((begin + 2 * innerHeight) / row) * this.columns);
    const wanted = [];
    for (let place = first; place < last; place++) wanted.push(place);
    // The tile that the keyboard is at stays: without it, the focus would be lost.
    if (this.current < this.shown.length && (this.current < first || this.current >= last)) {
      wanted.push(this.current);
      wanted.sort((a, b) => a - b);
    }
    const keep = new Set(wanted);
    for (const [place, tile] of this.tiles) {
      if (!keep.has(place)) {
        tile.remove();
        this.tiles.delete(place);
      }
    }
    let next = this.container.firstChild;
    for (const place of wanted) {
      let tile = this.tiles.get(place);
      if (tile && tile === next) {
        next = tile.nextSibling;
        continue;
      }
      if (!tile) {
        tile = this.tile(place);
        this.tiles.set(place, tile);
      }
      this.container.insertBefore(tile, next);
    }
  }

  tile(place) {
    const tile = this.makeTile(this.shown[place]);
    tile.dataset.place = place;
    tile.setAttribute("role", "listitem");
    tile.setAttribute("aria-setsize", this.shown.length);
    tile.setAttribute("aria-posinset", place + 1);
    tile.querySelector("a").tabIndex = place === this.current ? 0 : -1;
    this.put(tile, place);
    return tile;
  }

  setCurrent(place) {
    const before = this.tiles.get(this.current);
    if (before) before.querySelector("a").tabIndex = -1;
    this.current = place;
    const tile = this.tiles.get(place);
    if (tile) tile.querySelector("a").tabIndex = 0;
  }

  // Height of what stays at the top of the window.
  above() {
    return parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop) || 0;
  }

  // Scroll up to the first tile, where it is out of sight.
  toBegin() {
    const missing = this.container.getBoundingClientRect().top - this.above();
    if (missing < 0) scrollBy({ top: missing, behavior: "instant" });
    this.render();
  }

  // Go to a tile: it is scrolled to, and has the focus.
  go(place, { center = false } = {}) {
    if (!this.shown.length) return;
    const target = Math.max(0, Math.min(this.shown.length - 1, place));
    this.setCurrent(target);
    const top = this.container.getBoundingClientRect().top + scrollY
      + Math.floor(target / this.columns) * (this.height + this.gap);
    const above = this.above();
    if (center) {
      scrollTo({ top: top - (innerHeight - this.height) / 2, behavior: "instant" });
    } else if (top - above < scrollY) {
      scrollTo({ top: top - above, behavior: "instant" });
    } else if (top + this.height + this.gap > scrollY + innerHeight) {
      scrollTo({ top: top + this.height + this.gap - innerHeight, behavior: "instant" });
    }
    this.render();
    this.tiles.get(target).querySelector("a").focus({ preventScroll: true });
  }

  // Go where a key leads; false if it leads nowhere.
  move(key) {
    const rows = Math.max(1, Math.floor(innerHeight / (this.height + this.gap)) - 1);
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns,
      PageUp: -rows * this.columns, PageDown: rows * this.columns,
      Home: -Infinity, End: Infinity,
    };
    if (!(key in steps)) return false;
    const there = this.current + steps[key];
    // Up from the first row and down from the last one: nothing is there.
    if ((key === "ArrowUp" && there < 0) || (key === "ArrowDown" && there >= this.shown.length)) return true;
    this.go(there);
    return true;
  }

  // The first tile that is wholly visible.
  firstVisible() {
    const begin = -this.container.getBoundingClientRect().top;
    return Math.max(0, Math.ceil(begin / (this.height + this.gap))) * this.columns;
  }
}
