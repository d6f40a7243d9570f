"use strict";
// Draws a trace. Only what is visible is drawn, so a hundred thousand messages are as quick as a hundred.
const begun = performance.now();
const data = JSON.parse(document.getElementById("data").textContent);
const { items, spans, lanes, strings } = data;
const MARK = 1, FAILED = 2, UNANSWERED = 8, TRAP = 16;
const COUNT = items.at.length, ROW = 18, LANE = 17, THIN = 5, LABEL = 130, RULER = 18;
const $ = (id) => document.getElementById(id);

// --- what belongs together -------------------------------------------------------------------------------------------

// Effects of each item: those of `i` are effects[first[i]] up to effects[first[i + 1]].
const first = new Int32Array(COUNT + 1), effects = new Int32Array(COUNT);
for (const cause of items.cause) if (cause >= 0) first[cause + 1]++;
for (let i = 0; i < COUNT; i++) first[i + 1] += first[i];
const next = first.slice();
items.cause.forEach((cause, i) => { if (cause >= 0) effects[next[cause]++] = i; });
const effectsOf = (i) => effects.subarray(first[i], first[i + 1]);

function rootOf(i) { while (items.cause[i] >= 0) i = items.cause[i]; return i; }

// The item and all below it, in order of time.
function treeOf(root, most) {
  const all = [], left = [root];
  while (left.length && all.length < most) {
    const i = left.pop();
    all.push(i);
    left.push(...Array.from(effectsOf(i)).reverse());
  }
  return all.sort((a, b) => a - b);
}

const ofLane = lanes.map(() => []), ofItem = new Map();
for (let s = 0; s < spans.item.length; s++) {
  ofLane[spans.lane[s]].push(s);
  if (!ofItem.has(spans.item[s])) ofItem.set(spans.item[s], []);
  ofItem.get(spans.item[s]).push(s);
}

// --- words -----------------------------------------------------------------------------------------------------------

const word = (column, i) => strings[items[column][i]];
function duration(ns) {
  if (ns < 1e4) return Math.round(ns) + " ns";
  if (ns < 1e7) return (ns / 1e3).toFixed(1) + " µs";
  if (ns < 1e10) return (ns / 1e6).toFixed(1) + " ms";
  return (ns / 1e9).toFixed(2) + " s";
}
const clock = (ns) => ((data.begin + ns) / 1e9).toFixed(6);
function line(i) {
  const result = word("result", i);
  return word("text", i) + (result ? " = " + result : "");
}
function element(name, attributes, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...inside);
  return made;
}

// --- search and list -------------------------------------------------------------------------------------------------

let shown = [], chosen = -1, found = null;
// Which items fulfil the search: the others are faint on the timeline. Everything does when nothing is searched for.
const fulfils = new Uint8Array(COUNT).fill(1);

function search() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter((word) => word && word !== "-");
  let wanted = 0;
  for (const box of document.querySelectorAll("[data-flag]")) if (box.checked) wanted |= Number(box.dataset.flag);
  const marks = $("marks").checked, traps = $("traps").checked;
  // Every text is looked at once per word, however many items have it.
  const has = (word) => { const hit = strings.map((text) => text.toLowerCase().includes(word)); return hit; };
  const hits = words.filter((word) => word[0] !== "-").map(has);
  const misses = words.filter((word) => word[0] === "-").map((word) => has(word.slice(1)));
  const columns = [items.by, items.operation, items.text, items.result, items.route, items.id];
  shown = [];
  for (let i = 0; i < COUNT; i++) {
    const flags = items.flags[i], inColumn = (hit) => columns.some((column) => hit[column[i]]);
    const fits = (!wanted || flags & wanted) && hits.every(inColumn) && !misses.some(inColumn);
    fulfils[i] = fits ? 1 : 0;
    if (fits && (!(flags & MARK) || marks) && (!(flags & TRAP) || traps)) shown.push(i);
  }
  const plain = words.filter((word) => word[0] !== "-").map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  found = plain.length ? new RegExp(`(${plain.join("|")})`, "gi") : null;
  $("count").textContent = `${shown.length.toLocaleString("en")} of ${COUNT.toLocaleString("en")}`;
  $("spacer").style.height = shown.length * ROW + "px";
  $("list").scrollTop = 0;
  rows();
  summary();
  remember();
  draw();
}

