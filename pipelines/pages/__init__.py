"""The kit that every page is drawn with: environment, scales, labels, words."""
