// The list of findings that a person works through, and the summary that says where to stop.

const BATCH = 50; // findings that are shown at first, and more each time
const TITLES = { leak: "Leak", duplicate: "Duplicate", "near-duplicate": "Near-duplicate", label: "Label", rare: "Rare class" };

class Work {
  constructor(data) {
    this.rows = data.rows;
    this.decisions = new Decisions(data.key, data.decided);
    const numbers = {};
    this.findings = data.findings.map((finding) => {
      numbers[finding.kind] = (numbers[finding.kind] ?? 0) + 1;
      return { ...finding, number: numbers[finding.kind], options: optionsOf(finding, data.rows) };
    });
    this.doubts = this.findings.filter((finding) => finding.kind === "label");
    this.find(".controls").addEventListener("input", () => this.filter());
    this.find(".first").addEventListener("input", () => this.summarise());
    this.find(".more button").addEventListener("click", () => this.showMore()?.querySelector("input")?.focus());
    this.find(".export").addEventListener("click", () => download("corrections.csv", "text/csv", this.decisions.csv()));
    this.find(".findings").addEventListener("keydown", (event) => this.key(event));
    this.keep();
    this.filter();
    this.summarise();
  }

  find(selector) {
    return document.querySelector(selector);
  }

  filter() {
    const [kind, name] = [this.find(".kind").value, this.find(".class").value];
    const undecided = this.find(".undecided").checked;
    const fits = {
      all: () => true,
      decide: (finding) => finding.options.length > 0,
      missing: (finding) => finding.kind === "label" && finding.missing,
      wrong: (finding) => finding.kind === "label" && !finding.missing,
    }[kind] ?? ((finding) => finding.kind === kind);
    this.chosen = this.findings.filter((finding) => fits(finding) && (!name || finding.labels.includes(name)) &&
      !(undecided && (!finding.options.length || this.decisions.chosen(finding.options) >= 0)));
    this.shown = [];
    this.find(".findings").replaceChildren();
    this.showMore();
  }

  /** Show the next findings; returns the first of them. */
  showMore() {
    const next = this.chosen.slice(this.shown.length, this.shown.length + BATCH);
    const articles = next.map((finding) => this.article(finding));
    this.shown.push(...next);
    this.find(".findings").append(...articles);
    this.find(".more").hidden = this.shown.length === this.chosen.length;
    this.find(".count").value = `${this.chosen.length} of ${this.findings.length} findings`;
    return articles[0];
  }

  article(finding) {
    const title = [`${TITLES[finding.kind]} ${finding.number}`];
    if (finding.kind === "label") title.push(`: is ${finding.labels[0]} ${finding.missing ? "missing" : "wrong"}?`);
    else if (finding.labels.length) title.push(`: ${finding.other === null ? "" : "different in "}${finding.labels.join(", ")}`);
    const rows = [finding.row, finding.other].filter((row) => row !== null).map((row) => this.figure(finding, this.rows[row]));
    const article = element("article", {}, element("h3", { dir: "auto" }, ...title), element("div", { className: "rows" }, ...rows),
      element("p", { className: "why", dir: "auto" }, finding.why));
    if (finding.options.length) article.append(this.choices(finding));
    finding.article = article;
    this.mark(finding);
    return article;
  }

  /** A row with its labels, of which those in doubt are marked. */
  figure(finding, row) {
    const doubted = (label) => finding.labels.includes(label);
    const labels = row.labels.map((label) => element("li", { className: doubted(label) ? "doubted" : "", dir: "auto" },
      label, doubted(label) ? element("small", {}, finding.kind === "label" ? " wrong?" : " only here") : ""));
    if (finding.missing && finding.kind === "label") {
      labels.push(element("li", { className: "doubted absent", dir: "auto" }, finding.labels[0], element("small", {}, " missing?")));
    }
    if (!labels.length) labels.push(element("li", {}, element("small", {}, "no label")));
    const reason = row.left_out ? "beyond the limit of images (--thumbnails)" : undefined;
    return element("figure", {}, photo(row, reason),
      element("figcaption", {}, element("b", { dir: "auto" }, `${row.split} ${row.id}`), " ", element("span", { dir: "auto" }, row.caption)),
      element("ul", { className: "labels" }, ...labels));
  }