// A text with what was searched for marked in it.
function marked(text) {
  if (!found) return [text];
  return text.split(found).map((part, n) => n % 2 ? element("mark", {}, part) : part);
}

function rows() {
  const list = $("list"), from = Math.floor(list.scrollTop / ROW);
  const count = Math.ceil(list.clientHeight / ROW) + 1;
  const made = shown.slice(from, from + count).map((i) => {
    const flags = items.flags[i], mark = flags & MARK;
    const end = mark ? "" : flags & UNANSWERED ? "  unanswered" : "  " + duration(items.len[i]);
    return element("div", { class: "row" + (i === chosen ? " chosen" : ""), "data-item": i, title: line(i) },
      element("span", { class: "time" }, clock(items.at[i]).padStart(11) + "  "),
      element("span", { class: "who" }, ...marked(word("by", i).padEnd(14) + " ")),
      element("span", { class: flags & FAILED ? "failed" : mark ? "mark" : "" }, ...marked(line(i))),
      element("span", { class: "time" }, end, ...marked(word("route", i) ? "  → " + word("route", i) : "")));
  });
  $("rows").style.transform = `translateY(${from * ROW}px)`;
  $("rows").replaceChildren(...made);
}

// What is listed, by operation; those that took longest in all come first.
function summary() {
  if ($("summary").hidden) return;
  const groups = new Map();
  for (const i of shown) {
    if (items.flags[i] & MARK) continue;
    const key = items.operation[i];
    if (!groups.has(key)) groups.set(key, { spans: [], failed: 0, total: 0 });
    const group = groups.get(key);
    group.spans.push(items.len[i]);
    group.total += items.len[i];
    if (items.flags[i] & FAILED) group.failed++;
  }
  const of = (all, part) => all[Math.min(all.length - 1, Math.floor(all.length * part))];
  const lines = [...groups].sort(([, a], [, b]) => b.total - a.total).slice(0, 200).map(([key, group]) => {
    const all = Float64Array.from(group.spans).sort();
    const cells = [all.length.toLocaleString("en"), duration(of(all, 0.5)), duration(of(all, 0.99)), duration(group.total)];
    return element("tr", {}, element("td", { "data-find": strings[key], title: strings[key] }, strings[key]),
      element("td", group.failed ? { class: "failed" } : {}, group.failed || ""), ...cells.map((cell) => element("td", {}, cell)));
  });
  const head = ["operation", "failed", "count", "half take", "99 of 100", "in all"].map((name) => element("th", {}, name));
  $("summary").replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...lines)));
}

// --- what is seen is in the address, so that it can be shown to others ---------------------------------------------

function remember() {
  const state = new URLSearchParams();
  if ($("search").value) state.set("search", $("search").value);
  if (chosen >= 0) state.set("message", String(chosen));
  const tab = document.querySelector("[data-tab].on").dataset.tab;
  if (tab !== "summary") state.set("tab", tab);
  history.replaceState(null, "", state.size ? "#" + state : location.pathname);
}

function recall() {
  const state = new URLSearchParams(location.hash.slice(1)), message = state.get("message");
  $("search").value = state.get("search") ?? "";
  search();
  // A message may also be the first, or the last, that is found.
  const i = { first: shown[0], last: shown.at(-1) }[message] ?? Number(message ?? -1);
  if (i >= 0 && i < COUNT) choose(i);
  if (state.has("tab")) open(state.get("tab"));
}

function open(tab) {
  for (const button of document.querySelectorAll("[data-tab]")) {
    button.classList.toggle("on", button.dataset.tab === tab);
    $(button.dataset.tab).hidden = button.dataset.tab !== tab;
  }
  summary();
  sequence();
  remember();
}

function choose(i, show = true) {
  chosen = i;
  const place = shown.indexOf(i), list = $("list");
  if (show && place >= 0) {
    const top = place * ROW;
    if (top < list.scrollTop || top > list.scrollTop + list.clientHeight - ROW) {
      list.scrollTop = top - list.clientHeight / 2;
    }
  }
  rows();
  details();
  if ($("details").hidden && $("sequence").hidden) open("details"); else { sequence(); remember(); }
  reveal(i);
  draw();
}

