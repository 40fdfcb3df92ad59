"use strict";
// Features that stand in files beside the page, data/00000.js and so on: each is read when one of
// its features is first shown. They are scripts, since a page from disk may read nothing else.
//   load(id)          a promise of a profile; of null where the page has none of this number
//   block(content)    what each of the files calls: {number, key, texts, profiles}
// The page's own JSON "blocks" is {size, keys}: how many features each holds, in the order of the
// table, and what tells a file of this page from one of another.
(() => {
  const { data, element } = dashboard;
  const blocks = new Map(), waiting = new Map();

  const nameOf = (number) => `data/${String(number).padStart(5, "0")}.js`;

  function block(content) {
    const { done, fail } = waiting.get(content.number) || {};
    if (!done) return;
    if (data("blocks").keys[content.number] !== content.key)
      return fail(new Error(`${nameOf(content.number)} belongs to another page: make both again`));
    Object.assign(data("texts"), content.texts);
    done(content.profiles);
  }

  function read(number) {
    if (blocks.has(number)) return blocks.get(number);
    const found = new Promise((done, fail) => {
      waiting.set(number, { done, fail });
      const gone = () => fail(new Error(`${nameOf(number)} is not beside this page`));
      document.head.append(element("script", { src: nameOf(number), onerror: gone, onload: gone }));
    }).finally(() => waiting.delete(number));
    blocks.set(number, found);
    found.catch(() => blocks.delete(number));  // it may be there the next time
    return found;
  }

  function load(id) {
    const row = data("blocks") ? data("index").feature.indexOf(id) : -1;
    if (row < 0) return Promise.resolve(null);
    return read(Math.floor(row / data("blocks").size)).then((profiles) => dashboard.unpacked(profiles[id]));
  }

  Object.assign(dashboard, { load, block });
})();
