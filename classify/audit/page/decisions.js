// What was decided about each label of each row, kept in the browser, and exported as a file of corrections.

class Decisions {
  /** `decided`: earlier decisions, as [split, id, label, decision]. */
  constructor(key, decided) {
    this.key = key;
    this.earlier = Decisions.mapOf(decided);
    this.cells = Decisions.mapOf(this.load() ?? decided);
  }

  static mapOf(decided) {
    return new Map(decided.map(([split, id, label, decision]) => [JSON.stringify([split, id, label]), decision]));
  }

  load() {
    try {
      return JSON.parse(localStorage.getItem(this.key));
    } catch {
      return null; // the browser keeps nothing for this page, or something else
    }
  }

  /** Keep the decisions; false if the browser does not. */
  save() {
    try {
      localStorage.setItem(this.key, JSON.stringify(this.lines()));
      return true;
    } catch {
      return false;
    }
  }

  lines() {
    return [...this.cells].map(([cell, decision]) => [...JSON.parse(cell), decision]);
  }

  /** The first of a finding's options of which each label is decided so; -1 if there is none. */
  chosen(options, cells = this.cells) {
    return options.findIndex(({ changes }) => changes.every(([cell, decision]) => cells.get(cell) === decision));
  }

  /** Choose an option; -1 takes the decision back. */
  choose(options, index) {
    const before = this.chosen(options);
    if (before >= 0) for (const [cell] of options[before].changes) this.cells.delete(cell);
    if (index >= 0) for (const [cell, decision] of options[index].changes) this.cells.set(cell, decision);
  }

  /** A file that `extract --corrections` takes. */
  csv() {
    const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    return [["split", "id", "label", "decision"], ...this.lines()].map((line) => `${line.map(quoted).join(",")}\r\n`).join("");
  }
}

/** The decisions that a finding allows: what each is called, and the labels of rows that it changes. */
function optionsOf({ kind, labels, missing, row, other }, rows) {
  if (kind === "leak" || kind === "rare" || !labels.length) return [];
  const keep = { name: kind === "label" ? "Keep as it is" : "Keep both", changes: changesOf(rows[row], labels, () => "keep") };
  if (kind === "label") {
    const change = missing ? "add" : "remove";
    return [{ name: `${missing ? "Add" : "Remove"} ${labels[0]}`, changes: changesOf(rows[row], labels, () => change) }, keep];
  }
  const take = (name, taker, giver) => {
    const decision = (label) => (giver.labels.includes(label) ? "add" : "remove");
    return { name: `${name}: ${labels.map((label) => `${decision(label)} ${label}`).join(", ")}`, changes: changesOf(taker, labels, decision) };
  };
  return [take("First", rows[row], rows[other]), take("Second", rows[other], rows[row]), keep];
}

/** A decision about each of the labels of a row. */
function changesOf({ split, id }, labels, decision) {
  return labels.map((label) => [JSON.stringify([split, id, label]), decision(label)]);
}
