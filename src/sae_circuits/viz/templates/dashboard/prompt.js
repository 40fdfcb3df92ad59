"use strict";
// The page of a prompt: its tokens, and the features that do something at the one that is chosen.
// `#position=5&score=loss-effect&token=42&end=lowest` is a ranking (`token` of a logit effect is an
// id, or "next"); with `feature=42` it is all that the page holds of a feature.
//   link(changes)    the address of what is shown, with changes
//   go(state)        shows it, and leaves an entry for the back button
//   start()          called once, at the page's end
(() => {
  const { element, number, signed, aligned, share, data, text, named } = dashboard;
  const main = () => document.querySelector("main");
  const none = () => ({ ids: [], values: [] });
  const slug = (name) => name.replaceAll(" ", "-");
  const title = (name) => name[0].toUpperCase() + name.slice(1);
  let prompt = null, state = {}, parts = null;

  // Fields that have their defaults are left out in JSON.
  function unpacked(json) {
    const each = (list) => (list || []).map((values) => ({ ...none(), ...values }));
    return {
      special: [], probabilities: [], ...json,
      likely: { ...none(), ...json.likely },
      scores: (json.scores || []).map((score) => ({
        token: null, ...score, features: each(score.features), lowest: each(score.lowest) })),
      active: (json.active || []).map((here) => ({ ids: [], values: {}, ...here })),
    };
  }

  // -- the address -------------------------------------------------------------------------------

  function read(hash) {
    const said = new URLSearchParams(hash.replace(/^#/, "")), found = {};
    for (const key of ["position", "feature", "examples", "context"])
      if (/^\d+$/.test(said.get(key) || "")) found[key] = Number(said.get(key));
    for (const key of ["score", "token", "end", "group"]) if (said.get(key)) found[key] = said.get(key);
    return found;
  }

  const written = (next) =>
    `#${new URLSearchParams(Object.entries(next).filter(([, value]) => value !== undefined))}`;
  const link = (changes) => written({ ...state, ...changes });

  // A page inside another one may have no address of its own.
  function go(next, replace) {
    try {
      history[replace ? "replaceState" : "pushState"](null, "", written(next));
    } catch { /* it works without */ }
    show(next);
  }

  // What is to be shown, whatever the address says.
  function wanted() {
    const last = prompt.tokens.length - 1;
    const position = state.position === undefined ? last : Math.min(state.position, last);
    const same = prompt.scores.filter((score) => slug(score.name) === state.score);
    const among = same.length ? same
      : prompt.scores.filter((score) => score.name === prompt.scores[0].name);
    const score = among.find((one) => key(one) === state.token) || among[0];
    const end = state.end === "lowest" && score.lowest.length ? "lowest" : "features";
    return { position, score, end };
  }

  const key = (score) => (score.token === null ? "next" : `${score.token}`);

  // -- words -------------------------------------------------------------------------------------

  const said = (name, value) =>
    name === "quantile" ? share(value, 5) : name === "activation" ? number(value) : signed(value);
  const quoted = (id) => `“${named(text(id)).replaceAll(" ", "␣")}”`;
  const isSpecial = (id) => prompt.special.includes(id);

  function valuesOf(position, id) {
    const here = prompt.active[position], i = here.ids.indexOf(id);
    return Object.entries(here.values).map(([name, column]) => [name, i < 0 ? null : column[i]]);
  }

  // -- the prompt --------------------------------------------------------------------------------

  function piece(id, position) {
    const words = element("span", { class: "cell" }, dashboard.token(id));
    const size = element("span", { class: "size", "aria-hidden": "true" });
    return element("button", {
      type: "button", role: "radio", class: isSpecial(id) ? "piece special" : "piece",
      onclick: () => go({ ...state, position }),
    }, words, size);
  }

  function steer(event) {
    const pieces = [...event.currentTarget.children], i = pieces.indexOf(event.target);
    const to = { ArrowLeft: i - 1, ArrowUp: i - 1, ArrowRight: i + 1, ArrowDown: i + 1,
      Home: 0, End: pieces.length - 1 }[event.key];
    if (i < 0 || to === undefined) return;
    event.preventDefault();
    if (!pieces[to]) return;
    go({ ...state, position: to }, true);
    pieces[to].focus();
  }

  const strip = () => element("div", {
    class: "pieces", role: "radiogroup", "aria-label": "Tokens of the prompt", onkeydown: steer,
  }, prompt.tokens.map(piece));

  function tintStrip({ position, score, end }) {
    const tops = score[end].map(({ values }) => (values.length ? values[0] : null));
    const most = Math.max(...tops.map(Math.abs), 0), sizes = tops.map((x) => said(score.name, x));
    [...parts.strip.children].forEach((one, i) => {
      const cell = one.firstChild, part = most && tops[i] !== null ? tops[i] / most : 0;
      one.setAttribute("aria-checked", String(i === position));
      one.tabIndex = i === position ? 0 : -1;
      const largest = `${end === "lowest" ? "lowest" : "highest"} ${score.name} ${sizes[i]}`;
      one.setAttribute("aria-label", `${i}: ${named(text(prompt.tokens[i]))}; ${largest}`);
      cell.classList.toggle("negative", part < 0);
      cell.style.setProperty("--a", `${Math.round(100 * Math.abs(part))}%`);
      one.lastChild.textContent = sizes[i];
    });
  }

  // -- what is chosen ----------------------------------------------------------------------------

  function choices(name, options, chosen) {
    return element("div", { class: "choices", role: "group", "aria-label": name },
      options.map(([words, value]) => element("button", { type: "button", "data-value": value,
        onclick: () => chosen(value) }, words)));
  }

  function press(group, value) {
    for (const one of group.children)
      one.setAttribute("aria-pressed", String(one.dataset.value === value));
  }

  function targets() {
    const tokens = prompt.scores.filter((score) => score.name === "logit effect" && score.token !== null);
    const { ids, values } = prompt.likely;
    const chance = (id) => (ids.includes(id) ? `, ${share(values[ids.indexOf(id)])}` : "");
    const option = ({ token }) => element("option", { value: token }, `${quoted(token)}${chance(token)}`);
    const group = (label, some) => some.length
      ? element("optgroup", { label }, some.map(option)) : null;
    return [element("option", { value: "next" }, "the token that comes next"),
      group("Likely after the prompt", tokens.filter(({ token }) => ids.includes(token))),
      group("Others", tokens.filter(({ token }) => !ids.includes(token)))];
  }

  function controls() {
    const names = [...new Set(prompt.scores.map((score) => score.name))];
    parts.scores = choices("Score", names.map((name) => [title(name), slug(name)]),
      (score) => go({ ...state, score }));
    parts.target = element("select", { onchange: (event) => go({ ...state, token: event.target.value }) },
      targets());
    parts.ends = choices("Order", [["Highest", "features"], ["Lowest", "lowest"]],
      (end) => go({ ...state, end: end === "lowest" ? end : undefined }));
    return element("div", { class: "controls" }, parts.scores,
      element("label", { class: "target" }, "on ", parts.target), parts.ends);
  }

  function setControls({ score, end }) {
    press(parts.scores, slug(score.name));
    press(parts.ends, end);
    parts.ends.hidden = !score.lowest.length;
    parts.target.closest("label").hidden = score.name !== "logit effect";
    parts.target.value = key(score);
  }

  // -- features at the chosen token --------------------------------------------------------------

  function headingOf({ position, score, end }) {
    const id = prompt.tokens[position], after = prompt.tokens[position + 1];
    const chance = prompt.probabilities[position + 1];
    const next = after === undefined ? likelyNext() : [
      "Next comes ", dashboard.token(after),
      chance == null ? null : element("span", { class: "faint" }, ` with probability ${share(chance)}`)];
    const copy = (words, made) => element("button", { type: "button",
      onclick: (event) => dashboard.copy(made(), event.currentTarget) }, words);
    return element("header", { class: "head" },
      element("div", {},
        element("h2", { "aria-live": "polite" }, `Position ${position} `, dashboard.token(id)),
        element("p", {}, next), element("p", { class: "faint" }, `${title(score.name)}: ${score.said}.`)),
      element("div", { class: "tools" }, copy("Copy text", () => asText(position, score, end)),
        copy("Copy JSON", () => JSON.stringify({ position, token: id, score: score.name,
          of: score.token, unit: score.unit, end, ...score[end][position] }))));
  }

  function likelyNext() {
    const { ids, values } = prompt.likely;
    if (!ids.length) return null;
    return ["Next may come ", ids.slice(0, 3).map((id, i) => [i ? ", " : null, dashboard.token(id),
      element("span", { class: "faint" }, ` ${share(values[i])}`)])];
  }

  function asText(position, score, end) {
    const { ids, values } = score[end][position];
    const head = `Position ${position} ${quoted(prompt.tokens[position])}, ${score.name}: ${score.said}`;
    const rows = ids.map((id, i) => [id, values[i], dashboard.label(id) || ""].join("\t"));
    return [head, ...rows].join("\n");
  }

  function others(position, id, score) {
    const all = valuesOf(position, id).filter(([name]) => name !== score.name);
    return element("dl", { class: "others" }, all.map(([name, value]) => element("div", {},
      element("dt", {}, name), element("dd", {}, said(name, value)))));
  }

  function ranked(profile, i, words, values, { position, score }) {
    const id = profile.feature, label = dashboard.label(id);
    const most = Math.max(...values.map(Math.abs));
    const bar = element("span", { class: `bar ${values[i] < 0 ? "lowers" : "raises"}` });
    bar.style.width = `${most ? (100 * Math.abs(values[i])) / most : 0}%`;
    const active = valuesOf(position, id).find(([name]) => name === "activation")[1];
    const show = { group: "top", examples: 3, context: 5, ...panelOptions(), marks: { activations: active } };
    return element("li", {}, element("article", { class: "ranked", "aria-label": `Feature ${id}` },
      element("header", {},
        element("h3", {}, element("a", { href: link({ feature: id }) }, `Feature ${id}`),
          label ? element("span", { class: "label" }, label) : null),
        element("p", { class: "value" }, element("span", { class: "amount" }, words),
          score.unit ? element("span", { class: "faint" }, ` ${score.unit}`) : null),
        element("div", { class: "track" }, bar), others(position, id, score)),
      dashboard.feature(profile, data("layout"), show)));
  }

  function panelOptions() {
    const all = data("layout").columns.flatMap((column) => column.panels);
    const found = all.find((one) => one.panel === "examples");
    return found ? found.options : {};
  }

  async function showRanked(chosen) {
    const { ids, values } = chosen.score[chosen.end][chosen.position];
    const words = chosen.score.name === "quantile" ? values.map((x) => share(x, 5))
      : aligned(values, chosen.score.lowest.length > 0);
    const profiles = await Promise.all(ids.map((id) => dashboard.profile(id)));
    if (parts.turn !== chosen) return;  // the reader has gone on
    const nothing = prompt.active[chosen.position].ids.length
      ? `The ${chosen.score.name} is not defined at this position.` : "No feature is active at this position.";
    parts.list.replaceChildren(headingOf(chosen), ids.length
      ? element("ol", {}, profiles.map((profile, i) => ranked(profile, i, words[i], values, chosen)))
      : element("p", { class: "faint" }, nothing));
  }

  // -- one feature -------------------------------------------------------------------------------

  async function showFeature(id) {
    const profile = await dashboard.profile(id);
    if (state.feature !== id) return;
    const back = element("nav", { "aria-label": "Back" },
      element("a", { href: link({ feature: undefined, group: undefined }) }, "‹ The prompt"), elsewhere(id));
    if (!profile) {
      parts.feature.replaceChildren(back, element("p", {}, `Feature ${id} is not on this page.`));
      return;
    }
    const { group = "top", examples = 5, context = 10 } = state, label = dashboard.label(id);
    const change = (changes) => go({ ...state, ...changes }, true);
    parts.feature.replaceChildren(back, element("h2", { tabindex: -1 }, `Feature ${id}`,
      label ? element("span", { class: "label" }, label) : null),
    dashboard.feature(profile, data("layouts").feature, { group, examples, context }, change));
  }

  function elsewhere(id) {
    const address = data("more");
    return address ? element("a", { href: `${address}#feature=${id}` }, "All of this feature") : null;
  }

  // -- the page ----------------------------------------------------------------------------------

  function build() {
    prompt = unpacked(data("prompt"));
    parts = { strip: strip(), list: element("section", { class: "at", "aria-label": "Features" }),
      feature: element("section", { class: "whole", hidden: true, "aria-label": "Feature" }) };
    const legend = element("p", { class: "legend" },
      element("span", { class: "key" }, element("span", { class: "ramp" }), "the first feature's value at each token"));
    parts.prompt = element("div", { class: "prompt" }, controls(), parts.strip, legend, parts.list);
    main().replaceChildren(element("h1", { tabindex: -1 }, data("about").title), parts.prompt, parts.feature);
  }

  function show(next) {
    const before = state;
    state = next;
    dashboard.closeTip();
    const whole = state.feature !== undefined;
    parts.prompt.hidden = whole;
    parts.feature.hidden = !whole;
    const place = before.feature === state.feature ? null : whole ? 0 : parts.scroll;
    if (whole && before.feature === undefined) parts.scroll = window.scrollY;
    return (whole ? showFeature(state.feature) : showPrompt()).then(() => {
      if (place !== null && place !== undefined) window.scrollTo(0, place);
      if (before.feature !== state.feature) refocus(before.feature);
    });
  }

  function showPrompt() {
    const chosen = wanted();
    parts.turn = chosen;
    tintStrip(chosen);
    setControls(chosen);
    return showRanked(chosen);
  }

  // Who opens a feature reads its heading; who comes back stands where they were.
  function refocus(left) {
    if (!parts.started) return;
    const at = state.feature !== undefined ? parts.feature.querySelector("h2")
      : parts.list.querySelector(`h3 a[href$="feature=${left}"]`) || parts.strip.querySelector("[tabindex='0']");
    if (at) at.focus({ preventScroll: true });
  }

  function follow(event) {
    const at = event.target.closest("a[href^='#']");
    if (!at || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    if (at.classList.contains("skip")) return main().querySelector("h1").focus();
    const next = read(at.getAttribute("href")), { position, score, token, end } = state;
    go({ position, score, token, end, ...next });
  }

  function start() {
    build();
    document.addEventListener("click", follow);
    window.addEventListener("popstate", () => show(read(location.hash)));
    Promise.resolve(show(read(location.hash))).then(() => (parts.started = true));
  }

  Object.assign(dashboard, { link, go, start });
})();
