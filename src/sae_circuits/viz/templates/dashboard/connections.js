"use strict";
// Connections of features: signed bars, small histograms, and links to those at the other ends.
//   known names are those of features, such as "m0.f17", which stand at a place, "m0"
//   listed(name)                {label, activations, tokens} of it, as far as is known
//   pageOf(place, feature)      the address of its page, or null; "features" is this view's own
//   hosted(place, feature, words)   a link to it on Neuronpedia, or null; "" is this view's own
//   placed(name)                {place, feature}; null for what is no feature
//   spark(counts)               a small histogram
//   signedBar(share)            a bar from a middle line, of a part of the largest, -1 to 1
//   titleOf(connected)          its method, and what upstream ends were set to
//   meaning(connected)          what the signs of its values mean, in words
//   shownTip(name, rows)        a tooltip's content, with rows [[what, value], ...]
//   differences(list)           what methods disagree about, or null
//   connectionTables(profile, n)    the panel
(() => {
  const { element, drawing, number, signed, aligned, data, histogram } = dashboard;
  const SIDES = { up: "Upstream: what drives it", down: "Downstream: what it drives" };

  const listed = (name) =>
    ({ label: null, activations: null, tokens: [], ...(data("listed") || {})[name] });

  function placed(name) {
    const found = /^([a-z]+\d+)\.f(\d+)$/.exec(name);
    return found && { place: found[1], feature: Number(found[2]) };
  }

  const places = (place) => (data("places") || {})[place] || {};

  function pageOf(place, feature) {
    const own = data("about").place;
    if (place === "features" || (own && place === own))
      if (data("index") && dashboard.known(feature)) return `#feature=${feature}`;
    const { page } = places(place);
    return page ? `${page}#feature=${feature}` : null;
  }

  function hosted(place, feature, words = "Neuronpedia") {
    const { neuronpedia } = places(place);
    if (!neuronpedia) return null;
    return element("a", { class: "hosted", href: `${neuronpedia}/${feature}`, target: "_blank",
      rel: "noopener noreferrer", "aria-label": `Feature ${feature} on Neuronpedia` }, words, " ↗");
  }

  const WIDTH = 56, HEIGHT = 18;
  function spark(shape) {
    if (!shape || !shape.counts.length) return null;
    const top = Math.max(...shape.counts, 1), step = WIDTH / shape.counts.length;
    const bars = shape.counts.map((count, i) => {
      const height = count ? Math.max(HEIGHT * (count / top), 1) : 0;
      return height ? `M${(i * step).toFixed(2)} ${HEIGHT}v${-height.toFixed(2)}h${step.toFixed(2)}V${HEIGHT}z` : "";
    });
    const ends = [shape.edges[0], shape.edges[shape.edges.length - 1]].map((x) => number(x)).join(" to ");
    return drawing("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
      "aria-label": `activations ${ends}` }, drawing("path", { d: bars.join("") }));
  }

  function signedBar(share) {
    const bar = element("span", { class: `bar ${share < 0 ? "lowers" : "raises"}` });
    const size = 50 * Math.min(Math.abs(share), 1);
    bar.style.width = `${size}%`;
    bar.style.left = `${share < 0 ? 50 - size : 50}%`;
    return element("span", { class: "two", "aria-hidden": "true" }, bar);
  }

  const titleOf = ({ method, reference }) => (reference ? `${method} (${reference})` : method);

  function meaning({ reference }) {
    if (!reference) return "above 0 the upstream feature drives the other, below 0 it holds it back";
    const set = reference === "zero" ? "taken away" : `set to ${reference}`;
    const also = reference === "zero" ? ": below 0 it drives the other, above 0 it holds it back" : "";
    return `the change of the downstream feature when the upstream one is ${set}${also}`;
  }

  function meanings(some) {
    const said = new Map();
    for (const one of some)
      said.set(meaning(one), (said.get(meaning(one)) || new Set()).add(titleOf(one)));
    return [...said].map(([words, titles]) => element("p", { class: "faint meaning" }, `${[...titles].join(", ")}: ${words}.`));
  }

  function shownTip(name, rows) {
    const { label, activations, tokens } = listed(name);
    const plot = activations && histogram(activations, { name: "activation", of: "active tokens" }).element;
    return element("div", {},
      element("p", { class: "tip-head" }, element("strong", {}, name)),
      label ? element("p", {}, label) : null,
      element("dl", {}, rows.map(([what, value]) =>
        element("div", {}, element("dt", {}, what), element("dd", {}, value)))),
      tokens.length ? element("p", { class: "tip-name some" }, "fires on ",
        tokens.map((text) => element("bdi", { class: "token" }, dashboard.shown(text)))) : null,
      plot ? element("div", { class: "tip-one" }, plot) : null);
  }

  const valueOf = (one, name) => {
    const i = one.names.indexOf(name);
    return i < 0 ? null : one.values[i];
  };
  const largest = (one) => Math.max(...one.values.map(Math.abs), 0);

  function differences(list) {
    if (!list || !list.length) return null;
    const disputed = new Set(list.map((one) => `${one.direction} ${one.name}`));
    const rows = list.map(({ name, kind, methods, values }) => {
      const said = methods.map((method, i) => `${method} ${signed(values[i])}`).join(", ");
      const why = kind === "size" ? "one is below a tenth of its method's largest"
        : values[0] * values[1] < 0 ? "opposite signs"
        : "by one it drives the other, by one it holds it back";
      return element("li", {}, element("strong", {}, name), ` ${said}: ${why}`);
    });
    return element("details", { class: "differ", open: rows.length <= 5 },
      element("summary", {}, `Methods disagree about ${number(disputed.size)} of the strongest connections`),
      element("ul", {}, rows));
  }

  function who(name, rows) {
    const at = placed(name), page = at && pageOf(at.place, at.feature), { label, activations } = listed(name);
    const said = element(page ? "a" : "span", page ? { href: page } : { tabindex: 0 }, name);
    dashboard.withTip(said, () => shownTip(name, rows));
    return element("th", { scope: "row", class: "end" },
      element("span", { class: "end-name" }, spark(activations), said, at && hosted(at.place, at.feature, "")),
      label ? element("span", { class: "who", title: label }, label) : null);
  }

  // A line for each feature that any method lists, those with the largest part of a method's own
  // largest value first.
  function lines(some) {
    const parts = new Map();
    for (const one of some)
      one.names.forEach((name, i) => parts.set(name,
        Math.max(parts.get(name) || 0, Math.abs(one.values[i]) / (largest(one) || 1))));
    return [...parts].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  }

  function side(direction, some, differing, n) {
    const names = lines(some), disputed = new Set(differing.map((one) => one.name));
    const words = some.map((one) => aligned(one.values));
    const cell = (one, i, name) => {
      const value = valueOf(one, name);
      if (value === null) return element("td", { class: "signed", title: "not known" }, "–");
      return element("td", { class: "signed" },
        element("span", { class: "amount" }, words[i][one.names.indexOf(name)]),
        signedBar(value / (largest(one) || 1)));
    };
    const row = (name) => {
      const values = some.map((one) => [titleOf(one), signed(valueOf(one, name))]);
      const line = element("tr", {}, who(name, values), some.map((one, i) => cell(one, i, name)));
      if (disputed.has(name)) line.querySelector(".end-name").append(element("abbr",
        { class: "disputed", title: "methods disagree" }, "≠"));
      return line;
    };
    const body = element("tbody", {}, names.slice(0, n).map(row));
    const more = names.length > n ? element("button", { type: "button", class: "more", onclick: () => {
      body.append(...names.slice(n).map(row));
      more.remove();
      body.querySelectorAll("th [href], th [tabindex]")[n].focus();
    } }, `${names.length - n} more`) : null;
    return element("section", { class: "side", "aria-label": SIDES[direction] }, element("h3", {}, SIDES[direction]),
      element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${SIDES[direction]}, values` },
        element("table", { "aria-label": SIDES[direction] },
          element("thead", {}, element("tr", {}, ["feature", ...some.map(titleOf)].map((name, i) =>
            element("th", { scope: "col", class: i ? "number" : null }, name)))), body)), more);
  }

  function connectionTables(profile, n) {
    const { connections, differing } = profile;
    const sides = ["up", "down"].map((direction) => {
      const some = connections.filter((one) => one.direction === direction);
      return some.length ? side(direction, some, differing.filter((one) => one.direction === direction), n) : null;
    });
    return [...sides, meanings(connections), differences(differing)].flat().filter((one) => one);
  }

  Object.assign(dashboard, { listed, placed, pageOf, hosted, spark, signedBar, titleOf, meaning, shownTip,
    differences, connectionTables });
})();
