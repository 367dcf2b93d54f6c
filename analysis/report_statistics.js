// What the trials say under a filter, as analysis.profiles does: points averaged, failures in the denominator, trials
// that are undecided in none. And numbers as analysis.words writes them.

const FAILED = ["diverged", "oom"];

function share(value) {
  return Number.isFinite(value) ? value.toFixed(2).replace(/^0\./, ".") : "n/a";
}

function number(value) {
  return String(Number(value.toPrecision(4)));
}

function wilson(successes, n, z) {
  const p = successes / n, scale = 1 + (z * z) / n;
  const centre = (p + (z * z) / (2 * n)) / scale;
  const half = (z / scale) * Math.sqrt(Math.max(0, p * (1 - p)) / n + (z * z) / (4 * n * n));
  return [p <= 1e-12 ? 0 : Math.max(0, centre - half), p >= 1 - 1e-12 ? 1 : Math.min(1, centre + half)];
}

/** Adds to a task's data what every filter needs: who is decided, who failed, the order of values, the limits. */
function prepare(data) {
  const endings = data.status.map((code) => data.endings[code]);
  data.failed = endings.map((ending) => FAILED.includes(ending));
  data.decided = endings.map((ending) => ending === "completed" || FAILED.includes(ending));
  const value = data.value.map((one, i) => (data.failed[i] ? Infinity : one));
  data.order = [...value.keys()].filter((i) => data.decided[i]).sort((a, b) => value[a] - value[b] || a - b);
  data.limits = limits(data);
  return data;
}

/** From below the anchors to above them, further where trials lie, but never by more than two decades. */
function limits(data) {
  const [low, high] = data.anchors;
  const seen = [...data.value, data.threshold].filter((value) => value !== null && value > 0);
  const least = seen.reduce((a, b) => Math.min(a, b), low), most = seen.reduce((a, b) => Math.max(a, b), high);
  return [Math.max(low / 100, least) / 1.3, Math.min(high * 100, most) * 1.3];
}

/** Which trials pass all filters; a trial without a hyperparameter passes its filter. */
function passing(data, filters) {
  const used = data.axes.flatMap((axis, a) => (filters[axis.name] ? [[data.settings[a], filters[axis.name]]] : []));
  return data.id.map((_, i) => used.every(([column, filter]) => column[i] === null || holds(filter, column[i])));
}

function holds(filter, value) {
  return filter.off ? !filter.off.includes(value) : filter.low <= value && value <= filter.high;
}

/** Per method: counts, and over the decided trials that pass, the sums over points and the steps of the profile. */
function summarise(data, pass) {
  const points = data.points[0], size = new Uint32Array(points * data.methods.length);
  const found = data.methods.map(() => (
    { trials: 0, open: 0, failed: 0, points: 0, success: 0, area: 0, sum: 0, x: [], r: [] }));
  pass.forEach((passes, i) => {
    if (!passes) return;
    const one = found[data.method[i]];
    one.trials += 1;
    if (!data.decided[i]) one.open += 1;
    else if (size[data.method[i] * points + data.point[i]]++ === 0) one.points += 1;
    if (data.failed[i]) one.failed += 1;
  });
  for (const i of data.order) {
    if (!pass[i] || data.failed[i]) continue;
    add(found[data.method[i]], data.value[i], 1 / size[data.method[i] * points + data.point[i]], data);
  }
  for (const one of found) one.r = one.r.map((sum) => Math.min(1, sum / one.points));
  return found;
}

/** One more trial in a summary; they come in ascending order of their values. */
function add(one, value, weight, { threshold, anchors: [low, high] }) {
  one.sum += weight;
  if (value <= threshold) one.success += weight;
  one.area += (weight * Math.log(high / Math.min(high, Math.max(low, value)))) / Math.log(high / low);
  if (one.x[one.x.length - 1] === value) one.r[one.r.length - 1] = one.sum;
  else {
    one.x.push(value);
    one.r.push(one.sum);
  }
}

/** The profile of a summary at a value of the metric. */
function at(one, tau) {
  let low = 0, high = one.x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (one.x[middle] <= tau) low = middle + 1;
    else high = middle;
  }
  return low ? one.r[low - 1] : 0;
}