// Moves the timeline so that an item can be seen, and is wide enough for it.
function reveal(i) {
  const end = items.at[i] + items.len[i], own = ofItem.get(i) || [];
  const height = canvas.clientHeight - RULER;
  const visible = (s) => tops[spans.lane[s]] >= view.top && tops[spans.lane[s] + 1] <= view.top + height;
  if (own.length && !own.some(visible)) view.top = Math.max(0, tops[spans.lane[own[0]]] - height / 2);
  if (items.at[i] < view.from || items.at[i] > view.from + view.span) {
    view.from = items.at[i] - view.span / 2;
  } else if (end - items.at[i] < view.span / 30) {
    const about = Math.max((end - items.at[i]) * 8, 2000);
    view.from = items.at[i] - about / 3;
    view.span = about;
  }
}

// --- one message -----------------------------------------------------------------------------------------------------

// Behind it stands, as a bar, how much of `whole` it took, and when.
function link(i, whole) {
  const of = whole >= 0 && items.len[whole] > 0 ? items.len[i] / items.len[whole] * 100 : 0;
  const at = whole >= 0 && of < 100 ? (items.at[i] - items.at[whole]) / (items.len[whole] - items.len[i]) * 100 : 0;
  const bar = of > 0 && of <= 100 ? { style: `background-size: ${of}% 100%; background-position: ${at}% 0` } : {};
  const failed = items.flags[i] & FAILED ? { class: "failed" } : {};
  const took = items.flags[i] & MARK ? "" : `  ${duration(items.len[i])}`;
  return element("a", { ...failed, ...bar, "data-item": i, title: line(i) },
    `${clock(items.at[i])} ${word("by", i)}  ${line(i)}${took}`);
}

function details() {
  const i = chosen, out = [];
  const rows = [
    ["what", word("operation", i)], ["by", word("by", i)], ["result", word("result", i)],
    ["servers", word("route", i)], ["begins", clock(items.at[i]) + " s"],
    ["took", items.flags[i] & MARK ? "" : duration(items.len[i])], ["name", word("id", i)],
  ];
  const list = element("dl", {});
  for (const [name, value] of rows) if (value) list.append(element("dt", {}, name), element("dd", {}, value));
  out.push(element("h3", {}, "Message"), element("code", {}, word("text", i)), list);
  for (const s of ofItem.get(i) || []) {
    if (strings[spans.carries[s]]) {
      const to = strings[lanes[spans.lane[s]][0]];
      out.push(element("h3", {}, "Handed on to " + to), element("code", {}, strings[spans.carries[s]]));
    }
  }
  const causes = [];
  for (let at = items.cause[i]; at >= 0; at = items.cause[at]) causes.unshift(at);
  out.push(element("h3", {}, causes.length ? "Caused by" : "Caused by nothing in this trace"), ...causes.map((cause) => link(cause, -1)));
  const below = Array.from(effectsOf(i));
  out.push(element("h3", {}, `Caused (${below.length})`), ...below.slice(0, 300).map((effect) => link(effect, i)));
  $("details").replaceChildren(...out);
}

// --- sequence diagram of all that has the same root --------------------------------------------------------------------

