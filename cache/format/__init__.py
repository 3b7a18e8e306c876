"""The files of a feature: parts, specs, journals of failures and locks."""
