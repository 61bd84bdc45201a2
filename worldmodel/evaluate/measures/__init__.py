"""Measures of frames and tokens that several sections share."""
