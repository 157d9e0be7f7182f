"use strict";
// What all pages share. Classic scripts, because pages that open from a disk may load neither
// modules nor JSON.

const fvfastAtlas = (() => {
  const values = new Map();
  const loading = new Map();

  // Scripts in data/ call this.
  function provide(key, value) {
    values.set(key, value);
  }

  function value(key) {
    return values.get(key);
  }

  // Load a script of data/ once; the promise is of the value that it provides.
  function load(key, address) {
    if (values.has(key)) return Promise.resolve(values.get(key));
    if (!loading.has(key)) {
      loading.set(key, new Promise((resolve, reject) => {
        const script = element("script", { src: address });
        const fail = (why) => {
          loading.delete(key); // the next call tries again
          script.remove();
          reject(new Error(`${address} ${why}`));
        };
        script.onload = () => {
          if (values.has(key)) resolve(values.get(key));
          else fail("is not the file that this page expects");
        };
        script.onerror = () => fail("cannot be loaded");
        document.head.append(script);
      }));
    }
    return loading.get(key);
  }

  // Make an element. Texts become text, never markup: names may hold anything.
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, given] of Object.entries(attributes)) {
      if (given !== null && given !== undefined && given !== false) made.setAttribute(name, given === true ? "" : given);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  function isolated(text) {
    return element("bdi", {}, text);
  }

  function number(given, digits = 4) {
    if (given === null || given === undefined) return "–";
    return String(Number(given.toPrecision(digits))).replace("-", "−");
  }

  function percent(share) {
    if (share === null || share === undefined) return "–";
    return `${number(100 * share, 3)} %`;
  }

  function counted(count, one, many = `${one}s`) {
    return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
  }

  function kindOf(layer, count = 1) {
    const many = layer.kind === "class" ? "classes" : `${layer.kind}s`;
    return count === 1 ? layer.kind : many;
  }

  // Names of a unit's files. Their folders have names that need no escapes.
  function pictureOf(layer, units, position, { folder, blended }) {
    const suffix = blended ? "blended.webp" : "webp";
    return `${folder}/${layer.slug}/${units.index[position]}.${units.version[position]}.${suffix}`;
  }

  function unitAddress(layer, index, state = "") {
    return `unit.html#${encodeURIComponent(layer.name)}/${index}${state ? `?${state}` : ""}`;
  }

  function unitTitle(layer, units, position) {
    return units.name[position] ?? `${layer.kind[0].toUpperCase()}${layer.kind.slice(1)} ${units.index[position]}`;
  }

  function remember(key, given) {
    try {
      localStorage.setItem(`fvfast-${key}`, given);
    } catch {
      // Nothing is kept for this reader: the choice holds for this page.
    }
  }

  function remembered(key) {
    try {
      return localStorage.getItem(`fvfast-${key}`);
    } catch {
      return null;
    }
  }

  // Whether a key belongs to the page, and not to a field or to the browser.
  function isShortcut(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return false;
    if (document.querySelector("dialog[open]")) return false;
    return !event.target.closest?.("input, select, textarea");
  }

  const shortcuts = new Map();

  // Call an action when a key is pressed outside of fields.
  function onKey(key, action) {
    shortcuts.set(key, action);
  }

  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function showTheme() {
    document.getElementById("theme-button").setAttribute("aria-pressed", String(isDark()));
  }

  function switchTheme() {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    remember("theme", theme);
    showTheme();
  }

  function start() {
    document.getElementById("theme-button").addEventListener("click", switchTheme);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
    showTheme();
    addEventListener("pageshow", (event) => {
      // The back button may bring a page as it was before the reader chose on another one.
      if (!event.persisted) return;
      const chosen = remembered("theme");
      if (chosen) document.documentElement.dataset.theme = chosen;
      showTheme();
    });
    const help = document.getElementById("help");
    document.getElementById("help-button").addEventListener("click", () => help.showModal());
    // Not by its address: what follows the # says what the page shows.
    document.querySelector("[data-skip]").addEventListener("click", (event) => {
      event.preventDefault();
      const main = document.getElementById("main");
      main.focus();
      main.scrollIntoView();
    });
    onKey("?", () => help.showModal());
    onKey("d", switchTheme);
    onKey("/", () => {
      const search = document.getElementById("search");
      if (search) {
        search.focus();
        search.select();
      } else {
        location.href = document.getElementById("up").href.replace(/#.*/, "") + "#search=";
      }
    });
    document.addEventListener("keydown", (event) => {
      if (!isShortcut(event)) return;
      const action = shortcuts.get(event.key.length === 1 ? event.key.toLowerCase() : event.key);
      if (action && action(event) !== false) event.preventDefault();
    });
  }
  start();

  return {
    provide, value, load, element, isolated, number, percent, counted, kindOf, pictureOf,
    unitAddress, unitTitle, remember, remembered, onKey,
  };
})();
