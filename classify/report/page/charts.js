// Small charts as SVG. Each says in its title and label what it shows; none depends on colour alone.

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A chart with axes from 0 to 1, or to the ends given, and its marks; `place` gives the pixels of a point. */
function chart(title, xLabel, yLabel, draw, { xEnds = [0, 1], yEnds = [0, 1] } = {}) {
  const [width, height, left, bottom, top] = [320, 220, 40, 36, 10];
  const place = (x, y) => [
    left + ((x - xEnds[0]) / (xEnds[1] - xEnds[0] || 1)) * (width - left - 12),
    height - bottom - ((y - yEnds[0]) / (yEnds[1] - yEnds[0] || 1)) * (height - bottom - top),
  ];
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title, class: "chart" });
  root.append(svg("title", {}, title));
  const number = (value) => String(Number(value.toPrecision(2)));
  for (const part of [0, 0.5, 1]) {
    const x = xEnds[0] + part * (xEnds[1] - xEnds[0]);
    const y = yEnds[0] + part * (yEnds[1] - yEnds[0]);
    const [px] = place(x, yEnds[0]);
    const [, py] = place(xEnds[0], y);
    root.append(
      svg("line", { x1: left, x2: width - 12, y1: py, y2: py, class: "grid" }),
      svg("text", { x: px, y: height - bottom + 14, "text-anchor": "middle" }, number(x)),
      svg("text", { x: left - 5, y: py + 4, "text-anchor": "end" }, number(Math.abs(y)))
    );
  }
  root.append(
    svg("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, xLabel),
    svg("text", { x: 10, y: (height - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 10 ${(height - bottom) / 2})` }, yLabel)
  );
  draw(root, place);
  return root;
}

/** A line through points; `kind` is its class, which decides colour and dashes. */
function path(points, place, kind) {
  const d = points.map(([x, y], i) => `${i ? "L" : "M"}${place(x, y).map((p) => p.toFixed(1)).join(" ")}`).join("");
  return svg("path", { d, class: `line ${kind}` });
}

/** Precision by recall of class k over all thresholds, with the chosen point. */
function precisionRecall(thresholds, k) {
  const { rows } = thresholds;
  const { scores, positives } = rows.ranking(k);
  const support = positives.at(-1);
  const points = [];
  let last = [-1, -1];
  for (let i = 1; i < positives.length && support; i++) {
    if (i < scores.length && scores[i] === scores[i - 1]) continue; // equal scores are predicted together
    const point = [positives[i] / support, positives[i] / i];
    if (Math.abs(point[0] - last[0]) + Math.abs(point[1] - last[1]) < 0.002 && i < scores.length) continue;
    points.push((last = point));
  }
  return chart(`Precision by recall of ${rows.classes[k]}`, "recall", "precision", (root, place) => {
    root.append(path(points, place, "main"));
    const { precision, recall } = thresholds.ofClass(k);
    const [cx, cy] = place(recall, precision);
    root.append(svg("circle", { cx, cy, r: 5, class: "point" }, svg("title", {}, "the threshold chosen above")));
  });
}

/** How many rows have each score: positives above the axis, negatives below it, each as a share of its kind. */
function histogram(thresholds, k, bins = 25) {
  const { rows } = thresholds;
  const counts = [new Array(bins).fill(0), new Array(bins).fill(0)];
  for (let row = 0; row < rows.n; row++) {
    const bin = Math.min(Math.floor(Math.max(rows.score(row, k), 0) * bins), bins - 1);
    if (rows.isKnown(row, k)) counts[rows.labels.at(row, k)][bin]++;
  }
  const shares = counts.map((of) => {
    const sum = of.reduce((a, b) => a + b, 0);
    return of.map((count) => (sum ? count / sum : 0));
  });
  const most = Math.max(...shares.flat(), 0.01);
  const title = `Scores of ${rows.classes[k]}: positives above the axis, negatives below`;
  return chart(title, "score", "share of its kind", (root, place) => {
    for (const [of, sign, kind] of [[shares[1], 1, "positive"], [shares[0], -1, "negative"]]) {
      of.forEach((share, bin) => {
        const [x1, y1] = place(bin / bins, Math.max(sign * share, 0));
        const [x2, y2] = place((bin + 1) / bins, Math.min(sign * share, 0));
        if (share) root.append(svg("rect", { x: x1, y: y1, width: x2 - x1 - 1, height: y2 - y1, class: kind }));
      });
    }
    root.append(path([[0, 0], [1, 0]], place, "axis"));
    const t = Math.min(thresholds.values[k], 1);
    root.append(path([[t, -most], [t, most]], place, "chosen"));
  }, { yEnds: [-most, most] });
}

/** The share of positives among rows of nearly equal score, in bins of equal mass: the diagonal if calibrated. */
function reliability(rows, k, bins = 10) {
  const { scores, positives } = rows.ranking(k);
  const points = [];
  for (let bin = 0; bin < bins; bin++) {
    const start = Math.floor((bin * scores.length) / bins);
    const end = Math.floor(((bin + 1) * scores.length) / bins);
    if (end === start) continue;
    let sum = 0;
    for (let i = start; i < end; i++) sum += scores[i];
    points.push([sum / (end - start), (positives[end] - positives[start]) / (end - start)]);
  }
  return chart(`Reliability of ${rows.classes[k]}: share of positives by mean score`, "mean score", "share positive", (root, place) => {
    root.append(path([[0, 0], [1, 1]], place, "diagonal"), path(points, place, "main"));
    for (const [x, y] of points) {
      const [cx, cy] = place(x, y);
      root.append(svg("circle", { cx, cy, r: 3, class: "dot" }));
    }
  });
}

/** A figure of the training by epoch: a line for the train rows, if there is one, and one for the validation rows. */
function training(title, yLabel, history, ofTrain, ofValidation) {
  const values = (name) => history.map((epoch) => [epoch.epoch, epoch[name]]).filter(([, y]) => Number.isFinite(y));
  const lines = [ofTrain && [values(ofTrain), "train"], [values(ofValidation), "main"]].filter(Boolean);
  const all = lines.flatMap(([points]) => points);
  if (!all.length) return null;
  const ends = (i) => [Math.min(...all.map((p) => p[i])), Math.max(...all.map((p) => p[i]))];
  return chart(title, "epoch", yLabel, (root, place) => {
    for (const [points, kind] of lines) root.append(path(points, place, kind));
  }, { xEnds: ends(0), yEnds: ends(1) });
}

/** The tuned threshold of a class with its interval, and 0.5, on a line from 0 to 1. */
function marks(tuned) {
  const root = svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", class: "marks", "aria-hidden": "true" });
  root.append(svg("line", { x1: 50, x2: 50, y1: 0, y2: 10, class: "half" }));
  if (tuned && tuned.interval) {
    const [low, high] = tuned.interval.map((end) => 100 * Math.min(end, 1));
    root.append(svg("rect", { x: low, width: Math.max(high - low, 0.5), y: 3, height: 4, class: "interval" }));
  }
  if (tuned && tuned.threshold !== null) {
    const x = 100 * Math.min(tuned.threshold, 1);
    root.append(svg("path", { d: `M${x - 1.5} 10 L${x} 0 L${x + 1.5} 10Z`, class: "tuned" }));
  }
  return root;
}
