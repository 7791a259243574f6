// Tables that sort by a click on a heading, and the linked scatter plots of the models (drawn by BokehJS).
"use strict";

function sortValue(row, column) {
  const cell = row.cells[column];
  const key = "sort" in cell.dataset ? cell.dataset.sort : cell.textContent.trim();
  const number = key === "" ? NaN : Number(key);
  return {key, number};
}

function compare(one, other, column, sign) {
  const a = sortValue(one, column), b = sortValue(other, column);
  if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return sign * (a.number - b.number);
  if (Number.isNaN(a.number) !== Number.isNaN(b.number)) return Number.isNaN(a.number) ? 1 : -1; // undefined ones last
  return sign * a.key.localeCompare(b.key);
}

function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") !== "descending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, other) => compare(one, other, column, down ? -1 : 1));
      table.tBodies[0].append(...rows);
    });
  });
}

// Kendall's tau-b of two columns; pairs in which either is missing do not count.
function kendall(x, y) {
  const known = x.map((_, i) => i).filter((i) => x[i] !== null && y[i] !== null);
  let sum = 0, inX = 0, inY = 0;
  for (let a = 0; a < known.length; a++) {
    for (let b = 0; b < a; b++) {
      const dx = Math.sign(x[known[a]] - x[known[b]]), dy = Math.sign(y[known[a]] - y[known[b]]);
      sum += dx * dy;
      inX += dx * dx;
      inY += dy * dy;
    }
  }
  return {n: known.length, tau: inX && inY ? sum / Math.sqrt(inX * inY) : NaN};
}

function ranks(values) {
  const known = values.filter((value) => value !== null).sort((a, b) => a - b);
  const place = new Map();
  known.forEach((value, i) => place.set(value, [...(place.get(value) || []), i + 1]));
  const middle = (places) => places.reduce((a, b) => a + b, 0) / places.length;
  return values.map((value) => (value === null ? null : middle(place.get(value))));
}

