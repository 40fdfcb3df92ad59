"use strict";
// Histograms, as SVG.
//   ticks(low, high, most = 6)                  round numbers in a range: never more than nine
//   histogram({edges, counts}, {name, unit, of, log})
//     -> {element, mark(value, words)}          `mark` draws a value's line; null takes it away
//        name: of the axis; of: what is counted; log: edges are powers of ten
(() => {
  const { drawing, element, number } = dashboard;
  const WIDTH = 360, HEIGHT = 124, LEFT = 8, RIGHT = 8, TOP = 16, BASE = 104;

  function ticks(low, high, most = 6) {
    if (!(high > low)) return [low];
    const rough = (high - low) / Math.min(most, 8);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999999);
    const first = Math.ceil(low / step - 1e-9), found = new Set();
    for (let i = 0; i < 9; i++) {
      const tick = Number(((first + i) * step).toPrecision(12));
      if (tick > high + step * 1e-9) break;
      found.add(Math.min(Math.max(tick, low), high));
    }
    return [...found];
  }

  // All values are the same: the one bar has room at both sides.
  function range(edges) {
    const low = edges[0], high = edges[edges.length - 1];
    if (high > low) return [low, high];
    const room = Math.abs(low) / 2 || 1;
    return [low - room, high + room];
  }

  function bars(shape, x, top) {
    return shape.counts.map((count, i) => {
      if (!count) return null;
      const [from, to] = [shape.edges[i], shape.edges[i + 1]];
      const [left, right] = to > from ? [x(from), x(to)] : [x(from) - 6, x(from) + 6];
      const height = Math.max((BASE - TOP) * (count / top), 1);
      const words = `${number(from)} to ${number(to)}: ${count.toLocaleString("en")}`;
      return drawing("rect", {
        class: "bar", x: left + 0.5, y: BASE - height, height,
        width: Math.max(right - left - 1, 0.75),
      }, drawing("title", {}, words));
    });
  }

  // Enough digits to tell each tick from the next.
  function said(marks, log) {
    if (log) return marks.map((tick) => number(10 ** tick));
    const size = Math.max(...marks.map(Math.abs)), step = marks[1] - marks[0];
    const digits = marks.length > 1 ? Math.ceil(Math.log10(size / step)) + 1 : 3;
    return marks.map((tick) => number(tick, Math.min(Math.max(digits, 3), 15)));
  }

  // Fewer ticks where their numbers are long.
  function chosen(low, high, log) {
    for (const most of [6, 3, 1]) {
      const marks = ticks(low, high, most), words = said(marks, log);
      if (most === 1 || words.join("  ").length < 60) return [marks, words];
    }
  }

  function axis(low, high, x, log) {
    const [marks, every] = chosen(low, high, log);
    return marks.map((tick, i) => {
      const words = every[i];
      const at = x(tick);
      const anchor = at < LEFT + 12 ? "start" : at > WIDTH - RIGHT - 12 ? "end" : "middle";
      return [
        drawing("line", { class: "tick", x1: at, x2: at, y1: BASE, y2: BASE + 4 }),
        drawing("text", { class: "tick-text", x: at, y: BASE + 16, "text-anchor": anchor }, words),
      ];
    });
  }

  function marker(x, low, high) {
    const line = drawing("line", { class: "value-line", y1: TOP - 6, y2: BASE });
    const words = drawing("text", { class: "value-text", y: TOP - 6 });
    const group = drawing("g", { class: "value", visibility: "hidden" }, line, words);
    function mark(value, text) {
      const none = value === null || value === undefined;
      group.setAttribute("visibility", none ? "hidden" : "visible");
      if (none) return;
      const at = x(Math.min(Math.max(value, low), high));
      const late = at > WIDTH * 0.7;
      for (const end of ["x1", "x2"]) line.setAttribute(end, at);
      words.setAttribute("x", at + (late ? -5 : 5));
      words.setAttribute("text-anchor", late ? "end" : "start");
      words.textContent = text || number(value);
      group.dataset.value = value;
    }
    return { group, mark };
  }

  function histogram(shape, { name, of, log = false }) {
    const [low, high] = range(shape.edges);
    const top = Math.max(...shape.counts, 1);
    const total = shape.counts.reduce((a, b) => a + b, 0);
    const x = (value) => LEFT + ((WIDTH - LEFT - RIGHT) * (value - low)) / (high - low);
    const { group, mark } = marker(x, low, high);
    const ends = [low, high].map((end) => number(log ? 10 ** end : end)).join(" to ");
    const said = `Histogram of ${name}: ${total.toLocaleString("en")} ${of}, ${ends}; ` +
      `the fullest bin holds ${top.toLocaleString("en")}`;
    const svg = drawing(
      "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": said },
      drawing("line", { class: "top", x1: LEFT, x2: WIDTH - RIGHT, y1: TOP, y2: TOP }),
      bars(shape, x, top),
      low < 0 && high > 0 && !log
        ? drawing("line", { class: "zero", x1: x(0), x2: x(0), y1: TOP, y2: BASE }) : null,
      drawing("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: BASE, y2: BASE }),
      axis(low, high, x, log),
      group,
    );
    const caption = element(
      "figcaption", {}, element("span", {}, `${total.toLocaleString("en")} ${of}`),
      element("span", {}, `tallest bar ${top.toLocaleString("en")}`),
    );
    return { element: element("figure", { class: "histogram" }, svg, caption), mark };
  }

  Object.assign(dashboard, { ticks, histogram });
})();
