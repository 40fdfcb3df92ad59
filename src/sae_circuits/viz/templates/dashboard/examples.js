"use strict";
// Groups of examples: each window as a strip of tokens.
//   windowElement(profile, window, context)   one example, with its place in the corpus
//   windowText(window)                        the same as text, the chosen token between **
//   groupName(group), groupKey(group)         for people, and for links: "top", "interval-2", ...
// context is that of panels.js: what is pointed at goes to context.mark(histogram, value), and
// context.show.{group, examples, context} say what is shown.
(() => {
  const { element, number, signed, share, strip, tip, text, named } = dashboard;

  const groupKey = (group) =>
    group.kind === "top" || group.kind === "random" ? group.kind : `${group.kind}-${group.index}`;

  function groupName(group) {
    if (group.kind === "top") return "Top activations";
    if (group.kind === "random") return "Random examples";
    const kind = group.kind === "interval" ? "Interval" : "Quantile group";
    return `${kind} ${group.index + 1}`;
  }

  function groupRange(group) {
    const many = `${group.count.toLocaleString("en")} active tokens`;
    const [low, high] = [number(group.low), number(group.high)];
    if (group.kind === "interval") return `(${low}, ${high}] · ${many}`;
    return `${low} to ${high} · ${many}`;
  }

  // The share of counted tokens with an activation no larger: those that are 0 lie between the
  // negative ones and the positive ones.
  function ofCounted(value, ofActive, statistics) {
    const { density, min_active: low } = statistics;
    if (density === null || density === undefined) return null;
    if (value === 0) return low < 0 ? null : 1 - density;
    if (ofActive === null) return null;
    return value > 0 ? 1 - density + density * ofActive : density * ofActive;
  }

  // What is known of each token of a window, by its place in it.
  function perToken(profile, window) {
    const effects = window.effects, at = new Map(effects ? effects.at.map((i, k) => [i, k]) : []);
    let active = 0;
    return window.tokens.map((id, i) => {
      const activation = window.activations[i];
      const quantile = activation && window.quantiles ? window.quantiles[active++] : null;
      const k = at.get(i);
      return {
        id, activation, quantile,
        position: window.first + i,
        counted: ofCounted(activation, quantile, profile.statistics),
        logit: logitEffect(profile, id),
        direct: effects ? (k === undefined ? 0 : effects.direct[k]) : null,
        ablation: window.ablation ? window.ablation[i] : null,
        chances: k === undefined ? null : [effects.before[k], effects.without[k]],
        helped: k === undefined ? null : effects.helped[k],
        hurt: k === undefined ? null : effects.hurt[k],
      };
    });
  }

  const maps = new WeakMap();
  function logitEffect(profile, id) {
    if (!maps.has(profile)) {
      const { ids, values } = profile.effects;
      maps.set(profile, new Map(ids.map((token, i) => [token, values[i]])));
    }
    const found = maps.get(profile).get(id);
    return found === undefined ? null : found;
  }

  const loss = (value) =>
    value === null ? null : value === 0 ? "0" : `${signed(value)} nats, ${value > 0 ? "helps" : "hurts"}`;

  const chances = (pair) => pair && `${share(pair[1])} → ${share(pair[0])}`;

  // Small copies of the histograms that are out of sight.
  function outOfSight(profile, cell, context) {
    const values = { activations: cell.activation, logits: cell.logit };
    return Object.entries(values).map(([name, value]) => {
      const drawn = context.histograms[name];
      if (!drawn || value === null) return null;
      const { top, bottom } = drawn.element.getBoundingClientRect();
      if (bottom > 40 && top < innerHeight - 40) return null;
      const copy = dashboard.histogram(profile[name], { name, of: "values" });
      copy.mark(value);
      return copy.element;
    });
  }

  function tipOf(profile, window, cell, context) {
    const made = tipText(window, cell), copies = outOfSight(profile, cell, context);
    made.append(element("div", { class: "tip-plots" }, copies));
    return made;
  }

  function tipText(window, cell) {
    const { activation, quantile, counted } = cell;
    const found = [quantile === null ? null : `${share(quantile)} of active`,
      counted === null ? null : `${share(counted)} of counted`].filter((said) => said);
    return tip(cell.id, [
      ["position", `${cell.position} of prompt ${window.prompt}`],
      ["activation", number(activation)],
      ["quantile", found.length ? found.join(", ") : null],
      ["logit effect", cell.logit === null ? null : signed(cell.logit)],
      ["direct loss effect", loss(cell.direct)],
      ["ablation loss effect", loss(cell.ablation)],
      ["probability, without → with", chances(cell.chances)],
    ], [["Most helped", cell.helped], ["Most hurt", cell.hurt]]);
  }

  // The largest sizes of a feature, by which colours and lines are scaled.
  function scales(profile) {
    const windows = profile.groups.flatMap((group) => group.windows);
    const largest = (lists) => lists.reduce(
      (top, list) => (list || []).reduce((most, x) => Math.max(most, Math.abs(x)), top), 0);
    return {
      activation: largest(windows.map((window) => window.activations)),
      direct: largest(windows.map((window) => window.effects && window.effects.direct)),
    };
  }

  function within(window, context) {
    const middle = window.position - window.first;
    return [Math.max(0, middle - context), Math.min(window.tokens.length, middle + context + 1)];
  }

  const cellOf = (profile, window, said, scale, context) => ({
    id: said.id,
    tint: scale.activation ? said.activation / scale.activation : 0,
    line: scale.direct && said.direct ? said.direct / scale.direct : 0,
    chosen: said.position === window.position,
    tip: () => tipOf(profile, window, said, context),
    point: (on) => {
      context.mark("activations", on ? said.activation : null);
      context.mark("logits", on ? said.logit : null);
    },
  });

  // Where an example comes from: a link where the prompts can be read, or else to be copied.
  function place(window, address) {
    const said = `${window.prompt}:${window.position}`;
    const corpus = dashboard.data("about").corpus;
    const full = `prompt ${window.prompt}, position ${window.position} of ${corpus}`;
    if (address) {
      const href = address.replaceAll("{prompt}", window.prompt).replaceAll("{position}", window.position);
      return element("a", { class: "place", href, title: full, "aria-label": `${said}: ${full}` }, said);
    }
    return element("button", {
      type: "button", class: "place", title: `${full}; click to copy`,
      "aria-label": `${said}: ${full}; copy`,
      onclick: (event) => dashboard.copy(said, event.currentTarget),
    }, said);
  }

  function sources(window) {
    if (!window.sources || !window.sources.ids.length) return null;
    const rows = window.sources.ids.map((position, i) => {
      const token = window.tokens[position - window.first];
      const name = token === undefined ? "position" : dashboard.token(token);
      return element("li", {}, name, ` ${position} `,
        element("span", { class: "amount" }, signed(window.sources.values[i])));
    });
    return element("details", { class: "sources" },
      element("summary", {}, "attention sources"), element("ol", {}, rows));
  }

  function windowElement(profile, window, context) {
    const scale = context.scales || (context.scales = scales(profile));
    const [start, end] = within(window, context.show.context);
    const cells = perToken(profile, window)
      .map((said) => cellOf(profile, window, said, scale, context)).slice(start, end);
    const value = dashboard.fixed(window.activations[window.position - window.first], scale.activation, false, 3);
    const times = window.times > 1
      ? element("span", { class: "times", title: "times these tokens occur" }, `×${window.times}`) : null;
    return element(
      "li", { class: "window" },
      element("div", { class: "facts" }, element("span", { class: "amount" }, value), place(window, context.address), times),
      element("div", { class: "words" },
        strip(cells, `Prompt ${window.prompt}, position ${window.position}, activation ${value}`),
        sources(window)),
    );
  }

  function windowText(window, context = Infinity) {
    const gap = dashboard.data("about").gap;
    const [start, end] = within(window, context);
    const words = window.tokens.map((id, i) =>
      window.first + i === window.position ? `**${named(text(id))}**` : named(text(id)));
    const value = number(window.activations[window.position - window.first]);
    return `${value}\t${window.prompt}:${window.position}\t${words.slice(start, end).join(gap)}`;
  }

  Object.assign(dashboard, { windowElement, windowText, groupName, groupKey, groupRange });
})();