const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8a6d00"];
const MARKERS = ["circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "star", "plus", "cross"];
const SHAPES = ["●", "■", "▲", "◆", "▼", "⬢", "★", "✚", "✖"];
const MOST_PAIRS = 4000; // models; beyond them tau would make the page wait

function explore(data) {
  const at = (id) => document.getElementById(id);
  const chosen = () => ({
    measure: at("explore-measure").value, outcome: at("explore-outcome").value,
    colour: at("explore-colour").value, scale: at("explore-scale").value,
  });
  const missing = (values) => values.map((value) => (value === null ? NaN : value));
  const empty = data.models.map(() => NaN), blank = data.models.map(() => "#000000");
  const source = new Bokeh.ColumnDataSource({data: {
    model: data.models, x: empty, y: empty, test: empty, train: empty, colour: blank,
    marker: data.models.map(() => "circle"), size: data.models.map(() => 8),
  }});
  const plot = (x, y, title) => {
    const figure = Bokeh.Plotting.figure({
      tools: "pan,wheel_zoom,box_zoom,box_select,tap,reset,save", height: 420, sizing_mode: "stretch_width", title,
      output_backend: "canvas",
    });
    const points = figure.scatter({field: x}, {field: y}, {
      source, size: {field: "size"}, marker: {field: "marker"}, color: {field: "colour"}, fill_alpha: 0.75, line_color: "#ffffff",
      line_width: 0.5, nonselection_fill_alpha: 0.12, nonselection_line_alpha: 0.1, selection_line_color: "#000000",
    });
    figure.toolbar.logo = null;
    return {figure, points};
  };
  const left = plot("x", "y", "measure and outcome"), right = plot("test", "train", "training and test accuracy");
  right.figure.xaxis.axis_label = `${data.attack} accuracy on test images (%)`;
  right.figure.yaxis.axis_label = `${data.attack} accuracy on training images (%)`;

  function colour(name) {
    const values = data.settings[name], kinds = [...new Set(values)];
    const order = (data.order[name] || []).filter((value) => kinds.includes(value));
    const all = [...order, ...kinds.filter((value) => !order.includes(value))];
    const legend = at("explore-legend");
    legend.replaceChildren(...all.map((value, i) => {
      const entry = document.createElement("span"), shape = document.createElement("span");
      shape.textContent = `${SHAPES[i % SHAPES.length]} `;
      shape.style.color = COLOURS[i % COLOURS.length];
      entry.append(shape, `${value} (${values.filter((other) => other === value).length})`);
      return entry;
    }));
    const place = values.map((value) => all.indexOf(value));
    const marker = place.map((i) => MARKERS[i % MARKERS.length]);
    const size = marker.map((name) => (name === "diamond" || name === "star" ? 11 : 8)); // these look smaller
    return {colour: place.map((i) => COLOURS[i % COLOURS.length]), marker, size};
  }

  function tellTau({measure, outcome}) {
    const x = data.measures[measure], y = data.outcomes[outcome];
    const n = x.filter((value, i) => value !== null && y[i] !== null).length;
    let words = `n = ${n} models`;
    if (n && n <= MOST_PAIRS) {
      const {tau} = kendall(x, y);
      const told = Number.isNaN(tau) ? "n/a" : `${tau > 0 ? "+" : ""}${tau.toFixed(2)}`.replace("-", "−");
      words = `τ = ${told} over ${words}` + (outcome === data.outcome ? `; noise ceilings: ${data.ceilings}` : "");
    }
    at("explore-tau").textContent = words;
  }

  function update() {
    const now = chosen();
    const x = data.measures[now.measure], rank = now.scale === "rank";
    source.data = {
      ...source.data, ...colour(now.colour), x: missing(rank ? ranks(x) : x), y: missing(data.outcomes[now.outcome]),
      test: missing(data.outcomes[data.test]), train: missing(data.outcomes[data.train]),
    };
    left.figure.xaxis.axis_label = data.labels[now.measure] + (rank ? " (rank)" : "");
    left.figure.yaxis.axis_label = data.labels[now.outcome];
    left.figure.title.text = `${data.labels[now.measure]} and ${data.labels[now.outcome]}`;
    tellTau(now);
    tellModels();
  }

  function tellModels() {
    const list = at("explore-model"), picked = source.selected.indices;
    if (picked.length !== 1) {
      const hint = picked.length ? `${picked.length} models are selected.` : "Click a point to see that model's settings.";
      list.replaceChildren(document.createTextNode(hint));
      return;
    }
    const i = picked[0], now = chosen(), facts = document.createElement("dl");
    const show = (value) => (value === null || value === undefined ? "missing" : String(value));
    const rows = [["model", data.models[i]], ...Object.entries(data.settings).map(([name, values]) => [name, values[i]])];
    rows.push([data.labels[now.outcome], show(data.outcomes[now.outcome][i])]);
    rows.push([data.labels[now.measure], show(data.measures[now.measure][i])]);
    if (data.flags[i]) rows.push(["flags", data.flags[i]]);
    rows.forEach(([name, value]) => {
      const term = document.createElement("dt"), told = document.createElement("dd");
      term.textContent = name;
      told.textContent = value;
      facts.append(term, told);
    });
    list.replaceChildren(facts);
  }

  ["measure", "outcome", "colour", "scale"].forEach((name) => at(`explore-${name}`).addEventListener("change", update));
  source.selected.properties.indices.change.connect(tellModels);
  update();
  const Side = window.matchMedia("(max-width: 640px)").matches ? Bokeh.Column : Bokeh.Row;
  const both = new Side({children: [left.figure, right.figure], sizing_mode: "stretch_width"});
  const shown = Bokeh.Plotting.show(both, at("explore-plot"));
  window.robustgapExplore = {source, left, right, shown}; // for the page's test, and for whoever wants more
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
if (document.getElementById("explore-data")) explore(JSON.parse(document.getElementById("explore-data").textContent));
