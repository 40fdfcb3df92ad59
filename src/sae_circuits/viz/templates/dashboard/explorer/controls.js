"use strict";
// What the reader sets: size and threshold, filters, axes, search; each change is one call of `act.change(patch)`.
//   controls(act)   {element, show(state, graph)}
//     act: {change(patch), drag(patch), search(words, go), undo(), redo(), group(), fit(), save(), load(file), svg(), png()}
(() => {
  const { element, number } = dashboard;
  const { view } = explorer;
  const STEPS = 400;

  const button = (words, onclick, title, more = {}) => element("button", { type: "button", onclick, title, ...more }, words);

  // A slider whose steps grow with the size, so that small circuits have as much room as large ones; each is another size.
  const most = Math.max(view.edges.length, 1);
  const sizesOfSteps = [...new Set([0, ...Array.from({ length: STEPS + 1 }, (_, i) => Math.round(most ** (i / STEPS)))])];
  const stepOf = (size) => Math.max(sizesOfSteps.findLastIndex((one) => one <= size), 0);

  function sizes(act) {
    const range = element("input", { type: "range", min: 0, max: sizesOfSteps.length - 1, "aria-label": "Number of edges",
      oninput: (event) => act.drag({ size: sizesOfSteps[Number(event.target.value)] }), onchange: () => act.dropped() });
    const count = element("input", { type: "number", min: 0, "aria-label": "Number of edges, exactly",
      onchange: (event) => {
        const size = Math.round(Number(event.target.value));
        act.sized(Math.max(Number.isFinite(size) ? size : 0, 0));
      } });
    const least = element("input", { type: "number", step: "any", "aria-label": "Least score of an edge", onchange: (event) => {
      const value = Number(event.target.value), size = explorer.sizeAt(value);
      if (event.target.value === "" || !Number.isFinite(value)) show(act.state());
      else if (size === view.edges.length && view.n_edges > size && value < explorer.thresholdAt(size)) act.sized(size + 1);
      else act.change({ size });
    } });
    const made = element("div", { class: "sizes" }, element("label", {}, "Edges ", range), count,
      view.own ? null : element("label", {}, ` ${{ abs: "of size at least", help: "helping at least", hurt: "hurting at least" }[view.by]} `, least),
      button("As given", () => act.change({ size: view.size }), "the circuit as it was given"));
    function show(state) {
      range.value = stepOf(state.size);
      range.setAttribute("aria-valuetext", `${state.size} edges`);
      count.value = state.size;
      const at = explorer.thresholdOf(state.size);
      least.value = at === null ? "" : at;
    }
    return { element: view.ranked ? made : null, show };
  }

  // A button for each of some things, pressed while they are shown.
  function chips(name, options, key, act) {
    const made = options.map(([value, words]) => button(words, () => {
      const off = act.state()[key];
      act.change({ [key]: off.includes(value) ? off.filter((one) => one !== value) : [...off, value] });
    }, null, { "aria-pressed": "true" }));
    const show = (state) => made.forEach((chip, i) => chip.setAttribute("aria-pressed", String(!state[key].includes(options[i][0]))));
    return { element: options.length > 1 ? element("div", { class: "chips", role: "group", "aria-label": name },
      element("span", { class: "name" }, name), made) : null, show };
  }

  // What opens below a word, and closes by a click elsewhere and by Escape.
  function sheet(name, ...children) {
    const summary = element("summary", {}, name), made = element("details", { class: "menu" }, summary, element("div", { class: "sheet" }, children));
    const close = () => (made.open = false);
    document.addEventListener("pointerdown", (event) => made.contains(event.target) || close());
    made.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !made.open || event.target.closest("input")) return;
      close();
      summary.focus();
      event.stopPropagation();
    });
    return { made, summary };
  }

  function layerRange(act) {
    const ends = [0, 1].map((end) => element("input", { type: "number", min: 0, max: view.depth,
      "aria-label": end ? "Last layer" : "First layer", onchange: (event) => {
        const layers = [...act.state().layers];
        layers[end] = Math.min(Math.max(Math.round(Number(event.target.value)) || 0, 0), view.depth);
        act.change({ layers });
      } }));
    const show = ({ layers }) => ends.forEach((input, i) => (input.value = layers[i]));
    return { element: view.depth ? element("div", { class: "chips" }, element("span", { class: "name" }, "Layers"), ends[0], "to", ends[1]) : null, show };
  }

  function only(act) {
    const input = element("input", { placeholder: "a9.h6 m3 post*", "aria-label": "Only these nodes", autocomplete: "off",
      onchange: (event) => act.change({ only: event.target.value }) });
    const back = button("Show hidden", () => act.change({ hidden: [] }));
    const show = (state) => {
      input.value = state.only;
      back.hidden = !state.hidden.length;
      back.textContent = `Show ${state.hidden.length} hidden`;
    };
    return { element: element("div", { class: "chips" }, element("span", { class: "name" }, "Only"), input, back), show };
  }

  function filters(act) {
    const { about: { signs }, overlap } = view;
    const parts = [
      layerRange(act), only(act),
      chips("Kinds", view.kinds.map((kind) => [kind, ((view.names || {})[kind] || kind).split(":")[0]]), "kinds", act),
      view.scored ? chips("Signs", [["negative", signs[0]], ["positive", signs[1]]], "signs", act) : null,
      overlap ? chips("Edges", [["both", "shared"], ["a", `only ${overlap.a}`], ["b", `only ${overlap.b}`]], "sides", act) : null,
      view.columns.length ? chips("Positions", view.columns.map((name, i) => [i, name.trim() || `${i}`]), "columns", act) : null,
    ].filter((part) => part);
    const clear = button("Clear", () => act.change({ ...explorer.initial(), size: act.state().size, groups: act.state().groups,
      places: act.state().places, notes: act.state().notes, axis: act.state().axis }));
    const { made, summary } = sheet("Filters", parts.map((part) => part.element), clear);
    function show(state) {
      for (const part of parts) part.show(state);
      const first = explorer.initial();
      const n = ["layers", "kinds", "signs", "columns", "sides", "only", "hidden"]
        .filter((key) => JSON.stringify(state[key]) !== JSON.stringify(first[key])).length;
      summary.textContent = n ? `Filters (${n})` : "Filters";
    }
    return { element: made, show };
  }

  function axes(act) {
    const options = [["layers", "layers up"], ["sideways", "layers to the right"], ...(view.columns.length
      ? [["columns", "positions to the right"]] : [])];
    const select = element("select", { "aria-label": "Axes", onchange: (event) => act.change({ axis: event.target.value, places: {} }) },
      options.map(([value, words]) => element("option", { value }, words)));
    return { element: select, show: (state) => (select.value = state.axis) };
  }

  function search(act) {
    return element("input", { type: "search", class: "find", placeholder: "search", "aria-label": "Search nodes", autocomplete: "off",
      oninput: (event) => act.search(event.target.value, false),
      onkeydown: (event) => event.key === "Enter" && act.search(event.target.value, true) });
  }

  const KEYS = [["drag, scroll", "move, zoom"], ["click", "keep a node"], ["shift and drag, or click", "select several"],
    ["arrows", "to the next node"], ["w", "all ways through it"], ["s", "the strongest way"], ["g", "group what is selected"],
    ["u", "ungroup"], ["h", "hide"], ["f", "fit"], ["+ and −", "zoom"], ["/", "search"], ["ctrl z, ctrl y", "undo, redo"], ["Escape", "let go"]];

  function controls(act) {
    const parts = [sizes(act), filters(act), axes(act)];
    const file = element("input", { type: "file", accept: ".json,application/json", hidden: true, "aria-label": "An arrangement", onchange: () => {
      if (file.files.length) act.load(file.files[0]);
      file.value = "";
    } });
    const [undo, redo] = [button("Undo", act.undo, "ctrl z"), button("Redo", act.redo, "ctrl y")];
    const group = button("Group", act.group, "g: of the selected nodes, which shift and drag, or shift and click, select");
    const said = element("span", { class: "count", role: "status" });
    const files = sheet("File", [button("Save", act.save, "the arrangement: groups, places, notes, filters, as JSON"),
      button("Load", () => file.click(), "what Save wrote"), file, button("SVG", act.svg, "the drawing as it is seen"),
      button("PNG", act.png, "the drawing as it is seen")]);
    const keys = sheet("Keys", element("dl", { class: "keys" }, KEYS.map(([key, what]) =>
      element("div", {}, element("dt", {}, key), element("dd", {}, what))))).made;
    function show(state, graph, can) {
      for (const part of parts) part.show(state);
      undo.disabled = !can.undo;
      redo.disabled = !can.redo;
      group.disabled = can.chosen < 2;
      group.textContent = can.chosen > 1 ? `Group ${can.chosen}` : "Group";
      const [n, shown, most] = [graph.nodes.length, graph.edges.length, can.most].map((x) => x.toLocaleString("en"));
      said.textContent = `${n} nodes, ${shown}${view.n_edges > graph.edges.length ? ` of ${view.n_edges.toLocaleString("en")}` : ""} edges` +
        (graph.edges.length > can.most ? `, the ${most} largest drawn` : "");
    }
    const bar = element("div", { class: "bar", role: "toolbar", "aria-label": "Drawing" }, parts.map((part) => part.element), search(act),
      group, undo, redo, button("Fit", act.fit, "f"), button("Tidy", () => act.change({ places: {} }), "put all nodes where they were"),
      files.made, keys);
    return { element: bar, count: said, show };
  }

  Object.assign(explorer, { controls, KEYS });
})();