function sequence() {
  if ($("sequence").hidden) return;
  if (chosen < 0) {
    $("sequence").replaceChildren(element("p", {}, "Choose a message: all that has the same root is drawn here."));
    return;
  }
  const MOST = 150, STEP = 24, COLUMN = 120;
  const all = treeOf(rootOf(chosen), MOST).filter((i) => !(items.flags[i] & TRAP));
  const arrows = [];
  for (const i of all) {
    let from = word("by", i);
    if (items.flags[i] & MARK) {
      arrows.push({ at: items.at[i], from, to: from, text: line(i), i });
      continue;
    }
    const legs = (ofItem.get(i) || []).filter((s) => strings[lanes[spans.lane[s]][0]] !== word("by", i));
    legs.sort((a, b) => spans.from[a] - spans.from[b]);
    for (const s of legs) {
      const to = strings[lanes[spans.lane[s]][0]];
      arrows.push({ at: spans.from[s], from, to, text: strings[spans.carries[s]] || word("text", i), i });
      from = to;
    }
    if (!(items.flags[i] & UNANSWERED) && legs.length) {
      const text = `${word("result", i)} (${duration(items.len[i])})`;
      arrows.push({ at: items.at[i] + items.len[i], from, to: word("by", i), text, i, answer: true });
    }
  }
  arrows.sort((a, b) => a.at - b.at);
  const actors = [...new Set(arrows.flatMap((arrow) => [arrow.from, arrow.to]))];
  const x = (actor) => 60 + actors.indexOf(actor) * COLUMN;
  const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const cut = (text) => escape(text.length > 70 ? text.slice(0, 70) + "…" : text);
  const height = 50 + arrows.length * STEP;
  let svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${x(actors.at(-1)) + 420}" height="${height}">`;
  for (const actor of actors) {
    svg += `<line x1="${x(actor)}" x2="${x(actor)}" y1="22" y2="${height}" stroke="var(--line)"/>` +
      `<text x="${x(actor)}" y="16" text-anchor="middle" font-weight="bold">${cut(actor)}</text>`;
  }
  arrows.forEach((arrow, row) => {
    const y = 46 + row * STEP, from = x(arrow.from), to = x(arrow.to), side = to > from ? -6 : 6;
    const colour = items.flags[arrow.i] & FAILED && arrow.answer ? "var(--bad)" : arrow.answer ? "var(--good)" : "var(--link)";
    const dash = arrow.answer ? ' stroke-dasharray="4 3"' : "";
    svg += `<g data-item="${arrow.i}"${arrow.i === chosen ? ' class="chosen"' : ""}><title>${escape(arrow.text)}</title>`;
    svg += from === to ? `<circle cx="${from}" cy="${y}" r="3" fill="var(--faint)"/>` :
      `<line x1="${from}" x2="${to}" y1="${y}" y2="${y}" stroke="${colour}"${dash}/>` +
      `<path d="M${to} ${y} l${side} -3 v6 z" fill="${colour}"/>`;
    svg += `<text x="${Math.min(from, to) + 6}" y="${y - 4}">${cut(arrow.text)}</text></g>`;
  });
  const more = all.length >= MOST ? `<p>The first ${MOST} of them are shown.</p>` : "";
  $("sequence").innerHTML = svg + "</svg>" + more;
}

// --- timeline --------------------------------------------------------------------------------------------------------

const canvas = $("canvas"), pen = canvas.getContext("2d");
const view = { from: 0, span: Math.max(data.span, 1), top: 0 };
let waiting = false;
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; drawNow(); });
}

// The page's colours, which follow the reader's.
let ink = {};
const dark = matchMedia("(prefers-color-scheme: dark)");
function takeColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "faint", "paper", "bar", "line", "bad-fill", "mark", "light"]) {
    ink[name] = style.getPropertyValue("--" + name).trim();
  }
  colours.clear();
}
dark.onchange = () => { takeColours(); draw(); };

// Red is for what has failed.
const colours = new Map();
function colour(operation) {
  if (!colours.has(operation)) {
    let hash = 7;
    for (const c of strings[operation]) hash = (hash * 31 + c.charCodeAt(0)) >>> 0;
    colours.set(operation, `hsl(${40 + hash % 280} 50% ${ink.light})`);
  }
  return colours.get(operation);
}
const xOf = (at, width) => LABEL + (at - view.from) / view.span * (width - LABEL);

// A server that has many calls at once has as many lanes: they are thin until its name is clicked.
const opened = new Set(), tops = new Array(lanes.length + 1).fill(0);
const heightOf = (lane) => lanes[lane][1] === 0 || opened.has(lanes[lane][0]) ? LANE : THIN;
function layOut() { for (let lane = 0; lane < lanes.length; lane++) tops[lane + 1] = tops[lane] + heightOf(lane); }
layOut();
const yOf = (lane) => RULER + tops[lane] - view.top;
function laneAt(y) {
  const at = y - RULER + view.top;
  return y < RULER ? -1 : tops.findIndex((top, lane) => lane < lanes.length && at >= top && at < tops[lane + 1]);
}

// The first span of a lane that may be visible: one before the first that begins in the view.
function firstVisible(lane) {
  let low = 0, high = lane.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans.from[lane[middle]] < view.from) low = middle + 1; else high = middle;
  }
  while (low > 0 && spans.from[lane[low - 1]] + spans.len[lane[low - 1]] >= view.from) low--;
  return Math.max(0, low - 1);
}

