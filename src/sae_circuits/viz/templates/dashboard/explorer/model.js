"use strict";
// What is shown of a circuit, from the page's data and a state alone: nothing here draws.
//   view                     the page's data, with parts and edges as objects
//   initial(), complete(s)   the state that a page begins with; a state with what it leaves out
//   graphOf(state)           what size, filters and groups leave:
//                              nodes   [{id, kind, row, pos, text, label, note, strength, members}]
//                              edges   [{id, src, dest, port, score, other, n, side}], the largest last
//                              joins   [[id, id]] of what a part reads with what is written of it
//                              into, outOf   edges by node, the largest first
//   through(graph, id)       the edges on any way from an input through a node to the logits; none where there is none
//   strongest(graph, id)     that one of these ways whose least edge is the largest
//   sizeAt(threshold), thresholdAt(size), thresholdOf(size)   one for the other; the last with few digits
//   found(graph, words)      the nodes that a search finds
const explorer = {};
(() => {
  const raw = dashboard.data("view");
  const view = { ...raw, parts: raw.parts.map((part, i) => ({ i, ports: [], label: "", note: "", pos: null, ...part })) };
  view.edges = raw.lines.src.map((src, i) => ({
    rank: i, src, dest: raw.lines.dest[i], port: raw.lines.port[i], score: raw.lines.score[i],
    side: raw.lines.side ? raw.lines.side[i] : "", other: raw.lines.other ? raw.lines.other[i] : null,
  }));
  view.columns = raw.columns || [];
  view.scored = view.edges.some((edge) => edge.score !== null);
  view.ranked = Boolean(view.by) && !view.overlap;
  view.joins = raw.joins || [];
  view.details = new Map((raw.details || []).map((one) => [one.name, one]));
  view.byName = new Map(view.parts.map((part) => [part.name, part]));
  const layers = view.parts.map((part) => part.layer).filter((layer) => layer !== null && layer !== undefined);
  view.depth = layers.length ? Math.max(...layers) : 0;
  view.kinds = [...new Set(view.parts.map((part) => part.kind))];

  const sizeOf = (edge) => Math.abs(edge.score || 0);
  const keyOf = (edge) => (view.by === "help" ? -1 : view.by === "hurt" ? 1 : Math.sign(edge.score || 0)) * (edge.score || 0);
  const plainName = (name) => name.replace(/@\d+$/, "");

  function initial() {
    const groups = Object.fromEntries(Object.entries(raw.groups || {}).map(([name, { members, label = "", note = "" }]) =>
      [name, { members: membersOf(members), label, note }]));
    return {
      size: raw.size, axis: view.columns.length ? "columns" : "layers", layers: [0, view.depth], kinds: [], signs: [],
      columns: [], sides: [], only: "", hidden: [], groups, places: {}, notes: {},
    };
  }

  // A name without a position stands for the part at all of them.
  function membersOf(names) {
    const wanted = new Set(names);
    return view.parts.map((part) => part.name).filter((name) => wanted.has(name) || wanted.has(plainName(name)));
  }

  const isGroup = (state, id) => Object.hasOwn(state.groups, id);

  const complete = (state) => ({ ...initial(), ...state });

  // As prune.threshold compares: in the digits of the scores.
  function sizeAt(asked) {
    const threshold = view.single === false ? asked : Math.fround(asked);
    let low = 0, high = view.edges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (keyOf(view.edges[middle]) >= threshold) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  const thresholdAt = (size) => (size && view.edges[size - 1].score !== null ? keyOf(view.edges[size - 1]) : null);

  // With as few digits as say the same, but three.
  function thresholdOf(size) {
    const at = thresholdAt(size);
    if (at === null) return null;
    for (let digits = 3; digits < 17; digits += 1)
      if (sizeAt(Number(at.toPrecision(digits))) === sizeAt(at)) return Number(at.toPrecision(digits));
    return at;
  }

  // "a5.h5 m* m3.f17": names, with * for any letters; a name's beginning up to a point stands for all below it.
  function pattern(words) {
    const every = words.trim().split(/[\s,]+/).filter((word) => word);
    if (!every.length) return null;
    const one = (word) => word.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
    return new RegExp(`^(${every.map(one).join("|")})([.@].*)?$`);
  }

  function kept(state) {
    const only = pattern(state.only), hidden = new Set(state.hidden);
    const [low, high] = state.layers;
    return view.parts.map((part) => {
      if (hidden.has(part.name) || state.kinds.includes(part.kind)) return false;
      if (part.layer !== null && part.layer !== undefined && (part.layer < low || part.layer > high)) return false;
      if (part.pos !== null && state.columns.includes(part.pos)) return false;
      return !only || part.kind === "input" || part.kind === "logits" || only.test(part.name);
    });
  }

  function graphOf(state) {
    const on = kept(state);
    const home = view.parts.map((part) => part.name);
    for (const [name, group] of Object.entries(state.groups))
      for (const member of group.members) if (view.byName.has(member)) home[view.byName.get(member).i] = name;
    const lines = new Map();
    for (const edge of view.edges.slice(0, state.size)) {
      if (!on[edge.src] || !on[edge.dest] || state.sides.includes(edge.side)) continue;
      if (state.signs.includes(edge.score < 0 ? "negative" : "positive") && edge.score) continue;
      const src = home[edge.src], dest = home[edge.dest];
      if (src === dest) continue;
      const port = isGroup(state, dest) ? "" : edge.port;
      const id = `${src}->${dest}${port ? `<${port}>` : ""}`;
      const line = lines.get(id);
      if (!line) lines.set(id, { id, src, dest, port, score: edge.score, other: edge.other, n: 1, side: edge.side });
      else {
        line.score = edge.score === null ? null : line.score + edge.score;
        line.other = edge.other === null ? null : line.other + edge.other;
        line.n += 1;
        if (line.side !== edge.side) line.side = "both";
      }
    }
    const edges = [...lines.values()].sort((a, b) => sizeOf(a) - sizeOf(b));
    const seen = new Set(edges.flatMap((edge) => [edge.src, edge.dest]));
    const nodes = nodesOf(state, seen, on);
    const into = new Map(), outOf = new Map();
    const listed = (map, key) => map.get(key) || map.set(key, []).get(key);
    for (const edge of edges.toReversed()) {
      listed(outOf, edge.src).push(edge);
      listed(into, edge.dest).push(edge);
    }
    const joins = view.joins.map(([a, b]) => [home[a], home[b]]).filter(([a, b]) => a !== b && seen.has(a) && seen.has(b));
    return { nodes, edges, joins, into, outOf, byId: new Map(nodes.map((node) => [node.id, node])) };
  }

  function nodesOf(state, seen, on) {
    const nodes = view.parts.filter((part) => seen.has(part.name)).map((part) => ({
      ...part, id: part.name, members: [], note: state.notes[part.name] || part.note, own: state.notes[part.name] || "",
    }));
    for (const [name, group] of Object.entries(state.groups)) {
      if (!seen.has(name)) continue;
      const inside = group.members.map((member) => view.byName.get(member)).filter((part) => part && on[part.i]);
      const middle = (values) => [...values].sort((a, b) => a - b)[(values.length - 1) >> 1];
      const at = inside.map((part) => part.pos).filter((pos) => pos !== null);
      const where = new Set(inside.map((part) => part.layer));
      nodes.push({
        id: name, name, kind: "group", layer: where.size === 1 ? [...where][0] : null, text: name, label: group.label || "", ports: [],
        row: middle(inside.map((part) => part.row)),
        pos: at.length ? middle(at) : null, members: group.members, note: group.note, own: group.note,
      });
    }
    return nodes;
  }

  // -- ways ------------------------------------------------------------------------------------

  const ends = (graph, kind) => graph.nodes.filter((node) => node.kind === kind).map((node) => node.id);

  function reached(starts, next) {
    const seen = new Set(starts), open = [...starts];
    while (open.length) for (const id of next(open.pop())) if (!seen.has(id)) {
      seen.add(id);
      open.push(id);
    }
    return seen;
  }

  function through(graph, id) {
    const up = new Map(), down = new Map();
    const join = (map, a, b) => (map.get(a) || map.set(a, []).get(a)).push(b);
    for (const [a, b] of [...graph.edges.map((edge) => [edge.src, edge.dest]), ...graph.joins]) {
      join(up, a, b);
      join(down, b, a);
    }
    const above = (map) => (at) => map.get(at) || [];
    const before = reached([id], above(down)), after = reached([id], above(up));
    const from = reached(ends(graph, "input"), above(up)), to = reached(ends(graph, "logits"), above(down));
    if (!from.has(id) || !to.has(id)) return new Set();
    return new Set(graph.edges.filter((edge) =>
      (before.has(edge.dest) && from.has(edge.src)) || (after.has(edge.src) && to.has(edge.dest)))
      .map((edge) => edge.id));
  }

  // The widest way from some nodes to each other one: what its least edge is, and the last edge of it.
  function widest(edges, starts, tail, head) {
    const best = new Map(starts.map((id) => [id, Infinity])), last = new Map();
    for (let moved = true; moved;) {
      moved = false;
      for (const edge of edges) {
        const width = Math.min(best.get(edge[tail]) ?? -1, edge.join ? Infinity : sizeOf(edge));
        if (width <= (best.get(edge[head]) ?? -1)) continue;
        best.set(edge[head], width);
        last.set(edge[head], edge);
        moved = true;
      }
    }
    return { best, last };
  }

  function strongest(graph, id) {
    const rows = new Map(graph.nodes.map((node) => [node.id, node.row]));
    const joins = graph.joins.map(([src, dest]) => ({ src, dest, join: true }));
    const edges = [...graph.edges, ...joins].sort((a, b) => rows.get(a.src) - rows.get(b.src));
    const below = widest(edges, ends(graph, "input"), "src", "dest");
    const above = widest(edges.toReversed(), ends(graph, "logits"), "dest", "src");
    const way = [];
    if (!below.best.has(id) || !above.best.has(id)) return new Set();
    for (const [{ last }, step] of [[below, "src"], [above, "dest"]]) {
      const passed = new Set();
      for (let at = id; last.has(at) && !passed.has(at); at = last.get(at)[step]) {
        passed.add(at);
        if (!last.get(at).join) way.push(last.get(at).id);
      }
    }
    return new Set(way);
  }

  function found(graph, words) {
    const wanted = words.trim().toLowerCase();
    if (!wanted) return [];
    return graph.nodes.filter((node) => [node.id, node.text, node.label, node.note, ...node.members]
      .some((text) => text && text.toLowerCase().includes(wanted)));
  }

  Object.assign(explorer, {
    view, initial, complete, graphOf, through, strongest, sizeAt, thresholdAt, thresholdOf, found, sizeOf, plainName, membersOf,
    isGroup,
  });
})();
