"use strict";
// The page of features: what the address says is shown. `#feature=42&group=top&examples=10` is a
// feature, `#` the table; where there is one feature alone, it is always shown.
//   link(changes)    the address of what is shown, with changes
//   go(state)        shows it, and leaves an entry for the back button
//   start()          called once, at the page's end
(() => {
  const { element, share, data } = dashboard;
  const main = () => document.querySelector("main");
  let state = {}, index = null;

  function read(hash) {
    const said = new URLSearchParams(hash.replace(/^#/, ""));
    const found = {};
    for (const key of ["examples", "context"])
      if (Number(said.get(key)) >= 1) found[key] = Math.round(Number(said.get(key)));
    if (/^\d+$/.test(said.get("feature") || "")) found.feature = Number(said.get("feature"));
    if (said.get("group")) found.group = said.get("group");
    return found;
  }

  const written = (next) => `#${new URLSearchParams(Object.entries(next))}`;
  const link = (changes) => written({ ...state, ...changes });

  // A page inside another one may have no address of its own.
  function go(next, replace) {
    try {
      history[replace ? "replaceState" : "pushState"](null, "", written(next));
    } catch { /* it works without */ }
    show(next);
  }

  function wanted() {
    const panel = data("layout").columns.flatMap((column) => column.panels)
      .find((one) => one.panel === "examples");
    const { group = "all", examples = 5, context = 10 } = panel ? panel.options : {};
    const said = { group, examples, context };
    for (const key of Object.keys(said)) if (state[key] !== undefined) said[key] = state[key];
    return said;
  }

  function pills(profile) {
    const { type, density } = profile.statistics;
    const also = profile.statistics.n_active == null ? "" :
      ` (${profile.statistics.n_active.toLocaleString("en")} tokens)`;
    return element("p", { class: "pills" }, type ? element("span", { class: "pill" }, type) : null,
      density == null ? null : element("span", { class: "pill" }, `active on ${share(density)} of tokens${also}`),
      dashboard.hosted("", profile.feature));
  }

  function asText(profile) {
    const { named, text, number, signed, groupName, windowText } = dashboard;
    const list = (name, values) => values.ids.length
      ? [`${name}: ${values.ids.map((id, i) => `${named(text(id))} ${signed(values.values[i])}`).join(", ")}`] : [];
    const said = profile.labels.map((label) => label.text)[0];
    const { type, density, max_active: top } = profile.statistics;
    const show = wanted();
    return [
      `Feature ${profile.feature}${profile.name ? ` ${profile.name}` : ""}${said ? `: ${said}` : ""}`,
      `${type}, density ${number(density)}, largest activation ${number(top)}`,
      ...list("more likely", profile.top), ...list("less likely", profile.bottom),
      ...profile.groups.flatMap((group) => ["", groupName(group),
        ...group.windows.slice(0, show.examples).map((window) => windowText(window, show.context))]),
    ].join("\n");
  }

  function tools(profile) {
    const copy = (words, text) => element("button", { type: "button",
      onclick: (event) => dashboard.copy(text(), event.currentTarget) }, words);
    return element("div", { class: "tools" },
      copy("Copy text", () => asText(profile)), copy("Copy JSON", () => JSON.stringify(profile)));
  }

  function steps(id) {
    if (data("index").feature.length < 2) return null;
    const { before, after, place, of } = dashboard.around(id);
    const step = (to, words, sign) => to === undefined
      ? element("span", { class: "step", "aria-hidden": "true" }, sign)
      : element("a", { class: "step", href: `#feature=${to}`, "aria-label": `${words}: ${to}` }, sign);
    return element("nav", { "aria-label": "Features" }, element("a", { href: "#" }, "All features"),
      step(before, "Previous feature", "‹"), element("span", { class: "where" }, `${place} of ${of.toLocaleString("en")}`),
      step(after, "Next feature", "›"));
  }

  function heading(profile) {
    const label = profile.labels.length ? profile.labels[0].text : null;
    return element("header", { class: "head" },
      element("div", { class: "title" },
        element("h1", { tabindex: -1 }, `Feature ${profile.feature}`,
          profile.name ? [" ", element("span", { class: "name" }, profile.name)] : null,
          label ? " " : null, label ? element("span", { class: "label" }, label) : null),
        pills(profile)),
      tools(profile));
  }

  const settings = () => {
    const { group, examples, context } = state;
    return Object.fromEntries(Object.entries({ group, examples, context }).filter(([, v]) => v !== undefined));
  };

  async function showFeature(id, focus) {
    const profile = await dashboard.profile(id).catch((error) => error);
    if (state.feature !== id) return;  // the reader has gone on
    if (!profile || profile instanceof Error) return showMissing(id, profile);
    const change = (changes) => {
      go({ ...state, feature: id, ...changes }, true);
    };
    document.title = [`Feature ${id}`, dashboard.label(id), data("about").title].filter((x) => x).join(" · ");
    main().replaceChildren(...[steps(id), heading(profile),
      dashboard.feature(profile, data("layout"), wanted(), change)].filter((x) => x));
    if (focus) main().querySelector("h1").focus({ preventScroll: true });
  }

  function showMissing(id, error) {
    main().replaceChildren(element("h1", { tabindex: -1 }, `Feature ${id} is not on this page`),
      ...(error ? [element("p", {}, error.message)] : []),
      element("p", {}, element("a", { href: "#" }, "All features")));
  }

  function showIndex() {
    document.title = data("about").title;
    if (!index) index = dashboard.indexElement();
    main().replaceChildren(element("h1", { tabindex: -1 }, data("about").title), index);
  }

  function show(next) {
    const moved = next.feature !== state.feature;
    const kept = moved ? null : focused();
    state = next;
    dashboard.closeTip();
    const { feature } = data("index");
    const id = state.feature === undefined && feature.length === 1 ? feature[0] : state.feature;
    if (id === undefined) return showIndex();
    state = { ...state, feature: id };
    return showFeature(id, moved && started).then(() => {
      if (moved && started) window.scrollTo(0, 0);
      if (kept) refocus(kept);
    });
  }

  // A control that changes what is shown is made anew: the focus stays on it.
  function focused() {
    const at = document.activeElement;
    const all = [...main().querySelectorAll("button, select, a")];
    return at && main().contains(at) ? { tag: at.tagName, text: at.textContent, i: all.indexOf(at) } : null;
  }

  function refocus({ tag, text, i }) {
    const all = [...main().querySelectorAll("button, select, a")];
    const same = all.filter((one) => one.tagName === tag && one.textContent === text);
    const next = same.sort((a, b) => Math.abs(all.indexOf(a) - i) - Math.abs(all.indexOf(b) - i))[0];
    if (next) next.focus({ preventScroll: true });
  }

  let started = false;
  function follow(event) {
    const at = event.target.closest("a[href^='#']");
    if (!at || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    if (at.classList.contains("skip")) return main().querySelector("h1").focus();
    const next = read(at.getAttribute("href"));
    go(next.feature === undefined ? next : { ...settings(), ...next });
  }

  function start() {
    document.addEventListener("click", follow);
    window.addEventListener("popstate", () => show(read(location.hash)));
    Promise.resolve(show(read(location.hash))).then(() => (started = true));
  }

  Object.assign(dashboard, { link, go, start });
})();
