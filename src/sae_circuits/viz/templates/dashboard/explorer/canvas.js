"use strict";
// The drawing, by Cytoscape.js.
//   canvas(box, on)   a drawing in an element; on: {point(id), leave(), pin(id), moved(places), chosen(ids)}
//     .draw(graph, places)            what is shown
//     .mark({here, edges, way, near, found, kept})   what is picked out: a node, edges, a way, nodes that a search found
//     .fit(), .zoom(by), .centre(id)
//     .chosen()                       ids of the nodes that are selected
// Of more than MANY edges the largest are drawn, and the others of a node when it is picked out.
(() => {
  const { view, boxOf, linesOf, sizeOf } = explorer;
  const MANY = 3000, FEW = 1500, THIN = 0.7, THICK = 5;
  const DASHES = { k: "dashed", v: "dotted" };
  const PORTS = { q: -0.28, k: 0, v: 0.28 };  // of a box's side, where a line into it ends

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const FILLS = { input: "end", logits: "end", kv: "head", group: "head" };
  const BORDERS = { feature: "feature-edge", neuron: "neuron-edge", error: "faint", skip: "skip-edge" };

  const hueOf = (edge) => (edge.side ? { both: "faint", a: "helps", b: "hurts" }[edge.side]
    : !edge.score ? "unknown" : edge.score < 0 === (view.about.measure === "score") ? "helps" : "hurts");

  function mixed(node) {
    if (node.strength === null || node.strength === undefined) return colour(FILLS[node.kind] || node.kind);
    const parts = ["weak", "strong"].map((name) => colour(name).match(/[0-9a-f]{2}/gi).map((hex) => parseInt(hex, 16)));
    const share = Math.min(node.strength, 1);
    return `rgb(${parts[0].map((low, i) => Math.round(low + (parts[1][i] - low) * share)).join(",")})`;
  }

  function style() {
    return [
      { selector: "node", style: {
        shape: "round-rectangle", width: "data(width)", height: "data(height)", label: "data(said)", "text-wrap": "wrap",
        "text-valign": "center", "font-size": 14, "font-family": "Helvetica, Arial, sans-serif", color: colour("ink"),
        "background-color": "data(fill)", "border-color": "data(border)", "border-width": "data(rim)",
        "border-style": "data(dash)", "min-zoomed-font-size": 5 } },
      { selector: "node.axis", style: { "background-opacity": 0, "border-width": 0, width: 1, height: 1, events: "no",
        color: colour("faint"), "text-halign": "data(halign)", "text-valign": "data(valign)", "min-zoomed-font-size": 4 } },
      { selector: "edge", style: {
        width: "data(width)", "line-color": "data(hue)", "target-arrow-color": "data(hue)", opacity: "data(opacity)",
        "curve-style": "data(curve)", "target-arrow-shape": "triangle", "arrow-scale": 0.7, "line-style": "data(dash)",
        "target-endpoint": "data(end)", "control-point-step-size": 18 } },
      { selector: "edge[weights]", style: { "segment-weights": "data(weights)", "segment-distances": "data(distances)",
        "segment-radii": 40, "radius-type": "influence-radius", "edge-distances": "node-position" } },
      { selector: "edge.join", style: { width: 0.8, "line-style": "dotted", "line-color": colour("faint"), "target-arrow-shape": "none",
        opacity: 0.8, events: "no" } },
      { selector: "edge.dim", style: { opacity: 0.14 } },
      { selector: "node.dim", style: { opacity: 0.4 } },
      { selector: "edge.on", style: { opacity: 0.95, "z-index": 5 } },
      { selector: "edge.way", style: { opacity: 1, "z-index": 9, "line-outline-width": 2, "line-outline-color": colour("ink") } },
      { selector: "node.found", style: { "underlay-color": colour("tint"), "underlay-opacity": 0.7, "underlay-padding": 6 } },
      { selector: "node:selected", style: { "overlay-color": colour("helps"), "overlay-opacity": 0.15, "overlay-padding": 3 } },
      { selector: "node.here", style: { "border-width": 3, "border-color": colour("ink"), "border-style": "solid" } },
    ];
  }

  function nodeElement(node, at) {
    const [width, height] = boxOf(node);
    return { group: "nodes", position: { x: at[0], y: at[1] }, data: {
      id: node.id, width, height, said: linesOf(node).join("\n"), fill: mixed(node),
      border: colour(BORDERS[node.kind] || "ink"), rim: node.kind === "group" ? 2.5 : 1,
      dash: node.kind === "error" ? "dashed" : "solid" } };
  }

  // Waypoints as Cytoscape has them: shares of the way from end to end, and distances from it.
  function bends([x0, y0], [x1, y1], via) {
    const dx = x1 - x0, dy = y1 - y0, length = Math.hypot(dx, dy);
    return {
      weights: via.map(([x, y]) => ((x - x0) * dx + (y - y0) * dy) / length ** 2),
      distances: via.map(([x, y]) => ((y - y0) * dx - (x - x0) * dy) / length),
    };
  }

  // Into q, k and v a line ends at its own place of the side that is turned to where it comes from.
  function endOf(edge, places, boxes) {
    if (!Object.hasOwn(PORTS, edge.port)) return "outside-to-node";
    const [x0, y0] = places.at.get(edge.src), [x1, y1] = places.at.get(edge.dest), share = PORTS[edge.port];
    const [width, height] = boxes.get(edge.dest), flat = Math.abs(x1 - x0) * height > Math.abs(y1 - y0) * width * 4;
    const along = (size) => Math.round(100 * share * size) / 100;
    return flat ? `${x0 < x1 ? -width / 2 : width / 2}px ${along(height)}px` : `${along(width)}px ${y0 > y1 ? height / 2 : -height / 2}px`;
  }

  function edgeElement(edge, largest, many, places, boxes) {
    const share = largest ? sizeOf(edge) / largest : 0.3, via = places.via.get(edge.id) || [];
    const routed = via.length > 0 && !many, apart = 12 * (PORTS[edge.port] || 0);
    return { group: "edges", data: {
      id: edge.id, source: edge.src, target: edge.dest, width: THIN + (THICK - THIN) * share,
      hue: colour(hueOf(edge)), opacity: view.edges.length > 600 ? 0.1 + 0.7 * Math.sqrt(share) : 0.75,
      dash: DASHES[edge.port] || "solid", curve: many ? "straight" : routed ? "round-segments" : "bezier",
      end: endOf(edge, places, boxes),
      ...(routed ? bends(places.at.get(edge.src), places.at.get(edge.dest), via.map(([x, y]) => [x + apart, y])) : {}) } };
  }

  function axes(places, sideways) {
    const every = [...places.at.values(), ...[...places.via.values()].flat()];
    const left = Math.min(...every.map(([x]) => x)), bottom = Math.max(...every.map(([, y]) => y));
    const one = (name, i, kind, x, y, halign, valign) => ({ group: "nodes", classes: "axis", selectable: false, grabbable: false,
      position: { x, y }, data: { id: ` ${kind}${i}`, said: name, width: 1, height: 1, fill: "#000", border: "#000", rim: 0,
        dash: "solid", halign, valign } });
    return [
      ...places.rows.map(({ name, y }, i) => (sideways ? one(name, i, "row", -y, bottom + 60, "center", "bottom")
        : one(name, i, "row", left - 70, y, "left", "center"))),
      ...places.columns.filter(({ name }) => name).map(({ name, x }, i) =>
        one(name.length > 16 ? `${name.slice(0, 15)}…` : name, i, "column", x, bottom + 40, "center", "bottom")),
    ];
  }

  function canvas(box, on) {
    const cy = cytoscape({ container: box, style: style(), minZoom: 0.02, maxZoom: 4,
      boxSelectionEnabled: true, hideEdgesOnViewport: view.edges.length > MANY, textureOnViewport: view.edges.length > MANY });
    let lines = null;  // of all edges, those that are not drawn too

    function draw(graph, places, sideways) {
      const largest = Math.max(...graph.edges.slice(-1).map(sizeOf), 0), many = graph.edges.length > MANY;
      const boxes = new Map(graph.nodes.map((node) => [node.id, boxOf(node)]));
      lines = new Map(graph.edges.map((edge) => [edge.id, () => edgeElement(edge, largest, many, places, boxes)]));
      const { pan, zoom } = { pan: { ...cy.pan() }, zoom: cy.zoom() };
      cy.batch(() => {
        cy.elements().remove();
        cy.add([
          ...axes(places, sideways),
          ...graph.nodes.map((node) => nodeElement(node, places.at.get(node.id))),
          ...graph.joins.map(([src, dest]) => ({ group: "edges", classes: "join", data: { id: ` ${src}|${dest}`, source: src,
            target: dest, width: 1, hue: colour("faint"), opacity: 1, dash: "dotted", curve: "straight", end: "outside-to-node" } })),
          ...graph.edges.slice(-MANY).map((edge) => lines.get(edge.id)()),
        ]);
      });
      cy.viewport({ pan, zoom });
      named();
    }

    // Of a large drawing the rest is dimmed for a node that is kept, and not for each that is passed over.
    function mark({ here, edges, way, near, found, kept }) {
      cy.batch(() => {
        cy.elements(".extra").remove();
        cy.elements(".dim, .on, .way, .here, .found").removeClass("dim on way here found");
        for (const id of found || []) cy.getElementById(id).addClass("found");
        if (!here && !edges) return;
        const lit = new Set(edges || []), by = new Set(near || []);
        if (cy.elements().length < (kept ? 4 * MANY : FEW))
          cy.elements().not(".axis").forEach((one) => {
            if (one.isNode() ? !by.has(one.id()) && one.id() !== here : !lit.has(one.id())) one.addClass("dim");
          });
        for (const id of lit) if (cy.getElementById(id).empty()) cy.add({ ...lines.get(id)(), classes: "extra" });
        for (const id of lit) cy.getElementById(id).addClass("on");
        for (const id of way || []) cy.getElementById(id).addClass("way");
        if (here) cy.getElementById(here).addClass("here");
      });
    }

    const fit = () => cy.fit(cy.nodes(), 30);
    const zoom = (by) => cy.zoom({ level: cy.zoom() * by, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
    function centre(id) {
      const seen = cy.extent(), { x, y } = cy.getElementById(id).position();
      if (x < seen.x1 || x > seen.x2 || y < seen.y1 || y > seen.y2) cy.center(cy.getElementById(id));
    }
    const chosen = () => cy.nodes(":selected").map((node) => node.id());

    cy.on("mouseover", "node", (event) => on.point(event.target.id()));
    cy.on("mouseout", "node", () => on.leave());
    box.addEventListener("mouseleave", () => on.leave());
    cy.on("tap", "node", (event) => event.originalEvent.shiftKey || on.pin(event.target.id()));
    cy.on("tap", (event) => event.target === cy && on.pin(null));
    cy.on("select unselect", "node", () => on.chosen(chosen()));
    cy.on("dragfree", "node", (event) => {
      const held = event.target.selected() ? cy.nodes(":selected").union(event.target) : event.target;
      on.moved(Object.fromEntries(held.map((node) => [node.id(), [Math.round(node.position("x")), Math.round(node.position("y"))]])));
    });
    for (const query of ["(prefers-color-scheme: dark)", "print"])
      window.matchMedia(query).addEventListener("change", () => on.recoloured());
    const named = () => cy.nodes(".axis").style("font-size", Math.min(Math.max(12 / cy.zoom(), 12), 40));
    cy.on("zoom", named);
    const recolour = () => cy.style(style());
    return { cy, draw, mark, fit, zoom, centre, chosen, recolour, most: MANY };
  }

  Object.assign(explorer, { canvas, colour, hueOf, mixed, axes, BORDERS, DASHES });
})();
