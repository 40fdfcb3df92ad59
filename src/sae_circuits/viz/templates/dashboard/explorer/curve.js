"use strict";
// The curve of faithfulness over sizes, with a mark where the drawing is.
//   curve(choose)   {element, mark(size)}; choose(size): what a click on it asks for
(() => {
  const { drawing, element, number } = dashboard;
  const { view } = explorer;
  const WIDTH = 260, HEIGHT = 120, LEFT = 30, BOTTOM = 22, TOP = 8;

  function curve(choose) {
    const { n_edges: sizes, faithfulness, low = [], high = [], random = [] } = view.curve;
    const top = Math.max(1, ...faithfulness, ...high), least = Math.min(0, ...faithfulness, ...random, ...low);
    const ends = [Math.log10(Math.max(sizes[0], 1)), Math.log10(Math.max(sizes.at(-1), 2))];
    const x = (n) => LEFT + ((WIDTH - LEFT - 8) * (Math.log10(Math.max(n, 1)) - ends[0])) / (ends[1] - ends[0] || 1);
    const y = (f) => TOP + ((HEIGHT - TOP - BOTTOM) * (top - f)) / (top - least);
    const line = (values) => `M${values.map((f, i) => `${x(sizes[i]).toFixed(1)} ${y(f).toFixed(1)}`).join("L")}`;
    const band = low.length ? `${line(high)}L${low.map((f, i) => `${x(sizes[i]).toFixed(1)} ${y(f).toFixed(1)}`).toReversed().join("L")}Z` : null;
    const rule = drawing("line", { class: "mark", y1: TOP, y2: HEIGHT - BOTTOM }), dot = drawing("circle", { class: "mark", r: 4 });
    const words = element("p", { class: "reading", role: "status" });
    const nearest = (n) => sizes.reduce((best, size, i) => (Math.abs(Math.log(Math.max(size, 1) / Math.max(n, 1))) <
      Math.abs(Math.log(Math.max(sizes[best], 1) / Math.max(n, 1))) ? i : best), 0);
    const svg = drawing("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Faithfulness over circuit sizes: a click sets the size",
      onclick: (event) => {
        const box = svg.getBoundingClientRect(), at = ((event.clientX - box.left) / box.width) * WIDTH;
        choose(sizes.reduce((best, size) => (Math.abs(x(size) - at) < Math.abs(x(best) - at) ? size : best), sizes[0]));
      } },
    ...[0, 1].map((f) => drawing("line", { class: "grid", x1: LEFT, x2: WIDTH - 8, y1: y(f), y2: y(f) })),
    ...[0, 1].map((f) => drawing("text", { x: LEFT - 5, y: y(f) + 4, "text-anchor": "end" }, String(f))),
    ...[sizes[0], sizes.at(-1)].map((n, i) => drawing("text", { x: x(n), y: HEIGHT - 6, "text-anchor": i ? "end" : "start" },
      n.toLocaleString("en"))),
    drawing("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "edges"),
    band ? drawing("path", { class: "band", d: band }) : null,
    random.length ? drawing("path", { class: "random", d: line(random) }) : null,
    drawing("path", { class: "line", d: line(faithfulness) }), ...sizes.map((n, i) =>
      drawing("circle", { class: "dot", cx: x(n), cy: y(faithfulness[i]), r: 1.8 })), rule, dot);

    function mark(size) {
      const i = nearest(size), at = x(Math.min(Math.max(size, sizes[0]), sizes.at(-1)));
      rule.setAttribute("x1", at);
      rule.setAttribute("x2", at);
      dot.setAttribute("cx", x(sizes[i]));
      dot.setAttribute("cy", y(faithfulness[i]));
      const unit = view.curve.metric ? ` (${view.curve.metric})` : "";
      const interval = low.length ? ` [${number(low[i])}, ${number(high[i])}]` : "";
      const chance = random.length ? `, random ${number(random[i])}` : "";
      words.textContent = `Measured at ${sizes[i].toLocaleString("en")} edges: faithfulness${unit} ${number(faithfulness[i])}${interval}${chance}`;
    }
    return { element: element("figure", { class: "curve" }, svg, words), mark };
  }

  Object.assign(explorer, { curve });
})();
