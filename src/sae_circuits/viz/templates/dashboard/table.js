"use strict";
// The table of all features: search, filter, sort, a page of rows at a time.
//   indexElement()       made once; it keeps what was searched
// The index is kept as columns: feature, name, label, type, density, max, ..., and tokens, the ids
// of some tokens that each feature fires on or makes likely.
(() => {
  const { element, number, share, data, token, named, text, histogram } = dashboard;
  const ROWS = 50;
  const state = { words: "", type: "", sort: null, down: false, page: 0 };
  let body, count, pages, plot, found;

  const COLUMNS = [
    ["feature", "feature", (i) => `${data("index").feature[i]}`],
    ["label", "label or tokens", null],
    ["type", "type", null],
    ["density", "density", (i) => share(data("index").density[i]), "number"],
    ["max", "largest", null, "number"],
    ["n_active", "active tokens", null, "number"],
    ["importance", "importance", null, "number"],
  ];

  const fold = (words) => words.toLowerCase();
  let texts = null;
  function haystack() {
    if (texts) return texts;
    const { feature, label, name, tokens } = data("index");
    texts = feature.map((id, i) => fold([id, label[i] || "", name[i] || "",
      ...tokens[i].map((token) => `${text(token)}\n${named(text(token))}`)].join("\n")));
    return texts;
  }

  // "density>0.01" or "max <= 3": a condition on a number of the table.
  const CONDITION = /\b(\w+) ?([<>])(=?) ?(\d\S*)/g;
  const NAMES = { largest: "max", active: "n_active", tokens: "n_active" };

  function condition([, said, sign, equal, words]) {
    const column = data("index")[NAMES[said] || said], number = Number(words);
    if (!column || !Number.isFinite(number)) return () => false;
    return (i) => column[i] !== null && ((equal && column[i] === number) ||
      (sign === ">" ? column[i] > number : column[i] < number));
  }

  function matching() {
    const index = data("index");
    const conditions = [...fold(state.words).matchAll(CONDITION)].map(condition);
    const words = fold(state.words).replace(CONDITION, "").trim();
    return index.feature.map((_, i) => i).filter((i) =>
      (!state.type || index.type[i] === state.type) && conditions.every((holds) => holds(i)) &&
      (!words || haystack()[i].includes(words)));
  }

  // What is undefined comes last, whichever way.
  function sorted(rows) {
    if (!state.sort) return rows;
    const column = data("index")[state.sort], sign = state.down ? -1 : 1;
    return rows.sort((a, b) => {
      const [x, y] = [column[a], column[b]];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return sign * (typeof x === "string" ? x.localeCompare(y) : x - y) || a - b;
    });
  }

  function row(i) {
    const index = data("index"), id = index.feature[i];
    const cells = COLUMNS.map(([key, , words, kind]) => {
      if (key === "feature") return element("th", { scope: "row" }, element("a", { href: `#feature=${id}` }, `${id}`));
      if (key === "label") {
        const said = index.label[i] || index.name[i];
        return element("td", { class: "label" }, said ? element("a", { href: `#feature=${id}`, tabindex: -1 }, said)
          : element("span", { class: "some" }, index.tokens[i].slice(0, 4).map((t) => token(t))));
      }
      const value = index[key][i];
      return element("td", { class: kind }, words ? words(i) : kind ? number(value) : value);
    });
    return element("tr", {
      onmouseenter: () => plot && plot.mark(index.density[i] > 0 ? Math.log10(index.density[i]) : null, `${id}: ${share(index.density[i])}`),
      onmouseleave: () => plot && plot.mark(null),
    }, cells);
  }

  function draw() {
    found = sorted(matching());
    const last = Math.max(Math.ceil(found.length / ROWS) - 1, 0);
    state.page = Math.min(state.page, last);
    const start = state.page * ROWS;
    const rows = found.slice(start, start + ROWS);
    body.replaceChildren(...rows.map(row));
    const total = data("index").feature.length;
    count.textContent = `${found.length.toLocaleString("en")} of ${total.toLocaleString("en")} features`;
    pages.hidden = last === 0;
    const [before, where, after] = pages.children;
    before.disabled = state.page === 0;
    after.disabled = state.page === last;
    where.textContent = `${start + 1} to ${start + rows.length}`;
  }

  function change(next) {
    Object.assign(state, { page: 0 }, next);
    draw();
  }

  function header([key, name, , kind]) {
    const th = element("th", { scope: "col", class: kind, "aria-sort": "none" },
      element("button", { type: "button", onclick: () => {
        const down = state.sort === key ? !state.down : kind === "number";
        for (const other of th.parentElement.children) other.setAttribute("aria-sort", "none");
        th.setAttribute("aria-sort", down ? "descending" : "ascending");
        change({ sort: key, down });
      } }, name));
    return th;
  }

  function search() {
    const types = [...new Set(data("index").type)];
    return element("div", { class: "search", role: "search" },
      element("label", {}, "Search ", element("input", {
        type: "search", placeholder: "label, token, number, density>0.01", "aria-label": "Search label, token, number, or a condition such as density>0.01", autocomplete: "off", oninput: (event) => change({ words: event.target.value }) })),
      element("label", {}, "Type ", element("select", { onchange: (event) => change({ type: event.target.value }) },
        element("option", { value: "" }, "all"), types.map((type) => element("option", { value: type }, type)))),
      count = element("p", { class: "count", role: "status" }));
  }

  function turn() {
    const button = (by, words) => element("button", { type: "button",
      onclick: () => { state.page += by; draw(); } }, words);
    return element("div", { class: "pages" }, button(-1, "Previous"), element("span", {}), button(1, "Next"));
  }

  function about() {
    const { densities, dead, features } = data("about");
    if (!densities) return null;
    plot = histogram(densities, { name: "density", of: "features that are active", log: true });
    return element("section", { class: "panel density", "aria-label": "Density of all features" },
      element("h2", {}, "Density of all features"), plot.element,
      element("p", { class: "faint" }, `${dead.toLocaleString("en")} of ${features.toLocaleString("en")} are dead`));
  }

  function indexElement() {
    body = element("tbody", {});
    pages = turn();
    const made = element("div", { class: "index" }, about(), search(),
      element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Features" }, element("table", {},
        element("thead", {}, element("tr", {}, COLUMNS.map(header))), body)), pages);
    draw();
    return made;
  }

  // The features before and after one, in the order in which they stand in the table.
  function around(id) {
    const ids = data("index").feature;
    const order = found && found.some((i) => ids[i] === id) ? found.map((i) => ids[i]) : ids;
    const i = order.indexOf(id);
    return { before: order[i - 1], after: order[i + 1], place: i + 1, of: order.length };
  }

  Object.assign(dashboard, { indexElement, around });
})();
