"use strict";
// The page of a layer.

(() => {
  const atlas = fvfastAtlas;
  const container = document.getElementById("grid");
  const slug = container.dataset.slug;
  const layer = atlas.value("atlas").layers.find((one) => one.slug === slug);
  const units = atlas.value(`units:${slug}`);
  const found = document.getElementById("found");
  const fields = Object.fromEntries(
    ["search", "sort", "order", "show", "blended"].map((id) => [id, document.getElementById(id)]),
  );
  let state = fvfastListing.parse("");

  function caption(position) {
    const title = atlas.element("span", { class: "tile-name" }, atlas.isolated(atlas.unitTitle(layer, units, position)));
    const parts = [];
    if (units.name[position] !== null) parts.push(String(units.index[position]));
    if (state.sort === "active") parts.push(`active ${atlas.percent(units.active[position])}`);
    else parts.push(`score ${atlas.number(units.score[position], 3)}`);
    return [title, atlas.element("span", { class: "tile-facts" }, parts.join(" · "))];
  }

  function alternative(position) {
    const name = units.name[position];
    return `Picture of ${layer.kind} ${units.index[position]}${name === null ? "" : `, ${name}`}`;
  }

  function makeTile(position) {
    const blended = fields.blended.checked && units.blended[position] === 1;
    const image = atlas.element("img", {
      src: atlas.pictureOf(layer, units, position, { folder: "thumbnails", blended }),
      alt: alternative(position), width: 256, height: 256, loading: "lazy", decoding: "async",
    });
    const address = atlas.unitAddress(layer, units.index[position], fvfastListing.write(state));
    const link = atlas.element("a", { href: address }, image, ...caption(position));
    return atlas.element("div", { class: "tile" }, link);
  }

  const grid = new FvfastGrid(container, makeTile);

  function show() {
    const positions = fvfastListing.arrange(units, state);
    const all = units.index.length;
    found.textContent = positions.length === all
      ? atlas.counted(all, "unit")
      : `${positions.length.toLocaleString("en")} of ${atlas.counted(all, "unit")}`;
    container.classList.toggle("blended", fields.blended.checked);
    grid.show(positions);
  }

  function ownAddress() {
    return `#${fvfastListing.write(state, fields.blended.checked ? { blended: 1 } : {})}`;
  }

  function keep() {
    history.replaceState({ y: scrollY, place: grid.current }, "", ownAddress());
  }

  // Show what the address says.
  function apply() {
    const text = location.hash.slice(1);
    const given = new URLSearchParams(text);
    state = fvfastListing.parse(text);
    for (const name of ["search", "sort", "order", "show"]) fields[name].value = state[name];
    fields.blended.checked = given.get("blended") === "1";
    show();
    const at = given.has("at") ? grid.shown.findIndex((one) => String(units.index[one]) === given.get("at")) : -1;
    if (at >= 0) {
      grid.go(at, { center: true });
      keep();
    } else if (history.state) {
      scrollTo({ top: history.state.y, behavior: "instant" });
      grid.setCurrent(Math.min(history.state.place, Math.max(0, grid.shown.length - 1)));
      grid.render();
    } else if (given.has("search") && !state.search) {
      fields.search.focus();
    }
  }

  function change() {
    const isNew = ["search", "sort", "order", "show"].filter((name) => state[name] !== fields[name].value);
    for (const name of isNew) state[name] = fields[name].value;
    const { place, y } = { place: grid.current, y: scrollY };
    show();
    if (isNew.length) {
      grid.toBegin();
    } else {
      grid.setCurrent(place);
      scrollTo({ top: y, behavior: "instant" });
    }
    keep();
  }

  document.getElementById("controls").addEventListener("input", change);
  document.getElementById("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    grid.go(0);
  });
  fields.search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      if (fields.search.value) {
        fields.search.value = "";
        change();
      }
      fields.search.blur();
    } else if (event.key === "ArrowDown") {
      event.preventDefault();
      grid.go(0);
    }
  });
  for (const key of ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]) {
    // From the page itself: into the grid, at what is in the window.
    atlas.onKey(key, () => {
      if (!grid.shown.length) return false;
      grid.go(grid.firstVisible());
      return true;
    });
  }
  atlas.onKey("Escape", () => {
    location.href = document.getElementById("up").href;
  });
  atlas.onKey("t", () => {
    fields.blended.checked = !fields.blended.checked;
    change();
  });

  // The back button returns to the same place: the browser restores no scrolling where the page
  // is made by a program.
  history.scrollRestoration = "manual";
  let waiting = 0;
  addEventListener("scroll", () => {
    clearTimeout(waiting);
    waiting = setTimeout(keep, 150);
  }, { passive: true });
  container.addEventListener("click", keep, { capture: true });
  addEventListener("hashchange", apply);
  apply();
})();
