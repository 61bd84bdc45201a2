"""Simpler predictors of tokens that a prior is compared with."""
