"use strict";
// Which units of a layer are shown, and in which order: a state that fits into an address.

const fvfastListing = (() => {
  const DEFAULTS = { search: "", sort: "index", order: "up", show: "all" };
  const RARE = 0.1;

  const FILTERS = {
    all: () => true,
    examples: (units, position) => units.examples[position] > 0,
    none: (units, position) => units.examples[position] === 0,
    named: (units, position) => units.name[position] !== null,
    rare: (units, position) => units.active[position] !== null && units.active[position] < RARE,
  };

  // Read a state; what an address does not say, or says wrong, is the default.
  function parse(text) {
    const given = new URLSearchParams(text);
    const state = { ...DEFAULTS };
    for (const name of Object.keys(DEFAULTS)) if (given.has(name)) state[name] = given.get(name);
    if (!["index", "name", "score", "active"].includes(state.sort)) state.sort = DEFAULTS.sort;
    if (!["up", "down"].includes(state.order)) state.order = DEFAULTS.order;
    if (!Object.hasOwn(FILTERS, state.show)) state.show = DEFAULTS.show;
    return state;
  }

  // Write a state, without what is the default.
  function write(state, more = {}) {
    const written = new URLSearchParams();
    for (const [name, usual] of Object.entries(DEFAULTS)) {
      if (state[name] !== usual) written.set(name, state[name]);
    }
    for (const [name, given] of Object.entries(more)) written.set(name, given);
    return String(written);
  }

  function folded(text) {
    return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  }

  // Make a test of units: each word is part of the name, the index, or a range of indices as 10-20.
  function matcher(units, search) {
    const words = folded(search).split(/\s+/).filter(Boolean);
    units.folded ??= units.name.map((name) => (name === null ? "" : folded(name)));
    const tests = words.map((word) => {
      const range = /^(\d+)(?:-(\d+))?$/.exec(word);
      const inName = (position) => units.folded[position].includes(word);
      if (!range) return inName;
      const first = Number(range[1]);
      const last = Number(range[2] ?? range[1]);
      return (position) => {
        const index = units.index[position];
        return (index >= first && index <= last) || inName(position);
      };
    });
    return (position) => tests.every((test) => test(position));
  }

  const inOrder = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  // Return the positions of the units that are shown, in their order. What is unknown comes last.
  function arrange(units, state) {
    const matches = matcher(units, state.search);
    const shown = [];
    for (let position = 0; position < units.index.length; position++) {
      if (FILTERS[state.show](units, position) && matches(position)) shown.push(position);
    }
    const sign = state.order === "up" ? 1 : -1;
    if (state.sort === "index") return sign === 1 ? shown : shown.reverse();
    const column = units[state.sort];
    const compare = state.sort === "name" ? inOrder.compare : (a, b) => a - b;
    return shown.sort((a, b) => {
      if (column[a] === null || column[b] === null) {
        return (column[a] === null) - (column[b] === null) || a - b;
      }
      return sign * compare(column[a], column[b]) || a - b;
    });
  }

  return { parse, write, matcher, arrange };
})();
