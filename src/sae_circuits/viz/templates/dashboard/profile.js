"use strict";
// Profiles as the page's JSON has them, and as the panels read them.
//   unpacked(json)    every field is there; windows are objects; activations stand at each token;
//                     tokens and their numbers are {ids, values}
// In JSON, fields that have their defaults are left out and windows are columns: docs/dashboards.md.
(() => {
  const none = () => ({ ids: [], values: [] });
  const empty = () => ({
    name: null, labels: [], activations: null, logits: null, top: none(), bottom: none(),
    firing: { ids: [], counts: [], shares: [], recalls: [] },
    neurons: { ids: [], values: [], shares: [] }, heads: null, neighbours: [], probes: [],
    connections: [], differing: [],
  });

  function spread(length, at, values) {
    const all = Array(length).fill(0);
    at.forEach((i, k) => (all[i] = values[k]));
    return all;
  }

  const pairs = ({ ids, values }) => ids.map((own, k) => ({ ids: own, values: values[k] }));

  function effects(columns, i) {
    const own = Object.fromEntries(
      ["at", "direct", "before", "without"].map((name) => [name, columns[name][i]]));
    for (const name of ["helped", "hurt"])
      own[name] = pairs({ ids: columns[name].ids[i], values: columns[name].values[i] });
    return own;
  }

  function windowOf(columns, i) {
    const plain = ["prompt", "position", "first", "times", "tokens", "quantiles", "ablation", "sources"];
    const own = Object.fromEntries(
      plain.map((name) => [name, columns[name] ? columns[name][i] : null]));
    own.activations = spread(own.tokens.length, columns.active[i], columns.activations[i]);
    own.effects = columns.effects ? effects(columns.effects, i) : null;
    own.sources = own.sources && { ...none(), ...own.sources };
    return own;
  }

  function unpacked(json) {
    const groups = (json.groups || []).map((group) => ({
      ...group, windows: group.windows.tokens.map((_, i) => windowOf(group.windows, i)) }));
    const shown = new Set(groups.flatMap((g) => g.windows.flatMap((window) => window.tokens)));
    const ids = [...shown].sort((a, b) => a - b);
    const effects = json.effects && json.effects.length ? { ids, values: json.effects } : none();
    const labels = (json.labels || []).map((label) => ({ score: null, ...label }));
    const filled = { ...empty(), ...json };
    for (const name of ["top", "bottom"]) filled[name] = { ...none(), ...filled[name] };
    for (const name of ["firing", "neurons"]) filled[name] = { ...empty()[name], ...filled[name] };
    const connections = filled.connections.map((one) => ({ reference: "", ...one }));
    return { ...filled, labels, groups, effects, connections };
  }

  Object.assign(dashboard, { unpacked });
})();
