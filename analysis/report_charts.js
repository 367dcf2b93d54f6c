// The two pictures of an explorer. Each is a function returning its element and a function that draws a view:
// {data, state, pass, found, shown}, with `shown` saying whether a method is switched on.
// Text reaches the page as text nodes only.

const SVG = document.querySelector("svg").namespaceURI;
const DASHES = { "-": "", "--": "7 4", ":": "2 3", "-.": "8 3 2 3" };
const EDGE = { left: 58, right: 12, top: 14, bottom: 40 };
const LANE = 26; // pixels of the lane of failures above the metric
const NEAR = 14; // pixels from the pointer to the trial it means
const READ = "Hover over the curves to read them. Dashes: the threshold; shaded: the range of the log-AUC.";
const MANY = 2000; // trials from which on marks are small and let others shine through
const GOLDEN = 0.618034; // its multiples spread marks evenly inside a level

function make(kind, attributes = {}, ...children) {
  return dress(document.createElement(kind), attributes, children);
}

function ink(kind, attributes = {}, ...children) {
  return dress(document.createElementNS(SVG, kind), attributes, children);
}

function dress(element, attributes, children = []) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Scales and frames

function scale(low, high, from, to, log) {
  const f = log ? (value) => Math.log(Math.max(value, 1e-300)) : (value) => value;
  const a = f(low), b = f(high), span = b - a || 1;
  const place = (value) => from + ((Math.min(Math.max(f(value), a), b) - a) / span) * (to - from);
  place.back = (pixel) => {
    const value = a + ((pixel - from) / (to - from)) * span;
    return log ? Math.exp(value) : value;
  };
  place.ticks = log ? decades(low, high) : linear(low, high);
  return place;
}

function decades(low, high) {
  const wide = Math.log10(high / low), step = Math.max(1, Math.ceil(wide / 6)), found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += step) {
    for (const digit of wide < 1.5 ? [1, 2, 5] : [1]) found.push(Number(`${digit}e${power}`));
  }
  return found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
}

function linear(low, high) {
  const rough = (high - low || 1) / 4, unit = 10 ** Math.floor(Math.log10(rough)), found = [];
  const step = [1, 2, 5, 10].map((digit) => digit * unit).find((one) => one >= rough * 0.999);
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) found.push(Number((k * step).toPrecision(10)));
  return found;
}

function frame({ width, height }, x, y, labels, names) {
  const bottom = height - EDGE.bottom, right = width - EDGE.right, middle = (EDGE.top + bottom) / 2, parts = [];
  for (const tick of x.ticks) {
    parts.push(ink("line", { class: "grid", x1: x(tick), x2: x(tick), y1: EDGE.top, y2: bottom }));
    parts.push(ink("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle" }, names ? names[tick] : number(tick)));
  }
  for (const tick of y.ticks) {
    parts.push(ink("line", { class: "grid", x1: EDGE.left, x2: right, y1: y(tick), y2: y(tick) }));
    parts.push(ink("text", { x: EDGE.left - 6, y: y(tick) + 4, "text-anchor": "end" }, number(tick)));
  }
  parts.push(ink("text", { x: (EDGE.left + right) / 2, y: height - 6, "text-anchor": "middle" }, labels.x));
  parts.push(ink("text", { x: 13, y: middle, transform: `rotate(-90 13 ${middle})`, "text-anchor": "middle" }, labels.y));
  return parts;
}

function shape(marker, x, y, r) {
  if (marker === "s") return `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`;
  if (marker === "^") return `M${x} ${y - r * 1.2}l${r * 1.1} ${r * 2}h${-2.2 * r}z`;
  if (marker === "D") return `M${x} ${y - r * 1.3}l${r * 1.3} ${r * 1.3}l${-r * 1.3} ${r * 1.3}l${-r * 1.3} ${-r * 1.3}z`;
  if (marker === "x") return `M${x - r} ${y - r}l${2 * r} ${2 * r}M${x + r} ${y - r}l${-2 * r} ${2 * r}`;
  return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
}

function swatch(method) {
  const line = { x1: 1, x2: 33, y1: 7, y2: 7, stroke: method.colour, "stroke-width": 2.5, "stroke-dasharray": DASHES[method.line] };
  return ink("svg", { class: "swatch", viewBox: "0 0 34 14", "aria-hidden": "true" },
    ink("line", line), ink("path", { d: shape(method.marker, 17, 7, 4.2), fill: method.colour }));
}

// The profiles

