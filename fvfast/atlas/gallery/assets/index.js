"use strict";
// The first page: a search in all layers.

(() => {
  const atlas = fvfastAtlas;
  const { layers } = atlas.value("atlas");
  const MOST = 120;
  const search = document.getElementById("search");
  const found = document.getElementById("found");
  const results = document.getElementById("results");
  let asked = 0;

  function loadAll() {
    return Promise.all(layers.map((layer) => atlas.load(`units:${layer.slug}`, `data/${layer.slug}/units.js`)));
  }

  function result(layer, units, position) {
    const title = atlas.unitTitle(layer, units, position);
    const image = atlas.element("img", {
      src: atlas.pictureOf(layer, units, position, { folder: "thumbnails", blended: false }),
      alt: "", width: 128, height: 128, loading: "lazy", decoding: "async",
    });
    const where = atlas.element("span", { class: "tile-facts" }, atlas.isolated(layer.name), ` · ${units.index[position]}`);
    return atlas.element("li", {}, atlas.element("a", { href: atlas.unitAddress(layer, units.index[position]) },
      image, atlas.element("span", { class: "tile-name" }, atlas.isolated(title)), where));
  }

  async function show() {
    const mine = ++asked;
    const text = search.value.trim();
    const searching = text !== "";
    document.getElementById("layers").hidden = searching;
    results.hidden = !searching;
    if (!searching) {
      found.textContent = "";
      results.replaceChildren();
      return;
    }
    let all;
    try {
      all = await loadAll();
    } catch (error) {
      found.textContent = `The search does not work: ${error.message}.`;
      return;
    }
    if (mine !== asked) return;
    let count = 0;
    const items = [];
    layers.forEach((layer, place) => {
      const units = all[place];
      const matches = fvfastListing.matcher(units, text);
      for (let position = 0; position < units.index.length; position++) {
        if (!matches(position)) continue;
        count += 1;
        if (items.length < MOST) items.push(result(layer, units, position));
      }
    });
    found.textContent = count > MOST
      ? `${atlas.counted(count, "unit")}; the first ${MOST} are shown.`
      : atlas.counted(count, "unit");
    results.replaceChildren(...items);
  }

  function keep() {
    history.replaceState(null, "", search.value ? `#${new URLSearchParams({ search: search.value })}` : "#");
  }

  function apply() {
    const given = new URLSearchParams(location.hash.slice(1));
    search.value = given.get("search") ?? "";
    show();
  }

  search.addEventListener("input", () => {
    keep();
    show();
  });
  search.addEventListener("focus", () => { loadAll().catch(() => {}); }); // `show` reports it
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      search.value = "";
      keep();
      show();
      search.blur();
    }
  });
  document.getElementById("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    results.querySelector("a")?.focus();
  });
  addEventListener("hashchange", apply);
  apply();
})();
