"use strict";
// What is said beside the drawing: of a node, of a group, or of the whole.
//   nodePanel(graph, id, act)   act: {pin(id), note(id, text), rename(id, name), ungroup(id), hide(ids), ways(kind)}
//   wholePanel(graph, state, act)
(() => {
  const { element, aligned, number } = dashboard;
  const { view, sizeOf, plainName } = explorer;
  const MOST = 40;

  const kindOf = (node) => (view.names || {})[node.kind] || node.kind;
  const said = (node) => (node.label ? [element("bdi", {}, node.label), element("small", {}, ` ${node.name}`)] : [element("bdi", {}, node.name)]);

  function edgeList(edges, end, graph, act) {
    if (!edges.length) return element("p", { class: "none" }, "nothing that is shown");
    const words = aligned(edges.map((edge) => edge.score || 0)), largest = sizeOf(edges[0]) || 1;
    return element("ol", { class: "edges" }, edges.slice(0, MOST).map((edge, i) => {
      const bar = element("span", { class: "bar", style: `width:${(100 * sizeOf(edge)) / largest}%` });
      return element("li", {}, element("button", { type: "button", class: explorer.hueOf(edge), onclick: () => act.pin(edge[end]) },
        element("span", { class: "value" }, edge.score === null ? "–" : words[i]),
        element("span", { class: "who" }, said(graph.byId.get(edge[end])),
          edge.port ? element("small", {}, ` ${edge.port}`) : null, edge.n > 1 ? element("small", {}, ` ${edge.n} edges`) : null,
          edge.other === null ? null : element("small", {}, ` ${view.overlap.b}: ${dashboard.signed(edge.other)}`)),
        bar));
    }), edges.length > MOST ? element("li", { class: "none" }, `and ${edges.length - MOST} more`) : null);
  }

  const total = (edges) => edges.reduce((sum, edge) => sum + (edge.score || 0), 0);

  function lists(graph, id, act) {
    return [["into", "src", "Into it"], ["outOf", "dest", "Out of it"]].map(([way, end, title]) => {
      const edges = graph[way].get(id) || [];
      const sum = edges.length && edges[0].score !== null ? `, in sum ${number(total(edges))}` : "";
      return element("section", {}, element("h3", {}, `${title}: ${edges.length}${sum}`), edgeList(edges, end, graph, act));
    });
  }

  function details(node) {
    const known = view.details.get(plainName(node.name));
    if (!known) return null;
    const tokens = (title, list, words = dashboard.aligned) => (list && list.ids.length ? element("section", {},
      element("h3", {}, title), dashboard.barList(list.ids.map(dashboard.token), list.values, words(list.values))) : null);
    const shares = (values) => values.map((x) => dashboard.share(x));
    const windows = (known.examples || []).map((one) => {
      const top = Math.max(...one.activations, 0) || 1;
      return dashboard.strip(one.tokens.map((id, i) => ({
        id, tint: one.activations[i] / top, chosen: i === one.at,
        tip: () => element("p", {}, dashboard.token(id), ` ${number(one.activations[i])}`) })), "an example");
    });
    return element("div", { class: "details" },
      element("dl", {}, (known.statistics || []).map(([name, value]) => element("div", {}, element("dt", {}, name),
        element("dd", {}, value)))),
      tokens("Fires on, of its firings", known.fires, shares), tokens("Makes more likely", known.raises), tokens("Makes less likely", known.lowers),
      windows.length ? element("section", {}, element("h3", {}, "Largest activations"), windows) : null,
      known.link ? element("p", {}, element("a", { href: known.link }, "Its dashboard")) : null);
  }

  function noteOf(node, act) {
    return element("label", { class: "note" }, element("span", {}, "Note"), element("textarea", {
      rows: 2, placeholder: "what you think it does", onchange: (event) => act.note(node.id, event.target.value) }, node.own));
  }

  const button = (words, onclick, title) => element("button", { type: "button", onclick, title }, words);

  function groupPart(node, act) {
    return [
      element("label", { class: "rename" }, "Name ", element("input", { value: node.name,
        onchange: (event) => act.rename(node.id, event.target.value.trim()) })),
      element("details", {}, element("summary", {}, `${node.members.length} nodes`),
        element("p", { class: "members" }, node.members.join(", "))),
    ];
  }

  function nodePanel(graph, id, act) {
    const node = graph.byId.get(id);
    const where = node.pos === null || node.pos === undefined ? "" : ` at ${view.columns[node.pos]}`;
    return [
      element("h2", { tabindex: -1 }, element("bdi", {}, node.label || node.name), node.label ? element("small", {}, ` ${node.name}`) : null),
      element("p", { class: "kind" }, `${kindOf(node)}${where}`),
      node.note && node.note !== node.own ? element("p", { class: "tip" }, node.note) : null,
      element("p", { class: "acts" }, button("All ways through it", () => act.ways("all"), "w"),
        button("Strongest way", () => act.ways("one"), "s"), button("Hide", () => act.hide([id]), "h"),
        node.kind === "group" ? button("Ungroup", () => act.ungroup(id), "u") : null),
      node.kind === "group" ? groupPart(node, act) : null,
      noteOf(node, act),
      ...lists(graph, id, act),
      details(node),
    ];
  }

  function overlap() {
    const { a, b, edges, nodes } = view.overlap;
    const row = (name, key) => element("tr", {}, element("th", { scope: "row" }, name),
      ...[edges, nodes].map((of) => element("td", {}, number(of[key]))));
    return element("table", { class: "overlap" }, element("tr", {}, element("td", {}), ...["edges", "nodes"].map((name) =>
      element("th", { scope: "col" }, name))), row("shared", "both"), row(`only ${a}`, "only_a"), row(`only ${b}`, "only_b"),
    row("Jaccard", "jaccard"), row("by chance", "chance"));
  }

  function wholePanel(graph, act) {
    const sums = graph.nodes.map((node) => [node, (graph.outOf.get(node.id) || []).reduce((sum, edge) => sum + sizeOf(edge), 0)])
      .sort(([, a], [, b]) => b - a).slice(0, MOST);
    return [
      element("h2", {}, "Nodes"),
      view.overlap ? overlap() : null,
      element("p", { class: "kind" }, "Point at a node to see what leads to and from it, click to keep it. By the sizes of the edges out of them:"),
      element("ol", { class: "edges" }, sums.map(([node, sum]) => element("li", {}, element("button", { type: "button",
        onclick: () => act.pin(node.id) }, element("span", { class: "value" }, number(sum)),
      element("span", { class: "who" }, said(node)))))),
    ];
  }

  Object.assign(explorer, { nodePanel, wholePanel });
})();
