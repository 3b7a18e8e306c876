"""What thresholds maximise, and the grammar of its names."""

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from array_api_compat import array_namespace

from encode_once.cache.errors import UsageError, unknown_name
from encode_once.classify.decisions.ranking import Array

NAMES = (
    "none", "at:0.4", "cost:5/1", "macro", "weighted", "micro", "samples", "precision:0.9", "recall:0.9",
    "macro-f2", "global-macro", "global-weighted", "global-micro", "global-samples", "global-precision:0.9",
    "global-recall:0.9", "global-micro-f0.5",
)  # fmt: skip
COST = "cost"
BY_HAND = "by-hand"  # thresholds that a person chose, see `DecisionRule.by_hand`: nothing is tuned
GRAMMAR = re.compile(
    r"(?P<shared>global-)?(?:(?P<average>macro|weighted|micro|samples)(?:-f(?P<beta>\d+|\d*\.\d{1,3}))?"
    r"|(?P<target>precision|recall):(?P<share>\d*\.?\d+))"
)


@dataclass(frozen=True)
class Objective:
    """What thresholds maximise. `NAMES` has an example of each kind; beta is .01 to 100, to three places."""

    name: str  # as --objective has it
    measure: str  # an average of F; "precision" or "recall", of which `share` is required; "" if not tuned
    shared: bool = False  # one threshold for all classes
    beta: Fraction = Fraction(1)  # recall counts this many times as much as precision
    share: Fraction = Fraction(0)
    fixed: float | None = None  # the threshold of every class, if it is neither tuned nor chosen by hand

    @property
    def takes_probabilities(self) -> bool:
        """Whether its threshold is best for probabilities, and not for other scores."""
        return self.name.startswith(f"{COST}:")

    @classmethod
    def of(cls, name: str) -> "Objective":
        """The objective with this name.

        Raises:
            UsageError: unknown name.
        """
        if name == BY_HAND:
            return cls(name, "")
        if name == "none":
            return cls(name, "", fixed=0.5)
        kind, _, number = name.partition(":")
        if kind == "at" and re.fullmatch(r"\d*\.?\d+", number) and float(number) <= 1:
            return cls(name, "", fixed=float(number))
        if kind == COST:
            return cls(name, "", fixed=_break_even(name, number))
        if match := GRAMMAR.fullmatch(name):
            shared, average, beta, target, share = match.groups()
            if target and Fraction(share) <= 1:
                return cls(name, target, bool(shared), share=Fraction(share))
            if average and Fraction(1, 100) <= Fraction(beta or 1) <= 100:
                return cls(name, average, bool(shared), Fraction(beta or 1))
        kind, colon, _ = name.removeprefix("global-").partition(":")
        if colon and kind in ("at", "precision", "recall"):
            raise UsageError(f"objective {name!r}: expected a number from 0 to 1, as in {kind}:0.9")
        raise unknown_name("objective", name, NAMES)

    def of_classes(self, c: int) -> "Objective":
        """The objective for c classes: samples F1 compares those of a row; of a single class, it is its F1.

        By its definition it would be highest where every row is predicted, as rows without labels count 0.
        """
        return replace(self, measure="macro") if c == 1 and self.measure == "samples" else self

    def f(self, tp: Array, k: Array, p: Array) -> Array:
        """F from the numbers of true positives, predictions and positives."""
        xp = array_namespace(tp, k, p)
        numerator, denominator = self.parts(tp, k, p)
        # torch would divide integers in float32.
        return numerator / xp.astype(xp.where(denominator > 0, denominator, 1), xp.float64)

    def parts(self, tp: Array, k: Array, p: Array) -> tuple[Array, Array]:
        """The numerator and denominator of F, whole numbers."""
        a, b = (self.beta**2).as_integer_ratio()
        return (a + b) * tp, a * p + b * k


def _break_even(name: str, costs: str) -> float:
    """The probability from which a label is worth predicting: FP / (FP + FN) of the costs "FP/FN".

    At p, a predicted label costs FP (1 - p) and one that is left out FN p (Elkan, IJCAI 2001).
    """
    number = r"(\d+\.?\d*|\.\d+)"
    match = re.fullmatch(f"{number}/{number}", costs)
    false_positive, false_negative = map(Fraction, match.groups()) if match else (0, 0)
    if not false_positive + false_negative:
        raise UsageError(
            f"objective {name!r}: expected the cost of a false positive and of a missed label, as in cost:5/1"
        )
    return float(false_positive / (false_positive + false_negative))
