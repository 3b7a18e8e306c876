// How many doubted labels are errors: by the scores, corrected by what was decided so far.
//
// An item is a doubted label: `score`, its probability of an error by the model; `missing`, whether the label may be
// missing rather than wrong; `error`, what was decided (true, false, or null); and `earlier`, whether that was decided
// before this audit, which would bias the correction: of those decisions, only labels that were kept are found again.
//
// The odds of an error of all labels that may be missing are multiplied by one factor, and those of all that may be
// wrong by another. It is the likeliest one after the decisions, if its logarithm is normal around 0 before them. The
// odds and not the probabilities: as these are nearly 1 at the top of the list, where most are errors indeed, a factor
// for them would hardly change further down, where few are.

const VARIANCE = 4; // of the factor's logarithm: before any decision it is between 1/50 and 50, with 95 % probability
const LEAST = 0.001; // scores are at least so far from 0 and 1: their odds are not taken for more certain
const NEXT = 10; // labels among which at least one error is expected where it is worth while to go on

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/** The logarithm of the odds of an error, by the model. */
function logOdds({ score }) {
  const p = Math.min(Math.max(score, LEAST), 1 - LEAST);
  return Math.log(p / (1 - p));
}

/** Decisions about one kind of items: how many, how many errors by them and by the scores, and the factor's logarithm. */
function outcome(items, missing) {
  const decided = items.filter((item) => item.missing === missing && item.error !== null && !item.earlier);
  const errors = decided.filter((item) => item.error).length;
  const predicted = decided.reduce((sum, item) => sum + item.score, 0);
  let [low, high] = [-20, 20]; // the derivative of the likelihood falls from one to the other
  for (let step = 0; step < 40; step++) {
    const shift = (low + high) / 2;
    const expected = decided.reduce((sum, item) => sum + sigmoid(logOdds(item) + shift), 0);
    if (errors - expected - shift / VARIANCE > 0) low = shift;
    else high = shift;
  }
  return { decided: decided.length, errors, predicted, shift: low };
}

/** The probability of an error for each item; 0 or 1 where it is decided. */
function probabilities(items) {
  const [wrong, missing] = [false, true].map((kind) => outcome(items, kind).shift);
  return items.map((item) => (item.error === null ? sigmoid(logOdds(item) + (item.missing ? missing : wrong)) : Number(item.error)));
}

/** The number of the last item worth looking at. Beyond it, every 10 consecutive undecided items contain less than one expected error. */
function lastWorthwhile(items) {
  const all = probabilities(items);
  const undecided = [...items.keys()].filter((i) => items[i].error === null);
  for (let start = undecided.length - 1; start >= 0; start--) {
    const next = undecided.slice(start, start + NEXT);
    if (next.reduce((sum, i) => sum + all[i], 0) * 10 >= next.length) return undecided[start] + 1;
  }
  return 0;
}
