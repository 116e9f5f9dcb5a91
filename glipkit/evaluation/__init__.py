"""Judging detections."""
