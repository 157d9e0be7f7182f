"use strict";
// Charts as inline SVG.

const fvfastCharts = (() => {
  const { number } = fvfastAtlas;
  const SPACE = "http://www.w3.org/2000/svg";
  const HEIGHT = 190;
  const MARGIN = { top: 10, right: 12, bottom: 38, left: 52 };
  const TITLE = 20; // what the title of the y axis takes of the left margin
  const GAP = 8; // between an axis and its numbers
  const DIGIT = 7; // the width of a digit, at most

  function shape(tag, attributes, ...children) {
    const made = document.createElementNS(SPACE, tag);
    for (const [name, given] of Object.entries(attributes)) made.setAttribute(name, given);
    made.append(...children);
    return made;
  }

  // Round numbers between two ends; whole ones where there is nothing between them.
  function ticks(low, high, count, whole) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const round = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const step = whole ? Math.max(1, round) : round;
    const found = [];
    for (let tick = Math.ceil(low / step - 1e-9); tick * step <= high + 1e-9 * step; tick++) found.push(tick * step);
    return found;
  }

  // A frame with axes; draw(x, y) gets the functions from values to pixels.
  function chart({ width, label, x, y, xTitle, yTitle, whole, draw }) {
    const yTicks = ticks(y[0], y[1], 4, whole === "y");
    const longest = Math.max(...yTicks.map((tick) => number(tick).length));
    const left = Math.max(MARGIN.left, TITLE + GAP + DIGIT * longest);
    const right = width - MARGIN.right;
    const bottom = HEIGHT - MARGIN.bottom;
    const toX = (value) => left + ((value - x[0]) / (x[1] - x[0])) * (right - left);
    const toY = (value) => bottom - ((value - y[0]) / (y[1] - y[0])) * (bottom - MARGIN.top);
    const svg = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": label, class: "chart" });
    for (const tick of yTicks) {
      svg.append(shape("line", { class: "rule", x1: left, x2: right, y1: toY(tick), y2: toY(tick) }));
      svg.append(shape("text", { class: "tick", x: left - GAP, y: toY(tick) + 4, "text-anchor": "end" }, number(tick)));
    }
    for (const tick of ticks(x[0], x[1], Math.max(2, Math.floor(width / 64)), whole === "x")) {
      svg.append(shape("text", { class: "tick", x: toX(tick), y: bottom + 17, "text-anchor": "middle" }, number(tick)));
    }
    svg.append(shape("text", { class: "axis", x: (left + right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, xTitle));
    svg.append(shape("text", { class: "axis", x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${(MARGIN.top + bottom) / 2}) rotate(-90)` }, yTitle));
    draw(svg, toX, toY);
    return svg;
  }

  function histogram(width, edges, counts) {
    const most = Math.max(...counts, 1);
    const total = counts.reduce((sum, count) => sum + count, 0);
    return chart({
      width,
      x: spread([edges[0], edges[edges.length - 1]]),
      y: [0, most],
      xTitle: "largest activation",
      yTitle: "images",
      whole: "y",
      label: `Histogram of ${total} images: largest activations from ${number(edges[0])} to ${number(edges[edges.length - 1])}, at most ${most} images in one of ${counts.length} bins`,
      draw(svg, toX, toY) {
        counts.forEach((count, bin) => {
          const left = toX(edges[bin]);
          const about = `${number(edges[bin])} to ${number(edges[bin + 1])}: ${fvfastAtlas.counted(count, "image")}`;
          svg.append(shape("rect", {
            class: "bar", x: left, y: toY(count),
            width: Math.max(1, toX(edges[bin + 1]) - left - 1), height: toY(0) - toY(count),
          }, shape("title", {}, about)));
        });
      },
    });
  }

  function history(width, scores, steps) {
    const points = scores
      .map((score, place) => [steps[place], score])
      .filter(([, score]) => score !== null);
    const low = Math.min(...points.map(([, score]) => score));
    const high = Math.max(...points.map(([, score]) => score));
    const last = points[points.length - 1];
    return chart({
      width,
      x: spread([points[0][0], last[0]]),
      // From 0, unless all that happens is far from it.
      y: spread([low > 0 && low < high / 2 ? 0 : low, high]),
      xTitle: "step",
      yTitle: "score",
      whole: "x",
      label: `Score from step ${points[0][0]} to ${last[0]}: from ${number(points[0][1])} to ${number(last[1])}`,
      draw(svg, toX, toY) {
        const path = points.map(([step, score]) => `${toX(step).toFixed(1)},${toY(score).toFixed(1)}`).join(" ");
        svg.append(shape("polyline", { class: "curve", points: path }));
        svg.append(shape("circle", { class: "end", cx: toX(last[0]), cy: toY(last[1]), r: 3.5 }, shape("title", {}, number(last[1]))));
      },
    });
  }

  // An interval that is not empty.
  function spread([low, high]) {
    return high > low ? [low, high] : [low - 0.5, high + 0.5];
  }

  return { histogram, history };
})();
