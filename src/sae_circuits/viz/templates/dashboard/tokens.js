"use strict";
// Tokens: what they read, in a row, and what is said of one that is pointed at.
//   shown(text)         nodes in which white space and what cannot be seen are visible
//   named(text)         the same as a string, for names of controls
//   token(id)           an element with a token's text
//   strip(cells, name)  a row of tokens; each cell is
//       {id, tint, line, chosen, tip: () => node, point: (on) => ...}
//       tint: -1 to 1, the background; line: -1 to 1, the underline, above 0 where it helps;
//       tip: what to show while it is pointed at or has the focus; point: called when that
//       begins and ends
//   tip(id, rows, lists)   what to show: rows [[name, value], ...], lists [[name, Values], ...]
//   tokenList(values, most)   tokens with a number and a bar each
//   barList(names, values, words)   the same for any elements; words: the numbers as they are said
//   withTip(element, tip, point)   the same tooltip for any element that can have the focus
// One token of a strip takes the keyboard's focus; arrow keys hand it on. Click keeps the tooltip,
// Escape takes it away.
(() => {
  const { element, text } = dashboard;
  const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]|(?! )\p{Zs}/u;
  const NAMES = { "\n": "↵", "\r": "␍", "\t": "⇥", "": "empty" };

  const code = (letter) =>
    NAMES[letter] ||
    `U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

  function shown(text) {
    if (text === "") return [element("span", { class: "code" }, "empty")];
    const nodes = [];
    let plain = "";
    const flush = () => {
      if (plain) nodes.push(document.createTextNode(plain));
      plain = "";
    };
    const joined = /\p{Extended_Pictographic}/u.test(text);  // a joiner inside an emoji is seen
    for (const letter of text) {
      const seen = letter !== " " && (!HIDDEN.test(letter) || (joined && letter === "\u200d"));
      if (seen) {
        plain += letter;
        continue;
      }
      flush();
      nodes.push(element("span", { class: letter === " " ? "space" : "code" },
        letter === " " ? " " : code(letter)));
    }
    flush();
    return nodes;
  }

  const named = (text) =>
    text === "" ? "(empty)" : [...text].map((l) => (HIDDEN.test(l) ? code(l) : l)).join("");

  const token = (id) => element("bdi", { class: "token" }, shown(text(id)));

  // The tooltip, of which there is one.
  let box = null, owner = null, kept = false;
  function tooltip() {
    if (!box) box = element("div", { class: "tooltip", role: "tooltip", id: "tooltip", hidden: true });
    if (!box.isConnected) document.querySelector("main").append(box);
    return box;
  }

  function beside(target) {
    const at = target.getClientRects()[0] || target.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = box;
    const room = document.documentElement.clientWidth, below = window.innerHeight - at.bottom;
    const left = Math.min(Math.max(at.left - 8, 8), Math.max(room - width - 8, 8));
    const under = below > height + 12 || at.top < height + 12;
    box.style.left = `${left + window.scrollX}px`;
    box.style.top = `${(under ? at.bottom + 6 : at.top - height - 6) + window.scrollY}px`;
  }

  function open(target, cell) {
    if (owner && owner.target !== target) close();
    owner = { target, cell };
    tooltip().replaceChildren(cell.tip());
    box.hidden = false;
    beside(target);
    target.setAttribute("aria-describedby", "tooltip");
    if (cell.point) cell.point(true);
  }

  function close() {
    if (!owner) return;
    owner.target.removeAttribute("aria-describedby");
    if (owner.cell.point) owner.cell.point(false);
    owner = null;
    kept = false;
    tooltip().hidden = true;
  }

  function keep(target, cell) {
    const again = kept && owner && owner.target === target;
    close();
    if (again) return;
    open(target, cell);
    kept = true;
  }

  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  document.addEventListener("click", (event) => {
    if (kept && !event.target.closest(".cell, .tooltip")) close();
  });

  function look(made, cell) {
    const size = Math.abs(cell.tint || 0), line = Math.abs(cell.line || 0);
    if (size > 0) made.style.setProperty("--a", `${Math.round(8 + 92 * Math.min(size, 1))}%`);
    if (cell.tint < 0) made.classList.add("negative");
    if (line >= 0.02) {
      made.classList.add(cell.line > 0 ? "helps" : "hurts");
      made.style.setProperty("--u", `${(1 + 3 * Math.min(line, 1)).toFixed(1)}px`);
    }
  }

  // What is said of a thing of any kind, while it is pointed at or has the focus.
  function withTip(made, tip, point) {
    const cell = { tip, point };
    const handle = { mouseenter: open, mouseleave: close, focus: open, blur: close };
    for (const [name, act] of Object.entries(handle))
      made.addEventListener(name, () => kept || act(made, cell));
    return made;
  }

  function cellOf(cell) {
    const made = element("span", {
      class: ["cell", cell.chosen && "chosen", text(cell.id).length > 20 && "long"]
        .filter((name) => name).join(" "), role: "button", tabindex: "-1",
      "aria-label": named(text(cell.id)).trim() || "space",
      onmouseenter: () => kept || open(made, cell),
      onmouseleave: () => kept || close(),
      onfocus: () => open(made, cell),
      onblur: () => kept || close(),
      onclick: () => keep(made, cell),
    }, shown(text(cell.id)));
    look(made, cell);
    return made;
  }

  // Left and right in the strip; up and down to the strip before and after it.
  function steer(event) {
    const cells = [...event.currentTarget.querySelectorAll(".cell")];
    const i = cells.indexOf(event.target);
    if (i < 0) return;
    const strips = [...document.querySelectorAll(".strip")];
    const other = (by) => {
      const strip = strips[strips.indexOf(event.currentTarget) + by];
      return strip && strip.querySelector(".cell[tabindex='0']");
    };
    const next = {
      ArrowLeft: () => cells[i - 1], ArrowRight: () => cells[i + 1], Home: () => cells[0],
      End: () => cells[cells.length - 1], ArrowUp: () => other(-1), ArrowDown: () => other(1),
    }[event.key];
    if (event.key === "Enter" || event.key === " ") event.target.click();
    else if (!next) return;
    else if (next()) reach(next());
    event.preventDefault();
  }

  function reach(cell) {
    for (const other of cell.parentElement.querySelectorAll(".cell[tabindex='0']"))
      other.tabIndex = -1;
    cell.tabIndex = 0;
    cell.focus();
  }

  function strip(cells, name) {
    const gap = dashboard.data("about").gap;
    const made = cells.map(cellOf);
    const start = made[Math.max(cells.findIndex((cell) => cell.chosen), 0)];
    if (start) start.tabIndex = 0;
    return element(
      "div", { class: "strip", role: "group", "aria-label": name, onkeydown: steer },
      made.map((cell, i) => (i ? [gap || element("wbr"), cell] : [cell])),
    );
  }

  function tip(id, rows, lists) {
    const shorts = lists.filter(([, values]) => values && values.ids.length);
    return element(
      "div", {},
      element("p", { class: "tip-head" }, token(id), element("span", { class: "id" }, `id ${id}`)),
      element("dl", {}, rows.filter((row) => row && row[1] !== null)
        .map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
      shorts.length ? element("div", { class: "tip-lists" }, shorts.map(([name, values]) =>
        element("div", {}, element("p", { class: "tip-name" }, name), tokenList(values, 5)))) : null,
    );
  }

  function tokenList(values, most = 10) {
    const names = values.ids.slice(0, most).map(token);
    return barList(names, values.values.slice(0, most));
  }

  function barList(names, values, words = dashboard.aligned(values)) {
    const largest = Math.max(...values.map(Math.abs), 0);
    return element("ol", { class: "token-list" }, names.map((name, i) => {
      const bar = element("span", { class: `bar ${values[i] < 0 ? "lowers" : "raises"}` });
      bar.style.width = `${largest ? (100 * Math.abs(values[i])) / largest : 0}%`;
      return element("li", {}, name, element("span", { class: "amount" }, words[i]), bar);
    }));
  }

  Object.assign(dashboard, { shown, named, token, strip, tip, tokenList, barList, withTip, closeTip: close });
})();
