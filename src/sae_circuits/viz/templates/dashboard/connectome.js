"use strict";
// The page of a connectome: a feature in the middle, what drives it at the left, what it drives at
// the right. `#target=m3.f17&method=total+(zero)` says which, and by which method.
//   start()          called once, at the page's end
(() => {
  const { element, drawing, signed, aligned, data, titleOf } = dashboard;
  const main = () => document.querySelector("main");
  const ROW = 46, AT_FIRST = 12;  // pixels of a line; lines at each side, before the reader chooses
  const SIDES = { up: "Upstream", down: "Downstream" };
  const SIGNS = { "": "All", "+": "Above 0", "-": "Below 0" };
  let state = {}, parts = {}, target = null, targets = null, started = false;

  // Fields that have their defaults are left out in JSON.
  function held() {
    if (!targets) targets = new Map(data("targets").map((one) => [one.name,
      { differing: [], ...one, connections: one.connections.map((c) => ({ reference: "", ...c })) }]));
    return targets;
  }

  // -- the address -------------------------------------------------------------------------------

  function read(hash) {
    const said = new URLSearchParams(hash.replace(/^#/, ""));
    return { target: said.get("target") || undefined, method: said.get("method") || undefined };
  }

  const written = (next) =>
    `#${new URLSearchParams(Object.entries(next).filter(([, value]) => value !== undefined))}`;

  // A page inside another one may have no address of its own.
  function go(next, replace) {
    try {
      history[replace ? "replaceState" : "pushState"](null, "", written(next));
    } catch { /* it works without */ }
    show(next);
  }

  // -- which connections are shown ---------------------------------------------------------------

  const methods = () => [...new Set(target.connections.map(titleOf))];

  function chosenMethod() {
    const known = methods();
    return known.includes(state.method) ? state.method : known[0];
  }

  const placeOf = (name) => (dashboard.placed(name) || { place: "others" }).place;

  function edgesOf(direction) {
    const own = target.connections.find((one) =>
      one.direction === direction && titleOf(one) === chosenMethod());
    if (!own) return [];
    const largest = Math.max(...own.values.map(Math.abs), 0) || 1, words = aligned(own.values);
    return own.names.map((name, i) => ({ name, words: words[i], value: own.values[i],
      share: own.values[i] / largest })).filter((edge) => edge.value);
  }

  function said(name) {
    const { label, tokens } = dashboard.listed(name);
    return [name, label || "", ...tokens].join("\n").toLowerCase();
  }

  function isShown(edge) {
    const { least, sign, hidden, words } = parts;
    return Math.abs(edge.share) * 100 >= least && (!sign || (sign === "+") === edge.value > 0) &&
      !hidden.has(placeOf(edge.name)) && said(edge.name).includes(words.trim().toLowerCase());
  }

  // As few as can be looked at.
  function usualLeast() {
    const shares = ["up", "down"].map((direction) => edgesOf(direction)[AT_FIRST])
      .filter((edge) => edge).map((edge) => Math.abs(edge.share));
    return shares.length ? Math.min(Math.floor(100 * Math.max(...shares)) + 1, 100) : 0;
  }

  // -- the drawing -------------------------------------------------------------------------------

  function nodeOf(edge) {
    const { name, share } = edge, { label, activations, tokens } = dashboard.listed(name);
    const at = dashboard.placed(name);
    const to = held().has(name) ? written({ ...state, target: name })
      : at && dashboard.pageOf(at.place, at.feature);
    const link = element(to ? "a" : "span", to ? { href: to } : { tabindex: 0 }, name);
    dashboard.withTip(link, () => dashboard.shownTip(name, target.connections.flatMap((one) => {
      const i = one.direction === edge.direction ? one.names.indexOf(name) : -1;
      return i < 0 ? [] : [[titleOf(one), signed(one.values[i])]];
    })), (on) => edge.path.classList.toggle("lit", on));
    const more = label || (tokens.length
      ? tokens.slice(0, 3).map((text) => element("bdi", { class: "token" }, dashboard.shown(text))) : null);
    return element("li", { class: `node ${share < 0 ? "below" : "above"}` },
      element("div", { class: "node-head" }, link, at && dashboard.hosted(at.place, at.feature, ""),
        element("span", { class: "amount" }, edge.words)),
      element("div", { class: "node-more" }, dashboard.spark(activations),
        more ? element("span", { class: "who" }, more) : null),
      dashboard.signedBar(share));
  }

  function line(edge, from, to) {
    const size = Math.abs(edge.share);
    return drawing("path", { class: edge.share < 0 ? "lowers" : "raises",
      "stroke-width": (1 + 6 * size).toFixed(2), "vector-effect": "non-scaling-stroke",
      d: `M0 ${from.toFixed(1)}C50 ${from.toFixed(1)} 50 ${to.toFixed(1)} 100 ${to.toFixed(1)}` });
  }

  // Lines of a side stand under each other around the middle one's height, and meet at its edge.
  function sideOf(direction, edges, height, middle) {
    const start = Math.max(Math.min(middle - (edges.length * ROW) / 2, height - edges.length * ROW), 0);
    const spread = Math.min(60, 8 * edges.length), n = Math.max(edges.length - 1, 1);
    edges.forEach((edge, i) => {
      const far = start + (i + 0.5) * ROW, near = middle + spread * (edges.length > 1 ? i / n - 0.5 : 0);
      edge.direction = direction;
      edge.path = direction === "up" ? line(edge, far, near) : line(edge, near, far);
    });
    const lines = drawing("svg", { class: "lines", viewBox: `0 0 100 ${height}`, height, preserveAspectRatio: "none",
      "aria-hidden": "true" }, edges.map((edge) => edge.path).reverse());
    const list = element("ol", {}, edges.map(nodeOf));
    list.style.setProperty("--start", `${start}px`);
    const words = edgesOf(direction).length ? "None of them is shown." : "None by this method.";
    const side = element("section", { class: `side ${direction}`, "aria-label": SIDES[direction] },
      element("h2", {}, SIDES[direction]), edges.length ? list : element("p", { class: "faint" }, words));
    return direction === "up" ? [side, lines] : [lines, side];
  }

  function card(middle) {
    const { label, activations, tokens } = dashboard.listed(target.name), at = dashboard.placed(target.name);
    const page = at && dashboard.pageOf(at.place, at.feature);
    const made = element("section", { class: "card", "aria-label": "Target" },
      element("h2", {}, target.name), label ? element("p", {}, label) : null,
      tokens.length ? element("p", { class: "some faint" }, "fires on ",
        tokens.map((text) => element("bdi", { class: "token" }, dashboard.shown(text)))) : null,
      activations ? dashboard.histogram(activations, { name: "activation", of: "active tokens" }).element : null,
      element("p", { class: "to" }, page ? element("a", { href: page }, "Page of this feature") : null,
        at && dashboard.hosted(at.place, at.feature)));
    made.style.setProperty("--start", `${Math.max(middle - 60, 0)}px`);
    return made;
  }

  function draw() {
    dashboard.closeTip();
    const every = { up: edgesOf("up"), down: edgesOf("down") };
    const shown = Object.fromEntries(Object.entries(every).map(([way, edges]) => [way, edges.filter(isShown)]));
    const height = ROW * Math.max(shown.up.length, shown.down.length, 3);
    const middle = Math.min(height / 2, 260);
    parts.count.textContent = Object.keys(SIDES).map((way) =>
      `${shown[way].length} of ${every[way].length} ${SIDES[way].toLowerCase()}`).join(", ");
    parts.said.textContent = `${parts.least}% of the largest`;
    parts.picture.replaceChildren(...sideOf("up", shown.up, height, middle), card(middle),
      ...sideOf("down", shown.down, height, middle));
  }

  // -- controls ----------------------------------------------------------------------------------

  function choices(name, options, chosen, change) {
    const group = element("div", { class: "choices", role: "group", "aria-label": name },
      Object.entries(options).map(([value, words]) => element("button", { type: "button", "data-value": value,
        "aria-pressed": String(value === chosen), onclick: () => {
          for (const one of group.children) one.setAttribute("aria-pressed", String(one.dataset.value === value));
          change(value);
        } }, words)));
    return group;
  }

  function chips(places) {
    return element("div", { class: "chips", role: "group", "aria-label": "Dictionaries" }, places.map((place) => {
      const chip = element("button", { type: "button", "aria-pressed": "true", onclick: () => {
        const on = parts.hidden.has(place);
        parts.hidden[on ? "delete" : "add"](place);
        chip.setAttribute("aria-pressed", String(on));
        draw();
      } }, place);
      return chip;
    }));
  }

  function slider() {
    return element("label", { class: "least" }, "At least ", element("input", { type: "range", min: 0, max: 100,
      value: parts.least, "aria-label": "Least size of a connection, as a part of the largest", oninput: (event) => {
        parts.least = Number(event.target.value);
        event.target.setAttribute("aria-valuetext", `${parts.least}% of the largest`);
        draw();
      } }), " ", parts.said);
  }

  function controls() {
    const known = methods(), by = Object.fromEntries(known.map((name) => [name, name]));
    const names = target.connections.flatMap((one) => one.names);
    const places = [...new Set(names.map(placeOf))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const all = [...held().keys()];
    return element("div", { class: "controls" },
      all.length > 1 ? element("label", {}, "Target ", element("select", {
        onchange: (event) => go({ ...state, target: event.target.value }) },
        all.map((name) => element("option", { value: name, selected: name === target.name },
          [name, dashboard.listed(name).label].filter((x) => x).join(" · "))))) : null,
      known.length > 1 ? choices("Method", by, chosenMethod(), (method) => go({ ...state, method }, true)) : null,
      slider(), choices("Sign", SIGNS, parts.sign, (sign) => { parts.sign = sign; draw(); }),
      places.length > 1 ? chips(places) : null,
      element("input", { type: "search", placeholder: "name, label, token", "aria-label": "Search name, label or token",
        autocomplete: "off", oninput: (event) => { parts.words = event.target.value; draw(); } }));
  }

  function legend() {
    const key = (kind, words) => element("span", { class: "key" },
      element("span", { class: `bar ${kind}`, "aria-hidden": "true" }), words);
    const own = target.connections.find((one) => titleOf(one) === chosenMethod());
    return element("p", { class: "legend" }, key("raises", "above 0"), key("lowers", "below 0"),
      element("span", {}, `${titleOf(own)}: ${dashboard.meaning(own)}.`));
  }

  // -- the page ----------------------------------------------------------------------------------

  function missing(name) {
    const first = [...held().keys()][0];
    main().replaceChildren(element("h1", { tabindex: -1 }, `${name} is not in the middle of this page`),
      element("p", {}, element("a", { href: written({ target: first }) }, first)));
  }

  function show(next) {
    const before = target;
    state = next;
    const name = state.target === undefined ? [...held().keys()][0] : state.target;
    target = held().get(name);
    document.title = [name, data("about").title].join(" · ");
    if (!target) return missing(name);
    const same = before === target;
    if (!same) parts = { sign: "", hidden: new Set(), words: "", said: element("output", {}),
      count: element("p", { class: "count", role: "status" }), picture: element("div", { class: "connectome" }) };
    parts.least = usualLeast();
    if (same) {
      main().querySelector(".least input").value = parts.least;
      main().querySelector(".legend").replaceWith(legend());
      return draw();
    }
    const { label } = dashboard.listed(name);
    main().replaceChildren(...[element("h1", { tabindex: -1 }, name,
      label ? [" ", element("span", { class: "label" }, label)] : null),
    controls(), parts.count, legend(), parts.picture, dashboard.differences(target.differing)].filter((x) => x));
    draw();
    if (started) main().querySelector("h1").focus({ preventScroll: true });
    if (started) window.scrollTo(0, 0);
  }

  function follow(event) {
    const at = event.target.closest("a[href^='#']");
    if (!at || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    if (at.classList.contains("skip")) return main().querySelector("h1").focus();
    go(read(at.getAttribute("href")));
  }

  function start() {
    document.addEventListener("click", follow);
    window.addEventListener("popstate", () => show(read(location.hash)));
    show(read(location.hash));
    started = true;
  }

  Object.assign(dashboard, { go, start });
})();
