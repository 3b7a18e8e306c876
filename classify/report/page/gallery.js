// Photos and captions with their true, predicted and missed labels; the most confident mistakes come first.

const KINDS = {
  hit: ["✓", "true and predicted"],
  extra: ["+", "predicted, not labelled"],
  missed: ["−", "labelled, not predicted"],
};

class Gallery {
  constructor(section, data, rows) {
    this.section = section;
    this.data = data;
    this.rows = rows;
    const classes = section.querySelector(".class");
    rows.classes.forEach((name, k) => classes.append(element("option", { value: k }, name)));
    section.addEventListener("input", () => this.show());
    this.show();
  }

  value(name) {
    return this.section.querySelector(`.${name}`).value;
  }

  /** The labels of a row that are true or predicted, and how wrong the score of each is. */
  labels(row) {
    const labels = [];
    for (let k = 0; k < this.rows.classes.length; k++) {
      const [truth, predicted] = [this.rows.labels.at(row, k), this.rows.predictions.at(row, k)];
      if (!(truth || predicted) || !this.rows.isKnown(row, k)) continue;
      const score = this.rows.score(row, k);
      labels.push({ k, score, kind: truth && predicted ? "hit" : truth ? "missed" : "extra", error: Math.abs(truth - score) });
    }
    return labels;
  }

  /** The items that the filters leave, and by which label each is there. */
  items() {
    const [k, kind, least] = [this.value("class"), this.value("kind"), Number(this.value("confidence")) || 0];
    const doubted = this.section.querySelector(".doubted").checked;
    const items = [];
    for (const item of this.data.gallery) {
      if (doubted && !item.doubts.length) continue;
      const all = this.labels(item.row);
      const labels = all.filter((label) => k === "" || label.k === Number(k));
      const wrong = labels.filter((label) => label.kind !== "hit");
      const fits = { any: labels, wrong, right: wrong.length ? [] : labels }[kind] ?? labels.filter((label) => label.kind === kind);
      if (!fits.length && !(kind === "any" && k === "") && !(kind === "right" && k === "" && !wrong.length)) continue;
      const error = Math.max(0, ...(wrong.length ? wrong : [{ error: 0 }]).map((label) => label.error));
      if (error >= least) items.push({ ...item, labels: all, error });
    }
    return items.sort((a, b) => b.error - a.error);
  }

  show() {
    const items = this.items();
    this.section.querySelector(".photos").replaceChildren(...items.map((item) => this.figure(item)));
    this.section.querySelector(".count").value = `${items.length} of ${this.data.gallery.length} shown`;
  }

  figure(item) {
    const picture = photo(item);
    const labels = item.labels.map(({ k, score, kind }) => {
      const [sign, meaning] = KINDS[kind];
      return element("li", { className: kind, title: meaning }, `${sign} ${this.rows.classes[k]} `,
        element("span", { className: "score" }, three(score)), element("span", { className: "hidden" }, ` (${meaning})`));
    });
    const caption = element("figcaption", {}, element("b", { dir: "auto" }, item.id), " ", element("span", { dir: "auto" }, item.caption));
    for (const doubt of item.doubts) caption.append(element("p", { className: "doubt", dir: "auto" }, `Doubtful: ${doubt}`));
    return element("figure", {}, picture, caption, element("ul", { className: "labels" }, ...labels));
  }
}
