// One explorer: methods to switch, hyperparameters to filter by, both pictures and the counts, wired together.

const STEPS = 1000; // of a slider
const NOTHING = { off: [], filters: {}, axis: 0 };

/** Builds an explorer inside an element and returns the function that takes over newer data. */
function explorer(root, read) {
  const key = `manypaths ${document.title} ${root.id}`;
  let data = prepare(read), state = recall(key, data);
  const choice = make("select", { "aria-label": "hyperparameter along the horizontal axis", onchange: turn });
  const chips = make("div", { class: "chips", role: "group", "aria-label": "methods" });
  const profiles = profileChart(), trials = trialChart(choice);
  const filters = make("div", { class: "filters" }), body = make("tbody");
  const counts = make("p", { class: "soft", role: "status" });
  const heads = ["method", "success", "log-AUC", "trials", "points", "failed"];
  const table = make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), body);
  root.replaceChildren(chips, make("div", { class: "charts" }, profiles.element, trials.element),
    filters, counts, make("div", { class: "scroll" }, table));

  function shown(m) {
    return !state.off.includes(data.methods[m].name);
  }

  function controls() {
    choice.replaceChildren(...data.axes.map((axis, a) => make("option", { value: a, selected: a === state.axis }, axis.word)));
    chips.replaceChildren(...data.methods.map(chip), make("button", { type: "button", class: "reset", onclick: reset }, "Reset"));
    filters.replaceChildren(...data.axes.map((axis) =>
      (axis.levels.length ? levelFilter : rangeFilter)(axis, state.filters[axis.name], choose)));
  }

  function chip({ name }, m) {
    const button = make("button", { type: "button", "aria-pressed": String(shown(m)), "data-method": name, onclick: toggle },
      swatch(data.methods[m]), name);
    function toggle() {
      state.off = shown(m) ? [...state.off, name] : state.off.filter((one) => one !== name);
      button.setAttribute("aria-pressed", String(shown(m)));
      update();
    }
    return button;
  }

  function choose(axis, filter) {
    if (filter) state.filters[axis.name] = filter;
    else delete state.filters[axis.name];
    update();
  }

  function turn() {
    state.axis = Number(choice.value);
    update();
  }

  function reset() {
    state = { ...NOTHING, filters: {}, axis: state.axis };
    controls();
    update();
  }

  function update() {
    remember(key, state);
    const pass = passing(data, state.filters), found = summarise(data, pass), view = { data, state, pass, found, shown };
    const on = pass.filter((passes, i) => passes && shown(data.method[i])).length;
    counts.textContent = `${on} of ${pass.length} trials are shown.`;
    body.replaceChildren(...data.methods.flatMap((method, m) => (shown(m) ? [row(method.name, found[m], data)] : [])));
    profiles.draw(view);
    trials.draw(view);
  }

  controls();
  update();
  let width = root.clientWidth;
  new ResizeObserver(() => {
    if (root.clientWidth !== width) update();
    width = root.clientWidth;
  }).observe(root);
  return (fresh) => {
    const same = JSON.stringify([fresh.axes, fresh.methods]) === JSON.stringify([data.axes, data.methods]);
    data = prepare(fresh);
    if (!same) {
      state = recall(key, data);
      controls();
    }
    update();
  };
}

function row(name, one, { z, adaptive }) {
  const [low, high] = wilson(one.success, one.points, z);
  const ends = adaptive ? "[no interval]" : `[${share(low)}, ${share(high)}]`;
  const success = one.points ? `${share(one.success / one.points)} ${ends}` : "n/a";
  const trials = one.open ? `${one.trials} (${one.open} open)` : one.trials;
  const cells = [success, share(one.area / one.points), trials, one.points, one.failed];
  return make("tr", { "data-method": name }, make("td", {}, name), ...cells.map((cell) => make("td", {}, String(cell))));
}

// Filters: each is given its axis, the filter that is set or undefined, and whom to tell; null means no filter

