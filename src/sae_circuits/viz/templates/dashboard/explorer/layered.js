"use strict";
// Lines that are led around nodes, as in the pictures of `render` (viz/layout.py has the rule and its sources): a line
// over several rows gets a waypoint in each row between; sweeps order each row by the means of its neighbours, and move
// all as near to those as order and widths allow.
//   layered(graph, rows, sizes, near, most = 9000)   {x: Map id -> x, via: Map edge id -> [[x, index of a row], ...]}
//     rows   [[row, [node, ...]], ...] upwards
//     near   from 0 to 1, of the room between lines
//     most   waypoints; where there would be more there are none, and lines are straight
(() => {
  const GAP = 10, LANE = 7, SWEEPS = 24;

  const mean = (items, otherwise) => (items.length ? items.reduce((sum, item) => sum + item.x, 0) / items.length : otherwise);

  // As near to wishes as order and widths allow, in least squares: neighbours that violate the order are pooled.
  function settle(row, wishes) {
    const pools = [], offsets = [];
    let reach = 0;
    row.forEach((item, i) => {
      offsets.push(reach + item.width / 2);
      reach += item.width;
      pools.push([wishes[i] - offsets[i], 1]);
      while (pools.length > 1 && pools.at(-2)[0] > pools.at(-1)[0]) {
        const [b, n] = pools.pop(), [a, m] = pools.pop();
        pools.push([(a * m + b * n) / (m + n), m + n]);
      }
    });
    let i = 0;
    for (const [start, n] of pools) for (let k = 0; k < n; k += 1, i += 1) row[i].x = start + offsets[i];
  }

  function order(rows) {
    for (const row of rows) settle(row, row.map(() => 0));
    for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
      const upwards = sweep % 2 === 0, both = sweep >= SWEEPS - 8;
      for (const row of upwards ? rows : rows.toReversed()) {
        for (const item of row)
          item.wish = mean(both ? [...item.below, ...item.above] : upwards ? item.below : item.above, item.x);
        if (!both) row.sort((a, b) => a.wish - b.wish);
        settle(row, row.map((item) => item.wish));
      }
    }
  }

  function layered(graph, numbered, sizes, near, most = 9000) {
    const items = new Map(), rows = numbered.map(([, nodes], row) => nodes.map((node) => {
      const item = { row, width: sizes.get(node.id)[0] + GAP, below: [], above: [], x: 0 };
      items.set(node.id, item);
      return item;
    }));
    const pairs = new Map(graph.edges.map((edge) => [`${edge.src} ${edge.dest}`, edge]));
    const ends = [...pairs.values(), ...graph.joins.map(([src, dest]) => ({ src, dest }))];
    const long = ends.reduce((sum, edge) => sum + Math.max(items.get(edge.dest).row - items.get(edge.src).row - 1, 0), 0);
    const led = long <= most;
    const lanes = new Map();
    for (const { src, dest } of ends) {
      const [low, high] = [items.get(src), items.get(dest)];
      const lane = [];
      for (let row = low.row + 1; led && row < high.row; row += 1) lane.push({ row, width: near * LANE, below: [], above: [], x: 0 });
      for (const item of lane) rows[item.row].push(item);
      const way = [low, ...lane, high];
      for (let i = 1; i < way.length; i += 1) {
        way[i - 1].above.push(way[i]);
        way[i].below.push(way[i - 1]);
      }
      lanes.set(`${src} ${dest}`, lane);
    }
    order(rows);
    return {
      x: new Map([...items].map(([id, item]) => [id, item.x])),
      via: new Map(graph.edges.map((edge) => [edge.id, lanes.get(`${edge.src} ${edge.dest}`).map((item) => [item.x, item.row])])),
    };
  }

  Object.assign(explorer, { layered });
})();