function drawLane(lane, number, width) {
  const y = yOf(number), end = view.from + view.span, high = heightOf(number);
  let filled = -1, lit = -1, outer = -1;
  for (let n = firstVisible(lane); n < lane.length && spans.from[lane[n]] <= end; n++) {
    const s = lane[n], i = spans.item[s], from = spans.from[s], to = from + spans.len[s];
    const x = Math.max(xOf(from, width), LABEL), w = Math.min(xOf(to, width), width) - x;
    const inside = to <= outer;
    if (!inside) outer = to;
    // Many in one pixel are drawn once, and what was searched for above all.
    if (x + w < filled && !inside && (!fulfils[i] || x + w < lit)) continue;
    filled = Math.max(filled, Math.ceil(x + w));
    if (fulfils[i]) lit = filled;
    pen.globalAlpha = fulfils[i] || i === chosen ? 1 : 0.35;
    const inset = inside ? 4 : high === THIN ? 0.5 : 1;
    pen.fillStyle = items.flags[i] & FAILED ? ink["bad-fill"] : colour(items.operation[i]);
    pen.fillRect(x, y + inset, Math.max(w, 1), high - 2 * inset);
    if (i === chosen) {
      pen.strokeStyle = ink.mark;
      pen.lineWidth = 2;
      pen.strokeRect(x, y + inset, Math.max(w, 2), high - 2 * inset);
    }
    if (w > 30 && !inside && high === LANE) {
      pen.save();
      pen.beginPath();
      pen.rect(x, y, w, LANE);
      pen.clip();
      pen.fillStyle = ink.ink;
      pen.fillText(strings[items.operation[i]], x + 3, y + LANE - 5);
      pen.restore();
    }
  }
  pen.globalAlpha = 1;
}

function arrow(fromItem, toItem, width) {
  const a = (ofItem.get(fromItem) || []).find((s) => strings[lanes[spans.lane[s]][0]] === word("by", toItem)) ??
    (ofItem.get(fromItem) || [])[0];
  const b = (ofItem.get(toItem) || []).at(0);
  if (a === undefined || b === undefined) return;
  const x1 = xOf(items.at[toItem], width), y1 = yOf(spans.lane[a]) + heightOf(spans.lane[a]) / 2;
  const x2 = xOf(spans.from[b], width), y2 = yOf(spans.lane[b]) + heightOf(spans.lane[b]) / 2;
  pen.strokeStyle = ink.mark;
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.bezierCurveTo(x1 + 12, y1, x2 - 12, y2, x2, y2);
  pen.stroke();
}

function drawNow() {
  const width = canvas.clientWidth, height = canvas.clientHeight, scale = devicePixelRatio;
  if (canvas.width !== width * scale || canvas.height !== height * scale) {
    canvas.width = width * scale;
    canvas.height = height * scale;
  }
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "10px system-ui, sans-serif";
  lanes.forEach(([owner, number], lane) => {
    const y = yOf(lane);
    if (y < -LANE || y > height) return;
    if (number === 0) {
      pen.fillStyle = ink.line;
      pen.fillRect(0, y, width, 1);
    }
    drawLane(ofLane[lane], lane, width);
    pen.fillStyle = ink.paper;
    pen.fillRect(0, y + 1, LABEL - 2, heightOf(lane) - 1);
    pen.fillStyle = number ? ink.faint : ink.ink;
    if (heightOf(lane) === LANE) pen.fillText(number ? "  +" + number : strings[owner], 6, y + LANE - 5);
  });
  if (chosen >= 0) {
    if (items.cause[chosen] >= 0) arrow(items.cause[chosen], chosen, width);
    for (const i of effectsOf(chosen).subarray(0, 50)) arrow(chosen, i, width);
  }
  ruler(width);
  $("hint").textContent = `${duration(view.span)} visible · wheel: zoom, drag: move, double click: all, a name: its lanes`;
}

function ruler(width) {
  pen.fillStyle = ink.bar;
  pen.fillRect(0, 0, width, RULER);
  pen.fillStyle = ink.faint;
  const step = 10 ** Math.floor(Math.log10(view.span / 4));
  for (let at = Math.ceil(view.from / step) * step; at < view.from + view.span; at += step * 2) {
    pen.fillRect(xOf(at, width), RULER - 4, 1, 4);
    pen.fillText("+" + duration(Math.max(at, 0)), xOf(at, width) + 3, RULER - 6);
  }
}

function spanAt(x, y) {
  const own = ofLane[laneAt(y)];
  if (!own || x < LABEL) return -1;
  const width = canvas.clientWidth, at = view.from + (x - LABEL) / (width - LABEL) * view.span;
  const near = view.span / width * 2;
  let best = -1;
  for (let n = firstVisible(own); n < own.length && spans.from[own[n]] <= at + near; n++) {
    const s = own[n];
    if (spans.from[s] + spans.len[s] >= at - near) best = s;
  }
  return best;
}

