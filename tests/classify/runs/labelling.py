"""What `predict` does with a table: label its rows and write the files."""

from encode_once.classify.runs.predict import label
from encode_once.classify.runs.score_file import write_scores


def label_file(run, store, table, path, scores=None):
    """Write the labels of a table, and its scores if a file is named; return the warnings."""
    predicted = label(run, store, table)
    run.write_predictions(path, table.id_column, table.ids, predicted.labels, predicted.missing)
    if scores:
        write_scores(scores, table.id_column, table.ids, run.record.classes, predicted.probabilities)
    return predicted.warnings
