"""From scores to labels: thresholds, calibration and decision rules."""
