"use strict";
// What all parts of a dashboard share. Each file adds its functions to the one global, `dashboard`:
//   element(tag, {attribute: value, class: ..., onclick: f}, ...children)   an HTML element
//   drawing(tag, {attribute: value}, ...children)                           the same in SVG
//   number(x, digits = 3), share(x, digits = 3), signed(x, digits = 3)      as people read them;
//                                                                           null and NaN as a dash
//   aligned(values, sign = true), fixed(x, size, sign = false, digits)   numbers that stand under each
//                                                    other; size: the largest of them
//   data(name)            the page's JSON of that name: about, index, layout, texts (read once)
//   profile(id)           a promise of a feature, read when it is first asked for: see profile.js;
//                         where it is not in the page, `dashboard.load(id)` gives it
//   text(token)           what a token's id stands for
//   label(id), known(id)  of a feature of this page, from the index
//   copy(text, button)    to the clipboard, and say so
// Text from data reaches the page as text alone.
const dashboard = {};
(() => {
  const DASH = "–";

  function fill(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.flat(3).filter((child) => child !== null && child !== undefined));
    return made;
  }

  const element = (tag, attributes, ...children) =>
    fill(document.createElement(tag), attributes, children);
  const drawing = (tag, attributes, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  // Three digits; powers of ten where there would be more than two zeros before or behind them.
  function number(x, digits = 3) {
    if (x === null || x === undefined || !Number.isFinite(x)) return DASH;
    if (x === 0) return "0";
    const size = Math.abs(x);
    if (Number.isInteger(x) && size < 1e6) return x.toLocaleString("en").replace("-", "−");
    const plain = size >= 1e-3 && size < 1e5;
    const said = plain ? Number(x.toPrecision(digits)).toString() : x.toExponential(digits - 1);
    const [head, power] = said.split("e");
    const short = power ? `${Number(head)}e${Number(power)}` : head;
    return short.replaceAll("-", "−");
  }

  const signed = (x, digits) => (x > 0 ? "+" : "") + number(x, digits);

  // Numbers that stand under each other: as many decimals for all.
  function aligned(values, sign = true) {
    const size = Math.max(...values.map(Math.abs), 0);
    return values.map((x) => fixed(x, size, sign));
  }

  function fixed(x, size, sign = false, digits = size < 1 ? 2 : 3) {
    if (!(size >= 1e-3 && size < 1e5)) return sign ? signed(x) : number(x);
    const power = Math.floor(Math.log10(size));
    const said = Math.abs(x).toFixed(Math.max(digits - 1 - power, 0));
    return (x < 0 && Number(said) ? "−" : sign && Number(said) ? "+" : "") + said;
  }


  // Near 100%, as many digits as tell it from 100%.
  function share(x, digits = 3) {
    if (x === null || x === undefined) return DASH;
    const left = 100 * (1 - x);
    if (left <= 0 || left >= 0.5) return `${number(100 * x, digits)}%`;
    return `${(100 * x).toFixed(Math.min(-Math.floor(Math.log10(left)), 9))}%`;
  }

  const read = new Map();
  function data(name) {
    if (!read.has(name)) {
      const found = document.querySelector(`script[data-name="${name}"]`);
      read.set(name, found && JSON.parse(found.textContent));
    }
    return read.get(name);
  }

  function inPage(id) {
    const found = document.querySelector(`script[data-feature="${id}"]`);
    return found && dashboard.unpacked(JSON.parse(found.textContent));
  }

  const profiles = new Map();
  function profile(id) {
    if (!profiles.has(id)) {
      const found = inPage(id);
      profiles.set(id, found || !dashboard.load ? Promise.resolve(found) : dashboard.load(id));
      profiles.get(id).catch(() => profiles.delete(id));  // it may be there the next time
    }
    return profiles.get(id);
  }

  function text(token) {
    const found = data("texts")[token];
    return found === undefined ? `<id ${token}>` : found;
  }

  let rows = null;
  function row(id) {
    if (!rows) rows = new Map(data("index").feature.map((feature, i) => [feature, i]));
    return rows.get(id);
  }
  const known = (id) => row(id) !== undefined;
  const label = (id) => (known(id) ? data("index").label[row(id)] : null);

  function copyOld(text) {
    const area = element("textarea", { class: "away", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }

  async function copy(text, button) {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      done = copyOld(text);
    }
    if (button) button.focus();
    say(done ? "Copied" : "The browser does not allow copying");
  }

  let quiet = 0;
  function say(message) {
    const said = document.querySelector(".said");
    said.textContent = message;
    clearTimeout(quiet);
    quiet = setTimeout(() => (said.textContent = ""), 2500);
  }

  Object.assign(dashboard, {
    element, drawing, number, signed, aligned, fixed, share, data, profile, text, label, known, copy, say,
  });
})();
