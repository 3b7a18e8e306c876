// The scores of a run's eval rows, and what any thresholds reach on them. No function here touches the page.

/** The bytes of a base64 text. */
function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** A table (n, c) of 0 and 1, column after column, of which eight are in a byte, the lowest bit first. */
class Bits {
  constructor(text, n) {
    this.bytes = bytesOf(text);
    this.n = n;
  }

  at(row, column) {
    const i = column * this.n + row;
    return (this.bytes[i >> 3] >> (i & 7)) & 1;
  }
}

/** F1 of true positives and size, the number predicted plus the number true; 0 where both are 0. */
const f1 = (hits, size) => (size ? (2 * hits) / size : 0);

/** Rows with scores and labels. Each class is ranked when it is first needed. */
class ScoredRows {
  constructor(data) {
    this.n = data.rows;
    this.classes = data.classes;
    this.scores = new Float32Array(bytesOf(data.scores).buffer); // column after column
    this.labels = new Bits(data.labels, this.n);
    this.unknown = data.unknown ? new Bits(data.unknown, this.n) : null;
    this.predictions = new Bits(data.predictions, this.n);
    this.rankings = new Array(this.classes.length);
  }

  /** Whether it is known if a row has label k; rows count nowhere where it is not. */
  isKnown(row, k) {
    return !this.unknown || !this.unknown.at(row, k);
  }

  score(row, k) {
    return this.scores[k * this.n + row];
  }

  /** Known rows of class k from the highest score down, their scores, and the positives among the first i. */
  ranking(k) {
    if (this.rankings[k]) return this.rankings[k];
    const n = this.n;
    const column = this.scores.subarray(k * n, (k + 1) * n);
    // A float from 0 on has the order of its bits: one number holds them and the row, and sorts natively, ten
    // times as fast as rows by a comparison function.
    const bits = new Uint32Array(Float32Array.from(column, (score) => Math.max(score, 0)).buffer);
    let keys = Float64Array.from(bits, (value, row) => value * 2 ** 23 + row).sort();
    if (this.unknown) keys = keys.filter((key) => this.isKnown(key % 2 ** 23, k));
    const m = keys.length;
    const order = new Uint32Array(m);
    const scores = new Float32Array(m);
    const positives = new Uint32Array(m + 1);
    for (let i = 0; i < m; i++) {
      const row = keys[m - 1 - i] % 2 ** 23;
      order[i] = row;
      scores[i] = column[row];
      positives[i + 1] = positives[i] + this.labels.at(row, k);
    }
    return (this.rankings[k] = { order, scores, positives });
  }

  support(k) {
    return this.ranking(k).positives.at(-1);
  }

  /** How many rows of class k reach a threshold. */
  reaching(k, threshold) {
    const { scores } = this.ranking(k);
    let low = 0;
    let high = scores.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (scores[middle] >= threshold) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** A threshold per class, and the figures they reach, kept up to date as they move. */
class Thresholds {
  constructor(rows, values) {
    const c = rows.classes.length;
    this.rows = rows;
    this.values = new Float64Array(c).fill(3); // above every score: nothing is predicted yet
    this.predicted = new Uint32Array(c);
    this.support = Uint32Array.from({ length: c }, (_, k) => rows.support(k));
    this.rowHits = new Uint16Array(rows.n);
    this.rowSize = new Uint16Array(rows.n); // labels that are true, plus those that are predicted
    for (let k = 0; k < c; k++) {
      const { order } = rows.ranking(k);
      for (const row of order) this.rowSize[row] += rows.labels.at(row, k);
    }
    const isMeasured = (_, row) => rows.classes.some((_, k) => rows.isKnown(row, k));
    this.measuredRows = rows.unknown ? this.rowSize.filter(isMeasured).length : rows.n;
    this.sumOfRows = 0;
    values.forEach((value, k) => this.set(k, value));
  }

  set(k, value) {
    const { order } = this.rows.ranking(k);
    const before = this.predicted[k];
    const after = this.rows.reaching(k, value);
    const change = after > before ? 1 : -1;
    for (let i = Math.min(before, after); i < Math.max(before, after); i++) {
      const row = order[i];
      this.sumOfRows -= f1(this.rowHits[row], this.rowSize[row]);
      this.rowHits[row] += change * this.rows.labels.at(row, k);
      this.rowSize[row] += change;
      this.sumOfRows += f1(this.rowHits[row], this.rowSize[row]);
    }
    this.values[k] = value;
    this.predicted[k] = after;
  }

  hits(k) {
    return this.rows.ranking(k).positives[this.predicted[k]];
  }

  ofClass(k) {
    const hits = this.hits(k);
    return {
      precision: this.predicted[k] ? hits / this.predicted[k] : 0,
      recall: this.support[k] ? hits / this.support[k] : 0,
      f1: f1(hits, this.predicted[k] + this.support[k]),
    };
  }

  figures() {
    let [hits, predicted, support, macro, measured] = [0, 0, 0, 0, 0];
    for (let k = 0; k < this.values.length; k++) {
      hits += this.hits(k);
      predicted += this.predicted[k];
      support += this.support[k];
      if (this.support[k]) {  // a class without positives cannot be measured
        macro += this.ofClass(k).f1;
        measured += 1;
      }
    }
    return {
      micro_f1: f1(hits, predicted + support),
      macro_f1: measured ? macro / measured : 0,
      samples_f1: this.sumOfRows / Math.max(this.measuredRows, 1),
      precision: predicted ? hits / predicted : 0,
      recall: support ? hits / support : 0,
    };
  }
}
