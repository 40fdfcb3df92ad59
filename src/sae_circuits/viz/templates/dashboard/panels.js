"use strict";
// Panels: what a feature's page is made of.
//   panels[name](profile, options, context)   an element's content, or null where there is nothing
//       context: {mark(histogram, value), histograms, show: {group, examples, context}, change}
//   feature(profile, layout, show, change)    all panels of a layout, in columns; a compact panel
//       of a feature is feature(profile, dashboard.data("layouts").compact, show)
//       show: {group, examples, context, marks: {histogram: value}}, the last for lines that stay
//   mark(element, histogram, value)           draws a value's line in what `feature` made
// To add a panel, add a function to `panels` and its name and options to layout.py.
(() => {
  const { element, number, signed, share, histogram, token, tokenList, barList, aligned } = dashboard;

  function table(columns, rows, name) {
    if (!rows.length) return null;
    const cell = (tag, [words, kind], content) => {
      const number = kind === "number" ? "number" : null;
      return element(tag, { class: number, scope: tag === "th" ? "col" : null }, content ?? words);
    };
    return element("table", { "aria-label": name },
      element("thead", {}, element("tr", {}, columns.map((column) => cell("th", column)))),
      element("tbody", {}, rows.map((row) =>
        element("tr", {}, row.map((content, i) => cell("td", columns[i], content))))));
  }

  function drawn(shape, key, options, context) {
    if (!shape) return null;
    const made = histogram(shape, options);
    context.histograms[key] = made;
    return made.element;
  }

  function statistics(profile) {
    const said = profile.statistics;
    const rows = [
      ["type", said.type], ["density", share(said.density)],
      ["active tokens", number(said.n_active)],
      ["mean where active", number(said.mean_active)], ["std where active", number(said.std_active)],
      ["least where active", number(said.min_active)], ["largest", number(said.max_active)],
      ["mean over all", number(said.mean)], ["importance", number(said.importance)],
      ["token entropy", said.token_entropy == null ? null : `${number(said.token_entropy)} bits`],
      ["decoder norm", number(said.decoder_norm)], ["logit std", number(said.logit_std)],
      ["logit skew", number(said.logit_skew)], ["logit kurtosis", number(said.logit_kurtosis)],
    ].filter(([, value]) => value && value !== "–");
    return element("dl", { class: "facts-list" }, rows.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  }

  function labels(profile) {
    if (!profile.labels.length) return null;
    return element("ul", { class: "labels" }, profile.labels.map((label) => element("li", {},
      label.text, " ", element("span", { class: "faint" },
        label.strategy + (label.score == null ? "" : `, score ${number(label.score, 2)}`)))));
  }

  function activations(profile, options, context) {
    return drawn(profile.activations, "activations", { name: "activation", of: "active tokens" }, context);
  }

  function logits(profile, options, context) {
    return drawn(profile.logits, "logits",
      { name: "effect on the logits", of: "tokens of the vocabulary" }, context);
  }

  function density(profile, options, context) {
    const { densities } = dashboard.data("about");
    const shape = drawn(densities, "density",
      { name: "density, all features", of: "features that are active", log: true }, context);
    const own = profile.statistics.density;
    if (shape && own > 0) context.histograms.density.mark(Math.log10(own), share(own));
    return shape;
  }

  function tokens(profile, { n = 10 }) {
    const list = (name, values) => element("div", {}, element("h3", {}, name),
      values.ids.length ? tokenList(values, n) : element("p", { class: "faint" }, "none"));
    if (!profile.top.ids.length && !profile.bottom.ids.length) return null;
    return element("div", { class: "pair" },
      list("More likely", profile.top), list("Less likely", profile.bottom));
  }

  function firing(profile, { n = 10 }) {
    const { ids, counts, shares, recalls } = profile.firing;
    return table([["token"], ["count", "number"], ["of its firings", "number"], ["of the token", "number"]],
      ids.slice(0, n).map((id, i) => [token(id), counts[i].toLocaleString("en"), share(shares[i]), share(recalls[i])]),
      "Tokens on which the feature fires");
  }

  function neurons(profile, { n = 10 }) {
    const { ids, shares } = profile.neurons, values = aligned(profile.neurons.values);
    return table([["neuron"], ["decoder entry", "number"], ["of the L1 norm", "number"]],
      ids.slice(0, n).map((id, i) => [`${id}`, values[i], share(shares[i])]), "Neuron alignment");
  }

  function heads(profile) {
    if (!profile.heads) return null;
    const names = profile.heads.map((_, i) => element("span", {}, `head ${i}`));
    return barList(names, profile.heads, profile.heads.map((part) => share(part)));
  }

  function neighbourList(found, n) {
    const here = found.among === "features";
    const values = aligned(found.values);
    const rows = found.ids.slice(0, n).map((id, i) => {
      const label = found.labels[i] || (here && dashboard.label(id));
      const page = dashboard.pageOf(found.among, id);
      const who = page ? element("a", { href: page }, `${id}`) : element("span", {}, `${id}`);
      return element("li", {}, who, element("span", { class: "amount" }, values[i]),
        label ? element("span", { class: "who", title: label }, label) : null);
    });
    return element("div", {}, element("h3", {}, `${found.among} · ${found.measure}`),
      rows.length ? element("ol", { class: "neighbours" }, rows) : element("p", { class: "faint" }, "none"));
  }

  function neighbours(profile, { n = 5 }) {
    if (!profile.neighbours.length) return null;
    return element("div", { class: "pair" }, profile.neighbours.map((found) => neighbourList(found, n)));
  }

  function probes(profile, { n = 10 }) {
    return profile.probes.map((probe) => {
      const values = aligned(probe.values);
      return table([[`class of ${probe.name}`], ["per unit of activation", "number"]],
        ends(probe.classes.length, n).map((i) => [probe.classes[i], values[i]]), `Probe ${probe.name}`);
    });
  }

  // The first and the last of a ranked list, where it is long.
  function ends(length, n) {
    const all = [...Array(length).keys()];
    return length <= 2 * n ? all : [...all.slice(0, n), ...all.slice(length - n)];
  }

  function connections(profile, { n = 10 }) {
    if (profile.connections.length) return dashboard.connectionTables(profile, n);
    return element("p", { class: "faint" },
      "None given: FeatureView.connect fills this panel, from a connectome or a circuit.");
  }

  const inGroup = (group, wanted) =>
    wanted === "all" || group.kind === wanted || dashboard.groupKey(group) === wanted;

  function groupElement(profile, group, context) {
    const shown = group.windows.slice(0, context.show.examples);
    const left = group.windows.length - shown.length;
    const name = dashboard.groupName(group);
    return element("section", { class: "group", "aria-label": name },
      element("h3", {}, element("a", { href: dashboard.link({ group: dashboard.groupKey(group) }) }, name),
        element("span", { class: "faint" }, dashboard.groupRange(group))),
      shown.length ? element("ol", { class: "windows" }, shown.map((window) =>
        dashboard.windowElement(profile, window, context))) : element("p", { class: "faint" }, "none"),
      left > 0 && context.change ? element("button", { type: "button", class: "more",
        onclick: () => context.change({ examples: context.show.examples + 10 }) }, `${left} more`) : null);
  }

  const KINDS = { all: "All", top: "Top", interval: "Intervals", quantile: "Quantiles", random: "Random" };

  function choices(profile, context) {
    const kinds = ["all", ...new Set(profile.groups.map((group) => group.kind))];
    const { group } = context.show;
    return element("div", { class: "choices", role: "group", "aria-label": "Groups of examples" },
      kinds.map((kind) => element("button", {
        type: "button", "aria-pressed": String(group === kind || group.startsWith(`${kind}-`)),
        onclick: () => context.change({ group: kind }) }, KINDS[kind] || kind)));
  }

  function select(name, value, values, change) {
    const options = [...new Set([...values, value])].sort((a, b) => a - b);
    return element("label", {}, `${name} `, element("select", { "aria-label": name, onchange: (event) => change(Number(event.target.value)) },
      options.map((n) => element("option", { value: n, selected: n === value }, n >= 1000 ? "all" : `${n}`))));
  }

  function controls(profile, context) {
    return element("div", { class: "controls" }, choices(profile, context),
      element("div", { class: "sizes" },
        select("examples", context.show.examples, [1, 3, 5, 10, 20, 1000], (examples) => context.change({ examples })),
        select("context", context.show.context, [3, 5, 10, 20, 1000], (context_) => context.change({ context: context_ }))));
  }

  function legend(profile) {
    const windows = profile.groups.flatMap((group) => group.windows);
    const negative = windows.some((window) => window.activations.some((a) => a < 0));
    return element("p", { class: "legend" },
      element("span", { class: "key" }, element("span", { class: "ramp" }), "activation, 0 to the largest shown"),
      negative ? element("span", { class: "key" }, element("span", { class: "cell negative", style: "--a:70%" }, "below 0")) : null,
      !windows.some((window) => window.effects) ? null : element("span", { class: "key" }, element("span", { class: "cell helps", style: "--u:3px" }, "helps"),
        element("span", { class: "cell hurts", style: "--u:3px" }, "hurts"), "the token's own probability"));
  }

  function examples(profile, options, context) {
    if (!profile.groups.length) return element("p", { class: "faint" }, "Never active on this corpus.");
    const groups = profile.groups.filter((group) => inGroup(group, context.show.group));
    context.address = options.address;
    return element("div", { class: "examples" },
      context.change ? [controls(profile, context), legend(profile)] : null,
      groups.length ? groups.map((group) => groupElement(profile, group, context))
        : element("p", { class: "faint" }, "The feature has no such group."));
  }

  const panels = {
    statistics, labels, activations, logits, density, tokens, firing, neurons, heads, neighbours,
    probes, connections, examples,
  };
  const TITLES = {
    statistics: "Statistics", labels: "Labels", activations: "Activations", logits: "Effects on the logits",
    density: "Density", tokens: "Tokens it makes more and less likely", firing: "Tokens on which it fires",
    neurons: "Neuron alignment", heads: "Decoder weight by head", neighbours: "Nearest",
    probes: "Probes", connections: "Connections", examples: "Examples",
  };

  function panel({ panel: name, options }, profile, context) {
    const content = panels[name](profile, options, context);
    if (!content || (Array.isArray(content) && !content.length)) return null;
    const title = options.title || TITLES[name];
    return element("section", { class: `panel ${name}`, "aria-label": title },
      element("h2", {}, title), content);
  }

  function feature(profile, layout, show, change) {
    const context = { histograms: {}, show, change };
    const marks = show.marks || {};
    context.mark = (name, value) =>
      context.histograms[name] && context.histograms[name].mark(value ?? marks[name]);
    const made = element("div", { class: "columns" }, layout.columns.map((column) =>
      element("div", { class: "column" }, column.panels.map((one) => panel(one, profile, context)))));
    made.style.setProperty("--columns", layout.columns.map((c) => `minmax(0, ${c.width}fr)`).join(" "));
    made.mark = context.mark;
    for (const name of Object.keys(marks)) context.mark(name);
    return made;
  }

  Object.assign(dashboard, { panels, feature, table });
})();
