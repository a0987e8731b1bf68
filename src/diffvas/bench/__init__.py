"""Measured figures: cases with known truth, what the models make of them, scores in ``strict`` rules, tables."""