let drag = null;
canvas.onmousedown = (event) => { drag = { x: event.offsetX, y: event.offsetY, moved: false }; };
window.onmouseup = () => { drag = null; };
canvas.onmousemove = (event) => {
  if (!drag) return point(event);
  const dx = event.offsetX - drag.x, dy = event.offsetY - drag.y;
  if (Math.abs(dx) + Math.abs(dy) > 3) drag.moved = true;
  if (!drag.moved) return;
  view.from -= dx / (canvas.clientWidth - LABEL) * view.span;
  view.top = Math.max(0, Math.min(view.top - dy, tops[lanes.length] - 60));
  Object.assign(drag, { x: event.offsetX, y: event.offsetY });
  draw();
};
// Says what the mouse points at.
function point(event) {
  const s = spanAt(event.offsetX, event.offsetY), tip = $("tip");
  tip.hidden = s < 0;
  canvas.style.cursor = s < 0 ? "grab" : "pointer";
  if (s < 0) return;
  const i = spans.item[s], took = items.flags[i] & UNANSWERED ? "unanswered" : duration(items.len[i]);
  tip.textContent = `${word("by", i)}  ${line(i)}  ${took}`;
  tip.style.top = Math.min(event.offsetY + 14, canvas.clientHeight - 30) + "px";
  tip.style.left = Math.max(4, Math.min(event.offsetX + 12, canvas.clientWidth - tip.offsetWidth - 8)) + "px";
}
canvas.onmouseleave = () => { $("tip").hidden = true; };
canvas.ondblclick = () => { Object.assign(view, { from: 0, span: Math.max(data.span, 1) }); draw(); };
canvas.onclick = (event) => {
  const lane = laneAt(event.offsetY);
  if (event.offsetX < LABEL && lane >= 0) {
    const owner = lanes[lane][0];
    if (!opened.delete(owner)) opened.add(owner);
    layOut();
    draw();
    return;
  }
  const s = spanAt(event.offsetX, event.offsetY);
  if (s >= 0) choose(spans.item[s]);
};
canvas.onwheel = (event) => {
  event.preventDefault();
  if (event.shiftKey) {
    view.top = Math.max(0, view.top + event.deltaY);
  } else {
    const at = view.from + (event.offsetX - LABEL) / (canvas.clientWidth - LABEL) * view.span;
    const factor = event.deltaY > 0 ? 1.25 : 0.8;
    view.span = Math.min(Math.max(view.span * factor, 200), Math.max(data.span, 200) * 1.2);
    view.from = at - (event.offsetX - LABEL) / (canvas.clientWidth - LABEL) * view.span;
  }
  draw();
};

// --- the page --------------------------------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-item]"), find = event.target.closest("[data-find]");
  if (target) choose(Number(target.dataset.item));
  if (find) {
    $("search").value = find.dataset.find;
    search();
  }
});
for (const button of document.querySelectorAll("[data-tab]")) button.onclick = () => open(button.dataset.tab);
let typing = 0;
$("search").oninput = () => { clearTimeout(typing); typing = setTimeout(search, 120); };
for (const box of document.querySelectorAll("header [type=checkbox]")) box.onchange = search;
$("list").onscroll = rows;

// Up and down go through the list, left to the cause, right to the first effect; `/` searches, Escape ends that.
document.onkeydown = (event) => {
  const isTyping = document.activeElement === $("search");
  if (event.key === "Escape") {
    $("search").value = "";
    $("list").focus();
    search();
    return;
  }
  if (isTyping && event.key !== "ArrowDown" && event.key !== "ArrowUp" || event.ctrlKey || event.metaKey) return;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const to = step ? shown[shown.indexOf(chosen) + step]
    : chosen < 0 ? undefined
    : event.key === "ArrowLeft" ? items.cause[chosen]
    : event.key === "ArrowRight" ? effectsOf(chosen)[0] : undefined;
  if (event.key === "/") $("search").focus();
  else if (!(to >= 0)) return;
  else choose(to);
  event.preventDefault();
};
window.onresize = () => { rows(); draw(); };
window.onhashchange = recall;
new ResizeObserver(window.onresize).observe($("timeline"));
$("machine").textContent = $("machine").title = data.machine;
$("notes").replaceChildren(...data.notes.map((note) => element("div", {}, note)));
takeColours();
recall();
document.body.dataset.ready = Math.round(performance.now() - begun);
