"use strict";
// What leaves the page: the drawing as it is seen, and the arrangement.
//   svgOf(drawn)             text of an SVG; drawn: what `canvas` gave
//   pngOf(drawn)             a promise of the same as a PNG
//   arrangementOf(state), stateOf(text)   a file's text, and back; stateOf throws what to say of a bad one
//   give(name, blob)         hand a file to the reader
(() => {
  const { drawing } = dashboard;
  const { view, colour } = explorer;
  const FORMAT = "sae-circuits", KIND = "arrangement", SCHEMA = 1;

  function lineOf(edge, faint) {
    const bends = edge.segmentPoints() || edge.controlPoints() || [];
    const { x: x0, y: y0 } = edge.sourceEndpoint(), { x: x1, y: y1 } = edge.targetEndpoint();
    const middles = bends.slice(1).map(({ x, y }, i) => ({ x: (x + bends[i].x) / 2, y: (y + bends[i].y) / 2 }));
    const via = bends.length ? bends.map(({ x, y }, i) => `Q${x} ${y} ${(middles[i] || { x: x1 }).x} ${(middles[i] || { y: y1 }).y}`).join("")
      : `L${x1} ${y1}`;
    const hue = edge.style("line-color"), width = edge.numericStyle("width");
    const from = bends.at(-1) || { x: x0, y: y0 }, along = Math.atan2(y1 - from.y, x1 - from.x), size = 4 + width;
    const wing = (turn) => `${x1 - size * Math.cos(along + turn)},${y1 - size * Math.sin(along + turn)}`;
    const dash = { dashed: "6 4", dotted: "2 3" }[edge.style("line-style")] || null;
    return drawing("g", { opacity: edge.effectiveOpacity() },
      drawing("path", { d: `M${x0} ${y0}${via}`, fill: "none", stroke: hue, "stroke-width": width, "stroke-dasharray": dash }),
      faint ? null : drawing("polygon", { points: `${x1},${y1} ${wing(0.4)} ${wing(-0.4)}`, fill: hue }));
  }

  function boxOf(node) {
    const { x, y } = node.position(), width = node.width(), height = node.height(), lines = node.data("said").split("\n");
    const axis = node.hasClass("axis"), halign = node.data("halign");
    const anchor = !axis || halign === "center" ? "middle" : halign === "left" ? "end" : "start";
    return drawing("g", { opacity: node.effectiveOpacity() },
      axis ? null : drawing("rect", { x: x - width / 2, y: y - height / 2, width, height, rx: 5, fill: node.data("fill"),
        stroke: node.style("border-color"), "stroke-width": node.numericStyle("border-width"),
        "stroke-dasharray": node.data("dash") === "dashed" ? "3 2" : null }),
      lines.map((line, i) => drawing("text", { x, y: y + 4 + 13 * (i - (lines.length - 1) / 2), "text-anchor": anchor,
        "font-size": node.numericStyle("font-size"), fill: node.style("color") }, line)));
  }

  function svgOf({ cy }) {
    const seen = cy.extent(), round = (x) => Math.round(x * 10) / 10;
    const inside = cy.elements().filter((one) => {
      const box = one.boundingBox();
      return one.visible() && box.x2 > seen.x1 && box.x1 < seen.x2 && box.y2 > seen.y1 && box.y1 < seen.y2;
    });
    const made = drawing("svg", { xmlns: "http://www.w3.org/2000/svg", width: round(seen.w * cy.zoom()), height: round(seen.h * cy.zoom()),
      viewBox: [seen.x1, seen.y1, seen.w, seen.h].map(round).join(" "), "font-family": "Helvetica, Arial, sans-serif" },
    drawing("title", {}, view.about.title),
    drawing("rect", { x: seen.x1, y: seen.y1, width: seen.w, height: seen.h, fill: colour("paper") }),
    inside.filter("edge").map((edge) => lineOf(edge, edge.hasClass("join"))), inside.filter("node").map(boxOf));
    return new XMLSerializer().serializeToString(made);
  }

  const pngOf = ({ cy }) => cy.png({ output: "blob-promise", full: false, scale: 2, bg: colour("paper") });

  const arrangementOf = (state) =>
    `${JSON.stringify({ format: FORMAT, kind: KIND, schema: SCHEMA, title: view.about.title, state }, null, 1)}\n`;

  const isText = (value) => typeof value === "string", isTexts = (value) => Array.isArray(value) && value.every(isText);
  const isNumbers = (value) => Array.isArray(value) && value.every(Number.isFinite);
  const values = (test) => (value) => value !== null && typeof value === "object" && !Array.isArray(value) && Object.values(value).every(test);
  const SHAPES = {
    size: (value) => Number.isInteger(value) && value >= 0, axis: (value) => ["layers", "sideways", "columns"].includes(value), layers: (value) => isNumbers(value) && value.length === 2, kinds: isTexts,
    signs: isTexts, columns: isNumbers, sides: isTexts, only: isText, hidden: isTexts, notes: values(isText),
    places: values((place) => isNumbers(place) && place.length === 2),
    groups: values((group) => group && isTexts(group.members) && isText(group.note) && isText(group.label)),
  };

  function checked(said) {
    if (!said || said.format !== FORMAT || said.kind !== KIND) throw new Error("this is no arrangement: Save writes one");
    if (said.schema > SCHEMA) throw new Error(`it is in schema ${said.schema}, and this page reads up to ${SCHEMA}: make the page anew`);
    if (!Number.isInteger(said.schema)) throw new Error("it does not say its schema");
    if (!said.state || typeof said.state !== "object") throw new Error("it holds no state");
    const state = explorer.complete(said.state);
    for (const [name, fits] of Object.entries(SHAPES)) if (!fits(state[name])) throw new Error(`its ${name} is not what Save writes`);
    for (const name of Object.keys(state)) if (!(name in SHAPES)) throw new Error(`it has ${name}, which Save does not write`);
    const taken = Object.values(state.groups).flatMap((group) => group.members);
    const twice = taken.find((name, i) => taken.indexOf(name) !== i), clash = Object.keys(state.groups).find((name) => view.byName.has(name));
    if (twice !== undefined) throw new Error(`${twice} is in two of its groups`);
    if (clash !== undefined) throw new Error(`its group ${clash} has the name of a node`);
    const names = [...taken, ...state.hidden, ...Object.keys(state.notes)].filter((name) => !Object.hasOwn(state.groups, name));
    const missing = names.filter((name) => !view.byName.has(name));
    if (missing.length && missing.length === names.length) throw new Error(`it is of another circuit: this one has no ${missing[0]}`);
    if (state.axis === "columns" && !view.columns.length) state.axis = "layers";
    return { ...state, size: Math.min(Math.max(state.size, 0), view.edges.length) };
  }

  function stateOf(text) {
    let said = null;
    try {
      said = JSON.parse(text);
    } catch {
      throw new Error("this is no JSON: Save writes what Load reads");
    }
    return checked(said);
  }

  function give(name, blob) {
    const link = dashboard.element("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  Object.assign(explorer, { svgOf, pngOf, arrangementOf, stateOf, checked, give });
})();
