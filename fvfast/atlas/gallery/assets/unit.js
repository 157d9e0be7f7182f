"use strict";
// The page of a unit: unit.html#layer/index, and behind a "?" the order that the reader has chosen.

(() => {
  const atlas = fvfastAtlas;
  const UNITS_PER_SCRIPT = atlas.value("atlas").unitsPerScript;
  const part = (id) => document.getElementById(id);
  let asked = 0;
  let redraw = () => {};

  // What the address names; null if it is no address of a unit.
  function wanted() {
    const text = location.hash.slice(1);
    const [key, state = ""] = text.split(/\?(.*)/s);
    const split = key.lastIndexOf("/");
    if (split < 0) return null;
    try {
      const name = decodeURIComponent(key.slice(0, split));
      return { name, index: key.slice(split + 1), state: fvfastListing.parse(state) };
    } catch (error) {
      if (error instanceof URIError) return null; // a "%" that begins no escape
      throw error;
    }
  }

  function complain(text) {
    part("unit").hidden = true;
    part("message").hidden = false;
    part("message").textContent = text;
    part("here").textContent = "";
    document.title = `Not found · ${atlas.value("atlas").title}`;
  }

  async function show() {
    const mine = ++asked;
    const address = wanted();
    if (!address) {
      complain("The address names no unit. It ends with #, the name of a layer, a slash and an index.");
      return;
    }
    const layer = atlas.value("atlas").layers.find((one) => one.name === address.name);
    if (!layer) {
      complain(`There is no layer ${address.name} here.`);
      return;
    }
    try {
      const units = await atlas.load(`units:${layer.slug}`, `data/${layer.slug}/units.js`);
      const position = units.index.findIndex((index) => String(index) === address.index);
      if (mine !== asked) return;
      showUp(layer, address);
      if (position < 0) {
        complain(`There is no picture of ${layer.kind} ${address.index} of ${layer.name}: it is not drawn yet, or could not be.`);
        return;
      }
      const script = Math.floor(units.index[position] / UNITS_PER_SCRIPT);
      const details = await atlas.load(`details:${layer.slug}:${script}`, `data/${layer.slug}/${script}.js`);
      if (mine !== asked) return; // the reader has gone on
      if (!Object.hasOwn(details, address.index)) {
        complain(`data/${layer.slug}/${script}.js has no ${layer.kind} ${address.index}: load this page again.`);
        return;
      }
      fill(layer, units, position, details[address.index], address.state);
    } catch (error) {
      if (mine === asked) complain(`The unit cannot be shown: ${error.message}.`);
    }
  }

  function showUp(layer, address) {
    const up = part("up");
    up.href = `${layer.page}#${fvfastListing.write(address.state, { at: address.index })}`;
    up.replaceChildren(atlas.isolated(layer.name));
  }

  function fill(layer, units, position, details, state) {
    const title = atlas.unitTitle(layer, units, position);
    const key = `${layer.kind} ${units.index[position]}`;
    document.title = `${title} · ${layer.name} · ${atlas.value("atlas").title}`;
    part("message").hidden = true;
    part("unit").hidden = false;
    part("here").replaceChildren(atlas.isolated(title));
    part("name").replaceChildren(atlas.isolated(title));
    part("which").replaceChildren(units.name[position] === null ? "of " : `${key} of `, atlas.isolated(layer.name), " in ", atlas.isolated(atlas.value("atlas").network));
    fillPager(layer, units, position, state);
    fillPicture(layer, units, position, details);
    fillExamples(layer, details.examples);
    fillFacts(units, position, details);
    part("command-box").hidden = details.command === null;
    part("command").textContent = details.command ?? "";
    part("copied").textContent = "";
    redraw = () => fillCharts(details);
    redraw();
  }

  function fillPager(layer, units, position, state) {
    let order = fvfastListing.arrange(units, state);
    let place = order.indexOf(position);
    let written = fvfastListing.write(state);
    if (place < 0) {
      // The reader has come by an address that hides this very unit.
      order = fvfastListing.arrange(units, fvfastListing.parse(""));
      place = order.indexOf(position);
      written = "";
    }
    part("announced").textContent = `${atlas.unitTitle(layer, units, position)}, ${place + 1} of ${order.length}`;
    part("place").textContent = `${(place + 1).toLocaleString("en")} of ${order.length.toLocaleString("en")}`;
    for (const [id, there] of [["previous", place - 1], ["next", place + 1]]) {
      const link = part(id);
      if (there >= 0 && there < order.length) {
        link.href = atlas.unitAddress(layer, units.index[order[there]], written);
        link.removeAttribute("aria-disabled");
        new Image().src = atlas.pictureOf(layer, units, order[there], { folder: "pictures", blended: false });
      } else {
        link.removeAttribute("href");
        link.setAttribute("aria-disabled", "true");
      }
    }
  }

  function fillPicture(layer, units, position, details) {
    const name = units.name[position];
    const alt = `Picture that excites ${layer.kind} ${units.index[position]}${name === null ? "" : `, ${name}`}, of ${layer.name}`;
    const size = { width: details.width, height: details.height };
    const plain = atlas.element("img", {
      ...size, alt, class: "plain", src: atlas.pictureOf(layer, units, position, { folder: "pictures", blended: false }),
    });
    const images = [plain];
    const hasTransparency = units.blended[position] === 1;
    if (hasTransparency) {
      images.unshift(atlas.element("img", {
        ...size, alt: "", class: "behind", src: atlas.pictureOf(layer, units, position, { folder: "pictures", blended: true }),
      }));
    }
    part("picture").replaceChildren(...images);
    part("transparency-tools").hidden = !hasTransparency;
    applyTransparency();
  }

  // The opaque picture fades out above the transparent one: together they show every share of the
  // transparency between none and all.
  function applyTransparency() {
    const share = Number(part("transparency").value);
    part("transparency-value").textContent = `${share} %`;
    const plain = document.querySelector("#picture .plain");
    if (plain) plain.style.opacity = document.querySelector("#picture .behind") ? 1 - share / 100 : 1;
  }

  function fillExamples(layer, examples) {
    const section = part("examples");
    // Without examples there is room for the charts beside the picture.
    if (examples) part("unit-body").after(part("charts"));
    else section.after(part("charts"));
    part("histogram-section").hidden = !examples || examples.counts.length === 0;
    if (!examples) {
      part("examples-about").textContent = "No images were shown to this unit.";
      part("examples-list").replaceChildren();
      return;
    }
    const unreadable = examples.unreadable ? `; ${atlas.counted(examples.unreadable, "image")} could not be read` : "";
    part("examples-about").textContent = `Of ${atlas.counted(examples.images, "image")}: the parts that the unit responds to most${unreadable}.`;
    part("examples-list").replaceChildren(...examples.top.map((one) => example(layer, one)));
  }

  function example(layer, one) {
    const source = one.source ?? "an image without a name";
    const shown = source.slice(source.lastIndexOf("/") + 1) || source;
    const where = one.position ? `row ${one.position[0]}, column ${one.position[1]}` : null;
    const box = one.box && one.size
      ? `Rows ${one.box[0]} to ${one.box[2]}, columns ${one.box[1]} to ${one.box[3]} of the ${one.size[0]} × ${one.size[1]} pixels that the network was shown`
      : null;
    const image = atlas.element("img", {
      src: `crops/${layer.slug}/${one.crop}`, title: box, loading: "lazy", decoding: "async", width: 160, height: 160,
      alt: `Part of ${source} where the value is ${atlas.number(one.value)}`,
    });
    const facts = [atlas.element("span", { class: "value" }, atlas.number(one.value))];
    if (one.label !== null) facts.push(atlas.element("span", { class: "label" }, atlas.isolated(one.label)));
    facts.push(atlas.element("span", { class: "source", title: source }, atlas.isolated(shown)));
    if (where) facts.push(atlas.element("span", { class: "where" }, where));
    return atlas.element("li", {}, atlas.element("figure", {}, image, atlas.element("figcaption", {}, ...facts)));
  }

  function fillFacts(units, position, details) {
    const examples = details.examples;
    const facts = [
      ["Score", atlas.number(units.score[position])],
      ["Active", examples ? `in ${atlas.percent(units.active[position])} of the images` : null],
      ["Mean", examples && examples.mean !== null ? atlas.number(examples.mean) : null],
      ["Steps", details.steps],
      ["Size", `${details.width} × ${details.height}`],
      ["Time", details.seconds === null ? null : `${atlas.number(details.seconds, 3)} s`],
      ["Batch size", details.batch],
      ["Device", details.device],
      ["Drawn", details.drawn === null ? null : details.drawn.replace("T", " ").replace("Z", " UTC")],
      ["fvfast", details.fvfast],
    ].filter(([, value]) => value !== null);
    part("facts").replaceChildren(...facts.map(([name, value]) => atlas.element("div", {},
      atlas.element("dt", {}, name), atlas.element("dd", {}, atlas.isolated(String(value))))));
  }

  function fillCharts(details) {
    const draw = (id, make) => {
      const box = part(id);
      if (!box.parentElement.hidden) box.replaceChildren(make(Math.max(240, box.clientWidth)));
    };
    const known = details.scores.filter((score) => score !== null);
    part("history-section").hidden = known.length < 2;
    const count = details.scores.length;
    const last = details.steps ?? count * details.stride;
    const steps = details.scores.map((_, place) => last - (count - 1 - place) * details.stride);
    draw("history", (width) => fvfastCharts.history(width, details.scores, steps));
    draw("histogram", (width) => fvfastCharts.histogram(width, details.examples.edges, details.examples.counts));
  }

  async function copy() {
    const text = part("command").textContent;
    if (!text || part("command-box").hidden) return;
    try {
      await navigator.clipboard.writeText(text);
      part("copied").textContent = "The command is copied.";
      part("copy").textContent = "Copied";
    } catch {
      // No clipboard without a secure connection: the text is selected instead.
      getSelection().selectAllChildren(part("command"));
      part("copied").textContent = "The command is selected: copy it with the keyboard.";
      part("copy").textContent = "Selected";
    }
    setTimeout(() => { part("copy").textContent = "Copy"; }, 2000);
  }

  function follow(id) {
    return () => {
      const link = part(id);
      if (!part("unit").hidden && link.hasAttribute("href")) link.click();
    };
  }

  part("copy").addEventListener("click", copy);
  part("transparency").value = atlas.remembered("transparency") ?? "0";
  part("transparency").addEventListener("input", () => {
    applyTransparency();
    atlas.remember("transparency", part("transparency").value);
  });
  atlas.onKey("t", () => {
    const slider = part("transparency");
    slider.value = Number(slider.value) > 0 ? "0" : "100";
    slider.dispatchEvent(new Event("input"));
  });
  atlas.onKey("c", copy);
  atlas.onKey("ArrowLeft", follow("previous"));
  atlas.onKey("ArrowRight", follow("next"));
  atlas.onKey("Escape", () => { location.href = part("up").href; });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) redraw();
    width = innerWidth;
  });
  addEventListener("hashchange", show);
  show();
})();
