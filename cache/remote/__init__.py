"""Folders at URLs, such as buckets of object stores: `s3://bucket/prefix`, `gs://bucket/prefix`."""