function profileChart() {
  const curves = ink("svg", { role: "img", "aria-label": "robustness profiles of the trials that pass the filter" });
  const stage = make("div", { class: "stage" }, curves), readout = make("output", { class: "readout" }, READ);
  let view = null, x = null, cross = null;

  function draw(news) {
    view = news;
    const box = stage.getBoundingClientRect(), { data, found, shown } = view;
    if (!box.width) return;
    x = scale(...data.limits, EDGE.left, box.width - EDGE.right, true);
    const y = scale(0, 1, box.height - EDGE.bottom, EDGE.top, false), [low, high] = data.anchors.map(x);
    const parts = [ink("rect", { class: "shade", x: low, width: high - low, y: EDGE.top, height: y(0) - EDGE.top })];
    parts.push(...frame(box, x, y, { x: data.metric, y: "fraction at or below" }));
    const place = x(data.threshold);
    if (data.threshold > 0) parts.push(ink("line", { class: "rule", x1: place, x2: place, y1: EDGE.top, y2: y(0) }));
    data.methods.forEach((method, m) => {
      if (!shown(m) || !found[m].points) return;
      parts.push(ink("path", { class: "curve", "data-method": method.name, d: stairs(found[m], data.limits, x, y),
        stroke: method.colour, "stroke-dasharray": DASHES[method.line] }));
    });
    cross = ink("line", { class: "cross", y1: EDGE.top, y2: y(0), visibility: "hidden" });
    curves.replaceChildren(...parts, cross);
  }

  function read(event) {
    const box = stage.getBoundingClientRect(), { data, found, shown } = view;
    const place = Math.min(Math.max(event.clientX - box.left, EDGE.left), box.width - EDGE.right), tau = x.back(place);
    dress(cross, { x1: place, x2: place, visibility: "visible" });
    const heights = data.methods.flatMap((method, m) =>
      (shown(m) && found[m].points ? [`${method.name} ${share(at(found[m], tau))}`] : []));
    readout.textContent = `At or below ${data.metric} ${number(tau)}: ${heights.join(", ")}`;
  }

  curves.addEventListener("pointermove", read);
  curves.addEventListener("pointerleave", () => {
    cross.setAttribute("visibility", "hidden");
    readout.textContent = READ;
  });
  return { element: make("section", {}, make("h5", {}, "Profiles under the filter"), stage, readout), draw };
}

function stairs(one, [low, high], x, y) {
  let path = `M${x(low).toFixed(1)} ${y(at(one, low)).toFixed(1)}`;
  one.x.forEach((tau, i) => {
    if (tau > low && tau <= high) path += `H${x(tau).toFixed(1)}V${y(one.r[i]).toFixed(1)}`;
  });
  return `${path}H${x(high).toFixed(1)}`;
}

// The trials