function levelFilter(axis, filter, tell) {
  const boxes = axis.levels.map((_, index) =>
    make("input", { type: "checkbox", checked: !filter?.off.includes(index), onchange: changed }));
  const labels = boxes.map((box, index) => make("label", {}, box, ` ${text(axis.levels[index])}`));
  const field = fieldset(axis, filter, make("div", { class: "levels" }, ...labels));
  function changed() {
    const off = boxes.flatMap((box, index) => (box.checked ? [] : [index]));
    field.classList.toggle("used", off.length > 0);
    tell(axis, off.length ? { off } : null);
  }
  return field;
}

function rangeFilter(axis, filter, tell) {
  const place = scale(...axis.ends, 0, STEPS, axis.log), ends = [0, 1];
  const names = [`${axis.word} from`, `${axis.word} to`];
  const sliders = ends.map((end) =>
    make("input", { type: "range", min: 0, max: STEPS, "aria-label": names[end], oninput: () => slid(end) }));
  const numbers = ends.map((end) =>
    make("input", { type: "text", inputmode: "decimal", "aria-label": `${names[end]}, as a number`, onchange: typed }));
  const field = fieldset(axis, filter, make("div", { class: "range" }, ...sliders),
    make("div", { class: "ends" }, numbers[0], "to", numbers[1]));
  let now = filter ? [filter.low, filter.high] : axis.ends;

  function show() {
    for (const end of ends) {
      sliders[end].value = Math.round(place(now[end]));
      sliders[end].setAttribute("aria-valuetext", number(now[end]));
      numbers[end].value = number(now[end]);
      numbers[end].removeAttribute("aria-invalid");
    }
    sliders[0].style.zIndex = Number(sliders[0].value) > STEPS / 2 ? 1 : 0; // or the other would cover it for good
  }

  function take(low, high) {
    const all = low <= axis.ends[0] && high >= axis.ends[1];
    now = [low, high];
    field.classList.toggle("used", !all);
    show();
    tell(axis, all ? null : { low, high });
  }

  function slid(end) {
    const step = Number(sliders[end].value), extreme = step === end * STEPS;
    const value = extreme ? axis.ends[end] : Number(place.back(step).toPrecision(4));
    if (end) take(now[0], Math.max(value, now[0]));
    else take(Math.min(value, now[1]), now[1]);
  }

  function typed() {
    const values = numbers.map((box, end) => (box.value === number(now[end]) ? now[end] : Number(box.value.trim() || NaN)));
    numbers.forEach((box, end) => box.setAttribute("aria-invalid", String(Number.isNaN(values[end]))));
    if (!values.some(Number.isNaN)) take(Math.min(...values), Math.max(...values));
  }

  show();
  return field;
}

function fieldset(axis, filter, ...children) {
  const title = axis.absent ? `${axis.word} (where there is one)` : axis.word;
  return make("fieldset", { "data-axis": axis.name, class: filter ? "used" : null }, make("legend", {}, title), ...children);
}

// What a reader chose, kept over a reload of the tab

function recall(key, data) {
  try {
    const stored = { ...NOTHING, ...JSON.parse(sessionStorage.getItem(key)) };
    const known = data.axes.filter((axis) => fits(axis, stored.filters[axis.name]));
    const filters = Object.fromEntries(known.map((axis) => [axis.name, stored.filters[axis.name]]));
    return { off: stored.off.map(String), filters, axis: data.axes[stored.axis] ? stored.axis : 0 };
  } catch {
    return { ...NOTHING, filters: {} }; // a browser without storage
  }
}

function fits(axis, filter) {
  if (!filter) return false;
  return axis.levels.length ? Array.isArray(filter.off) : Number.isFinite(filter.low) && Number.isFinite(filter.high);
}

function remember(key, state) {
  try {
    sessionStorage.setItem(key, JSON.stringify(state));
  } catch {
    // a browser without storage: what was chosen ends with the page
  }
}
