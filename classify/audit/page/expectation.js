// How many doubted labels are errors: by the scores, corrected by what was decided so far.
//
// An item is a doubted label: `score`, its probability of an error by the model; `missing`, whether the label may be
// missing rather than wrong; `error`, what was decided (true, false, or null); and `earlier`, whether that was decided
// before this audit, which would bias the factor: of those decisions, only labels that were kept are found again.

const PSEUDO = 5; // errors that scores promised and that were confirmed, added to each kind's: they draw the factor to 1
const NEXT = 10; // labels among which at least one error is expected where it is worth while to go on

/** Decisions about one kind of items: how many, how many errors among them and by the scores, and the factor. */
function outcome(items, missing) {
  const decided = items.filter((item) => item.missing === missing && item.error !== null && !item.earlier);
  const errors = decided.filter((item) => item.error).length;
  const promised = decided.reduce((sum, item) => sum + item.score, 0);
  return { decided: decided.length, errors, promised, factor: (errors + PSEUDO) / (promised + PSEUDO) };
}

/** The probability of an error for each item; 0 or 1 where it is decided. */
function probabilities(items) {
  const [wrong, missing] = [false, true].map((kind) => outcome(items, kind).factor);
  return items.map((item) => (item.error === null ? Math.min(item.score * (item.missing ? missing : wrong), 1) : Number(item.error)));
}

/** The number of the last item worth looking at: after it, of no `NEXT` undecided items in a row 1 in 10 is expected to be an error. */
function lastWorthwhile(items) {
  const all = probabilities(items);
  const undecided = [...items.keys()].filter((i) => items[i].error === null);
  for (let start = undecided.length - 1; start >= 0; start--) {
    const next = undecided.slice(start, start + NEXT);
    if (next.reduce((sum, i) => sum + all[i], 0) * 10 >= next.length) return undecided[start] + 1;
  }
  return 0;
}
