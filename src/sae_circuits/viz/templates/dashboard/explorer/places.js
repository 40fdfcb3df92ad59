"use strict";
// Where nodes stand, from their rows, columns and order alone.
//   linesOf(node)             what stands in its box, a line each
//   boxOf(node)               [width, height] of its box
//   placesOf(graph, state)    {at: Map id -> [x, y], via: Map edge id -> [[x, y], ...], rows: [{name, y}],
//                              columns: [{name, x, width}]}
// Layers run upwards. A row of many nodes is staggered, so that the drawing is about as wide as the window, and lines are
// led around nodes; where there are many, all stand nearer, so that names can be read. Among columns the nodes of a cell
// stand in lines, and lines are straight. Sideways, all of it is turned.
(() => {
  const { view } = explorer;
  const GAP = 10, LINE = 22, ROW = 26, COLUMN = 26, LETTER = 7.6, LONG = 22, FEW = 100, NEAR = 0.4;

  // A feature's place and number stand above each other: boxes are narrow where there are many.
  function linesOf(node) {
    const { text, label } = node;
    if (label) return [text, label.length > LONG ? `${label.slice(0, LONG - 1)}…` : label];
    const at = text.indexOf(".");
    return node.kind !== "group" && text.length > 6 && at > 0 ? [text.slice(0, at), text.slice(at + 1)] : [text];
  }

  const boxOf = (node) => {
    const lines = linesOf(node);
    return [Math.round(Math.max(LETTER * Math.max(...lines.map((line) => line.length)) + 8, 32)), lines.length > 1 ? 36 : 24];
  };

  function lines(nodes, most, sizes) {
    const found = [[]];
    let width = 0;
    for (const node of nodes) {
      const own = sizes.get(node.id)[0] + GAP;
      if (width + own > most && found.at(-1).length) {
        found.push([]);
        width = 0;
      }
      found.at(-1).push(node);
      width += own;
    }
    return found;
  }

  const widthOf = (line, sizes) => line.reduce((sum, node) => sum + sizes.get(node.id)[0] + GAP, -GAP);
  const heightOf = (its, sizes) => its.reduce((sum, line) =>
    sum + Math.max(...line.map((node) => sizes.get(node.id)[1])) + LINE, 0);

  // The least width at which the drawing is as wide for its height as a window.
  function breadth(rows, sizes, near) {
    const all = rows.map(([, row]) => widthOf(row, sizes)), high = ([, row]) => Math.max(...row.map((node) => sizes.get(node.id)[1]));
    const widest = Math.max(...all, 1);
    for (let most = 500; most < widest; most *= 1.12) {
      const height = rows.reduce((sum, row, i) => sum + Math.ceil(all[i] / most) * (high(row) + near * LINE) + near * ROW, 0);
      if (most >= 1.1 * height) return most;  // waypoints take their room too
    }
    return widest;
  }

  function rowsOf(graph) {
    const found = new Map();
    for (const node of graph.nodes) (found.get(node.row) || found.set(node.row, []).get(node.row)).push(node);
    return [...found].sort(([a], [b]) => a - b);
  }

  // A row that is too wide becomes several, in which its nodes stand by turns, so that their order stays.
  function staggered(rows, order, most, sizes) {
    return rows.flatMap(([number, row]) => {
      const parts = Math.ceil(widthOf(row, sizes) / most);
      const sorted = row.toSorted((a, b) => order.get(a.id) - order.get(b.id));
      return Array.from({ length: parts }, (_, k) => [number, sorted.filter((_, i) => i % parts === k)]);
    });
  }

  function inRows(graph, sizes) {
    const near = Math.max(Math.min(FEW / graph.nodes.length, 1), NEAR);
    const plain = rowsOf(graph), order = explorer.layered(graph, plain, sizes, near, 0).x;
    const rows = staggered(plain, order, breadth(plain, sizes, near), sizes);
    const found = explorer.layered(graph, rows, sizes, near);
    const y = [], names = [];
    let top = 0;
    rows.forEach(([number, row], i) => {
      const high = Math.max(...row.map((node) => sizes.get(node.id)[1])), first = i === 0 || rows[i - 1][0] !== number;
      if (!first) top += near * (ROW - 6);
      y.push(top - high / 2);
      if (first) names.push({ row: number, y: top - high / 2 });
      top -= high + near * (LINE + ROW);
    });
    const every = [...found.x.values()], width = Math.max(...every) - Math.min(...every);
    const stretch = Math.min(Math.max((-1.2 * top) / (width || 1), 1), 1.8);
    const at = new Map(rows.flatMap(([, row], i) => row.map((node) => [node.id, [stretch * found.x.get(node.id), y[i]]])));
    const via = new Map([...found.via].map(([id, points]) => [id, points.map(([x, row]) => [stretch * x, y[row]])]));
    return { at, via, rows: names, columns: [] };
  }

  function inColumns(graph, sizes) {
    const rows = rowsOf(graph), at = new Map(), names = [], columns = [];
    const cells = (pos) => rows.map(([, row]) => row.filter((node) => node.pos === pos));
    const wanted = (cell) => Math.max(90, Math.sqrt(2.2 * cell.reduce((sum, node) =>
      sum + (sizes.get(node.id)[0] + GAP) * (sizes.get(node.id)[1] + LINE), 0)));
    const used = [...view.columns.keys(), null].map((pos) => [pos, cells(pos)]).filter(([, its]) => its.some((c) => c.length));
    const broken = used.map(([pos, its]) => [pos, its.map((cell) => (cell.length ? lines(cell, wanted(cell), sizes) : []))]);
    const heights = rows.map((_, r) => Math.max(...broken.map(([, its]) => heightOf(its[r], sizes))));
    let left = 0;
    for (const [pos, its] of broken) {
      const name = pos === null ? "" : view.columns[pos];
      const width = Math.max(...its.flat().map((line) => widthOf(line, sizes)), 7 * Math.min(name.length, 16), 30);
      columns.push({ name, x: left + width / 2, width: width + COLUMN });
      let y = 0;
      its.forEach((cell, r) => {
        let top = y - (heights[r] - heightOf(cell, sizes)) / 2;
        for (const line of cell) {
          const high = Math.max(...line.map((node) => sizes.get(node.id)[1]));
          let x = left + (width - widthOf(line, sizes)) / 2;
          for (const node of line) {
            at.set(node.id, [x + sizes.get(node.id)[0] / 2, top - high / 2]);
            x += sizes.get(node.id)[0] + GAP;
          }
          top -= high + LINE;
        }
        y -= heights[r] + ROW;
      });
      left += width + COLUMN;
    }
    let y = 0;
    rows.forEach(([number], r) => {
      names.push({ row: number, y: y - heights[r] / 2 });
      y -= heights[r] + ROW;
    });
    return { at, via: new Map(), rows: names, columns };
  }

  // A layer's name stands at the lowest of its rows that is shown.
  function namesOf(rows) {
    const first = Object.keys(view.rows || {}).map(Number).sort((a, b) => a - b);
    return first.flatMap((row, i) => {
      const shown = rows.find((one) => one.row >= row && !(one.row >= first[i + 1]));
      return shown ? [{ name: view.rows[row], y: shown.y }] : [];
    });
  }

  function placesOf(graph, state) {
    const sideways = state.axis === "sideways";
    const sizes = new Map(graph.nodes.map((node) => {
      const [width, height] = boxOf(node);
      return [node.id, sideways ? [height, width] : [width, height]];
    }));
    const found = state.axis === "columns" ? inColumns(graph, sizes) : inRows(graph, sizes);
    if (sideways) {
      for (const [id, [x, y]] of found.at) found.at.set(id, [-y, x]);
      for (const [id, points] of found.via) found.via.set(id, points.map(([x, y]) => [-y, x]));
    }
    for (const [id, place] of Object.entries(state.places)) if (found.at.has(id)) found.at.set(id, place);
    const moved = new Set(Object.keys(state.places));
    for (const edge of graph.edges) if (moved.has(edge.src) || moved.has(edge.dest)) found.via.delete(edge.id);
    found.rows = namesOf(found.rows);
    return found;
  }

  Object.assign(explorer, { linesOf, boxOf, placesOf });
})();
