// Sliders for the thresholds, the figures they reach, the table of classes, and the charts of one class.

const MANY = 100; // classes above which only some are shown at first

class ThresholdPanel {
  constructor(section, data, rows) {
    this.section = section;
    this.data = data;
    this.rows = rows;
    this.tuned = rows.classes.map((name) => (Object.hasOwn(data.thresholds, name) ? data.thresholds[name] : null));
    this.thresholds = new Thresholds(rows, this.tunedValues());
    this.sortBy = ["support", -1];
    this.chosen = 0;
    this.lines = rows.classes.map((name, k) => this.line(name, k));
    this.find(".all").addEventListener("input", (event) => this.setAll(Number(event.target.value)));
    this.find(".tuned-values").addEventListener("click", () => this.setEach(this.tunedValues()));
    this.find(".half-values").addEventListener("click", () => this.setAll(0.5));
    this.find(".by-cost").addEventListener("click", () => this.setByCost());
    this.find(".export").addEventListener("click", () => this.export());
    for (const control of section.querySelectorAll(".shown, .number, .name")) {
      control.addEventListener("input", () => this.showLines());
    }
    for (const button of section.querySelectorAll("th button")) {
      button.addEventListener("click", () => this.sort(button.dataset.key));
    }
    if (rows.classes.length > MANY) this.find(".shown").value = "worst";
    this.update(rows.classes.keys());
    this.showLines();
    this.choose(this.lines.findIndex(({ tr }) => tr === this.find("tbody").firstChild));
  }

  find(selector) {
    return this.section.querySelector(selector);
  }

  tunedValues() {
    return this.tuned.map((tuned) => (tuned && tuned.threshold !== null ? tuned.threshold : 0.5));
  }

  /** The table row of class k. */
  line(name, k) {
    const range = element("input", { type: "range", min: 0, max: 1, step: 0.001, "aria-label": `threshold of ${name}` });
    const number = element("input", { type: "number", min: 0, max: 2, step: "any", "aria-label": `exact threshold of ${name}` });
    const set = (value) => {
      if (!Number.isFinite(value) || value < 0) return;
      this.setEach([value], [k]);
      this.choose(k);
    };
    range.addEventListener("input", () => set(Number(range.value)));
    number.addEventListener("change", () => set(number.value === "" ? NaN : Number(number.value)));
    const button = element("button", { type: "button", className: "plain", title: "show its charts" }, name);
    button.addEventListener("click", () => this.choose(k, true));
    const cells = Object.fromEntries(["support", "precision", "recall", "f1", "ap"].map((key) => [key, element("td")]));
    const slider = element("div", { className: "slider" }, range, marks(this.tuned[k]));
    const tr = element("tr", {}, element("th", { scope: "row" }, button), cells.support,
      element("td", { className: "threshold" }, slider), element("td", {}, number),
      cells.precision, cells.recall, cells.f1, cells.ap);
    cells.support.textContent = this.thresholds.support[k].toLocaleString("en");
    cells.ap.textContent = three(this.data.ap[k]);
    return { tr, range, number, cells };
  }

  /** Set thresholds of all classes, or of those listed. */
  setEach(values, classes = [...values.keys()]) {
    classes.forEach((k, i) => this.thresholds.set(k, values[i]));
    this.update(classes);
    if (classes.length > 1) this.choose(this.chosen);
  }

  setAll(value) {
    this.find(".all").value = value;
    this.setEach(this.rows.classes.map(() => value));
  }

  /** The threshold of least expected cost, if scores are probabilities (Elkan, IJCAI 2001). */
  setByCost() {
    const [positive, negative] = [".cost-positive", ".cost-negative"].map((name) => Number(this.find(name).value));
    if (positive + negative > 0 && positive >= 0 && negative >= 0) this.setAll(positive / (positive + negative));
  }

  /** Show the thresholds and what they reach. */
  update(classes) {
    for (const k of classes) {
      const { range, number, cells } = this.lines[k];
      const value = this.thresholds.values[k];
      range.value = Math.min(value, 1);
      range.setAttribute("aria-valuetext", value > 1 ? "never" : three(value));
      number.value = value > 1 ? value : Number(value.toPrecision(4));
      for (const [key, figure] of Object.entries(this.thresholds.ofClass(k))) cells[key].textContent = three(figure);
    }
    const figures = this.thresholds.figures();
    for (const output of this.section.querySelectorAll("output[data-figure]")) {
      output.value = three(figures[output.dataset.figure]);
    }
  }

  /** The values by which a class is sorted. */
  valueOf(k, key) {
    if (key === "label") return this.rows.classes[k];
    if (key === "support") return this.thresholds.support[k];
    if (key === "threshold") return this.thresholds.values[k];
    if (key === "ap") return this.data.ap[k] ?? -1;
    return this.thresholds.ofClass(k)[key];
  }

  sort(key) {
    const [before, direction] = this.sortBy;
    this.sortBy = [key, key === before ? -direction : key === "label" ? 1 : -1];
    this.showLines();
  }

  sorted(classes, key, direction) {
    const values = new Map(classes.map((k) => [k, this.valueOf(k, key)]));
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    return [...classes].sort((a, b) => direction * compare(values.get(a), values.get(b)) || a - b);
  }

  /** Show the rows of the classes that are asked for, in order. */
  showLines() {
    const name = this.find(".name").value.trim().toLowerCase();
    let classes = [...this.rows.classes.keys()].filter((k) => this.rows.classes[k].toLowerCase().includes(name));
    const ends = { best: ["f1", -1], worst: ["f1", 1], rarest: ["support", 1] }[this.find(".shown").value];
    if (ends) classes = this.sorted(classes, ...ends).slice(0, Number(this.find(".number").value) || 10);
    const [key, direction] = this.sortBy;
    classes = this.sorted(classes, key, direction);
    this.find("tbody").replaceChildren(...classes.map((k) => this.lines[k].tr));
    this.find(".count").value = `${classes.length} of ${this.rows.classes.length} classes`;
    for (const button of this.section.querySelectorAll("th button[data-key]")) {
      const order = button.dataset.key !== key ? "none" : direction > 0 ? "ascending" : "descending";
      button.closest("th").setAttribute("aria-sort", order);
    }
  }

  /** Show the charts of class k. */
  choose(k, scroll = false) {
    this.chosen = k;
    const panel = this.find(".of-class");
    panel.querySelector("h3").textContent = `Class ${this.rows.classes[k]}`;
    panel.querySelector(".charts").replaceChildren(
      precisionRecall(this.thresholds, k), histogram(this.thresholds, k), reliability(this.rows, k)
    );
    this.lines.forEach(({ tr }, i) => tr.classList.toggle("chosen", i === k));
    if (scroll) panel.scrollIntoView({ block: "nearest" });
  }

  /** A thresholds.json that `tune RUN --from` takes. */
  content() {
    const values = Object.fromEntries(this.rows.classes.map((name, k) => [name, this.thresholds.values[k]]));
    return { made_by: "report page", run: this.data.run, thresholds: values };
  }

  export() {
    download("thresholds.json", "application/json", JSON.stringify(this.content(), null, 1));
  }
}
