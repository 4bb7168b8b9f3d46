// Icons: line drawings in a square of 20.

const SHAPES = {
  menu: "M3.5 4.5h13v11h-13z M8 4.5v11",
  plus: "M10 4.5v11 M4.5 10h11",
  search: "M9 4a5 5 0 1 0 0 10a5 5 0 1 0 0-10 M12.8 12.8L16.5 16.5",
  more: "M5 10h.01 M10 10h.01 M15 10h.01",
  pin: "M7 3.5h6l-.8 5.2 2.3 2.8h-9l2.3-2.8z M10 11.5v5",
  bin: "M4 6h12 M8 6V3.8h4V6 M5.5 6l.8 10.2h7.4L14.5 6",
  pencil: "M4 16l.8-3.4L13 4.4l2.6 2.6-8.2 8.2z M11.4 6l2.6 2.6",
  save: "M10 3.5v9 M6.5 9.2L10 12.7l3.5-3.5 M4 16.3h12",
  load: "M10 12.7v-9 M6.5 7L10 3.5 13.5 7 M4 16.3h12",
  dials: "M3.5 6.5h7 M14.5 6.5h2 M3.5 13.5h2 M9.5 13.5h7 M12.5 4.5a2 2 0 1 0 0 4a2 2 0 1 0 0-4 M7.5 11.5a2 2 0 1 0 0 4a2 2 0 1 0 0-4",
  sun: "M10 6.8a3.2 3.2 0 1 0 0 6.4a3.2 3.2 0 1 0 0-6.4 M10 2.5v1.6 M10 15.9v1.6 M2.5 10h1.6 M15.9 10h1.6 M4.7 4.7l1.1 1.1 M14.2 14.2l1.1 1.1 M4.7 15.3l1.1-1.1 M14.2 5.8l1.1-1.1",
  moon: "M16 11.6A6.4 6.4 0 0 1 8.4 4a6.4 6.4 0 1 0 7.6 7.6z",
  up: "M10 16V4.5 M5 9.5l5-5 5 5",
  stop: "M5 5h10v10H5z",
  copy: "M7.5 7.5h8.5v8.5H7.5z M12.5 7.5V4H4v8.5h3.5",
  tick: "M4.5 10.5l3.6 3.6 7.4-8",
  again: "M15.8 8.2A6.2 6.2 0 1 0 16 11.6 M16 4.2v4.2h-4.2",
  before: "M12 5l-5 5 5 5",
  after: "M8 5l5 5-5 5",
  down: "M5 8l5 5 5-5",
  clip: "M13.8 7.2l-5.4 5.4a1.6 1.6 0 0 0 2.3 2.3l5.6-5.7a3.3 3.3 0 0 0-4.7-4.7L5.8 10.4a5 5 0 0 0 7 7",
  close: "M5.5 5.5l9 9 M14.5 5.5l-9 9",
  columns: "M3.5 4.5h5.2v11H3.5z M11.3 4.5h5.2v11h-5.2z",
  skip: "M4.5 5.5l5.5 4.5-5.5 4.5z M12.5 5.5v9 M15.5 5.5v9",
};
/** @type {Set<IconName>} Turned around where text runs from right to left. */
const MIRRORED = new Set(["before", "after", "menu", "skip"]);

/** @typedef {keyof typeof SHAPES} IconName */

/** @param {IconName} name */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  if (MIRRORED.has(name)) svg.classList.add("mirrored");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}
