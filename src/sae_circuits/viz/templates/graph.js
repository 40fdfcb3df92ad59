"use strict";
(() => {
  const root = document.currentScript.closest(".graph");
  const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const svg = root.querySelector(".drawing svg");
  const about = root.querySelector(".about");
  const said = new Map(data.nodes.map((node) => [node.name, node]));
  const shapes = new Map([...svg.querySelectorAll("[data-node]")].map((g) => [g.dataset.node, g]));
  const lines = new Map([...svg.querySelectorAll("[data-edge]")].map((g) => [g.dataset.edge, g]));
  const into = new Map(), outOf = new Map();
  for (const edge of data.edges) {
    const [, src, dest] = edge;
    if (!into.has(dest)) into.set(dest, []);
    if (!outOf.has(src)) outOf.set(src, []);
    into.get(dest).push(edge);
    outOf.get(src).push(edge);
  }
  let pinned = null;

  function element(tag, text, name) {
    const made = document.createElement(tag);
    made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  // Edges from the strongest to the weakest, with their signs.
  function list(where, edges, end) {
    where.replaceChildren();
    const ranked = [...edges].sort((a, b) => Math.abs(b[3]) - Math.abs(a[3]));
    for (const edge of ranked) {
      const other = said.get(edge[end]);
      const row = element("button", "");
      row.type = "button";
      row.className = edge[3] < 0 ? "lowers" : "raises";
      const value = (edge[3] < 0 ? "−" : "+") + Math.abs(edge[3]).toPrecision(3);
      const who = element("span", (other.kind === "feature" && other.label) || other.text, "who");
      who.append(" ", element("small", other.name));
      const bar = element("span", "", "bar");
      bar.style.width = `${(100 * Math.abs(edge[3])) / (Math.abs(ranked[0][3]) || 1)}%`;
      row.append(element("span", value, "value"), who, bar);
      row.addEventListener("click", () => pin(edge[end], true));
      const item = document.createElement("li");
      item.append(row);
      where.append(item);
    }
    if (!ranked.length) where.append(element("li", "nothing that is drawn", "none"));
  }

  function show(name) {
    for (const shape of shapes.values()) shape.classList.remove("here", "near");
    for (const line of lines.values()) line.classList.remove("on");
    svg.classList.toggle("chosen", name !== null);
    about.hidden = name === null;
    if (name === null) return;
    const before = into.get(name) || [], after = outOf.get(name) || [];
    shapes.get(name).classList.add("here");
    for (const [edge, src, dest] of [...before, ...after]) {
      lines.get(edge).classList.add("on");
      shapes.get(src === name ? dest : src).classList.add("near");
    }
    const node = said.get(name);
    about.querySelector("h2").textContent = node.name;
    about.querySelector(".tip").textContent = node.tip;
    list(about.querySelector(".in"), before, 1);
    list(about.querySelector(".out"), after, 2);
  }

  function pin(name, keep) {
    const again = pinned === name && !keep;
    if (pinned !== null) shapes.get(pinned).setAttribute("aria-pressed", "false");
    pinned = again ? null : name;
    if (pinned !== null) {
      const shape = shapes.get(pinned);
      shape.setAttribute("aria-pressed", "true");
      reach(shape);
      shape.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    show(pinned);
  }

  // One node takes the keyboard's focus; arrow keys hand it on.
  function reach(shape) {
    for (const other of shapes.values()) other.tabIndex = other === shape ? 0 : -1;
  }

  function middle(shape) {
    const box = shape.querySelector(".box");
    const side = (name) => Number(box.getAttribute(name));
    return [side("x") + side("width") / 2, side("y") + side("height") / 2];
  }

  // The nearest node on one side: sideways in the row, or else in the nearest row above or below.
  function beside(shape, key) {
    const [x, y] = middle(shape);
    const across = key === "ArrowLeft" || key === "ArrowRight";
    const sign = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
    let best = null, least = Infinity;
    for (const other of shapes.values()) {
      if (other === shape) continue;
      const [u, v] = middle(other);
      const along = sign * (across ? u - x : v - y);
      const off = Math.abs(across ? v - y : u - x);
      if (along < 1 || (across && other.dataset.row !== shape.dataset.row)) continue;
      const far = across ? along + 4 * off : 4 * along + off;
      if (far < least) [best, least] = [other, far];
    }
    return best;
  }

  for (const [name, shape] of shapes) {
    shape.addEventListener("mouseenter", () => pinned === null && show(name));
    shape.addEventListener("mouseleave", () => pinned === null && show(null));
    shape.addEventListener("focus", () => pinned === null && show(name));
    shape.addEventListener("click", () => pin(name, false));
    shape.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") pin(name, false);
      else if (event.key.startsWith("Arrow")) {
        const next = beside(shape, event.key);
        if (next) {
          reach(next);
          next.focus();
          if (pinned === null) show(next.dataset.node);
        }
      } else return;
      event.preventDefault();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (pinned !== null) pin(pinned, false);
    else show(null);
  });
})();