  choices(finding) {
    const name = `decision ${this.findings.indexOf(finding)}`;
    const choice = (text, index) => {
      const input = element("input", { type: "radio", name, value: index });
      input.addEventListener("change", () => this.decide(finding, index));
      const key = index + 1;
      return element("label", {}, input, element("span", { dir: "auto" }, text), element("kbd", { "aria-hidden": "true" }, String(key)));
    };
    return element("fieldset", { className: "choices" }, element("legend", { className: "hidden" }, `Decision about ${TITLES[finding.kind]} ${finding.number}`),
      ...finding.options.map((option, index) => choice(option.name, index)), choice("Undecided", -1));
  }

  decide(finding, index) {
    this.decisions.choose(finding.options, index);
    this.shown.forEach((other) => this.mark(other)); // others may be about the same labels
    this.keep();
    this.summarise();
  }

  /** Show what is decided about a finding. */
  mark(finding) {
    if (!finding.options.length) return;
    const chosen = this.decisions.chosen(finding.options);
    finding.article.dataset.decided = chosen >= 0 ? "yes" : "no";
    for (const input of finding.article.querySelectorAll("input")) input.checked = Number(input.value) === chosen;
  }

  keep() {
    const kept = this.decisions.save();
    this.find(".kept").textContent = kept ? "This browser keeps your decisions." : "This browser does not keep your decisions when the page is closed.";
  }

  key(event) {
    const article = event.target.closest("article");
    if (!article || event.ctrlKey || event.metaKey || event.altKey) return;
    const finding = this.shown.find((shown) => shown.article === article);
    const index = Number(event.key) - 1;
    if (/^[0-9]$/.test(event.key) && index < finding.options.length) {
      this.decide(finding, index);
      if (index >= 0) this.go(finding, 1);
    } else if (event.key === "j" || event.key === "k") this.go(finding, event.key === "j" ? 1 : -1);
    else return;
    event.preventDefault();
  }

  /** Focus the next finding that can be decided, or the previous one. */
  go(finding, step) {
    let place = this.shown.indexOf(finding);
    do {
      place += step;
      if (place === this.shown.length) this.showMore();
    } while (this.shown[place] && !this.shown[place].options.length);
    const article = this.shown[place]?.article;
    if (!article) return;
    (article.querySelector("input:checked") ?? article.querySelector("input")).focus({ preventScroll: true });
    article.scrollIntoView({ block: "nearest" });
  }

  /** The doubted labels with what is decided about them, see expectation.js. */
  items() {
    return this.doubts.map(({ options, score, missing }) => {
      const chosen = this.decisions.chosen(options);
      const earlier = chosen >= 0 && this.decisions.chosen(options, this.decisions.earlier) === chosen;
      return { score, missing, error: chosen < 0 ? null : chosen === 0, earlier };
    });
  }

  summarise() {
    const items = this.items();
    const lines = this.decisions.lines();
    const changes = lines.filter(([, , , decision]) => decision !== "keep").length;
    this.find(".summary").value = `${lines.length} decided, ${changes} to change`;
    this.find(".stop").hidden = !items.length;
    const first = Math.max(Number(this.find(".first").value) || 0, 0);
    const sum = (values) => values.slice(0, first).reduce((total, value) => total + value, 0).toFixed(1);
    this.find(".expected").value = sum(probabilities(items));
    this.find(".by-scores").textContent = sum(items.map((item) => item.score));
    const decided = items.filter((item) => item.error !== null).length;
    this.find(".decided").value = decided;
    this.find(".of").textContent = `of ${items.length}`;
    this.find(".answer").textContent = this.answer(lastWorthwhile(items), items.length, decided);
    this.find(".stop tbody").replaceChildren(...[["may be missing", true], ["may be wrong", false]].map(([name, missing]) => {
      const { decided: number, errors, predicted, shift } = outcome(items, missing);
      const found = items.filter((item) => item.missing === missing).length;
      return element("tr", {}, element("th", { scope: "row" }, name),
        ...[found, number, errors, predicted.toFixed(1), Number(Math.exp(shift).toPrecision(2))].map((value) => element("td", {}, String(value))));
    }));
  }

  answer(last, number, decided) {
    if (!last) return decided === number ? "All doubtful labels are decided." : `You can stop: fewer than 1 in 10 of the ${number - decided} others is expected to be an error.`;
    const why = decided ? "" : " This is by the scores alone, which predict too many errors: decide some of each kind, and it is corrected.";
    if (last === number) return `Go on to the last of the ${number} doubtful labels: at least 1 in 10 of them is expected to be an error.${why}`;
    return `Stop after Label ${last} of ${number}: of those after it, fewer than 1 in 10 is expected to be an error.${why}`;
  }
}

const work = new Work(JSON.parse(document.querySelector("script.data").textContent));
document.documentElement.dataset.ready = "yes";