function trialChart(choice) {
  const canvas = make("canvas", { tabindex: 0, role: "img",
    "aria-label": "trials: a hyperparameter against the metric; the arrow keys go from trial to trial" });
  const under = ink("svg", { "aria-hidden": "true" }), over = ink("svg", { class: "over", "aria-hidden": "true" });
  const tip = make("div", { class: "tip", role: "status", hidden: true });
  const stage = make("div", { class: "stage" }, under, canvas, over, tip);
  const help = make("span", { class: "readout" },
    "Hover or tap a trial for its configuration, click to keep it. Crosses on top: failed.");
  let view = null, spots = [], current = null, kept = false;

  function draw(news) {
    view = news;
    forget();
    const box = stage.getBoundingClientRect(), { data, state } = view, axis = data.axes[state.axis];
    if (!box.width || !axis) return;
    const x = across(axis, box.width), y = scale(...data.limits, box.height - EDGE.bottom, EDGE.top + LANE, true);
    const names = axis.levels.length ? axis.levels.map(text) : null;
    const parts = frame(box, x, y, { x: axis.word, y: data.metric }, names), limit = y(data.threshold);
    if (data.threshold > 0) parts.push(ink("line", { class: "rule", x1: EDGE.left, x2: box.width - EDGE.right, y1: limit, y2: limit }));
    parts.push(ink("text", { x: EDGE.left - 6, y: EDGE.top + 12, "text-anchor": "end" }, "failed"));
    under.replaceChildren(...parts);
    paint(box, places(x, y));
  }

  /** Where every decided trial of the methods that are on stands, from left to right. */
  function places(x, y) {
    const { data, state, shown } = view, level = data.axes[state.axis].levels.length > 0;
    const found = data.settings[state.axis].flatMap((value, i) => {
      if (value === null || !data.decided[i] || !shown(data.method[i])) return [];
      const spread = (i * GOLDEN) % 1;
      const height = data.failed[i] ? EDGE.top + 4 + spread * (LANE - 14) : y(data.value[i]);
      return [{ i, x: x(level ? value + (spread - 0.5) * 0.7 : value), y: height }];
    });
    return found.sort((a, b) => a.x - b.x || a.y - b.y);
  }

  function paint(box, all) {
    const ratio = window.devicePixelRatio || 1;
    dress(canvas, { width: Math.round(box.width * ratio), height: Math.round(box.height * ratio) });
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    spots = all.filter((spot) => view.pass[spot.i]);
    const [size, alpha] = spots.length > MANY ? [2.4, 0.45] : [3.6, 0.8];
    for (const spot of all) if (!view.pass[spot.i]) mark(pen, spot, size, 0.1);
    for (const spot of spots) mark(pen, spot, size, alpha);
  }

  function mark(pen, spot, size, alpha) {
    const { data } = view, method = data.methods[data.method[spot.i]], failed = data.failed[spot.i];
    const path = new Path2D(shape(failed ? "x" : method.marker, spot.x, spot.y, size));
    Object.assign(pen, { globalAlpha: alpha, strokeStyle: method.colour, fillStyle: method.colour, lineWidth: 1.6 });
    if (failed) pen.stroke(path);
    else pen.fill(path);
  }

  function point(spot) {
    forget();
    current = spot;
    over.replaceChildren(ink("circle", { class: "ring", cx: spot.x, cy: spot.y, r: 7 }));
    tip.replaceChildren(...described(view.data, spot.i));
    tip.hidden = false;
    const width = stage.clientWidth, height = stage.clientHeight;
    const right = spot.x + 14, left = right + tip.offsetWidth > width ? spot.x - 14 - tip.offsetWidth : right;
    tip.style.left = `${Math.max(4, Math.min(left, width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(spot.y - 20, height - tip.offsetHeight - 4))}px`;
  }

  function forget() {
    current = null;
    kept = false;
    tip.hidden = true;
    tip.classList.remove("kept");
    over.replaceChildren();
  }

  function nearest(event) {
    const box = stage.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    const away = (spot) => (spot.x - px) ** 2 + (spot.y - py) ** 2;
    const best = spots.reduce((a, b) => (a && away(a) <= away(b) ? a : b), null);
    return best && away(best) <= NEAR * NEAR ? best : null;
  }

  function hover(event) {
    if (kept) return;
    const spot = nearest(event);
    if (spot) point(spot);
    else forget();
  }

  function keep(event) {
    const spot = nearest(event);
    if (!spot) {
      forget();
      return;
    }
    point(spot);
    kept = true;
    tip.classList.add("kept");
  }

  function step(event) {
    const moves = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") forget();
    if (!(event.key in moves) || !spots.length) return;
    event.preventDefault();
    const next = spots.indexOf(current) + moves[event.key];
    point(spots[Math.min(Math.max(next, 0), spots.length - 1)]);
  }

  function leave() {
    if (!kept) forget();
  }

  dress(canvas, { onpointermove: hover, onpointerleave: leave, onclick: keep, onkeydown: step, onblur: leave });
  return { element: make("section", {}, make("h5", {}, "Trials by", choice), stage, help), draw };
}

function across(axis, width) {
  const right = width - EDGE.right;
  if (!axis.levels.length) return scale(...axis.ends, EDGE.left + 6, right - 6, axis.log);
  const place = scale(-0.5, axis.levels.length - 0.5, EDGE.left, right, false);
  place.ticks = axis.levels.length > 8 ? [] : [...axis.levels.keys()]; // more names would overlap
  return place;
}

function text(level) {
  return typeof level === "number" ? number(level) : level;
}

/** A trial in words: its method, its outcome, its configuration and its id. */
function described(data, i) {
  const facts = [[data.metric, data.value[i] === null ? data.endings[data.status[i]] : number(data.value[i])]];
  data.axes.forEach((axis, a) => {
    const value = data.settings[a][i];
    if (value !== null) facts.push([axis.word, text(axis.levels.length ? axis.levels[value] : value)]);
  });
  facts.push(["seed", data.seed[i]], ["trial", data.id[i]]);
  const entries = facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]);
  return [make("b", {}, data.methods[data.method[i]].name), make("dl", {}, ...entries)];
}
