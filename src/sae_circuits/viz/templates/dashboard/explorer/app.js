"use strict";
// The page: one state, which every change replaces; what was before can be had again.
// For those who script: `explorer.state()`, `explorer.change({size: 40})`, `explorer.graph()`, `explorer.drawn.cy`.
(() => {
  const { element, data, say } = dashboard;
  const { view, isGroup } = explorer;
  const MOST = 200;  // states that are kept
  const LARGE = 1500;  // nodes

  let state = null, graph = null, drawn = null, bar = null, plot = null, pinned = null, pointed = null, ways = null, words = "";
  const past = [], future = [];
  const part = (name) => document.querySelector(`.explorer ${name}`);

  // -- what is shown -----------------------------------------------------------------------------

  function render() {
    graph = explorer.graphOf(state);
    if (pinned !== null && !graph.byId.has(pinned)) [pinned, ways] = [null, null];
    pointed = null;
    drawn.draw(graph, explorer.placesOf(graph, state), state.axis === "sideways");
    part(".empty").hidden = graph.nodes.length > 0;
    show();
  }

  const can = () => ({ undo: past.length, redo: future.length, chosen: drawn.chosen().length, most: drawn.most });

  function show() {
    bar.show(state, graph, can());
    if (plot) plot.mark(state.size);
    mark();
    panel();
  }

  function mark() {
    const here = pinned ?? pointed;
    const found = explorer.found(graph, words).map((node) => node.id);
    if (here === null) return drawn.mark({ found });
    const own = [...(graph.into.get(here) || []), ...(graph.outOf.get(here) || [])].map((edge) => edge.id);
    const way = ways && pinned ? explorer.strongest(graph, here) : null;
    const edges = ways === "all" && pinned ? explorer.through(graph, here) : ways && pinned ? way : new Set(own);
    const near = new Set(graph.edges.filter((edge) => edges.has(edge.id)).flatMap((edge) => [edge.src, edge.dest]));
    drawn.mark({ here, edges, way, near, found, kept: pinned !== null });
  }

  function panel() {
    const here = pinned ?? pointed;
    dashboard.closeTip();
    part("aside").replaceChildren(...(here === null ? explorer.wholePanel(graph, act) : explorer.nodePanel(graph, here, act))
      .flat(3).filter((one) => one));
  }

  // -- changes -----------------------------------------------------------------------------------

  // A note changes no line: the drawing stays, so that a click that ends a note reaches what it is on.
  function said() {
    graph = explorer.graphOf(state);
    show();
  }

  function set(next, shown = render) {
    past.push(state);
    if (past.length > MOST) past.shift();
    future.length = 0;
    state = next;
    shown();
  }

  const change = (patch) => set({ ...state, ...patch });

  function back(from, to) {
    if (!from.length) return;
    to.push(state);
    state = from.pop();
    render();
  }

  let before = null, waiting = 0;
  function drag(patch) {
    before = before || state;
    state = { ...state, ...patch };
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(graph.nodes.length > LARGE ? counted : render);
  }

  // What is large is drawn when the slider is let go; until then its numbers alone change.
  function counted() {
    bar.show(state, explorer.graphOf(state), can());
    if (plot) plot.mark(state.size);
  }

  function dropped() {
    if (!before) return;
    cancelAnimationFrame(waiting);
    const next = state;
    state = before;
    before = null;
    set(next);
  }

  function free(name) {
    for (let i = 1; ; i += 1) if (!view.byName.has(`${name} ${i}`) && !isGroup(state, `${name} ${i}`)) return `${name} ${i}`;
  }

  function group() {
    const chosen = drawn.chosen();
    if (chosen.length < 2) return say("Select two or more nodes first: shift and drag, or shift and click");
    const inside = chosen.filter((id) => isGroup(state, id));
    const members = chosen.flatMap((id) => (isGroup(state, id) ? state.groups[id].members : [id]));
    const kept = Object.fromEntries(Object.entries(state.groups).filter(([name]) => !inside.includes(name)));
    const name = free("group");
    pinned = name;
    change({ groups: { ...kept, [name]: { members, label: "", note: "" } } });
    const input = part("aside .rename input");
    if (input) input.select();
    return undefined;
  }

  function sized(size) {
    if (size > view.edges.length) say(`This page holds the first ${view.edges.length.toLocaleString("en")} edges: make it anew with more`);
    change({ size: Math.min(size, view.edges.length) });
  }

  function ungroup(name) {
    pinned = null;
    change({ groups: Object.fromEntries(Object.entries(state.groups).filter(([other]) => other !== name)) });
  }

  function rename(name, next) {
    if (next === name) return;
    if (!next || isGroup(state, next) || view.byName.has(next)) {
      say(next ? `There is a node or a group named ${next} already` : "A group needs a name");
      return panel();
    }
    pinned = next;
    const places = { ...state.places };
    if (name in places) places[next] = places[name];
    delete places[name];
    change({ places, groups: Object.fromEntries(Object.entries(state.groups).map(([other, one]) => [other === name ? next : other, one])) });
    return undefined;
  }

  function note(id, text) {
    if (isGroup(state, id)) return set({ ...state, groups: { ...state.groups, [id]: { ...state.groups[id], note: text } } }, said);
    const { [id]: _, ...others } = state.notes;
    return set({ ...state, notes: text ? { ...others, [id]: text } : others }, said);
  }

  function hide(ids) {
    const members = ids.flatMap((id) => (isGroup(state, id) ? state.groups[id].members : [id]));
    pinned = null;
    change({ hidden: [...new Set([...state.hidden, ...members])] });
  }

  // -- what is picked out ------------------------------------------------------------------------

  function pin(id) {
    [pinned, ways, pointed] = [id === pinned ? null : id, null, null];
    mark();
    panel();
    if (pinned !== null) drawn.centre(pinned);
  }

  function follow(kind) {
    if (pinned === null) return;
    ways = ways === kind ? null : kind;
    if (ways && !explorer.through(graph, pinned).size) {
      ways = null;
      say("No way from the input through it to the logits is shown");
    }
    mark();
  }

  function search(text, go) {
    words = text;
    const found = explorer.found(graph, words);
    if (go && found.length) pin(found[(found.findIndex((node) => node.id === pinned) + 1) % found.length].id);
    else mark();
    if (words) say(`${found.length} found`);
  }

  // The nearest node on one side of the one that is pinned.
  function beside(key) {
    const every = drawn.cy.nodes().not(".axis");
    if (!every.length) return;
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    const at = pinned === null ? null : drawn.cy.getElementById(pinned).position();
    let best = null, least = Infinity;
    every.forEach((node) => {
      const { x, y } = node.position();
      const along = at ? dx * (x - at.x) + dy * (y - at.y) : y * -1, off = at ? Math.abs(dy * (x - at.x) + dx * (y - at.y)) : Math.abs(x);
      const far = at ? along + 3 * off : along + off / 1e3;
      if (node.id() !== pinned && (!at || along > 1) && far < least) [best, least] = [node.id(), far];
    });
    if (best !== null) pin(best);
  }

  // -- files -------------------------------------------------------------------------------------

  const stem = () => (view.about.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "circuit").toLowerCase();
  const blob = (text, type) => new Blob([text], { type });

  async function load(file) {
    try {
      set(explorer.stateOf(await file.text()));
      say("Loaded");
    } catch (error) {
      say(`Not loaded: ${error.message}`);
    }
  }

  const act = {
    change, sized, drag, dropped, search, group, ungroup, rename, note, hide, pin, load, ways: follow,
    state: () => state, undo: () => back(past, future), redo: () => back(future, past), fit: () => drawn.fit(),
    save: () => explorer.give(`${stem()}.arrangement.json`, blob(explorer.arrangementOf(state), "application/json")),
    svg: () => explorer.give(`${stem()}.svg`, blob(explorer.svgOf(drawn), "image/svg+xml")),
    png: async () => explorer.give(`${stem()}.png`, await explorer.pngOf(drawn)),
  };

  // -- keys --------------------------------------------------------------------------------------

  const KEYS = {
    f: () => drawn.fit(), "+": () => drawn.zoom(1.25), "=": () => drawn.zoom(1.25), "-": () => drawn.zoom(0.8), g: group,
    u: () => pinned !== null && isGroup(state, pinned) && ungroup(pinned), h: () => pinned !== null && hide([pinned]), w: () => follow("all"),
    s: () => follow("one"), "/": () => part(".find").focus(), Escape: () => (drawn.cy.elements().unselect(), pinned !== null && pin(pinned)),
  };

  function key(event) {
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "Escape" && typing) return typing.blur();
    if (typing) return undefined;
    if (event.ctrlKey || event.metaKey) {
      const act = { z: event.shiftKey ? "redo" : "undo", Z: "redo", y: "redo" }[event.key];
      if (!act) return undefined;
      event.preventDefault();
      return back(...(act === "undo" ? [past, future] : [future, past]));
    }
    if (event.altKey) return undefined;
    if (event.key.startsWith("Arrow") && event.target.closest(".drawing")) beside(event.key);
    else if (event.key in KEYS && !(event.target.closest("button, a, summary") && event.key.length > 1 && event.key !== "Escape")) KEYS[event.key]();
    else return undefined;
    event.preventDefault();
    return undefined;
  }

  // -- the page ----------------------------------------------------------------------------------

  function legend() {
    const line = (hue, words) => element("span", { class: "key" }, element("span", { class: `line ${hue}`, "aria-hidden": "true" }), words);
    const { about, overlap } = view;
    if (!overlap && !view.scored) return null;
    const lines = overlap ? [line("unknown", "in both"), line("helps", `only in ${overlap.a}`), line("hurts", `only in ${overlap.b}`)]
      : [line(about.measure === "score" ? "helps" : "hurts", about.meanings[0]), line(about.measure === "score" ? "hurts" : "helps", about.meanings[1])];
    const ports = view.edges.some((edge) => edge.port) ? ["into k dashed, into v dotted"] : [];
    return element("p", { class: "legend" }, lines, element("span", {}, [...(view.scored ? [`width is linear in the size of a ${about.measure}`] : []), ...ports].join("; ")));
  }

  function start() {
    const main = document.querySelector("main");
    const box = element("div", { class: "drawing", tabindex: 0, role: "application", "aria-label": `The drawing. ${explorer.KEYS.map((of) => of.join(": ")).join("; ")}` });
    plot = view.curve ? explorer.curve((size) => sized(size)) : null;
    bar = explorer.controls(act);
    main.replaceChildren(element("div", { class: "head" }, element("h1", { tabindex: -1 }, view.about.title), bar.count), element("div", { class: "explorer" },
      bar.element, element("div", { class: "both" },
        element("div", { class: "left" }, box, element("p", { class: "empty", hidden: true }, "Nothing is left: clear the filters, or show more edges."), legend()),
        element("div", { class: "right" }, plot ? plot.element : null, element("aside", { "aria-label": "About what is picked out" })))));
    drawn = explorer.canvas(box, {
      point: (id) => { if (pinned === null) { pointed = id; mark(); panel(); } },
      leave: () => { if (pinned === null && pointed !== null) { pointed = null; mark(); panel(); } },
      pin: (id) => (id === null ? pinned !== null && pin(pinned) : pin(id)),
      moved: (places) => change({ places: { ...state.places, ...places } }),
      chosen: () => bar.show(state, graph, can()),
      recoloured: () => { drawn.recolour(); render(); },
    });
    document.addEventListener("keydown", key);
    state = explorer.initial();
    if (view.arrangement) {
      try {
        state = explorer.checked(view.arrangement);
      } catch (error) {
        say(`The arrangement is left out: ${error.message}`);
      }
    }
    Object.assign(explorer, { state: () => state, graph: () => graph, change, act, drawn });
    render();
    drawn.fit();
    document.documentElement.dataset.ready = "true";
  }

  Object.assign(dashboard, { start });
})();
